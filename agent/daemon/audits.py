"""The slow look at everything: a file that was rewritten to the same size and time looks untouched. So each synced
stream is read again once in a while, spread evenly, when nothing else is to be done."""

from agent.core.lifecycle import State
from agent.core.session import is_side_file
from agent.daemon.tasks import TrackKey
from agent.daemon.tracks import Track
from agent.daemon.world import World

STEP_S = 60.0


class Audits:
    """`interval_s`: in which each stream comes up once; 0 for never."""

    def __init__(self, tracks: dict[TrackKey, Track], world: World, interval_s: float) -> None:
        self._tracks = tracks
        self._world = world
        self._interval_s = interval_s
        self._round: list[TrackKey] = []
        self._owed = 0.0
        self.next_s: float | None = world.monotonic_s() + STEP_S if interval_s else None
        """Monotonic time of the next step; None for never."""

    def due(self, *, quiet: bool) -> list[TrackKey]:
        """The streams to look at now; none before the time has come, or while others are at work."""
        now_s = self._world.monotonic_s()
        if self.next_s is None or now_s < self.next_s:
            return []
        self.next_s = now_s + STEP_S
        if not quiet:
            return []
        self._owed = min(self._owed + len(self._tracks) * STEP_S / self._interval_s, len(self._tracks))
        found: list[TrackKey] = []
        while self._owed >= 1:
            self._owed -= 1
            key = self._next()
            if key is not None:
                found.append(key)
        return found

    def _next(self) -> TrackKey | None:
        """From a random place on, since a machine may never run for a whole round."""
        if not self._round:
            keys = list(self._tracks)
            first = int(self._world.chance() * len(keys))
            self._round = keys[first:] + keys[:first]
            self._round.reverse()
        key = self._round.pop()
        track = self._tracks.get(key)
        if track is None or track.state is not State.SYNCED or is_side_file(key.subpath):
            return None
        return key if track.cursor.entry_count else None
