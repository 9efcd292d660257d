"""The tables of the SQLite store, and the way from an older file to the newest.

Entries belong to a generation, a generation to a stream, a stream to a session, a session to an owner. The bytes of
entries that arrived together lie together, newlines and all, in runs of up to 2 MiB: a row an entry would cost twice
the time, and nobody asks for single entries. An entry above 1 MiB is a run by itself whose bytes lie in parts, so that
neither writing nor reading holds it.

A generation with a parent has no runs for the first `shared` entries: they are the parent's. A run tells how far its
generation goes behind it, so that the chain hash at any place is found by reading one run; runs of version 1 do not,
and are read through. Of side files only names and digests are here; `blobs` keeps their bytes.

The id of a generation is never given again, so that a slow reader of one that is deleted gets nobody else's entries.
What is deleted is overwritten; `remains` says how.
"""

import os
import sqlite3
from pathlib import Path

from agent.errors import MachineError
from agent.receiver.damage import refuse_cut

STEPS = (
    """
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        session_id TEXT NOT NULL,
        created_at_s REAL NOT NULL,
        changed_at_s REAL NOT NULL,
        meta BLOB NOT NULL DEFAULT x'7b7d',
        UNIQUE (owner, session_id)
    );
    CREATE INDEX sessions_by_change ON sessions (owner, changed_at_s, id);
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY,
        session INTEGER NOT NULL REFERENCES sessions (id),
        subpath TEXT NOT NULL,
        current INTEGER,
        UNIQUE (session, subpath)
    );
    CREATE TABLE generations (
        id INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL REFERENCES streams (id),
        name TEXT NOT NULL,
        created_at_s REAL NOT NULL,
        entry_count INTEGER NOT NULL DEFAULT 0,
        size_bytes INTEGER NOT NULL DEFAULT 0,
        last_uuid TEXT,
        chain BLOB NOT NULL DEFAULT (zeroblob(32)),
        last_compaction INTEGER NOT NULL DEFAULT 0,
        last_batch TEXT,
        UNIQUE (stream, name)
    );
    CREATE TABLE runs (
        generation INTEGER NOT NULL,
        first INTEGER NOT NULL,
        count INTEGER NOT NULL,
        data BLOB,
        long_bytes INTEGER,
        is_object INTEGER,
        PRIMARY KEY (generation, first)
    );
    CREATE TABLE parts (
        generation INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        part INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (generation, ordinal, part)
    );
    CREATE TABLE tokens (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        owner TEXT NOT NULL,
        scope TEXT NOT NULL CHECK (scope IN ('read', 'write')),
        sha256 BLOB NOT NULL UNIQUE,
        created_at_s REAL NOT NULL,
        last_used_at_s REAL,
        revoked_at_s REAL
    );
    CREATE UNIQUE INDEX tokens_in_use ON tokens (name) WHERE revoked_at_s IS NULL;
    CREATE TABLE probe (id INTEGER PRIMARY KEY CHECK (id = 1), at_s REAL NOT NULL);
    """,
    """
    ALTER TABLE generations ADD COLUMN parent INTEGER REFERENCES generations (id);
    ALTER TABLE generations ADD COLUMN shared INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN size_behind INTEGER;
    ALTER TABLE runs ADD COLUMN chain_behind BLOB;
    ALTER TABLE runs ADD COLUMN compaction_behind INTEGER;
    CREATE TABLE files (
        session INTEGER NOT NULL REFERENCES sessions (id),
        path TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        size_bytes INTEGER NOT NULL,
        changed_at_s REAL NOT NULL,
        PRIMARY KEY (session, path)
    ) WITHOUT ROWID;
    CREATE INDEX files_by_content ON files (sha256);
    """,
    """
    CREATE TABLE generations_3 (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        stream INTEGER NOT NULL REFERENCES streams (id),
        name TEXT NOT NULL,
        created_at_s REAL NOT NULL,
        entry_count INTEGER NOT NULL DEFAULT 0,
        size_bytes INTEGER NOT NULL DEFAULT 0,
        last_uuid TEXT,
        chain BLOB NOT NULL DEFAULT (zeroblob(32)),
        last_compaction INTEGER NOT NULL DEFAULT 0,
        last_batch TEXT,
        parent INTEGER REFERENCES generations (id),
        shared INTEGER NOT NULL DEFAULT 0,
        UNIQUE (stream, name)
    );
    INSERT INTO generations_3 SELECT id, stream, name, created_at_s, entry_count, size_bytes, last_uuid, chain,
        last_compaction, last_batch, parent, shared FROM generations;
    DROP TABLE generations;
    ALTER TABLE generations_3 RENAME TO generations;
    CREATE INDEX generations_by_parent ON generations (parent);
    CREATE TABLE deletions (
        owner TEXT NOT NULL,
        session_id TEXT NOT NULL,
        deleted_at_s REAL NOT NULL,
        PRIMARY KEY (owner, session_id)
    ) WITHOUT ROWID;
    CREATE TABLE remains (id INTEGER PRIMARY KEY AUTOINCREMENT, generation INTEGER);
    """,
    """
    ALTER TABLE tokens ADD COLUMN reads TEXT NOT NULL DEFAULT '[]';
    CREATE INDEX sessions_by_change_of_all ON sessions (changed_at_s, id);
    """,
)
"""Step n leads from version n to n + 1. A step that was released is never changed."""

_PAGE_BYTES = 8192
_CHECKPOINT_PAGES = 2048
_WAL_KEPT_BYTES = 64 << 20
_BUSY_MS = 20_000
_CACHE_KIB = 8192


def make_folder(folder: Path) -> None:
    """Makes `folder`, and what it lies in, for their owner alone whatever the umask is. One that is there stays as it
    is. OSError as the system says."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        folder.chmod(0o700)  # a umask may have taken from what was asked for


def _make_file(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        if os.name == "posix":
            os.fchmod(descriptor, 0o600)  # SQLite gives its log the same mode
    finally:
        os.close(descriptor)


def open_database(path: Path, *, writer: bool) -> sqlite3.Connection:
    """A connection in autocommit mode that any thread may use, one at a time. The writer's makes the file (0600)
    and brings it to the newest version; MachineError when it is damaged, and then nothing of it is touched."""
    if writer:
        refuse_cut(path)
        _make_file(path)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        if writer:
            db.execute("PRAGMA secure_delete = ON")
            _migrate(db, path)
        for pragma in (
            "synchronous = FULL",
            "fullfsync = 1",
            "checkpoint_fullfsync = 1",
            "foreign_keys = ON",
        ):
            db.execute(f"PRAGMA {pragma}")
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(STEPS):
            raise MachineError(
                f"{path.name} has schema version {version}, this receiver knows up to {len(STEPS)}",
                hint="start the newer receiver that wrote it, or give another --data folder",
            )
        for step in STEPS[version:]:
            for statement in step.split(";"):
                db.execute(statement)
        if version < len(STEPS):
            db.execute(f"PRAGMA user_version = {len(STEPS)}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
