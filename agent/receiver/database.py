"""The SQLite file: one writer at a time, readers that never wait for it, and what is gone is gone.

Durable means `synchronous=FULL`: an answer leaves after the log reached the disk (`fullfsync` on macOS).
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from agent.errors import DiskError, SessionDeleted
from agent.receiver.remains import bury, empty_log, forget_remains, last_remains, refuse_deleted, take_bite
from agent.receiver.schema import open_database
from agent.receiver.slack import has_slack

_LOG_WAIT_MS = 2000
"""How long a deletion waits for those who read in the log just now; writers wait with it."""


class Database:
    """The file `path` for any number of threads and processes. `now_s` is wall time."""

    def __init__(self, path: Path, *, now_s: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now_s = now_s
        self._lock = threading.Lock()
        self._idle_readers: list[sqlite3.Connection] = []
        self._pages: BinaryIO | None = None
        """Stays open while a connection is: the system ends all locks of a process on a file when it closes any."""
        with _disk_errors():
            self._writer = open_database(path, writer=True)
        with suppress(DiskError):  # what an earlier process left of deletions; the next deletion tries again
            self.clear_remains()

    def close(self) -> None:
        with self._lock:
            while self._idle_readers:
                self._idle_readers.pop().close()
            self._writer.close()
            if self._pages is not None:
                self._pages.close()

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
            except SessionDeleted:
                self._idle_readers.append(db)
                raise
            except BaseException:
                db.close()
                raise
            self._idle_readers.append(db)

    @contextmanager
    def looking(self, owner: str, session_id: str) -> Iterator[sqlite3.Connection]:
        """A connection for one short look at a session that is not deleted."""
        with self.reader() as db:
            refuse_deleted(db, owner, session_id)
            yield db

    # --- deletion ---------------------------------------------------------------------------------------------

    def delete_session(self, owner: str, session_id: str) -> set[bytes]:
        with self._transaction() as db:
            return bury(db, owner, session_id, self._now_s())

    def restore_session(self, owner: str, session_id: str) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM deletions WHERE owner = ? AND session_id = ?", (owner, session_id))

    def clear_remains(self) -> None:
        while self._take_bite():
            pass
        with self.reader() as db:
            last = last_remains(db)
        if not last:
            return
        with self._lock, _disk_errors():
            self._empty_log()
            if self._has_slack():
                self._writer.execute("VACUUM")
                self._empty_log()
        with self._transaction() as db:
            forget_remains(db, last)

    def _empty_log(self) -> None:
        if not empty_log(self._writer, _LOG_WAIT_MS):
            raise DiskError("what was deleted is still in the log of the receiver's database, which somebody reads")

    def _has_slack(self) -> bool:
        """Whether copies of what was deleted may be left between the rows."""
        (page_bytes,) = self._writer.execute("PRAGMA page_size").fetchone()
        self._writer.execute("BEGIN IMMEDIATE")  # nothing moves meanwhile
        try:
            if self._pages is None:
                self._pages = self._path.open("rb", buffering=0)
            return has_slack(self._pages, page_bytes)
        finally:
            self._writer.execute("ROLLBACK")

    def _take_bite(self) -> bool:
        with self.reader() as db:
            if db.execute("SELECT 1 FROM remains WHERE generation IS NOT NULL LIMIT 1").fetchone() is None:
                return False
        with self._transaction() as db:
            return take_bite(db)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc  # neither names a value that was stored
        raise DiskError(f"the receiver's database can't be used: {why}") from exc
