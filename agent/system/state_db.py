"""The agent's memory: what was seen and what the server acknowledged. Never a line of a transcript.

SQLite, WAL, every commit on disk before it counts. The queue is not here: it follows from sizes and cursors. So a
database that is lost costs time (the server is asked for its heads), not data, and one that can't be read is renamed
aside. One thread writes; a command that runs beside the daemon reads.
"""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.core.identity import Cursor
from agent.core.session import Facts, StreamId
from agent.errors import DiskError

SCHEMA_VERSION = 1

_MAGIC = b"SQLite format 3\0"

_SCHEMA = """
create table settled (key text primary key, value text not null) without rowid;
create table tracks (
  destination text not null, session_id text not null, subpath text not null,
  provider text not null, path text not null, size integer not null, mtime_ns integer not null,
  state text not null, reason text not null, attempts integer not null,
  offset integer not null, entry_count integer not null, last_uuid text, chain blob not null, marker blob not null,
  generation text, sent_count integer not null, primary key (destination, session_id, subpath)) without rowid;
create table tombstones (
  destination text not null, session_id text not null, subpath text not null, ordinal integer not null,
  status integer not null, primary key (destination, session_id, subpath, ordinal)) without rowid;
create table sessions (
  session_id text primary key, project text not null, title text not null, prompt text not null) without rowid;
create table metas (
  destination text not null, session_id text not null, digest text not null,
  primary key (destination, session_id)) without rowid;
create table audit (
  seq integer primary key autoincrement, at_s real not null, destination text not null, session_id text not null,
  subpath text not null, kind text not null, detail text not null);
"""


class TrackRow(NamedTuple):
    """One stream at one destination, as it is remembered. `prompt` and titles of sessions are kept apart."""

    destination: str
    stream: StreamId
    provider: str
    path: str
    size: int
    mtime_ns: int
    state: str
    reason: str
    attempts: int
    cursor: Cursor


class AuditRow(NamedTuple):
    """Something that people may ask about later. `detail` holds ids, sizes, offsets and statuses only."""

    at_s: float
    destination: str
    stream: StreamId
    kind: str
    detail: str


class Changes(NamedTuple):
    """What one commit writes."""

    tracks: Iterable[TrackRow] = ()
    tombstones: Iterable[tuple[str, StreamId, int, int]] = ()
    sessions: Iterable[tuple[str, Facts]] = ()
    metas: Iterable[tuple[str, str, str]] = ()
    audit: Iterable[AuditRow] = ()


class StateDb:
    """Open with `open_state` or `open_state_readonly`."""

    def __init__(self, connection: sqlite3.Connection, *, note: str = "") -> None:
        self._db = connection
        self.note = note
        """Why this is not simply the database that was there before; empty when it is."""

    def close(self) -> None:
        self._db.close()

    def commit(self, changes: Changes) -> None:
        """All or nothing, on disk when it returns. Raises DiskError."""
        with _as_disk_error("the state can't be written"), self._transaction() as db:
            db.executemany(
                "insert or replace into tracks values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (_track_values(row) for row in changes.tracks),
            )
            db.executemany(
                "insert or replace into tombstones values (?,?,?,?,?)",
                ((name, *stream, ordinal, status) for name, stream, ordinal, status in changes.tombstones),
            )
            db.executemany(
                "insert or replace into sessions values (?,?,?,?)",
                ((session_id, *map(_stored, facts)) for session_id, facts in changes.sessions),
            )
            db.executemany("insert or replace into metas values (?,?,?)", changes.metas)
            db.executemany(
                "insert into audit (at_s, destination, session_id, subpath, kind, detail) values (?,?,?,?,?,?)",
                ((row.at_s, row.destination, *row.stream, row.kind, _stored(row.detail)) for row in changes.audit),
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("begin immediate")
        try:
            yield self._db
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk may have ended it already; the first error tells
                self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def tracks(self) -> Iterator[TrackRow]:
        for row in self._rows("select * from tracks"):
            path, reason = _read(row[4]), _read(row[8])
            start = (row[0], StreamId(row[1], row[2]), row[3], path)
            yield TrackRow._make((*start, *row[5:8], reason, row[9], Cursor(*row[10:17])))

    def tombstones(self) -> Iterator[tuple[str, StreamId, int, int]]:
        for row in self._rows("select * from tombstones"):
            yield row[0], StreamId(row[1], row[2]), row[3], row[4]

    def sessions(self) -> Iterator[tuple[str, Facts]]:
        for row in self._rows("select * from sessions"):
            yield row[0], Facts(*map(_read, row[1:]))

    def metas(self) -> Iterator[tuple[str, str, str]]:
        for row in self._rows("select * from metas"):
            yield row[0], row[1], row[2]

    def audit(self) -> Iterator[AuditRow]:
        query = "select at_s, destination, session_id, subpath, kind, detail from audit order by seq"
        for row in self._rows(query):
            yield AuditRow(row[0], row[1], StreamId(row[2], row[3]), row[4], _read(row[5]))

    def settle(self, key: str, value: str) -> str:
        """The value of `key`; `value` becomes it the first time it is asked."""
        with _as_disk_error("the state can't be written"):
            self._db.execute("insert or ignore into settled values (?,?)", (key, value))
            found = self._db.execute("select value from settled where key = ?", (key,)).fetchone()
        return str(found[0])

    def _rows(self, query: str) -> Iterator[tuple]:  # type: ignore[type-arg]  # a row's types are the schema's
        with _as_disk_error("the state can't be read"):
            yield from self._db.execute(query)


def open_state(path: Path, aside_name: str) -> StateDb:
    """The database at `path`, whatever shape it is in: one that can't be used is renamed to `aside_name` beside it
    and begun anew; where nothing can be written, the state lives in memory. `note` says so."""
    note = ""
    try:
        return StateDb(_open_file(path))
    except sqlite3.DatabaseError as exc:
        if not _is_damage(exc):
            return StateDb(_open_memory(), note=f"state is kept in memory only: {path} can't be written")
        note = f"state was damaged and begun anew; the old one is {aside_name}"
    try:
        for ending in ("", "-wal", "-shm"):
            part = path.with_name(path.name + ending)
            if part.exists():
                part.replace(path.with_name(aside_name + ending))
        return StateDb(_open_file(path), note=note)
    except (OSError, sqlite3.Error):
        return StateDb(_open_memory(), note=f"state is kept in memory only: {path} can't be written")


def open_state_readonly(path: Path) -> StateDb | None:
    """For commands beside a daemon; None when there is none or it can't be read."""
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error:
        return None
    with contextlib.suppress(sqlite3.Error):
        if db.execute("pragma user_version").fetchone()[0] == SCHEMA_VERSION:
            return StateDb(db)
    db.close()
    return None


class _Foreign(sqlite3.DatabaseError):
    """A database of another version; treated like damage: renamed aside, nothing of it is lost."""


def _open_file(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("rb") as file:
            begins = file.read(len(_MAGIC))
    except OSError as exc:
        raise sqlite3.OperationalError(f"unable to open {path}") from exc
    if begins not in (b"", _MAGIC):  # SQLite would say so too, but not before it has deleted the log beside it
        raise sqlite3.DatabaseError("file is not a database")
    db = _connect(str(path))
    try:
        if db.execute("pragma quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("malformed")
        _prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _open_memory() -> sqlite3.Connection:
    db = _connect(":memory:")
    _prepare(db)
    return db


def _connect(target: str) -> sqlite3.Connection:
    return sqlite3.connect(target, isolation_level=None, check_same_thread=False, timeout=5.0)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=full")
    if sys.platform == "darwin":
        db.execute("pragma fullfsync=1")
    db.execute("pragma journal_size_limit=4194304")
    version = db.execute("pragma user_version").fetchone()[0]
    if version == 0 and not db.execute("select 1 from sqlite_master").fetchone():
        db.executescript(f"begin; {_SCHEMA} pragma user_version={SCHEMA_VERSION}; commit;")
    elif version != SCHEMA_VERSION:
        raise _Foreign(f"state has version {version}")


def _is_damage(exc: sqlite3.DatabaseError) -> bool:
    """Damage is answered by a new database; a disk that is full or read-only is not."""
    return not isinstance(exc, sqlite3.OperationalError)


def _track_values(row: TrackRow) -> tuple[object, ...]:
    path, reason = _stored(row.path), _stored(row.reason)
    return (row.destination, *row.stream, row.provider, path, *row[4:7], reason, row.attempts, *row.cursor)


def _stored(text: str) -> str | bytes:
    """Names on disk are bytes, and may be no UTF-8; SQLite's texts are. What mentions such a name is kept as bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def _read(value: str | bytes) -> str:
    return os.fsdecode(value)


@contextlib.contextmanager
def _as_disk_error(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise DiskError(f"{what}: {exc}") from exc
