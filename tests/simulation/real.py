"""Real files behind the names of `tests.simulation.disk`, with times of a clock."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from agent.core.transcripts.transcript import PieceSource
from agent.delivery.base.world import OpenFile
from agent.system.files import reading as files
from agent.system.files.reading import Entry
from tests.simulation.disk import stamp_ns


class RealFolder:
    """What programs do, done to real files; the times are those of a clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.tick_ns = 1

    def make_folder(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def append(self, path: str, data: bytes) -> None:
        with open(path, "ab") as file:
            file.write(data)
        self._touch(path)

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(data)
        self._touch(path)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(path, size)
        self._touch(path)

    def replace(self, path: str, data: bytes) -> None:
        new = f"{path}.new"
        Path(new).write_bytes(data)
        os.replace(new, path)
        self._touch(path)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def link(self, old: str, new: str) -> None:
        os.link(old, new)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, path)

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def mtime_ns(self, path: str) -> int:
        return os.stat(path).st_mtime_ns

    def set_mtime_ns(self, path: str, mtime_ns: int) -> None:
        os.utime(path, ns=(mtime_ns, mtime_ns))

    def _touch(self, path: str) -> None:
        self.set_mtime_ns(path, stamp_ns(self._now_s(), self.tick_ns))

    # --- what the agent sees ----------------------------------------------------------------------------------

    def open_file(self, path: str) -> AbstractContextManager[OpenFile]:
        return files.open_file(path)

    def open_lines(self, path: str) -> AbstractContextManager[PieceSource]:
        return files.open_lines(path)

    def list_folder(self, path: str) -> list[Entry]:
        return files.list_folder(path)

    def look_at(self, path: str) -> Entry | None:
        return files.look_at(path)

    def is_missing(self, path: str) -> bool:
        return files.is_missing(path)

    def resolve(self, path: str) -> str:
        return files.resolve(path)
