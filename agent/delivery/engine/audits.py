"""The slow look at everything: a file that was rewritten to the same size and time looks untouched. So each synced
stream is read again once in a while, spread evenly, when nothing else is to be done. One that was written to and did
not grow is read soon: whoever appends does not do that, whoever rewrites in its place does."""

from agent.core.delivery.lifecycle import UNSENT, State
from agent.core.transcripts.session import is_side_file
from agent.delivery.base.world import World
from agent.delivery.state.tasks import TrackKey
from agent.delivery.state.tracks import Track

STEP_S = 60.0

MOST_ASKED = 32
"""In a step. Some people set the times of all their transcripts, so that none is cleaned up."""


class Audits:
    """`interval_s`: in which each stream comes up once; 0 for never."""

    def __init__(self, tracks: dict[TrackKey, Track], world: World, interval_s: float) -> None:
        self._tracks = tracks
        self._world = world
        self._interval_s = interval_s
        self._round: list[TrackKey] = []
        self._asked: dict[TrackKey, None] = {}
        self._owed = 0.0
        self.next_s: float | None = world.monotonic_s() + STEP_S if interval_s else None
        """Monotonic time of the next step; None for never."""

    def ask(self, key: TrackKey) -> None:
        """A stream to look at soon."""
        if self.next_s is not None:
            self._asked[key] = None

    def due(self, *, quiet: bool) -> list[TrackKey]:
        """The streams to look at now; none before the time has come, or while others are at work."""
        now_s = self._world.monotonic_s()
        if self.next_s is None or now_s < self.next_s:
            return []
        self.next_s = now_s + STEP_S
        if not quiet:
            return []
        self._owed = min(self._owed + len(self._tracks) * STEP_S / self._interval_s, len(self._tracks))
        found = self._take_asked()
        while self._owed >= 1:
            self._owed -= 1
            key = self._next()
            if key is not None and key not in found:
                found.append(key)
        return found

    def _take_asked(self) -> list[TrackKey]:
        found: list[TrackKey] = []
        for key in list(self._asked):
            track = self._tracks.get(key)
            if track is not None and track.state in UNSENT:
                continue
            del self._asked[key]
            if self._is_due(key, track):
                found.append(key)
            if len(found) == MOST_ASKED:
                break
        return found

    def _next(self) -> TrackKey | None:
        """From a random place on, since a machine may never run for a whole round."""
        if not self._round:
            keys = list(self._tracks)
            first = int(self._world.chance() * len(keys))
            self._round = keys[first:] + keys[:first]
            self._round.reverse()
        key = self._round.pop()
        return key if self._is_due(key, self._tracks.get(key)) else None

    def _is_due(self, key: TrackKey, track: Track | None) -> bool:
        if track is None or track.state is not State.SYNCED or is_side_file(key.subpath):
            return False
        return track.cursor.entry_count > 0
