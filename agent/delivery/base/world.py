"""What the daemon's rooms are handed instead of reaching for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from agent.core.transcripts.transcript import PieceSource
from agent.system.files.reading import Entry


class OpenFile(Protocol):
    """`system.files.reading.TranscriptFile`."""

    def size(self) -> int: ...
    def read_at(self, offset: int, count: int, /) -> bytes: ...
    def pieces(self, offset: int, count: int, /) -> Iterator[bytes]: ...
    def find_newline(self, offset: int, /) -> int: ...


class Files(Protocol):
    """The disk: the module `system.files.reading`, or a test's."""

    def open_file(self, path: str, /) -> AbstractContextManager[OpenFile]: ...
    def open_lines(self, path: str, /) -> AbstractContextManager[PieceSource]: ...
    def list_folder(self, path: str, /) -> list[Entry]: ...
    def look_at(self, path: str, /) -> Entry | None: ...
    def is_missing(self, path: str, /) -> bool: ...
    def resolve(self, path: str, /) -> str: ...


class World(NamedTuple):
    """Times in seconds. `chance()`: a float in [0, 1); `new_uuid()`: a random UUID as text."""

    now_s: Callable[[], float]
    monotonic_s: Callable[[], float]
    chance: Callable[[], float]
    new_uuid: Callable[[], str]


class Limits(NamedTuple):
    """`workers`: tasks in flight at most, a destination. `coalesce_s`: rest of a stream that grew while it was sent.
    `backlog`: whether transcripts from before the first start are sent. `audit_interval_s`: in which every stream is
    read again once; 0 for never. `files_bytes_per_s`: of side files. `hold_s`: from the first sight of a session until
    something of it is sent."""

    workers: int = 8
    coalesce_s: float = 0.05
    backlog: bool = True
    audit_interval_s: float = 0.0
    files_bytes_per_s: float = float("inf")
    hold_s: float = 0.0
