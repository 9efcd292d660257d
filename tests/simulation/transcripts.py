"""What coding agents and others do to transcripts, and a memory of every version that a stream's file ever had."""

import os
import random
from collections.abc import Callable
from typing import NamedTuple, Protocol

from agent.core.transcripts.identity import MARKER_WINDOW_BYTES
from agent.core.transcripts.session import StreamId

ROOT = os.sep + os.path.join("home", "projects")


class Place(NamedTuple):
    """A stream, and where its file stands in a project folder."""

    stream: StreamId
    name: str
    flat: bool = False
    """The lines alone say whose it is."""


PLACES = (
    Place(StreamId("s1", ""), "s1.jsonl"),
    Place(StreamId("s1", "subagents/agent-a"), os.path.join("s1", "subagents", "agent-a.jsonl")),
    Place(StreamId("s2", ""), "s2.jsonl"),
    Place(StreamId("s2", "agent-f"), "agent-f.jsonl", flat=True),
    Place(StreamId("s3", ""), "s3.jsonl"),
)
PROJECTS = ("p", "q")


class Disk(Protocol):
    """`tests.simulation.disk.FakeDisk`, or real files behind the same names."""

    def make_folder(self, path: str) -> None: ...
    def append(self, path: str, data: bytes) -> None: ...
    def write_at(self, path: str, offset: int, data: bytes) -> None: ...
    def truncate(self, path: str, size: int) -> None: ...
    def replace(self, path: str, data: bytes) -> None: ...
    def unlink(self, path: str) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def link(self, old: str, new: str) -> None: ...
    def mtime_ns(self, path: str) -> int: ...
    def set_mtime_ns(self, path: str, mtime_ns: int) -> None: ...


class Version:
    """One unbroken history of a file: it only grows."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)

    def lines(self, *, tail: bool = False) -> list[bytes]:
        """With `tail`, also what follows the last newline."""
        lines = bytes(self.content).split(b"\n")
        last = lines.pop()
        return [*lines, last] if tail and last else lines


class Transcripts:
    """`files`: path → stream and the version that stands there now. `hint(path)` is told of each change.

    `rewritten`: streams whose file ever held something else than a continuation. `unseen`: streams that were changed
    where neither size and time nor the bytes before the cursor show it. `torn`: streams whose bytes were changed in
    place while somebody may have been reading them.
    """

    def __init__(self, disk: Disk, rng: random.Random, hint: Callable[[str], None], root: str = ROOT) -> None:
        self._root = root
        self._disk = disk
        self._rng = rng
        self._hint = hint
        self.files: dict[str, tuple[Place, Version]] = {}
        self.versions: dict[StreamId, list[Version]] = {}
        self.rewritten: set[StreamId] = set()
        self.unseen: set[StreamId] = set()
        self.torn: set[StreamId] = set()
        self._unfinished: dict[str, bytes] = {}
        """Path → what its writer still has to write of the last line."""
        for project in PROJECTS:
            disk.make_folder(os.path.join(root, project, "s1", "subagents"))

    # --- writers ----------------------------------------------------------------------------------------------

    def path(self, place: Place) -> str:
        """Where the file is, or will be."""
        there = next((path for path, (one, _) in self.files.items() if one is place), None)
        return there or os.path.join(self._root, PROJECTS[0], place.name)

    def append(self, path: str, place: Place, data: bytes) -> None:
        """Behind the end, where a line may be unfinished: then somebody glues on to it."""
        self._unfinished.pop(path, None)
        self._disk.append(path, data)
        if path in self.files:
            self.files[path][1].content += data
            self._note_likeness(place.stream, self.files[path][1])
        else:
            self._begin(path, place, data)
        self._hint(path)

    def append_part(self, path: str, place: Place, data: bytes) -> None:
        """Whole lines, and the last one not quite."""
        cut = self._rng.randrange(1, len(data))
        self.append(path, place, data[:cut])
        self._unfinished[path] = data[cut:]

    def finish(self, path: str, place: Place) -> None:
        """The rest of an unfinished line, or what newer writers do after a crash: a newline in mid-line."""
        rest = self._unfinished.get(path)
        if rest is not None:
            self.append(path, place, rest if self._rng.random() < 0.8 else b"\n")

    def _begin(self, path: str, place: Place, data: bytes) -> None:
        version = Version(data)
        self.files[path] = (place, version)
        versions = self.versions.setdefault(place.stream, [])
        if versions:
            self.rewritten.add(place.stream)
        versions.append(version)
        self._note_likeness(place.stream, version)

    def _note_likeness(self, stream: StreamId, version: Version) -> None:
        others = (one for one in self.versions[stream] if one is not version)
        if any(_looks_like_growth(bytes(one.content), bytes(version.content)) for one in others):
            self.unseen.add(stream)

    def touch(self, path: str, mtime_ns: int) -> None:
        self._disk.set_mtime_ns(path, mtime_ns)
        self._hint(path)

    # --- what is not append-only ------------------------------------------------------------------------------

    def replace(self, path: str, data: bytes) -> None:
        """A new file takes the name; what the old one is called elsewhere keeps that."""
        self._disk.replace(path, data)
        place, old = self.files[path]
        if any(one is old for other, (_, one) in self.files.items() if other != path):
            self.files[path] = (place, Version(bytes(old.content)))
            self.versions[place.stream].append(self.files[path][1])
            self.rewritten.add(place.stream)  # from here on they may go different ways, as where one was copied
        self._rewrite(path, data)

    def note_torn(self, path: str) -> None:
        self.torn.add(self.files[path][0].stream)

    def rewrite_in_place(self, path: str, data: bytes, *, same_time: bool = False) -> None:
        before = self._disk.mtime_ns(path)
        self._disk.truncate(path, 0)
        self._disk.write_at(path, 0, data)
        if same_time:
            self._disk.set_mtime_ns(path, before)
        place, old = self.files[path]
        if same_time and len(data) == len(old.content):
            self.unseen.add(place.stream)
        self._rewrite(path, data)

    def truncate(self, path: str, size: int) -> None:
        self._disk.truncate(path, size)
        self._rewrite(path, bytes(self.files[path][1].content[:size]))

    def scrub(self, path: str, at: int, byte: bytes) -> None:
        """One byte is another one."""
        place, version = self.files[path]
        self._disk.write_at(path, at, byte)
        if len(version.content) - at > MARKER_WINDOW_BYTES:
            self.unseen.add(place.stream)
        content = bytearray(version.content)
        content[at : at + 1] = byte
        self._rewrite(path, bytes(content))

    def _rewrite(self, path: str, data: bytes) -> None:
        self._unfinished.pop(path, None)
        place, old = self.files[path]
        if data != old.content:
            self.rewritten.add(place.stream)
            version = Version(data)
            self.versions[place.stream].append(version)
            self._note_likeness(place.stream, version)
            self.files[path] = (place, version)
        self._hint(path)

    def delete(self, path: str) -> None:
        self._disk.unlink(path)
        self._unfinished.pop(path, None)
        del self.files[path]
        self._hint(path)

    def move(self, path: str, new: str) -> None:
        self._disk.rename(path, new)
        self.files[new] = self.files.pop(path)
        if path in self._unfinished:
            self._unfinished[new] = self._unfinished.pop(path)
        self._hint(path)
        self._hint(new)

    def copy(self, path: str, new: str) -> None:
        """Another file claims the stream, and may go another way."""
        place, version = self.files[path]
        self._disk.append(new, bytes(version.content))
        copied = Version(bytes(version.content))
        self.versions[place.stream].append(copied)
        self.rewritten.add(place.stream)
        self.files[new] = (place, copied)
        self._hint(new)

    def link(self, path: str, new: str) -> None:
        """A second name for the file: what is added by one is there by both."""
        self._disk.link(path, new)
        self.files[new] = self.files[path]
        self._hint(new)

    def write_beside(self, path: str, data: bytes) -> None:
        """A side file."""
        self._disk.append(path, data)
        self._hint(path)


def _looks_like_growth(old: bytes, new: bytes) -> bool:
    """Whether some line of another text ends where one of the old did, and has all bytes before that in common with it
    that a cursor remembers."""
    end = new.find(b"\n") + 1
    while 0 < end <= len(old):
        start = max(0, end - MARKER_WINDOW_BYTES)
        if old[start:end] == new[start:end] and old[:start] != new[:start]:
            return True
        end = new.find(b"\n", end) + 1
    return False


def other_place(path: str) -> str:
    """The same name in the other project folder."""
    first, second = (f"{os.sep}{project}{os.sep}" for project in PROJECTS)
    return second.join(path.rsplit(first, 1)) if first in path else first.join(path.rsplit(second, 1))


def beside(path: str) -> str:
    """A side file's place: no transcript."""
    return path.removesuffix(".jsonl") + ".meta.json"


_ENTRY = b'{"type":"user","uuid":"%032x","cwd":"/home/dev/demo","sessionId":"%s","message":{"content":"%s"}}\n'


class Writer:
    """Lines as they come: with and without uuid, repeated, empty, torn, not text at all. With `unique`, no uuid comes
    twice, since on a base server a uuid is the only address."""

    def __init__(self, rng: random.Random, *, unique: bool, long: bool) -> None:
        self._rng = rng
        self._unique = unique
        self._long = long
        self._last = b"\n"

    def entry(self, session_id: str) -> bytes:
        rng = self._rng
        size = 5000 if self._long and rng.random() < 0.15 else rng.randrange(60)
        return (
            b'{"type":"user","uuid":"%032x","cwd":"/home/dev/demo","sessionId":"%s","message":{"content":"%s"}}\n'
            % (
                rng.getrandbits(128),
                session_id.encode(),
                b"w" * size,
            )
        )

    def lines(self, session_id: str, count: int) -> bytes:
        return b"".join(self._line(session_id) for _ in range(count))

    def _line(self, session_id: str) -> bytes:
        draw = self._rng.random()
        if draw < 0.6:
            self._last = self.entry(session_id)
            return self._last
        if draw < 0.7 and not self._unique:
            return self._last
        odd = (
            b'{"type":"mode","mode":"plan"}\n',
            b'{"type":"custom-title","customTitle":"t%d"}\n' % self._rng.randrange(3),
            b"\n",
            b'{"type":"user","uu\n',
            b"\x00" * self._rng.randrange(1, 40) + b"\n",
            b'{"a":"\xff\xfe \xe2\x80\xa8"}\n',
        )
        return self._rng.choice(odd)
