"""What must hold while a story goes on, and when its trouble is over: section 5 of the wire, and the first promises."""

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

from agent.core.delivery.lifecycle import State
from agent.core.status import LOST
from agent.core.transcripts.identity import Cursor
from agent.core.transcripts.objects import is_object
from agent.core.transcripts.session import StreamId, is_side_file
from agent.core.transcripts.sources import origin_of
from agent.core.transcripts.transcript import EMPTY_CHAIN, entry_uuid, tombstone_line
from agent.core.wire import Request
from agent.delivery.engine.answers import DIVERGED
from agent.delivery.privacy.permits import read_passage
from agent.delivery.state.tasks import LetGoTask, TrackKey
from agent.delivery.state.tracks import Track
from tests.simulation.server import Generation, parse_target
from tests.simulation.transcripts import Version

if TYPE_CHECKING:
    from tests.simulation.story import Story

EXPECT_GENERATIONS = True
"""Whether the engine answers a rewritten or diverged file with a new generation; until then the stream is refused."""

EXPECT_SLOW_AUDIT = True
"""Whether a change that shows neither in size and time nor just before the cursor is found by and by."""


STAYS = {State.REFUSED, State.PRIVATE, State.DELETED_ON_SERVER}
"""Not sent as long as nobody wants it, and before nothing that came later."""

_TOMBSTONE = b'{"type":"transcriptd-tombstone"'


def is_as_sent(stored: list[bytes], local: list[bytes], refused: set[tuple[str, int]]) -> bool:
    """Whether the stored entries are the local ones, but for tombstones of what was refused."""
    return len(stored) == len(local) and all(
        there == here or (there.startswith(_TOMBSTONE) and _is_tombstone(there, here, refused))
        for there, here in zip(stored, local, strict=True)
    )


def _is_tombstone(there: bytes, here: bytes, refused: set[tuple[str, int]]) -> bool:
    digest = sha256(here).hexdigest()
    found = entry_uuid(here)
    return any(there == tombstone_line(len(here), digest, found, status) for sha, status in refused if sha == digest)


def check_generation(story: "Story", stream: StreamId, generation: Generation) -> None:
    """Behind every append of the agent: what a generation holds is how some version of the file began."""
    origin = _origin(stream)
    versions = story.transcripts.versions[origin]
    if origin in story.transcripts.unseen or origin in story.transcripts.torn:
        return
    data = generation.data
    if any(version.content.startswith(data) for version in reversed(versions)):
        return
    # The last line may have had no newline yet.
    if is_object(generation.lines[-1]) and any(one.content.startswith(data[:-1]) for one in reversed(versions)):
        return
    if any(_begins_with(version, generation, story) for version in reversed(versions)):
        return
    is_base = not story.server.bulk
    if stream in story.server.entries_put and (not is_base or origin in story.transcripts.rewritten):
        # The base protocol has one chain: what follows another history stands behind that, and gaps are not seen.
        last = generation.lines[-1]
        is_known = last.startswith(_TOMBSTONE) or any(last in version.content for version in versions)
        assert is_known, f"{stream}: sent what never stood in a file"
        return
    raise AssertionError(f"{stream}: generation {generation.name} mixes what no version of the file held")


def _begins_with(version: Version, generation: Generation, story: "Story") -> bool:
    lines = version.lines(tail=True)
    if not story.server.bulk:
        lines = [line for line in lines if entry_uuid(line)]
    stored = _own(story, generation.lines)
    return is_as_sent(stored, lines[: len(stored)], story.wire.refused)


def _own(story: "Story", lines: Iterable[bytes]) -> list[bytes]:
    """Without what another agent wrote; on a base server that may stand in between."""
    if story.server.bulk:
        return list(lines)
    return [line for line in lines if line not in story.there.foreign]


def check_leave(story: "Story", request: Request) -> None:
    """Before each request: nothing of a private session is spoken of, but the wish that it be forgotten."""
    target = parse_target(request.path)
    if target is None or request.method == "DELETE":
        return
    assert not story.rules.blind, "something leaves while nobody can tell what is private"
    assert target.session not in story.rules.sessions, f"{target.session} is private, and leaves"


def check_cursor(story: "Story", key: TrackKey) -> None:
    """Behind every outcome: what the agent takes for stored is stored."""
    cursor: Cursor = story.process.engine.tracks[key].cursor
    if story.server.has_lost or cursor.sent_count == 0 or key.session_id in story.wire.ever_deleted:
        return
    if story.wire.fell_back:
        return  # one by one, entries without a uuid are passed over; a 409 puts that right
    if story.process.destinations[story.there.name].bulk:
        found = story.server.generation(key.stream, cursor.generation or "")
        assert found is not None, f"{key.stream}: the cursor stands in a generation that the server does not know"
        chain = found.chains[cursor.entry_count] if cursor.entry_count < len(found.chains) else EMPTY_CHAIN
        assert chain == cursor.chain, f"{key.stream}: the cursor is ahead of the server, or elsewhere"
        return
    if story.server.bulk:
        return
    current = story.server.current(key.stream)
    there = current.lines if current else []
    assert cursor.sent_count <= len(there), f"{key.stream}: the cursor is ahead of the server"


def check_release(story: "Story", task: LetGoTask) -> None:
    """Before what is retained is let go: whole lines of it that are nowhere else are on the server."""
    found = next((one for one in story.kept.list_kept() if one.name == task.name), None)
    if found is None or found.links > 1 or story.server.has_lost or story.has_lost_state:
        return
    if not story.server.bulk or (story.wire.fell_back and task.stream.subpath):
        return  # it has no place for subagents, or seemed to have none
    stream = _origin(task.stream)
    family = _family(story, stream)
    if _is_excused(story, stream, family):
        return
    if len(story.process.destinations) > 1 and any(one.reason == LOST for one in family.values()):
        return  # this server has what stood there later, the other one lacks both; the loss is told
    seen_bytes = max((one.size for one in family.values()), default=0)  # a link may have more, which nobody saw
    lines = story.disk.read(found.path)[:seen_bytes].split(b"\n")[:-1]
    beginning = b"".join(line + b"\n" for line in lines)
    here = any(version.content.startswith(beginning) for _, version in story.transcripts.files.values())
    if not lines or here or is_side_file(stream.subpath):
        return
    there = [made.lines for one in family for made in story.server.generations_of(one)]
    if story.wire.fell_back:
        lines = [line for line in lines if entry_uuid(line)]  # one by one, nothing else travels
        stored = [line for made in there for line in made]
        if all(any(is_as_sent([one], [line], story.wire.refused) for one in stored) for line in lines):
            return
    assert any(is_as_sent(held[: len(lines)], lines, story.wire.refused) for held in there), (
        f"{stream}: {len(lines)} retained lines are let go, and no generation begins with them"
    )


def _is_excused(story: "Story", stream: StreamId, family: Mapping[StreamId, Track]) -> bool:
    """Nobody wants it on the server, or nobody there; or what it held can't be told by what was sent."""
    withheld = stream.session_id in story.ever_private | story.wire.ever_deleted  # what was decided then is done later
    deleted = any(one.session_id == stream.session_id for one in story.wire.deleted)
    states = {State.PRIVATE, State.DELETED_ON_SERVER}
    elsewhere = any(one.state in states for one in family.values()) or is_copy(story, stream)
    return withheld or deleted or elsewhere or stream in story.transcripts.unseen | story.transcripts.torn


def check_end(story: "Story") -> None:
    """When nothing stands in the way any more: each file is on the server, once and in order."""
    for path in story.transcripts.files:
        _check_known(story, path)
    for there in story.destinations.values():
        with story.at(there):
            for stream in story.transcripts.versions:
                _check_stream(story, stream)
    if story.shelf:
        story.shelf.check_end()
    held = list(story.kept.list_kept())
    keeper = story.process.engine.keeper
    for one in held:
        assert any(one.path == here.path for here in keeper.held.values()), f"{one.name} is held for nobody"
    names = Counter(one.inode for one in held)  # a copy has two of ours while it goes over to another stream
    copied = sum(one.size for one in held if one.links == names[one.inode])
    assert not story.has_mounts or copied == story.process.holding.copied_bytes <= story.kept_bytes


def _check_known(story: "Story", path: str) -> None:
    """Each file on disk stands for a stream, or was compared with those that do and waits for nothing, or is named."""
    engine = story.process.engine
    if path in engine.followed() or path in engine.sightings.held_back:
        return
    found = engine.sightings.others.get(story.transcripts.files[path][0].stream, {}).get(path)
    if found is None:
        return  # the next scan brings it; that all of it is sent is looked at below
    if found.is_new:
        states = [engine.tracks[TrackKey(name, *found.copy)].state for name in story.process.destinations]
        assert STAYS.intersection(states), f"{path} waits for what is {states}"
    else:
        assert not found.is_open or found.trouble, f"{path} was compared with nothing"


def _check_stream(story: "Story", stream: StreamId) -> None:
    track = story.process.engine.tracks.get(TrackKey(story.there.name, *stream))
    if stream.session_id in story.rules.sessions:
        _check_private(story, stream, track)
        return
    if track is not None and track.state in (State.PRIVATE, State.GONE) and is_copy(story, stream):
        return
    paths = [path for path, (place, _) in story.transcripts.files.items() if place.stream == stream]
    if not paths or stream in story.wire.deleted:
        return
    if not story.server.bulk and stream.subpath:
        states = {one.state for one in _family(story, stream).values()} - {State.GONE}
        assert states <= {State.REFUSED, State.SYNCED}, f"{stream} is {states} on a base server"
        assert states, f"{stream} is followed by nobody on a base server"
        return
    if _may_be_refused(story, stream) and track is not None and track.state is State.REFUSED:
        assert track.reason == DIVERGED, f"{stream} was refused: {track.reason}"
        return
    if stream in story.transcripts.unseen and not (EXPECT_SLOW_AUDIT and story.audits):
        return
    family = _family(story, stream)
    assert family, f"{stream} was never seen"
    for path in paths:
        followed = next(
            (one for one in family if family[one].path == path and family[one].state is not State.GONE), None
        )
        if followed is not None:
            _check_file(story, followed, family[followed])
        else:
            _check_covered(story, path, family)


def _family(story: "Story", stream: StreamId) -> dict[StreamId, Track]:
    """The stream and its copies, at the destination that the story is at."""
    tracks = story.process.engine.tracks.items()
    return {
        key.stream: one for key, one in tracks if key.destination == story.there.name and _origin(key.stream) == stream
    }


def _origin(stream: StreamId) -> StreamId:
    return StreamId(stream.session_id, origin_of(stream.subpath))


def _check_covered(story: "Story", path: str, family: Mapping[StreamId, Track]) -> None:
    """A second file of a transcript, which nobody follows: all that it holds is on the server."""
    local = story.transcripts.files[path][1].lines()  # what follows the last newline may go on in the other file
    there = [one.lines for stream in family for one in story.server.generations_of(stream)]
    if not local or not story.server.bulk:
        return
    held = any(is_as_sent(lines[: len(local)], local, story.wire.refused) for lines in there)
    assert held, f"{path} is followed by nobody, and no stream begins with its {len(local)} entries"


def _whole_lines(story: "Story", path: str) -> list[bytes]:
    """Without what follows the last newline and is no entry."""
    version = story.transcripts.files[path][1]
    local = version.lines(tail=True)
    if local and not _is_whole(version) and not is_object(local[-1]):
        local.pop()
    return local


def _check_file(story: "Story", stream: StreamId, track: Track) -> None:
    if stream != _origin(stream) and not story.server.bulk and track.state is State.REFUSED:
        return  # no base server has a place for it
    if stream in story.wire.deleted:
        return
    assert track.state is State.SYNCED, f"{stream} is {track.state}: {track.reason}"
    version = story.transcripts.files[track.path][1]
    local, every = _whole_lines(story, track.path), version.lines(tail=True)
    tail = every[len(local) :]
    if not local:
        return  # nothing is to be sent, so nobody learns what the server has
    current = story.server.current(stream)
    stored = current.lines if current else []
    if not story.server.bulk:
        local = [line for line in local if entry_uuid(line)]
        stored = _own(story, stored)
    if not story.server.bulk and _is_crowded(story, _origin(stream)):
        # All that it can be told by is uuids: what stands before one that it knows counts as stored.
        ids = {entry_uuid(line) for line in stored}
        assert not local or entry_uuid(local[-1]) in ids, f"{stream}: the server lacks the last entry"
        return
    if tail and is_as_sent(stored, local + tail, story.wire.refused):
        return  # its newline was there when it was sent
    assert is_as_sent(stored, local, story.wire.refused), (
        f"{stream}: the server holds {len(stored)} entries, {_lost(local, stored)} are missing"
        f" and {_lost(stored, local)} too many"
    )


def _check_private(story: "Story", stream: StreamId, track: Track | None) -> None:
    if track is not None:
        assert track.state in (State.PRIVATE, State.GONE), f"{stream} is private, and {track.state}"
    forgets = story.server.has_lost or story.has_lost_state or stream in story.wire.deleted | story.there.diverged
    if story.server.bulk and not forgets:
        current = story.server.current(stream)
        assert current is None or not current.lines, f"{stream} is private, and still on the server"


def is_copy(story: "Story", stream: StreamId) -> bool:
    """Whether an entry of it ever stood in a private session as well."""

    def ids(sessions: Iterable[str]) -> frozenset[int]:
        versions = story.transcripts.versions
        contents = [one.content for key, made in versions.items() if key.session_id in sessions for one in made]
        return frozenset().union(*(read_passage("claude", bytes(one), folders=False, ids=True).ids for one in contents))

    return bool(ids([stream.session_id]) & ids(story.rules.sessions))


def _is_crowded(story: "Story", stream: StreamId) -> bool:
    """A base server has one chain, whatever histories came to stand in it."""
    return stream in story.transcripts.rewritten or stream in story.there.diverged


def _is_whole(version: Version) -> bool:
    return version.content.endswith(b"\n")


def _may_be_refused(story: "Story", stream: StreamId) -> bool:
    diverged = stream in story.transcripts.rewritten or stream in story.there.diverged
    return diverged and (not EXPECT_GENERATIONS or not story.server.bulk)


def _lost(wanted: list[bytes], there: list[bytes]) -> int:
    left = list(there)
    for line in wanted:
        if line in left:
            left.remove(line)
    return len(wanted) - (len(there) - len(left))
