"""When the agent's first start was. Who does not want the backlog sent gets only what is newer."""

import math
from collections.abc import Iterable

from agent.core.transcripts.session import Observation
from agent.delivery.base.world import World
from agent.delivery.state.journal import Journal

_WRITTEN_AT_S = 1_767_225_600.0
"""2026-01-01: no clock that is right shows an earlier time. Boards without a battery begin in 1970."""

_NOTICED_WITHIN_S = 10.0
"""A clock that is set is noticed this late; what was written meanwhile is no history."""


class Beginning:
    """Remembered from the first start on. A clock that was plainly wrong then does not decide."""

    def __init__(self, journal: Journal, world: World, *, backlog: bool) -> None:
        self._journal = journal
        self._world = world
        self._backlog = backlog
        self._at_s = math.inf

    def find(self, followed_mtimes_ns: Iterable[int]) -> None:
        """To be called at the start, and whenever the clock may have been set. `followed_mtimes_ns`: of the files
        that were sent before, which are newer than the true beginning."""
        now_s = self._world.now_s()
        if now_s < _WRITTEN_AT_S:
            return  # all is history until the clock is set
        self._at_s = float(self._journal.settle("began_at_s", repr(now_s)))
        if self._at_s > now_s:
            self._at_s = min(now_s, min(followed_mtimes_ns, default=math.inf) / 1e9) - _NOTICED_WITHIN_S

    def is_history(self, seen: Observation) -> bool:
        return not self._backlog and seen.mtime_ns < self._at_s * 1e9
