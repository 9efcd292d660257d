"""Deletion of sessions in the SQLite file, down to the bytes.

One transaction takes a session out of every table that knows it and leaves a tombstone; from then on nothing of it
is read or taken. The entries themselves go in bites behind it, so that deleting gigabytes neither keeps writers
waiting nor doubles the file. SQLite overwrites what it frees with zeros (`secure_delete`), but its log still holds the
pages as they were until it is emptied, and pages may hold stray copies (`slack`) which only VACUUM takes away: mostly
there are none, and reading the file to know that costs less than writing it anew. `remains` lists what is not that far
yet, so what a process that dies leaves is gone on with at the next start:

    generation 7      its entries are still in the tables
    generation NULL   out of the tables, but not out of the log
"""

import sqlite3

from agent.errors import SessionDeleted

_BITE_ROWS = 16
"""A run has up to 2 MiB."""


def refuse_deleted(db: sqlite3.Connection, owner: str, session_id: str) -> None:
    """Raises SessionDeleted when the session has a tombstone."""
    if db.execute("SELECT 1 FROM deletions WHERE owner = ? AND session_id = ?", (owner, session_id)).fetchone():
        raise SessionDeleted("the session was deleted; POST …/restore lets it be sent again")


def bury(db: sqlite3.Connection, owner: str, session_id: str, now_s: float) -> set[bytes]:
    """Puts a tombstone in the place of a session. Gives the contents that its files named."""
    db.execute("INSERT INTO deletions VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (owner, session_id, now_s))
    found = db.execute("SELECT id FROM sessions WHERE owner = ? AND session_id = ?", (owner, session_id)).fetchone()
    if found is None:
        return set()
    contents = {row[0] for row in db.execute("SELECT sha256 FROM files WHERE session = ?", found)}
    streams = "(SELECT id FROM streams WHERE session = ?)"
    db.execute("INSERT INTO remains (generation) VALUES (NULL)")  # for facts, names and paths
    db.execute(
        f"INSERT INTO remains (generation) SELECT id FROM generations WHERE stream IN {streams}",  # noqa: S608 - a constant
        found,
    )
    db.execute("DELETE FROM files WHERE session = ?", found)
    db.execute(f"DELETE FROM generations WHERE stream IN {streams}", found)  # noqa: S608 - a constant
    db.execute("DELETE FROM streams WHERE session = ?", found)
    db.execute("DELETE FROM sessions WHERE id = ?", found)
    return contents


def take_bite(db: sqlite3.Connection) -> bool:
    """Takes some of what was deleted out of the tables; False when nothing of it is left there."""
    found = db.execute("SELECT id, generation FROM remains WHERE generation IS NOT NULL LIMIT 1").fetchone()
    if found is None:
        return False
    for table in ("runs", "parts"):
        query = f"SELECT rowid FROM {table} WHERE generation = ? LIMIT {_BITE_ROWS}"  # noqa: S608 - two constants
        if rows := db.execute(query, found[1:]).fetchall():
            db.executemany(f"DELETE FROM {table} WHERE rowid = ?", rows)  # noqa: S608 - two constants
            return True
    db.execute("UPDATE remains SET generation = NULL WHERE id = ?", found[:1])
    return True


def last_remains(db: sqlite3.Connection) -> int:
    """The last of those that only the log still holds; 0 when there is none."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM remains WHERE generation IS NULL").fetchone()[0])


def forget_remains(db: sqlite3.Connection, last: int) -> None:
    db.execute("DELETE FROM remains WHERE generation IS NULL AND id <= ?", (last,))


def empty_log(db: sqlite3.Connection, wait_ms: int) -> bool:
    """Moves what is in the log to the file, and cuts the log to nothing; False when somebody reads there for that
    long."""
    (before,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute(f"PRAGMA busy_timeout = {wait_ms}")
    try:
        return not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        db.execute(f"PRAGMA busy_timeout = {before}")
