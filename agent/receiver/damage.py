"""Whether the database file lost its end, told before SQLite opens it for writing.

SQLite checks no content: pages that are missing read as zeros, an empty file passes for a new one, and whoever closes a
database last writes the log into it. So a file that is shorter than it says is looked through, reading only, and one
that lacks something is refused and left as it is. A log that lost its end needs none of this: SQLite takes the commits
that are whole. The layout of both files: https://www.sqlite.org/fileformat2.html
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.errors import AgentError, DiskError, MachineError
from agent.receiver.generations import COLUMNS, Generation, SqliteReading, find_segments
from agent.receiver.lines import Extent, measure_prefix

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_LOG_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_HUGE_PAGE_BYTES = 65536
"""The page size that two bytes can't tell; they say 1 instead."""


class _Log(NamedTuple):
    """Of a write-ahead log, up to its last commit: which pages it has, and how many the database had behind it."""

    numbers: frozenset[int] = frozenset()
    pages: int = 0


def refuse_cut(path: Path) -> None:
    """Raises MachineError when the file is there and lacks what it had."""
    if path.with_name(path.name + "-journal").exists():
        return  # it was just being made, and SQLite takes that back
    try:
        log = _read_log(path.with_name(path.name + "-wal"))
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            size = file.seek(0, 2)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise DiskError(f"{path.name} can't be read: {exc.strerror}") from exc
    if size < _HEADER_BYTES:
        if size or log.pages:
            raise _cut(path, f"{size} bytes")
        return  # made, and not written to yet
    if not header.startswith(_MAGIC):
        return  # none of ours, which SQLite says itself
    page_bytes = _int(header[16:18])
    whole = size // (_HUGE_PAGE_BYTES if page_bytes == 1 else max(1, page_bytes))
    pages = log.pages or _int(header[28:32])
    if not log.numbers.issuperset(range(whole + 1, pages + 1)) and not _is_all_there(path):
        raise _cut(path, f"{whole} of {pages} pages")


def _cut(path: Path, rest: str) -> MachineError:
    return MachineError(
        f"{path.name} is cut: it has {rest}",
        hint="bring back a copy, or move it away with what lies beside it: agents send everything again",
    )


def _int(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _read_log(path: Path) -> _Log:
    """Checksums are not computed: a log that is torn only seems to have more than SQLite takes."""
    numbers: set[int] = set()
    pending: set[int] = set()
    pages = 0
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return _Log()
    with file:
        header = file.read(_LOG_HEADER_BYTES)
        page_bytes, salts = _int(header[8:12]), header[16:24]
        while len(frame := file.read(_FRAME_HEADER_BYTES)) == _FRAME_HEADER_BYTES and frame[8:16] == salts:
            end = file.seek(page_bytes, 1)
            pending.add(_int(frame[:4]))
            if behind := _int(frame[4:8]):
                if end > file.seek(0, 2):
                    break
                file.seek(end)
                numbers |= pending
                pending, pages = set(), behind
    return _Log(frozenset(numbers), pages)


def _is_all_there(path: Path) -> bool:
    """Whether the tables are sound and each generation's entries give its chain hash."""

    @contextmanager
    def connect() -> Iterator[sqlite3.Connection]:
        yield db

    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            if db.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
                return False
            for row in db.execute(f"SELECT {COLUMNS} FROM generations g").fetchall():  # noqa: S608 - names of ours
                generation = Generation(*row)
                reading = SqliteReading(connect, generation, find_segments(db, generation))
                if measure_prefix(reading, generation.entry_count, Extent()).chain != generation.chain:
                    return False
    except (sqlite3.Error, AgentError):
        return False
    return True
