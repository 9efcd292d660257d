"""Looks every so often whether all threads are alive, and lets the service manager know only then."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence

from agent.delivery.base.heartbeats import Stuck

log = logging.getLogger(__name__)

LOOK_S = 60.0
"""Where no service manager asks for more. Its third of a usual watchdog (180 s) is the same."""

LATE_S = 30.0
"""A look that comes so much later than meant was held up itself."""


class Vitals:
    """`find_stuck()`: who is; `feed()` is called when nobody is, `tell(line)` with `describe()` in either case."""

    def __init__(
        self,
        find_stuck: Callable[[], Sequence[Stuck]],
        feed: Callable[[], object],
        *,
        describe: Callable[[], str] = lambda: "",
        tell: Callable[[str], object] = lambda _: None,
        watchdog_s: float | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic_s = monotonic_s
        self._looked_at_s = monotonic_s()
        self._find_stuck = find_stuck
        self._feed = feed
        self._describe = describe
        self._tell = tell
        self.every_s = LOOK_S if watchdog_s is None else min(LOOK_S, watchdog_s / 3)
        self._stuck: dict[str, Stuck] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vitals", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def look(self) -> None:
        """Says once of each thread that it is stuck, and where; and once that it is not any more."""
        before, self._looked_at_s = self._looked_at_s, self._monotonic_s()
        if self._looked_at_s - before > self.every_s + LATE_S:
            self._feed()  # the machine slept, or all of us were stopped: nobody could give a sign
            return
        stuck = {one.who: one for one in self._find_stuck()}
        if not stuck:
            self._feed()
        for who, one in stuck.items():
            if who not in self._stuck:
                log.error("%s%s", describe_stuck(one), place_of(who))
        for who in self._stuck.keys() - stuck.keys():
            log.warning("thread %s goes on", who)
        self._stuck = stuck
        if line := self._describe():
            self._tell(line)

    def _run(self) -> None:
        while not self._ended.wait(self.every_s):
            try:
                self.look()
            except Exception as exc:  # noqa: BLE001 - a defect here must not look like one of the others for ever
                log.error("a defect in the look at threads: %s", type(exc).__name__)  # noqa: TRY400 - without words


def describe_stuck(one: Stuck) -> str:
    if not one.within_s:
        return f"thread {one.who} ended by itself"
    return f"thread {one.who} has given no sign for {one.silent_s:.0f} s, at most {one.within_s:.0f} are allowed"


def place_of(who: str) -> str:
    """Where in the code a thread is, without any values; empty when there is none of that name."""
    idents = [one.ident for one in threading.enumerate() if one.name == who]
    frame = sys._current_frames().get(idents[0] or 0) if idents else None
    places: list[str] = []
    while frame is not None and len(places) < 3:
        places.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}")
        frame = frame.f_back
    return f"; it is at {' < '.join(places)}" if places else ""
