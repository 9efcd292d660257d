"""Looks what is there. Everything it says comes from the disk at that moment; hints only tell where to look.

Every file has one path here, the one without links. A link below a root is followed where it leads below a root, which
is where its file is found anyway; a name that only a link gives it is asked last. What leads out is named, and no more
than its name is looked at.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from agent.core.transcripts.packed import is_packed
from agent.core.transcripts.session import Gone, Observation, Provider, StreamId
from agent.core.transcripts.transcript import split_lines, whole_lines_bytes
from agent.delivery.base.world import Files
from agent.errors import DiskError, FileVanished
from agent.system.files import reading as real_files
from agent.system.files.reading import Entry

_FIRST_BYTES = 64 << 10
_CHUNK = 512
"""Observations handed over at once: small enough that the first sessions are under way while others are found."""

_BESIDE_BYTES = 16 << 10
"""What says where a session works is small, or no such thing."""

_RECENT = 256
"""How many of the files that changed last are looked at again in each pass."""


_LEADS_OUT = "it leads out of the watched folders"

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
    """For one thread. `observed(observations, live)` and `vanished(gone)` take what it found. `others`: roots that are
    looked at elsewhere; a link may lead there."""

    def __init__(
        self,
        roots: Sequence[Root],
        observed: Callable[[list[Observation], bool], None],
        vanished: Callable[[list[Gone]], None],
        files: Files = real_files,
        others: Sequence[Root] = (),
    ) -> None:
        self._files = files
        self._roots = roots
        self._others = others
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
        """What lies below the roots, may be a transcript and is not followed, and why; at most `MOST_UNFOLLOWED`. As of
        the last full scan, as `unreadable`."""
        self._still_unfollowed = set[str]()
        self.unfollowed_more = 0
        """How many there were beyond those."""
        self._beyond = 0
        self.aside: dict[str, str] = {}
        """The same of links, pipes and the like that no coding agent would take for a part of a session."""
        self._still_aside = set[str]()
        self._owners: dict[str, int] = {}

    def scan(self) -> None:
        """A full look at every root: reports what is new or changed, and what is gone."""
        self._still_unreadable = set[str]()
        self._still_unfollowed = set[str]()
        self._beyond = 0
        self._still_aside = set[str]()
        seen: set[str] = set()
        self._beside = ("", "")
        links: list[tuple[Root, Entry]] = []
        for root in self._roots:
            if self._files.is_missing(root.path) and self._files.resolve(root.path) != root.path:
                why = "is reached by another link than when the agent started: transcriptd service restart"
                self._note_unreadable(root.path, f"{root.path} {why}")
            self._report(self._walk(root, self._list(root.path), seen, links), live=False)
        self._report(self._walk_links(links), live=False)
        for path in self.unreadable.keys() - self._still_unreadable:
            del self.unreadable[path]
        for path in self.unfollowed.keys() - self._still_unfollowed:
            del self.unfollowed[path]
        self.unfollowed_more = self._beyond
        for path in self.aside.keys() - self._still_aside:
            del self.aside[path]
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
        root = self._root_of(path)
        if root is None:
            return
        self._beside = ("", "")
        entry = self._files.look_at(path)
        if entry is None:
            self.unfollowed.pop(_as_text(path), None)
            self._forget([path] if path in self._known and self._is_gone(path) else [])
            real = self._files.resolve(path)
            if real == path:
                return
            if self._root_of(real) is None:
                self._note_aside(root, self._first_link(root, path), _LEADS_OUT)
                return
            entry = Entry(os.path.basename(path), path, False, -1, 0, 0, 0, link=real)  # a folder above is the link
        links: list[tuple[Root, Entry]] = []
        self._report(self._walk(root, [entry], set(), links), live=live)
        self._report(self._walk_links(links), live=live)

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

    def _walk(
        self, root: Root, entries: list[Entry], seen: set[str], links: list[tuple[Root, Entry]]
    ) -> Iterator[Observation]:
        """What is new or changed of the entries and below them. Links are gathered in `links`."""
        folders, entered = list[str](), set[tuple[int, int]]()
        while True:
            for entry in entries:
                if entry.is_folder:
                    if (entry.device, entry.inode) not in entered:
                        entered.add((entry.device, entry.inode))
                        folders.append(entry.path)
                    continue
                if entry.link:
                    links.append((root, entry))
                    continue
                seen.add(entry.path)
                found = self._observe(root, entry)
                if found is not None:
                    yield found
            if not folders:
                return
            entries = self._list(folders.pop())

    def _walk_links(self, links: list[tuple[Root, Entry]]) -> Iterator[Observation]:
        """What only a link gives a name that a coding agent knows: all else was found where it is. Links that lead out
        are named."""
        for root, link in links:
            pending, entered = [link], set[tuple[int, int]]()
            while pending:
                entry = pending.pop()
                home = self._root_of(entry.link)
                if home is None:
                    if not any(one.holds(entry.link) for one in self._others):
                        self._note_aside(root, entry.path, _LEADS_OUT)
                    continue
                real = self._files.look_at(entry.link)
                if real is None or real.link:  # it leads nowhere, or in a circle
                    continue
                if not real.is_folder:
                    found = self._observe(home, real)
                    if found is None and home.provider is root.provider:
                        found = self._observe(root, real, entry.path)
                    if found is not None:
                        yield found
                elif (real.device, real.inode) not in entered:
                    entered.add((real.device, real.inode))
                    for one in self._list(real.path):
                        if one.path not in self._known:
                            below = one._replace(path=os.path.join(entry.path, one.name), link=one.link or one.path)
                            pending.append(below)

    def _list(self, folder: str) -> list[Entry]:
        try:
            return self._files.list_folder(folder)
        except FileVanished:
            return []
        except DiskError as exc:
            self._note_unreadable(folder, exc.message)
            return []

    def _observe(self, root: Root, entry: Entry, named: str = "") -> Observation | None:
        """What is new of a file. `named`: the path by which a link names it, where its own says nothing."""
        signature = hash((entry.size, entry.mtime_ns, entry.device, entry.inode))
        if self._known.get(entry.path) == signature:
            return None
        if entry.oddity or entry.size < 0 or not self._is_ours(root, entry):
            self._note_unfit(root, entry)
            return None
        stream = self._file(root, entry, named or entry.path)
        size = entry.size if stream is None or not is_packed(entry.path) else self._unpacked_size(entry.path)
        if stream is None or size is None:
            return None
        self.unfollowed.pop(entry.path, None)
        self._remember(entry.path, signature)
        where = entry.path, size, entry.mtime_ns, entry.device, entry.inode
        return Observation(stream, root.provider.name, *where, self._read_beside(root, entry.path))

    def _file(self, root: Root, entry: Entry, named: str) -> StreamId | None:
        """The stream of a file. What its lines or a link said holds until they say something else: then another
        session's file has its name, and the one before it is gone."""
        told = self._filed.get(entry.path)
        before = told or self._expected.get(entry.path)
        stream = self._classify(root, entry, named)
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

    def _classify(self, root: Root, entry: Entry, named: str) -> StreamId | None:
        path = entry.path
        peeked: list[bytes] = []
        is_asked = False

        def first_lines() -> list[bytes]:
            nonlocal is_asked
            is_asked = True
            with self._files.open_file(path) as file:
                data = file.read_at(0, _FIRST_BYTES)
            peeked.extend(split_lines(data[: whole_lines_bytes(data)]))
            return peeked

        try:
            stream = root.provider.classify(root.parts(named), first_lines)
            if stream is not None:
                "".join(stream).encode()
        except UnicodeEncodeError:
            self._note_unfollowed(path, _NOT_TEXT)
            return None
        except DiskError as exc:
            self._note_unreadable(path, exc.message)
            return None
        if stream is None and named == path and self._may_be_transcript(root, entry):
            title = root.provider.title
            why = "no line at its beginning names its session" if is_asked else f"{title} names no transcript so"
            self._note_unfollowed(path, why)
        if stream is not None and (peeked or named != path):
            self._filed[path] = stream
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
        return not _is_companion(root, entry.path)

    def _note_aside(self, root: Root, path: str, why: str) -> None:
        """What is not looked into; it is open if from its name it may be a transcript, or a part of or full of them."""
        parts = root.parts(path)
        is_named_so = parts[-1].endswith(_ENDINGS) and not _is_companion(root, path)
        if len(parts) == 1 or is_named_so or root.provider.classify(parts, list) is not None:
            self._note_unfollowed(path, why)
        elif path in self.aside or len(self.aside) < MOST_UNFOLLOWED:
            self.aside[_as_text(path)] = why
            self._still_aside.add(_as_text(path))

    def _note_unfit(self, root: Root, entry: Entry) -> None:
        if entry.oddity:
            self._note_aside(root, entry.path, f"it is {entry.oddity}")
        elif entry.size < 0:
            self._note_unreadable(entry.path, f"{entry.path} can't be looked at")
        else:
            self._note_aside(root, entry.path, f"it belongs to another user ({entry.owner})")

    def _first_link(self, root: Root, path: str) -> str:
        """What of a path that is reached by a link is the link."""
        while (above := os.path.dirname(path)) != root.path and self._files.resolve(above) != above:
            path = above
        return path

    def _root_of(self, path: str) -> Root | None:
        return next((one for one in self._roots if one.holds(path)), None)

    def _is_ours(self, root: Root, entry: Entry) -> bool:
        """Read are our own files, and those of the root's owner: within a container a folder of the host may look like
        somebody else's."""
        if entry.owner in (-1, os.geteuid() if os.name == "posix" else 0):
            return True
        if root.path not in self._owners and (seen := self._files.look_at(root.path)) is not None:
            self._owners[root.path] = seen.owner
        return self._owners.get(root.path) == entry.owner

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
        root = self._root_of(path)
        told = self._filed.get(path) or self._expected.get(path)
        if told is not None or root is None:
            return told
        return root.provider.classify(root.parts(path), list)


def _is_companion(root: Root, path: str) -> bool:
    """Whether it is known to be something else that the coding agent keeps there."""
    below = "/".join(root.parts(path))
    return any(fnmatchcase(below, pattern) for pattern in root.provider.companions)


def _as_text(path: str) -> str:
    """A path for people and JSON, also one that is not UTF-8."""
    return path.encode(errors="surrogateescape").decode(errors="replace")
