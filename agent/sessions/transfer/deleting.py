"""Deleting a session on servers because somebody says so, and what the agent then knows of it: it is not sent again
until somebody restores it."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from agent.core.delivery.lifecycle import State
from agent.core.status import DELETED_THERE
from agent.core.wire import (
    Accepted,
    NeedsLogin,
    Reply,
    Unavailable,
    capabilities_request,
    decide_delete_reply,
    delete_request,
    parse_capabilities,
)
from agent.delivery.engine.byhand import DELETED_BY_HAND
from agent.delivery.push.asking import Asker, Sender
from agent.system.state.state_db import Changes, StateDb

DELETED = "deleted"
NOT_OFFERED = "offers no deletion"


class Told(NamedTuple):
    """What came of it at one server: `DELETED`, or why not."""

    destination: str
    outcome: str


def delete_there(senders: Mapping[str, Sender], session_id: str, now_s: Callable[[], float] = time.time) -> list[Told]:
    """Asks each server that offers it. One that says it deletes nothing is believed, whatever it answers."""
    asker = Asker(senders, now_s)
    return [Told(name, _delete(asker, name, session_id)) for name in senders]


def _delete(asker: Asker, name: str, session_id: str) -> str:
    offer = asker.fetch(name, capabilities_request(), parse_capabilities, None)
    if isinstance(offer, (NeedsLogin, Unavailable)):
        return _words(offer)
    if not getattr(offer, "delete", False):
        return NOT_OFFERED
    reply = asker.ask(name, delete_request(session_id), decide_delete_reply, None)
    return DELETED if isinstance(reply, Accepted) else _words(reply)


def _words(reply: Reply) -> str:
    match reply:
        case NeedsLogin():
            return reply.why or "does not accept the token"
        case Unavailable():
            return reply.why
    return f"answers {getattr(reply, 'status', 'otherwise')}"


def note_deleted(store: StateDb, session_id: str, destinations: frozenset[str]) -> None:
    """In the state itself, for who holds its lock. Raises DiskError."""
    rows = [
        row._replace(state=State.DELETED_ON_SERVER, status=DELETED_THERE, reason=DELETED_BY_HAND)
        for row in store.tracks()
        if row.stream.session_id == session_id
        and row.destination in destinations
        and row.state not in (State.PRIVATE, State.GONE)
    ]
    store.commit(Changes(rows))
