"""From a line being appended to its event at somebody who follows the session, with a thousand sessions watched."""

import re
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from agent.errors import NotRunning
from agent.system.control_socket import ControlClient
from tests.bench.agents import RunningAgent
from tests.bench.figures import Figure, at_most, spread
from tests.bench.latency import Append, Arm, wait_for_all
from tests.bench.workshop import Workshop

_FOLLOWED = 16
"""Sessions, each with a connection of its own: half of the subscribers that there may be."""

_MARK = re.compile(r"BENCHMARK:(\d+);")


class _Follower:
    """A subscriber of one session; notes when it heard of each mark."""

    def __init__(self, socket: Path, session_id: str, heard: dict[int, int]) -> None:
        self._client = ControlClient(socket)
        self._heard = heard
        _, self._events = self._client.follow("messages.subscribe", session=session_id)
        self._thread = threading.Thread(target=self._listen, name=f"follower {session_id[:8]}", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            for one in self._events:
                found = _MARK.match(one.get("event", {}).get("text", ""))
                if found:
                    self._heard.setdefault(int(found[1]), time.monotonic_ns())
        except (NotRunning, OSError, ValueError):
            return  # it was closed, here or there

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.shut()
        self._thread.join()
        self._client.close()


def measure(shop: Workshop) -> list[Figure]:
    count, seconds = (200, 1.0) if shop.quick else (1_000, 7.0)
    heard: dict[int, int] = {}
    with ExitStack() as stack:
        server = stack.enter_context(shop.fast_server())
        corpus = shop.small_sessions(count, own=True)
        agent = stack.enter_context(RunningAgent(shop, shop.home(), server.url, corpus.root))
        followed = corpus.paths[:: max(1, count // _FOLLOWED)][:_FOLLOWED]
        for path in followed:
            stack.enter_context(_Follower(agent.socket, path.stem, heard))

        def arrived(appends: Sequence[Append]) -> list[float]:
            return wait_for_all(appends, lambda: [heard.get(one.number) for one in appends])

        arm = Arm("tail", corpus._replace(paths=followed), arrived)
        time.sleep(2.0)
        for number in range(shop.rounds):
            arm.round(seconds)
            shop.say(f"tail {number + 1}/{shop.rounds}, p50/p95: {arm.p50[-1]:.1f}/{arm.p95[-1]:.1f} ms")
    title = f"append → event at a follower, {count:,} sessions watched"
    return [
        Figure(f"{title}: p50", statistics.median(arm.p50), "ms", at_most(50), arm.note()),
        Figure(f"{title}: p95", statistics.median(arm.p95), "ms", at_most(100), f"p95 {spread(arm.p95, 'ms')}"),
    ]
