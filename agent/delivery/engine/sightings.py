"""Which file stands for a stream. One is enough for most; where several claim to be the same transcript, what they hold
decides (`core.transcripts.sources`), and a worker finds out about that. Also the file of ours that holds what is still
to be sent.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.core.delivery.audit import AuditKind
from agent.core.delivery.lifecycle import BUSY, WITHHELD, Event, State
from agent.core.status import LOST, MAYBE_THERE, unsent_bytes
from agent.core.transcripts.identity import START
from agent.core.transcripts.packed import is_packed
from agent.core.transcripts.session import Gone, Observation, StreamId, is_side_file
from agent.core.transcripts.sources import DECISIONS, Decision, Relation, Standing, copy_subpath, origin_of, rank
from agent.delivery.engine.followed import Followed, origin_stream
from agent.delivery.retention.keeper import Keeper, is_kept_path, is_wanted
from agent.delivery.state.gates import Gates
from agent.delivery.state.journal import Journal
from agent.delivery.state.tasks import Against, Compared, CompareTask, Held, Look, NotHeld, TrackKey
from agent.delivery.state.tracks import Track, is_of_bulk


class Teller(Protocol):
    """The engine, as far as a sighting concerns it."""

    def observe_at(self, key: TrackKey, seen: Observation, live: bool) -> None: ...
    def apply(self, key: TrackKey, track: Track, event: Event) -> None: ...
    def requeue(self, key: TrackKey, track: Track) -> None: ...


@dataclass(slots=True)
class Other:
    """A file that claims to be a transcript which another one is followed for. `covered`: the stream that holds all of
    it, None while it was not compared; `is_same`: its file itself, under another name. `copy`: the stream that
    it becomes if it went another way. `is_new`: it stands where the file of `copy` did, and waits until what is held of
    that is sent. `is_proven`: compared since all of the followed one was sent. `asked`: a worker compares it, `against`
    these; `again`: it has changed since. `trouble`: why it could not be compared."""

    seen: Observation
    copy: StreamId
    covered: StreamId | None = None
    is_same: bool = False
    is_new: bool = False
    is_proven: bool = False
    asked: bool = False
    against: tuple[tuple[StreamId, str], ...] = ()
    again: bool = False
    trouble: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it may hold what no stream holds."""
        return self.covered is None


class Sightings:
    """`is_history(seen)` says whether a file is from before the agent's time, and stays here. `subpaths`: session →
    those of its streams beside the main transcript. `dispatch` takes files to be compared. `told(seen)`: a file that
    stands for a stream was looked at; `ended(gone)`: none stands for it any more."""

    def __init__(
        self,
        tracks: dict[TrackKey, Track],
        gates: Gates,
        keeper: Keeper,
        journal: Journal,
        teller: Teller,
        *,
        subpaths: Mapping[str, Sequence[str]],
        is_history: Callable[[Observation], bool],
        dispatch: Callable[[CompareTask], None],
        told: Callable[[Observation], None] = lambda _: None,
        ended: Callable[[Gone], None] = lambda _: None,
    ) -> None:
        self._tracks = tracks
        self._subpaths = subpaths
        self._followed = Followed(tracks, gates, journal, subpaths)
        self._gates = gates
        self._keeper = keeper
        self._journal = journal
        self._teller = teller
        self._is_history = is_history
        self._dispatch = dispatch
        self._told = told
        self._ended = ended
        self.held_back: set[str] = set()
        """Transcripts from before the first start that stay here, since the settings say `backlog = false`."""
        self.others: dict[StreamId, dict[str, Other]] = {}
        """Stream → path → a file that claims it beside the one that is followed. Few streams have any."""
        self._apart: dict[str, StreamId] = {}
        """Where the files are that went another way → the streams that they are."""
        self._identities: dict[StreamId, tuple[int, int]] = {}
        """Of followed files that have other names."""
        self._doubted: set[StreamId] = set()
        """Streams whose file is another one by now, or shorter, and may lack what was sent of it: until a worker looked
        at it, or another file took its place."""
        self._vanishing: dict[tuple[StreamId, str], Gone] = {}
        """Files that went away while they were being sent: told when that has ended."""

    # --- what the scanner saw ---------------------------------------------------------------------------------

    def take_up(self, key: TrackKey, track: Track) -> None:
        """A stream as the store remembers it."""
        if origin_of(key.subpath) != key.subpath and track.state is not State.GONE:
            self._apart[track.path] = key.stream

    def see(self, seen: Observation, live: bool) -> None:
        apart = self._apart.get(seen.path)
        if apart is not None:
            seen = seen._replace(stream=apart)
        followed = self._followed.path(seen.stream)
        is_old = followed is None and self._is_history(seen)
        (self.held_back.add if is_old else self.held_back.discard)(seen.path)
        if is_old:
            self._told(seen)
            return
        self._keeper.note_size(seen)
        held = self._keeper.held.get(seen.stream)
        if held is not None and followed == held.path and held.inode == seen.inode != 0:
            self._followed.move(seen.stream, seen.path)  # it had only moved
            self._compare_new(seen)
        elif followed == seen.path:
            self._look_at_followed(seen)
        elif self._is_other(seen, followed):
            self._see_other(seen, live)
            return
        self._forward(seen, live)

    def _compare_new(self, seen: Observation) -> None:
        """What was held stands under a name of its own again: what has its former name need not wait for it."""
        origin = origin_stream(seen.stream)
        self._drop(origin, seen.path)
        for newer in self._newer(seen.stream):
            self._compare_as_any(newer)
        self._compare_next(origin)

    def _newer(self, stream: StreamId) -> list[Other]:
        """What waits until the file of ours is sent that stands for the stream."""
        found = self.others.get(origin_stream(stream), {}).values()
        return [one for one in found if one.is_new and one.copy == stream]

    def _compare_as_any(self, newer: Other) -> None:
        newer.is_new, newer.copy = False, self._copy_for(newer.seen)

    def _is_other(self, seen: Observation, followed: str | None) -> bool:
        """Whether it has to be compared before it stands for its stream."""
        if followed is not None:
            return True
        tracks = [track for _, track in self._followed.of(seen.stream)]
        if seen.stream not in self.others and not any(track.cursor.offset for track in tracks):
            return False
        # The one that was followed is gone. What came back to its place, or is that file itself, goes on.
        return not any(
            track.path == seen.path
            or (track.inode, track.size, track.mtime_ns) == (seen.inode, seen.size, seen.mtime_ns)
            for track in tracks
        )

    def _see_other(self, seen: Observation, live: bool) -> None:
        origin = origin_stream(seen.stream)
        seen = seen._replace(stream=origin)
        other = self.others.get(origin, {}).get(seen.path)
        if other is None:
            self._note(seen)
        elif (same := self._same_as(other, seen)) is not None:
            other.seen = seen
            self._forward(same, live)
            return
        elif other.is_new or (not other.is_open and _is_unchanged(other.seen, seen)):
            other.seen = seen
            return
        else:
            other.seen, other.covered, other.is_same, other.trouble = seen, None, False, ""
            other.is_proven = False
            other.again = other.asked
        self._compare_next(origin)

    def _same_as(self, other: Other, seen: Observation) -> Observation | None:
        """As a look at the file that is followed, when this is another name of it."""
        stream = other.covered
        if stream is None or not other.is_same or self._identities.get(stream) != (seen.device, seen.inode):
            return None
        path = self._followed.path(stream)
        return None if path is None else seen._replace(stream=stream, path=path)

    def _look_at_followed(self, seen: Observation) -> None:
        """What others were compared with is another file now, or lacks some of it."""
        track = next(track for _, track in self._followed.of(seen.stream))
        is_another = track.inode not in {0, seen.inode} or seen.size < track.size
        if is_another and track.cursor.offset:
            self._doubted.add(seen.stream)
        if origin_stream(seen.stream) not in self.others:
            return
        if is_another:
            self.doubt(seen.stream)
        self._identities[seen.stream] = (seen.device, seen.inode)

    def doubt(self, stream: StreamId) -> None:
        """Its file is not what it was: the others are compared anew, before that one takes anybody's place."""
        if any(one.covered == stream for one in self.others.get(origin_stream(stream), {}).values()):
            self._doubted.add(stream)
        self.reopen(stream)

    def reopen(self, stream: StreamId) -> None:
        """What was in its file may not be in it any more."""
        origin = origin_stream(stream)
        for other in self.others.get(origin, {}).values():
            if other.covered == stream:
                other.covered, other.is_proven = None, False
        self._compare_next(origin)

    def _forward(self, seen: Observation, live: bool) -> None:
        self._vanishing.pop((seen.stream, seen.path), None)
        for one in self._gates:
            self._teller.observe_at(TrackKey(one.name, *seen.stream), seen, live)
        self._told(seen)

    def find_orphan(self, held: Observation) -> None:
        """A file of ours that an earlier life held: where nothing is known of its stream, it stands for it."""
        origin = origin_stream(held.stream)
        if origin != held.stream and not any(True for _ in self._followed.of(held.stream)):
            self._note(held._replace(stream=origin), copy=held.stream)  # it was to be compared
            return
        for one in self._gates:
            key = TrackKey(one.name, *held.stream)
            if key not in self._tracks:
                self._teller.observe_at(key, held, live=False)

    def scan_ended(self) -> None:
        """What could not be compared is tried again."""
        for stream in list(self.others):
            self.compare_again(stream)

    def compare_again(self, stream: StreamId) -> None:
        for other in self.others.get(stream, {}).values():
            other.trouble = ""
        self._compare_next(stream)

    # --- several files of one transcript ----------------------------------------------------------------------

    def _note(self, seen: Observation, *, is_new: bool = False, copy: StreamId | None = None) -> Other:
        other = self.others.setdefault(seen.stream, {})[seen.path] = Other(
            seen, copy or self._copy_for(seen), is_new=is_new
        )
        self._keeper.wake()
        return other

    def _copy_for(self, seen: Observation) -> StreamId:
        """The stream that it becomes if it went another way: one that no other file stands for."""
        session, subpath = seen.stream
        taken = [
            stream.subpath
            for stream in self._followed.family(seen.stream)
            if self._followed.path(stream) not in {None, seen.path, self._held_path(stream)}
        ]
        return StreamId(session, copy_subpath(subpath, seen.path, taken))

    def _compare_next(self, origin: StreamId) -> None:
        """One at a time, so that each is compared with what came of the one before."""
        waiting = self.others.get(origin, {})
        if any(one.asked for one in waiting.values()):
            return
        ready = [one for one in waiting.values() if one.is_open and not one.is_new and not one.trouble]
        other = min(ready, key=lambda one: rank(one.seen), default=None)
        if other is None:
            self._release(origin)
            return
        against = self._against(origin)
        if not against:
            self._place(other, origin, Decision.FOLLOW, None)
            return
        other.asked, other.again, other.against = True, False, _places(against)
        self._dispatch(CompareTask(origin, other.seen.path, against))

    def _against(self, origin: StreamId) -> tuple[Against, ...]:
        """All that a file of a transcript may be: what was sent goes before the file that may lack it."""
        found = list[Against]()
        for stream in self._followed.family(origin):
            path = self._followed.path(stream)
            if path is None or stream in self._doubted:
                cursor = max((track.cursor for _, track in self._followed.of(stream)), key=lambda one: one.entry_count)
                if cursor.offset:
                    found.append(Against(stream, "", cursor.entry_count, cursor.file_chain))
            if path is not None:
                found.append(Against(stream, path))
        return tuple(found)

    def compared(self, done: Compared) -> None:
        other = self.others.get(done.stream, {}).get(done.path)
        if other is None:  # it is gone since
            self._compare_next(done.stream)
            return
        other.asked = False
        if done.look is None and is_kept_path(done.path, other.seen.provider, done.stream):
            self._drop(done.stream, done.path)  # it was let go meanwhile; no scan will tell
            self._compare_next(done.stream)
            return
        is_news = not other.again and other.against == _places(self._against(done.stream))
        if is_news and other.is_open and not other.is_new:
            if done.relation is not None and done.look is not None:
                self._decide(other, done, done.relation, done.look)
                return
            other.trouble = done.why
        self._compare_next(done.stream)

    def _decide(self, other: Other, done: Compared, relation: Relation, look: Look) -> None:
        other.seen = _seen_as(other.seen, look)
        decision = DECISIONS[relation][self._standing(done, other)]
        if relation is Relation.SAME:
            self._note_same(other, done)
        self._place(other, done.of, decision, done.of_look)

    def _standing(self, done: Compared, other: Other) -> Standing:
        has_left = any(
            track.touched or track.cursor.offset or track.state in BUSY for _, track in self._followed.of(done.of)
        )
        if done.of != done.stream or has_left or self._keeper.holds(done.of):
            return Standing.FOLLOWED
        followed = self._seen_of(done.of)
        return Standing.YIELDS if followed is not None and rank(other.seen) < rank(followed) else Standing.FOLLOWED

    def _note_same(self, other: Other, done: Compared) -> None:
        other.is_same = True
        if done.of_look is not None:
            self._identities[done.of] = done.of_look.identity
        self._forward(other.seen._replace(stream=done.of, path=done.of_path), live=False)

    def _place(self, other: Other, of: StreamId, decision: Decision, of_look: Look | None) -> None:
        origin, path = other.seen.stream, other.seen.path
        if decision is Decision.COVERED:
            other.covered = of
        elif decision is Decision.APART and self._is_history(other.seen):
            self.held_back.add(path)
            other.covered = of
        elif decision is Decision.APART:
            self._drop(origin, path)
            self._take_place(other.copy, other.seen)
        else:
            before = self._seen_of(of)
            self._drop(origin, path)
            self._take_place(of, other.seen)
            if before is not None and not is_kept_path(before.path, before.provider, of):
                self._yield_place(of, before, of_look if decision is Decision.FOLLOW else None)
        self._compare_next(origin)

    def _yield_place(self, stream: StreamId, before: Observation, look: Look | None) -> None:
        """Another file has taken the place of the one that stood for it. `look`: as that was when it was found to be
        how the other begins; None where it still has to be compared, as what it held has to be."""
        self._apart.pop(before.path, None)
        origin = origin_stream(stream)
        if look is None:
            for one in self.others.get(origin, {}).values():
                one.covered = None if one.covered == stream else one.covered
        if self._vanishing.pop((stream, before.path), None) is not None:
            return  # it went away while it was sent; what is held of it is compared before it is let go
        other = self._note(before._replace(stream=origin))
        if look is not None:
            other.seen, other.covered = _seen_as(other.seen, look), stream

    def _take_place(self, stream: StreamId, seen: Observation) -> None:
        if stream != seen.stream:
            self._apart[seen.path] = stream
        if (held_path := self._held_path(stream)) is not None:
            self._drop(origin_stream(stream), held_path)  # what is held of a stream's file before this one goes first
        self._doubted.discard(stream)
        for key, track in self._followed.of(stream):
            if track.cursor.offset and not is_of_bulk(track.cursor) and track.state not in BUSY:
                track.cursor = START  # one chain, which may be further on in this file: a 409 tells
                self._journal.note_change(key)
        if origin_stream(stream) in self.others:
            self._identities[stream] = (seen.device, seen.inode)
        self._forward(seen._replace(stream=stream), live=False)

    def _drop(self, origin: StreamId, path: str) -> Other | None:
        waiting = self.others.get(origin, {})
        other = waiting.pop(path, None)
        if not waiting:
            self.others.pop(origin, None)
            for stream in self._followed.family(origin):
                self._identities.pop(stream, None)
                self._doubted.discard(stream)
        return other

    def _release(self, origin: StreamId) -> None:
        """Nothing of it is compared: what had to wait for that is sent."""
        for stream in self._followed.family(origin):
            self._doubted.discard(stream)
            for key, track in self._followed.of(stream):
                if track.state is State.DUE:
                    self._teller.requeue(key, track)

    def is_waiting(self, key: TrackKey, track: Track) -> bool:
        """Whether nothing of it is sent yet: first it has to be known which file it is."""
        if not self.others:
            return False
        stream = key.stream
        is_new = origin_of(key.subpath) == key.subpath and not track.cursor.offset
        if not is_new and stream not in self._doubted:
            return False
        return any(one.asked for one in self.others.get(origin_stream(stream), {}).values())

    @property
    def is_busy(self) -> bool:
        return any(one.asked for waiting in self.others.values() for one in waiting.values())

    def open_files(self) -> Iterator[Other]:
        """Files that may hold what no stream holds."""
        return (one for waiting in self.others.values() for one in waiting.values() if one.is_open)

    def open_paths(self, session: str) -> tuple[str, ...]:
        """Of those transcripts of a session."""
        if not self.others:
            return ()
        streams = [StreamId(session, subpath) for subpath in ("", *self._subpaths.get(session, ()))]
        return tuple(
            path
            for stream in streams
            if not is_side_file(stream.subpath)
            for path, one in self.others.get(stream, {}).items()
            if one.is_open
        )

    def to_hold(self) -> Iterator[Observation]:
        """The open ones, each as the stream that it may become. One that has a followed one's name is that stream's."""
        return (one.seen._replace(stream=one.copy) for one in self.open_files() if not one.is_new)

    def has_to_stay(self, held: Observation) -> bool:
        """Whether what is held of a stream that waits for nothing is still needed. When neither a stream nor a file is
        known to hold it, it is another file of its session, and is compared as one."""
        origin = origin_stream(held.stream)
        waiting = self.others.get(origin, {})
        noted = waiting.get(held.path)
        found = [one for one in waiting.values() if one.copy == held.stream or one is noted]
        if any(one.covered is None or (not one.is_same and self._followed.is_unsent(one.covered)) for one in found):
            return True
        if noted is not None:
            self._drop(origin, held.path)
        elif not self._stands(held, found):
            self._note(held._replace(stream=origin), copy=None if self._followed.of(held.stream) else held.stream)
            self._compare_next(origin)
            return True
        return False

    def _stands(self, held: Observation, others: Sequence[Other]) -> bool:
        """Whether what is held is what a file has that is followed or was compared, or is nobody's business."""
        family = self._followed.family(origin_stream(held.stream))
        tracks = [track for stream in family for _, track in self._followed.of(stream)]
        if any(one.state in WITHHELD or one.path == held.path for one in tracks):
            return True
        # A track that has gone over to a file of ours still has the looks of the one before.
        looks = [(one.inode, one.size, one.mtime_ns) for one in tracks if not self._keeper.holds_path(one.path)]
        looks += [(one.seen.inode, one.seen.size, one.seen.mtime_ns) for one in others if not one.is_new]
        return any(self._keeper.held[held.stream].holds(*one) for one in looks)

    # --- what is gone -----------------------------------------------------------------------------------------

    def lose(self, gone: Gone) -> None:
        """A file is no longer there."""
        stream, path = self._apart.get(gone.path, gone.stream), gone.path
        self.held_back.discard(path)
        if (stream, path) not in self._vanishing and self._followed.path(stream) != path:
            self._lose_other(origin_stream(stream), path)
            return
        same = self._another_name(stream, path)
        if same is not None:
            self._vanishing.pop((stream, path), None)
            self._apart.pop(path, None)
            self._drop(origin_stream(stream), same.path)
            self._take_place(stream, same)
            return
        if any(track.state in BUSY for _, track in self._followed.of(stream)):
            self._vanishing[stream, path] = gone
            return
        self._vanishing.pop((stream, path), None)
        held = self._keeper.held.get(stream)
        is_overwritten = gone.inode != 0 and (held is None or held.inode == gone.inode)
        if is_overwritten or not self.fall_back(stream):
            self._end(stream)

    def _another_name(self, stream: StreamId, path: str) -> Observation | None:
        """The same file, which has lost one of its names only."""
        found = self.others.get(origin_stream(stream), {}).values()
        return next(
            (one.seen for one in found if one.covered == stream and one.is_same and one.seen.path != path), None
        )

    def _lose_other(self, origin: StreamId, path: str) -> None:
        other = self._drop(origin, path)
        held = self._keeper.held.get(other.copy) if other is not None and not other.is_new else None
        if other is not None and held is not None:  # a link has what came last, which nobody may have seen
            self._note(other.seen._replace(path=held.path), copy=other.copy)
            self._compare_next(origin)

    def fall_back(self, stream: StreamId) -> bool:
        """Goes on with the file of ours that holds what is still to be sent; False without one."""
        if not self._followed.is_unsent(stream):
            return False
        of_file = self._keeper.find_made_of(self._followed.path(stream) or "")
        found = [one for one in (self._keeper.held.get(stream), of_file) if one is not None]
        if not found:
            return False
        held = max(found, key=lambda one: one.size)
        for _, track in self._followed.of(stream):
            if track.size < held.size and not held.holds(track.inode, track.size, track.mtime_ns):
                track.size += held.size  # another file went away, and what was seen of it will be missing at the end
        self._followed.move(stream, held.path)
        return True

    def find_older(self, stream: StreamId) -> bool:
        """Another file stands where the one was that is held; that one goes first. False without one."""
        held, newer = self._keeper.held.get(stream), self._seen_of(stream)
        if held is None or newer is None or newer.path == held.path:
            return False
        for _, track in self._followed.of(stream):
            track.size = held.size
        self._followed.move(stream, held.path)
        self._note(newer._replace(stream=origin_stream(stream)), is_new=True, copy=stream)
        self.reopen(stream)  # what was in the newer one need not be in this one
        return True

    def take_over(self, held: Held) -> None:
        """What was held for another stream has a name as this one's, too."""
        if self._followed.path(held.stream) == held.source != held.path and self._keeper.holds_path(held.source):
            self._followed.move(held.stream, held.path)

    def find_replaced(self, found: NotHeld) -> None:
        """The file at `found.other` does not begin as what is held. When that one is sent already, what is held is on
        its way out, and is compared before it goes."""
        if self._followed.path(found.stream) == found.other and self._followed.is_unsent(found.stream):
            self.find_older(found.stream)

    def lose_held(self, stream: StreamId, path: str) -> bool:
        """The file at `path` is missing: when it was the one of ours, there is nothing left to send."""
        seen, ours = self._seen_of(stream), self._held_path(stream)
        if seen is None or ours not in (None, path) or not is_kept_path(path, seen.provider, stream):
            return False
        self._keeper.let_go(stream)
        self._vanishing[stream, path] = Gone(stream, path)
        return True

    def push_ended(self, key: TrackKey) -> None:
        """A worker has let go of the stream: what had to wait for that."""
        stream, path = key.stream, self._tracks[key].path
        gone = self._vanishing.get((stream, path))
        if gone is not None:
            self.lose(gone)
            return
        if not self._tracks[key].check:
            self._doubted.discard(stream)
        if self._followed.is_unsent(stream):
            return
        self._prove(stream)
        if path == self._held_path(stream) or is_kept_path(path, self._tracks[key].provider, stream):
            self._end(stream)
        elif (held := self._keeper.held.get(stream)) is not None and not held.inode:
            self._keeper.let_go(stream)  # a copy, which may soon be of another file than the one that is there
        if newer := self._newer(stream):
            for one in newer:
                self._compare_as_any(one)  # another file took the place, and held what this waited for
            self._compare_next(origin_stream(stream))

    def _prove(self, stream: StreamId) -> None:
        """What was compared with its file before that was sent, is once more: it may have been rewritten before."""
        if not self.others:
            return
        origin = origin_stream(stream)
        for other in self.others.get(origin, {}).values():
            if other.covered == stream and not other.is_same and not other.is_proven:
                other.covered, other.is_proven = None, True
        self._compare_next(origin)

    def _end(self, stream: StreamId) -> None:
        """Nothing stands for the stream any more; another file may take its place, if it holds what was sent."""
        origin, path = origin_stream(stream), self._followed.path(stream)
        held = self._keeper.held.get(stream)
        for key, track in self._followed.of(stream):
            if lost_bytes := _count_lost(track, held):
                self._journal.note_audit(key, AuditKind.LOST, f"{lost_bytes} bytes")
            track.reason = LOST if lost_bytes else "" if track.reason == LOST else track.reason
            if track.touched and track.cursor.offset == 0 and not track.status:
                track.status = MAYBE_THERE
            self._teller.apply(key, track, Event.VANISHED)
        self._keeper.let_go(stream)
        self._apart.pop(path or "", None)
        self._ended(Gone(stream, path or ""))
        sent = min((track.cursor.offset for _, track in self._followed.of(stream)), default=0)
        waiting = self._newer(stream)
        for newer in waiting[:1]:
            self._drop(origin, newer.seen.path)
            self._forward(newer.seen._replace(stream=stream), live=False)
        for newer in waiting[1:]:
            self._compare_as_any(newer)
        for other in self.others.get(origin, {}).values():
            if other.covered == stream and (waiting or other.seen.size >= sent):
                other.covered, other.is_same = None, False
        self.compare_again(origin)

    # --- what stands for it -----------------------------------------------------------------------------------

    def _held_path(self, stream: StreamId) -> str | None:
        held = self._keeper.held.get(stream)
        return None if held is None else held.path

    def _seen_of(self, stream: StreamId) -> Observation | None:
        """The file that stands for a stream, as it was seen last; None where none does."""
        track = self._followed.track(stream)
        if track is None:
            return None
        device, _ = self._identities.get(stream, (0, 0))
        return Observation(stream, track.provider, track.path, track.size, track.mtime_ns, device, track.inode)


def _places(against: Sequence[Against]) -> tuple[tuple[StreamId, str], ...]:
    return tuple((one.stream, one.path) for one in against)


def _seen_as(seen: Observation, look: Look) -> Observation:
    size = seen.size if is_packed(seen.path) else look.size  # a look does not unpack
    return seen._replace(size=size, mtime_ns=look.mtime_ns, device=look.device, inode=look.inode)


def _is_unchanged(before: Observation, seen: Observation) -> bool:
    return before[3:7] == seen[3:7]


def _count_lost(track: Track, held: Held | None) -> int:
    """Bytes that were seen in its file and are nowhere any more."""
    unsent = unsent_bytes(track.size, track.cursor.offset)
    if is_wanted(track):
        return unsent
    # All that is held was sent, which may be less than the file had at last. Behind a link's end nothing is missing.
    is_short = held is not None and track.path == held.path and not held.holds(track.inode, track.size, track.mtime_ns)
    return unsent if is_short else 0
