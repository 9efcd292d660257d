"""Transcripts on disk, read only. No descriptor is kept open longer than one piece of work.

Every path is taken as it stands: where a link is a part of it, nothing is there. `resolve` tells where a link leads;
whoever follows it looks first whether that is a place to be read.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from agent.core.transcripts.packed import PackedDamage, is_packed, unpack
from agent.errors import DiskError, FileVanished
from agent.system.files import no_links
from agent.system.files.own_files import read_regular

_READ_BYTES = 1 << 20


class Entry(NamedTuple):
    """A name in a folder. Sizes in bytes, -1 where the system would not say; times in ns since 1970."""

    name: str
    path: str
    is_folder: bool
    size: int
    mtime_ns: int
    device: int
    inode: int
    owner: int = -1
    """The user's number; -1 where it is not known. Always 0 on Windows."""
    link: str = ""
    """Where a link leads, resolved, whether or not anything is there. Nothing else is known of one."""
    oddity: str = ""
    """What it is, where it is neither file, folder nor link."""


class _OpenFile:
    """A file, open for reading until the block ends."""

    def __init__(self, path: str, buffering: int) -> None:
        self._path = path
        try:
            descriptor = no_links.open_at(path)
        except OSError as exc:
            raise _failed(path, exc) from exc
        try:
            _check_regular(path, os.fstat(descriptor).st_mode)
            self._file: BinaryIO = os.fdopen(descriptor, "rb", buffering=buffering)
        except BaseException:
            os.close(descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _check_end(self) -> None:
        """A read that ends too early must not look like a file that was cut: what was sent would seem to be gone."""
        at, size = self._file.tell(), os.fstat(self._file.fileno()).st_size
        if at < size and not self._file.read(1):
            raise DiskError(f"{self._path} gives no more than {at} of its {size} bytes")
        self._file.seek(at)


def _check_regular(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise _failed(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    if not stat.S_ISREG(mode):
        raise DiskError(f"{path} can't be read: it is no regular file")


class TranscriptFile(_OpenFile):
    """One file, open for reading. Every failure is a DiskError, or FileVanished when it is no longer there."""

    def __init__(self, path: str) -> None:
        super().__init__(path, buffering=0)

    def size(self) -> int:
        try:
            return os.fstat(self._file.fileno()).st_size
        except OSError as exc:
            raise _failed(self._path, exc) from exc

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer only at the end of the file."""
        try:
            self._file.seek(offset)
            data = self._file.read(count)
            if len(data) == count:
                return data
            parts, missing = [data], count - len(data)
            while missing and (data := self._file.read(missing)):
                parts.append(data)
                missing -= len(data)
            if missing:
                self._check_end()
            return b"".join(parts)
        except OSError as exc:
            raise _failed(self._path, exc) from exc

    def pieces(self, offset: int, count: int) -> Iterator[bytes]:
        """`count` bytes from `offset` in pieces of at most 1 MiB; raises DiskError when the file ends before."""
        while count:
            data = self.read_at(offset, min(count, _READ_BYTES))
            if not data:
                raise DiskError(f"{self._path} became shorter while it was read")
            yield data
            offset += len(data)
            count -= len(data)

    def find_newline(self, offset: int) -> int:
        """Offset of the first 0x0A at or after `offset`; -1 without one."""
        while data := self.read_at(offset, _READ_BYTES):
            at = data.find(b"\n")
            if at >= 0:
                return offset + at
            offset += len(data)
        return -1


class LineSource(_OpenFile):
    """A file from its first byte, for `core.transcripts.transcript.walk_entries`."""

    def __init__(self, path: str) -> None:
        super().__init__(path, buffering=_READ_BYTES)

    def readline(self, limit: int, /) -> bytes:
        try:
            line = self._file.readline(limit)
            if not line:
                self._check_end()
            return line
        except OSError as exc:
            raise _failed(self._path, exc) from exc


class PackedFile(TranscriptFile):
    """One packed transcript, as if it were not: sizes and offsets are those of its lines. Reading on costs nothing
    extra, reading further back begins anew."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._pieces: Iterator[bytes] = iter(())
        self._piece = b""
        self._at = -1
        """Offset of the piece; -1 before the first."""

    def size(self) -> int:
        try:
            seen = os.fstat(self._file.fileno())
        except OSError as exc:
            raise _failed(self._path, exc) from exc
        return _unpacked_bytes(self._path, (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns))

    def read_at(self, offset: int, count: int) -> bytes:
        parts = []
        while count:
            piece = self._piece_at(offset)[:count]
            if not piece:
                break
            parts.append(piece)
            offset, count = offset + len(piece), count - len(piece)
        return b"".join(parts)

    def _piece_at(self, offset: int) -> bytes:
        """What stands from `offset` on, as far as one piece goes; nothing behind the end."""
        with _unpacking(self._path):
            if self._at < 0 or offset < self._at:
                self._pieces, self._piece, self._at = unpack(self._file), b"", 0
            while offset >= self._at + len(self._piece):
                found = next(self._pieces, None)
                if found is None:
                    return b""
                self._at, self._piece = self._at + len(self._piece), found
        return self._piece[offset - self._at :]


class PackedLines(_OpenFile):
    """A packed transcript from its first byte."""

    def __init__(self, path: str) -> None:
        super().__init__(path, buffering=_READ_BYTES)
        self._pieces: Iterator[bytes] | None = None
        self._rest = b""

    def readline(self, limit: int, /) -> bytes:
        with _unpacking(self._path):
            if self._pieces is None:
                self._pieces = unpack(self._file)
            while (end := self._rest.find(b"\n", 0, limit)) < 0 and len(self._rest) < limit:
                piece = next(self._pieces, b"")
                if not piece:
                    break
                self._rest += piece
        cut = end + 1 if end >= 0 else limit
        line, self._rest = self._rest[:cut], self._rest[cut:]
        return line


@lru_cache(maxsize=64)
def _unpacked_bytes(path: str, _identity: tuple[int, ...]) -> int:
    """Each is asked for its size again and again, and only unpacking all of it tells."""
    with TranscriptFile(path) as file, _unpacking(path):
        return sum(map(len, unpack(file._file)))


@contextmanager
def _unpacking(path: str) -> Iterator[None]:
    try:
        yield
    except PackedDamage as exc:
        raise DiskError(f"{path} {exc}") from exc
    except OSError as exc:
        raise _failed(path, exc) from exc


def open_file(path: str) -> TranscriptFile:
    return PackedFile(path) if is_packed(path) else TranscriptFile(path)


def open_lines(path: str) -> LineSource | PackedLines:
    return PackedLines(path) if is_packed(path) else LineSource(path)


def list_folder(path: str) -> list[Entry]:
    """What stands in a folder, in no order. A name that goes away meanwhile is left out; one that the system does not
    want to tell about has size -1. Raises DiskError or FileVanished."""
    try:
        with no_links.list_at(path) as names:
            return [entry for one in names if (entry := _look(one, path)) is not None]
    except OSError as exc:
        raise _failed(path, exc) from exc


def _look(one: os.DirEntry[str], folder: str) -> Entry | None:
    name = one.name
    path = folder + name if folder.endswith(os.sep) else f"{folder}{os.sep}{name}"
    try:
        if no_links.is_link(one):
            return _link(name, path)
        seen = one.stat(follow_symlinks=False)
        if os.name == "nt":
            seen = os.stat(path)  # the listing's sizes are stale and its inode 0 there
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return Entry(name, path, False, -1, 0, 0, 0)
    return _entry(name, path, seen)


def look_at(path: str) -> Entry | None:
    """The file, folder or link at `path`; None when nothing of the kind is there or may be seen."""
    try:
        seen = no_links.stat_at(path)
    except OSError:
        return None
    return (
        _link(os.path.basename(path), path)
        if stat.S_ISLNK(seen.st_mode)
        else _entry(os.path.basename(path), path, seen)
    )


def is_missing(path: str) -> bool:
    """Whether the system says that nothing is there but perhaps a link, which is not the same as that it may not be
    seen."""
    try:
        return stat.S_ISLNK(no_links.stat_at(path).st_mode)
    except OSError as exc:
        return _says_missing(exc)


def resolve(path: str) -> str:
    """The path without links, as far as there is anything."""
    return os.path.realpath(path)


def _link(name: str, path: str) -> Entry:
    return Entry(name, path, False, -1, 0, 0, 0, link=resolve(path))


def _entry(name: str, path: str, seen: os.stat_result) -> Entry:
    kind = stat.S_IFMT(seen.st_mode)
    oddity = "" if kind in _USUAL else _ODDITIES.get(kind, "no file")
    where = seen.st_size, seen.st_mtime_ns, seen.st_dev, seen.st_ino, seen.st_uid
    return Entry(name, path, kind == stat.S_IFDIR, *where, "", oddity)


_USUAL = (stat.S_IFREG, stat.S_IFDIR)
_ODDITIES = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def _says_missing(exc: OSError) -> bool:
    return isinstance(exc, (FileNotFoundError, NotADirectoryError)) or exc.errno == errno.ELOOP


def read_text(path: Path) -> str | None:
    """The text of a small UTF-8 file, or None without one. Raises DiskError."""
    try:
        return read_regular(path).decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise DiskError(f"{path} can't be read: {getattr(exc, 'strerror', None) or 'not UTF-8'}") from exc


def _failed(path: str, exc: OSError) -> DiskError:
    if exc.errno == errno.ELOOP:
        return FileVanished(f"{path} is reached by a link now, which is not followed")
    if _says_missing(exc):
        return FileVanished(f"{path} is no longer there")
    return DiskError(f"{path} can't be read: {exc.strerror or 'input/output error'}")
