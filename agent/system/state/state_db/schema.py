"""The tables of the state, and the way from an older file to the newest.

SQLite notices what breaks its own structure, but not a bit that flips within a value. So each row carries a checksum
of its values; one that fails it is as if it had never been, and what it knew is asked of the server.
"""

import contextlib
import functools
import sqlite3
import zlib
from collections.abc import Iterable, Iterator

import msgspec

from agent.errors import NotOurs

STEPS = (
    """
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
    """,
    """
    alter table tracks add column inode integer not null default 0;
    alter table tracks add column status integer not null default 0;
    alter table tracks add column generations integer not null default 0;
    alter table audit rename to older_audit;
    create table audit (
      seq integer primary key, at_s real not null, destination text not null, session_id text not null,
      subpath text not null, kind text not null, detail text not null, path text not null default '');
    insert into audit (seq, at_s, destination, session_id, subpath, kind, detail)
      select seq, at_s, destination, session_id, subpath, replace(kind, ' ', '_'), detail from older_audit;
    drop table older_audit;
    alter table settled add column sum integer not null default 0;
    alter table tracks add column sum integer not null default 0;
    alter table tombstones add column sum integer not null default 0;
    alter table sessions add column sum integer not null default 0;
    alter table metas add column sum integer not null default 0;
    alter table audit add column sum integer not null default 0;
    update settled set sum = row_sum(key, value);
    update tracks set sum = row_sum(destination, session_id, subpath, provider, path, size, mtime_ns, state, reason,
      attempts, offset, entry_count, last_uuid, chain, marker, generation, sent_count, inode, status, generations);
    update tombstones set sum = row_sum(destination, session_id, subpath, ordinal, status);
    update sessions set sum = row_sum(session_id, project, title, prompt);
    update metas set sum = row_sum(destination, session_id, digest);
    update audit set sum = row_sum(at_s, destination, session_id, subpath, kind, detail, path);
    """,
    """
    alter table tracks add column raw_chain blob not null default x'';
    update tracks set sum = row_sum(destination, session_id, subpath, provider, path, size, mtime_ns, state, reason,
      attempts, offset, entry_count, last_uuid, chain, marker, generation, sent_count, raw_chain, inode, status,
      generations)
    where sum = row_sum(destination, session_id, subpath, provider, path, size, mtime_ns, state, reason,
      attempts, offset, entry_count, last_uuid, chain, marker, generation, sent_count, inode, status, generations);
    """,
    """
    create table grounds (
      session_id text primary key, folders text not null, remotes text not null, sum integer not null) without rowid;
    """,
    """
    alter table tombstones add column size integer not null default 0;
    alter table tombstones add column most integer not null default 0;
    update tombstones set sum = row_sum(destination, session_id, subpath, ordinal, status, size, most)
    where sum = row_sum(destination, session_id, subpath, ordinal, status);
    """,
)
"""Step n leads from version n to n + 1. A step that was released is never changed. The audit log numbers its rows
without `autoincrement`: a damaged counter at its end would refuse each further row as if the disk were full."""

SCHEMA_VERSION = len(STEPS)

Values = tuple[object, ...]


class Damaged(sqlite3.DatabaseError):
    """This is no state, or no longer one."""


def is_damage(exc: sqlite3.Error) -> bool:
    """Damage is answered by a new database; a disk that is full or read-only, a lock or a defect of ours is not."""
    return isinstance(exc, Damaged) or getattr(exc, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


_DAMAGE = {
    sqlite3.SQLITE_ERROR,  # no such table, and the like
    sqlite3.SQLITE_INTERNAL,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_NOTADB,
}


@contextlib.contextmanager
def naming_damage() -> Iterator[None]:
    """SQLite quotes what it finds; where that is no text, Python can't even say what was wrong. What is no file of
    ours is damage too."""
    try:
        yield
    except NotOurs as exc:
        raise Damaged(exc.message) from exc
    except UnicodeDecodeError as exc:
        raise Damaged("malformed beyond words") from exc


def row_sum(values: Iterable[object]) -> int:
    """The checksum of a row as SQLite keeps it. Raises UnicodeEncodeError for what was no text when it was read."""
    return zlib.crc32(msgspec.msgpack.encode(tuple(values)))


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All or nothing."""
    db.execute("begin immediate")
    try:
        yield db
        db.execute("commit")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk may have ended it already; the first error tells
            db.execute("rollback")
        raise


def migrate(db: sqlite3.Connection) -> None:
    """All steps that are missing, in one transaction: what fails leaves the file as it was."""
    db.create_function("row_sum", -1, lambda *values: row_sum(values), deterministic=True)
    with transaction(db):
        version = read_version(db)
        for step in STEPS[version:]:
            for statement in step.split(";"):
                db.execute(statement)
        if version < SCHEMA_VERSION:
            db.execute(f"pragma user_version = {SCHEMA_VERSION}")


def read_version(db: sqlite3.Connection) -> int:
    """0 for a database without tables."""
    return int(db.execute("pragma user_version").fetchone()[0])


def has_all_tables(db: sqlite3.Connection) -> bool:
    """Whether the tables are those of this version, column for column, and nothing acts on them by itself."""
    expected = _expected_columns()
    strangers = db.execute("select 1 from sqlite_master where type in ('trigger', 'view')").fetchone()
    if strangers or set(_table_names(db)) != expected.keys():
        return False
    return all(_columns(db, name) == columns for name, columns in expected.items())


def _table_names(db: sqlite3.Connection) -> list[str]:
    found = db.execute("select name from sqlite_master where type = 'table' and name <> 'sqlite_sequence'")
    return [row[0] for row in found]  # that one is SQLite's own; version 1 made it need it


def _columns(db: sqlite3.Connection, table: str) -> list[Values]:
    return [row[1:] for row in db.execute("select * from pragma_table_info(?)", (table,))]


@functools.cache
def _expected_columns() -> dict[str, list[Values]]:
    db = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(db)
        return {name: _columns(db, name) for name in _table_names(db)}
    finally:
        db.close()
