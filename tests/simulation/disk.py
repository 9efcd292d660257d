"""A disk in memory: what `agent.system.files.reading` sees of a real one, and what programs do to it.

Inode numbers come back as soon as a file is gone and closed, as ext4 does it; descriptors go on reading a file that
was unlinked or replaced. `tests/contracts/test_disk.py` holds it beside a real folder.
"""

import errno
import heapq
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from agent.errors import DiskError, FileVanished
from agent.system.files.reading import Entry

_BUFFER_BYTES = 1 << 20


class Inode:
    __slots__ = ("data", "device", "links", "mtime_ns", "number", "opens")

    def __init__(self, number: int, mtime_ns: int, device: int = 1) -> None:
        self.number = number
        self.device = device
        self.mtime_ns = mtime_ns
        self.data = bytearray()
        self.links = 1
        self.opens = 0


class Link:
    """A symbolic link. `target` is absolute."""

    __slots__ = ("target",)

    def __init__(self, target: str) -> None:
        self.target = target


class Folder:
    __slots__ = ("names", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.names: dict[str, Inode | Folder | Link] = {}


class FakeDisk:
    """Paths are absolute, in the system's notation. `tick_ns`: how coarse the file times are. `mounted`: a tree that is
    another file system, with numbers of its own; no file has names on both."""

    def __init__(self, now_s: Callable[[], float], mounted: str = "") -> None:
        self._now_s = now_s
        self.tick_ns = 1
        self.mounted = mounted
        self._free: dict[int, list[int]] = {1: [], 2: []}
        self._next_numbers = {1: 2, 2: 2}
        self._root = Folder(1)

    def device_of(self, path: str) -> int:
        return 2 if self.mounted and (path + os.sep).startswith(self.mounted + os.sep) else 1

    # --- what the agent sees ----------------------------------------------------------------------------------

    def open_file(self, path: str) -> "FakeFile":
        return FakeFile(self, path, self._open(path))

    def open_lines(self, path: str) -> "FakeLines":
        return FakeLines(self, path, self._open(path))

    def _open(self, path: str) -> Inode:
        found = self._find(path)
        if isinstance(found, Folder):
            raise DiskError(f"{path} can't be read: Is a directory")
        if not isinstance(found, Inode):
            raise FileVanished(f"{path} is no longer there")
        return found

    def list_folder(self, path: str) -> list[Entry]:
        found = self._find(path)
        if not isinstance(found, Folder):
            raise FileVanished(f"{path} is no longer there")
        return [self._entry(name, os.path.join(path, name), one) for name, one in found.names.items()]

    def look_at(self, path: str) -> Entry | None:
        found = self._find(path)
        return None if found is None else self._entry(os.path.basename(path), path, found)

    def is_missing(self, path: str) -> bool:
        return not isinstance(self._find(path), (Inode, Folder))

    def resolve(self, path: str) -> str:
        at: Inode | Folder | Link | None = self._root
        names = _names(path)
        for number, name in enumerate(names):
            at = at.names.get(name) if isinstance(at, Folder) else None
            if isinstance(at, Link):
                return self.resolve(os.path.join(at.target, *names[number + 1 :]))
        return path

    def _entry(self, name: str, path: str, found: Inode | Folder | Link) -> Entry:
        if isinstance(found, Link):
            return Entry(name, path, False, -1, 0, 0, 0, link=self.resolve(path))
        if isinstance(found, Folder):
            return Entry(name, path, True, 0, 0, self.device_of(path), found.number)
        return Entry(name, path, False, len(found.data), found.mtime_ns, self.device_of(path), found.number)

    # --- what programs do -------------------------------------------------------------------------------------

    def make_folder(self, path: str) -> None:
        """With all above it."""
        at = self._root
        for name in _names(path):
            below = at.names.get(name)
            if below is None:
                below = at.names[name] = Folder(self._take_number(path))
            if not isinstance(below, Folder):
                raise FileExistsError(path)
            at = below

    def append(self, path: str, data: bytes) -> None:
        """Behind the end of the file, which is made if it is not there."""
        node = self._find(path)
        if isinstance(node, (Folder, Link)):
            raise IsADirectoryError(path)
        node = node or self._create(path)
        node.data += data
        node.mtime_ns = self._now_ns()

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        """In place; what lies between the end and `offset` becomes NUL."""
        node = self._file(path)
        node.data.extend(bytes(max(0, offset - len(node.data))))
        node.data[offset : offset + len(data)] = data
        node.mtime_ns = self._now_ns()

    def truncate(self, path: str, size: int) -> None:
        """Shorter, or longer with NULs."""
        node = self._file(path)
        node.data.extend(bytes(max(0, size - len(node.data))))
        del node.data[size:]
        node.mtime_ns = self._now_ns()

    def replace(self, path: str, data: bytes) -> None:
        """A new file takes the name at once, as by rename."""
        folder, name = self._place(path)
        old = folder.names.get(name)
        node = Inode(self._take_number(path), self._now_ns(), self.device_of(path))
        node.data += data
        folder.names[name] = node
        if isinstance(old, Inode):
            self._let_go(old)

    def unlink(self, path: str) -> None:
        folder, name = self._place(path)
        if isinstance(folder.names.get(name), Link):
            del folder.names[name]
            return
        node = self._file(path)
        del folder.names[name]
        self._let_go(node)

    def rename(self, old: str, new: str) -> None:
        """A file that has the new name already goes away; where both are one file already, nothing happens."""
        node = self._file(old)
        folder, name = self._place(new)
        there = folder.names.get(name)
        if isinstance(there, (Folder, Link)):
            raise IsADirectoryError(new)
        if there is node:
            return
        folder.names[name] = node
        before, old_name = self._place(old)
        del before.names[old_name]
        if there is not None:
            self._let_go(there)

    def link(self, old: str, new: str) -> None:
        """A second name for the same file."""
        node = self._file(old)
        if self.device_of(old) != self.device_of(new):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        folder, name = self._place(new)
        if name in folder.names:
            raise FileExistsError(new)
        folder.names[name] = node
        node.links += 1

    def symlink(self, target: str, path: str) -> None:
        folder, name = self._place(path)
        if name in folder.names:
            raise FileExistsError(path)
        folder.names[name] = Link(target)

    def read(self, path: str) -> bytes:
        return bytes(self._file(path).data)

    def exists(self, path: str) -> bool:
        return self._find(path) is not None

    def mtime_ns(self, path: str) -> int:
        return self._file(path).mtime_ns

    def set_mtime_ns(self, path: str, mtime_ns: int) -> None:
        self._file(path).mtime_ns = mtime_ns

    def is_empty(self, path: str) -> bool:
        """Whether a folder is there, with nothing in it."""
        found = self._find(path)
        return isinstance(found, Folder) and not found.names

    def remove_folder(self, path: str) -> None:
        folder, name = self._place(path)
        removed = folder.names.pop(name)
        assert isinstance(removed, Folder)
        heapq.heappush(self._free[self.device_of(path)], removed.number)

    def find(self, path: str) -> "Inode | Folder | Link | None":
        return self._find(path)

    # --- inside -----------------------------------------------------------------------------------------------

    def _find(self, path: str) -> Inode | Folder | Link | None:
        """What has that name; no link is followed on the way."""
        at: Inode | Folder | Link = self._root
        for name in _names(path):
            if not isinstance(at, Folder) or name not in at.names:
                return None
            at = at.names[name]
        return at

    def _file(self, path: str) -> Inode:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(path)
        if isinstance(node, (Folder, Link)):
            raise IsADirectoryError(path)
        return node

    def _place(self, path: str) -> tuple[Folder, str]:
        above, name = os.path.split(path)
        folder = self._find(above)
        if not isinstance(folder, Folder):
            raise FileNotFoundError(path)
        return folder, name

    def _create(self, path: str) -> Inode:
        folder, name = self._place(path)
        node = folder.names[name] = Inode(self._take_number(path), 0, self.device_of(path))
        return node

    def _take_number(self, path: str) -> int:
        device = self.device_of(path)
        if self._free[device]:
            return heapq.heappop(self._free[device])
        self._next_numbers[device] += 1
        return self._next_numbers[device]

    def _let_go(self, node: Inode) -> None:
        node.links -= 1
        self.note_closed(node)

    def note_closed(self, node: Inode) -> None:
        if node.links == 0 and node.opens == 0:
            heapq.heappush(self._free[node.device], node.number)

    def _now_ns(self) -> int:
        return stamp_ns(self._now_s(), self.tick_ns)


def stamp_ns(now_s: float, tick_ns: int) -> int:
    """A file time on a disk that tells times in steps of `tick_ns`."""
    now_ns = int(now_s * 1e9)
    return now_ns - now_ns % tick_ns


def _names(path: str) -> list[str]:
    return [name for name in path.split(os.sep) if name]


class _Descriptor:
    """An open file, whatever becomes of its name."""

    def __init__(self, disk: FakeDisk, path: str, node: Inode) -> None:
        self._disk = disk
        self._path = path
        self._node = node
        self._node.opens += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._node.opens -= 1
        self._disk.note_closed(self._node)


class FakeFile(_Descriptor):
    def size(self) -> int:
        return len(self._node.data)

    def read_at(self, offset: int, count: int) -> bytes:
        return bytes(self._node.data[offset : offset + count])

    def pieces(self, offset: int, count: int) -> Iterator[bytes]:
        while count:
            data = self.read_at(offset, min(count, _BUFFER_BYTES))
            if not data:
                raise DiskError(f"{self._path} became shorter while it was read")
            yield data
            offset += len(data)
            count -= len(data)

    def find_newline(self, offset: int) -> int:
        return self._node.data.find(b"\n", offset)


class FakeLines(_Descriptor):
    """Reads ahead, as a buffered file does: what was read once may be old by the time it is asked for."""

    _at = 0
    _buffer = b""

    def readline(self, limit: int, /) -> bytes:
        found = b""
        while limit > len(found):
            if not self._buffer:
                self._buffer = bytes(self._node.data[self._at : self._at + _BUFFER_BYTES])
                self._at += len(self._buffer)
                if not self._buffer:
                    break
            end = self._buffer.find(b"\n", 0, limit - len(found)) + 1 or limit - len(found)
            found, self._buffer = found + self._buffer[:end], self._buffer[end:]
            if found.endswith(b"\n"):
                break
        return found
