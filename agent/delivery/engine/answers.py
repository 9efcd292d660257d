"""What came of a stream's errand, and what that means for it. Answers of servers are read as the table in section 3 of
the wire says."""

from collections.abc import Mapping
from typing import Protocol

from agent.core.delivery.audit import AuditKind, counts_words
from agent.core.delivery.backoff import TRIES
from agent.core.delivery.lifecycle import Event, State
from agent.core.status import DELETED_THERE
from agent.core.transcripts.identity import START
from agent.core.transcripts.session import Rejected, is_side_file
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
    answer_words,
)
from agent.delivery.engine.milestones import Milestones
from agent.delivery.engine.private import Private
from agent.delivery.engine.sightings import Sightings
from agent.delivery.state.facts import SessionFacts
from agent.delivery.state.gates import Gates
from agent.delivery.state.journal import Journal
from agent.delivery.state.tasks import (
    How,
    KeptBack,
    Pushed,
    Realigned,
    RealignFailed,
    Restored,
    Rewritten,
    StreamOutcome,
    TrackKey,
    Unreadable,
    Withheld,
)
from agent.delivery.state.tracks import Track, lacks_entries

TAKEN_BACK = Rejected(0)
"""In the place of a rejected entry: this tombstone was never stored, and the entry travels as it is."""

ADOPTIONS = 5
"""Tries at once in a row without progress before a stream cools down."""

DIVERGED = "the server holds other content for this transcript"
NO_HEAD = "the server refuses this transcript and holds nothing that says why"
CONTRADICTS = "the server's answers contradict each other"
OUTSIDE = "its project is not among those of this destination"
_AUDITS = {
    How.REALIGNED: AuditKind.REALIGNED,
    How.ADOPTED: AuditKind.ADOPTED,
    How.NEW_GENERATION: AuditKind.NEW_GENERATION,
}


_OF_THE_OWNER = frozenset({402, 403, 451})
"""What is refused with these is refused whatever the file holds: until somebody says `retry`, or the token is new."""


def may_fare_better(status: int, *, shrunk: bool) -> bool:
    """Whether a file that was refused with `status` may be taken now that it is another one."""
    return shrunk if status == 413 else status not in _OF_THE_OWNER


class Teller(Protocol):
    """The engine, as far as answers concern it."""

    def apply(self, key: TrackKey, track: Track, event: Event) -> None: ...
    def forget_sent(self, key: TrackKey, track: Track) -> None: ...
    def tell_meta(self, key: TrackKey) -> None: ...
    def watch_tail(self, key: TrackKey, track: Track) -> None: ...


class Answers:
    """`tombstones`: stream → ordinal → entry that a server refused."""

    def __init__(
        self,
        tracks: dict[TrackKey, Track],
        tombstones: dict[TrackKey, dict[int, Rejected]],
        gates: Gates,
        journal: Journal,
        teller: Teller,
        *,
        facts: SessionFacts,
        private: Private,
        sightings: Sightings,
        milestones: Milestones,
    ) -> None:
        self._tracks = tracks
        self._tombstones = tombstones
        self._gates = gates
        self._journal = journal
        self._teller = teller
        self._facts = facts
        self._private = private
        self._sightings = sightings
        self._milestones = milestones
        self._moved: set[TrackKey] = set()
        """Streams of which something was sent since the audit log last told of it."""

    def take(self, outcome: StreamOutcome) -> None:
        if not isinstance(outcome, (Withheld, KeptBack)):
            self._tracks[outcome.key].touched = True
        match outcome:
            case Pushed():
                self._pushed(outcome)
            case Realigned():
                self._realigned(outcome)
            case RealignFailed():
                self._answered(outcome.key, outcome.reply, at_fault=0, again=True)
            case Unreadable():
                self._unreadable(outcome)
            case Rewritten() if outcome.older and self._sightings.find_older(outcome.key.stream):
                self._teller.apply(outcome.key, self._tracks[outcome.key], Event.REALIGNED)
            case Rewritten():
                detail = f"offset {self._tracks[outcome.key].cursor.offset}"
                self._journal.note_audit(outcome.key, AuditKind.REWRITTEN, detail)
                self._sightings.doubt(outcome.key.stream)
                self._ask_head(outcome.key)
            case Withheld():
                track = self._tracks[outcome.key]
                self._facts.learn(outcome.key.stream, outcome.facts)
                if track.reason != OUTSIDE:
                    self._journal.note_audit(outcome.key, AuditKind.PRIVATE_SKIPPED, "")
                track.reason = OUTSIDE
                self._teller.apply(outcome.key, track, Event.WITHHELD)
            case KeptBack():
                self._private.kept_back(outcome)
            case Restored():
                self._restored(outcome)

    def _pushed(self, done: Pushed) -> None:
        key, track = done.key, self._tracks[done.key]
        moved, has_progress, tries = done.cursor != track.cursor, False, track.attempts
        if moved:
            self._moved.add(key)
            self._note_tombstones(key, done)
            has_progress = done.cursor.offset > track.cursor.offset
            if has_progress:
                self._milestones.acknowledged(key.destination)
                self._gates.progressed(key.destination)
            if has_progress and done.cursor.offset > track.reached:
                track.adoptions = track.reached = 0
            track.cursor = done.cursor
            if track.size == done.cursor.offset:
                track.size = done.cursor.offset  # one number in memory instead of two equal ones
            self._journal.note_change(key)
        track.judged = done.judged or track.judged
        self._facts.learn(key.stream, done.facts)
        if not isinstance(done.reply, Accepted):
            track.unheard = track.unheard or (isinstance(done.reply, Unavailable) and done.at_fault > 0)
            if has_progress:
                self._recovered(key, tries)
            self._answered(key, done.reply, done.at_fault, has_progress=has_progress)
            return
        if track.unheard and not moved and track.cursor.entry_count and self._gates[key.destination].bulk:
            self._ask_head(key)  # the file ends where the cursor stands, the server's copy may not
            return
        track.unheard = False
        if done.redacted:
            self._milestones.redacted(sum(done.redacted.values()))
            self._journal.note_audit(key, AuditKind.REDACTED, counts_words(done.redacted))
        self._recovered(key, tries)
        if track.limit:
            track.limit = min(track.limit * 2, self._gates[key.destination].max_entries)
        track.live = track.live and done.more
        is_no_entry = track.tail and not moved  # what follows the last newline, and will be as long as it stays
        track.check = track.tail = False
        self._teller.apply(key, track, Event.SENT_SOME if done.more else Event.SENT_ALL)
        if not done.more:
            track.adoptions = track.reached = 0
            self._sent_all(key, track, watch=not is_no_entry)

    def _recovered(self, key: TrackKey, tries: int) -> None:
        if tries:
            self._tracks[key].attempts = 0
            self._journal.note_audit(key, AuditKind.RECOVERED, f"after {tries} tries")

    def _sent_all(self, key: TrackKey, track: Track, *, watch: bool) -> None:
        if key in self._moved:
            self._moved.discard(key)
            cursor, is_file = track.cursor, is_side_file(key.subpath)
            entries = "1 entry" if cursor.sent_count == 1 else f"{cursor.sent_count} entries"
            detail = f"{cursor.offset} bytes" if is_file else entries
            self._journal.note_audit(key, AuditKind.UPLOADED, detail)
        self._teller.tell_meta(key)
        if self._gates[key.destination].bulk and lacks_entries(track):
            self._teller.apply(key, track, Event.GREW)  # the offer is another one since it was handed out
        elif track.state is State.SYNCED and watch:
            self._teller.watch_tail(key, track)

    def _realigned(self, done: Realigned) -> None:
        key, track = done.key, self._tracks[done.key]
        before = track.cursor
        stuck = done.cursor == before and done.cursor == START and not self._gates[key.destination].bulk
        if stuck and track.adoptions < ADOPTIONS:
            track.adoptions += 1  # it may have lost everything a moment ago
            self._teller.apply(key, track, Event.REALIGNED)
            return
        if done.cursor is None or stuck:
            self.refuse(key, track, NO_HEAD if stuck else DIVERGED, 409)
            return
        track.cursor, track.check, track.unheard = done.cursor, False, False
        if done.how is How.NEW_GENERATION:
            track.generations += 1
            self._sightings.reopen(key.stream)
        self.take_stones_back(key, track)
        self._journal.note_change(key)
        self._journal.note_audit(key, _AUDITS[done.how], f"offset {before.offset} to {done.cursor.offset}")
        if done.cursor.offset <= before.offset:
            track.reached = max(track.reached, before.offset)
            self._again(key, Event.REALIGNED, CONTRADICTS)
        else:
            self._teller.apply(key, track, Event.REALIGNED)

    def _again(self, key: TrackKey, event: Event, why: str) -> None:
        """Something is asked again at once, though nothing came of it: only so often in a row. Then it waits, and `why`
        is told."""
        track = self._tracks[key]
        track.adoptions += 1
        if track.adoptions <= ADOPTIONS:
            self._teller.apply(key, track, event)
            return
        track.adoptions = ADOPTIONS  # once for each wait, from now on
        track.attempts = max(track.attempts, TRIES)
        track.reason = why
        self._teller.apply(key, track, Event.FAILED)

    def _restored(self, done: Restored) -> None:
        """What was deleted there is unknown there; it travels from its beginning, or from where the server stands."""
        if isinstance(done.reply, Accepted):
            self._teller.forget_sent(done.key, self._tracks[done.key])
            self._tracks[done.key].status = 0
        self._answered(done.key, done.reply, at_fault=0, again=True)

    def _unreadable(self, done: Unreadable) -> None:
        """That a file of somebody else is gone is for the scanner to say: it alone notices when the same file comes
        back, or stands elsewhere. One of ours is nobody's but ours."""
        track, stream = self._tracks[done.key], done.key.stream
        is_replaced = done.path != track.path  # another file has taken its place meanwhile
        if done.vanished and (
            is_replaced or (not self._sightings.lose_held(stream, track.path) and self._sightings.fall_back(stream))
        ):
            self._teller.apply(done.key, track, Event.REALIGNED)
            return
        track.reason = done.why
        self._teller.apply(done.key, track, Event.FAILED)

    def _answered(
        self, key: TrackKey, reply: Reply, at_fault: int, *, has_progress: bool = False, again: bool = False
    ) -> None:
        """An answer that is no success, as the table in section 3 of the wire says. `has_progress`: something was taken
        before it. `again`: it answers a question that another answer led to."""
        track = self._tracks[key]
        match reply:
            case Accepted():
                self._teller.apply(key, track, Event.REALIGNED)
            case Conflict():
                track.conflict = reply.head
                if again:
                    self._again(key, Event.CONFLICT, CONTRADICTS)
                else:
                    self._teller.apply(key, track, Event.CONFLICT)
            case NeedsLogin():
                self._teller.apply(key, track, Event.HELD)
                self._gates.lock_out(key.destination, reply)
            case NoEndpoint():
                self._again(key, Event.HELD, f"the server answers {reply.status}")
                self._gates.miss_endpoint(key.destination, reply.status)
            case Unavailable():
                if has_progress and reply.retry_after_s is None:
                    self._teller.apply(key, track, Event.SENT_SOME)  # a connection that broke on its way
                else:
                    track.reason = reply.why
                    track.wished_s = reply.retry_after_s
                    self._teller.apply(key, track, Event.FAILED)
                self._gates.strain(key.destination)
                if reply.everybody:
                    self._gates.doubt(key, reply)
            case TooLarge() | BadEntry():
                self._shrink(key, track, 413 if isinstance(reply, TooLarge) else reply.status, at_fault)
            case Deleted():
                self._journal.note_audit(key, AuditKind.DELETED_ON_SERVER, "410")
                track.reason, track.status = "somebody deleted it on the server", DELETED_THERE
                self._teller.apply(key, track, Event.DELETED)
            case Refused():
                self.refuse(key, track, answer_words(reply.status, reply.words), reply.status)

    def _shrink(self, key: TrackKey, track: Track, status: int, at_fault: int) -> None:
        """Halves the batch until the entry at fault stands alone; then a tombstone travels, or is refused as well."""
        if at_fault > 1:
            track.limit = at_fault // 2
            self._teller.apply(key, track, Event.REALIGNED)
            return
        at = f"the server refuses entry {track.cursor.entry_count + 1}" if at_fault else "the server answers"
        self.refuse(key, track, f"{at} ({status})" if at_fault else f"{at} {status}", status)

    def _note_tombstones(self, key: TrackKey, done: Pushed) -> None:
        """Entries up to the cursor are stored as they were sent now, whatever was sent at their places before."""
        self.take_stones_back(key, self._tracks[key])
        stored = {at: one for at, one in done.tombstones.items() if at <= done.cursor.entry_count}
        self.note_stones(key, stored)
        for ordinal, one in stored.items():
            self._journal.note_audit(key, AuditKind.TOMBSTONED, f"entry {ordinal}, {one.status}")

    def note_stones(self, key: TrackKey, stones: Mapping[int, Rejected]) -> None:
        for ordinal, one in stones.items():
            self._tombstones.setdefault(key, {})[ordinal] = one
            self._journal.note_tombstone(key, ordinal, one)

    def stones_of(self, key: TrackKey, track: Track) -> dict[int, Rejected]:
        """Ordinal → entry that was rejected there, of those of which a server holds a note."""
        stones = self._tombstones.get(key)
        return {one: stones[one] for one in stones if one <= track.cursor.entry_count} if stones else {}

    def take_stones_back(self, key: TrackKey, track: Track) -> None:
        """Those of entries that no server holds: another line may stand there by now, or be taken next time."""
        stones = self._tombstones.get(key, {})
        for ordinal in [one for one in stones if one > track.cursor.entry_count]:
            del stones[ordinal]
            self._journal.note_tombstone(key, ordinal, TAKEN_BACK)

    def refuse(self, key: TrackKey, track: Track, reason: str, status: int = 0) -> None:
        track.reason, track.status = reason, status
        if status:
            self._journal.note_audit(key, AuditKind.REFUSED, reason)
        self._teller.apply(key, track, Event.REFUSED)

    def _ask_head(self, key: TrackKey) -> None:
        track = self._tracks[key]
        track.conflict = None
        self._teller.apply(key, track, Event.CONFLICT)
