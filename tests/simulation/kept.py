"""What `agent.system.files.keeping` does, on the disk in memory: a link where both names are on one file system, else a
copy.

`tests/contracts/test_kept.py` holds it beside real files.
"""

import os
from collections.abc import Callable, Iterator

from agent.errors import DiskError, FileVanished
from agent.system.files.keeping import Differs, Held, Kept
from tests.simulation.disk import FakeDisk, Folder, Inode


class FakeKept:
    """`between` is called in the middle of a copy: the world may go on there, or end. `is_full()`: the disk takes
    nothing."""

    def __init__(
        self,
        disk: FakeDisk,
        root: str,
        between: Callable[[], None] = lambda: None,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._disk = disk
        self._root = root
        self._between = between
        self._is_full = is_full

    def _path(self, name: str) -> str:
        return os.path.join(self._root, *name.split("/"))

    def keep(self, source: str, name: str, *, room_bytes: int) -> Kept | Differs:
        node, target = self._disk.find(source), self._path(name)
        if not isinstance(node, Inode):
            raise FileVanished(f"{source} is no longer there")
        held = self._disk.find(target)
        assert held is None or isinstance(held, Inode)
        if held is node:
            return self._kept(target, node, linked=True)
        try:
            if self._disk.device_of(source) == self._disk.device_of(target):
                return self._link(source, node, target, held)
            return self._copy(node, target, held, room_bytes)
        finally:
            self._prune(target)

    def _link(self, source: str, node: Inode, target: str, held: Inode | None) -> Kept | Differs:
        if held is not None and not node.data.startswith(held.data):
            return Differs(target, len(held.data))
        self._disk.make_folder(os.path.dirname(target))
        if held is not None:
            self._disk.unlink(target)
        self._disk.link(source, target)
        return self._kept(target, node, linked=True)

    def _copy(self, node: Inode, target: str, held: Inode | None, room_bytes: int) -> Kept | Differs:
        size, mtime_ns = len(node.data), node.mtime_ns
        if held is not None and size < len(held.data):
            return Differs(target, len(held.data))
        at = len(held.data) if held is not None and held.links == 1 else 0
        if size - at > room_bytes:
            raise DiskError(f"a copy takes {size - at} bytes more, with {room_bytes} left for copies")
        if held is not None and not node.data.startswith(held.data):
            return Differs(target, len(held.data))
        if self._is_full():
            raise DiskError("No space left on device")
        made = self._read(node, at, size)
        self._disk.make_folder(os.path.dirname(target))
        if held is not None and held.links == 1:
            self._disk.append(target, made)
        else:
            self._disk.replace(target, made)
        self._disk.set_mtime_ns(target, mtime_ns)
        copied = self._disk.find(target)
        assert isinstance(copied, Inode)
        return self._kept(target, copied, linked=False)._replace(mtime_ns=mtime_ns, copied_bytes=size - at)

    def _read(self, node: Inode, at: int, size: int) -> bytes:
        """In two pieces; a file that is rewritten meanwhile gives no copy."""
        looked = bytes(node.data[:size])
        middle = (at + size) // 2
        first = bytes(node.data[at:middle])
        self._between()
        made = first + bytes(node.data[middle:size])
        if not node.data.startswith(looked[:at] + made):
            raise DiskError("it was rewritten while it was copied")
        return made

    def let_go(self, name: str) -> None:
        target = self._path(name)
        if self._disk.exists(target):
            self._disk.unlink(target)
        self._prune(target)

    def list_kept(self) -> Iterator[Held]:
        yield from self._list(self._root, "")

    def _list(self, path: str, name: str) -> Iterator[Held]:
        folder = self._disk.find(path)
        for below, one in sorted(folder.names.items()) if isinstance(folder, Folder) else ():
            where, called = os.path.join(path, below), f"{name}/{below}".lstrip("/")
            if isinstance(one, Folder):
                yield from self._list(where, called)
            elif isinstance(one, Inode):
                device = self._disk.device_of(where)
                yield Held(called, where, len(one.data), one.mtime_ns, device, one.number, one.links)

    def drop_unfinished(self) -> int:
        return 0

    def _prune(self, target: str) -> None:
        folder = os.path.dirname(target)
        while folder != self._root and self._disk.is_empty(folder):
            self._disk.remove_folder(folder)
            folder = os.path.dirname(folder)

    def _kept(self, target: str, node: Inode, *, linked: bool) -> Kept:
        return Kept(target, linked, len(node.data), self._disk.device_of(target), node.number, node.mtime_ns)
