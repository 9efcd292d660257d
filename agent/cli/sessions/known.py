"""What the agent knows of sessions, from itself or from its state."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from agent.cli.config import remembered
from agent.core.status import StreamLine
from agent.core.transcripts.session import Facts
from agent.errors import NotRunning
from agent.system.control_socket import ControlClient
from agent.system.paths import Paths

if TYPE_CHECKING:
    from agent.sessions.search.session_rows import Synced


def read_sessions(paths: Paths) -> tuple[list[StreamLine], Mapping[str, Facts]]:
    """From the running daemon, else from the state."""
    found = find_synced(paths, None, None)
    return list(found.streams), found.facts


def find_synced(paths: Paths, sessions: Iterable[str] | None, not_among: Callable[[], set[str]] | None) -> "Synced":
    """How far these sessions are on servers, and all but those of `not_among`, which are the index's; without either,
    all."""
    from agent.sessions.search.session_rows import Synced

    ids = None if sessions is None else list(sessions)
    params = {} if ids is None else {"sessions": ids, "beyond_index": not_among is not None}
    try:
        with ControlClient(paths.socket) as client:
            answer = client.call("sessions.list", **params)
        facts = {session: Facts(*fields) for session, fields in answer["facts"].items()}
        return Synced(msgspec.convert(answer["streams"], list[StreamLine]), facts)
    except NotRunning:
        return _find_remembered(paths, ids, not_among)


def _find_remembered(paths: Paths, sessions: list[str] | None, not_among: Callable[[], set[str]] | None) -> "Synced":
    from agent.daemon.status.report import list_remembered
    from agent.sessions.search.session_rows import Synced

    with remembered(paths) as store:
        if store is None:
            return Synced()
        if sessions is None:
            return Synced(list_remembered(store.tracks(), store.tombstones()), dict(store.sessions()))
        more = store.session_ids() - not_among() if not_among is not None else set()
        facts = {one: it for one, it in store.sessions() if one in more} if more else {}
        return Synced(list_remembered(store.tracks_of([*sessions, *more]), store.tombstones()), facts)
