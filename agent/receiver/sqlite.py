"""The store in one SQLite file: WAL, one writer at a time, readers that never wait for it.

Durable means `synchronous=FULL`: an answer leaves after the log reached the disk (`fullfsync` on macOS).
"""

import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from agent.core.session import Head, StreamId
from agent.core.transcript import split_lines
from agent.core.wire import Meta, StreamHead
from agent.errors import DiskError, UsageError
from agent.receiver.appending import Generation, Writing
from agent.receiver.lines import RUN_BYTES, read_runs
from agent.receiver.schema import open_database
from agent.receiver.store import (
    EMPTY_HEAD,
    Guard,
    LongEntry,
    Moved,
    Run,
    Scope,
    SessionPage,
    SessionRow,
    Stored,
    TokenRow,
)

_USE_NOTED_S = 3600.0
"""How coarse `last_used_at_s` is: a write for each request would halve the speed of everything."""


_COLUMNS = ", ".join("g." + name for name in Generation._fields)
_FROM_STREAM = (
    "FROM sessions s JOIN streams t ON t.session = s.id JOIN generations g ON g.stream = t.id"
    " WHERE s.owner = ? AND s.session_id = ?"
)


class SqliteStore:
    """`agent.receiver.store.Store` over the file `path`. `now_s` is wall time."""

    def __init__(self, path: Path, *, now_s: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now_s = now_s
        self._lock = threading.Lock()
        self._idle_readers: list[sqlite3.Connection] = []
        with _disk_errors():
            self._writer = open_database(path, writer=True)

    def close(self) -> None:
        with self._lock:
            while self._idle_readers:
                self._idle_readers.pop().close()
            self._writer.close()

    def probe(self) -> None:
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO probe (id, at_s) VALUES (1, ?)", (self._now_s(),))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._writer
        with self._lock, _disk_errors():
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection for one short look. Whoever keeps it keeps the log from being emptied."""
        with _disk_errors():
            try:
                db = self._idle_readers.pop()
            except IndexError:
                db = open_database(self._path, writer=False)
            try:
                yield db
            except BaseException:
                db.close()
                raise
            self._idle_readers.append(db)

    # --- writing ----------------------------------------------------------------------------------------------

    def append(self, owner: str, stream: StreamId, guard: Guard, batch_id: str, body: BinaryIO) -> Stored | Moved:
        with self._transaction() as db:
            current = _current(db, owner, stream)
            if current is None:
                if guard.entry_count or guard.last_uuid is not None:
                    return Moved(EMPTY_HEAD)
                current = self._create(db, owner, stream, guard.generation)
            elif guard != (current.last_uuid, current.entry_count, current.name):
                repeated = current.name == guard.generation and current.last_batch == batch_id
                return Stored(current.head()) if repeated else Moved(current.head())
            return Stored(self._extend(db, stream, current, batch_id, body))

    def put(
        self, owner: str, session_id: str, last_uuid: str | None, entry_uuid: str, body: BinaryIO
    ) -> Stored | Moved:
        stream = StreamId(session_id, "")
        with self._transaction() as db:
            current = _current(db, owner, stream)
            head = current.head() if current else EMPTY_HEAD
            if head.last_uuid != last_uuid or head.last_uuid == entry_uuid:
                return Moved(head)
            if current is None:
                current = self._create(db, owner, stream, str(uuid.uuid4()))
            return Stored(self._extend(db, stream, current, None, body))

    def _create(self, db: sqlite3.Connection, owner: str, stream: StreamId, name: str) -> Generation:
        session = self._session(db, owner, stream.session_id)
        db.execute(
            "INSERT INTO streams (session, subpath) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (session, stream.subpath),
        )
        (stream_row,) = db.execute(
            "SELECT id FROM streams WHERE session = ? AND subpath = ?", (session, stream.subpath)
        ).fetchone()
        made = db.execute(
            "INSERT INTO generations (stream, name, created_at_s) VALUES (?, ?, ?)",
            (stream_row, name, self._now_s()),
        ).lastrowid
        db.execute("UPDATE streams SET current = ? WHERE id = ?", (made, stream_row))
        current = _current(db, owner, stream)
        assert current is not None  # noqa: S101 - made just now, in this transaction
        return current

    def _session(self, db: sqlite3.Connection, owner: str, session_id: str) -> int:
        now_s = self._now_s()
        db.execute(
            "INSERT INTO sessions (owner, session_id, created_at_s, changed_at_s) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (owner, session_id, now_s, now_s),
        )
        row = db.execute("SELECT id FROM sessions WHERE owner = ? AND session_id = ?", (owner, session_id))
        return int(row.fetchone()[0])

    def _extend(
        self, db: sqlite3.Connection, stream: StreamId, at: Generation, batch_id: str | None, body: BinaryIO
    ) -> Head:
        writing = Writing(db, stream, at)
        for run in read_runs(body):
            if isinstance(run, bytes):
                writing.add_run(run)
            else:
                writing.add_long(run)
        last_uuid = writing.last_id()
        db.execute(
            "UPDATE generations SET entry_count = ?, size_bytes = ?, last_uuid = ?, chain = ?, last_compaction = ?,"
            " last_batch = ? WHERE id = ?",
            (writing.count, writing.size, last_uuid, writing.chain, writing.compaction, batch_id, at.id),
        )
        db.execute(
            "UPDATE sessions SET changed_at_s = ? WHERE id ="
            " (SELECT t.session FROM streams t JOIN generations g ON g.stream = t.id WHERE g.id = ?)",
            (self._now_s(), at.id),
        )
        return Head(last_uuid, writing.count, at.name, writing.chain.hex())

    def write_meta(self, owner: str, session_id: str, meta: Meta) -> None:
        with self._transaction() as db:
            row = self._session(db, owner, session_id)
            db.execute("UPDATE sessions SET meta = ? WHERE id = ?", (msgspec.json.encode(meta), row))

    # --- reading ----------------------------------------------------------------------------------------------

    def head(self, owner: str, stream: StreamId) -> Head:
        with self.reader() as db:
            current = _current(db, owner, stream)
        return current.head() if current else EMPTY_HEAD

    def has_session(self, owner: str, session_id: str) -> bool:
        return self.read_meta(owner, session_id) is not None

    def read_meta(self, owner: str, session_id: str) -> Meta | None:
        with self.reader() as db:
            row = db.execute(
                "SELECT meta FROM sessions WHERE owner = ? AND session_id = ?", (owner, session_id)
            ).fetchone()
        return msgspec.json.decode(row[0], type=Meta) if row else None

    def streams(self, owner: str, session_id: str) -> list[StreamHead] | None:
        query = f"SELECT t.subpath, g.id = t.current, {_COLUMNS} {_FROM_STREAM} ORDER BY t.subpath, g.id"
        with self.reader() as db:
            rows = db.execute(query, (owner, session_id)).fetchall()
        if not rows and not self.has_session(owner, session_id):
            return None
        return [StreamHead(row[0], Generation(*row[2:]).head(), bool(row[1])) for row in rows]

    def read(self, owner: str, stream: StreamId, generation: str | None = None) -> "SqliteReading | None":
        with self.reader() as db:
            found = _current(db, owner, stream) if generation is None else _named(db, owner, stream, generation)
        return SqliteReading(self, found) if found else None

    def sessions(self, owner: str, cursor: str | None, limit: int) -> SessionPage:
        before = _parse_cursor(cursor)
        with self.reader() as db:
            rows = db.execute(_SESSIONS, (owner, *before, limit + 1)).fetchall()
        found = [
            SessionRow(row[1], row[5], row[6], row[7], row[2], row[3], msgspec.json.decode(row[4], type=Meta))
            for row in rows[:limit]
        ]
        last = rows[limit - 1] if len(rows) > limit else None
        return SessionPage(found, f"{last[3]!r}_{last[0]}" if last else None)

    # --- tokens -----------------------------------------------------------------------------------------------

    def create_token(self, name: str, owner: str, scope: Scope, token_sha256: bytes) -> None:
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM tokens WHERE name = ? AND revoked_at_s IS NULL", (name,)).fetchone():
                raise UsageError(
                    f"a token named {name} is in use",
                    hint=f"transcriptd receiver token revoke {name}, or another name",
                )
            db.execute(
                "INSERT INTO tokens (name, owner, scope, sha256, created_at_s) VALUES (?, ?, ?, ?, ?)",
                (name, owner, scope, token_sha256, self._now_s()),
            )

    def list_tokens(self) -> list[TokenRow]:
        with self.reader() as db:
            rows = db.execute(f"SELECT {_CREDENTIAL} FROM tokens ORDER BY created_at_s, id").fetchall()  # noqa: S608
        return [TokenRow(*row) for row in rows]

    def revoke_token(self, name: str) -> bool:
        with self._transaction() as db:
            done = db.execute(
                "UPDATE tokens SET revoked_at_s = ? WHERE name = ? AND revoked_at_s IS NULL",
                (self._now_s(), name),
            )
            return done.rowcount > 0

    def find_token(self, token_sha256: bytes) -> tuple[bytes, TokenRow] | None:
        query = f"SELECT id, sha256, {_CREDENTIAL} FROM tokens WHERE sha256 = ? AND revoked_at_s IS NULL"  # noqa: S608
        with self.reader() as db:
            row = db.execute(query, (token_sha256,)).fetchone()
        if row is None:
            return None
        token, now_s = TokenRow(*row[2:]), self._now_s()
        if token.last_used_at_s is None or now_s - token.last_used_at_s >= _USE_NOTED_S:
            with suppress(DiskError), self._transaction() as db:  # a full disk must not keep readers out
                db.execute("UPDATE tokens SET last_used_at_s = ? WHERE id = ?", (now_s, row[0]))
        return row[1], token


class SqliteReading:
    """One generation, as `Store.read` gives it."""

    def __init__(self, store: SqliteStore, generation: Generation) -> None:
        self.head = generation.head()
        self.last_compaction = generation.last_compaction
        self._store = store
        self._id = generation.id

    def runs(self, after: int, limit: int) -> Iterator[Run | LongEntry]:
        end = min(self.head.entry_count, after + limit)
        while after < end:
            found = self._next(after, end)
            yield found
            after = found.ordinal if isinstance(found, LongEntry) else found.first + found.entries - 1

    def _next(self, after: int, end: int) -> Run | LongEntry:
        kept: list[bytes] = []
        size, last = 0, after
        with self._store.reader() as db, closing(db.execute(_RUNS, (self._id, self._id, after + 1, end))) as rows:
            for first, count, data, long_bytes, is_object in rows:
                if data is None:
                    if kept:
                        break
                    return LongEntry(first, long_bytes, bool(is_object), partial(self._parts, first))
                kept.append(_cut(data, after + 1 - first, end + 1 - first, count))
                size += len(kept[-1])
                last = min(end, first + count - 1)
                if size >= RUN_BYTES:
                    break
        if not kept:
            raise DiskError("the receiver's database lacks entries that it counted")
        return Run(after + 1, last - after, b"".join(kept))

    def _parts(self, ordinal: int) -> Iterator[bytes]:
        query = "SELECT data FROM parts WHERE generation = ? AND ordinal = ? AND part = ?"
        part = 0
        while True:
            with self._store.reader() as db:
                row = db.execute(query, (self._id, ordinal, part)).fetchone()
            if row is None:
                return
            yield row[0]
            part += 1


def _current(db: sqlite3.Connection, owner: str, stream: StreamId) -> Generation | None:
    query = f"SELECT {_COLUMNS} {_FROM_STREAM} AND t.subpath = ? AND g.id = t.current"
    row = db.execute(query, (owner, *stream)).fetchone()
    return Generation(*row) if row else None


def _named(db: sqlite3.Connection, owner: str, stream: StreamId, name: str) -> Generation | None:
    query = f"SELECT {_COLUMNS} {_FROM_STREAM} AND t.subpath = ? AND g.name = ?"
    row = db.execute(query, (owner, *stream, name)).fetchone()
    return Generation(*row) if row else None


_RUNS = """
    SELECT first, count, data, long_bytes, is_object FROM runs
    WHERE generation = ? AND first >=
        (SELECT first FROM runs WHERE generation = ? AND first <= ? ORDER BY first DESC LIMIT 1)
    AND first <= ? ORDER BY first
"""

_CREDENTIAL = "name, owner, scope, created_at_s, last_used_at_s, revoked_at_s"

_SESSIONS = """
    SELECT p.id, p.session_id, p.created_at_s, p.changed_at_s, p.meta,
           count(t.id), coalesce(sum(g.entry_count), 0), coalesce(sum(g.size_bytes), 0)
    FROM (SELECT * FROM sessions WHERE owner = ? AND (changed_at_s, id) < (?, ?)
          ORDER BY changed_at_s DESC, id DESC LIMIT ?) p
    LEFT JOIN streams t ON t.session = p.id
    LEFT JOIN generations g ON g.id = t.current
    GROUP BY p.id ORDER BY p.changed_at_s DESC, p.id DESC
"""


def _cut(run: bytes, start: int, stop: int, count: int) -> bytes:
    """The lines of a run from index `start` up to `stop`, which may lie outside of it."""
    if start <= 0 and stop >= count:
        return run
    return b"".join(line + b"\n" for line in split_lines(run)[max(0, start) : stop])


def _parse_cursor(cursor: str | None) -> tuple[float, int]:
    if cursor is None:
        return float("inf"), 0
    changed_at_s, _, row = cursor.partition("_")
    try:
        return float(changed_at_s), int(row)
    except ValueError:
        raise UsageError("the cursor is none that this server gave") from None


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc  # neither names a value that was stored
        raise DiskError(f"the receiver's database can't be used: {why}") from exc
