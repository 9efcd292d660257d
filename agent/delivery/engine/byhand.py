"""What somebody asks of the engine by hand: another try, what was deleted on a server sent again, a session that a hook
named looked for. A room of the engine, in its thread.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from agent.core.delivery.audit import AuditKind
from agent.core.delivery.lifecycle import BUSY, UNSENT, Event, State
from agent.core.status import DELETED_HERE, DELETED_THERE
from agent.delivery.engine.errands import NO_FILES, NO_SUBAGENTS, WITHOUT_SESSION
from agent.delivery.state.gates import Gates
from agent.delivery.state.inputs import DeletedThere, Requeued, Restore, Retry
from agent.delivery.state.journal import Journal
from agent.delivery.state.tasks import TrackKey
from agent.delivery.state.tracks import Track

DELETED_BY_HAND = "somebody deleted it from here"

UNFIT = frozenset({NO_SUBAGENTS, NO_FILES, WITHOUT_SESSION})
"""What only changes with something else: the server's offer, or the session's transcript."""


class Mover(Protocol):
    """The engine, as far as a wish concerns it."""

    def apply(self, key: TrackKey, track: Track, event: Event) -> None: ...
    def forget_sent(self, key: TrackKey, track: Track) -> None: ...
    def count_rejected(self, key: TrackKey, track: Track) -> int: ...
    def end_rest(self, key: TrackKey) -> bool: ...


class ByHand:
    def __init__(self, tracks: Mapping[TrackKey, Track], gates: Gates, journal: Journal, mover: Mover) -> None:
        self._tracks = tracks
        self._gates = gates
        self._journal = journal
        self._mover = mover

    def given_up(self, beginnings: Sequence[str], *, rejected: bool = True) -> set[str]:
        """Sessions that wait for a person or for another try, among those whose ids begin so; of all without any.
        `rejected`: also those of which a server refused single entries."""
        return {
            key.session_id
            for key, track in self._tracks.items()
            if (not beginnings or key.session_id.startswith(tuple(beginnings)))
            and (self._waits(track) or (rejected and self._can_send_rejected(key, track)))
        }

    def _waits(self, track: Track) -> bool:
        is_waiting = track.state in (State.REFUSED, State.WAITING)
        is_again = track.state in UNSENT and track.attempts > 0  # as a new process finds what waited in the last one
        return (is_waiting or is_again) and track.reason not in UNFIT

    def _can_send_rejected(self, key: TrackKey, track: Track) -> bool:
        """Only a new generation has a place for them; base servers know none."""
        is_free = track.state in UNSENT or track.state is State.SYNCED
        return is_free and track.cursor.generation is not None and self._mover.count_rejected(key, track) > 0

    def deleted_there(self, beginnings: Sequence[str]) -> set[str]:
        """Sessions that somebody deleted on a server, among those whose ids begin so."""
        return {
            key.session_id
            for key, track in self._tracks.items()
            if track.state is State.DELETED_ON_SERVER and key.session_id.startswith(tuple(beginnings))
        }

    def handle(self, wish: Retry | Restore | Requeued | DeletedThere) -> None:
        match wish:
            case Retry():
                self._retry(wish.sessions, rejected=wish.rejected)
            case Restore():
                self._restore(wish.sessions)
            case Requeued():
                self._note_requeued(wish.session_id)
            case DeletedThere():
                self._note_deleted(wish)

    def _note_deleted(self, wish: DeletedThere) -> None:
        """What a worker has just now is told by the server itself."""
        for key, track in self._tracks.items():
            if key.session_id != wish.session_id or key.destination not in wish.destinations or track.state in BUSY:
                continue
            if track.state in (State.PRIVATE, State.GONE):
                continue
            track.reason, track.status = DELETED_BY_HAND, DELETED_THERE
            self._journal.note_audit(key, AuditKind.DELETED_ON_SERVER, "by hand")
            self._mover.apply(key, track, Event.DELETED_BY_HAND)

    def _retry(self, sessions: frozenset[str], *, rejected: bool) -> None:
        self._gates.ask_again()
        for key, track in self._tracks.items():
            if track.reason in UNFIT or (sessions and key.session_id not in sessions):
                continue
            if track.state is State.REFUSED:
                self._journal.note_audit(key, AuditKind.REQUEUED, track.reason)
            track.attempts = track.adoptions = 0
            rests = self._mover.end_rest(key) and track.state is State.SETTLING
            self._mover.apply(key, track, Event.RESTED if rests else Event.RETRY)
            if rejected and self._can_send_rejected(key, track):
                detail = f"rejected entries: {self._mover.count_rejected(key, track)}"
                self._journal.note_audit(key, AuditKind.REQUEUED, detail)
                track.resend = True
                self._mover.apply(key, track, Event.GREW)

    def _restore(self, sessions: frozenset[str]) -> None:
        deleted = {key[:2] for key, track in self._tracks.items() if track.state is State.DELETED_ON_SERVER}
        for key, track in self._tracks.items():
            if key.session_id not in sessions or key[:2] not in deleted:
                continue
            if track.state in (State.DELETED_ON_SERVER, State.SYNCED):  # the server forgot the session as a whole
                self._mover.forget_sent(key, track)
                track.status = DELETED_HERE
                self._journal.note_audit(key, AuditKind.REQUEUED, "to be restored on the server")
                self._mover.apply(key, track, Event.GREW if track.state is State.SYNCED else Event.RESTORED)

    def _note_requeued(self, session_id: str) -> None:
        for destination in self._gates:
            key = TrackKey(destination.name, session_id, "")
            if key in self._tracks:
                self._journal.note_audit(key, AuditKind.REQUEUED, "a hook named it, its file is not there")
