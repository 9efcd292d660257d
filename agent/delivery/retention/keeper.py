"""Holds the files of unsent streams, so that they can be delivered even if their coding agent deletes them first."""

import os
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, unquote

from agent.core.delivery.audit import AuditKind
from agent.core.delivery.lifecycle import UNSENT, State
from agent.core.transcripts.packed import is_packed
from agent.core.transcripts.session import Observation, StreamId
from agent.core.transcripts.sources import origin_of
from agent.delivery.state.gates import Gates
from agent.delivery.state.journal import Journal
from agent.delivery.state.tasks import (
    FoundHeld,
    Held,
    HeldOutcome,
    HeldTask,
    KeepTask,
    LetGo,
    LetGoTask,
    NotHeld,
    TrackKey,
)
from agent.delivery.state.tracks import Track

SWEEP_S = 30.0
"""What is sent within this time needs no holding; a coding agent's clean-up comes after days."""

_MAIN = "=main"
"""Stands for the empty subpath; no quoted name holds a `=`."""

_ENDING = ".jsonl"


def kept_name(provider: str, stream: StreamId) -> str:
    """Where a stream's file is held: from the name alone it can be told again whose it is."""
    subpath = quote(stream.subpath, safe="") or _MAIN
    return f"{provider}/{quote(stream.session_id, safe='')}/{subpath}{_ENDING}"


def parse_kept_name(name: str) -> tuple[str, StreamId] | None:
    """The provider and stream of a held file's name; None when it is no such name."""
    parts = name.split("/")
    if len(parts) != 3 or not parts[2].endswith(_ENDING):
        return None
    subpath = parts[2].removesuffix(_ENDING)
    return parts[0], StreamId(unquote(parts[1]), "" if subpath == _MAIN else unquote(subpath))


def is_kept_path(path: str, provider: str, stream: StreamId) -> bool:
    """Whether it is the place of ours for this stream, or for one that its file might have become."""
    parsed = parse_kept_name("/".join(path.split(os.sep)[-3:]))
    if parsed is None or parsed[0] != provider or parsed[1].session_id != stream.session_id:
        return False
    return kept_name(*parsed) == "/".join(path.split(os.sep)[-3:]) and origin_of(parsed[1].subpath) == origin_of(
        stream.subpath
    )


def is_wanted(track: Track) -> bool:
    """Whether its destination still wants something of it; one that refused it may want it later."""
    return track.state in UNSENT or (track.state is State.REFUSED and track.status != 0)


class Keeper:
    def __init__(
        self,
        tracks: dict[TrackKey, Track],
        gates: Gates,
        journal: Journal,
        dispatch: Callable[[HeldTask], None],
        *,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._tracks = tracks
        self._gates = gates
        self._journal = journal
        self._dispatch = dispatch
        self._monotonic_s = monotonic_s
        self._asked: set[StreamId] = set()
        self._next: dict[StreamId, HeldTask] = {}
        """What is to be asked of a stream when an answer has come."""
        self._releasing: dict[StreamId, bool] = {}
        """What is to go, until it is gone, and whether anybody was told that it is held."""
        self._providers: dict[StreamId, str] = {}
        self.others: Callable[[], Iterable[Observation]] = tuple
        """Files that may hold what no stream holds, each with the stream that it would be."""
        self.has_to_stay: Callable[[Observation], bool] = lambda _: False
        """Asked of what is held of a stream that waits for nothing, before it is let go."""
        self.held: dict[StreamId, Held] = {}
        self.trouble: dict[StreamId, str] = {}
        """Streams whose file can't be held, or no longer as far as it goes by now, and why."""
        self.sweep_at_s: float | None = None
        """Monotonic time of the next look; None while everything is sent."""

    def load(self, found: Iterable[FoundHeld]) -> Iterator[Observation]:
        """Takes up what an earlier life held, and gives each as what a look at it would find."""
        for one in found:
            parsed = parse_kept_name(one.name)
            if parsed is not None:
                provider, stream = parsed
                self._providers[stream] = provider
                held = self.held[stream] = Held(stream, one.path, one.inode, one.size, one.mtime_ns)
                self.wake()
                yield self._seen_as(held)

    def wake(self) -> None:
        """Something is to be sent, and may have to be held."""
        if self.sweep_at_s is None:
            self.sweep_at_s = self._monotonic_s() + SWEEP_S

    def sweep(self) -> None:
        wanted: dict[StreamId, Track | Observation] = {one.stream: one for one in self.others()}
        wanted |= {key.stream: track for key, track in self._tracks.items() if is_wanted(track)}
        for stream, file in wanted.items():
            if stream not in self._asked and not is_packed(file.path) and not self._is_current(stream, file):
                self._hold(stream, file)
        bare = {file.path for stream, file in wanted.items() if not self._is_current(stream, file)}
        for stream, held in [one for one in self.held.items() if one[0] not in wanted]:
            # A bare path: another stream has just been found to be of that file.
            if not bare & {held.source, held.path} and not self.has_to_stay(self._seen_as(held)):
                self.let_go(stream)
        for stream in self.trouble.keys() - wanted.keys():
            del self.trouble[stream]
        for stream, was_held in [one for one in self._releasing.items() if one[0] not in self._asked]:
            self._release(stream, was_held)  # the disk did not want to
        self.sweep_at_s = None
        if wanted or self.held or self._releasing:
            self.wake()

    def _seen_as(self, held: Held) -> Observation:
        """As a look at it would find it."""
        provider = self._providers[held.stream]
        return Observation(held.stream, provider, held.path, held.size, held.mtime_ns, 0, held.inode)

    def _is_current(self, stream: StreamId, file: Track | Observation) -> bool:
        """Nothing is gained by another look at its file. A link grows with it; a copy does not."""
        held = self.held.get(stream)
        if held is None or file.path == held.path:
            return held is not None
        return held.holds(file.inode, file.size, file.mtime_ns)

    def find_made_of(self, path: str) -> Held | None:
        """What is held of the file at `path`, if it was for another stream that it might have become."""
        return next((one for one in self.held.values() if path in (one.source, one.path)), None)

    def holds_path(self, path: str) -> bool:
        parsed = parse_kept_name("/".join(path.split(os.sep)[-3:]))
        held = self.held.get(parsed[1]) if parsed else None
        return held is not None and held.path == path

    def holds(self, stream: StreamId) -> bool:
        """Whether something is held of it, or will be in a moment."""
        return stream in self.held or stream in self._asked

    def is_safe(self, stream: StreamId) -> bool:
        """Whether all of it that was there at the last look stays deliverable when its file goes away."""
        return stream in self.held and stream not in self.trouble

    def _hold(self, stream: StreamId, file: Track | Observation) -> None:
        self._releasing.pop(stream, None)
        self._providers[stream] = file.provider
        name = kept_name(file.provider, stream)
        self._ask(KeepTask(stream, file.path, name, ours=self.holds_path(file.path)))

    def let_go(self, stream: StreamId) -> None:
        """At once for everybody who asks; what it takes is counted until it is gone."""
        was_held = self.held.pop(stream, None) is not None
        if was_held or stream in self._asked:
            self._release(stream, was_held or self._releasing.get(stream, False))

    def _release(self, stream: StreamId, was_held: bool) -> None:
        self._releasing[stream] = was_held
        self._ask(LetGoTask(stream, kept_name(self._providers[stream], stream)))

    def note_size(self, seen: Observation) -> None:
        """A link is as long as its file."""
        held = self.held.get(seen.stream)
        if held is not None and held.inode == seen.inode != 0:
            self.held[seen.stream] = held._replace(size=seen.size)

    def _ask(self, task: HeldTask) -> None:
        if task.stream in self._asked:
            self._next[task.stream] = task
            return
        self._asked.add(task.stream)
        self._dispatch(task)

    def came_back(self, outcome: HeldOutcome) -> None:
        stream = outcome.stream
        self._asked.discard(stream)
        match outcome:
            case Held() if stream in self._releasing:
                self.wake()
            case Held():
                if stream not in self.held:
                    self._note(stream, AuditKind.KEPT, "a link" if outcome.inode else "a copy")
                self.held[stream] = outcome
                self.trouble.pop(stream, None)
            case NotHeld():
                if outcome.why:
                    self.trouble[stream] = outcome.why
                if outcome.other and stream not in self.held:
                    self._release(stream, was_held=False)  # left behind, by a disk that did not want to
            case LetGo():
                if self._releasing.pop(stream, False):
                    self._note(stream, AuditKind.LET_GO, "")
                self.trouble.pop(stream, None)
        if (following := self._next.pop(stream, None)) is not None:
            self._ask(following)

    def _note(self, stream: StreamId, kind: AuditKind, detail: str) -> None:
        keys = (TrackKey(one.name, *stream) for one in self._gates)
        key = next((one for one in keys if one in self._tracks), None)
        if key is not None:
            self._journal.note_audit(key, kind, detail)
