"""Decides what should happen. Owns every stream's state, in one thread; obeys the tables of `core.delivery.lifecycle`.

Events come in by `handle` (what the scanner saw, what a pusher brought back, what somebody asked), time by `tick`;
tasks go out through `dispatch`. Nothing in here waits, reads a file or speaks to a server, so a simulation can drive
it in virtual time. Its rooms: `errands` (what is handed out), `answers` (what came of it), `private` (what stays here),
`sightings` (which file stands for a stream), `keeper` (files held against deletion), `gates` (how destinations stand),
`outbox` (who is sent next), `byhand` (what somebody asks for), `pausing` (whether anybody is), `audits` (the slow look
at everything), `journal`.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from sys import intern

from agent.core.delivery.audit import AuditKind
from agent.core.delivery.backoff import COOL_DOWN_FIRST_S, retry_delay_s
from agent.core.delivery.lifecycle import BUSY, UNSENT, Action, Event, State, next_state
from agent.core.sessions.events import Happening
from agent.core.sessions.runs import Run, RunChange
from agent.core.status import DELETED_THERE, MAYBE_THERE
from agent.core.transcripts.identity import PACKED_START, START, pack_cursor
from agent.core.transcripts.session import PROJECT_UNKNOWN, Facts, Gone, Observation, Rejected, StreamId, is_side_file
from agent.core.wire import (
    NeedsLogin,
    Unavailable,
)
from agent.delivery.base.world import Limits, World
from agent.delivery.engine.answers import OUTSIDE, TAKEN_BACK, Answers, may_fare_better
from agent.delivery.engine.audits import Audits
from agent.delivery.engine.beginning import Beginning
from agent.delivery.engine.byhand import UNFIT, ByHand
from agent.delivery.engine.errands import NO_FILES, NO_SUBAGENTS, WITHOUT_SESSION, Errands
from agent.delivery.engine.milestones import Milestones
from agent.delivery.engine.outbox import Outbox
from agent.delivery.engine.private import REVIEWED, Private
from agent.delivery.engine.sightings import Sightings
from agent.delivery.engine.telling import Telling
from agent.delivery.privacy.permits import Guard
from agent.delivery.retention.keeper import Keeper
from agent.delivery.state.facts import SessionFacts
from agent.delivery.state.gates import Gates
from agent.delivery.state.inputs import (
    DeletedThere,
    Input,
    Observed,
    PulledHere,
    Requeued,
    Restore,
    Retry,
    RulesChanged,
    SaidOver,
    ScanEnded,
    Seen,
    Vanished,
    Woken,
)
from agent.delivery.state.journal import Journal, Store
from agent.delivery.state.pausing import PAUSED, TIMER, HeldOff, PauseAsked, Pausing, ResumeAsked
from agent.delivery.state.tasks import (
    Compared,
    DiskOutcome,
    DiskTask,
    FoundHeld,
    Held,
    LetGo,
    MetaSent,
    NotHeld,
    Probed,
    ProbeTask,
    RealignTask,
    Reviewed,
    SessionDeleted,
    Task,
    TrackKey,
)
from agent.delivery.state.timers import Due, Timers
from agent.delivery.state.tracks import DestinationState, Track, lacks_entries, statuses_of, streams_of
from agent.errors import DiskError
from agent.system.state.state_db import TrackRow

log = logging.getLogger(__name__)

_REVIEW = "\0review"
"""No destination's name: whose timer it is that brings another look at what could not be read."""

_RUNNING = "running"
"""Settled in the store while answers are awaited: who finds it does not know all that was sent."""

_FORGETFUL = "forgetful"
"""What stands there in a life after a damaged state: who finds it knows as little."""

QUIET_S = 300.0
"""A last line without a newline is taken as whole when nobody has added to it for so long."""

LIVE_S = 60.0
LIVE_BYTES = 256 << 10
"""A stream that changed this lately, by not more than this, goes before others."""

WAKE_SPREAD_S = 2.0
"""What waited tries again within this time after a wake-up, not all at once."""


class Engine:
    """`dispatch` takes tasks of destinations, `dispatch_disk` those that concern none; `found_held`: files that an
    earlier life held, `found_runs` the runs that it knew; `tell` takes what happens, for whoever listens, and
    `tell_run` what becomes of runs. `sighted` takes looks at files that stand for streams, each with the stream that it
    is, and `lost` the streams that no file stands for any more."""

    def __init__(
        self,
        destinations: Sequence[DestinationState],
        store: Store,
        world: World,
        dispatch: Callable[[Task], None],
        limits: Limits,
        *,
        guard: Guard,
        dispatch_disk: Callable[[DiskTask], None] = lambda _: None,
        found_held: Iterable[FoundHeld] = (),
        host: str = "",
        version: str = "",
        tell: Callable[[Happening], None] = lambda _: None,
        tell_run: Callable[[RunChange], None] = lambda _: None,
        new_run_id: Callable[[], str] | None = None,
        found_runs: Iterable[Run] = (),
        sighted: Callable[[Sequence[Observation]], None] = lambda _: None,
        lost: Callable[[Sequence[Gone]], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._world = world
        self._limits = limits
        self._found_held = list(found_held)
        self.tracks: dict[TrackKey, Track] = {}
        self._tombstones: dict[TrackKey, dict[int, Rejected]] = {}
        self.subpaths: dict[str, list[str]] = {}
        """Session → those of its streams and side files beside the main transcript."""
        self._awaits_scan = False
        self._has_forgotten = self._is_unsure = False
        """A server may have anything of what is found and not remembered: until the first scan has ended after a crash,
        and until a life ends as it should after a damaged state."""
        self._timers: Timers[TrackKey | str] = Timers()
        monotonic_s = world.monotonic_s
        self.gates = Gates(destinations, world, self._probe, self._set_timer)
        self.journal = Journal(store, self._row, world.now_s, monotonic_s)
        self.pausing = Pausing(self.journal, world, self._set_timer)
        self.facts = SessionFacts(self.journal, host, version)
        self.keeper = Keeper(self.tracks, self.gates, self.journal, dispatch_disk, monotonic_s=monotonic_s)
        self.private = Private(
            self.tracks,
            self.subpaths,
            self.gates,
            self.journal,
            self,
            guard=guard,
            dispatch=dispatch_disk,
            facts=self.facts.of,
        )
        self.telling = Telling(
            self.tracks,
            self.subpaths,
            self.gates,
            world,
            why_private=self.private.why,
            facts=self.facts.of,
            tell=tell,
            tell_run=tell_run,
            new_run_id=new_run_id or map("run-{}".format, count(1)).__next__,
        )
        self.telling.restore_runs(found_runs)
        self.journal.on_audit, self.gates.on_change = self.telling.audited, self.telling.condition_changed
        self.pausing.on_change, self.facts.on_project = self.telling.paused, self._project_known
        self._beginning = Beginning(self.journal, world, backlog=limits.backlog)
        self._seen: list[Observation] = []
        self._ended: list[Gone] = []
        self._sighted, self._lost = sighted, lost
        self.sightings = Sightings(
            self.tracks,
            self.gates,
            self.keeper,
            self.journal,
            self,
            subpaths=self.subpaths,
            is_history=self._beginning.is_history,
            dispatch=dispatch_disk,
            told=self._seen.append,
            ended=self._ended.append,
        )
        self.keeper.others, self.private.others = self.sightings.to_hold, self.sightings.open_paths
        self.keeper.has_to_stay = self.sightings.has_to_stay
        self.errands = Errands(
            self.tracks,
            self._tombstones,
            self,
            facts=self.facts,
            private=self.private,
            sightings=self.sightings,
            held=self.keeper.held,
            world=world,
            limits=limits,
        )
        self.outbox = Outbox(
            self.gates, limits.workers, dispatch, monotonic_s, take=self.errands.take, tell=self.errands.tell
        )
        self.milestones = Milestones(self.gates, self.journal, world.now_s)
        self.by_hand = ByHand(self.tracks, self.gates, self.journal, self)
        self.audits = Audits(self.tracks, world, limits.audit_interval_s)
        self.answers = Answers(
            self.tracks,
            self._tombstones,
            self.gates,
            self.journal,
            self,
            facts=self.facts,
            private=self.private,
            sightings=self.sightings,
            milestones=self.milestones,
        )

    # --- coming up --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Takes up what the store remembers and asks each destination what it offers."""
        try:
            self._take_up()
        except DiskError as exc:
            self.journal.note_trouble(exc)  # what was not read is asked of the servers
        self._beginning.find(track.mtime_ns for track in self.tracks.values())
        running = self._store.settled(_RUNNING)
        self._has_forgotten = bool(self._store.note) or running == _FORGETFUL
        self._is_unsure = self._has_forgotten or bool(running)
        for orphan in self.keeper.load(self._found_held):
            self.sightings.find_orphan(orphan)
        self.journal.note_settled(_RUNNING, _FORGETFUL if self._has_forgotten else "yes")
        self._awaits_scan = self.private.look_at_rules().asks_content
        self.pausing.take_up(self._store.settled(PAUSED))
        self.gates.open()
        self.tick()

    def finish(self) -> None:
        """Writes what is known; no answer is awaited any more."""
        if not self.outbox.in_flight:
            self.journal.note_settled(_RUNNING, "")
        self.journal.write()

    def _take_up(self) -> None:
        self.milestones.load(self._store)
        shared: dict[str, str] = {}  # ids recur in every table; here they become one
        self.facts.load(self._store, shared)
        self.private.load(self._store)
        for name, stream, ordinal, entry in self._store.tombstones():
            if entry != TAKEN_BACK:
                self._tombstones.setdefault(TrackKey(name, *stream), {})[ordinal] = entry
        judged = self._store.settled(REVIEWED)
        for row in self._store.tracks():
            if row.destination in self.gates:
                session_id, subpath = row.stream
                key = TrackKey(self.gates[row.destination].name, shared.setdefault(session_id, session_id), subpath)
                self._remember(key, row, judged)
                self.sightings.take_up(key, self.tracks[key])

    def followed(self) -> dict[str, StreamId]:
        """The files that stand for streams, for a scanner that begins: it is to say which of them are gone."""
        return {track.path: key.stream for key, track in self.tracks.items() if track.state is not State.GONE}

    def _remember(self, key: TrackKey, row: TrackRow, judged: str) -> None:
        state, cursor = State(row.state), row.cursor
        size = cursor.offset if row.size == cursor.offset else row.size  # mostly one number
        track = Track(intern(row.provider), row.path, size, row.mtime_ns, state, pack_cursor(cursor))
        track.reason, track.attempts = intern(row.reason), row.attempts
        track.inode, track.status, track.generations = row.inode, row.status, row.generations
        track.judged, track.unheard = judged, state in UNSENT
        track.touched = track.unheard or row.status == MAYBE_THERE
        self._add(key, track)
        self.private.take_up(key, track)
        self.tell_meta(key)
        if state in UNSENT:
            track.state = State.DUE
            self._queue(key, track)
        elif state is State.SYNCED:
            self.watch_tail(key, track)
        elif track.reason == WITHOUT_SESSION:
            self.gates[key.destination].park(key)
        self.telling.take_up(key, track)

    def _take_pulled(self, event: PulledHere) -> None:
        """Streams whose files are about to be there, and which a server has as far as it is said."""
        for row in sorted(event.rows, key=lambda one: one.stream.subpath != ""):
            key = TrackKey(self.gates[row.destination].name, *row.stream)
            before = self.tracks.get(key)
            if before is not None and before.state not in (State.GONE, State.SYNCED):
                continue  # something of it is on its way; what a server has is found by its 409
            self.facts.learn(row.stream, event.facts.recalled())
            for ordinal in self._tombstones.pop(key, {}):
                self.journal.note_tombstone(key, ordinal, TAKEN_BACK)
            self._remember(key, row, "")
            self.tracks[key].timer = before.timer + 1 if before is not None else 0
            self.journal.note_change(key)

    def _add(self, key: TrackKey, track: Track) -> None:
        self.errands.see_new(key, track)
        track.touched = track.touched or self._is_unsure
        self.tracks[key] = track
        if key.subpath and key.subpath not in (known := self.subpaths.setdefault(key.session_id, [])):
            known.append(key.subpath)

    # --- events -----------------------------------------------------------------------------------------------

    def handle(self, event: Input) -> None:
        match event:
            case Observed() | Vanished() | ScanEnded() | Woken():
                self._see(event)
            case PauseAsked() | ResumeAsked() | HeldOff():
                self.pausing.handle(event)
            case Retry() | Restore() | Requeued() | DeletedThere():
                self.by_hand.handle(event)
            case PulledHere():
                self._take_pulled(event)
            case RulesChanged():
                self.private.look_at_rules()
            case SaidOver():
                self.telling.said_over(*event)
            case Held() | NotHeld() | LetGo() | Reviewed() | Compared():
                self._looked(event)
            case Probed() | MetaSent() | SessionDeleted():
                self.outbox.came_back(event)
                self._answered_for_all(event)
            case _:
                self.outbox.came_back(event)
                self.answers.take(event)
                self.private.see_sent(event.key, self.tracks[event.key])
                self.sightings.push_ended(event.key)
        self._tell_sightings()

    def _tell_sightings(self) -> None:
        """In one go: there may be many, and who is told has a lock."""
        if self._seen:
            self._sighted(self._seen.copy())
            self._seen.clear()
        if self._ended:
            self._lost(self._ended.copy())
            self._ended.clear()

    def _see(self, event: Seen) -> None:
        match event:
            case Observed():
                for observation in event.observations:
                    if observation.project:
                        self.facts.learn(observation.stream, Facts(observation.project))
                    self.sightings.see(observation, event.live)
            case Vanished():
                for gone in event.gone:
                    self.sightings.lose(gone)
            case ScanEnded():
                self._awaits_scan = False
                self.sightings.scan_ended()
                self.telling.scan_ended()
                self._is_unsure = self._has_forgotten
            case Woken():
                self._wake()

    def _looked(self, event: DiskOutcome) -> None:
        if isinstance(event, Reviewed):
            self.private.reviewed(event)
            return
        if isinstance(event, Compared):
            self.sightings.compared(event)
            return
        self.keeper.came_back(event)
        if isinstance(event, Held):
            self.sightings.take_over(event)
        elif isinstance(event, NotHeld) and event.other:
            self.sightings.find_replaced(event)

    def _answered_for_all(self, event: Probed | MetaSent | SessionDeleted) -> None:
        match event:
            case Probed():
                self._probed(event)
            case MetaSent():
                self._meta_sent(event)
            case SessionDeleted():
                self.private.deleted(event)

    def tick(self) -> None:
        """Fires the timers whose time has come, hands out tasks, writes what is due to be written."""
        now = self._world.monotonic_s()
        while (due := self._timers.pop_due(now)) is not None:
            self._timer_fired(due)
        if self.keeper.sweep_at_s is not None and self.keeper.sweep_at_s <= now:
            self.keeper.sweep()
        for key in self.audits.due(quiet=self.outbox.in_flight == 0):
            self.tracks[key].check = True
            self.apply(key, self.tracks[key], Event.GREW)
        self.private.tick()
        self.telling.tick()
        if not self._is_shut():
            self.outbox.hand_out(only_deletions=bool(self.pausing.why))
        write_at_s = self.journal.next_write_s()
        if write_at_s is not None and write_at_s <= now:
            self.journal.write()

    def next_deadline_s(self) -> float | None:
        """Monotonic time at which `tick` has something to do; None when only an event can bring something."""
        own = (self._timers.next_s(), self.audits.next_s, self.telling.next_s())
        times = (*own, self.journal.next_write_s(), self.keeper.sweep_at_s)
        return min((at_s for at_s in times if at_s is not None), default=None)

    def is_busy(self) -> bool:
        """Something is under way, or will be without a new event and without waiting for a failure to pass."""
        if self.sightings.is_busy or self.private.is_busy():
            return True
        if not self.private.blind and not self.pausing.why and any(one.is_busy(self.tracks) for one in self.gates):
            return True
        again = 0  # tries after a failure, of which there may be some at any time
        for key, track in self.tracks.items():
            if track.state is State.SETTLING and not self.errands.rest_left_s(key):
                return True
            again += track.state in BUSY and track.attempts > 0
        return self.outbox.in_flight > again

    def _is_shut(self) -> bool:
        """Nothing is handed out: nobody could say what is private, or of what."""
        return bool(self.private.blind) or self._awaits_scan

    # --- what the disk says -----------------------------------------------------------------------------------

    def observe_at(self, key: TrackKey, seen: Observation, live: bool) -> None:
        """A look at the file that stands for a stream."""
        track = self.tracks.get(key)
        is_first = track is None and not self.telling.knows(key.session_id)
        if track is None:
            track = self._begin(key, seen)
        has_grown, from_bytes = seen.size != track.size, max(0, track.size)
        has_shrunk = seen.size < track.size
        if not has_grown and seen.mtime_ns != track.mtime_ns:
            self.audits.ask(key)
        changed = self._take_look(track, seen)
        if is_first:
            self.telling.found(key, track)
        elif has_grown:
            self.telling.grew(key, track, from_bytes)
        if changed or seen.size != track.cursor.offset:
            self._follow(key, track, live=live, changed=changed, shrunk=has_shrunk)

    def _begin(self, key: TrackKey, seen: Observation) -> Track:
        why = self.private.see_new(key, seen.path, seen.provider)
        state = State.PRIVATE if why else State.SYNCED
        track = Track(seen.provider, seen.path, -1, seen.mtime_ns, state, PACKED_START, why)
        self._add(key, track)
        self.private.settle(key, track)
        if why and not key.subpath:
            self.journal.note_audit(key, AuditKind.PRIVATE_SKIPPED, why)
        return track

    def _take_look(self, track: Track, seen: Observation) -> bool:
        """Whether the file is another one than at the last look."""
        changed = (seen.size, seen.mtime_ns, seen.path) != (track.size, track.mtime_ns, track.path)
        if track.inode not in (0, seen.inode) and track.cursor.entry_count:
            changed = track.check = True  # another file under the same name; what it holds has to be seen
        track.tail = track.tail and not changed
        track.size, track.mtime_ns, track.inode = seen.size, seen.mtime_ns, seen.inode
        if track.path != seen.path:  # equal ones stay one in memory, with the scanner's
            track.path = seen.path
        return changed

    def _follow(self, key: TrackKey, track: Track, *, live: bool, changed: bool, shrunk: bool) -> None:
        """What the file holds and no server has said that it has."""
        self.journal.note_change(key)
        if track.state is State.SYNCED and track.size == track.cursor.offset == 0 and not is_side_file(key.subpath):
            return
        if live and not track.live and self._is_at_work(track):
            track.live = True
            if track.state is State.DUE:
                self._queue(key, track)
        if track.state is State.GONE and track.status == DELETED_THERE:
            self.apply(key, track, Event.STAYS_DELETED)
            self.private.settle(key, track)
            return
        is_whole = is_side_file(key.subpath) or self.gates[key.destination].takes_files_only
        is_refused = track.state is State.REFUSED and track.reason not in UNFIT
        if changed and is_whole and is_refused and may_fare_better(track.status, shrunk=shrunk):
            self.apply(key, track, Event.OUTGREW)
        elif track.state is State.PRIVATE and self._may_be_told_now(key, track, changed):
            self.apply(key, track, Event.MARKED_SHARED)
        else:
            self.apply(key, track, Event.GREW)
            self.private.settle(key, track)

    def _may_be_told_now(self, key: TrackKey, track: Track, changed: bool) -> bool:
        """Whether it stays here because it had not said enough of itself; it may have by now. Of a side file its
        session has to say it."""
        if key.session_id in self.private.why:
            return False
        if track.reason == PROJECT_UNKNOWN and not self.facts.of(key.session_id).project:
            return changed and not is_side_file(key.subpath)
        return track.reason != OUTSIDE or not self.facts.of(key.session_id).project

    def _project_known(self, session: str) -> None:
        """What waited for that is looked at again."""
        if session not in self.private.why:
            for key, track in self.streams_of(session):
                if track.state is State.PRIVATE and track.reason == PROJECT_UNKNOWN:
                    self.apply(key, track, Event.MARKED_SHARED)

    def _is_at_work(self, track: Track) -> bool:
        """Whether somebody seems to write there just now. Change notices also come of archives that are unpacked and
        folders that are moved; what they bring waits its turn."""
        age_s = self._world.now_s() - track.mtime_ns / 1e9
        return age_s < LIVE_S and track.size - track.cursor.offset <= LIVE_BYTES

    def watch_tail(self, key: TrackKey, track: Track) -> None:
        """What follows the last newline is looked at again when it has been quiet."""
        if track.size > track.cursor.offset and not is_side_file(key.subpath):
            self._set_timer(key, track.timer, QUIET_S)

    # --- what a pusher brought back ---------------------------------------------------------------------------

    def _probed(self, done: Probed) -> None:
        if not self.gates.take_probe(done):
            return
        one = self.gates[done.destination]
        for key, track in self.tracks.items():
            offered = (track.reason == NO_SUBAGENTS and one.bulk) or (track.reason == NO_FILES and one.files)
            if key.destination == one.name and offered:
                self.apply(key, track, Event.RETRY)
            elif key.destination == one.name and one.bulk and lacks_entries(track):
                self.apply(key, track, Event.GREW)

    # --- the table --------------------------------------------------------------------------------------------

    def apply(self, key: TrackKey, track: Track, event: Event) -> None:
        """Moves a stream as the table says."""
        state, actions = next_state(track.state, event)
        self.telling.moved(key, track.state, state)
        if state is not track.state:
            track.state = state
            track.timer += 1
            self.journal.note_change(key)
            if not key.subpath and state not in UNSENT:
                self._unpark(key)
        for action in actions:
            self._do(key, track, action)

    def _do(self, key: TrackKey, track: Track, action: Action) -> None:
        match action:
            case Action.QUEUE:
                self._queue(key, track)
            case Action.REST:
                self._set_timer(key, track.timer, self._limits.coalesce_s)
            case Action.BACK_OFF:
                track.attempts += 1
                delay = retry_delay_s(track.attempts, self._world.chance)
                delay = track.wished_s if track.wished_s is not None else delay
                track.wished_s = None
                self._wait(key, track, delay)
            case Action.REALIGN:
                destination = self.gates[key.destination]
                stones = statuses_of(self._tombstones.get(key, {}))
                spare = self._world.new_uuid() if destination.generations else ""
                leave = self.errands.leave(key, track)
                self.outbox.send(
                    RealignTask(key, track.path, track.cursor, destination.bulk, track.conflict, stones, leave, spare)
                )
            case Action.FORGIVE:
                track.attempts, track.reason, track.retry_at_s, track.status = 0, "", 0.0, 0
            case Action.HOLD:
                self._set_timer(key, track.timer, self.errands.postponed_s(key, track))
            case Action.DELETE:
                self.private.delete(key)

    def requeue(self, key: TrackKey, track: Track) -> None:
        self._queue(key, track)

    def _queue(self, key: TrackKey, track: Track) -> None:
        self.keeper.wake()
        self.gates[key.destination].queue(key, track)

    def _set_timer(self, owner: TrackKey | str, number: int, delay_s: float) -> None:
        self._timers.set(owner, number, self._world.monotonic_s() + delay_s)

    def _timer_fired(self, due: Due[TrackKey | str]) -> None:
        owner, number = due.owner, due.number
        if owner == _REVIEW:
            self.private.review()
            return
        if owner == TIMER:
            self.pausing.time_came(number)
            return
        if isinstance(owner, str):
            self.gates.time_came(owner, number)
            return
        track = self.tracks[owner]
        if track.timer == number:
            track.tail = track.state is State.SYNCED
            self.apply(owner, track, Event.RESTED if track.state is State.SETTLING else Event.TIME_CAME)

    # --- handing out ------------------------------------------------------------------------------------------

    def _probe(self, name: str) -> None:
        self.outbox.send(ProbeTask(name, self.gates[name].takes_files_only))

    def refuse(self, key: TrackKey, track: Track, reason: str) -> None:
        self.answers.refuse(key, track, reason)
        self.sightings.push_ended(key)  # what waits for this one waits in vain where every other server has it

    def _unpark(self, key: TrackKey) -> None:
        """The side files of a session whose transcript is sent, or is not going to be, get their turn."""
        for parked in self.gates[key.destination].parked.pop(key.session_id, ()):
            track = self.tracks[parked]
            if track.state is State.REFUSED and track.reason == WITHOUT_SESSION:
                self.apply(parked, track, Event.RETRY)
            else:
                self._queue(parked, track)

    # --- facts of sessions ------------------------------------------------------------------------------------

    def tell_meta(self, key: TrackKey) -> None:
        track, destination = self.tracks[key], self.gates[key.destination]
        if track.cursor.sent_count and not self.facts.is_told(key.destination, key.session_id, track.provider):
            destination.metas[key.session_id] = track.provider

    def _meta_sent(self, done: MetaSent) -> None:
        if done.stale:
            self.private.look_at_rules()
            self.gates[done.destination].metas[done.session_id] = done.provider
            return
        match done.reply:
            case NeedsLogin():
                self.gates.lock_out(done.destination, done.reply)
                self.gates[done.destination].metas[done.session_id] = done.provider
            case Unavailable():
                # Entries must never wait for a title: told again with the session's next push, or the next start.
                log.debug("facts of session %s were not taken", done.session_id)
            case _:
                self.facts.note_told(done.destination, done.session_id, done.digest)

    # --- what several rooms ask for ---------------------------------------------------------------------------

    def streams_of(self, session: str) -> list[tuple[TrackKey, Track]]:
        """Those of a session at each destination, the main one first."""
        return list(streams_of(session, self.gates, self.subpaths, self.tracks))

    def end_rest(self, key: TrackKey) -> bool:
        return self.errands.end_rest(key)

    def count_rejected(self, key: TrackKey, track: Track) -> int:
        """Entries that the server has a note of instead."""
        return len(self.answers.stones_of(key, track))

    def forget_sent(self, key: TrackKey, track: Track) -> None:
        """The server has nothing of it."""
        track.cursor, track.judged, track.check = START, "", False
        self.answers.take_stones_back(key, track)
        self.facts.forget_told(key.destination, key.session_id)
        self.journal.note_change(key)

    def forget_rejected(self, key: TrackKey, track: Track) -> None:
        """Entries that were rejected are to go there again, but for those that it says not to take."""
        most, stones = self.gates[key.destination].max_entry_bytes, self.answers.stones_of(key, track)
        final = {at: one for at, one in stones.items() if one.is_final(most)}
        if len(final) < len(stones):
            self.forget_sent(key, track)
            self.answers.note_stones(key, final)

    def set_review(self) -> None:
        """What could not be read is looked at again by and by."""
        self._set_timer(_REVIEW, 0, COOL_DOWN_FIRST_S)

    def retry_later(self, key: TrackKey, track: Track) -> None:
        track.attempts += 1
        self._wait(key, track, retry_delay_s(track.attempts, self._world.chance))

    def _wake(self) -> None:
        """Nothing that was refused is revived: sleep is no reason for a server to think otherwise."""
        self._beginning.find(track.mtime_ns for track in self.tracks.values())
        self.pausing.wake()
        self.gates.ask_again()
        for key, track in self.tracks.items():
            if track.state is State.WAITING:
                track.timer += 1
                self._wait(key, track, self._world.chance() * WAKE_SPREAD_S)

    def _wait(self, key: TrackKey, track: Track, delay_s: float) -> None:
        track.retry_at_s = self._world.now_s() + delay_s
        self._set_timer(key, track.timer, delay_s)

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
            track.inode,
            track.status,
            track.generations,
        )
