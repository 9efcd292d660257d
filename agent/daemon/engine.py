"""Decides what should happen. Owns every stream's state, in one thread; obeys the tables of `core.lifecycle`.

Events come in by `handle` (what the scanner saw, what a pusher brought back, what somebody asked), time by `tick`;
tasks go out through `dispatch`. Nothing in here waits, reads a file or speaks to a server, so a simulation can drive
it in virtual time.
"""

import hashlib
import heapq
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.core.backoff import COOL_DOWN_FIRST_S, TRIES, retry_delay_s
from agent.core.identity import START
from agent.core.lifecycle import (
    BUSY,
    LONG_WAIT_S,
    Action,
    Condition,
    Event,
    Signal,
    State,
    Step,
    next_condition,
    next_state,
)
from agent.core.session import Facts, Observation, StreamId
from agent.core.wire import (
    NOT_OURS,
    Accepted,
    BadEntry,
    Capabilities,
    Conflict,
    Deleted,
    Meta,
    NeedsLogin,
    NoEndpoint,
    Refused,
    Reply,
    TooLarge,
    Unavailable,
)
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
from agent.daemon.tracks import DestinationState, Track
from agent.errors import DiskError
from agent.system.state_db import AuditRow, Changes, TrackRow

log = logging.getLogger(__name__)

BATCH_BYTES = 1 << 20
"""How much of a file one request carries: large enough that a request costs little, small enough for a fair turn."""

ADOPTIONS = 5
"""409s in a row without progress before a stream cools down."""

FLUSH_S = 1.0
FLUSH_ROWS = 512
"""Progress is written in batches. What a crash forgets costs a 409 each, and the server tells what it has."""

NOT_LET_IN = "the token is missing or not accepted"
NO_SUBAGENTS = "this server takes main transcripts only"
DIVERGED = "the server holds other content for this transcript"
NO_HEAD = "the server refuses this transcript and holds nothing that says why"


class Observed(NamedTuple):
    """What the scanner found new or changed. `live`: because of a change notice, so somebody is at work there."""

    observations: Sequence[Observation]
    live: bool


class Vanished(NamedTuple):
    paths: Sequence[str]


class Pass(NamedTuple):
    """The periodic push: whatever should be under way and is not."""


class Retry(NamedTuple):
    """Somebody asks to try again: everything, with new credentials or settings or network."""


Input = Observed | Vanished | Pass | Retry | Outcome


class Store(Protocol):
    """`system.state_db.StateDb`, as far as the engine needs it."""

    def commit(self, changes: Changes) -> None: ...
    def tracks(self) -> Iterator[TrackRow]: ...
    def tombstones(self) -> Iterator[tuple[str, StreamId, int, int]]: ...
    def sessions(self) -> Iterator[tuple[str, Facts]]: ...
    def metas(self) -> Iterator[tuple[str, str, str]]: ...
    def settle(self, key: str, value: str) -> str: ...


class Limits(NamedTuple):
    workers: int = 8
    coalesce_s: float = 0.05
    backlog: bool = True


class World(NamedTuple):
    """What the engine is handed instead of reaching for it. `chance()`: a float in [0, 1); `new_uuid()`: text."""

    now_s: Callable[[], float]
    monotonic_s: Callable[[], float]
    chance: Callable[[], float]
    new_uuid: Callable[[], str]


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
        self._host = host
        self._version = version
        self.destinations: Mapping[str, DestinationState] = {one.name: one for one in destinations}
        self.tracks: dict[TrackKey, Track] = {}
        self.facts: dict[str, Facts] = {}
        self.held_back = 0
        """Transcripts from before the first start that stay here, since the settings say `backlog = false`."""
        self.store_trouble = ""
        self._tombstones: dict[TrackKey, dict[int, int]] = {}
        self._metas: dict[tuple[str, str], str] = {}
        self._rivals: dict[StreamId, dict[str, Observation]] = {}
        self._held_back: set[str] = set()
        self._by_path: dict[str, StreamId] = {}
        self._in_flight = 0
        self._timers: list[tuple[float, int, TrackKey | str, int]] = []
        self._timer_count = 0
        self._dirty: set[TrackKey] = set()
        self._pending = _Pending()
        self._flushed_at_s = world.monotonic_s()
        self._flush_wait_s = FLUSH_S
        self._began_at_s = 0.0

    # --- coming up --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Takes up what the store remembers and asks each destination what it offers."""
        now = self._world.now_s()
        try:
            self._began_at_s = float(self._store.settle("began_at_s", repr(now)))
        except DiskError as exc:
            self._store_failed(exc)
            self._began_at_s = now
        self.facts = dict(self._store.sessions())
        self._metas = {(name, session): digest for name, session, digest in self._store.metas()}
        for name, stream, ordinal, status in self._store.tombstones():
            self._tombstones.setdefault(TrackKey(name, stream), {})[ordinal] = status
        for row in self._store.tracks():
            if row.destination in self.destinations:
                self._remember(row)
        for destination in self.destinations.values():
            self._do_step(destination, Step.PROBE)
        self.tick()

    def _remember(self, row: TrackRow) -> None:
        state = State(row.state)
        track = Track(row.stream, row.provider, row.path, row.size, row.mtime_ns, state, row.cursor)
        track.reason, track.attempts = row.reason, row.attempts
        key = TrackKey(row.destination, row.stream)
        self.tracks[key] = track
        self._by_path[row.path] = row.stream
        if state not in (State.SYNCED, State.PRIVATE, State.REFUSED, State.DELETED_ON_SERVER, State.GONE):
            track.state = State.DUE
            self.destinations[key.destination].queue(key, track)

    # --- events -----------------------------------------------------------------------------------------------

    def handle(self, event: Input) -> None:
        match event:
            case Observed():
                for observation in event.observations:
                    self._observe(observation, event.live)
            case Vanished():
                for path in event.paths:
                    self._vanish(path)
            case Pass():
                self._pass()
            case Retry():
                self._retry()
            case _:
                self._in_flight -= 1
                self._outcome(event)

    def tick(self) -> None:
        """Fires the timers whose time has come, hands out tasks, writes what is due to be written."""
        now = self._world.monotonic_s()
        while self._timers and self._timers[0][0] <= now:
            _, _, owner, number = heapq.heappop(self._timers)
            self._timer_fired(owner, number)
        self._hand_out()
        waited = now - self._flushed_at_s
        if (self._dirty or self._pending) and (waited >= self._flush_wait_s or len(self._dirty) >= FLUSH_ROWS):
            self.flush()

    def next_deadline_s(self) -> float | None:
        """Monotonic time at which `tick` has something to do; None when only an event can bring something."""
        times = [self._timers[0][0]] if self._timers else []
        if self._dirty or self._pending:
            times.append(self._flushed_at_s + self._flush_wait_s)
        return min(times) if times else None

    def flush(self) -> None:
        """Writes progress. While the store can't be written, delivery goes on and the writing is tried again."""
        changes = self._pending.changes(self._row(key) for key in self._dirty)
        self._flushed_at_s = self._world.monotonic_s()
        try:
            self._store.commit(changes)
        except DiskError as exc:
            self._store_failed(exc)
            self._flush_wait_s = COOL_DOWN_FIRST_S
            return
        if self.store_trouble:
            log.info("state can be written again")
        self.store_trouble = ""
        self._flush_wait_s = FLUSH_S
        self._dirty.clear()
        self._pending = _Pending()

    def _store_failed(self, exc: DiskError) -> None:
        if not self.store_trouble:
            log.warning("%s; delivery goes on, progress is kept in memory", exc.message)
        self.store_trouble = exc.message

    def is_busy(self) -> bool:
        """Something is under way, or will be without a new event and without waiting for a failure to pass."""
        if self._in_flight or any(one.is_busy() for one in self.destinations.values()):
            return True
        return any(track.state is State.SETTLING for track in self.tracks.values())

    # --- what the disk says -----------------------------------------------------------------------------------

    def _observe(self, seen: Observation, live: bool) -> None:
        if not self._limits.backlog and self._is_history(seen):
            return
        current = self._by_path.get(seen.path)
        if current is not None and current != seen.stream:
            seen = seen._replace(stream=current)  # a flat subagent file keeps the session it was first filed under
        followed = self._followed_path(seen.stream)
        if followed is not None and followed != seen.path:
            self._rivals.setdefault(seen.stream, {})[seen.path] = seen
            return
        self._by_path[seen.path] = seen.stream
        for name, destination in self.destinations.items():
            self._observe_at(TrackKey(name, seen.stream), destination, seen, live)

    def _is_history(self, seen: Observation) -> bool:
        is_old = seen.mtime_ns < self._began_at_s * 1e9 and seen.path not in self._by_path
        (self._held_back.add if is_old else self._held_back.discard)(seen.path)
        self.held_back = len(self._held_back)
        return is_old

    def _followed_path(self, stream: StreamId) -> str | None:
        """The file that stands for a stream; another one with its id waits until that is gone."""
        for name in self.destinations:
            track = self.tracks.get(TrackKey(name, stream))
            if track is not None and track.state is not State.GONE:
                return track.path
        return None

    def rivals(self) -> Mapping[StreamId, Mapping[str, Observation]]:
        """Files that claim an id which another file is followed for, by stream."""
        return self._rivals

    def _observe_at(self, key: TrackKey, destination: DestinationState, seen: Observation, live: bool) -> None:
        track = self.tracks.get(key)
        if track is None:
            track = Track(seen.stream, seen.provider, seen.path, -1, 0, State.SYNCED, START)
            self.tracks[key] = track
        changed = (seen.size, seen.mtime_ns, seen.path) != (track.size, track.mtime_ns, track.path)
        track.size, track.mtime_ns, track.path = seen.size, seen.mtime_ns, seen.path
        if not changed and seen.size == track.cursor.offset:
            return
        self._dirty.add(key)
        if track.state is State.SYNCED and seen.size == track.cursor.offset == 0:
            return
        if live:
            track.live = True
        self._apply(key, track, Event.GREW)

    def _vanish(self, path: str) -> None:
        stream = self._by_path.pop(path, None)
        self._held_back.discard(path)
        if stream is None:
            for rivals in self._rivals.values():
                rivals.pop(path, None)
            return
        for name in self.destinations:
            key = TrackKey(name, stream)
            track = self.tracks.get(key)
            if track is not None and track.state not in BUSY:
                self._apply(key, track, Event.VANISHED)
        successor = next(iter(self._rivals.pop(stream, {}).values()), None)
        if successor is not None:
            self._observe(successor, live=False)

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
                self._audit(outcome.key, "rewritten", f"offset {self.tracks[outcome.key].cursor.offset}")
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
                self.destinations[key.destination].attempts = 0
            track.cursor = done.cursor
            self._dirty.add(key)
        self._learn(key.stream, done.facts)
        if not isinstance(done.reply, Accepted):
            self._answered(key, done.reply, done.at_fault)
            return
        if track.limit:
            track.limit = min(track.limit * 2, self.destinations[key.destination].max_entries)
        track.live = track.live and done.more
        self._apply(key, track, Event.SENT_SOME if done.more else Event.SENT_ALL)
        if not done.more:
            self._tell_meta(key)

    def _realigned(self, done: Realigned) -> None:
        key, track = done.key, self.tracks[done.key]
        before = track.cursor
        if done.cursor is None:
            self._audit(key, "refused", DIVERGED)
            self._refuse(key, track, DIVERGED)
            return
        if done.cursor == before and done.cursor == START and not self.destinations[key.destination].bulk:
            self._audit(key, "refused", NO_HEAD)
            self._refuse(key, track, NO_HEAD)
            return
        track.cursor = done.cursor
        self._dirty.add(key)
        kind = "adopted" if done.foreign else "realigned"
        self._audit(key, kind, f"offset {before.offset} to {done.cursor.offset}")
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
        track, destination = self.tracks[key], self.destinations[key.destination]
        match reply:
            case Accepted():
                self._apply(key, track, Event.REALIGNED)
            case Conflict():
                track.conflict = reply.head
                self._apply(key, track, Event.CONFLICT)
            case NeedsLogin():
                self._apply(key, track, Event.HELD)
                self._close(destination, Signal.UNAUTHORIZED, NOT_LET_IN)
            case NoEndpoint():
                self._apply(key, track, Event.HELD)
                if destination.bulk:
                    self._close(destination, Signal.OFFER_CHANGED, "")
                else:
                    self._close(destination, Signal.NO_ENDPOINT, f"the address takes no transcripts ({reply.status})")
            case Unavailable():
                track.reason = reply.why
                track.wished_s = reply.retry_after_s
                self._apply(key, track, Event.FAILED)
                if reply.everybody:
                    self._close(destination, Signal.UNREACHABLE, reply.why, reply.retry_after_s)
            case TooLarge() | BadEntry():
                self._shrink(key, track, 413 if isinstance(reply, TooLarge) else reply.status, at_fault)
            case Deleted():
                self._audit(key, "deleted on server", "410")
                track.reason = "somebody deleted it on the server"
                self._apply(key, track, Event.DELETED)
            case Refused():
                self._audit(key, "refused", str(reply.status))
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
            self._audit(key, "refused", f"entry {ordinal}, {status}")
            self._refuse(key, track, f"the server refuses entry {ordinal} ({status})")
            return
        stones[ordinal] = status
        self._pending.tombstones.append((key.destination, key.stream, ordinal, status))
        self._audit(key, "tombstoned", f"entry {ordinal}, {status}")
        self._apply(key, track, Event.REALIGNED)

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
            self._dirty.add(key)
        for action in actions:
            self._do(key, track, action)

    def _do(self, key: TrackKey, track: Track, action: Action) -> None:
        match action:
            case Action.QUEUE:
                self.destinations[key.destination].queue(key, track)
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
                destination = self.destinations[key.destination]
                stones = self._tombstones.get(key, {})
                self._send(RealignTask(key, track.path, track.cursor, destination.bulk, track.conflict, stones))
            case Action.FORGIVE:
                track.attempts, track.reason, track.retry_at_s = 0, "", 0.0

    def _set_timer(self, owner: TrackKey | str, number: int, delay_s: float) -> None:
        self._timer_count += 1
        entry = (self._world.monotonic_s() + delay_s, self._timer_count, owner, number)
        heapq.heappush(self._timers, entry)

    def _timer_fired(self, owner: TrackKey | str, number: int) -> None:
        if isinstance(owner, str):
            destination = self.destinations[owner]
            if destination.timer == number:
                self._signal(owner, Signal.TIME_CAME)
            return
        track = self.tracks[owner]
        if track.timer == number:
            self._apply(owner, track, Event.RESTED if track.state is State.SETTLING else Event.TIME_CAME)

    # --- destinations -----------------------------------------------------------------------------------------

    def _signal(self, name: str, signal: Signal) -> None:
        destination = self.destinations[name]
        before = destination.condition
        condition, steps = next_condition(before, signal)
        if condition is not before:
            destination.condition = condition
            destination.timer += 1
            _log_condition(destination)
        for step in steps:
            self._do_step(destination, step)

    def _close(self, destination: DestinationState, signal: Signal, why: str, wished_s: float | None = None) -> None:
        if destination.condition in (Condition.RUNNING, Condition.PROBING):
            destination.why, destination.wished_s = why, wished_s
        self._signal(destination.name, signal)

    def _do_step(self, destination: DestinationState, step: Step) -> None:
        match step:
            case Step.PROBE:
                self._send(ProbeTask(destination.name))
            case Step.RELEASE:
                destination.why, destination.retry_at_s = "", 0.0
            case Step.BACK_OFF | Step.WAIT_LONG:
                destination.attempts += 1
                delay = LONG_WAIT_S
                if step is Step.BACK_OFF:
                    delay = retry_delay_s(destination.attempts, self._world.chance)
                if destination.wished_s is not None:
                    delay = destination.wished_s
                destination.retry_at_s = self._world.now_s() + delay
                self._set_timer(destination.name, destination.timer, delay)

    def _probed(self, done: Probed) -> None:
        destination = self.destinations[done.destination]
        match done.reply:
            case Accepted() if done.capabilities is not None:
                self._offered(destination, done)
            case NeedsLogin():
                self._close(destination, Signal.UNAUTHORIZED, NOT_LET_IN)
            case Unavailable():
                self._close(destination, Signal.UNREACHABLE, done.reply.why, done.reply.retry_after_s)
            case Refused() | Deleted() | TooLarge() | BadEntry():
                self._offered(destination, Probed(done.destination, Capabilities(), Accepted()))
            case _:
                self._close(destination, Signal.UNREACHABLE, NOT_OURS)

    def _offered(self, destination: DestinationState, done: Probed) -> None:
        destination.offered(done.capabilities)
        if destination.protocol == "bulk" and not destination.bulk:
            why = "the server does not offer bulk appends, which the settings demand"
            self._close(destination, Signal.NO_ENDPOINT, why)
            return
        self._signal(destination.name, Signal.ANSWERED)
        for key, track in self.tracks.items():
            if key.destination == destination.name and track.reason == NO_SUBAGENTS and destination.bulk:
                self._apply(key, track, Event.RETRY)

    # --- handing out ------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Live streams before the backlog, and one worker kept free for them; facts of sessions when all is quiet."""
        for destination in self.destinations.values():
            if destination.condition is not Condition.RUNNING:
                continue
            # After an outage one stream goes ahead; its success lets the others follow.
            workers = 1 if destination.attempts else self._limits.workers
            while self._in_flight < workers:
                key = destination.next_key(live_only=self._in_flight == workers - 1 > 0)
                if key is None:
                    break
                self._take(key, destination)
            while self._in_flight < max(1, workers - 1) and destination.metas:
                session_id, _ = destination.metas.popitem()
                self._send_meta(destination, session_id)

    def _take(self, key: TrackKey, destination: DestinationState) -> None:
        track = self.tracks[key]
        if track.state is not State.DUE:
            return
        if key.stream.subpath and not destination.bulk:
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
                self.facts.get(key.stream.session_id, Facts()),
            )
        )

    def _send(self, task: Task) -> None:
        self._in_flight += 1
        self._dispatch(task)

    # --- facts of sessions ------------------------------------------------------------------------------------

    def _learn(self, stream: StreamId, facts: Facts) -> None:
        known = self.facts.get(stream.session_id, Facts())
        if stream.subpath:
            facts = facts._replace(title=known.title, prompt=known.prompt)
        learned = known.merged(facts)
        if learned != known:
            self.facts[stream.session_id] = learned
            self._pending.sessions[stream.session_id] = learned

    def _tell_meta(self, key: TrackKey) -> None:
        destination = self.destinations[key.destination]
        known = self.tracks[key].cursor.sent_count > 0
        if (
            known
            and destination.bulk
            and self._metas.get((key.destination, key.stream.session_id)) != self._meta(key)[1]
        ):
            destination.metas[key.stream.session_id] = key

    def _send_meta(self, destination: DestinationState, session_id: str) -> None:
        meta, digest = self._meta(TrackKey(destination.name, StreamId(session_id, "")))
        if self._metas.get((destination.name, session_id)) != digest:
            self._send(MetaTask(destination.name, session_id, meta, digest))

    def _meta(self, key: TrackKey) -> tuple[Meta, str]:
        facts = self.facts.get(key.stream.session_id, Facts())
        track = self.tracks.get(key)
        provider = track.provider if track else "claude"
        meta = Meta(provider, facts.project, facts.title or facts.prompt, self._host, self._version)
        return meta, hashlib.sha256(repr(meta).encode()).hexdigest()[:16]

    def _meta_sent(self, done: MetaSent) -> None:
        destination = self.destinations[done.destination]
        if isinstance(done.reply, (NeedsLogin, Unavailable)):
            if isinstance(done.reply, NeedsLogin):
                self._close(destination, Signal.UNAUTHORIZED, NOT_LET_IN)
            elif done.reply.everybody:
                self._close(destination, Signal.UNREACHABLE, done.reply.why, done.reply.retry_after_s)
            return
        self._metas[done.destination, done.session_id] = done.digest
        self._pending.metas.append((done.destination, done.session_id, done.digest))

    # --- asked for --------------------------------------------------------------------------------------------

    def _pass(self) -> None:
        for key, track in self.tracks.items():
            if track.state is State.SYNCED:
                self._tell_meta(key)

    def _retry(self) -> None:
        for name in self.destinations:
            self._signal(name, Signal.CHANGED)
        for key, track in self.tracks.items():
            if track.reason not in (DIVERGED, NO_SUBAGENTS):
                self._apply(key, track, Event.RETRY)

    # --- writing ----------------------------------------------------------------------------------------------

    def _audit(self, key: TrackKey, kind: str, detail: str) -> None:
        self._pending.audit.append(AuditRow(self._world.now_s(), key.destination, key.stream, kind, detail))

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


class _Pending:
    """Rows that the next commit writes, beside those of tracks."""

    def __init__(self) -> None:
        self.tombstones: list[tuple[str, StreamId, int, int]] = []
        self.sessions: dict[str, Facts] = {}
        self.metas: list[tuple[str, str, str]] = []
        self.audit: list[AuditRow] = []

    def __bool__(self) -> bool:
        return bool(self.tombstones or self.sessions or self.metas or self.audit)

    def changes(self, rows: Iterator[TrackRow]) -> Changes:
        return Changes(list(rows), self.tombstones, list(self.sessions.items()), self.metas, self.audit)


def _log_condition(destination: DestinationState) -> None:
    level = logging.INFO if destination.condition in (Condition.RUNNING, Condition.PROBING) else logging.WARNING
    why = f": {destination.why}" if destination.why and level == logging.WARNING else ""
    log.log(level, "destination %s is %s%s", destination.name, destination.condition, why)
