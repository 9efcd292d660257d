"""Live sessions: their runs as the engine knows them, remembered and told; and what is added to those that somebody
follows. A thread of its own does it, so that neither the engine nor delivery waits for a transcript that is read to be
shown.

What the engine says of a run is written to a file before anybody is told. So whoever knows of a run hears of its end
once: from this process, or from the next one.
"""

import contextlib
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agent.core.sessions.events import Happening
from agent.core.sessions.known_runs import KnownRuns, is_old
from agent.core.sessions.runs import REPLAY_S, ChangeKind, Run, RunChange
from agent.core.transcripts.session import Observation, is_conversation, is_side_file
from agent.delivery.base.heartbeats import Heartbeats
from agent.errors import DiskError, NotRunning, UsageError
from agent.providers.ending import ENDING, says_over
from agent.sessions.live.events import Ring
from agent.sessions.live.message_feed import Followed, ListFeed, MessageFeed, Since, run_json, told_of
from agent.system.logs import where

if TYPE_CHECKING:
    from agent.core.transcripts.session import Provider
    from agent.delivery.base.world import Files
    from agent.sessions.read.tailing import Tail

log = logging.getLogger(__name__)

WHO = "runs"

LOOK_S = 1.0
"""How often followed files are looked at without a change notice, since those get lost: one `stat` each."""

WORK_S = 120.0
"""A turn may take so long: a megabyte of each file, on a slow disk."""

MOST_TAILS = 64

LIST_RING = 1_000

_TURNS = 64
"""Megabytes that are read of a session at its end before it is told complete."""

_LAST_LINE_BYTES = 64 << 10


class RunStore(Protocol):
    """`system.state.runs_file.RunsFile`."""

    def read(self) -> list[Run]: ...
    def note(self, changed: Sequence[Run], known: Collection[Run], /) -> None: ...


class ListChange(Happening, frozen=True):
    """What changed in the list of sessions. `title` may be a transcript's words: for the control socket alone."""

    run: str = ""
    state: str = ""
    title: str = ""
    before: str = ""


class LiveRuns:
    """`say_over(session_id, at_s)`: a line ended it. `run` is the thread's; `changed` and `happened` are called by the
    engine's, `seen` by the scanner's, the others by any."""

    def __init__(
        self,
        store: RunStore,
        providers: "Mapping[str, Provider]",
        files: "Files",
        beats: Heartbeats,
        *,
        now_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        say_over: Callable[[str, float], None],
    ) -> None:
        self._store = store
        self._providers = providers
        self._files = files
        self._beats = beats
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._say_over = say_over
        self._turn = threading.Condition()
        self._news: deque[RunChange | ListChange] = deque()
        self._gone: deque[MessageFeed] = deque()
        self._dirty: dict[tuple[str, str], str] = {}
        self._closed = False
        self._guard = threading.RLock()
        """Of what follows. Held while a file is read, so the control socket's thread never asks for it."""
        self._runs = KnownRuns(store.read(), now_s())
        self.found = tuple(self._runs)
        """Those of the life before, for the engine."""
        self._looked_s = 0.0
        self._tails: dict[tuple[str, bool], Tail] = {}
        self._feeds: set[MessageFeed] = set()
        self._watched: frozenset[str] = frozenset()
        """Sessions whose files are looked at."""
        self._list: Ring | None = None
        self._list_feeds: set[ListFeed] = set()
        self.trouble = ""

    # --- what others tell -------------------------------------------------------------------------------------

    def changed(self, change: RunChange) -> None:
        self._put(change)

    def happened(self, happening: Happening, title: str) -> None:
        """A change of the list; only asked for while somebody listens."""
        self._put(ListChange(**{**msgspec.structs.asdict(happening), "title": title}))

    @property
    def wants_list(self) -> bool:
        return self._list is not None

    def seen(self, observations: Iterable[Observation]) -> None:
        watched = self._watched
        if not watched:
            return
        for one in observations:
            if one.stream.session_id in watched and not is_side_file(one.stream.subpath):
                with self._turn:
                    self._dirty[one.stream] = one.path
                    self._turn.notify()

    def close(self) -> None:
        """Ends the thread, after what it was told; subscribers are let go, and come back to another daemon."""
        with self._turn:
            self._closed = True
            self._turn.notify()

    def _put(self, one: RunChange | ListChange) -> None:
        with self._turn:
            self._news.append(one)
            self._turn.notify()

    # --- what others ask --------------------------------------------------------------------------------------

    def list_runs(self) -> list[Run]:
        """Those that are on, and those that ended within five minutes; by when they began."""
        with self._guard:
            found = [run for run in self._runs if not self._is_old(run)]
        return sorted(found, key=lambda run: (run.started_at_s, run.id))

    def run_of(self, session_id: str) -> Run | None:
        """The one that is on, else the last one that is still known."""
        run = self._runs.last_of(session_id)
        return None if run is None or self._is_old(run) else run

    def follow_list(self, after_seq: int | None, epoch: str) -> tuple[dict[str, Any], ListFeed]:
        """Raises NotRunning once it is closed."""
        with self._guard:
            self._check_open()
            if self._list is None:
                self._list = Ring(uuid.uuid4().hex, self._now_s, size=LIST_RING)
            feed = ListFeed(self._list.follow(after_seq, epoch), left=self._list_feeds.discard)
            self._list_feeds.add(feed)
            return {**self._list.describe(), "refresh": feed.refresh}, feed

    def follow(self, what: Followed, since: Since) -> "tuple[dict[str, Any], MessageFeed]":
        """Raises UsageError when too many are followed, NotRunning once it is closed."""
        with self._guard:
            self._check_open()
            run = self.run_of(what.session_id)
            tail = self._tail(what, run, since)
            next_seq, refresh = self._place(tail, run, since)
            for subpath, path in tail.paths().items():
                self._dirty_too(what.session_id, subpath, path)
            feed = MessageFeed(tail, next_seq, refresh=refresh, left=self._leave)
            self._feeds.add(feed)
            result = {
                "session_id": what.session_id,
                "run": None if run is None else run_json(run),
                "epoch": tail.epoch,
                "seq": next_seq - 1,
                "oldest_seq": tail.oldest_seq,
                "refresh": refresh,
                "offsets": tail.offsets(),
            }
        return result, feed

    def _dirty_too(self, session_id: str, subpath: str, path: str) -> None:
        with self._turn:
            self._dirty.setdefault((session_id, subpath), path)
            self._turn.notify()

    def _check_open(self) -> None:
        if self._closed:
            raise NotRunning("transcriptd is stopping", hint="transcriptd status")

    def _tail(self, what: Followed, run: Run | None, since: Since) -> "Tail":
        from agent.sessions.read.tailing import Tail

        key = (what.session_id, what.subagents)
        known = self._tails.get(key)
        if known is not None:
            return known
        if len(self._tails) >= MOST_TAILS and not self._drop_unused(any_run=True):
            raise UsageError(f"{MOST_TAILS} sessions are followed already, the most that may be")
        tail = Tail(what.session_id, self._providers[what.provider], self._files, uuid.uuid4().hex)
        tail.run_id = "" if run is None else run.id
        places = dict(what.places)
        if since.after_seq == 0 and not since.epoch and run is not None and "" in places:
            places[""] = places[""]._replace(offset=run.start_bytes)
        tail.begin(places)
        self._note_earlier(tail, run)
        if run is not None and run.is_complete:
            self._read_all(tail)
            tail.note("complete", **told_of(run))
        self._tails[key] = tail
        self._note_watched()
        return tail

    def _note_earlier(self, tail: "Tail", last: Run | None) -> None:
        """The ends of runs before the last one, for a client that comes back and was on one of them."""
        for run in self._runs.of_session(tail.session_id):
            if run.is_complete and run is not last:
                tail.note("complete", **told_of(run))
        tail.earlier_seq = tail.last_seq

    def _place(self, tail: "Tail", run: Run | None, since: Since) -> tuple[int, bool]:
        """The first number that the subscriber is told, and whether it missed some."""
        newest = tail.last_seq + 1
        if since.epoch and since.epoch != tail.epoch:
            completed = tail.find_complete(since.run) if since.run else 0
            return completed or newest, True
        if since.after_seq is None:
            return newest, False
        if since.after_seq > tail.last_seq:
            return newest, True
        if since.after_seq == 0 and not since.epoch:
            first_seq = tail.earlier_seq + 1
            return max(tail.oldest_seq, first_seq), tail.oldest_seq > first_seq
        is_gone = since.after_seq + 1 < tail.oldest_seq
        return (newest, True) if is_gone else (since.after_seq + 1, False)

    def _leave(self, feed: MessageFeed) -> None:
        with self._turn:
            self._gone.append(feed)
            self._turn.notify()

    def _drop_unused(self, *, any_run: bool = False) -> bool:
        """Tails that nobody reads and no run needs any more."""
        used = {feed.tail for feed in self._feeds}
        for key, tail in list(self._tails.items()):
            is_kept = not any_run and self.run_of(tail.session_id) is not None
            if tail not in used and not is_kept:
                del self._tails[key]
                self._note_watched()
                if any_run:
                    return True
        return False

    # --- the thread -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until it is closed."""
        self._note_watched()
        while True:
            self._beats.wait(WHO)
            with self._turn:
                if not (self._news or self._dirty or self._gone or self._closed):
                    self._turn.wait(self._wait_s())
                news, self._news = self._news, deque()
                dirty, self._dirty = self._dirty, {}
                is_closed = self._closed
            self._beats.work(WORK_S, WHO)
            try:
                self.do(news, dirty)
            except Exception as exc:  # noqa: BLE001 - a defect must not end what others wait for
                log.error("a defect in what follows sessions: %s", where(exc))  # noqa: TRY400 - a transcript's words
            if is_closed:
                self._let_go()
                self._beats.leave(WHO)
                return

    def do(self, news: Iterable[RunChange | ListChange], dirty: Mapping[tuple[str, str], str]) -> None:
        """One turn: first what was added, so that a run's last lines stand before its end."""
        now_s = self._monotonic_s()
        is_time = now_s - self._looked_s >= LOOK_S
        with self._guard:
            gone = {self._gone.popleft() for _ in range(len(self._gone))}
            self._feeds -= gone
        looked = dict(dirty)
        if is_time:
            self._looked_s = now_s
            for tail in self._followed():
                for subpath in tail.paths():
                    looked.setdefault((tail.session_id, subpath), "")
        for (session, subpath), path in looked.items():
            self._look(session, subpath, path)
        self._take(list(news))
        if is_time or gone:
            with self._guard:
                self._drop_unused()
        if is_time:
            self._beat(now_s)

    def _beat(self, now_s: float) -> None:
        with self._guard:
            feeds = list(self._feeds)
        for feed in feeds:
            run = self.run_of(feed.tail.session_id)
            if run is not None and not run.is_complete:
                feed.beat(run.id, now_s)

    def _wait_s(self) -> float | None:
        if self._feeds:
            return LOOK_S
        return REPLAY_S if self._tails else None

    def _take(self, news: list[RunChange | ListChange]) -> None:
        changes = [one for one in news if isinstance(one, RunChange)]
        if changes:
            with self._guard:
                self._runs.forget_old(self._now_s())
                for change in changes:
                    self._runs.take(change.run)
            self._remember([one.run for one in changes])
        for one in news:
            if isinstance(one, RunChange):
                self._tell(one)
            elif self._list is not None:
                self._list.tell(one)
        if changes:
            self._note_watched()

    def _remember(self, changed: list[Run]) -> None:
        try:
            self._store.note(changed, self._runs)
            self.trouble = ""
        except DiskError as exc:
            if not self.trouble:
                log.warning("%s; a crash now may tell of the end of a run twice, or never", exc.message)
            self.trouble = exc.message

    def _tell(self, change: RunChange) -> None:
        run = change.run
        with self._guard:
            for subagents in (False, True):
                tail = self._tails.get((run.session_id, subagents))
                if change.kind is ChangeKind.RENAMED:
                    tail = self._tails.pop((change.before, subagents), None)
                    if tail is not None:
                        tail.session_id = run.session_id
                        self._tails.setdefault((run.session_id, subagents), tail)
                if tail is None:
                    continue
                if change.kind is ChangeKind.COMPLETE:
                    self._read_all(tail)
                    if not tail.find_complete(run.id):
                        tail.note("complete", **told_of(run))
                else:
                    tail.run_id = run.id
                    tail.note(f"run.{change.kind}", **told_of(run))
            if self._list is not None:
                state = "complete" if run.is_complete else "running"
                kind = f"run.{change.kind}"
                self._list.tell(
                    ListChange(
                        kind,
                        self._now_s(),
                        session_id=run.session_id,
                        provider=run.provider,
                        run=run.id,
                        state=state,
                        why=run.why,
                        before=change.before,
                    )
                )

    def _look(self, session: str, subpath: str, path: str) -> None:
        from_end = not subpath and bool(path) and self._has_ending(session)
        for subagents in (False, True):
            with self._guard:
                tail = self._tails.get((session, subagents))
                if tail is None or not (subagents or is_conversation(subpath)):
                    continue
                if not tail.knows(subpath):
                    from agent.sessions.read.tailing import Place

                    tail.add(subpath, Place(path, 0))
                has_more = tail.look(subpath, path)
            if has_more:
                self._dirty_too(session, subpath, path)
        if from_end:
            self._look_for_end(session, path)

    def _look_for_end(self, session: str, path: str) -> None:
        run = self.run_of(session)
        if run is None or run.is_complete:
            return
        with contextlib.suppress(DiskError), self._files.open_file(path) as file:
            size = file.size()
            data = file.read_at(max(0, size - _LAST_LINE_BYTES), _LAST_LINE_BYTES)
            if data.endswith(b"\n") and says_over(run.provider, data[data.rfind(b"\n", 0, -1) + 1 :]):
                self._say_over(session, self._now_s())

    def _has_ending(self, session: str) -> bool:
        run = self.run_of(session)
        return run is not None and not run.is_complete and run.provider in ENDING

    def _read_all(self, tail: "Tail") -> None:
        for subpath in tail.paths():
            for _ in range(_TURNS):
                if not tail.look(subpath):
                    break

    def _followed(self) -> "list[Tail]":
        with self._guard:
            return list({feed.tail for feed in self._feeds})

    def _note_watched(self) -> None:
        with self._guard:
            ending = self._runs.open_sessions(ENDING)
            self._watched = frozenset({session for session, _ in self._tails} | ending)

    def _is_old(self, run: Run) -> bool:
        return is_old(run, self._now_s())

    def _let_go(self) -> None:
        with self._guard:
            feeds: list[MessageFeed | ListFeed] = [*self._feeds, *self._list_feeds]
            self._feeds, self._list_feeds = set(), set()
        for feed in feeds:
            feed.end()
