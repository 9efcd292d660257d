"""Who is at work, since when, and how long it may take: tells a thread that is stuck from one that waits."""

import threading
from collections.abc import Callable
from typing import NamedTuple


class Stuck(NamedTuple):
    """`who` has given no sign for `silent_s`, and may for `within_s`; both 0 when its thread ended by itself."""

    who: str
    silent_s: float
    within_s: float


class _Beat(NamedTuple):
    """`within_s`: until the next sign; None while there is nothing to do."""

    at_s: float
    within_s: float | None


_LOST = _Beat(0.0, 0.0)


class Heartbeats:
    """For any number of threads; each writes its own row. `whoami`: the name of the thread that calls."""

    def __init__(
        self, monotonic_s: Callable[[], float], whoami: Callable[[], str] = lambda: threading.current_thread().name
    ) -> None:
        self._monotonic_s = monotonic_s
        self._whoami = whoami
        self._beats: dict[str, _Beat] = {}

    def work(self, within_s: float, who: str = "") -> None:
        """A piece of work begins; the next sign comes within that time."""
        self._beats[who or self._whoami()] = _Beat(self._monotonic_s(), within_s)

    def beat(self) -> None:
        """It goes on: as much time again. Of a thread without a row, or one that waits, it says nothing."""
        who = self._whoami()
        known = self._beats.get(who)
        if known is not None and known.within_s is not None and known is not _LOST:
            self._beats[who] = _Beat(self._monotonic_s(), known.within_s)

    def wait(self, who: str = "") -> None:
        """There is nothing to do, for as long as it may be."""
        self._beats[who or self._whoami()] = _Beat(self._monotonic_s(), None)

    def leave(self, who: str = "") -> None:
        """It ended because it was told to."""
        self._beats.pop(who or self._whoami(), None)

    def lose(self, who: str = "") -> None:
        """Its thread ended, and nobody had told it to."""
        self._beats[who or self._whoami()] = _LOST

    def find_stuck(self) -> list[Stuck]:
        now = self._monotonic_s()
        found = []
        for who, (at_s, within_s) in sorted(self._beats.items()):
            if within_s is not None and (within_s == 0.0 or now - at_s > within_s):
                found.append(Stuck(who, now - at_s if within_s else 0.0, within_s))
        return found
