"""Somebody at work while a large backlog drains: live lines may not wait behind it."""

import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.agents import Stamp, WatchedAgent
from tests.bench.children import ChildFailed
from tests.bench.corpus import Corpus
from tests.bench.figures import Figure, at_most, percentile
from tests.bench.latency import Append, Appender
from tests.bench.workshop import Workshop

_COPIES = 20
_SESSIONS = 100
_PATIENCE_S = 30.0


def measure(shop: Workshop) -> list[Figure]:
    corpus = shop.backlog()
    size_gb = _COPIES * corpus.size / 1e9
    seconds = 3.0 if shop.quick else 20.0
    with ExitStack() as stack:
        server = stack.enter_context(shop.fast_server())
        live = shop.small_sessions(_SESSIONS, own=True)
        _multiply(corpus, live.root / "archive")
        agent = stack.enter_context(WatchedAgent(shop, shop.home(), server.url, live.root, stay=True, early=True))
        appends = Appender(live, seed=11).work(seconds)
        stamps = _Stamps(live)
        deadline = time.monotonic() + _PATIENCE_S
        while None in (times := [stamps.took_ms(one) for one in appends]):
            if time.monotonic() > deadline:
                raise ChildFailed(f"{times.count(None)} appended lines have not arrived after {_PATIENCE_S:.0f} s")
            time.sleep(0.2)
            stamps.add(agent.stamps())
    if stamps.backlog_until_ns < appends[-1].at_ns:
        raise ChildFailed(f"the backlog of {size_gb:.1f} GB was gone before the {seconds:.0f} s of appending were over")
    known = [one for one in times if one is not None]
    p50, p95 = percentile(known, 0.5), percentile(known, 0.95)
    shop.say(f"fairness: p50/p95 {p50:.1f}/{p95:.1f} ms")
    note = f"p50 {p50:.3g} ms, p99 {percentile(known, 0.99):.3g} ms; {len(appends):,} lines in {_SESSIONS} sessions"
    return [Figure(f"append → acknowledged while {size_gb:.1f} GB drain: p95", p95, "ms", at_most(250), note)]


def _multiply(corpus: Corpus, target: Path) -> Path:
    """The backlog many times over, under second names: sessions of their own for the agent, no space on the disk."""
    target.mkdir()
    for copy in range(_COPIES):
        for path in corpus.paths:
            (target / f"{copy}-{path.name}").hardlink_to(path)
    return target


class _Stamps:
    """What was acknowledged, by session."""

    def __init__(self, live: Corpus) -> None:
        self._live: dict[str, list[Stamp]] = {path.stem: [] for path in live.paths}
        self.backlog_until_ns = 0

    def add(self, stamps: list[Stamp]) -> None:
        for one in stamps:
            if one.session_id in self._live:
                self._live[one.session_id].append(one)
            else:
                self.backlog_until_ns = max(self.backlog_until_ns, one.at_ns)

    def took_ms(self, one: Append) -> float | None:
        found = (stamp.at_ns for stamp in self._live[one.session_id] if stamp.offset >= one.end)
        at_ns = next(found, None)
        return None if at_ns is None else (at_ns - one.at_ns) / 1e6
