"""The file of the state, opened whatever shape it is in; what can't be used is renamed aside, never changed."""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agent.system.files.own_files import check_own, open_own
from agent.system.state.state_db.schema import (
    SCHEMA_VERSION,
    Damaged,
    has_all_tables,
    is_damage,
    migrate,
    naming_damage,
    read_version,
)
from agent.system.state.state_db.tables import copy_rows

ENDINGS = ("", "-wal", "-shm")
"""A state is up to three files: the database, its log, and the index of that."""

KEPT_ASIDE = 3
"""How many states that could not be used are kept; a disk that damages one may damage many."""

LOCKED_S = 5.0

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


class Note(NamedTuple):
    """What people should know, and what they can do about it; empty when there is nothing to tell."""

    text: str = ""
    hint: str = ""


class Newer(sqlite3.DatabaseError):
    """A later version wrote it: nothing of ours may touch it."""

    def __init__(self, version: int) -> None:
        super().__init__(f"schema version {version}")
        self.version = version


def open_file(path: Path, aside_name: str, locked_s: float = LOCKED_S) -> tuple[sqlite3.Connection, Note]:
    """The database at `path`, made where there is none. Raises sqlite3.Error or OSError where nothing can be written;
    then nothing was renamed that would have been of use there."""
    try:
        return _open_whole(path, locked_s), Note()
    except Newer as exc:
        name = set_aside(path, f"{path.stem}.version-{exc.version}{path.suffix}")
        known = f"this transcriptd knows up to {SCHEMA_VERSION}"
        text = f"the state has schema version {exc.version}, {known}: it is kept as {name} and a new one was begun"
        note = Note(text, "upgrade transcriptd again")
    except sqlite3.Error as exc:
        if not is_damage(exc):
            raise
        name = set_aside(path, aside_name)
        note = Note(f"state was damaged and begun anew; the old one is {name}")
    return _open_whole(path, locked_s), note


def open_memory() -> sqlite3.Connection:
    """An empty state for as long as nothing can be written."""
    db = _connect(":memory:", LOCKED_S)
    migrate(db)
    return db


def read_into(db: sqlite3.Connection, path: Path) -> bool:
    """Copies what the file at `path` holds, as far as it can be read; whether that is all there is."""
    if not os.path.lexists(path):
        return True
    source = open_readonly(path)
    if source is None and not _size(path.with_name(path.name + "-wal")):
        source = open_readonly(path, immutable=True)
    if source is None:
        return False
    with contextlib.closing(source):
        return copy_rows(source, db, replace=True)


def open_readonly(path: Path, *, immutable: bool = False) -> sqlite3.Connection | None:
    """For those who only look; None when there is no state of this version, or it can't be read. `immutable`: without
    locks and log, which a folder that can't be written has no place for."""
    mode = "ro&immutable=1" if immutable else "ro"
    try:
        check_parts(path)
        db = _connect(f"{path.absolute().as_uri()}?mode={mode}", LOCKED_S)
    except sqlite3.Error:
        return None
    with contextlib.suppress(sqlite3.Error), naming_damage():
        if read_version(db) == SCHEMA_VERSION:
            return db
    db.close()
    return None


def identify(path: Path) -> tuple[object, ...]:
    """Changes when somebody removes or replaces one of the files that an open database goes on writing to."""
    return tuple(_identity(path.with_name(path.name + ending)) for ending in ENDINGS[:2])


def _identity(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def set_aside(path: Path, name: str) -> str:
    """Renames what is at `path`, to `name` or to one like it that is free, and gives that; empty when there was
    nothing. Only the newest few of those are kept. Raises OSError."""
    found = [ending for ending in ENDINGS if os.path.lexists(path.with_name(path.name + ending))]
    if not found:
        return ""
    name = next(one for one in _alternatives(name) if not _is_taken(path, one))
    for ending in found:
        path.with_name(path.name + ending).replace(path.with_name(name + ending))
    with contextlib.suppress(OSError):  # that an old one stays is no reason not to begin
        _forget_old(path, name)
    return name


def _alternatives(name: str) -> Iterator[str]:
    yield name
    stem, dot, suffix = name.rpartition(".")
    for number in range(2, sys.maxsize):
        yield f"{stem}-{number}{dot}{suffix}"


def _is_taken(path: Path, name: str) -> bool:
    return any(os.path.lexists(path.with_name(name + ending)) for ending in ENDINGS)


def _forget_old(path: Path, newest: str) -> None:
    aside = [one for kind in ("damaged", "version") for one in path.parent.glob(f"{path.stem}.{kind}-*{path.suffix}")]
    aside = [one for one in aside if one.name != newest and one.is_file()]
    aside.sort(key=_set_aside_ns)
    for one in aside[: -(KEPT_ASIDE - 1)]:
        for ending in ENDINGS:
            one.with_name(one.name + ending).unlink(missing_ok=True)


def _set_aside_ns(path: Path) -> int:
    """A new name is a change of the inode, where the system keeps such a time."""
    found = path.stat()
    return max(found.st_ctime_ns, found.st_mtime_ns)


# --- opening it -----------------------------------------------------------------------------------------------------


def check_parts(path: Path) -> None:
    """Raises Damaged for what is no file of ours: SQLite follows links, and waits for pipes."""
    with naming_damage():
        for ending in ENDINGS:
            check_own(path.with_name(path.name + ending))


@naming_damage()
def _open_whole(path: Path, locked_s: float) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_parts(path)
    os.close(open_own(path, os.O_RDWR | os.O_CREAT))
    is_checked = not _check_header(path) or _look_first(path, locked_s)
    db = _connect(str(path), locked_s)
    try:
        if not is_checked:
            _check_content(db)
        _prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _check_header(path: Path) -> bool:
    """False when there is no content yet. SQLite would notice most of this too, but not before it has deleted the log
    beside it, or opened the file for reading only."""
    with open(open_own(path), "rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header:
        if _size(path.with_name(path.name + "-wal")):
            raise Damaged("a log without its database")
        return False
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC) or not {header[18], header[19]} <= {1, 2}:
        raise Damaged("file is not a database")
    return True


def _look_first(path: Path, locked_s: float) -> bool:
    """Checks the content without writing: when a connection that may write is closed, the log goes into the file.
    False when an old rollback journal lies beside it, which wants to be dealt with by somebody who may write."""
    with contextlib.closing(_connect(f"{path.absolute().as_uri()}?mode=ro", locked_s)) as db:
        try:
            _check_content(db)
        except sqlite3.OperationalError as exc:
            if getattr(exc, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                raise
            return False
    return True


def _check_content(db: sqlite3.Connection) -> None:
    version = read_version(db)
    if version > SCHEMA_VERSION:
        raise Newer(version)
    if version < 0 or db.execute("pragma quick_check(1)").fetchone()[0] != "ok":
        raise Damaged("malformed")


def _connect(target: str, locked_s: float) -> sqlite3.Connection:
    uri = target.startswith("file:")
    db = sqlite3.connect(target, isolation_level=None, check_same_thread=False, timeout=locked_s, uri=uri)
    db.text_factory = _decode_text
    return db


def _decode_text(data: bytes) -> str:
    """What is no text by damage must not end the reading; its row's checksum tells."""
    return data.decode(errors="surrogateescape")


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=full")
    if sys.platform == "darwin":
        db.execute("pragma fullfsync=1")
    db.execute("pragma journal_size_limit=4194304")
    db.execute("pragma cache_size=-512")  # KiB; four times as much by default, for what is read once
    migrate(db)
    if not has_all_tables(db):
        raise Damaged("other tables than there should be")


def _size(path: Path) -> int:
    """0 for what is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
