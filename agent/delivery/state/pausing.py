"""Whether the agent as a whole holds everything back, why, and until when.

Watching and queueing go on meanwhile, and what is under way comes to its end; nothing else of any session leaves.
Deletions do go on: they carry nothing of a session, and what became private must not stay on a server for a pause. So
do questions to servers (what is offered, whether the token is good), so that `status` goes on telling the truth.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

from agent.core.delivery.lifecycle import PauseReason
from agent.core.settings import Push
from agent.delivery.base.world import World
from agent.delivery.state.journal import Journal
from agent.system.machine.power import Power

log = logging.getLogger(__name__)

PAUSED = "paused"
"""Settled in the store while somebody's pause lasts."""

TIMER = "\0pause"
"""No destination's name: whose timer it is that ends a pause."""

_ENDLESS = "until told"


class PauseAsked(NamedTuple):
    """`for_s` None: until somebody says otherwise."""

    for_s: float | None = None


class ResumeAsked(NamedTuple):
    """Somebody's own pause ends. What the network or the battery say stays."""


class HeldOff(NamedTuple):
    """What network and battery say: why nothing should be sent; empty: they have nothing against it."""

    why: str


PauseInput = PauseAsked | ResumeAsked | HeldOff


def decide_hold_off(push: Push, is_metered: bool | None, power: Power | None) -> str:
    """What the settings say to that; None is what nobody knows, and holds nothing off."""
    if not push.on_metered and is_metered:
        return PauseReason.METERED.value
    if power is not None and power.on_battery and power.percent is not None and power.percent < push.on_battery_below:
        return PauseReason.LOW_BATTERY.value
    return ""


def render_pause(now_s: float, for_s: float | None) -> str:
    """As the store remembers it: wall time of its end, and how long it was to last."""
    return _ENDLESS if for_s is None else f"{now_s + for_s!r} {for_s!r}"


def parse_pause(text: str, now_s: float) -> float | None:
    """How long it lasts still; None without an end. A clock that was set back makes no pause longer. What can't be read
    was a pause all the same."""
    try:
        end_s, span_s = map(float, text.split())
    except ValueError:
        return None
    return max(0.0, min(end_s - now_s, span_s))


class Pausing:
    """`set_timer(owner, number, delay_s)` brings `time_came` later."""

    def __init__(self, journal: Journal, world: World, set_timer: Callable[[str, int, float], None]) -> None:
        self._journal = journal
        self._world = world
        self._set_timer = set_timer
        self._is_asked = False
        self._end_s: float | None = None
        """Monotonic."""
        self._held_off = ""
        self._timer = 0
        self.on_change: Callable[[str], object] = lambda _: None
        """Told why, whenever that has become another one; empty when it goes on."""
        self.until_s: float | None = None
        """Wall time at which somebody's pause ends; None without an end, or without a pause."""

    @property
    def why(self) -> str:
        """Empty when nothing holds anything back. For any thread."""
        return PauseReason.BY_YOU.value if self._is_asked else self._held_off

    def take_up(self, settled: str) -> None:
        """A pause that an earlier life remembers."""
        left_s = parse_pause(settled, self._world.now_s()) if settled else 0.0
        if left_s is None or left_s > 0:
            self._begin(left_s)

    def handle(self, event: PauseInput) -> None:
        before = self.why, self.until_s
        match event:
            case PauseAsked():
                self._begin(event.for_s)
                self._remember(render_pause(self._world.now_s(), event.for_s))
            case ResumeAsked():
                self._end()
            case HeldOff():
                self._held_off = event.why
        self._tell(before)

    def time_came(self, number: int) -> None:
        if number == self._timer:
            before = self.why, self.until_s
            self._end()
            self._tell(before)

    def wake(self) -> None:
        """The machine slept, or its clock was set. Whoever said an hour meant one of his own, asleep or not; and no
        clock that is set back makes it longer than it was to last by monotonic time."""
        if self._end_s is None or self.until_s is None:
            return
        left_s = max(0.0, min(self.until_s - self._world.now_s(), self._end_s - self._world.monotonic_s()))
        self._begin(left_s)
        self._remember(render_pause(self._world.now_s(), left_s))

    def _begin(self, for_s: float | None) -> None:
        self._is_asked = True
        self._timer += 1
        self._end_s = self.until_s = None
        if for_s is not None:
            self._end_s, self.until_s = self._world.monotonic_s() + for_s, self._world.now_s() + for_s
            self._set_timer(TIMER, self._timer, for_s)

    def _end(self) -> None:
        if self._is_asked:
            self._is_asked, self._end_s, self.until_s = False, None, None
            self._timer += 1
            self._remember("")

    def _remember(self, text: str) -> None:
        """At once: whoever was told that it is paused relies on it."""
        self._journal.note_settled(PAUSED, text)
        self._journal.write()

    def _tell(self, before: tuple[str, float | None]) -> None:
        if self.why != before[0]:
            log.info("%s", f"paused: {self.why}" if self.why else "not paused any more")
            self.on_change(self.why)
