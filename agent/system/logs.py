"""Where the log goes, and how it is read again: systemd's journal, a stream that somebody reads, or files of our own.

Sources: systemd.exec(5) for JOURNAL_STREAM, sd-daemon(3) for the priorities.
"""

import contextlib
import logging
import logging.handlers
import os
import re
import stat
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

from agent.system.files.own_files import open_own

NAME = "transcriptd.log"
FILE_BYTES = 2_000_000
FILES = 5
"""Of that size at most; the oldest goes."""

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class Sink(StrEnum):
    """What a log is written to."""

    JOURNAL = "journal"
    STREAM = "stream"
    FILE = "file"


def choose_sinks(wanted: str, environment: Mapping[str, str], stream: TextIO | None) -> tuple[Sink, ...]:
    """`wanted`: the setting. A stream is one where somebody is at the other end: a terminal, a pipe, a socket."""
    own = Sink.JOURNAL if is_journal(environment, stream) else Sink.STREAM if _is_read(stream) else None
    if wanted == "never":
        return (own or Sink.STREAM,) if stream is not None else ()
    if wanted == "always":
        return (own, Sink.FILE) if own is not None else (Sink.FILE,)
    return (own or Sink.FILE,)


def is_journal(environment: Mapping[str, str], stream: TextIO | None) -> bool:
    """Whether systemd's journal is at the other end. The variable is inherited, so device and inode have to agree."""
    seen = _look(stream)
    return seen is not None and environment.get("JOURNAL_STREAM") == f"{seen.st_dev}:{seen.st_ino}"


def _is_read(stream: TextIO | None) -> bool:
    seen = _look(stream)
    if seen is None or stream is None:
        return False
    return stream.isatty() or stat.S_ISFIFO(seen.st_mode) or stat.S_ISSOCK(seen.st_mode)


def _look(stream: TextIO | None) -> os.stat_result | None:
    try:
        return None if stream is None else os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or none of the system's
        return None


class Priorities(logging.Formatter):
    """What `inner` makes of a record, each line with the priority that the journal reads and removes."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITIES.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in self._inner.format(record).split("\n"))


class LogFile(logging.handlers.RotatingFileHandler):
    """`transcriptd.log` in `folder`, for its owner only. Nothing that goes wrong with it is anybody's trouble: what
    can't be written is lost, and the next line tries again."""

    def __init__(self, folder: Path, file_bytes: int = FILE_BYTES, files: int = FILES) -> None:
        super().__init__(
            folder / NAME,
            maxBytes=file_bytes,
            backupCount=files - 1,
            encoding="utf-8",
            delay=True,
            errors="backslashreplace",
        )
        self._folder = folder

    def _open(self) -> Any:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = open_own(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with contextlib.suppress(OSError):
            if os.name == "posix" and os.fstat(descriptor).st_uid == os.getuid():
                os.fchmod(descriptor, 0o600)
                self._folder.chmod(0o700)
        return open(descriptor, "a", encoding=self.encoding, errors=self.errors)

    def doRollover(self) -> None:  # noqa: N802 - the name that logging gives it
        """Where files can't be renamed (somebody reads one, on Windows), the one goes on growing."""
        with contextlib.suppress(OSError):
            super().doRollover()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as above
        with contextlib.suppress(OSError, ValueError):
            if self.stream is not None:
                self.stream.close()
        self.stream = None


# --- reading it again ---------------------------------------------------------------------------------------------


def find_log_files(folder: Path) -> list[Path]:
    """Oldest first; those that are there."""
    names = [f"{NAME}.{number}" for number in range(FILES - 1, 0, -1)] + [NAME]
    return [folder / name for name in names if os.path.lexists(folder / name)]


def read_last(folder: Path, count: int) -> list[str]:
    """The newest lines, oldest of them first. A file that can't be read is left out. Raises DiskError for one that is
    not ours."""
    last: deque[str] = deque(maxlen=max(count, 0))
    for path in find_log_files(folder):
        with (
            contextlib.suppress(OSError),
            open(open_own(path), encoding="utf-8", errors="backslashreplace") as file,
        ):
            last.extend(line.rstrip("\n") for line in file)
    return list(last)


def follow(folder: Path, wait: Callable[[], bool]) -> Iterator[str]:
    """What is added from now on, across rotations, until `wait()` says that it is enough."""
    path = folder / NAME
    tail = _Tail(path, from_end=True)
    try:
        while True:
            yield from tail.read()
            if not wait():
                return
            if tail.is_replaced():
                yield from tail.read()
                tail.close()
                tail = _Tail(path, from_end=False)
    finally:
        tail.close()


class _Tail:
    """One log file as it was found: its new lines, whatever its name becomes."""

    def __init__(self, path: Path, *, from_end: bool) -> None:
        self._path = path
        self._rest = b""
        self._file: Any = None
        with contextlib.suppress(OSError):
            self._file = open(open_own(path), "rb")  # noqa: SIM115 - `close` closes it
            self._file.seek(0, os.SEEK_END if from_end else os.SEEK_SET)

    def read(self) -> Iterator[str]:
        if self._file is None:
            return
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            yield line.decode(errors="backslashreplace")

    def is_replaced(self) -> bool:
        try:
            seen = self._path.lstat()
        except OSError:
            return False  # between two names; the next look finds it
        if self._file is None:
            return True
        known = os.fstat(self._file.fileno())
        return (seen.st_dev, seen.st_ino) != (known.st_dev, known.st_ino) or seen.st_size < self._file.tell()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


# --- the journal --------------------------------------------------------------------------------------------------


def find_unit(cgroup: str) -> str:
    """The unit of `/proc/PID/cgroup`'s text, as arguments for journalctl; empty where none is."""
    for line in cgroup.splitlines():
        path = line.rpartition(":")[2]
        unit = next((name for name in reversed(path.split("/")) if name.endswith(".service")), "")
        if unit and re.fullmatch(r"[\w@.\\:-]+", unit) and not unit.startswith("user@"):
            return f"--user-unit={unit}" if "/user@" in path else f"--unit={unit}"
    return ""


def read_unit() -> str:
    """That of this process."""
    try:
        return find_unit(Path("/proc/self/cgroup").read_text(encoding="ascii", errors="replace"))
    except OSError:
        return ""


def where(exc: BaseException) -> str:
    """The kind and place of an error without its values: those may be transcript text."""
    frames = traceback.extract_tb(exc.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"{type(exc).__name__}{place}"
