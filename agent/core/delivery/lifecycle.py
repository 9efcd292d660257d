"""The life of a stream, and of a destination, as tables. The engine obeys them; nothing else decides a state.

A stream is tracked once for each destination. `TRANSITIONS[state][event]` gives the next state and what to do; an
event that a state's row does not name can't happen there, and `next_state` says so.
"""

from collections.abc import Mapping
from enum import StrEnum

from agent.errors import LocalProtocolError


class State(StrEnum):
    SETTLING = "settling"
    """Grew while it was being sent: a moment of rest, so that a chatty file travels in batches."""
    DUE = "due"
    PUSHING = "pushing"
    PUSHING_STALE = "pushing_stale"
    """Being sent, and has changed since."""
    WAITING = "waiting"
    """A try failed; the next one has a time."""
    SYNCED = "synced"
    PRIVATE = "private"
    REFUSED = "refused"
    """Not sent again until somebody says `retry`; the reason is kept."""
    DELETED_ON_SERVER = "deleted_on_server"
    GONE = "gone"
    """The file is no longer on disk."""


class Event(StrEnum):
    GREW = "grew"
    """A look at the disk found a size that was not sent yet, or a file that has changed."""
    RESTED = "rested"
    TAKEN = "taken"
    SENT_ALL = "sent_all"
    SENT_SOME = "sent_some"
    CONFLICT = "conflict"
    REALIGNED = "realigned"
    HELD = "held"
    """The destination takes nothing now; not this stream's fault."""
    FAILED = "failed"
    TIME_CAME = "time_came"
    REFUSED = "refused"
    OUTGREW = "outgrew"
    """The file was refused as a whole, and is another one now."""
    DELETED = "deleted"
    DELETED_BY_HAND = "deleted_by_hand"
    """Somebody here had it deleted on the server."""
    STAYS_DELETED = "stays_deleted"
    """The file is back, or elsewhere; what was deleted on the server is not sent again for that."""
    WITHHELD = "withheld"
    """It is not for this destination, or private."""
    POSTPONED = "postponed"
    """Its session is new, and nothing of it is sent for a while."""
    VANISHED = "vanished"
    MARKED_PRIVATE = "marked_private"
    MARKED_SHARED = "marked_shared"
    RETRY = "retry"
    """Somebody asked for it, or token or settings are new."""
    RESTORED = "restored"


class Action(StrEnum):
    QUEUE = "queue"
    REST = "rest"
    BACK_OFF = "back_off"
    REALIGN = "realign"
    FORGIVE = "forgive"
    """Progress was made: failures so far no longer count."""
    HOLD = "hold"
    """Rest until the session's grace time is over."""
    DELETE = "delete"
    """What the server has of a private session is to go."""


Row = Mapping[Event, tuple[State, tuple[Action, ...]]]

_LEAVES: Row = {
    Event.VANISHED: (State.GONE, ()),
    Event.MARKED_PRIVATE: (State.PRIVATE, (Action.DELETE,)),
    Event.DELETED_BY_HAND: (State.DELETED_ON_SERVER, ()),
}
_ANSWERS: Row = {
    Event.VANISHED: (State.GONE, ()),
    Event.SENT_SOME: (State.DUE, (Action.FORGIVE, Action.QUEUE)),
    Event.REALIGNED: (State.DUE, (Action.QUEUE,)),
    Event.HELD: (State.DUE, (Action.QUEUE,)),
    Event.FAILED: (State.WAITING, (Action.BACK_OFF,)),
    Event.REFUSED: (State.REFUSED, ()),
    Event.DELETED: (State.DELETED_ON_SERVER, ()),
    Event.WITHHELD: (State.PRIVATE, (Action.DELETE,)),
}
"""What ends a push. A stream that is with a worker leaves only by its outcome: never two requests in flight."""

TRANSITIONS: Mapping[State, Row] = {
    State.SETTLING: {
        Event.GREW: (State.SETTLING, ()),
        Event.RESTED: (State.DUE, (Action.QUEUE,)),
        Event.RETRY: (State.SETTLING, ()),
        **_LEAVES,
    },
    State.DUE: {
        Event.GREW: (State.DUE, ()),
        Event.TAKEN: (State.PUSHING, ()),
        Event.POSTPONED: (State.SETTLING, (Action.HOLD,)),
        Event.REFUSED: (State.REFUSED, ()),
        Event.RETRY: (State.DUE, ()),
        **_LEAVES,
    },
    State.PUSHING: {
        Event.GREW: (State.PUSHING_STALE, ()),
        Event.SENT_ALL: (State.SYNCED, (Action.FORGIVE,)),
        Event.CONFLICT: (State.PUSHING, (Action.REALIGN,)),
        Event.RETRY: (State.PUSHING, ()),
        **_ANSWERS,
    },
    State.PUSHING_STALE: {
        Event.GREW: (State.PUSHING_STALE, ()),
        Event.SENT_ALL: (State.SETTLING, (Action.FORGIVE, Action.REST)),
        Event.CONFLICT: (State.PUSHING_STALE, (Action.REALIGN,)),
        Event.RETRY: (State.PUSHING_STALE, ()),
        **_ANSWERS,
    },
    State.WAITING: {
        Event.GREW: (State.WAITING, ()),
        Event.TIME_CAME: (State.DUE, (Action.QUEUE,)),
        Event.RETRY: (State.DUE, (Action.QUEUE,)),
        **_LEAVES,
    },
    State.SYNCED: {
        Event.GREW: (State.DUE, (Action.QUEUE,)),
        Event.TIME_CAME: (State.DUE, (Action.QUEUE,)),
        Event.RETRY: (State.SYNCED, ()),
        **_LEAVES,
    },
    State.PRIVATE: {
        Event.GREW: (State.PRIVATE, ()),
        Event.RETRY: (State.PRIVATE, (Action.DELETE,)),
        Event.TIME_CAME: (State.PRIVATE, (Action.DELETE,)),
        Event.VANISHED: (State.GONE, (Action.DELETE,)),
        Event.MARKED_PRIVATE: (State.PRIVATE, (Action.DELETE,)),
        Event.STAYS_DELETED: (State.DELETED_ON_SERVER, ()),
        Event.MARKED_SHARED: (State.DUE, (Action.QUEUE,)),
    },
    State.REFUSED: {
        Event.GREW: (State.REFUSED, ()),
        Event.RETRY: (State.DUE, (Action.FORGIVE, Action.QUEUE)),
        Event.OUTGREW: (State.DUE, (Action.FORGIVE, Action.QUEUE)),
        **_LEAVES,
    },
    State.DELETED_ON_SERVER: {
        Event.GREW: (State.DELETED_ON_SERVER, ()),
        Event.RETRY: (State.DELETED_ON_SERVER, ()),
        Event.RESTORED: (State.DUE, (Action.QUEUE,)),
        **_LEAVES,
    },
    State.GONE: {
        Event.GREW: (State.DUE, (Action.QUEUE,)),
        Event.STAYS_DELETED: (State.DELETED_ON_SERVER, ()),
        Event.RETRY: (State.GONE, (Action.DELETE,)),
        Event.TIME_CAME: (State.GONE, (Action.DELETE,)),
        Event.VANISHED: (State.GONE, ()),
        Event.MARKED_PRIVATE: (State.GONE, (Action.DELETE,)),
    },
}

BUSY = frozenset({State.PUSHING, State.PUSHING_STALE})
"""A worker has the stream; whatever comes of it is awaited."""

WITHHELD = frozenset({State.PRIVATE, State.DELETED_ON_SERVER})
"""Its owner does not want it on the server, or somebody took it away there."""

UNSENT = frozenset({State.SETTLING, State.DUE, State.PUSHING, State.PUSHING_STALE, State.WAITING})
"""Something will still be sent without anybody doing anything."""


def next_state(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise LocalProtocolError(f"event {event} can't happen to a stream that is {state}") from None


class PauseReason(StrEnum):
    """Why the agent as a whole holds everything back: one condition above how it stands with its destinations. The
    first that holds is told."""

    BY_YOU = "by you"
    METERED = "metered network"
    LOW_BATTERY = "low battery"


class Condition(StrEnum):
    """How the agent stands with one destination."""

    PROBING = "probing"
    """One question is out: what do you offer? Nothing else is sent meanwhile. Also where a daemon begins."""
    RUNNING = "running"
    OFFLINE = "offline"
    NEEDS_LOGIN = "needs_login"
    WAITING_FOR_KEYRING = "waiting_for_keyring"
    """The token is in a keyring that is locked or not there yet, as before each login to a desktop."""
    MISCONFIGURED = "misconfigured"


class Signal(StrEnum):
    ANSWERED = "answered"
    UNREACHABLE = "unreachable"
    UNAUTHORIZED = "unauthorized"
    NO_KEYRING = "no_keyring"
    NO_ENDPOINT = "no_endpoint"
    DOUBTFUL = "doubtful"
    """A request about one session did not come through. Whether others would is for the server to say: ask it."""
    OFFER_CHANGED = "offer_changed"
    """A call that was offered is no longer taken: ask again what is."""
    TIME_CAME = "time_came"
    CHANGED = "changed"
    """Token, settings or network are new; try at once."""


class Step(StrEnum):
    PROBE = "probe"
    RELEASE = "release"
    BACK_OFF = "back_off"
    WAIT_LONG = "wait_long"
    WAIT_FOR_KEYRING = "wait_for_keyring"


LONG_WAIT_S = 900.0
"""401 and 404 need a person; a probe every 15 min notices one who repaired it on the server."""

KEYRING_WAIT_S = 15.0
"""Delivery goes on within 30 s of unlocking: one wait, and time to ask. Asking shows no prompt."""

ConditionRow = Mapping[Signal, tuple[Condition, tuple[Step, ...]]]

_OPEN: ConditionRow = {
    Signal.ANSWERED: (Condition.RUNNING, ()),
    Signal.UNREACHABLE: (Condition.OFFLINE, (Step.BACK_OFF,)),
    Signal.UNAUTHORIZED: (Condition.NEEDS_LOGIN, (Step.WAIT_LONG,)),
    Signal.NO_KEYRING: (Condition.WAITING_FOR_KEYRING, (Step.WAIT_FOR_KEYRING,)),
    Signal.NO_ENDPOINT: (Condition.MISCONFIGURED, (Step.WAIT_LONG,)),
    Signal.DOUBTFUL: (Condition.PROBING, (Step.PROBE,)),
    Signal.OFFER_CHANGED: (Condition.PROBING, (Step.PROBE,)),
    Signal.TIME_CAME: (Condition.RUNNING, ()),
    Signal.CHANGED: (Condition.PROBING, (Step.PROBE,)),
}


def _closed(condition: Condition) -> ConditionRow:
    """Stragglers that were in flight when the door closed change nothing; time or a change asks again."""
    straggler = (condition, ())
    return {
        **dict.fromkeys(Signal, straggler),
        Signal.TIME_CAME: (Condition.PROBING, (Step.PROBE,)),
        Signal.CHANGED: (Condition.PROBING, (Step.PROBE,)),
    }


CONDITIONS: Mapping[Condition, ConditionRow] = {
    Condition.PROBING: {
        **_OPEN,
        Signal.ANSWERED: (Condition.RUNNING, (Step.RELEASE,)),
        Signal.DOUBTFUL: (Condition.PROBING, ()),
        Signal.OFFER_CHANGED: (Condition.PROBING, ()),
        Signal.TIME_CAME: (Condition.PROBING, ()),
        Signal.CHANGED: (Condition.PROBING, ()),
    },
    Condition.RUNNING: _OPEN,
    Condition.OFFLINE: _closed(Condition.OFFLINE),
    Condition.NEEDS_LOGIN: _closed(Condition.NEEDS_LOGIN),
    Condition.WAITING_FOR_KEYRING: _closed(Condition.WAITING_FOR_KEYRING),
    Condition.MISCONFIGURED: _closed(Condition.MISCONFIGURED),
}


def next_condition(condition: Condition, signal: Signal) -> tuple[Condition, tuple[Step, ...]]:
    return CONDITIONS[condition][signal]
