"""The tables of the state, and the way from an older file to the newest."""

import sqlite3

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
    alter table audit add column path text not null default '';
    update audit set kind = 'deleted_on_server' where kind = 'deleted on server';
    create table kept (
      session_id text not null, subpath text not null, path text not null, kept_path text not null,
      inode integer not null, copied_bytes integer not null, primary key (session_id, subpath)) without rowid;
    """,
)
"""Step n leads from version n to n + 1. A step that was released is never changed."""

SCHEMA_VERSION = len(STEPS)


def migrate(db: sqlite3.Connection) -> None:
    """All steps that are missing, in one transaction: what fails leaves the file as it was."""
    db.execute("begin immediate")
    try:
        version = read_version(db)
        for step in STEPS[version:]:
            for statement in step.split(";"):
                db.execute(statement)
        if version < SCHEMA_VERSION:
            db.execute(f"pragma user_version = {SCHEMA_VERSION}")
    except BaseException:
        db.execute("rollback")
        raise
    db.execute("commit")


def read_version(db: sqlite3.Connection) -> int:
    """0 for a database without tables."""
    return int(db.execute("pragma user_version").fetchone()[0])
