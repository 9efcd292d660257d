"""The open database: what is written, what is read, and how it comes back to its file."""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from agent.core.privacy.rules import Grounds
from agent.core.transcripts.session import Facts, RejectedRow
from agent.errors import DiskError
from agent.system.state.state_db import tables
from agent.system.state.state_db.opening import (
    Note,
    identify,
    open_file,
    open_memory,
    open_readonly,
    read_into,
    set_aside,
)
from agent.system.state.state_db.rows import AuditRow, Changes, TrackRow
from agent.system.state.state_db.schema import is_damage, naming_damage, transaction
from agent.system.state.state_db.tables import Table, copy_rows, insert_rows, read_rows

_NOTHING = Note()
_MEMORY_HINT = "make room, or let it be written; transcriptd goes on with it by itself"

_AMONG = "where session_id in (select value from json_each(?))"

_MEND_LOCKED_S = 0.2
"""A daemon at work waits this long for a lock, each time it tries to come back to its file."""


_CLOSED_TO_US = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}
"""What may pass, but not for files that are open already. A full disk has room again for those too."""


class _Trouble(StrEnum):
    """Why a state leaves its file."""

    MOVED = "was removed or replaced"
    DAMAGED = "was damaged"
    REFUSED = "refused to be written"


class _Home(NamedTuple):
    """Where a state belongs."""

    path: Path
    aside_name: str


class StateDb:
    """Open with `open_state` or `open_state_readonly`."""

    def __init__(self, db: sqlite3.Connection, home: _Home | None, note: Note = _NOTHING) -> None:
        self._db = db
        self._home = home
        self._note = note
        self._identity = identify(home.path) if home else ()
        self._trouble: _Trouble | None = None
        self._why_in_memory = ""
        self._knows_all = True
        """While in memory: the file holds nothing that is not known here."""

    @property
    def note(self) -> str:
        """Why this is not simply the database that was there before; empty when it is."""
        if self._home and self._why_in_memory:
            return f"state is kept in memory only: {self._home.path} can't be written ({self._why_in_memory})"
        return self._note.text

    @property
    def hint(self) -> str:
        """What to do about the note."""
        return _MEMORY_HINT if self._why_in_memory else self._note.hint

    def close(self) -> None:
        self._db.close()

    # --- writing ------------------------------------------------------------------------------------------------

    def commit(self, changes: Changes) -> None:
        """All or nothing, on disk when it returns. Raises DiskError."""
        with self._writing(), transaction(self._db) as db:
            insert_rows(db, tables.TRACKS, map(tables.encode_track, changes.tracks))
            insert_rows(db, tables.TOMBSTONES, map(tables.encode_rejected, changes.tombstones))
            insert_rows(db, tables.SESSIONS, (tables.encode_facts(*one) for one in changes.sessions))
            insert_rows(db, tables.METAS, changes.metas)
            insert_rows(db, tables.AUDIT, map(tables.encode_audit, changes.audit))
            insert_rows(db, tables.SETTLED, changes.settled)
            insert_rows(db, tables.GROUNDS, (tables.encode_grounds(*one) for one in changes.grounds))

    def settle(self, key: str, value: str) -> str:
        """The value of `key`; `value` becomes it the first time it is asked."""
        known = dict(self._rows(tables.SETTLED))
        if key not in known:
            with self._writing(), transaction(self._db) as db:
                insert_rows(db, tables.SETTLED, [(key, value)])
        return str(known.get(key, value))

    def settled(self, key: str) -> str:
        """The value of `key`, empty without one."""
        return str(dict(self._rows(tables.SETTLED)).get(key, ""))

    def prune_audit(self, before_s: float, most: int) -> None:
        """Forgets what was noted before that wall time, and all but the newest `most` rows. Raises DiskError."""
        with self._writing(), transaction(self._db) as db:
            db.execute("delete from audit where at_s < ?", (before_s,))
            newest = "select seq from audit order by seq desc limit 1 offset ?"
            db.execute(f"delete from audit where seq <= ({newest})", (most,))  # noqa: S608 - words of this page only

    # --- reading ------------------------------------------------------------------------------------------------

    def tracks(self) -> Iterator[TrackRow]:
        return map(tables.decode_track, self._rows(tables.TRACKS))

    def tracks_of(self, sessions: Iterable[str]) -> Iterator[TrackRow]:
        """The same of these sessions only."""
        table = tables.TRACKS._replace(select=f"{tables.TRACKS.select} {_AMONG}")
        return map(tables.decode_track, self._rows(table, (json.dumps(list(sessions)),)))

    def session_ids(self) -> set[str]:
        """Of all tracks, damaged ones included."""
        try:
            with naming_damage():
                return {row[0] for row in self._db.execute("select distinct session_id from tracks")}
        except sqlite3.Error as exc:
            self._note_damage(exc)
            return set()

    def tombstones(self) -> Iterator[RejectedRow]:
        return map(tables.decode_rejected, self._rows(tables.TOMBSTONES))

    def sessions(self) -> Iterator[tuple[str, Facts]]:
        return map(tables.decode_facts, self._rows(tables.SESSIONS))

    def metas(self) -> Iterator[tuple[str, str, str]]:
        return ((row[0], row[1], row[2]) for row in self._rows(tables.METAS))

    def grounds(self) -> Iterator[tuple[str, Grounds]]:
        return map(tables.decode_grounds, self._rows(tables.GROUNDS))

    def audit(self) -> Iterator[AuditRow]:
        """In the order in which it was noted."""
        return map(tables.decode_audit, self._rows(tables.AUDIT))

    def _rows(self, table: Table, values: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """What is damaged is left out, and remembered for `mend`. Raises DiskError where nobody will mend it."""
        return read_rows(self._db, table, self._note_damage, values)

    def _note_damage(self, exc: sqlite3.Error | None) -> None:
        if exc is not None and self._home is None:
            raise DiskError(f"the state can't be read: {exc}") from exc
        self._trouble = _Trouble.DAMAGED

    # --- coming home --------------------------------------------------------------------------------------------

    def mend(self) -> bool:
        """Whether the state is whole and in its file, after a try to bring it there: from memory when the place can be
        written again; written anew when the file was damaged, removed or replaced. Costs two looks at the disk when
        all is well."""
        if self._home is None:
            return True
        if not self._why_in_memory:
            trouble = _Trouble.MOVED if identify(self._home.path) != self._identity else self._trouble
            if trouble is None:
                return True
            self._retreat(self._home, trouble)
        return self._come_home(self._home)

    def _retreat(self, home: _Home, trouble: "_Trouble") -> None:
        """Takes all that can be read into memory, and puts what is at the file's place out of the way."""
        memory = open_memory()
        knows_all = copy_rows(self._db, memory, replace=True)
        name = ""
        with contextlib.suppress(OSError):  # where nothing can be renamed, the state will be written over it
            if trouble is _Trouble.MOVED:  # before the close, which deletes the log by its name, whosever that is
                name = set_aside(home.path, home.aside_name)
            self._db.close()
            if trouble is _Trouble.DAMAGED:
                name = set_aside(home.path, home.aside_name)
        self._db.close()
        self._note = Note(f"state {trouble} and written anew; the old one is {name}") if name else _NOTHING
        self._be_in_memory(memory, f"it {trouble}", knows_all=knows_all)

    def _be_in_memory(self, memory: sqlite3.Connection, why: str, *, knows_all: bool) -> None:
        self._db, self._why_in_memory, self._knows_all, self._trouble = memory, why, knows_all, None

    def _come_home(self, home: _Home) -> bool:
        try:
            db, note = open_file(home.path, home.aside_name, _MEND_LOCKED_S)
            try:
                with naming_damage():
                    copy_rows(self._db, db, replace=self._knows_all)
            except BaseException:
                db.close()
                raise
        except (sqlite3.Error, OSError) as exc:
            self._why_in_memory = _words(exc)
            return False
        self._db.close()
        self._db, self._why_in_memory, self._identity = db, "", identify(home.path)
        self._note = note if note.text else self._note
        return True

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with naming_damage():
                yield
        except sqlite3.Error as exc:
            if is_damage(exc):
                self._trouble = _Trouble.DAMAGED
            elif getattr(exc, "sqlite_errorcode", 0) & 0xFF in _CLOSED_TO_US:
                self._trouble = self._trouble or _Trouble.REFUSED
            raise DiskError(f"the state can't be written: {exc}") from exc


def open_state(path: Path, aside_name: str) -> StateDb:
    """The database at `path`, whatever shape it is in: one that can't be used is renamed to `aside_name` beside it
    and begun anew; where nothing can be written, the state lives in memory until it can. `note` says so."""
    home = _Home(path, aside_name)
    try:
        db, note = open_file(path, aside_name)
    except (sqlite3.Error, OSError) as exc:
        memory = open_memory()
        state = StateDb(memory, home)
        state._be_in_memory(memory, _words(exc), knows_all=read_into(memory, path))
        return state
    return StateDb(db, home, note)


def open_state_readonly(path: Path) -> StateDb | None:
    """For commands beside a daemon; None when there is none or it can't be read."""
    db = open_readonly(path)
    return None if db is None else StateDb(db, None)


def _words(exc: sqlite3.Error | OSError) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
