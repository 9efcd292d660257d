"""What came from a server, told to the agent: `sessions.pulled` on the socket, or the state itself where no agent
runs."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from agent.core.delivery.lifecycle import UNSENT, State
from agent.core.transcripts.identity import pack_cursor, unpack_cursor
from agent.core.transcripts.session import Facts, Gone, StreamId
from agent.daemon.process.supervisor import Daemon
from agent.delivery.engine.answers import TAKEN_BACK
from agent.delivery.state.inputs import PulledHere, Vanished
from agent.delivery.state.tasks import TrackKey
from agent.errors import UsageError
from agent.system.control_socket import Method
from agent.system.state.state_db import Changes, StateDb, TrackRow

MOST_ROWS = 200
"""In one request: a line has a bound."""


_Whole = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Row(msgspec.Struct):
    """A `TrackRow` on the socket."""

    session_id: str
    subpath: str
    provider: str
    path: str
    size: _Whole
    mtime_ns: _Whole
    inode: int
    cursor: str


class _Params(msgspec.Struct):
    destination: str
    rows: list[_Row]
    project: str = ""
    withdrawn: bool = False


def render_rows(rows: Sequence[TrackRow]) -> list[dict[str, Any]]:
    return [
        {
            "session_id": row.stream.session_id,
            "subpath": row.stream.subpath,
            "provider": row.provider,
            "path": row.path,
            "size": row.size,
            "mtime_ns": row.mtime_ns,
            "inode": row.inode,
            "cursor": base64.b64encode(pack_cursor(row.cursor)).decode(),
        }
        for row in rows
    ]


def _parse_row(destination: str, row: _Row) -> TrackRow:
    """Raises UsageError."""
    try:
        cursor = unpack_cursor(base64.b64decode(row.cursor, validate=True))
    except (ValueError, TypeError, msgspec.DecodeError):
        raise UsageError("cursor: as transcriptd itself packs one") from None
    if not (0 <= cursor.offset <= row.size and cursor.entry_count >= 0):
        raise UsageError("cursor: within the file")
    stream = StreamId(row.session_id, row.subpath)
    numbers = (row.size, row.mtime_ns)
    return TrackRow(destination, stream, row.provider, row.path, *numbers, State.SYNCED, "", 0, cursor, row.inode)


def pulled_methods(daemon: Daemon) -> dict[str, Method]:
    def pulled(params: Mapping[str, Any]) -> Any:
        """Files are about to be in their places, and a server has them; or, withdrawn, they are not."""
        try:
            asked = msgspec.convert(params, _Params)
        except msgspec.ValidationError as exc:
            raise UsageError(f"rows: {exc}") from None
        rows = [_parse_row(asked.destination, row) for row in asked.rows]
        if asked.withdrawn:
            daemon.take_in(Vanished([Gone(row.stream, row.path) for row in rows]))
            return {"taken": 0}
        refuse_unsent(daemon.ask(lambda engine: _states(engine, rows)))
        daemon.take_in(PulledHere(rows, Facts(asked.project)))
        return {"taken": daemon.ask(lambda engine: _count_taken(engine, rows))}

    return {"sessions.pulled": pulled}


def _key(row: TrackRow) -> TrackKey:
    return TrackKey(row.destination, *row.stream)


def _states(engine: Any, rows: Sequence[TrackRow]) -> list[str]:
    if any(row.destination not in engine.gates for row in rows):
        raise UsageError("the running agent does not know that server", hint="transcriptd service restart")
    return [engine.tracks[_key(row)].state for row in rows if _key(row) in engine.tracks]


def _count_taken(engine: Any, rows: Sequence[TrackRow]) -> int:
    found = (engine.tracks.get(_key(row)) for row in rows)
    return sum(track is not None and track.path == row.path for track, row in zip(found, rows, strict=True))


def refuse_unsent(states: Sequence[str]) -> None:
    """What was here and is not sent yet, though its file is gone, must not be covered by what the server has."""
    if any(state in UNSENT for state in states):
        raise UsageError("something of it that was here is not sent yet", hint="transcriptd push")
    if any(state not in (State.GONE, State.SYNCED) for state in states):
        raise UsageError("it is not sent from here: refused, private or deleted", hint="transcriptd sessions list")


class Notebook(NamedTuple):
    """`pulling.Here.tell` and `untell` in the state itself, for who holds its lock."""

    store: StateDb

    def tell(self, rows: Sequence[TrackRow], facts: Facts) -> None:
        """Raises UsageError, DiskError."""
        wanted = {_key(row) for row in rows}
        before = [one for one in self.store.tracks() if _key(one) in wanted]
        refuse_unsent([one.state for one in before])
        stones = [
            row._replace(entry=TAKEN_BACK)
            for row in self.store.tombstones()
            if row.entry != TAKEN_BACK and TrackKey(row.destination, *row.stream) in wanted
        ]
        known = dict(self.store.sessions())
        sessions = [(one, known.get(one, Facts()).merged(facts)) for one in {row.stream.session_id for row in rows}]
        self.store.commit(Changes(rows, stones, [(one, said.to_keep()) for one, said in sessions]))

    def untell(self, rows: Sequence[TrackRow]) -> None:
        self.store.commit(Changes([row._replace(state=State.GONE) for row in rows]))


class Caller(NamedTuple):
    """The same through the socket. `call` as `ControlClient.call`."""

    call: Callable[..., Any]

    def tell(self, rows: Sequence[TrackRow], facts: Facts) -> None:
        for at in range(0, len(rows), MOST_ROWS):
            self._call(rows[at : at + MOST_ROWS], project=facts.project)

    def untell(self, rows: Sequence[TrackRow]) -> None:
        for at in range(0, len(rows), MOST_ROWS):
            self._call(rows[at : at + MOST_ROWS], withdrawn=True)

    def _call(self, rows: Sequence[TrackRow], **more: Any) -> None:
        self.call("sessions.pulled", destination=rows[0].destination, rows=render_rows(rows), **more)
