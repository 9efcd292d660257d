"""Files that can't always be read, and a moment before each look in which the world may go on."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from agent.core.transcripts.transcript import PieceSource
from agent.delivery.base.world import Files, OpenFile
from agent.errors import DiskError
from agent.system.files.reading import Entry

FAULTS = ("Permission denied", "Input/output error")


class BadFiles:
    """`faults`: path → why it can't be read; permission is asked for at opening, the disk when it is read.
    `out_of_descriptors`: nothing can be opened."""

    def __init__(self, files: Files, rng: random.Random, between: Callable[[], None]) -> None:
        self._files = files
        self._rng = rng
        self.between = between
        self.faults: dict[str, str] = {}
        self.out_of_descriptors = False
        self.fence = ""
        """Nothing below that is opened; empty for no such folder."""

    def open_file(self, path: str) -> AbstractContextManager[OpenFile]:
        self._refuse_opening(path)
        return _BadFile(self, path, self._files.open_file(path))

    def open_lines(self, path: str) -> AbstractContextManager[PieceSource]:
        self._refuse_opening(path)
        return _BadLines(self, path, self._files.open_lines(path))

    def list_folder(self, path: str) -> list[Entry]:
        self._refuse_opening(path)
        found = sorted(self._files.list_folder(path), key=_path)
        self._rng.shuffle(found)
        return found

    def look_at(self, path: str) -> Entry | None:
        self.between()
        return self._files.look_at(path)

    def is_missing(self, path: str) -> bool:
        return self._files.is_missing(path)

    def resolve(self, path: str) -> str:
        return self._files.resolve(path)

    def _refuse_opening(self, path: str) -> None:
        assert not self.fence or not path.startswith(self.fence), f"{path} lies outside, and is opened"
        self.between()
        if self.out_of_descriptors:
            raise DiskError(f"{path} can't be read: Too many open files")
        if self.faults.get(path) == FAULTS[0]:
            raise DiskError(f"{path} can't be read: {FAULTS[0]}")

    def refuse_reading(self, path: str) -> None:
        self.between()
        if self.faults.get(path) == FAULTS[1]:
            raise DiskError(f"{path} can't be read: {FAULTS[1]}")


def _path(entry: Entry) -> str:
    return entry.path


class _BadFile:
    def __init__(self, bad: BadFiles, path: str, opened: AbstractContextManager[OpenFile]) -> None:
        self._bad = bad
        self._path = path
        self._opened = opened

    def __enter__(self) -> Self:
        self._file = self._opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, exc, trace)

    def size(self) -> int:
        return self._file.size()

    def read_at(self, offset: int, count: int) -> bytes:
        self._bad.refuse_reading(self._path)
        return self._file.read_at(offset, count)

    def pieces(self, offset: int, count: int) -> Iterator[bytes]:
        self._bad.refuse_reading(self._path)
        return self._file.pieces(offset, count)

    def find_newline(self, offset: int) -> int:
        self._bad.refuse_reading(self._path)
        return self._file.find_newline(offset)


class _BadLines:
    def __init__(self, bad: BadFiles, path: str, opened: AbstractContextManager[PieceSource]) -> None:
        self._bad = bad
        self._path = path
        self._opened = opened
        self._began = False

    def __enter__(self) -> Self:
        self._source = self._opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, exc, trace)

    def readline(self, limit: int, /) -> bytes:
        if not self._began:
            self._bad.refuse_reading(self._path)
            self._began = True
        return self._source.readline(limit)
