"""Full-text search in transcripts as they lie on this disk: nothing of their text is kept anywhere for it.

The bytes of a file are looked through for the longest word with RE2 (1 to 3 GB a second and core, in threads, since it
lets go of Python's lock); only lines that have all words are read as events, and those decide. What was
measured of the other ways is in docs/sessions.md.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec

from agent.core.sessions.normalised import LONGEST_LINE_BYTES, Event, LineReader
from agent.core.sessions.search_terms import Matcher, snippet
from agent.core.transcripts.session import Provider, StreamId, is_side_file
from agent.errors import DiskError
from agent.system.files import reading as real_files
from agent.system.files.reading import TranscriptFile

ROLES: Mapping[str, str] = {
    "user.message": "user",
    "assistant.message": "assistant",
    "reasoning": "reasoning",
    "tool.call": "tool",
    "tool.result": "tool",
}
"""Kind of event → who speaks; anything else is `other`."""

ROLE_NAMES = ("user", "assistant", "reasoning", "tool", "other")

_PIECE_BYTES = 1 << 20
_MOST_THREADS = 8
_AHEAD = 4
"""Files under way for each thread: those behind the last find that is wanted are read for nothing."""

_MOST_STRINGS = 10_000


class Target(NamedTuple):
    """A transcript or side file to look through."""

    stream: StreamId
    provider: str
    path: str


class Hit(NamedTuple):
    """A message in which all words stand. `line`: from 1. `text` is what stands around the find, which is from `begin`
    to `end` in it; as the transcript has it, so whoever shows it takes terminal sequences out."""

    stream: StreamId
    provider: str
    line: int
    role: str
    kind: str
    at_s: float | None
    text: str
    begin: int
    end: int


class Found(NamedTuple):
    """`is_whole` False: there may be more. `unread`: path → why. `bytes`: looked through."""

    hits: list[Hit]
    is_whole: bool
    files: int
    bytes: int
    unread: Mapping[str, str]


def search(
    matcher: Matcher,
    targets: Sequence[Target],
    providers: Mapping[str, Provider],
    *,
    limit: int,
    each: int,
    role: str = "",
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Found:
    """Finds in the order of `targets`, `each` of a file and `limit` in all at most (0: all)."""
    enough = threading.Event()
    hits: list[Hit] = []
    unread: dict[str, str] = {}
    read = done = 0
    threads = min(_MOST_THREADS, os.cpu_count() or 1)

    def look(target: Target) -> "_Looked":
        return _Look(matcher, target, providers, each=each, role=role, is_to_end=enough.is_set).run()

    with ThreadPoolExecutor(threads, thread_name_prefix="search") as pool:
        waiting: deque[tuple[Target, Future[_Looked]]] = deque()
        todo = iter(targets)
        is_whole = True
        while True:
            while len(waiting) < threads * _AHEAD and (one := next(todo, None)) is not None:
                waiting.append((one, pool.submit(look, one)))
            if not waiting:
                break
            target, future = waiting.popleft()
            looked = future.result()
            hits += looked.hits
            read += looked.bytes
            done += 1
            is_whole = is_whole and looked.is_whole
            if looked.why:
                unread[target.path] = looked.why
            progress(done, len(targets))
            if limit and len(hits) >= limit:
                is_whole = is_whole and len(hits) == limit and not waiting and next(todo, None) is None
                break
        enough.set()
    return Found(hits[: limit or None], is_whole, done, read, unread)


class _Looked(NamedTuple):
    hits: list[Hit]
    bytes: int
    is_whole: bool
    why: str = ""


class _Look:
    """One file."""

    def __init__(
        self,
        matcher: Matcher,
        target: Target,
        providers: Mapping[str, Provider],
        *,
        each: int,
        role: str,
        is_to_end: Callable[[], bool],
    ) -> None:
        self._matcher = matcher
        self._target = target
        self._each = each
        self._role = role
        self._is_to_end = is_to_end
        self._provider = providers.get(target.provider)
        self._reader: LineReader | None = None
        self._hits: list[Hit] = []
        self._counted = (0, 0)
        self._read = 0

    def run(self) -> _Looked:
        try:
            with real_files.open_file(self._target.path) as file:
                for piece, cut, offset in self._pieces(file):
                    self._look_at(file, piece, cut, offset)
                    if self._is_to_end() or (self._each and len(self._hits) >= self._each):
                        return _Looked(self._hits, self._read, is_whole=False)
        except DiskError as exc:
            return _Looked(self._hits, self._read, False, exc.message)
        return _Looked(self._hits, self._read, is_whole=True)

    def _pieces(self, file: TranscriptFile) -> Iterator[tuple[bytes, int, int]]:
        """Whole lines together, up to where in a piece, and its offset: to cut it would cost a tenth of the time. A
        line without an end counts in side files, which are no lines."""
        offset, wanted = 0, _PIECE_BYTES
        while data := file.read_at(offset, wanted):
            cut = data.rfind(b"\n") + 1
            at_end = len(data) < wanted
            if not cut and not at_end and wanted < LONGEST_LINE_BYTES:
                wanted *= 2
                continue
            if not cut and not at_end:
                offset = file.find_newline(offset) + 1  # a line that is too long to be read by anybody
                if not offset:
                    return
                continue
            if at_end and is_side_file(self._target.stream.subpath):
                cut = len(data)
            if not cut:
                return
            self._read += cut
            yield data, cut, offset
            offset, wanted = offset + cut, _PIECE_BYTES
            if at_end:
                return

    def _look_at(self, file: TranscriptFile, piece: bytes, cut: int, offset: int) -> None:
        places, at = self._matcher.places(piece, cut), 0
        while (found := places.find(at)) is not None:
            start, end = found
            if not self._matcher.may_be(piece, start, end):
                at = end
                continue
            begins = piece.rfind(b"\n", 0, start) + 1
            ends = piece.find(b"\n", end, cut)
            ends = cut if ends < 0 else ends
            line = piece[begins:ends]
            if all(any(way.search(line) is not None for way in other) for other in self._matcher.others):
                self._ask(file, line, offset + begins)
                if self._each and len(self._hits) >= self._each:
                    return
            at = ends

    def _ask(self, file: TranscriptFile, line: bytes, offset: int) -> None:
        for event, text in self._texts(line):
            role = ROLES.get(event.kind, "other") if event is not None else "tool"
            if self._role and role != self._role:
                continue
            span = self._matcher.find(text)
            if span is not None:
                kind, at_s = (str(event.kind), event.at_s) if event is not None else ("side.file", None)
                place = (self._target.stream, self._target.provider, self._ordinal(file, offset))
                self._hits.append(Hit(*place, role, kind, at_s, *snippet(text, span)))
                return

    def _texts(self, line: bytes) -> Iterator[tuple[Event | None, str]]:
        if is_side_file(self._target.stream.subpath) or self._provider is None:
            yield None, line.decode("utf-8", "replace")
            return
        self._reader = self._reader or self._provider.reader(self._target.stream)
        for event in self._reader.read(line):
            yield event, text_of_event(event)

    def _ordinal(self, file: TranscriptFile, offset: int) -> int:
        """Of the line that begins there: newlines are only counted where something was found."""
        at, count = self._counted
        for piece in file.pieces(at, offset - at):
            count += piece.count(b"\n")
        self._counted = (offset, count)
        return count + 1


def text_of_event(event: Event) -> str:
    """All that may be searched of an event."""
    if event.arguments:
        return "\n".join((event.tool, event.text, *_strings(event.arguments)))
    return event.raw.decode("utf-8", "replace") if event.raw else event.text


def _strings(arguments: str) -> list[str]:
    """The texts in a tool's arguments, without their escapes."""
    try:
        waiting: list[Any] = [msgspec.json.decode(arguments)]
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return [arguments]
    found: list[str] = []
    while waiting and len(found) < _MOST_STRINGS:
        one = waiting.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, dict):
            waiting += reversed(one.values())
        elif isinstance(one, list):
            waiting += reversed(one)
        elif one is not None:
            found.append(str(one))
    return found
