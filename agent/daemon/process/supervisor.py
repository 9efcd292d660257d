"""Puts the pieces together and runs them: which thread does what, how it begins and how it ends.

    watcher ─hint→ scanner ─Observed→ engine ─task→ pushers ─outcome→ engine
    scheduler ─scan, pass→            control socket ─question→ engine
    spool ─path→

Every arrow is a queue. The engine's thread alone touches streams; pushers are daemon threads, so that a request that
hangs can be abandoned: what the server took of it is found out by a 409 the next time.
"""

import logging
import os
import platform
import queue
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from agent import __version__
from agent.core.notices import Concern
from agent.core.sessions.events import Happening
from agent.core.sessions.runs import End
from agent.core.settings import Destination, Settings, TokenIn, is_loopback
from agent.core.transcripts.session import Gone, Observation
from agent.daemon.process.engine_thread import EngineThread
from agent.daemon.process.notifying import LOOK_S, MEMORY, Notifying, find_concerns
from agent.daemon.process.thrift import LOOK_S as THRIFT_S
from agent.daemon.process.thrift import Readers, Thrift
from agent.daemon.process.ticks import Ticks
from agent.daemon.process.workers import PUSH_S, Threads, run_keeper, run_pusher
from agent.daemon.status.around import Around
from agent.daemon.status.report import News, Surroundings, describe_line
from agent.delivery.base.beating_files import BeatingFiles
from agent.delivery.base.heartbeats import Heartbeats, Stuck
from agent.delivery.base.world import Limits, World
from agent.delivery.discovery.looks import Looks
from agent.delivery.discovery.roots import find_roots
from agent.delivery.discovery.scanner import Scanner
from agent.delivery.discovery.spooling import Spooling
from agent.delivery.engine.engine import Engine
from agent.delivery.privacy.permits import Guard
from agent.delivery.privacy.redacting import REDACTION_S, Budget, open_redactor
from agent.delivery.privacy.rulebook import HAS_LIST, ListedRules
from agent.delivery.push.asking import Sender
from agent.delivery.push.comparing import compare
from agent.delivery.push.pusher import Pusher
from agent.delivery.push.reviewing import review
from agent.delivery.retention.holding import Holding
from agent.delivery.state.inputs import (
    Input,
    Observed,
    Requeued,
    Restore,
    Retry,
    RulesChanged,
    SaidOver,
    ScanEnded,
    Vanished,
    Woken,
)
from agent.delivery.state.pausing import PauseAsked, ResumeAsked
from agent.delivery.state.tasks import CompareTask, DiskOutcome, DiskTask, Outcome, ReviewTask, Task, destination_of
from agent.delivery.state.tracks import DestinationState
from agent.errors import MachineError, NotRunning
from agent.providers import PROVIDERS
from agent.sessions.index.index_keeper import IndexKeeper
from agent.sessions.live.events import Ring, open_ring
from agent.sessions.live.runs import LiveRuns
from agent.system.files import reading as files
from agent.system.files.keeping import KeptFiles
from agent.system.files.watcher import Watcher
from agent.system.machine.clock import Clock, SystemClock
from agent.system.machine.network import WayOut, read_way_out
from agent.system.notify import show
from agent.system.paths import Paths, make_private_folder
from agent.system.remote import Remote
from agent.system.state.runs_file import RunsFile
from agent.system.state.spool import Spool
from agent.system.state.state_db import open_state
from agent.system.tokens import TokenSource

log = logging.getLogger(__name__)

T = TypeVar("T")

STOP_S = 5.0
"""A request in flight has this long to end when we are asked to stop; service managers wait 90 s, people do not."""

TOKENS_S = 10.0
"""How often files with tokens are looked at, where the settings name some: one `stat` each."""


class Daemon:
    """One agent at work: `start`, then `ask` and `request_scan` from any thread, then `stop`. The caller holds the
    home's lock."""

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        tokens: TokenSource,
        environment: Mapping[str, str],
        *,
        clock: Clock | None = None,
        way_out: Callable[[], WayOut] = read_way_out,
        readers: Readers | None = None,
        events: Ring | None = None,
    ) -> None:
        """`events`: the ring of the daemon whose place this one takes, so that its listeners miss nothing."""
        clock = clock or SystemClock()
        make_private_folder(paths.state)
        self.since_s = clock.now_s()
        self.paths = paths
        self.find_news: Callable[[], News] = News
        self._settings = settings
        self._tokens = tokens
        self._stopping = threading.Event()
        self._beats = Heartbeats(clock.monotonic_s)
        self._files = BeatingFiles(files, self._beats.beat)
        self._engine_thread = EngineThread(self._beats, clock.monotonic_s, self._stopping.is_set)
        self._tasks: dict[str, queue.SimpleQueue[Task | None]] = {
            one.name: queue.SimpleQueue() for one in settings.destinations
        }
        """One for each destination, with workers of its own: a black hole swallows no others."""
        self._disk_tasks: queue.SimpleQueue[DiskTask | None] = queue.SimpleQueue()
        self._holding = Holding(KeptFiles(paths.kept), settings.limits.kept_bytes)
        self._looks = Looks(self._beats)
        self._store = open_state(paths.database, f"state.damaged-{int(self.since_s)}.db")
        self.events = events or open_ring(self._store, uuid.uuid4().hex, clock.now_s)
        self.live = LiveRuns(
            RunsFile(paths.runs),
            PROVIDERS,
            files,
            self._beats,
            now_s=clock.now_s,
            monotonic_s=clock.monotonic_s,
            say_over=partial(self._say_over, End.LINE),
        )
        self._remotes = {one.name: _remote(one, tokens, self._beats.beat) for one in settings.destinations}
        budget = Budget(time.thread_time, REDACTION_S)
        had_list = self._store.settled(HAS_LIST) != ""
        self._rulebook = rulebook = ListedRules(paths, settings.privacy, environment, had_list=had_list)
        self._guard = Guard(rulebook, self._files)
        self._pusher = Pusher(
            self._remotes,
            PROVIDERS,
            clock.now_s,
            self._is_to_end,
            files=self._files,
            pause=self._pause,
            guard=self._guard,
            redactor=open_redactor(settings.privacy, paths, budget.is_used_up),
            start_redacting=budget.start,
        )
        self._engine = Engine(
            [_destination(one) for one in settings.destinations],
            self._store,
            World(clock.now_s, clock.monotonic_s, random.SystemRandom().random, lambda: str(uuid.uuid4())),
            lambda task: self._tasks[destination_of(task)].put(task),
            Limits(
                settings.push.workers,
                settings.push.coalesce_s,
                settings.push.backlog,
                settings.watch.audit_interval_s,
                settings.limits.files_bytes_per_s,
                settings.privacy.hold_s,
            ),
            guard=self._guard,
            dispatch_disk=self._disk_tasks.put,
            found_held=self._holding.find(),
            host=platform.node(),
            version=__version__,
            tell=self._tell,
            tell_run=self.live.changed,
            new_run_id=lambda: uuid.UUID(int=random.getrandbits(128), version=4).hex,  # one for each file of a backup
            found_runs=self.live.found,
            sighted=self._sighted,
            lost=self._lost,
        )
        if rulebook.has_list:
            self._engine.journal.note_settled(HAS_LIST, "yes")
        self._monotonic_s, self._now_s = clock.monotonic_s, clock.now_s
        self._roots = find_roots(settings, environment)
        self._scanner = Scanner(self._roots, self._observed, self._vanished, self._files)
        self._spooling = Spooling(
            Spool(str(paths.spool)),
            self._roots,
            self._scanner,
            scan=self._scan,
            requeued=lambda session_id: self._engine_thread.tell(Requeued(session_id)),
            monotonic_s=clock.monotonic_s,
            over=partial(self._say_over, End.HOOK),
        )
        self._watcher = Watcher(self._looks.put)
        self._thrift = Thrift(settings.push, readers or Readers(), self._engine_thread.tell)
        self._ticks = Ticks(clock, way_out, self._woken, self._beats)
        self._threads = Threads(self._beats, self._stopping.is_set)
        self.index = IndexKeeper(paths.state, self._roots) if settings.index.enabled else None
        self._notifying = Notifying(
            clock, self._store.settled(MEMORY), concerns=self._concerns, remember=self._remember_notices, show=show
        )
        self._live_thread = threading.Thread(target=self.live.run, name="runs", daemon=True)
        self._around = Around(
            settings,
            environment,
            self.since_s,
            clock.now_s,
            self._roots,
            self._scanner,
            self._watcher,
            self._store,
            self._spooling,
            self.live,
            tokens,
            self.find_stuck,
        )

    # --- life -------------------------------------------------------------------------------------------------

    def start(self, *, watch: bool = True) -> None:
        """Begins with a full scan. Without `watch` nothing follows it unless asked. Raises MachineError when the system
        gives no threads; `stop` ends those that there are."""
        if self._store.note:
            log.warning("%s", self._store.note)
        if watch:
            self._thrift.look()  # the first thing that the engine hears
        try:
            self._start_threads(watch=watch)
        except RuntimeError as exc:
            raise MachineError("the system gives transcriptd no more threads", hint="ulimit -u") from exc

    def _start_threads(self, *, watch: bool) -> None:
        self._engine_thread.start(self._engine, self._taken_up)
        start, do, done = self._threads.start, self._do, self._engine_thread.tell
        start("scanner", self._run_scanner)
        self._live_thread.start()
        start(
            "keeper", partial(run_keeper, self._disk_tasks, self._look_after, done, self._beats, self._stopping.is_set)
        )
        for name, tasks in self._tasks.items():
            for number in range(self._settings.push.workers):
                run = partial(run_pusher, tasks, do, done, self._beats, self._stopping.is_set)
                start(f"pusher {name} {number}", run)
        if watch:
            self._looks.put(self._ensure_watches)
            self._schedule()
            if self.index is not None:
                self.index.start()

    def stop(self) -> None:
        """Finishes or abandons the requests in flight and writes what is known."""
        self._stopping.set()
        self._ticks.stop()
        self._watcher.stop()
        if self.index is not None:
            self.index.stop()
        self._looks.put(None)
        self._disk_tasks.put(None)
        for tasks in self._tasks.values():
            for _ in range(self._settings.push.workers):
                tasks.put(None)
        deadline = self._monotonic_s() + STOP_S
        self._threads.join(lambda: deadline - self._monotonic_s())
        has_ended = self._engine_thread.stop(STOP_S)
        self.live.close()  # behind the last that the engine told
        if self._live_thread.ident is not None:
            self._live_thread.join(STOP_S)
        for remote in self._remotes.values():
            remote.close()
        if has_ended:
            self._store.close()

    # --- asked by others --------------------------------------------------------------------------------------

    @property
    def full_scans(self) -> int:
        """That ended since the start."""
        return self._engine_thread.scans

    @property
    def failed(self) -> threading.Event:
        """Set when the engine died of a defect."""
        return self._engine_thread.failed

    def ask(self, question: Callable[[Engine], T], timeout_s: float = 30.0) -> T:
        """What `question` gives when the engine's thread asks it. It must only read."""
        return self._engine_thread.ask(question, timeout_s)

    def senders(self) -> Mapping[str, Sender]:
        """The way to each server that takes more than whole files."""
        return {one.name: self._remotes[one.name] for one in self._settings.destinations if one.protocol != "upload"}

    def take_in(self, event: Input) -> None:
        """Something that the engine is told from outside; what is asked afterwards finds it done."""
        self._engine_thread.tell(event)

    def request_scan(self) -> None:
        self._looks.put(self._scan)

    def request_push(self) -> None:
        """A pass now: a full look, and another try for whatever waits."""
        self._engine_thread.tell(Retry())
        self.request_scan()

    def request_pause(self, for_s: float | None) -> tuple[str, float | None]:
        """Nothing is handed out for so long, or until somebody resumes. Why nothing is now, and until when."""
        self._engine_thread.tell(PauseAsked(for_s))
        return self.find_pause()

    def request_resume(self) -> tuple[str, float | None]:
        """Somebody's pause ends. What holds everything back still, if anything does."""
        self._engine_thread.tell(ResumeAsked())
        return self.find_pause()

    def find_pause(self) -> tuple[str, float | None]:
        return self.ask(lambda engine: (engine.pausing.why, engine.pausing.until_s))

    def look_at_rules(self) -> None:
        """Tells the engine when they are others than it knows."""
        if not self._engine.private.knows(self._guard.rules()):
            self._engine_thread.tell(RulesChanged())

    def request_restore(self, beginnings: Sequence[str]) -> int:
        """Sessions that were deleted on a server, whose ids begin so, are sent there again. How many they are."""
        sessions = self.ask(lambda engine: engine.by_hand.deleted_there(beginnings))
        if sessions:
            self._engine_thread.tell(Restore(frozenset(sessions)))
        return len(sessions)

    def request_retry(self, beginnings: Sequence[str], *, rejected: bool = True) -> int:
        """Another try for what was given up: of the sessions whose ids begin so, or of all. How many they are.
        `rejected`: entries that servers refused, too."""
        sessions = self.ask(lambda engine: engine.by_hand.given_up(beginnings, rejected=rejected))
        if sessions:
            self._engine_thread.tell(Retry(frozenset(sessions), rejected))
        return len(sessions)

    def take_new_token(self, destination: str) -> None:
        """Somebody stored or removed it: every destination is asked again, with what is there now."""
        self._tokens.forget(destination)
        self._engine_thread.tell(Retry())

    def describe_tokens(self) -> list[dict[str, str]]:
        """Where the token of each destination is, as the settings said at the start."""
        keys = ("name", "url", "token", "keyring", "token_file", "credential")
        return [{key: getattr(one, key) for key in keys} for one in self._settings.destinations]

    def find_stuck(self) -> list[Stuck]:
        """Threads that give no sign of life and should; none while it stops."""
        return [] if self._stopping.is_set() else self._beats.find_stuck()

    def describe(self) -> str:
        """One line for the service manager; empty when the engine has no time to tell."""
        try:
            return self.ask(describe_line, timeout_s=5.0)
        except NotRunning:
            return ""

    def surroundings(self) -> Surroundings:
        news = self.find_news()
        problems = (*news.problems, *self._rulebook.problems())
        return self._around.look(news._replace(problems=problems, lost=news.lost + self._rulebook.count_lost()))

    def is_private(self, session_id: str, project: str) -> bool:
        """Whether the rules keep it here, as far as its id and folder tell."""
        return self._guard.is_private(session_id, project)

    def now_s(self) -> float:
        return self._now_s()

    # --- threads ----------------------------------------------------------------------------------------------

    def _taken_up(self) -> None:
        """By the engine's thread, when it knows what was stored."""
        self._looks.put(partial(self._scanner.expect, self._engine.followed()))
        self.request_scan()

    def _do(self, task: Task) -> Outcome:
        return self._pusher.run(task)

    def _look_after(self, task: DiskTask) -> DiskOutcome:
        if isinstance(task, ReviewTask):
            return review(self._guard, self._files, task)
        return compare(self._files, task) if isinstance(task, CompareTask) else self._holding.do(task)

    def _is_to_end(self) -> bool:
        """Asked between the entries of a run, which takes as long as there are any."""
        return self._stopping.is_set() or bool(self._engine.pausing.why)

    def _pause(self, seconds: float) -> None:
        self._beats.work(seconds + PUSH_S)
        self._stopping.wait(seconds)
        self._beats.work(PUSH_S)

    def _run_scanner(self) -> None:
        # The spool and the rules also while hints come faster than they are seen to.
        between = (self._spooling.poll, self.look_at_rules)
        self._looks.run(self._scanner, self._monotonic_s, self._stopping.is_set, scan=self._scan, between=between)

    # --- ticks ------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        settings = self._settings
        self._ticks.every(settings.push.interval_s, lambda: self._looks.put(self._pass))
        self._ticks.every(settings.watch.scan_interval_s, self.request_scan)
        self._ticks.every(settings.watch.poll_interval_s, self._poll)
        if self._thrift.is_wanted:
            self._ticks.every(THRIFT_S, self._thrift.look)
        if any(one.token in (TokenIn.FILE, TokenIn.CREDENTIAL) for one in settings.destinations):
            self._ticks.every(TOKENS_S, self._look_at_tokens)
        if settings.notify.enabled:
            self._ticks.every(LOOK_S, self._notifying.look)
        self._ticks.start()

    def _woken(self, why: str) -> None:
        """Connections from before are dead without knowing it, waits were meant for another time, and change notices
        may be lost."""
        log.info("%s: trying again", why)
        for remote in self._remotes.values():
            remote.cut()
        self._thrift.look()
        self._engine_thread.tell(Woken())
        self._looks.put(self._ensure_watches)
        self.request_scan()

    def _poll(self) -> None:
        """Where the system gives no change notices, a full look takes their place."""
        if self._watcher.refused or self._watcher.missing:
            self._looks.put(self._ensure_watches)
        if self._watcher.refused:
            self.request_scan()

    def _concerns(self) -> tuple[list[Concern], set[str]]:
        around = self.surroundings()
        return self.ask(lambda engine: find_concerns(engine, around))

    def _remember_notices(self, text: str) -> None:
        self.ask(lambda engine: engine.journal.note_settled(MEMORY, text))

    def _look_at_tokens(self) -> None:
        if self._tokens.find_changed():
            log.info("a file with a token changed")
            self._engine_thread.tell(Retry())

    def _pass(self) -> None:
        self._ensure_watches()
        self._scanner.look_again()

    def _ensure_watches(self) -> None:
        if self._watcher.ensure([root.path for root in self._roots]):
            self.request_scan()

    def _scan(self) -> None:
        self._scanner.scan()
        self._engine_thread.tell(ScanEnded())

    def _observed(self, observations: list[Observation], live: bool) -> None:
        self._engine_thread.tell(Observed(observations, live))

    def _sighted(self, observations: Sequence[Observation]) -> None:
        """By the engine's thread: it alone knows which file stands for what."""
        if self.index is not None:
            self.index.observed(observations)
        self.live.seen(observations)

    def _lost(self, gone: Sequence[Gone]) -> None:
        if self.index is not None:
            self.index.vanished(gone)

    def _say_over(self, why: End, session_id: str, at_s: float) -> None:
        self._engine_thread.tell(SaidOver(session_id, why, at_s))

    def _tell(self, happening: Happening) -> None:
        """By the engine's thread."""
        self.events.tell(happening)
        if happening.session_id and self.live.wants_list:
            self.live.happened(happening, self._engine.facts.of(happening.session_id).shown_title())

    def _vanished(self, gone: list[Gone]) -> None:
        self._engine_thread.tell(Vanished(gone))


def _remote(one: Destination, tokens: TokenSource, moved: Callable[[], None]) -> Remote:
    return Remote(one.url, partial(tokens.token, one.name), partial(tokens.renew, one.name), moved=moved)


def _destination(one: Destination) -> DestinationState:
    host = urlsplit(one.url).hostname or ""
    projects = tuple(os.path.expanduser(pattern) for pattern in one.projects)
    return DestinationState(one.name, one.url, one.protocol, compress=not is_loopback(host), projects=projects)
