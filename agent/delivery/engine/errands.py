"""What is handed out for a stream, as a task; and what can't be, and why."""

from collections.abc import Mapping
from typing import Protocol

from agent.core.delivery.lifecycle import UNSENT, Event, State
from agent.core.delivery.projects import matches_project
from agent.core.status import DELETED_HERE
from agent.core.transcripts.identity import START
from agent.core.transcripts.session import Rejected, StreamId, is_side_file
from agent.delivery.base.world import Limits, World
from agent.delivery.engine.outbox import BATCH_BYTES
from agent.delivery.engine.private import Private
from agent.delivery.engine.sightings import Sightings
from agent.delivery.state.facts import SessionFacts
from agent.delivery.state.tasks import (
    FileTask,
    Held,
    Leave,
    MetaTask,
    PushTask,
    RestoreTask,
    Task,
    TrackKey,
    UploadTask,
)
from agent.delivery.state.tracks import DestinationState, Track, is_of_bulk, statuses_of

NO_SUBAGENTS = "this server takes main transcripts only"
NO_FILES = "this server takes no side files"
WITHOUT_SESSION = "its transcript is not sent"


REST_S = 30.0
"""A file that travels as a whole and grows is sent again after this rest."""

REST_BYTES_S = 100_000
"""A large one rests longer, so that the same bytes take no more than this of the line: 100 MB a quarter of an hour."""


class Teller(Protocol):
    """The engine, as far as errands concern it."""

    def apply(self, key: TrackKey, track: Track, event: Event) -> None: ...
    def forget_rejected(self, key: TrackKey, track: Track) -> None: ...
    def refuse(self, key: TrackKey, track: Track, reason: str) -> None: ...


class Errands:
    def __init__(
        self,
        tracks: dict[TrackKey, Track],
        tombstones: dict[TrackKey, dict[int, Rejected]],
        teller: Teller,
        *,
        facts: SessionFacts,
        private: Private,
        sightings: Sightings,
        held: Mapping[StreamId, Held],
        world: World,
        limits: Limits,
    ) -> None:
        self._tracks = tracks
        self._tombstones = tombstones
        self._teller = teller
        self._facts = facts
        self._private = private
        self._sightings = sightings
        self._held = held
        self._world = world
        self._limits = limits
        self._first_seen_s: dict[str, float] = {}
        """New sessions that are held for a while → wall time."""
        self._rests_until_s: dict[TrackKey, float] = {}
        """What was sent as a whole file lately → monotonic time."""

    def see_new(self, key: TrackKey, track: Track) -> None:
        """A stream that nobody knew: the first of a session begins its grace time."""
        if self._limits.hold_s and key._replace(subpath="") not in self._tracks and not track.cursor.sent_count:
            self._first_seen_s.setdefault(key.session_id, min(self._world.now_s(), track.mtime_ns / 1e9))

    def take(self, key: TrackKey, destination: DestinationState) -> Task | None:
        """The task that sends a stream; None when it is not due any more, or can't be sent there."""
        track = self._tracks[key]
        if track.state is not State.DUE:
            return None
        if key.session_id in self._private.why:
            self._private.settle(key, track)
            return None
        if self._sightings.is_waiting(key, track):
            return None  # it comes back when it is known which file it is
        if self.postponed_s(key, track) > 0:
            self._teller.apply(key, track, Event.POSTPONED)
            return None
        if track.status == DELETED_HERE and destination.deletes:
            self._teller.apply(key, track, Event.TAKEN)
            return RestoreTask(key, track.path, self.leave(key, track))
        if is_side_file(key.subpath):
            return self._take_file(key, track, destination)
        if destination.takes_files_only:
            self._begin_rest(key, max(REST_S, track.size / REST_BYTES_S))
            self._teller.apply(key, track, Event.TAKEN)
            leave, projects = self.leave(key, track), destination.projects
            gzip = destination.gzip
            return UploadTask(key, track.provider, track.path, track.cursor, gzip, leave, projects, track.tail)
        if key.subpath and not destination.bulk:
            self._teller.refuse(key, track, NO_SUBAGENTS)
            return None
        if track.resend and destination.generations:
            # The server's copy holds notes in their place: with them unknown here, a 409 leads to a new generation
            # behind the last entry before them.
            self._teller.forget_rejected(key, track)
        track.resend = False
        self._teller.apply(key, track, Event.TAKEN)
        if destination.bulk and not is_of_bulk(track.cursor):
            # Nothing was sent in bulk yet, or only one by one: what the server holds is asked for by a 409.
            track.cursor = START._replace(generation=self._world.new_uuid())
        return PushTask(
            key,
            track.provider,
            track.path,
            track.cursor,
            destination.bulk,
            min(BATCH_BYTES, destination.max_bytes),
            min(track.limit or destination.max_entries, destination.max_entries),
            destination.encoding,
            statuses_of(self._tombstones.get(key, {})),
            self.leave(key, track),
            track.check,
            track.tail,
            destination.projects,
            self._retained(key, track),
            destination.max_entry_bytes or 0,
        )

    def _take_file(self, key: TrackKey, track: Track, destination: DestinationState) -> Task | None:
        """Side files follow the entries that mention them."""
        if not destination.files:
            self._teller.refuse(key, track, NO_FILES)
            return None
        main = self._tracks.get(key._replace(subpath=""))
        project = self._facts.of(key.session_id).project
        is_outside = destination.projects and not matches_project(project, destination.projects)
        if is_outside or (main is not None and main.state not in (State.SYNCED, State.GONE)):
            destination.park(key)
            if main is None or main.state not in UNSENT:
                self._teller.refuse(key, track, WITHOUT_SESSION)
            return None
        self._begin_rest(key, track.size / REST_BYTES_S)
        self._teller.apply(key, track, Event.TAKEN)
        return FileTask(key, track.path, self._limits.files_bytes_per_s, self.leave(key, track))

    def _retained(self, key: TrackKey, track: Track) -> str:
        held = self._held.get(key.stream)
        return held.path if held is not None and held.path != track.path else ""

    def leave(self, key: TrackKey, track: Track) -> Leave:
        main = self._tracks.get(key._replace(subpath="")) if key.subpath else track
        judged = main.judged if main is not None and is_side_file(key.subpath) else track.judged
        main_path, others = main.path if main is not None else "", self._sightings.open_paths(key.session_id)
        facts, grounds = self._facts.of(key.session_id), self._private.grounds(key.session_id)
        return Leave(facts, main_path, judged, track.provider, others=others, grounds=grounds)

    def postponed_s(self, key: TrackKey, track: Track) -> float:
        """Until it may be sent, though nothing is wrong. What failed before rests for its size only."""
        rest_s = self.rest_left_s(key) - (REST_S if track.attempts else 0.0)
        return max(self.hold_left_s(key.session_id), rest_s)

    def _begin_rest(self, key: TrackKey, rest_s: float) -> None:
        self._rests_until_s[key] = self._world.monotonic_s() + rest_s

    def rest_left_s(self, key: TrackKey) -> float:
        """Until a file that travelled as a whole may travel again."""
        left_s = self._rests_until_s.get(key, 0.0) - self._world.monotonic_s()
        if left_s <= 0:
            self._rests_until_s.pop(key, None)
        return max(left_s, 0.0)

    def end_rest(self, key: TrackKey) -> bool:
        """Somebody wants it sent now. False when it did not rest."""
        return self._rests_until_s.pop(key, None) is not None

    def hold_left_s(self, session_id: str) -> float:
        """Until the grace time of a new session is over."""
        since_s = self._first_seen_s.get(session_id)
        if since_s is None:
            return 0.0
        left_s = since_s + self._limits.hold_s - self._world.now_s()
        if left_s <= 0:
            del self._first_seen_s[session_id]
        return min(left_s, self._limits.hold_s)

    def tell(self, destination: DestinationState, session_id: str, provider: str) -> Task | None:
        main = TrackKey(destination.name, session_id, "")
        track = self._tracks.get(main)
        if session_id in self._private.why or self._facts.is_told(destination.name, session_id, provider):
            return None
        meta, digest = self._facts.meta(session_id, provider)
        leave = self.leave(main, track) if track is not None else Leave(self._facts.of(session_id), provider=provider)
        return MetaTask(destination.name, session_id, provider, meta, digest, leave)
