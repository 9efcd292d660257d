"""The disk, with a sign of life of the calling thread at every piece: who reads a long file is not stuck."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from agent.core.transcripts.transcript import PieceSource
from agent.delivery.base.world import Files, OpenFile
from agent.system.files.reading import Entry


class BeatingFiles:
    """`files` as they are; `beat()` before each look and each piece."""

    def __init__(self, files: Files, beat: Callable[[], None]) -> None:
        self._files = files
        self._beat = beat

    @contextmanager
    def open_file(self, path: str, /) -> Iterator[OpenFile]:
        self._beat()
        with self._files.open_file(path) as file:
            yield _BeatingFile(file, self._beat)

    def open_lines(self, path: str, /) -> AbstractContextManager[PieceSource]:
        return self._open_lines(path)

    @contextmanager
    def _open_lines(self, path: str) -> Iterator[PieceSource]:
        self._beat()
        with self._files.open_lines(path) as source:
            yield _BeatingLines(source, self._beat)

    def list_folder(self, path: str, /) -> list[Entry]:
        self._beat()
        return self._files.list_folder(path)

    def look_at(self, path: str, /) -> Entry | None:
        self._beat()
        return self._files.look_at(path)

    def is_missing(self, path: str, /) -> bool:
        return self._files.is_missing(path)

    def resolve(self, path: str, /) -> str:
        return self._files.resolve(path)


class _BeatingFile:
    def __init__(self, file: OpenFile, beat: Callable[[], None]) -> None:
        self._file = file
        self._beat = beat
        self.size = file.size
        self.find_newline = file.find_newline

    def read_at(self, offset: int, count: int, /) -> bytes:
        self._beat()
        return self._file.read_at(offset, count)

    def pieces(self, offset: int, count: int, /) -> Iterator[bytes]:
        for piece in self._file.pieces(offset, count):
            self._beat()
            yield piece


_LINES_A_BEAT = 256


class _BeatingLines:
    def __init__(self, source: PieceSource, beat: Callable[[], None]) -> None:
        self._source = source
        self._beat = beat
        self._left = _LINES_A_BEAT

    def readline(self, limit: int, /) -> bytes:
        self._left -= 1
        if self._left <= 0:
            self._left = _LINES_A_BEAT
            self._beat()
        return self._source.readline(limit)
