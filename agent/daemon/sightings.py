"""Which file stands for a stream: the one that was found first, until it is gone; or the one of ours that holds it."""

from collections.abc import Callable
from typing import Protocol

from agent.core.lifecycle import BUSY, Event, State
from agent.core.session import Gone, Observation, StreamId
from agent.core.status import MAYBE_THERE
from agent.daemon.gates import Gates
from agent.daemon.journal import Journal
from agent.daemon.keeper import Keeper, is_wanted
from agent.daemon.tasks import TrackKey
from agent.daemon.tracks import Track


class Teller(Protocol):
    """The engine, as far as a sighting concerns it."""

    def observe_at(self, key: TrackKey, seen: Observation, live: bool) -> None: ...
    def apply(self, key: TrackKey, track: Track, event: Event) -> None: ...


class Sightings:
    """`is_history(seen)` says whether a file is from before the agent's time, and stays here."""

    def __init__(
        self,
        tracks: dict[TrackKey, Track],
        gates: Gates,
        keeper: Keeper,
        journal: Journal,
        teller: Teller,
        *,
        is_history: Callable[[Observation], bool],
    ) -> None:
        self._tracks = tracks
        self._gates = gates
        self._keeper = keeper
        self._journal = journal
        self._teller = teller
        self._is_history = is_history
        self.held_back: set[str] = set()
        """Transcripts from before the first start that stay here, since the settings say `backlog = false`."""
        self.rivals: dict[StreamId, dict[str, Observation]] = {}
        """Files that claim an id which another file is followed for."""
        self._vanishing: set[str] = set()
        """Files that went away while they were being sent: told when that has ended."""

    def see(self, seen: Observation, live: bool) -> None:
        followed = self._followed_path(seen.stream)
        is_old = followed is None and self._is_history(seen)
        (self.held_back.add if is_old else self.held_back.discard)(seen.path)
        if is_old:
            return
        held = self._keeper.held.get(seen.stream)
        if held is not None and followed == held.path and seen.inode == held.inode:
            self._follow(seen.stream, seen.path)  # it had only moved
        elif followed == seen.path and self._replaces_unsent(seen):
            # Another file under the same name, while the one before it is still to be sent: that one first.
            assert held is not None  # noqa: S101 - else nothing of it were left
            self._follow(seen.stream, held.path)
            self.rivals.setdefault(seen.stream, {})[seen.path] = seen
            return
        elif followed is not None and followed != seen.path:
            self.rivals.setdefault(seen.stream, {})[seen.path] = seen
            return
        self._vanishing.discard(seen.path)
        for one in self._gates:
            self._teller.observe_at(TrackKey(one.name, *seen.stream), seen, live)

    def find_orphan(self, held: Observation) -> None:
        """A file of ours that an earlier life held: where nothing is known of its stream, it stands for it."""
        for one in self._gates:
            key = TrackKey(one.name, *held.stream)
            if key not in self._tracks:
                self._teller.observe_at(key, held, live=False)

    def _replaces_unsent(self, seen: Observation) -> bool:
        held = self._keeper.held.get(seen.stream)
        return held is not None and held.inode not in (0, seen.inode) and self._is_unsent(seen.stream)

    def lose(self, gone: Gone) -> None:
        """A file is no longer there."""
        stream, path = gone
        self.held_back.discard(path)
        if path not in self._vanishing and self._followed_path(stream) != path:
            self.rivals.get(stream, {}).pop(path, None)
            return
        if any(track.state in BUSY for _, track in self._of(stream)):
            self._vanishing.add(path)
            return
        self._vanishing.discard(path)
        if not self.fall_back(stream):
            self._end(stream)

    def fall_back(self, stream: StreamId) -> bool:
        """Goes on with the file of ours that holds what is still to be sent; False without one."""
        held = self._keeper.held.get(stream)
        if held is None or not self._is_unsent(stream):
            return False
        self._follow(stream, held.path)
        return True

    def find_older(self, stream: StreamId) -> None:
        """What is held is not how the file begins that stands there now: the older one goes first."""
        track = next((track for _, track in self._of(stream)), None)
        if track is None:
            return
        newer = Observation(stream, track.provider, track.path, track.size, track.mtime_ns, 0, track.inode)
        if self.fall_back(stream) and newer.path != track.path:
            self.rivals.setdefault(stream, {})[newer.path] = newer

    def lose_held(self, stream: StreamId, path: str) -> bool:
        """The file at `path` is missing: when it was the one of ours, there is nothing left to send."""
        held = self._keeper.held.get(stream)
        if held is None or held.path != path:
            return False
        del self._keeper.held[stream]
        self._vanishing.add(path)
        return True

    def push_ended(self, key: TrackKey) -> None:
        """A worker has let go of the stream: what had to wait for that."""
        stream, path = key.stream, self._tracks[key].path
        if path in self._vanishing:
            self.lose(Gone(stream, path))
            return
        held = self._keeper.held.get(stream)
        if held is not None and path == held.path and not self._is_unsent(stream):
            self._end(stream)

    def _end(self, stream: StreamId) -> None:
        """Nothing stands for the stream any more; another file with its id may take its place."""
        for key, track in self._of(stream):
            if track.touched and track.cursor.offset == 0 and not track.status:
                track.status = MAYBE_THERE
            self._teller.apply(key, track, Event.VANISHED)
        self._keeper.let_go(stream)
        waiting = self.rivals.pop(stream, {})
        if waiting:
            successor = next(iter(waiting.values()))
            self.see(successor, live=False)
            for other in waiting.values():
                if other is not successor:
                    self.see(other, live=False)

    def _follow(self, stream: StreamId, path: str) -> None:
        for key, track in self._of(stream):
            track.path = path
            self._journal.note_change(key)

    def _followed_path(self, stream: StreamId) -> str | None:
        return next((track.path for _, track in self._of(stream) if track.state is not State.GONE), None)

    def _is_unsent(self, stream: StreamId) -> bool:
        return any(is_wanted(track) for _, track in self._of(stream))

    def _of(self, stream: StreamId) -> list[tuple[TrackKey, Track]]:
        keys = (TrackKey(one.name, *stream) for one in self._gates)
        return [(key, track) for key in keys if (track := self._tracks.get(key)) is not None]
