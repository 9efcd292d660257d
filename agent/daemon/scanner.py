"""Looks what is there. Everything it says comes from the disk at that moment; hints only tell where to look."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from agent.core.packed import is_packed
from agent.core.session import Gone, Observation, Provider, StreamId
from agent.core.transcript import split_lines, whole_lines_bytes
from agent.daemon.world import Files
from agent.errors import DiskError, FileVanished
from agent.system import files as real_files
from agent.system.files import Entry

_FIRST_BYTES = 64 << 10
_CHUNK = 512
"""Observations handed over at once: small enough that the first sessions are under way while others are found."""

_BESIDE_BYTES = 16 << 10
"""What says where a session works is small, or no such thing."""

_RECENT = 256
"""How many of the files that changed last are looked at again in each pass."""


MOST_UNFOLLOWED = 1000
"""Files that are not followed are known by name up to so many; the others are counted."""

_ENDINGS = (".jsonl", ".jsonl.zst")
"""How the names of transcripts end, whichever coding agent wrote them."""

_NOT_TEXT = "its name is not UTF-8, and fits into no request"

_UNSEEN = 0
"""In place of a file's signature: it was not looked at yet."""


class Root(NamedTuple):
    """A folder whose tree holds the transcripts of one coding agent."""

    provider: Provider
    path: str

    def holds(self, path: str) -> bool:
        return path == self.path or path.startswith(self.path.rstrip(os.sep) + os.sep)

    def parts(self, path: str) -> tuple[str, ...]:
        """The names from the root down to `path`."""
        return tuple(path[len(self.path) :].strip(os.sep).split(os.sep))


class Scanner:
    """For one thread. `observed(observations, live)` and `vanished(gone)` take what it found."""

    def __init__(
        self,
        roots: Sequence[Root],
        observed: Callable[[list[Observation], bool], None],
        vanished: Callable[[list[Gone]], None],
        files: Files = real_files,
    ) -> None:
        self._files = files
        self._roots = roots
        self._observed = observed
        self._vanished = vanished
        self._known: dict[str, int] = {}
        self._beside = ("", "")
        self._expected: dict[str, StreamId] = {}
        self._filed: dict[str, StreamId] = {}
        self._recent: dict[str, None] = {}
        self.unreadable: dict[str, str] = {}
        """Folders and files that could not be looked into at the last full scan, and why. While one is under way, also
        what it has not come to yet: whoever asks then must not be told that all is well."""
        self._still_unreadable = set[str]()
        self.unfollowed: dict[str, str] = {}
        """Files below the roots that may be transcripts and are not followed, and why; at most `MOST_UNFOLLOWED`. As of
        the last full scan, as `unreadable`."""
        self._still_unfollowed = set[str]()
        self.unfollowed_more = 0
        """How many there were beyond those."""
        self._beyond = 0

    def scan(self) -> None:
        """A full look at every root: reports what is new or changed, and what is gone."""
        self._still_unreadable = set[str]()
        self._still_unfollowed = set[str]()
        self._beyond = 0
        seen: set[str] = set()
        self._beside = ("", "")
        for root in self._roots:
            self._report(self._walk(root, root.path, seen), live=False)
        for path in self.unreadable.keys() - self._still_unreadable:
            del self.unreadable[path]
        for path in self.unfollowed.keys() - self._still_unfollowed:
            del self.unfollowed[path]
        self.unfollowed_more = self._beyond
        gone = [path for path in self._known if path not in seen and self._is_gone(path)]
        self._forget(gone)

    def expect(self, files: Mapping[str, StreamId]) -> None:
        """Files that stood for streams in an earlier life: the next full scan tells of those that are gone."""
        for path, stream in files.items():
            if path not in self._known:
                self._known[path] = _UNSEEN
                self._expected[path] = stream

    def knows(self, path: str) -> bool:
        """Whether it was seen, here or in an earlier life."""
        return path in self._known

    def look(self, path: str, *, live: bool = True) -> None:
        """Looks at one path that a hint named: a file, or a folder and all in it."""
        root = next((one for one in self._roots if one.holds(path)), None)
        if root is None:
            return
        entry = self._files.look_at(path)
        self._beside = ("", "")
        if entry is None:
            self.unfollowed.pop(_as_text(path), None)
            self._forget([path] if path in self._known and self._is_gone(path) else [])
        elif entry.is_folder:
            self._report(self._walk(root, path, set()), live=live)
        else:
            found = self._observe(root, entry)
            if found is not None:
                self._observed([found], live)

    def look_again(self) -> None:
        """Looks at the files that changed last, for hints that got lost."""
        for path in list(self._recent):
            self.look(path)

    def _report(self, found: Iterator[Observation], *, live: bool) -> None:
        chunk: list[Observation] = []
        for one in found:
            chunk.append(one)
            if len(chunk) >= _CHUNK:
                self._observed(chunk, live)
                chunk = []
        if chunk:
            self._observed(chunk, live)

    def _walk(self, root: Root, folder: str, seen: set[str]) -> Iterator[Observation]:
        """What is new or changed below `folder`. Links to folders are followed, but no folder is entered twice."""
        pending, entered = [folder], set[tuple[int, int]]()
        while pending:
            current = pending.pop()
            try:
                entries = self._files.list_folder(current)
            except FileVanished:
                continue
            except DiskError as exc:
                self._note_unreadable(current, exc.message)
                continue
            for entry in entries:
                if entry.is_folder:
                    if (entry.device, entry.inode) not in entered:
                        entered.add((entry.device, entry.inode))
                        pending.append(entry.path)
                    continue
                seen.add(entry.path)
                if entry.size < 0:
                    self._note_unreadable(entry.path, f"{entry.path} can't be looked at")
                    continue
                found = self._observe(root, entry)
                if found is not None:
                    yield found

    def _observe(self, root: Root, entry: Entry) -> Observation | None:
        signature = hash((entry.size, entry.mtime_ns, entry.device, entry.inode))
        if self._known.get(entry.path) == signature:
            return None
        stream = self._file(root, entry)
        size = entry.size if stream is None or not is_packed(entry.path) else self._unpacked_size(entry.path)
        if stream is None or size is None:
            return None
        self.unfollowed.pop(entry.path, None)
        self._remember(entry.path, signature)
        where = entry.path, size, entry.mtime_ns, entry.device, entry.inode
        return Observation(stream, root.provider.name, *where, self._read_beside(root, entry.path))

    def _file(self, root: Root, entry: Entry) -> StreamId | None:
        """The stream of a file. What its lines said holds until they say something else: then another session's file
        has its name, and the one before it is gone."""
        told = self._filed.get(entry.path)
        before = told or self._expected.get(entry.path)
        stream = self._classify(root, entry)
        if stream is None:
            return told
        if before is not None and before.session_id != stream.session_id:
            self._vanished([Gone(before, entry.path, entry.inode)])
        return stream

    def _unpacked_size(self, path: str) -> int | None:
        try:
            with self._files.open_file(path) as file:
                return file.size()
        except DiskError as exc:
            self._note_unreadable(path, exc.message)
            return None

    def _read_beside(self, root: Root, path: str) -> str:
        """The folder that something beside the file names; empty where nothing does, or it can't be read."""
        parts = root.provider.beside(root.parts(path))
        if parts is None:
            return ""
        place = os.path.join(root.path, *parts)
        if place != self._beside[0]:
            folder = ""
            seen = self._files.look_at(place)
            if seen is not None and not seen.is_folder:  # whoever opens a pipe waits for its other end
                with contextlib.suppress(DiskError), self._files.open_file(place) as file:
                    folder = root.provider.read_beside(file.read_at(0, _BESIDE_BYTES))
            self._beside = place, folder  # a folder's files are looked at one after the other
        return self._beside[1]

    def _remember(self, path: str, signature: int) -> None:
        self._expected.pop(path, None)
        if self._known.get(path, _UNSEEN) != _UNSEEN:
            self._recent.pop(path, None)
            self._recent[path] = None
            if len(self._recent) > _RECENT:
                del self._recent[next(iter(self._recent))]
        self._known[path] = signature

    def _classify(self, root: Root, entry: Entry) -> StreamId | None:
        peeked: list[bytes] = []
        is_asked = False

        def first_lines() -> list[bytes]:
            nonlocal is_asked
            is_asked = True
            with self._files.open_file(entry.path) as file:
                data = file.read_at(0, _FIRST_BYTES)
            peeked.extend(split_lines(data[: whole_lines_bytes(data)]))
            return peeked

        try:
            stream = root.provider.classify(root.parts(entry.path), first_lines)
            if stream is not None:
                "".join(stream).encode()
        except UnicodeEncodeError:
            self._note_unfollowed(entry.path, _NOT_TEXT)
            return None
        except DiskError as exc:
            self._note_unreadable(entry.path, exc.message)
            return None
        if stream is None and self._may_be_transcript(root, entry):
            title = root.provider.title
            why = "no line at its beginning names its session" if is_asked else f"{title} names no transcript so"
            self._note_unfollowed(entry.path, why)
        if stream is not None and peeked:
            self._filed[entry.path] = stream
        return stream

    def _note_unreadable(self, path: str, why: str) -> None:
        self.unreadable[path] = why
        self._still_unreadable.add(path)

    def _note_unfollowed(self, path: str, why: str) -> None:
        path = _as_text(path)
        if path in self.unfollowed or len(self.unfollowed) < MOST_UNFOLLOWED:
            self.unfollowed[path] = why
            self._still_unfollowed.add(path)
        else:
            self._beyond += 1

    @staticmethod
    def _may_be_transcript(root: Root, entry: Entry) -> bool:
        """Whether it ends as transcripts do, has something in it, and is nothing else that is known."""
        if not entry.size or not entry.name.endswith(_ENDINGS):
            return False
        below = "/".join(root.parts(entry.path))
        return not any(fnmatchcase(below, pattern) for pattern in root.provider.companions)

    def _is_gone(self, path: str) -> bool:
        """Absence in a listing is not enough: a folder that may not be read, or a root that is not mounted, says
        nothing about the files in it."""
        if path in self.unreadable or any(path.startswith(folder + os.sep) for folder in self.unreadable):
            return False
        return self._files.is_missing(path) and any(
            one.holds(path) and not self._files.is_missing(one.path) for one in self._roots
        )

    def _forget(self, paths: list[str]) -> None:
        gone = []
        for path in paths:
            stream = self._stream_of(path)
            if stream is not None:
                gone.append(Gone(stream, path))
            self._known.pop(path, None)
            self._filed.pop(path, None)
            self._expected.pop(path, None)
            self._recent.pop(path, None)
        if gone:
            self._vanished(gone)

    def _stream_of(self, path: str) -> StreamId | None:
        """The stream of a known file, which can't be asked any more."""
        root = next((one for one in self._roots if one.holds(path)), None)
        told = self._filed.get(path) or self._expected.get(path)
        if told is not None or root is None:
            return told
        return root.provider.classify(root.parts(path), list)


def _as_text(path: str) -> str:
    """A path for people and JSON, also one that is not UTF-8."""
    return path.encode(errors="surrogateescape").decode(errors="replace")
