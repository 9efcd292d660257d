"""Looks now and then whether something needs a person, and says so on the desktop: what, when and how often is the
table of `core.notices`.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core.delivery.lifecycle import UNSENT, Condition
from agent.core.notices import (
    CRASHES,
    GAP_S,
    Concern,
    Memory,
    decide_notices,
    decode_memory,
    encode_memory,
    not_shown,
)
from agent.daemon.status.report import Surroundings, count_about_to_be_lost
from agent.system.machine.clock import Clock
from agent.system.notify import Shown

if TYPE_CHECKING:
    from agent.delivery.engine.engine import Engine

log = logging.getLogger(__name__)

LOOK_S = 120.0
MEMORY = "notices"
"""Under this name the store keeps what was told."""

Show = Callable[[str, str], tuple[Shown, str]]


class Notifying:
    """`remembered`: what the store has under `MEMORY`. `concerns()` gives what holds now and of which destinations
    nobody can say; `remember` takes what the store is to keep. For one thread."""

    def __init__(
        self,
        clock: Clock,
        remembered: str,
        *,
        concerns: Callable[[], tuple[list[Concern], set[str]]],
        remember: Callable[[str], None],
        show: Show,
    ) -> None:
        self._clock = clock
        self._memory: Memory = decode_memory(remembered)
        self._concerns = concerns
        self._remember = remember
        self._show = show
        self._awake_since_s = self._looked_at_s = clock.now_s()
        self._told = ""

    def look(self) -> None:
        now_s = self._clock.now_s()
        if not 0 <= now_s - self._looked_at_s < GAP_S:
            self._awake_since_s = now_s
        self._looked_at_s = now_s
        concerns, unknown = self._concerns()
        notices, memory = decide_notices(concerns, unknown, self._memory, now_s, now_s - self._awake_since_s)
        if memory != self._memory:
            self._remember(encode_memory(memory))  # first: rather never than without end
        for notice in notices:
            shown, why = self._show(notice.title, notice.body)
            if shown is not Shown.SHOWN:
                memory = not_shown(memory, notice, now_s)
                self._tell_once(shown, why)
        self._memory = memory

    def _tell_once(self, shown: Shown, why: str) -> None:
        if why != self._told:
            level = logging.INFO if shown is Shown.NOBODY else logging.WARNING
            log.log(level, "no notices on this desktop: %s", why)
        self._told = why


def find_concerns(engine: "Engine", around: Surroundings) -> tuple[list[Concern], set[str]]:
    """What holds now; and the destinations that have not answered yet."""
    found: list[Concern] = []
    closed = {one.name: 0 for one in engine.gates if one.standing is not Condition.RUNNING}
    if closed:
        for key, track in engine.tracks.items():
            if key.destination in closed and track.state in UNSENT:
                closed[key.destination] += 1
    for name, waiting in closed.items():
        match engine.gates[name].standing:
            case Condition.NEEDS_LOGIN:
                found.append(Concern("needs_login", name))
            case Condition.WAITING_FOR_KEYRING if waiting:
                found.append(Concern("keyring_locked", name, waiting))
            case Condition.OFFLINE if waiting:
                found.append(Concern("unreachable", name, waiting))
    lost = count_about_to_be_lost(engine, around)
    if lost:
        found.append(Concern("about_to_be_lost", number=lost))
    if around.lost_rules:
        found.append(Concern("rules_lost", number=around.lost_rules))
    if around.restarts >= CRASHES:
        found.append(Concern("crash_loop", number=around.restarts))
    return found, {one.name for one in engine.gates if one.standing is Condition.PROBING}
