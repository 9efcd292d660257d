"""Decides what should happen. Owns every stream's state, in one thread; obeys the tables of `core.lifecycle`.

Events come in by `handle` (what the scanner saw, what a pusher brought back, what somebody asked), time by `tick`;
tasks go out through `dispatch`. Nothing in here waits, reads a file or speaks to a server, so a simulation can drive
it in virtual time.
"""

import logging
from collections.abc import Callable, Sequence
from sys import intern
from typing import NamedTuple

from agent.core.audit import AuditKind
from agent.core.backoff import TRIES, retry_delay_s
from agent.core.identity import START
from agent.core.lifecycle import (
    BUSY,
    Action,
    Condition,
    Event,
    State,
    next_state,
)
from agent.core.session import Gone, Observation, StreamId
from agent.core.wire import (
    Accepted,
    BadEntry,
    Conflict,
    Deleted,
    NeedsLogin,
    NoEndpoint,
    Refused,
    Reply,
    TooLarge,
    Unavailable,
)
from agent.daemon.facts import SessionFacts
from agent.daemon.gates import Gates
from agent.daemon.journal import Journal, Store
from agent.daemon.tasks import (
    MetaSent,
    MetaTask,
    Outcome,
    Probed,
    ProbeTask,
    Pushed,
    PushTask,
    Realigned,
    RealignFailed,
    RealignTask,
    Rewritten,
    Task,
    TrackKey,
    Unreadable,
)
from agent.daemon.timers import Due, Timers
from agent.daemon.tracks import DestinationState, Track
from agent.daemon.world import Limits, World
from agent.system.state_db import TrackRow

log = logging.getLogger(__name__)

BATCH_BYTES = 1 << 20
"""How much of a file one request carries: large enough that a request costs little, small enough for a fair turn."""

ADOPTIONS = 5
"""409s in a row without progress before a stream cools down."""

NO_SUBAGENTS = "this server takes main transcripts only"
DIVERGED = "the server holds other content for this transcript"
NO_HEAD = "the server refuses this transcript and holds nothing that says why"


class Observed(NamedTuple):
    """What the scanner found new or changed. `live`: because of a change notice, so somebody is at work there."""

    observations: Sequence[Observation]
    live: bool


class Vanished(NamedTuple):
    gone: Sequence[Gone]


class Retry(NamedTuple):
    """Somebody asks to try again: everything, with new credentials or settings or network."""


Input = Observed | Vanished | Retry | Outcome


class Engine:
    def __init__(
        self,
        destinations: Sequence[DestinationState],
        store: Store,
        world: World,
        dispatch: Callable[[Task], None],
        limits: Limits,
        *,
        host: str = "",
        version: str = "",
    ) -> None:
        self._store = store
        self._world = world
        self._dispatch = dispatch
        self._limits = limits
        self.gates = Gates(destinations, world, lambda name: self._send(ProbeTask(name)), self._set_timer)
        self.tracks: dict[TrackKey, Track] = {}
        self.journal = Journal(store, self._row, world.now_s, world.monotonic_s)
        self.facts = SessionFacts(self.journal, host, version)
        self.held_back: set[str] = set()
        """Transcripts from before the first start that stay here, since the settings say `backlog = false`."""
        self.rivals: dict[StreamId, dict[str, Observation]] = {}
        """Files that claim an id which another file is followed for."""
        self._tombstones: dict[TrackKey, dict[int, int]] = {}
        self._vanishing: set[str] = set()
        """Files that went away while they were being sent: told when that has ended."""
        self._in_flight = 0
        self._timers: Timers[TrackKey | str] = Timers()
        self._began_at_s = 0.0

    # --- coming up --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Takes up what the store remembers and asks each destination what it offers."""
        self._began_at_s = float(self.journal.settle("began_at_s", repr(self._world.now_s())))
        shared: dict[str, str] = {}  # ids recur in every table; here they become one
        self.facts.load(self._store, shared)
        for name, stream, ordinal, status in self._store.tombstones():
            self._tombstones.setdefault(TrackKey(name, *stream), {})[ordinal] = status
        for row in self._store.tracks():
            if row.destination in self.gates:
                session_id, subpath = row.stream
                key = TrackKey(self.gates[row.destination].name, shared.setdefault(session_id, session_id), subpath)
                self._remember(key, row)
        self.gates.open()
        self.tick()

    def _remember(self, key: TrackKey, row: TrackRow) -> None:
        state, cursor = State(row.state), row.cursor
        size = cursor.offset if row.size == cursor.offset else row.size  # mostly one number
        track = Track(intern(row.provider), row.path, size, row.mtime_ns, state, cursor)
        track.reason, track.attempts = intern(row.reason), row.attempts
        self.tracks[key] = track
        self._tell_meta(key)
        if state not in (State.SYNCED, State.PRIVATE, State.REFUSED, State.DELETED_ON_SERVER, State.GONE):
            track.state = State.DUE
            self.gates[key.destination].queue(key, track)

    # --- events -----------------------------------------------------------------------------------------------

    def handle(self, event: Input) -> None:
        match event:
            case Observed():
                for observation in event.observations:
                    self._observe(observation, event.live)
            case Vanished():
                for gone in event.gone:
                    self._vanish(gone)
            case Retry():
                self._retry()
            case _:
                self._in_flight -= 1
                self._outcome(event)
                if self._vanishing and not isinstance(event, (Probed, MetaSent)):
                    self._end_vanishing(event.key)

    def tick(self) -> None:
        """Fires the timers whose time has come, hands out tasks, writes what is due to be written."""
        now = self._world.monotonic_s()
        while (due := self._timers.pop_due(now)) is not None:
            self._timer_fired(due)
        self._hand_out()
        write_at_s = self.journal.next_write_s()
        if write_at_s is not None and write_at_s <= now:
            self.journal.write()

    def next_deadline_s(self) -> float | None:
        """Monotonic time at which `tick` has something to do; None when only an event can bring something."""
        times = [at_s for at_s in (self._timers.next_s(), self.journal.next_write_s()) if at_s is not None]
        return min(times, default=None)

    def is_busy(self) -> bool:
        """Something is under way, or will be without a new event and without waiting for a failure to pass."""
        if self._in_flight or any(one.is_busy() for one in self.gates):
            return True
        return any(track.state is State.SETTLING for track in self.tracks.values())

    # --- what the disk says -----------------------------------------------------------------------------------

    def _observe(self, seen: Observation, live: bool) -> None:
        if not self._limits.backlog and self._is_history(seen):
            return
        followed = self._followed_path(seen.stream)
        if followed is not None and followed != seen.path:
            self.rivals.setdefault(seen.stream, {})[seen.path] = seen
            return
        for destination in self.gates:
            self._observe_at(TrackKey(destination.name, *seen.stream), seen, live)

    def _is_history(self, seen: Observation) -> bool:
        is_old = seen.mtime_ns < self._began_at_s * 1e9 and self._followed_path(seen.stream) is None
        (self.held_back.add if is_old else self.held_back.discard)(seen.path)
        return is_old

    def _followed_path(self, stream: StreamId) -> str | None:
        """The file that stands for a stream; another one with its id waits until that is gone."""
        for destination in self.gates:
            track = self.tracks.get(TrackKey(destination.name, *stream))
            if track is not None and track.state is not State.GONE:
                return track.path
        return None

    def _observe_at(self, key: TrackKey, seen: Observation, live: bool) -> None:
        track = self.tracks.get(key)
        if track is None:
            track = Track(seen.provider, seen.path, -1, 0, State.SYNCED, START)
            self.tracks[key] = track
        changed = (seen.size, seen.mtime_ns, seen.path) != (track.size, track.mtime_ns, track.path)
        track.size, track.mtime_ns, track.path = seen.size, seen.mtime_ns, seen.path
        if not changed and seen.size == track.cursor.offset:
            return
        self._vanishing.discard(seen.path)
        self.journal.note_change(key)
        if track.state is State.SYNCED and seen.size == track.cursor.offset == 0:
            return
        if live:
            track.live = True
        self._apply(key, track, Event.GREW)

    def _vanish(self, gone: Gone) -> None:
        stream, path = gone
        self.held_back.discard(path)
        if path not in self._vanishing and self._followed_path(stream) != path:
            self.rivals.get(stream, {}).pop(path, None)
            return
        for destination in self.gates:
            key = TrackKey(destination.name, *stream)
            track = self.tracks.get(key)
            if track is not None and track.state in BUSY:
                self._vanishing.add(path)
                return
        self._vanishing.discard(path)
        for destination in self.gates:
            key = TrackKey(destination.name, *stream)
            track = self.tracks.get(key)
            if track is not None:
                self._apply(key, track, Event.VANISHED)
        successor = next(iter(self.rivals.pop(stream, {}).values()), None)
        if successor is not None:
            self._observe(successor, live=False)

    def _end_vanishing(self, key: TrackKey) -> None:
        path = self.tracks[key].path
        if path in self._vanishing:
            self._vanish(Gone(key.stream, path))

    # --- what a pusher brought back ---------------------------------------------------------------------------

    def _outcome(self, outcome: Outcome) -> None:
        match outcome:
            case Pushed():
                self._pushed(outcome)
            case Realigned():
                self._realigned(outcome)
            case RealignFailed():
                self._answered(outcome.key, outcome.reply, at_fault=0)
            case Unreadable():
                self._unreadable(outcome)
            case Rewritten():
                self.journal.note_audit(
                    outcome.key, AuditKind.REWRITTEN, f"offset {self.tracks[outcome.key].cursor.offset}"
                )
                self._ask_head(outcome.key)
            case Probed():
                self._probed(outcome)
            case MetaSent():
                self._meta_sent(outcome)

    def _pushed(self, done: Pushed) -> None:
        key, track = done.key, self.tracks[done.key]
        if done.cursor != track.cursor:
            if done.cursor.offset > track.cursor.offset:
                track.adoptions = 0
                self.gates[key.destination].attempts = 0
            track.cursor = done.cursor
            if track.size == done.cursor.offset:
                track.size = done.cursor.offset  # one number in memory instead of two equal ones
            self.journal.note_change(key)
        self.facts.learn(key.stream, done.facts)
        if not isinstance(done.reply, Accepted):
            self._answered(key, done.reply, done.at_fault)
            return
        if track.limit:
            track.limit = min(track.limit * 2, self.gates[key.destination].max_entries)
        track.live = track.live and done.more
        self._apply(key, track, Event.SENT_SOME if done.more else Event.SENT_ALL)
        if not done.more:
            self._tell_meta(key)

    def _realigned(self, done: Realigned) -> None:
        key, track = done.key, self.tracks[done.key]
        before = track.cursor
        if done.cursor is None:
            self.journal.note_audit(key, AuditKind.REFUSED, DIVERGED)
            self._refuse(key, track, DIVERGED)
            return
        if done.cursor == before and done.cursor == START and not self.gates[key.destination].bulk:
            self.journal.note_audit(key, AuditKind.REFUSED, NO_HEAD)
            self._refuse(key, track, NO_HEAD)
            return
        track.cursor = done.cursor
        self.journal.note_change(key)
        kind = AuditKind.ADOPTED if done.foreign else AuditKind.REALIGNED
        self.journal.note_audit(key, kind, f"offset {before.offset} to {done.cursor.offset}")
        if done.cursor.offset <= before.offset:
            track.adoptions += 1
        if track.adoptions > ADOPTIONS:
            track.adoptions = 0
            track.attempts = max(track.attempts, TRIES)
            track.reason = "the server's answers contradict each other"
            self._apply(key, track, Event.FAILED)
            return
        self._apply(key, track, Event.REALIGNED)

    def _unreadable(self, done: Unreadable) -> None:
        track = self.tracks[done.key]
        track.reason = done.why
        self._apply(done.key, track, Event.VANISHED if done.vanished else Event.FAILED)

    def _answered(self, key: TrackKey, reply: Reply, at_fault: int) -> None:
        """An answer that is no success, as the table in section 3 of the wire says."""
        track = self.tracks[key]
        match reply:
            case Accepted():
                self._apply(key, track, Event.REALIGNED)
            case Conflict():
                track.conflict = reply.head
                self._apply(key, track, Event.CONFLICT)
            case NeedsLogin():
                self._apply(key, track, Event.HELD)
                self.gates.lock_out(key.destination)
            case NoEndpoint():
                self._apply(key, track, Event.HELD)
                self.gates.miss_endpoint(key.destination, reply.status)
            case Unavailable():
                track.reason = reply.why
                track.wished_s = reply.retry_after_s
                self._apply(key, track, Event.FAILED)
                if reply.everybody:
                    self.gates.lose(key.destination, reply)
            case TooLarge() | BadEntry():
                self._shrink(key, track, 413 if isinstance(reply, TooLarge) else reply.status, at_fault)
            case Deleted():
                self.journal.note_audit(key, AuditKind.DELETED_ON_SERVER, "410")
                track.reason = "somebody deleted it on the server"
                self._apply(key, track, Event.DELETED)
            case Refused():
                self.journal.note_audit(key, AuditKind.REFUSED, str(reply.status))
                self._refuse(key, track, f"the server answers {reply.status}")

    def _shrink(self, key: TrackKey, track: Track, status: int, at_fault: int) -> None:
        """Halves the batch until the entry at fault stands alone; that one travels as a tombstone."""
        if at_fault > 1:
            track.limit = at_fault // 2
            self._apply(key, track, Event.REALIGNED)
            return
        ordinal = track.cursor.entry_count + 1
        stones = self._tombstones.setdefault(key, {})
        if at_fault == 0 or ordinal in stones:
            self.journal.note_audit(key, AuditKind.REFUSED, f"entry {ordinal}, {status}")
            self._refuse(key, track, f"the server refuses entry {ordinal} ({status})")
            return
        stones[ordinal] = status
        self.journal.note_tombstone(key, ordinal, status)
        self.journal.note_audit(key, AuditKind.TOMBSTONED, f"entry {ordinal}, {status}")
        self._apply(key, track, Event.REALIGNED)

    def _probed(self, done: Probed) -> None:
        if not self.gates.take_probe(done) or not self.gates[done.destination].bulk:
            return
        for key, track in self.tracks.items():
            if key.destination == done.destination and track.reason == NO_SUBAGENTS:
                self._apply(key, track, Event.RETRY)

    def _refuse(self, key: TrackKey, track: Track, reason: str) -> None:
        track.reason = reason
        self._apply(key, track, Event.REFUSED)

    def _ask_head(self, key: TrackKey) -> None:
        track = self.tracks[key]
        track.conflict = None
        self._apply(key, track, Event.CONFLICT)

    # --- the table --------------------------------------------------------------------------------------------

    def _apply(self, key: TrackKey, track: Track, event: Event) -> None:
        state, actions = next_state(track.state, event)
        if state is not track.state:
            track.state = state
            track.timer += 1
            self.journal.note_change(key)
        for action in actions:
            self._do(key, track, action)

    def _do(self, key: TrackKey, track: Track, action: Action) -> None:
        match action:
            case Action.QUEUE:
                self.gates[key.destination].queue(key, track)
            case Action.REST:
                self._set_timer(key, track.timer, self._limits.coalesce_s)
            case Action.BACK_OFF:
                track.attempts += 1
                delay = retry_delay_s(track.attempts, self._world.chance)
                delay = track.wished_s if track.wished_s is not None else delay
                track.wished_s = None
                track.retry_at_s = self._world.now_s() + delay
                self._set_timer(key, track.timer, delay)
            case Action.REALIGN:
                destination = self.gates[key.destination]
                stones = self._tombstones.get(key, {})
                self._send(RealignTask(key, track.path, track.cursor, destination.bulk, track.conflict, stones))
            case Action.FORGIVE:
                track.attempts, track.reason, track.retry_at_s = 0, "", 0.0

    def _set_timer(self, owner: TrackKey | str, number: int, delay_s: float) -> None:
        self._timers.set(owner, number, self._world.monotonic_s() + delay_s)

    def _timer_fired(self, due: Due[TrackKey | str]) -> None:
        owner, number = due.owner, due.number
        if isinstance(owner, str):
            self.gates.time_came(owner, number)
            return
        track = self.tracks[owner]
        if track.timer == number:
            self._apply(owner, track, Event.RESTED if track.state is State.SETTLING else Event.TIME_CAME)

    # --- handing out ------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Live streams before the backlog, and one worker kept free for them; facts of sessions when all is quiet."""
        for destination in self.gates:
            if destination.condition is not Condition.RUNNING:
                continue
            # After an outage one stream goes ahead; its success lets the others follow.
            workers = 1 if destination.attempts else self._limits.workers
            while self._in_flight < workers:
                key = destination.next_key(live_only=self._in_flight == workers - 1 > 0)
                if key is None:
                    break
                self._take(key, destination)
            while destination.bulk and destination.metas and self._in_flight < max(1, workers - 1):
                self._send_meta(destination, *destination.metas.popitem())

    def _take(self, key: TrackKey, destination: DestinationState) -> None:
        track = self.tracks[key]
        if track.state is not State.DUE:
            return
        if key.subpath and not destination.bulk:
            self._refuse(key, track, NO_SUBAGENTS)
            return
        self._apply(key, track, Event.TAKEN)
        if destination.bulk and track.cursor.generation is None:
            # Nothing was sent in bulk yet, or only one by one: what the server holds is asked for by a 409.
            track.cursor = START._replace(generation=self._world.new_uuid())
        self._send(
            PushTask(
                key,
                track.provider,
                track.path,
                track.cursor,
                destination.bulk,
                min(BATCH_BYTES, destination.max_bytes),
                min(track.limit or destination.max_entries, destination.max_entries),
                destination.encoding,
                dict(self._tombstones.get(key, {})),
                self.facts.of(key.session_id),
            )
        )

    def _send(self, task: Task) -> None:
        self._in_flight += 1
        self._dispatch(task)

    # --- facts of sessions ------------------------------------------------------------------------------------

    def _tell_meta(self, key: TrackKey) -> None:
        track, destination = self.tracks[key], self.gates[key.destination]
        if track.cursor.sent_count and not self.facts.is_told(key.destination, key.session_id, track.provider):
            destination.metas[key.session_id] = track.provider

    def _send_meta(self, destination: DestinationState, session_id: str, provider: str) -> None:
        if not self.facts.is_told(destination.name, session_id, provider):
            meta, digest = self.facts.meta(session_id, provider)
            self._send(MetaTask(destination.name, session_id, provider, meta, digest))

    def _meta_sent(self, done: MetaSent) -> None:
        match done.reply:
            case NeedsLogin():
                self.gates.lock_out(done.destination)
                self.gates[done.destination].metas[done.session_id] = done.provider
            case Unavailable():
                # Entries must never wait for a title: told again with the session's next push, or the next start.
                log.debug("facts of session %s were not taken", done.session_id)
            case _:
                self.facts.note_told(done.destination, done.session_id, done.digest)

    # --- asked for --------------------------------------------------------------------------------------------

    def _retry(self) -> None:
        self.gates.ask_again()
        for key, track in self.tracks.items():
            if track.reason != NO_SUBAGENTS:
                self._apply(key, track, Event.RETRY)

    # --- writing ----------------------------------------------------------------------------------------------

    def _row(self, key: TrackKey) -> TrackRow:
        track = self.tracks[key]
        return TrackRow(
            key.destination,
            key.stream,
            track.provider,
            track.path,
            track.size,
            track.mtime_ns,
            track.state,
            track.reason,
            track.attempts,
            track.cursor,
        )
