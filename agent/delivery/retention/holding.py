"""Does what the keeper asks: second names for files, or copies of them within a limit, and their end."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from agent.delivery.state.tasks import FoundHeld, Held, HeldOutcome, HeldTask, LetGo, LetGoTask, NotHeld
from agent.errors import DiskError, FileVanished
from agent.system.files.keeping import Differs, Kept
from agent.system.files.keeping import Held as KeptFile

log = logging.getLogger(__name__)


class Keeping(Protocol):
    """`system.files.keeping.KeptFiles`, as far as it is needed here."""

    def keep(self, source: str, name: str, *, room_bytes: int) -> Kept | Differs: ...
    def let_go(self, name: str) -> None: ...
    def list_kept(self) -> Iterator[KeptFile]: ...
    def drop_unfinished(self) -> int: ...


class Holding:
    """For one thread. `limit_bytes`: of all copies together; links cost nothing."""

    def __init__(self, kept_files: Keeping, limit_bytes: int) -> None:
        self._kept_files = kept_files
        self._limit_bytes = limit_bytes
        self._copies: dict[str, int] = {}
        self.copied_bytes = 0
        """The sum is kept beside it: there may be 100,000, and each asks for what is left."""

    def find(self) -> list[FoundHeld]:
        """What an earlier life held; nothing when that can't be seen. A file with no name but ours counts as a copy,
        whatever it was: what it is the beginning of, only its content tells."""
        found = []
        try:
            self._kept_files.drop_unfinished()
            kept = sorted(self._kept_files.list_kept())
            names = Counter((one.device, one.inode) for one in kept)
            for one in kept:
                is_link = one.links > names[one.device, one.inode]
                self._count(one.name, 0 if is_link else one.size)
                inode = one.inode if is_link else 0
                found.append(FoundHeld(one.name, one.path, one.size, one.mtime_ns, inode))
        except DiskError as exc:
            log.warning("%s; files held against deletion are left alone", exc.message)
            return []
        return found

    def do(self, task: HeldTask) -> HeldOutcome:
        try:
            if isinstance(task, LetGoTask):
                self._kept_files.let_go(task.name)
                self._count(task.name, 0)
                return LetGo(task.stream)
            room_bytes = max(0, self._limit_bytes - self.copied_bytes)
            kept = self._kept_files.keep(task.path, task.name, room_bytes=room_bytes)
        except FileVanished:
            return NotHeld(task.stream, "")
        except DiskError as exc:
            return NotHeld(task.stream, exc.message)
        if isinstance(kept, Differs):
            return NotHeld(task.stream, "", task.path)
        self._count(task.name, kept.size if task.ours or not kept.linked else 0)
        inode = kept.inode if kept.linked else 0
        return Held(task.stream, kept.path, inode, kept.size, kept.mtime_ns, task.path)

    def _count(self, name: str, copied_bytes: int) -> None:
        self.copied_bytes += copied_bytes - self._copies.pop(name, 0)
        if copied_bytes:
            self._copies[name] = copied_bytes
