"""From a line being appended to its being acknowledged, with a thousand sessions watched."""

import os
import random
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.bench.agents import WatchedAgent
from tests.bench.children import PYTHON, Child, ChildFailed
from tests.bench.corpus import Corpus
from tests.bench.figures import Figure, at_most, percentile, spread
from tests.bench.servers import Server
from tests.bench.workshop import Workshop

_RATE = 50.0
_LINE_BYTES = 1_500
_PATIENCE_S = 30.0


class Append(NamedTuple):
    """A line that was written: `number` stands in it as a mark, `end` is where it ends in the file."""

    number: int
    session_id: str
    end: int
    at_ns: int


class Appender:
    """Somebody at work in many sessions at once, at a steady rate in random order."""

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self._chance = random.Random(seed)
        self._paths = corpus.paths
        self._sizes = {path: path.stat().st_size for path in corpus.paths}
        self._number = 0

    def work(self, seconds: float) -> list[Append]:
        done, began = [], time.monotonic()
        for turn in range(int(seconds * _RATE)):
            due = began + (turn + self._chance.random()) / _RATE
            time.sleep(max(0.0, due - time.monotonic()))
            done.append(self._append(self._chance.choice(self._paths)))
        return done

    def _append(self, path: Path) -> Append:
        self._number += 1
        entry_id = uuid.UUID(int=self._chance.getrandbits(128), version=4)
        text = f"BENCHMARK:{self._number}; ".ljust(_LINE_BYTES, "x")
        line = f'{{"type":"user","message":{{"role":"user","content":"{text}"}},"uuid":"{entry_id}"}}\n'.encode()
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            at_ns = time.monotonic_ns()
            os.write(file, line)
        finally:
            os.close(file)
        self._sizes[path] += len(line)
        return Append(self._number, path.stem, self._sizes[path], at_ns)


class Arm:
    """One way to be measured: who ships, to whom, and how to learn when an append had arrived. `arrived` gives ms for
    each of the appends."""

    def __init__(self, name: str, corpus: Corpus, arrived: Callable[[Sequence[Append]], list[float]]) -> None:
        self.name = name
        self._appender = Appender(corpus, seed=7)
        self._arrived = arrived
        self.p50: list[float] = []
        self.p95: list[float] = []
        self.p99: list[float] = []

    def round(self, seconds: float) -> None:
        times = self._arrived(self._appender.work(seconds))
        self.p50.append(percentile(times, 0.5))
        self.p95.append(percentile(times, 0.95))
        self.p99.append(percentile(times, 0.99))

    def note(self) -> str:
        return f"p50 {spread(self.p50, 'ms')}; p99 {spread(self.p99, 'ms')}"


def measure(shop: Workshop) -> list[Figure]:
    count, seconds = (200, 1.0) if shop.quick else (1_000, 7.0)
    with ExitStack() as stack:
        fast, naive_fast = (stack.enter_context(shop.fast_server()) for _ in range(2))
        ours = stack.enter_context(shop.our_server(shop.fresh("data")))
        arms = []
        for name, server in (("to the server in C", fast), ("to our receiver", ours)):
            corpus = shop.small_sessions(count, own=True)
            agent = stack.enter_context(WatchedAgent(shop, shop.home(), server.url, corpus.root, stay=True))
            arms.append(Arm(name, corpus, _acknowledged(agent)))
        corpus = shop.small_sessions(count, own=True)
        command = [PYTHON, "-m", "tests.bench.yardsticks", "watch", naive_fast.url, str(corpus.root)]
        stack.enter_context(child := Child(command, shop.environment(shop.home())))
        child.hear()
        naive = Arm("naive", corpus, _at_server(naive_fast))
        time.sleep(2.0)
        for number in range(shop.rounds):
            for arm in (*arms, naive):
                arm.round(seconds)
            words = ", ".join(f"{arm.name} {arm.p50[-1]:.1f}/{arm.p95[-1]:.1f} ms" for arm in (*arms, naive))
            shop.say(f"latency {number + 1}/{shop.rounds}, p50/p95: {words}")
    figures = []
    for arm in arms:
        title = f"append → acknowledged, {arm.name}"
        figures += [
            Figure(f"{title}: p50", statistics.median(arm.p50), "ms", at_most(25), arm.note()),
            Figure(f"{title}: p95", statistics.median(arm.p95), "ms", at_most(150), f"p95 {spread(arm.p95, 'ms')}"),
        ]
    note = f"{count:,} sessions watched, {_RATE:.0f} lines/s; watchdog and one PUT an entry, {naive.note()}"
    return [*figures, Figure("append → arrived, naive client: p50", statistics.median(naive.p50), "ms", None, note)]


def _acknowledged(agent: WatchedAgent) -> Callable[[Sequence[Append]], list[float]]:
    """When the engine learned that the server has each of the lines."""

    def arrived(appends: Sequence[Append]) -> list[float]:
        reached: dict[str, list[tuple[int, int]]] = {}

        def find(one: Append) -> int | None:
            return next((at_ns for offset, at_ns in reached.get(one.session_id, ()) if offset >= one.end), None)

        def look() -> list[int | None]:
            for stamp in agent.stamps():
                reached.setdefault(stamp.session_id, []).append((stamp.offset, stamp.at_ns))
            return [find(one) for one in appends]

        return wait_for_all(appends, look)

    return arrived


def _at_server(server: Server) -> Callable[[Sequence[Append]], list[float]]:
    """When the server in C had each of the lines whole."""

    def look_for(appends: Sequence[Append]) -> Callable[[], list[int | None]]:
        def look() -> list[int | None]:
            marks = server.marks()
            return [marks.get(one.number) for one in appends]

        return look

    return lambda appends: wait_for_all(appends, look_for(appends))


def wait_for_all(appends: Sequence[Append], look: Callable[[], list[int | None]]) -> list[float]:
    """Milliseconds for each, once all are there. Looks only after the appending has ended, so it disturbs nothing."""
    deadline = time.monotonic() + _PATIENCE_S
    time.sleep(0.5)
    while None in (found := look()):
        if time.monotonic() > deadline:
            raise ChildFailed(f"{found.count(None)} appended lines have not arrived after {_PATIENCE_S:.0f} s")
        time.sleep(0.2)
    return [(at_ns - one.at_ns) / 1e6 for one, at_ns in zip(appends, found, strict=True) if at_ns is not None]
