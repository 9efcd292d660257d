"""Files of a session that comes from elsewhere: made in a folder of their own, then put where they belong, all or
nothing, and never over anything.

Nothing is followed on the way: a link in the place of a folder or file ends it. What lies in the folder of their own
has no name that a coding agent's transcripts have, so that nobody takes it for one.
"""

import contextlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from agent.errors import DiskError, DiskFull, UsageError

PREFIX = ".transcriptd-pull-"
_STALE_S = 86_400.0
"""What an attempt of a day ago left is nobody's any more."""

_LOOK_BYTES = 16 << 20
"""How often the room that is left is looked at."""

KEPT_FREE_BYTES = 256 << 20
"""So much stays free on the disk, whatever a server sends."""


class Seen(NamedTuple):
    """What a look at a file gives; see `core.transcripts.session.Observation`."""

    size: int
    mtime_ns: int
    device: int
    inode: int


class Landing:
    """A place below `root` where a session comes together. The block takes away what was not put in place."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folder = ""
        self._begun: list[Arrival] = []
        self._put: list[str] = []

    def __enter__(self) -> Self:
        try:
            os.makedirs(self._root, mode=0o700, exist_ok=True)
            self._sweep()
            self._folder = os.path.join(self._root, PREFIX + secrets.token_hex(8))
            os.mkdir(self._folder, 0o700)
        except OSError as exc:
            raise _failed(self._root, exc) from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._begun:
            one.drop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _sweep(self) -> None:
        for name in os.listdir(self._root):
            path = os.path.join(self._root, name)
            if name.startswith(PREFIX) and not os.path.islink(path):
                with contextlib.suppress(OSError):
                    if time.time() - os.stat(path).st_mtime > _STALE_S:
                        shutil.rmtree(path, ignore_errors=True)

    def begin(self) -> "Arrival":
        """A new file."""
        made = Arrival(os.path.join(self._folder, str(len(self._begun))))
        self._begun.append(made)
        return made

    def room_bytes(self) -> int:
        try:
            return max(0, shutil.disk_usage(self._folder).free - KEPT_FREE_BYTES)
        except OSError as exc:
            raise _failed(self._folder, exc) from exc

    def check(self, parts: Sequence[str]) -> str:
        """The path of `parts` below the root. Raises UsageError when something that is there stands in the way: then
        nothing may be put there. Changes nothing."""
        path = self._root
        for depth, part in enumerate(parts):
            path = os.path.join(path, part)
            try:
                seen = os.lstat(path)
            except FileNotFoundError:
                return os.path.join(self._root, *parts)
            except OSError as exc:
                raise _failed(path, exc) from exc
            if depth == len(parts) - 1:
                raise UsageError(f"{path} is there already", hint="move it away first")
            if not stat.S_ISDIR(seen.st_mode) or _leads_elsewhere(seen):
                raise UsageError(f"{path} is a link or a file where a folder is needed", hint="move it away first")
            if part not in _names(os.path.dirname(path)):
                raise UsageError(f"{path} is another folder there, spelt otherwise", hint="move it away first")
        raise AssertionError("parts are never empty")  # pragma: no cover

    def put(self, arrival: "Arrival", parts: Sequence[str]) -> str:
        """Gives a finished file its place, in one step and only if nothing is there; its path. Raises UsageError as
        `check` does, and DiskError."""
        path = self.check(parts)
        folder = self._root
        try:
            for part in parts[:-1]:
                folder = os.path.join(folder, part)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
            self.check(parts)  # what was made is what was meant
            _put_once(arrival.path, path)
            self._put.append(path)
            _sync_folder(folder)
        except OSError as exc:
            raise _failed(path, exc) from exc
        return path

    def take_back(self) -> None:
        """Removes again what was put in place. Never fails."""
        for path in reversed(self._put):
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._put.clear()


class Arrival:
    """One file under way. Only its owner may read it, as transcripts are."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self._looked = 0
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            self._file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        except OSError as exc:
            raise _failed(path, exc) from exc

    def write(self, data: bytes) -> None:
        """Raises DiskFull before the disk is."""
        if self.size - self._looked >= _LOOK_BYTES:
            self._looked = self.size
            if shutil.disk_usage(os.path.dirname(self.path)).free < KEPT_FREE_BYTES:
                raise DiskFull(f"less than {KEPT_FREE_BYTES >> 20} MiB would be left on the disk of {self.path}")
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        except OSError as exc:
            raise _failed(self.path, exc) from exc
        self.size += len(data)

    def cut(self, size: int) -> None:
        """Back to that many bytes."""
        try:
            self._file.truncate(size)
            self._file.seek(size)
        except OSError as exc:
            raise _failed(self.path, exc) from exc
        self.size = self._looked = size

    def drop(self) -> None:
        """Lets go of it, whatever it has become."""
        self._file.close()

    def end(self) -> Seen:
        """Brings it to the disk."""
        try:
            with self._file:
                os.fsync(self._file.fileno())
                seen = os.fstat(self._file.fileno())
        except OSError as exc:
            raise _failed(self.path, exc) from exc
        return Seen(seen.st_size, seen.st_mtime_ns, seen.st_dev, seen.st_ino)


def _leads_elsewhere(seen: os.stat_result) -> bool:
    """A link, or what Windows has of the kind."""
    return stat.S_ISLNK(seen.st_mode) or bool(getattr(seen, "st_reparse_tag", 0))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as exc:
        raise _failed(folder, exc) from exc


def _put_once(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise UsageError(f"{target} is there already", hint="move it away first") from None
    except OSError:
        # No second names on this file system. Windows itself refuses to rename over something.
        if os.path.lexists(target):
            raise UsageError(f"{target} is there already", hint="move it away first") from None
        os.rename(source, target)
    else:
        os.unlink(source)


def _sync_folder(folder: str) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(path: str, exc: OSError) -> DiskError:
    import errno

    kind = DiskFull if exc.errno in (errno.ENOSPC, errno.EDQUOT) else DiskError
    return kind(f"{path} can't be written: {exc.strerror or 'input/output error'}")
