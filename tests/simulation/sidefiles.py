"""What stands beside the transcripts of a session and travels as a whole: who writes it, and what must hold of it."""

import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core.delivery.lifecycle import State
from agent.core.transcripts.session import StreamId
from agent.core.transcripts.sources import origin_of
from agent.delivery.engine.errands import NO_FILES, WITHOUT_SESSION
from tests.simulation.checks import STAYS, is_copy
from tests.simulation.operations import Operation
from tests.simulation.transcripts import PROJECTS, ROOT, Disk

if TYPE_CHECKING:
    from tests.simulation.story import Story

PLACES = (
    StreamId("s1", "files/tool-results/a.txt"),
    StreamId("s1", "files/tool-results/deep/b.txt"),
    StreamId("s1", "files/subagents/agent-b.meta.json"),
    StreamId("s2", "files/tool-results/c.txt"),
    StreamId("s3", "files/custom-title.json"),
)
NOT_OURS = StreamId("s1", "files/subagents/agent-a.meta.json")
"""What `operations.side_file` writes, in all stories."""

LARGE_BYTES = 70_000
"""Above what is sent without asking first what the server has of it."""


class SideFiles:
    """`files`: path → stream and what stands there now. `ever`: stream → all that ever stood there. `unseen`: paths of
    which nothing on the disk says that they hold something else than before: these are not looked into again."""

    def __init__(self, disk: Disk, hint: Callable[[str], None], root: str = ROOT) -> None:
        self._disk = disk
        self._hint = hint
        self._root = root
        self._looks: dict[tuple[str, int, int], bytes] = {}
        self.files: dict[str, tuple[StreamId, bytes]] = {}
        self.ever: dict[StreamId, list[bytes]] = {}
        self.unseen: set[str] = set()

    def path(self, stream: StreamId) -> str:
        return os.path.join(self._root, PROJECTS[0], stream.session_id, *stream.subpath.split("/")[1:])

    def append(self, stream: StreamId, data: bytes) -> None:
        """Behind what is there, if anything is."""
        path = self.path(stream)
        before = self.files[path][1] if path in self.files else b""
        self._disk.make_folder(os.path.dirname(path))
        self._disk.append(path, data)
        self._note(stream, path, before + data)

    def replace(self, stream: StreamId, data: bytes) -> None:
        """A new file takes the name."""
        path = self.path(stream)
        self._disk.make_folder(os.path.dirname(path))
        self._disk.replace(path, data)
        self._note(stream, path, data)

    def rewrite(self, stream: StreamId, data: bytes) -> None:
        """The same file, with something else in it."""
        path = self.path(stream)
        self._disk.truncate(path, 0)
        self._disk.write_at(path, 0, data)
        self._note(stream, path, data)

    def delete(self, path: str) -> None:
        self._disk.unlink(path)
        del self.files[path]
        self._hint(path)

    def _note(self, stream: StreamId, path: str, data: bytes) -> None:
        self.files[path] = (stream, data)
        self.ever.setdefault(stream, []).append(data)
        if self._looks.setdefault((path, len(data), self._disk.mtime_ns(path)), data) != data:
            self.unseen.add(path)
        self._hint(path)


# --- what happens to them -------------------------------------------------------------------------------------------


def _text(rng: random.Random) -> bytes:
    return b" ".join(b"word%d" % rng.randrange(100) for _ in range(rng.randrange(1, 12))) + b"\n"


def _any_there(story: "Story") -> StreamId | None:
    there = [stream for stream, _ in story.sides.files.values()]
    return story.besides.choice(there) if there else None


def write_side_file(story: "Story") -> None:
    story.sides.append(story.besides.choice(PLACES), _text(story.besides))


def write_large(story: "Story") -> None:
    data = _text(story.besides)
    story.sides.replace(story.besides.choice(PLACES), data * (LARGE_BYTES // len(data) + 1))


def replace_side_file(story: "Story") -> None:
    if stream := _any_there(story):
        story.sides.replace(stream, _text(story.besides))


def rewrite_side_file(story: "Story") -> None:
    if stream := _any_there(story):
        story.sides.rewrite(stream, _text(story.besides))


def delete_side_file(story: "Story") -> None:
    if stream := _any_there(story):
        story.sides.delete(story.sides.path(stream))


def spoil_side_file(story: "Story") -> None:
    if stream := _any_there(story):
        story.files.faults[story.sides.path(stream)] = "Permission denied"


def break_off(story: "Story") -> None:
    """The connection breaks in the middle of the next side file, and the server keeps what came."""
    story.server.breaks_off = True


TABLE = (
    Operation("write a side file", 6, write_side_file, sudden=True),
    Operation("write a large side file", 1, write_large, sudden=True),
    Operation("replace a side file", 2, replace_side_file, sudden=True),
    Operation("rewrite a side file", 1, rewrite_side_file, sudden=True),
    Operation("delete a side file", 1, delete_side_file, sudden=True),
    Operation("spoil a side file", 0.3, spoil_side_file, sudden=True),
    Operation("a side file breaks off", 1, break_off),
)
"""The same as `operations.TABLE` for stories of side files."""


def draw(rng: random.Random, *, sudden: bool = False) -> Operation:
    table = [one for one in TABLE if one.sudden or not sudden]
    return rng.choices(table, [one.weight for one in table])[0]


# --- what must hold -------------------------------------------------------------------------------------------------


def check_file(story: "Story", stream: StreamId, data: bytes) -> None:
    """Behind each file that a server took: something that began so stood there."""
    origin = stream._replace(subpath=origin_of(stream.subpath))
    if origin == NOT_OURS:
        return
    versions = story.sides.ever.get(origin, [])
    assert any(one.startswith(data) for one in versions), f"{stream}: the server took what never stood in the file"


def check_side_files(story: "Story") -> None:
    """When nothing stands in the way any more: the server holds each file as it stands on disk."""
    for session in story.rules.sessions if story.server.bulk and not story.has_lost_state else ():
        if not story.server.has_lost and session not in {one.session_id for one in story.wire.deleted}:
            assert not story.server.files_of(session), f"{session} is private, and its side files are on the server"
    for path, (stream, data) in story.sides.files.items():
        if path not in story.sides.unseen:
            _check_one(story, path, stream, data)


def _check_one(story: "Story", path: str, stream: StreamId, data: bytes) -> None:
    session, origin = stream.session_id, stream
    tracks, name = story.process.engine.tracks.items(), story.there.name
    here = [(key, one) for key, one in tracks if (key.destination, key.session_id) == (name, session)]
    main = next((one for key, one in here if not key.subpath), None)
    # One that was deleted and written anew before all was sent has a place of its own.
    family = [(key.stream, one) for key, one in here if origin_of(key.subpath) == stream.subpath]
    track = next((one for _, one in family if one.path == path and one.state is not State.GONE), None)
    waiting = story.process.engine.sightings.others.get(stream, {}).get(path)
    if track is None and waiting is not None and (waiting.is_new or waiting.trouble):
        states = {one.state for key, one in tracks if key.stream in (stream, waiting.copy)}
        assert states & STAYS, f"{path} waits for what is {states}"
        return
    if track is None and waiting is not None and waiting.covered is not None:
        track = next((one for of, one in family if of == waiting.covered), None)
    assert track is not None, f"{path} is followed by nobody: {[(one.path, one.state) for _, one in family]}"
    stream = next(of for of, one in family if one is track)
    if session in story.rules.sessions:
        assert track.state in (State.PRIVATE, State.GONE), f"{path} is private, and {track.state}"
        return
    if session in {one.session_id for one in story.wire.deleted}:
        return
    if not story.server.bulk:
        assert (track.state, track.reason) == (State.REFUSED, NO_FILES), f"{path} is {track.state} on a base server"
        return
    if main is not None and main.state not in (State.SYNCED, State.GONE):
        is_kept_back = track.state is State.PRIVATE or track.reason == WITHOUT_SESSION or track.state is main.state
        assert is_kept_back, f"{path} is {track.state} with a session that is {main.state}"
        return
    if track.state is State.PRIVATE and is_copy(story, stream):
        return
    assert track.state is State.SYNCED, f"{path} is {track.state}: {track.reason}"
    there = story.server.files_of(session).get(stream.subpath)
    if story.server.has_lost or (stream in story.wire.overtaken and there in story.sides.ever[origin]):
        return
    assert there == data, f"{path}: the server holds {there and there[:60]!r} instead of {data[:60]!r}"
