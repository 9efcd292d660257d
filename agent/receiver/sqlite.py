"""The store in one SQLite file: sessions, their entries, and which side files they name."""

import re
import sqlite3
import uuid
from collections.abc import Callable
from typing import BinaryIO

import msgspec

from agent.core.transcripts.session import Head, StreamId
from agent.core.wire import Meta, NewGeneration, SessionPage, SessionRow, StreamHead
from agent.errors import UsageError
from agent.receiver.appending import Writing
from agent.receiver.generations import (
    COLUMNS,
    FROM_STREAM,
    Generation,
    SqliteReading,
    find_current,
    find_named,
    find_segments,
)
from agent.receiver.lines import Extent, read_runs
from agent.receiver.remains import refuse_deleted
from agent.receiver.store import (
    EMPTY_HEAD,
    EVERYBODY,
    Content,
    Guard,
    KeptFile,
    Moved,
    Named,
    Stored,
)
from agent.receiver.tokens import TokenTable


class SqliteStore(TokenTable):
    """`agent.receiver.store.Store` over a file."""

    # --- writing ----------------------------------------------------------------------------------------------

    def append(self, owner: str, stream: StreamId, guard: Guard, batch_id: str, body: BinaryIO) -> Stored | Moved:
        with self._transaction() as db:
            refuse_deleted(db, owner, stream.session_id)
            at = find_named(db, owner, stream, guard.generation)
            if at is None:
                current = find_current(db, owner, stream)
                if current is not None or guard.entry_count or guard.last_uuid is not None:
                    return _moved(current)
                at = self._create(db, owner, stream, NewGeneration(guard.generation))
            elif (guard.last_uuid, guard.entry_count) != (at.last_uuid, at.entry_count):
                return Stored(at.head()) if at.last_batch == batch_id else Moved(at.head())
            return Stored(self._extend(db, stream, at, batch_id, body))

    def put(
        self, owner: str, session_id: str, last_uuid: str | None, entry_uuid: str, body: BinaryIO
    ) -> Stored | Moved:
        stream = StreamId(session_id, "")
        with self._transaction() as db:
            refuse_deleted(db, owner, session_id)
            current = find_current(db, owner, stream)
            head = current.head() if current else EMPTY_HEAD
            if head.last_uuid != last_uuid or head.last_uuid == entry_uuid:
                return Moved(head)
            if current is None:
                current = self._create(db, owner, stream, NewGeneration(str(uuid.uuid4())))
            return Stored(self._extend(db, stream, current, None, body))

    def begin_generation(self, owner: str, stream: StreamId, new: NewGeneration) -> Stored | Moved:
        """What is shared is read before the lock is taken: it never changes, however the parent grows."""
        with self.reader() as db:
            known = _compare(db, owner, stream, new)
        if known is not None:
            return known
        parent = self.read(owner, stream, new.parent) if new.parent else None
        extent = parent.extent_at(new.shared_entries) if parent else Extent()
        with self._transaction() as db:
            known = _compare(db, owner, stream, new)
            return known or Stored(self._create(db, owner, stream, new, extent).head())

    def _create(
        self, db: sqlite3.Connection, owner: str, stream: StreamId, new: NewGeneration, extent: Extent | None = None
    ) -> Generation:
        """Makes a generation and makes it the current one. `extent`: how far the shared entries go."""
        extent = extent or Extent()
        session = self._touched(db, owner, stream.session_id)
        db.execute(
            "INSERT INTO streams (session, subpath) VALUES (?, ?) ON CONFLICT DO NOTHING", (session, stream.subpath)
        )
        (row,) = db.execute(
            "SELECT id FROM streams WHERE session = ? AND subpath = ?", (session, stream.subpath)
        ).fetchone()
        parent = find_named(db, owner, stream, new.parent) if new.parent else None
        values = {
            "stream": row,
            "name": new.generation,
            "created_at_s": self._now_s(),
            "entry_count": extent.count,
            "size_bytes": extent.size,
            "last_uuid": extent.last_id(stream),
            "chain": extent.chain,
            "last_compaction": extent.compaction,
            "parent": parent.id if parent else None,
            "shared": new.shared_entries,
        }
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        made = db.execute(
            f"INSERT INTO generations ({names}) VALUES ({marks})",  # noqa: S608 - names from the lines above
            tuple(values.values()),
        ).lastrowid
        db.execute("UPDATE streams SET current = ? WHERE id = ?", (made, row))
        current = find_current(db, owner, stream)
        assert current is not None  # noqa: S101 - made just now, in this transaction
        return current

    def _touched(self, db: sqlite3.Connection, owner: str, session_id: str) -> int:
        """The row of a session that changes now; it begins if it is not there yet."""
        row = self._session(db, owner, session_id)
        db.execute("UPDATE sessions SET changed_at_s = ? WHERE id = ?", (self._now_s(), row))
        return row

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
        extent, last_uuid = writing.extent, writing.last_id()
        db.execute(
            "UPDATE generations SET entry_count = ?, size_bytes = ?, last_uuid = ?, chain = ?, last_compaction = ?,"
            " last_batch = ? WHERE id = ?",
            (extent.count, extent.size, last_uuid, extent.chain, extent.compaction, batch_id, at.id),
        )
        db.execute(
            "UPDATE sessions SET changed_at_s = ? WHERE id ="
            " (SELECT t.session FROM streams t JOIN generations g ON g.stream = t.id WHERE g.id = ?)",
            (self._now_s(), at.id),
        )
        return Head(last_uuid, extent.count, at.name, extent.chain.hex())

    def write_meta(self, owner: str, session_id: str, meta: Meta) -> None:
        with self._transaction() as db:
            refuse_deleted(db, owner, session_id)
            row = self._session(db, owner, session_id)
            db.execute("UPDATE sessions SET meta = ? WHERE id = ?", (msgspec.json.encode(meta), row))

    # --- side files -------------------------------------------------------------------------------------------

    def name_file(
        self, owner: str, session_id: str, path: str, content: Content, place: Callable[[], bool]
    ) -> Named | None:
        with self._transaction() as db:
            refuse_deleted(db, owner, session_id)
            if not place():
                return None
            session = self._touched(db, owner, session_id)
            row = db.execute("SELECT sha256 FROM files WHERE session = ? AND path = ?", (session, path)).fetchone()
            db.execute(
                "INSERT OR REPLACE INTO files (session, path, sha256, size_bytes, changed_at_s) VALUES (?, ?, ?, ?, ?)",
                (session, path, *content, self._now_s()),
            )
        return Named(row[0] if row and row[0] != content.sha256 else None)

    def release_content(self, sha256: bytes, remove: Callable[[], None]) -> None:
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM files WHERE sha256 = ?", (sha256,)).fetchone() is None:
                remove()

    def find_file(self, owner: str, session_id: str, path: str) -> KeptFile | None:
        with self.looking(owner, session_id) as db:
            row = db.execute(f"{_FILES} AND f.path = ?", (owner, session_id, path)).fetchone()
        return _kept_file(row) if row else None

    def find_content(self, owner: str, sha256: bytes) -> Content | None:
        query = (
            "SELECT f.size_bytes FROM files f JOIN sessions s ON s.id = f.session WHERE f.sha256 = ? AND s.owner = ?"
        )
        with self.reader() as db:
            row = db.execute(query, (sha256, owner)).fetchone()
        return Content(sha256, row[0]) if row else None

    def list_files(self, owner: str, session_id: str) -> list[KeptFile] | None:
        with self.looking(owner, session_id) as db:
            rows = db.execute(f"{_FILES} ORDER BY f.path", (owner, session_id)).fetchall()
        if not rows and not self.has_session(owner, session_id):
            return None
        return [_kept_file(row) for row in rows]

    def named_contents(self) -> set[bytes]:
        with self.reader() as db:
            return {row[0] for row in db.execute("SELECT DISTINCT sha256 FROM files")}

    # --- reading ----------------------------------------------------------------------------------------------

    def head(self, owner: str, stream: StreamId) -> Head:
        with self.looking(owner, stream.session_id) as db:
            current = find_current(db, owner, stream)
        return current.head() if current else EMPTY_HEAD

    def head_at(self, owner: str, stream: StreamId, generation: str | None, entries: int | None) -> Head | None:
        reading = self.read(owner, stream, generation)
        if reading is None or entries is None or entries == reading.head.entry_count:
            return reading.head if reading else None
        if entries > reading.head.entry_count:
            return None
        extent = reading.extent_at(entries)
        return Head(extent.last_id(stream), entries, reading.head.generation, extent.chain.hex())

    def has_session(self, owner: str, session_id: str) -> bool:
        return self.read_meta(owner, session_id) is not None

    def read_meta(self, owner: str, session_id: str) -> Meta | None:
        with self.looking(owner, session_id) as db:
            row = db.execute(
                "SELECT meta FROM sessions WHERE owner = ? AND session_id = ?", (owner, session_id)
            ).fetchone()
        return msgspec.json.decode(row[0], type=Meta) if row else None

    def streams(self, owner: str, session_id: str) -> list[StreamHead] | None:
        parent = "SELECT p.name FROM generations p WHERE p.id = g.parent"
        query = f"SELECT t.subpath, g.id = t.current, ({parent}), {COLUMNS} {FROM_STREAM} ORDER BY t.subpath, g.id"
        with self.looking(owner, session_id) as db:
            rows = db.execute(query, (owner, session_id)).fetchall()
        if not rows and not self.has_session(owner, session_id):
            return None
        found = [(row[0], bool(row[1]), row[2], Generation(*row[3:])) for row in rows]
        return [StreamHead(subpath, one.head(), now, before, one.shared) for subpath, now, before, one in found]

    def read(self, owner: str, stream: StreamId, generation: str | None = None) -> SqliteReading | None:
        with self.looking(owner, stream.session_id) as db:
            found = find_named(db, owner, stream, generation) if generation else find_current(db, owner, stream)
            return SqliteReading(self.reader, found, find_segments(db, found)) if found else None

    def sessions(self, owners: tuple[str, ...], cursor: str | None, limit: int) -> SessionPage:
        before = _parse_cursor(cursor)
        whose = "1" if EVERYBODY in owners else f"owner IN ({', '.join('?' * len(owners))})"
        names = () if EVERYBODY in owners else owners
        with self.reader() as db:
            rows = db.execute(_SESSIONS.format(whose=whose), (*names, *before, limit + 1)).fetchall()
        found = [
            SessionRow(row[1], row[6], row[7], row[8], row[2], row[3], msgspec.json.decode(row[4], type=Meta), row[5])
            for row in rows[:limit]
        ]
        last = rows[limit - 1] if len(rows) > limit else None
        return SessionPage(found, f"{last[3]!r}_{last[0]}" if last else None)


def _moved(current: Generation | None) -> Moved:
    return Moved(current.head() if current else EMPTY_HEAD)


def _compare(db: sqlite3.Connection, owner: str, stream: StreamId, new: NewGeneration) -> Stored | Moved | None:
    """The answer where a generation is not to be made; None where it is. Nothing that this allows becomes forbidden
    while others write: generations only come and grow."""
    refuse_deleted(db, owner, stream.session_id)
    known = find_named(db, owner, stream, new.generation)
    parent = find_named(db, owner, stream, new.parent) if new.parent else None
    if known is not None:
        same = known.shared == new.shared_entries and known.parent == (parent.id if parent else None)
        return Stored(known.head()) if same and (parent is None) == (new.parent is None) else Moved(known.head())
    current = find_current(db, owner, stream)
    if new.parent is None:
        return _moved(current) if current else None
    return _moved(current) if parent is None or parent.entry_count < new.shared_entries else None


def _kept_file(row: tuple[str, bytes, int, float]) -> KeptFile:
    path, sha256, size, changed_at_s = row
    return KeptFile(path, Content(sha256, size), changed_at_s)


_FILES = (
    "SELECT f.path, f.sha256, f.size_bytes, f.changed_at_s FROM files f JOIN sessions s ON s.id = f.session"
    " WHERE s.owner = ? AND s.session_id = ?"
)

_SESSIONS = """
    SELECT p.id, p.session_id, p.created_at_s, p.changed_at_s, p.meta, p.owner,
           count(t.id), coalesce(sum(g.entry_count), 0), coalesce(sum(g.size_bytes), 0)
    FROM (SELECT * FROM sessions WHERE {whose} AND (changed_at_s, id) < (?, ?)
          ORDER BY changed_at_s DESC, id DESC LIMIT ?) p
    LEFT JOIN streams t ON t.session = p.id
    LEFT JOIN generations g ON g.id = t.current
    GROUP BY p.id ORDER BY p.changed_at_s DESC, p.id DESC
"""


_CURSOR = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?(?:e[+-][0-9]{1,3})?)_([0-9]{1,18})", re.ASCII)
"""Time of change as `repr` writes it, and row. What has more digits than SQLite's numbers never came from there."""


def _parse_cursor(cursor: str | None) -> tuple[float, int]:
    if cursor is None:
        return float("inf"), 0
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise UsageError("the cursor is none that this server gave")
    return float(match[1]), int(match[2])
