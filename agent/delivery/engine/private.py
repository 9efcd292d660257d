"""Which sessions stay here, as far as the engine knows, and what follows from it: their streams are taken out of the
queue, and what a server has of them is deleted there. The last word has whoever sends, see `permits`."""

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from agent.core.delivery.audit import AuditKind
from agent.core.delivery.lifecycle import BUSY, Event, State
from agent.core.privacy.rules import NO_GROUNDS, Grounds
from agent.core.status import DELETED_HERE, DELETED_THERE, KEPT, OWED
from agent.core.transcripts.session import Facts, is_side_file
from agent.core.wire import Accepted, NeedsLogin, Reply, Unavailable
from agent.delivery.privacy.permits import Guard, RulesNow
from agent.delivery.state.gates import Gates
from agent.delivery.state.journal import Journal, Store
from agent.delivery.state.tasks import KeptBack, Reviewed, ReviewTask, SessionDeleted, TrackKey
from agent.delivery.state.tracks import Track, streams_of

log = logging.getLogger(__name__)

NAMED = "the private list names it"

REVIEWED = "reviewed"
"""Under which rules all that was sent had been judged, as the store remembers it."""


class Teller(Protocol):
    """The engine, as far as privacy concerns it."""

    def apply(self, key: TrackKey, track: Track, event: Event) -> None: ...
    def forget_sent(self, key: TrackKey, track: Track) -> None: ...
    def set_review(self) -> None: ...
    def retry_later(self, key: TrackKey, track: Track) -> None: ...


class Private:
    """`subpaths`: session → those of its streams and side files beside the main transcript. `dispatch` takes looks at
    the disk."""

    def __init__(
        self,
        tracks: dict[TrackKey, Track],
        subpaths: dict[str, list[str]],
        gates: Gates,
        journal: Journal,
        teller: Teller,
        *,
        guard: Guard,
        dispatch: Callable[[ReviewTask], None],
        facts: Callable[[str], Facts],
    ) -> None:
        self._tracks = tracks
        self._subpaths = subpaths
        self._gates = gates
        self._journal = journal
        self._guard = guard
        self._teller = teller
        self._dispatch = dispatch
        self._facts = facts
        self.others: Callable[[str], tuple[str, ...]] = lambda _: ()
        """Session → its files that were not compared yet with those that are followed."""
        self._rules: RulesNow | None = None
        self._number = 0
        self._pending: dict[str, str] = {}
        """Session that is looked at again → by which rules it was judged before."""
        self._is_unsure = False
        self._is_new_copy_known = False
        self.epoch = ""
        """What was judged under another one has to be judged again."""
        self.blind = ""
        """Why the rules can't be read; nothing is sent meanwhile."""
        self.why: dict[str, str] = {}
        """Private session → what says so."""
        self._grounds: dict[str, Grounds] = {}
        """Session → the folders and remotes for which it is, or was, private."""

    # --- what is known ----------------------------------------------------------------------------------------

    def load(self, store: Store) -> None:
        self._grounds = dict(store.grounds())

    def grounds(self, session: str) -> Grounds:
        """For what it was private before; judged together with what is found today."""
        return self._grounds.get(session, NO_GROUNDS)._replace(why=self.why.get(session, ""))

    def _note_grounds(self, session: str, found: Grounds) -> None:
        before = self._grounds.get(session, NO_GROUNDS)
        if (after := before.with_more(found)) != before:
            self._grounds[session] = after
            self._journal.note_grounds(session, after)

    def take_up(self, key: TrackKey, track: Track) -> None:
        """A stream as the store remembers it."""
        if track.state in (State.PRIVATE, State.GONE) and track.status in (OWED, KEPT, DELETED_HERE) and track.reason:
            self.why[key.session_id] = track.reason

    def see_new(self, key: TrackKey, path: str, provider: str) -> str:
        """Why the stream, which nobody knew, is private; empty when nothing says so yet."""
        session = key.session_id
        if self._names(session):
            self.why.setdefault(session, NAMED)
            if not is_side_file(key.subpath):
                self._guard.copies.know(session, [path], provider)
                self._is_new_copy_known = True
        return self.why.get(session, "")

    def knows(self, rules: RulesNow) -> bool:
        """For any thread."""
        return rules == self._rules and rules.blind == self.blind

    def look_at_rules(self) -> RulesNow:
        rules = self._guard.rules()
        if not self.knows(rules) or self._is_new_copy_known:
            self._take_in(rules)
        return rules

    def _take_in(self, rules: RulesNow) -> None:
        self._rules = rules
        self._note_blind(rules.blind)
        if rules.blind:
            return
        self._is_new_copy_known = False
        known = dict.fromkeys(key.session_id for key in self._tracks if rules.names(key.session_id))
        found: dict[str, tuple[list[str], str]] = {}
        for session in known:
            of = [track for key, track in self._of(session) if not is_side_file(key.subpath)]
            if of:
                found[session] = [track.path for track in of], of[0].provider
        self._guard.take_in(rules, found)
        self.epoch = self._guard.epoch(rules)
        for session in known:
            self.mark(session, NAMED)
        self.review()

    def _note_blind(self, why: str) -> None:
        if why != self.blind:
            log.warning("%s", f"nothing is sent: {why}" if why else "what is private can be told again")
        self.blind = why

    def tick(self) -> None:
        """Files of sessions that the rules name were found: others may be copies of them."""
        if self._is_new_copy_known and not self.blind:
            self.look_at_rules()

    def _names(self, session: str) -> bool:
        return self._rules is not None and self._rules.names(session)

    def review(self) -> None:
        """Everything that was judged under other rules."""
        self._pending, self._is_unsure = {}, False
        self._number += 1
        asked: dict[str, str] = {}
        for key, track in list(self._tracks.items()):
            session = key.session_id
            if session in asked or self._names(session):
                continue
            if track.state is State.PRIVATE and session not in self.why:
                self._teller.apply(key, track, Event.MARKED_SHARED)  # nothing could tell; perhaps it can now
            elif self.why.get(session) == NAMED:
                asked[session] = ""  # no more
            elif session in self.why or (track.judged != self.epoch and _may_be_there(track)):
                asked[session] = track.judged  # a stream that was with a worker was not judged when the others were
        for session, judged in asked.items():
            if self._rules is not None and self._rules.asks_content:
                self._pending[session] = "" if session in self.why else judged
                self._look_again(session)
            else:
                self._clear(session)
        self._note_reviewed()

    def see_sent(self, key: TrackKey, track: Track) -> None:
        """A worker let go of a stream. What it sent may have been judged under rules that are others by now."""
        self.settle(key, track)
        session = key.session_id
        if track.judged in ("", self.epoch) or session in self.why or session in self._pending or self.blind:
            return
        if self._rules is not None and self._rules.asks_content and _may_be_there(track):
            self._pending[session] = track.judged
            self._look_again(session)

    def _look_again(self, session: str) -> None:
        tracks = list(self._of(session))
        transcripts = [track.path for key, track in tracks if not is_side_file(key.subpath)]
        paths = tuple(dict.fromkeys((*transcripts, *self.others(session))))
        provider, judged = tracks[0][1].provider, self._pending[session]
        facts, grounds = self._facts(session), self.grounds(session)
        self._dispatch(ReviewTask(self._number, session, paths, facts, judged, provider, grounds))

    def reviewed(self, done: Reviewed) -> None:
        is_current = not done.stale and (done.unread or self._is_current(done.under))
        if done.stale:
            self.look_at_rules()
        if done.number != self._number:
            return  # asked again since
        if not is_current:
            self._look_again(done.session_id)
            return
        if done.unread:
            self._teller.set_review()
        del self._pending[done.session_id]
        if not done.why:
            self._clear(done.session_id)
        elif done.certain:
            self._note_grounds(done.session_id, done.grounds)
            self.mark(done.session_id, done.why)
        else:
            self._is_unsure = True  # nothing more of it leaves; what did is looked at again after the next start
        self._note_reviewed()

    def _is_current(self, under: str) -> bool:
        """Whether a verdict that a worker brings rests on what holds now. Workers hear of changes before anybody."""
        return under == self._guard.under(self.look_at_rules())

    def _clear(self, session: str) -> None:
        """It may be where it is."""
        for _, track in self._of(session):
            track.judged = self.epoch
        if session in self.why:
            self._share(session)

    def _note_reviewed(self) -> None:
        if not self._pending and not self._is_unsure:
            self._journal.note_settled(REVIEWED, self.epoch)

    def is_busy(self) -> bool:
        """Something that was sent is still to be judged."""
        return bool(self._pending)

    # --- what follows -----------------------------------------------------------------------------------------

    def mark(self, session: str, why: str) -> None:
        is_new = self.why.get(session) is None
        self.why[session] = why
        for key, track in self._of(session):
            if is_new and not key.subpath:
                self._journal.note_audit(key, AuditKind.PRIVATE_SKIPPED, why)
            self.settle(key, track)

    def settle(self, key: TrackKey, track: Track) -> None:
        """To be called when a worker has let go of a stream, too: never is one taken from it."""
        why = self.why.get(key.session_id)
        if why is None or track.state in BUSY:
            return
        if track.status != DELETED_THERE and (_may_be_there(track) or track.status == OWED):
            track.status = OWED
        elif track.status not in (DELETED_THERE, DELETED_HERE):
            track.status = KEPT
        track.reason, track.judged = why, self.epoch
        self._journal.note_change(key)
        self._teller.apply(key, track, Event.MARKED_PRIVATE)

    def kept_back(self, done: KeptBack) -> None:
        """Whoever was to send it found that it may not leave."""
        track = self._tracks[done.key]
        track.touched = track.touched or done.used
        if done.blind:
            self._note_blind(done.why)
        if done.stale:
            self.look_at_rules()
        if done.blind or done.stale or not self._is_current(done.under):
            self._teller.apply(done.key, track, Event.HELD)
            return
        is_new, track.reason = track.reason != done.why, done.why
        if done.certain:
            self._note_grounds(done.key.session_id, done.grounds)
            self.why.setdefault(done.key.session_id, done.why)
        if is_new:  # asked again when more is known, and then perhaps for the same reason
            self._journal.note_audit(done.key, AuditKind.PRIVATE_SKIPPED, done.why)
        self._teller.apply(done.key, track, Event.WITHHELD)
        if done.certain:
            self.mark(done.key.session_id, self.why[done.key.session_id])

    def _share(self, session: str) -> None:
        """It is private no more: sent again, unless somebody deleted it on the server."""
        del self.why[session]
        for one in self._gates:
            one.deletions.pop(session, None)
        for key, track in self._of(session):
            # A wish to delete it may be under way, or done and its answer lost: asked to restore, a server that did
            # nothing does nothing.
            track.touched = track.touched or track.status == OWED  # private again before that, it is owed again
            track.status = {OWED: DELETED_HERE, KEPT: 0}.get(track.status, track.status)
            track.reason = ""
            self._journal.note_change(key)
            if track.state is not State.PRIVATE:
                continue
            if not key.subpath:
                self._journal.note_audit(key, AuditKind.REQUEUED, "private no more")
            gone = track.status == DELETED_THERE
            self._teller.apply(key, track, Event.STAYS_DELETED if gone else Event.MARKED_SHARED)

    # --- deletion ---------------------------------------------------------------------------------------------

    def delete(self, key: TrackKey) -> None:
        """What the server has of the session is to go, as soon as nothing of it is under way there."""
        session, name = key.session_id, key.destination
        if session not in self.why:
            return
        group = [track for other, track in self._of(session) if other.destination == name]
        if any(track.status == OWED for track in group) and not any(track.state in BUSY for track in group):
            self._gates[name].deletions[session] = None

    def deleted(self, done: SessionDeleted) -> None:
        one = self._gates[done.destination]
        group = [(key, track) for key, track in self._of(done.session_id) if key.destination == done.destination]
        match done.reply:
            case Accepted():
                for key, track in group:
                    self._teller.forget_sent(key, track)
                    track.status, track.touched = DELETED_HERE, False
                    track.judged = self.epoch
                    if track.state is State.SYNCED:
                        self._teller.apply(key, track, Event.GREW)  # shared again meanwhile
                if group:
                    self._journal.note_audit(group[0][0], AuditKind.DELETED, "")
            case NeedsLogin():
                if done.session_id in self.why:
                    one.deletions[done.session_id] = None
                self._gates.lock_out(one.name, done.reply)
            case _:
                if done.session_id in self.why:  # else it was shared again meanwhile
                    self._not_deleted(group, done.reply)
                if isinstance(done.reply, Unavailable) and done.reply.everybody:
                    self._gates.doubt(TrackKey(one.name, done.session_id, ""), done.reply)

    def _not_deleted(self, group: list[tuple[TrackKey, Track]], reply: Reply) -> None:
        if group:
            key, track = next(((key, track) for key, track in group if track.status == OWED), group[0])
            if not isinstance(reply, Unavailable):
                log.warning("destination %s does not delete session %s", key.destination, key.session_id)
            self._teller.retry_later(key, track)

    def _of(self, session: str) -> Iterator[tuple[TrackKey, Track]]:
        return streams_of(session, self._gates, self._subpaths, self._tracks)


def _may_be_there(track: Track) -> bool:
    """Whether the server may have something of it."""
    return track.touched or track.cursor.offset > 0
