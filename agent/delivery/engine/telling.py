"""Which of the engine's doings are told to whoever listens, each exactly once: a room of the engine, in its thread.

What holds for a session follows from all its streams at all destinations: it is open while one of them is to be sent or
could not be, and synced when none is and something was delivered since it was said last. Nothing of this is
remembered: after a restart clients ask for everything again, and only what is new then is told.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping

from agent.core.delivery.audit import AuditKind
from agent.core.delivery.lifecycle import UNSENT, Condition, State
from agent.core.sessions.events import EventKind, Happening
from agent.core.sessions.runs import QUIET_S, ChangeKind, End, Moment, Run, RunBook, RunChange, Wrote
from agent.core.transcripts.session import Facts
from agent.delivery.base.world import World
from agent.delivery.engine.answers import OUTSIDE
from agent.delivery.state.gates import Gates
from agent.delivery.state.tasks import TrackKey
from agent.delivery.state.tracks import DestinationState, Track, streams_of

REST_S = 1.0
"""Between two words of one kind on one session."""

LIVE_S = 60.0
"""Somebody writes there if it changed this lately."""

_OPEN = UNSENT | {State.REFUSED, State.DELETED_ON_SERVER}

_DELIVERED = frozenset({AuditKind.UPLOADED, AuditKind.ADOPTED, AuditKind.REALIGNED, AuditKind.NEW_GENERATION})

_CHANGED, _SYNCED = EventKind.SESSION_CHANGED, EventKind.SESSION_SYNCED


class Telling:
    """`why_private`: session → what says that it stays here. `tell` takes what is to be told and waits for nobody, and
    so does `tell_run`; a session ends with its run. `new_run_id`: an id that no run of any life has."""

    def __init__(
        self,
        tracks: Mapping[TrackKey, Track],
        subpaths: Mapping[str, list[str]],
        gates: Gates,
        world: World,
        *,
        why_private: Mapping[str, str],
        facts: Callable[[str], Facts],
        tell: Callable[[Happening], None],
        tell_run: Callable[[RunChange], None],
        new_run_id: Callable[[], str],
    ) -> None:
        self._tracks = tracks
        self._subpaths = subpaths
        self._gates = gates
        self._world = world
        self._why_private = why_private
        self._facts = facts
        self._tell = tell
        self._open: dict[str, int] = {}
        """Session → how many of its streams are open."""
        self._delivered: set[str] = set()
        """Of these something arrived, or was said to be new, since it was said that they are synced."""
        self._grown: set[str] = set()
        self._private: set[str] = set()
        self._rest_until_s: dict[tuple[str, EventKind], float] = {}
        self._rests: list[tuple[float, str, EventKind]] = []
        self._changed: dict[str, None] = {}
        """Of these something may have to be told at the next tick."""
        self._runs = RunBook(new_run_id, self._run_changed)
        self._other_names: dict[str, str] = {}
        """Session that is worked in → one whose file seems to be the same."""
        self._tell_run = tell_run
        self._is_settled = False
        """What was there at the start has been looked at: what is found from now on is new."""

    # --- what the engine says ---------------------------------------------------------------------------------

    def restore_runs(self, runs: Iterable[Run]) -> None:
        """Those of an earlier life, before its streams are taken up."""
        self._runs.restore(runs, self._now())

    def take_up(self, key: TrackKey, track: Track) -> None:
        """A stream as the store remembers it: of what it was before nothing is told."""
        if track.state in _OPEN:
            self._open[key.session_id] = self._open.get(key.session_id, 0) + 1
        if track.state is State.PRIVATE and key.session_id in self._why_private:
            self._private.add(key.session_id)
        if track.state is not State.GONE:
            self._expect_end(key, track, QUIET_S, max(0, track.size), is_new=False)

    def scan_ended(self) -> None:
        self._is_settled = True

    def knows(self, session: str) -> bool:
        return next(self._of(session), None) is not None

    def found(self, key: TrackKey, track: Track) -> None:
        """The first stream of a session that nobody knew."""
        is_other_name = self._take_other_name(key, track)
        is_live = self._expect_end(key, track, LIVE_S, 0, is_new=self._is_settled and not is_other_name)
        if track.state is State.PRIVATE:
            self._changed[key.session_id] = None
        self._say(EventKind.SESSION_STARTED, key.session_id, history=not is_live)

    def grew(self, key: TrackKey, track: Track, from_bytes: int) -> None:
        if key.destination == self._first_name():  # the same file stands for it at each of them
            self._expect_end(key, track, LIVE_S, from_bytes)
            self._grown.add(key.session_id)
            self._changed[key.session_id] = None

    def said_over(self, session: str, why: End, at_s: float) -> None:
        """A hook or a line says that the session ended then."""
        self._runs.said_over(session, why, at_s, self._now())

    def moved(self, key: TrackKey, before: State, state: State) -> None:
        """As the table says, also where nothing moved."""
        session = key.session_id
        if (state in _OPEN) != (before in _OPEN):
            self._open[session] = self._open.get(session, 0) + (1 if state in _OPEN else -1)
            if not self._open[session]:
                del self._open[session]
                self._changed[session] = None
        if state is State.GONE and not key.subpath and (after := self._other_names.pop(session, "")):
            self._runs.rename(session, after, self._now())
        if state is State.GONE and before in _OPEN:
            self._delivered.discard(session)  # what was not sent of it never will be
        if state is State.PRIVATE:
            self._changed[session] = None
        elif before is State.PRIVATE and session not in self._why_private:
            self._private.discard(session)

    def audited(self, key: TrackKey, kind: AuditKind) -> None:
        if kind in _DELIVERED:
            self._delivered.add(key.session_id)
            self._changed[key.session_id] = None

    def condition_changed(self, one: DestinationState) -> None:
        self._tell(
            Happening(
                EventKind.AGENT_CONDITION,
                self._world.now_s(),
                destination=one.name,
                condition=str(one.condition),
                why="" if one.condition is Condition.RUNNING else one.why,
            )
        )

    def paused(self, why: str) -> None:
        """`why` empty: it goes on."""
        condition = "paused" if why else "resumed"
        self._tell(Happening(EventKind.AGENT_CONDITION, self._world.now_s(), condition=condition, why=why))

    # --- time -------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Tells what there is to tell by now."""
        now_s = self._world.monotonic_s()
        while self._rests and self._rests[0][0] <= now_s:
            _, session, kind = heapq.heappop(self._rests)
            del self._rest_until_s[session, kind]
            self._changed[session] = None
        if self._changed:
            changed, self._changed = self._changed, {}
            for session in changed:
                self._tell_of(session, now_s)
        self._runs.tick(self._now())

    def next_s(self) -> float | None:
        """Monotonic time at which `tick` has something to do."""
        times = (self._rests[0][0] if self._rests else None, self._runs.next_s())
        return min((at_s for at_s in times if at_s is not None), default=None)

    def _tell_of(self, session: str, now_s: float) -> None:
        if session in self._why_private and session not in self._private and self._is_private(session):
            self._private.add(session)
            self._say(EventKind.SESSION_PRIVATE, session)
        is_synced = self._is_synced(session) and self._may_say(session, _SYNCED)
        if session in self._grown and (is_synced or self._may_say(session, _CHANGED)):
            self._grown.discard(session)
            self._delivered.add(session)
            self._say(_CHANGED, session)
            self._rest(session, _CHANGED, now_s)
        if is_synced:
            self._delivered.discard(session)
            self._say(_SYNCED, session)
            self._rest(session, _SYNCED, now_s)

    def _is_synced(self, session: str) -> bool:
        if session in self._open or not (session in self._delivered or session in self._grown):
            return False
        is_there = any(track.state is State.SYNCED for _, track in self._of(session))
        return is_there and not self._is_private(session)

    def _may_say(self, session: str, kind: EventKind) -> bool:
        return (session, kind) not in self._rest_until_s

    def _rest(self, session: str, kind: EventKind, now_s: float) -> None:
        if (session, kind) not in self._rest_until_s:
            self._rest_until_s[session, kind] = now_s + REST_S
            heapq.heappush(self._rests, (now_s + REST_S, session, kind))

    def _expect_end(
        self, key: TrackKey, track: Track, within_s: float, from_bytes: int, *, is_new: bool = True
    ) -> bool:
        """Whether it changed within that time; if that is new, a run of it is on and will end."""
        now_s, wrote_at_s = self._world.now_s(), track.mtime_ns / 1e9
        if now_s - wrote_at_s >= within_s:
            return False
        start_bytes = 0 if key.subpath else from_bytes
        file = 0 if key.subpath else track.inode
        wrote = Wrote(key.session_id, track.provider, wrote_at_s, start_bytes, file, is_new)
        self._runs.wrote(wrote, self._now())
        return True

    def _now(self) -> Moment:
        return Moment(self._world.now_s(), self._world.monotonic_s())

    def _run_changed(self, change: RunChange) -> None:
        self._tell_run(change)
        if change.kind is ChangeKind.COMPLETE:
            self._other_names.pop(change.run.session_id, None)
        if change.kind is ChangeKind.COMPLETE and change.run.why != End.JOINED:
            self._say(EventKind.SESSION_ENDED, change.run.session_id)

    def _take_other_name(self, key: TrackKey, track: Track) -> bool:
        """Whether this seems to be the main transcript of a session that somebody works in, under another name: then
        its run goes on here as soon as the old name is gone. Inodes are given again, so it may not be shorter."""
        before = self._runs.session_of(track.inode)
        if key.subpath or not before or before == key.session_id:
            return False
        old = self._tracks.get(TrackKey(key.destination, before, ""))
        if old is not None and track.size < old.size:
            return False
        if old is None or old.state is State.GONE or old.path == track.path:
            self._runs.rename(before, key.session_id, self._now())
        else:
            self._other_names[before] = key.session_id
        return True

    # --- what is known of a session ---------------------------------------------------------------------------

    def _say(self, kind: EventKind, session: str, *, history: bool = False) -> None:
        at_s = self._world.now_s()
        tracks = list(self._of(session))
        if session in self._why_private or any(_stays_here(track) for _, track in tracks):
            self._tell(Happening(kind, at_s, session_id=session, history=history))
            return
        main = next((track for key, track in tracks if not key.subpath), None)
        self._tell(
            Happening(
                kind,
                at_s,
                session_id=session,
                provider=tracks[0][1].provider if tracks else "",
                project=self._facts(session).project,
                bytes=max(0, main.size) if main else 0,
                history=history,
            )
        )

    def _is_private(self, session: str) -> bool:
        return any(_stays_here(track) for _, track in self._of(session))

    def _of(self, session: str) -> Iterator[tuple[TrackKey, Track]]:
        return streams_of(session, self._gates, self._subpaths, self._tracks)

    def _first_name(self) -> str:
        return next((one.name for one in self._gates), "")


def _stays_here(track: Track) -> bool:
    """Also where nobody could tell; not where it only belongs to another destination."""
    return track.state is State.PRIVATE and track.reason != OUTSIDE
