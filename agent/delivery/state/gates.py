"""How the agent stands with its destinations: obeys the table of conditions in `core.delivery.lifecycle`."""

import logging
from collections.abc import Callable, Iterable, Iterator

from agent.core.delivery.backoff import retry_delay_s
from agent.core.delivery.lifecycle import KEYRING_WAIT_S, LONG_WAIT_S, Condition, Signal, Step, next_condition
from agent.core.wire import (
    NOT_OURS,
    Accepted,
    BadEntry,
    Capabilities,
    Deleted,
    NeedsLogin,
    Refused,
    TooLarge,
    Unavailable,
)
from agent.delivery.base.world import World
from agent.delivery.state.tasks import Probed, TrackKey
from agent.delivery.state.tracks import DestinationState

log = logging.getLogger(__name__)

NOT_LET_IN = "the token is missing or not accepted"
NO_BULK = "the server does not offer bulk appends, which the settings demand"

STRIKES = 3
"""So many streams failing in a row, nothing taken between, are no accident of theirs, whatever a probe says."""

_OPEN = frozenset({Condition.RUNNING, Condition.PROBING})


class Gates:
    """`probe(name)` asks a destination what it offers; `set_timer(name, number, delay_s)` brings `time_came` later."""

    def __init__(
        self,
        destinations: Iterable[DestinationState],
        world: World,
        probe: Callable[[str], None],
        set_timer: Callable[[str, int, float], None],
    ) -> None:
        self._all = {one.name: one for one in destinations}
        self._world = world
        self._probe = probe
        self._set_timer = set_timer
        self.on_change: Callable[[DestinationState], None] = lambda _: None

    def __getitem__(self, name: str) -> DestinationState:
        return self._all[name]

    def __contains__(self, name: str) -> bool:
        return name in self._all

    def __iter__(self) -> Iterator[DestinationState]:
        return iter(self._all.values())

    def open(self) -> None:
        for one in self:
            self._do(one, Step.PROBE)

    def ask_again(self) -> None:
        """Something is new that may help: token, settings, network, somebody's wish. Failures so far count little."""
        for one in self:
            one.attempts = min(one.attempts, 1)
            one.asked_again = one.condition is Condition.PROBING
            self._signal(one, Signal.CHANGED)

    def time_came(self, name: str, number: int) -> None:
        if self[name].timer == number:
            self._signal(self[name], Signal.TIME_CAME)

    def lock_out(self, name: str, reply: NeedsLogin) -> None:
        signal = Signal.NO_KEYRING if reply.later else Signal.UNAUTHORIZED
        self._close(self[name], signal, reply.why or NOT_LET_IN, hint=reply.hint)

    def lose(self, name: str, reply: Unavailable) -> None:
        self._close(self[name], Signal.UNREACHABLE, reply.why, reply.retry_after_s)

    def doubt(self, key: TrackKey, reply: Unavailable) -> None:
        """A request about one session did not come through, for a reason that may concern everybody. The server is
        asked: only where that fails too, where several sessions fare so in a row, or where it said for how long, is it
        taken for away."""
        one = self[key.destination]
        one.failing.add(key)
        if reply.retry_after_s is not None or len(one.failing) >= STRIKES:
            self.lose(one.name, reply)
        else:
            self._signal(one, Signal.DOUBTFUL)

    def progressed(self, name: str) -> None:
        """Something was taken: failures so far no longer count."""
        one = self[name]
        one.attempts, one.missed = 0, False
        one.failing.clear()

    def strain(self, name: str) -> None:
        """A request did not come through: fewer at once from now on."""
        self[name].window = self[name].window.after_pressure()

    def miss_endpoint(self, name: str, status: int) -> None:
        """A call found nothing that takes it: a bulk call is no longer offered, or the address is wrong. One that
        is offered again and misses again would be asked for without a pause."""
        if self[name].bulk and not self[name].missed:
            self[name].missed = True
            self._close(self[name], Signal.OFFER_CHANGED, "")
        else:
            self._close(self[name], Signal.NO_ENDPOINT, f"the address takes no transcripts ({status})")

    def take_probe(self, done: Probed) -> bool:
        """True when the destination is open now, with what it offers known."""
        one = self[done.destination]
        is_open = self._take_probe(one, done)
        if one.asked_again and one.condition is Condition.NEEDS_LOGIN:
            # What was new may have come too late for the question that was out; the next one could be 15 min away.
            self._signal(one, Signal.CHANGED)
        one.asked_again = False
        return is_open

    def _take_probe(self, one: DestinationState, done: Probed) -> bool:
        match done.reply:
            case Accepted() if done.capabilities is not None:
                one.gzip = done.gzip
                return self._take_offer(one, done.capabilities)
            case NeedsLogin():
                self.lock_out(one.name, done.reply)
            case Unavailable():
                self.lose(one.name, done.reply)
            case Refused() | Deleted() | TooLarge() | BadEntry():
                # The way to the server refuses an address that a base server does not have anyway.
                return self._take_offer(one, Capabilities())
            case _:
                self._close(one, Signal.UNREACHABLE, NOT_OURS)
        return False

    def _take_offer(self, one: DestinationState, capabilities: Capabilities) -> bool:
        one.take_offer(capabilities)
        if one.protocol == "bulk" and not one.bulk:
            self._close(one, Signal.NO_ENDPOINT, NO_BULK)
            return False
        self._signal(one, Signal.ANSWERED)
        return True

    def _close(
        self, one: DestinationState, signal: Signal, why: str, wished_s: float | None = None, hint: str = ""
    ) -> None:
        if one.condition in _OPEN:
            one.why, one.wished_s, one.hint = why, wished_s, hint
        self._signal(one, signal)

    def _signal(self, one: DestinationState, signal: Signal) -> None:
        condition, steps = next_condition(one.condition, signal)
        if condition is not one.condition:
            is_asked = condition is Condition.PROBING
            if not is_asked or (one.condition is Condition.RUNNING and signal is not Signal.DOUBTFUL):
                one.standing = condition
            one.condition = condition
            one.timer += 1
            if _tell_change(one):
                self.on_change(one)
        for step in steps:
            self._do(one, step)

    def _do(self, one: DestinationState, step: Step) -> None:
        match step:
            case Step.PROBE:
                self._probe(one.name)
            case Step.RELEASE:
                one.why, one.hint, one.retry_at_s = "", "", 0.0
            case Step.BACK_OFF | Step.WAIT_LONG:
                one.attempts += 1
                own = LONG_WAIT_S if step is Step.WAIT_LONG else retry_delay_s(one.attempts, self._world.chance)
                delay = own if one.wished_s is None else one.wished_s
                self._wait(one, delay)
            case Step.WAIT_FOR_KEYRING:
                self._wait(one, KEYRING_WAIT_S)

    def _wait(self, one: DestinationState, delay_s: float) -> None:
        one.retry_at_s = self._world.now_s() + delay_s
        self._set_timer(one.name, one.timer, delay_s)


def _tell_change(one: DestinationState) -> bool:
    """Once for each change: knocking again at a closed door is none."""
    if one.condition is Condition.PROBING:
        log.debug("destination %s is asked what it offers", one.name)
        return False
    words = str(one.condition) if one.condition in _OPEN else f"{one.condition}: {one.why}"
    if words == one.told:
        return False
    one.told = words
    log.log(logging.INFO if one.condition in _OPEN else logging.WARNING, "destination %s is %s", one.name, words)
    return True
