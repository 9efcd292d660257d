"""The open database, and how it is opened whatever shape it is in."""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.core.identity import Cursor
from agent.core.session import Facts, StreamId
from agent.errors import DiskError
from agent.system.state_db.rows import AuditRow, Changes, KeptRow, TrackRow
from agent.system.state_db.schema import SCHEMA_VERSION, migrate, read_version

_MAGIC = b"SQLite format 3\0"


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
                "insert or replace into tracks values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
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
                "insert into audit (at_s, destination, session_id, subpath, kind, detail, path) values (?,?,?,?,?,?,?)",
                map(_audit_values, changes.audit),
            )
            db.executemany("insert or replace into kept values (?,?,?,?,?,?)", map(_kept_values, changes.kept))
            db.executemany("delete from kept where session_id = ? and subpath = ?", changes.let_go)

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
            yield TrackRow._make((*start, *row[5:8], reason, row[9], Cursor(*row[10:17]), *row[17:]))

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
        query = "select at_s, destination, session_id, subpath, kind, detail, path from audit order by seq"
        for row in self._rows(query):
            yield AuditRow(row[0], row[1], StreamId(row[2], row[3]), row[4], _read(row[5]), _read(row[6]))

    def kept(self) -> Iterator[KeptRow]:
        for row in self._rows("select * from kept"):
            yield KeptRow(StreamId(row[0], row[1]), _read(row[2]), _read(row[3]), row[4], row[5])

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
        if read_version(db) == SCHEMA_VERSION:
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
    if read_version(db) > SCHEMA_VERSION:
        raise _Foreign(f"state has version {read_version(db)}")
    migrate(db)


def _is_damage(exc: sqlite3.DatabaseError) -> bool:
    """Damage is answered by a new database; a disk that is full or read-only is not."""
    return not isinstance(exc, sqlite3.OperationalError)


def _track_values(row: TrackRow) -> tuple[object, ...]:
    path, reason = _stored(row.path), _stored(row.reason)
    return (row.destination, *row.stream, row.provider, path, *row[4:7], reason, row.attempts, *row.cursor, *row[10:])


def _audit_values(row: AuditRow) -> tuple[object, ...]:
    return (row.at_s, row.destination, *row.stream, row.kind, _stored(row.detail), _stored(row.path))


def _kept_values(row: KeptRow) -> tuple[object, ...]:
    return (*row.stream, _stored(row.path), _stored(row.kept_path), row.inode, row.copied_bytes)


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
