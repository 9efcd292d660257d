"""The index of sessions: what their transcripts say of themselves, counted, so that nobody has to read them again to
list, find or sum them up. Derived and disposable: a file that is damaged, or of another version, is made anew, and
nothing that is delivered depends on it. What people set of sessions is elsewhere (`system.state.annotations`).

SQLite, WAL; one writes (under a lock of its own), any number read.
"""

import contextlib
import json
import os
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from agent.core.sessions.lineage import Link, LinkKind, Sample, Trace
from agent.core.sessions.normalised import SCHEMA
from agent.core.sessions.summary import Summary, merged, messages
from agent.core.transcripts.session import Facts, StreamId, is_conversation
from agent.errors import DiskError
from agent.system.files.own_files import check_own, open_own

VERSION = 1
"""Of the tables. An index of another one, or of other events, is made anew."""

USER_VERSION = VERSION * 1000 + SCHEMA

_TABLES = """
create table streams (
  session_id text not null, subpath text not null, provider text not null, path blob not null, size integer not null,
  mtime_ns integer not null, inode integer not null, offset integer not null, marker blob not null,
  reader integer not null, gone integer not null, summary blob not null, title text not null, prompt text not null,
  project text not null, primary key (session_id, subpath)) without rowid;
create table sessions (
  session_id text primary key, provider text not null, project text not null, title text not null,
  prompt text not null, started_at_s real, last_at_s real, changed_at_s real not null, ended integer not null,
  gone integer not null, model text not null, input integer not null, output integer not null,
  cache_read integer not null, cache_creation integer not null, cost_usd real, tokens integer not null,
  messages integer not null, calls integer not null, lines integer not null, bytes integer not null,
  streams integer not null, root text not null, parent text not null, link text not null, shared integer not null,
  kinds text not null, models text not null) without rowid;
create index sessions_root on sessions (root, changed_at_s);
create index sessions_changed on sessions (changed_at_s);
create table hours (
  session_id text not null, hour integer not null, model text not null, input integer not null,
  output integer not null, cache_read integer not null, cache_creation integer not null, cost_usd real not null,
  messages integer not null, calls integer not null, primary key (session_id, hour, model)) without rowid;
create table tools (
  session_id text not null, kind text not null, tool text not null, calls integer not null, errors integer not null,
  primary key (session_id, kind, tool)) without rowid;
create table traces (session_id text primary key, trace blob not null) without rowid;
create table imports (provider text primary key, reader integer not null, at_s real not null) without rowid;
"""

_NAMES = ("streams", "sessions", "hours", "tools", "traces", "imports")

_ENDINGS = ("-wal", "-shm", "")
_LOCKED_S = 10.0
_MOST = 2**63 - 1


class Known(NamedTuple):
    """How far a stream was read. `marker`: of the bytes before `offset`. `reader`: version of what read it."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    offset: int
    marker: bytes
    reader: int
    gone: bool


class Indexed(NamedTuple):
    """What was read of a stream. `trace`: of main transcripts."""

    stream: StreamId
    provider: str
    known: Known
    summary: Summary
    facts: Facts
    trace: Trace | None = None


class IndexDb:
    """Open with `open_index` or `open_index_readonly`. Every method may raise DiskError."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        db.row_factory = sqlite3.Row

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- what is known of files -------------------------------------------------------------------------------

    def known(self) -> dict[StreamId, Known]:
        return {StreamId(*row[:2]): _known(row[2:]) for row in self._rows(f"select session_id, subpath, {_KNOWN}")}

    def known_of(self, stream: StreamId) -> Known | None:
        rows = list(self._rows(f"select {_KNOWN}", "where session_id = ? and subpath = ?", stream))
        return _known(rows[0]) if rows else None

    def summary_of(self, stream: StreamId) -> Summary | None:
        rows = list(self._rows("select summary", "where session_id = ? and subpath = ?", stream))
        return _decode_summary(rows[0][0]) if rows else None

    def _rows(self, select: str, where: str = "", values: Sequence[Any] = ()) -> Iterator[Any]:
        with _told(self._path):
            yield from (tuple(row) for row in self._db.execute(f"{select} from streams {where}", values))

    # --- writing ----------------------------------------------------------------------------------------------

    def write(self, found: Sequence[Indexed]) -> None:
        """All or nothing. The sessions of these streams are summed up anew."""
        with self._transaction() as db:
            db.executemany(_put("streams", 15), map(_encode_stream, found))
            for one in found:
                if one.trace is not None:
                    db.execute(_put("traces", 2), (one.stream.session_id, _encode_trace(one.trace)))
            for session in dict.fromkeys(one.stream.session_id for one in found):
                self._sum_up(db, session)

    def set_gone(self, streams: Iterable[StreamId], *, gone: bool = True) -> None:
        """Files that are no longer there; what was read of them stays."""
        with self._transaction() as db:
            done = list(streams)
            where = "where session_id = ? and subpath = ?"
            db.executemany(f"update streams set gone = {int(gone)} {where}", done)  # noqa: S608 - a number
            for session in dict.fromkeys(one.session_id for one in done):
                self._sum_up(db, session)

    def forget(self, sessions: Iterable[str]) -> None:
        with self._transaction() as db:
            for table in _NAMES[:-1]:
                query = f"delete from {table} where session_id = ?"  # noqa: S608 - words of this page only
                db.executemany(query, [(one,) for one in sessions])

    def set_links(self, links: Mapping[str, Link], roots: Mapping[str, str]) -> None:
        """Of all sessions: `roots` has each one's conversation."""
        rows = []
        for session, root in roots.items():
            link = links.get(session)
            parent, kind, shared = (link.parent, str(link.kind), link.shared_entries) if link else ("", "", 0)
            rows.append((root, parent, kind, shared, session, root, parent, kind, shared))
        with self._transaction() as db:
            db.executemany(_LINK, rows)

    def note_import(self, provider: str, reader: int, at_s: float) -> None:
        """All that there was of it has been read."""
        with self._transaction() as db:
            db.execute(_put("imports", 3), (provider, reader, at_s))

    def _sum_up(self, db: sqlite3.Connection, session: str) -> None:
        rows = [tuple(row) for row in db.execute(_PARTS, (session,))]
        rows.sort(key=lambda row: row[-1])
        whole = merged([_decode_summary(row[0]) for row in rows])
        facts = Facts()
        for row in rows:
            facts = facts.merged(Facts(row[7], row[5], row[6]) if is_conversation(row[8]) else Facts(row[7]))
        spent = whole.total()
        link = db.execute("select root, parent, link, shared from sessions where session_id = ?", (session,)).fetchone()
        cost = spent.cost_usd if whole.costs_are_known else None
        times = (whole.started_at_s, whole.last_at_s, max(row[3] for row in rows) / 1e9)
        ended, gone = whole.has_ended, all(row[4] for row in rows)
        tokens = (spent.input, spent.output, spent.cache_read, spent.cache_creation, cost, spent.tokens)
        counts = (messages(whole), spent.calls, whole.lines, sum(row[2] for row in rows), len(rows))
        values = (session, rows[0][1], facts.project or whole.cwd, facts.title, facts.prompt, *times, ended, gone)
        lineage = tuple(link) if link else (session, whole.parent_session_id, "", 0)
        named = (json.dumps(whole.kinds), json.dumps(whole.models))
        db.execute(_put("sessions", 28), (*values, whole.model, *tokens, *counts, *lineage, *named))
        for table in ("hours", "tools"):
            db.execute(f"delete from {table} where session_id = ?", (session,))  # noqa: S608 - words of this page only
        hours = [(session, *_split(key, int), *_of_hour(one)) for key, one in whole.hours.items()]
        db.executemany(_put("hours", 10), hours)
        tools = [(session, *_split(key, str), one.calls, one.errors) for key, one in whole.tools.items()]
        db.executemany(_put("tools", 5), tools)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _told(self._path):
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("rollback")
                raise

    # --- reading ----------------------------------------------------------------------------------------------

    def ask(self, query: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows by column; for `core.sessions.session_queries`, which writes the queries."""
        with _told(self._path):
            return [dict(row) for row in self._db.execute(query, values)]

    def session_ids(self) -> set[str]:
        return set(self.each_session_id())

    def each_session_id(self) -> Iterator[str]:
        """One by one, for whoever has little memory."""
        with _told(self._path):
            for row in self._db.execute("select session_id from sessions"):
                yield row[0]

    def traces(self) -> Iterator[Trace]:
        with _told(self._path):
            for row in self._db.execute("select trace from traces"):
                yield _decode_trace(row[0])

    def has_links_of_all(self) -> bool:
        """Whether every session has been linked since it came."""
        return not self.ask("select 1 from sessions where root = '' limit 1")


def open_index(path: Path) -> IndexDb:
    """For writing; made anew where it can't be used. Raises DiskError when it can't be made."""
    try:
        return IndexDb(_open_checked(path), path)
    except sqlite3.Error:
        remove_index(path)
    with _told(path):
        return IndexDb(_open_checked(path), path)


def open_index_readonly(path: Path) -> IndexDb | None:
    """None where there is none that can be read."""
    if not path.exists() or not _is_ours(path):
        return None
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_LOCKED_S, isolation_level=None)
    except sqlite3.Error:
        return None
    try:
        db.execute("pragma cache_size=-2048")
        if db.execute("pragma user_version").fetchone()[0] == USER_VERSION:
            db.execute("select 1 from sessions limit 1").fetchone()
            return IndexDb(db, path)
    except sqlite3.Error:
        pass  # a damaged one is as good as none
    db.close()
    return None


def remove_index(path: Path) -> None:
    """With its log. Raises DiskError."""
    try:
        for ending in _ENDINGS:
            path.with_name(path.name + ending).unlink(missing_ok=True)
    except OSError as exc:
        raise DiskError(f"the index {path} can't be removed: {exc.strerror}") from exc


def _is_ours(path: Path) -> bool:
    """Whether SQLite may open it and what belongs to it: it follows links, and waits for pipes."""
    try:
        for ending in _ENDINGS:
            check_own(path.with_name(path.name + ending))
    except (DiskError, OSError):
        return False
    return True


def _open_checked(path: Path) -> sqlite3.Connection:
    if not _is_ours(path):
        raise sqlite3.DatabaseError("not ours")
    descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
    try:
        if os.name == "posix":
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    db = sqlite3.connect(path, timeout=_LOCKED_S, isolation_level=None)
    try:
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=normal")
        db.execute("pragma journal_size_limit=4194304")
        found = db.execute("pragma user_version").fetchone()[0]
        if found == 0 and not db.execute("select 1 from sqlite_master limit 1").fetchone():
            db.executescript(f"begin immediate; {_TABLES} pragma user_version = {USER_VERSION}; commit;")
        elif found != USER_VERSION or not _is_whole(db):
            raise sqlite3.DatabaseError("not this version's")
    except BaseException:
        db.close()
        raise
    return db


def _is_whole(db: sqlite3.Connection) -> bool:
    tables = {row[0] for row in db.execute("select name from sqlite_master where type = 'table'")}
    return tables == set(_NAMES) and db.execute("pragma quick_check(1)").fetchone()[0] == "ok"


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        words = exc.strerror if isinstance(exc, OSError) else type(exc).__name__
        raise DiskError(
            f"the index {path} can't be used ({words})", hint="transcriptd sessions backfill --force"
        ) from exc


# --- rows -------------------------------------------------------------------------------------------------------------

_LINK = (
    "update sessions set root = ?, parent = ?, link = ?, shared = ?"
    " where session_id = ? and (root, parent, link, shared) is not (?, ?, ?, ?)"
)
_PARTS = (
    "select summary, provider, size, mtime_ns, gone, title, prompt, project, subpath from streams where session_id = ?"
)
_KNOWN = "path, size, mtime_ns, inode, offset, marker, reader, gone"


def _put(table: str, columns: int) -> str:
    return f"insert or replace into {table} values ({', '.join('?' * columns)})"  # noqa: S608 - words of this page


def _known(row: Sequence[Any]) -> Known:
    return Known(os.fsdecode(row[0]), row[1], row[2], row[3], row[4], row[5], row[6], bool(row[7]))


def _encode_stream(one: Indexed) -> tuple[object, ...]:
    known, facts = one.known, one.facts
    times = (min(known.mtime_ns, _MOST), known.inode % (1 << 63))
    place = (os.fsencode(known.path), known.size, *times, known.offset, known.marker, known.reader, known.gone)
    return (*one.stream, one.provider, *place, msgspec.msgpack.encode(one.summary), *facts[1:], facts.project)


def _of_hour(one: Any) -> tuple[object, ...]:
    return (one.input, one.output, one.cache_read, one.cache_creation, one.cost_usd, one.messages, one.calls)


def _split(key: str, kind: type) -> tuple[Any, str]:
    first, _, rest = key.partition("\t")
    return kind(first), rest


_decode_summary = msgspec.msgpack.Decoder(Summary).decode


def _encode_trace(one: Trace) -> bytes:
    return msgspec.msgpack.encode((*one[:3], one.sample.hashes.tobytes(), one.sample.ordinals.tobytes(), *one[4:]))


def _decode_trace(data: bytes) -> Trace:
    row = msgspec.msgpack.decode(data)
    hashes, ordinals = array("Q"), array("Q")
    hashes.frombytes(row[3])
    ordinals.frombytes(row[4])
    kind = LinkKind(row[8]) if row[8] else None
    return Trace._make((*row[:3], Sample(hashes, ordinals), *row[5:8], kind, *row[9:]))
