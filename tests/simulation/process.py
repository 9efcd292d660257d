"""One life of the agent in virtual time: the real scanner, engine and pusher, taken step by step.

What the daemon does with threads and queues is done here by whoever calls: an event waits in the inbox until it is
taken, a task until it is run. A crash is that nobody calls any more.
"""

import random
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from agent.core.delivery.lifecycle import UNSENT, Condition
from agent.core.status import OWED
from agent.delivery.base.world import Files, Limits, World
from agent.delivery.discovery.scanner import Root, Scanner
from agent.delivery.engine.engine import Engine
from agent.delivery.privacy.permits import Guard, Rulebook
from agent.delivery.push.asking import Sender
from agent.delivery.push.comparing import compare
from agent.delivery.push.pusher import Pusher
from agent.delivery.push.reviewing import review
from agent.delivery.retention.holding import Holding, Keeping
from agent.delivery.state.inputs import Input, Observed, RulesChanged, ScanEnded, Vanished
from agent.delivery.state.tasks import (
    CompareTask,
    DeleteTask,
    DiskOutcome,
    DiskTask,
    LetGoTask,
    MetaTask,
    ProbeTask,
    RealignTask,
    ReviewTask,
    Task,
    TrackKey,
    UploadTask,
)
from agent.delivery.state.tracks import DestinationState
from agent.providers import PROVIDERS
from tests.fakes import FakeClock
from tests.redactors import REDACTOR
from tests.simulation.uploads import SHELF, Shelf

DESTINATION = "there"


class Machine(NamedTuple):
    """What a process finds around it. `checked(key)` is called when the engine has taken an outcome for a stream."""

    files: Files
    senders: Mapping[str, Sender]
    root: str
    clock: FakeClock
    rng: random.Random
    limits: Limits
    compress: bool
    rulebook: Rulebook
    checked: Callable[[TrackKey], None]
    kept: Keeping
    kept_bytes: int
    released: Callable[[LetGoTask], None]
    """Called before what is retained of a file is let go."""
    shelf: Shelf | None


class Process:
    """`store` is as `open_state` gives it."""

    def __init__(self, machine: Machine, store: Any) -> None:
        self.store = store
        self.clock = clock = machine.clock
        self.inbox: deque[Input] = deque()
        self.tasks: list[Task] = []
        self.is_stopping = False
        self._running: set[TrackKey] = set()
        self._rng = rng = machine.rng
        self._checked = machine.checked
        world = World(clock.now_s, clock.monotonic_s, rng.random, self._new_uuid)
        self.destinations = {
            name: DestinationState(name, "http://127.0.0.1", compress=machine.compress) for name in machine.senders
        }
        if machine.shelf:
            self.destinations[SHELF].protocol = "upload"
            machine.shelf.begin_life()
        self._shelf = machine.shelf
        self.looks: deque[DiskTask] = deque()
        self._released = machine.released
        self.holding = Holding(machine.kept, machine.kept_bytes)
        self._files, self._guard = machine.files, Guard(machine.rulebook, machine.files)
        self.engine = Engine(
            list(self.destinations.values()),
            store,
            world,
            self._dispatch,
            machine.limits,
            guard=self._guard,
            dispatch_disk=self._dispatch_disk,
            found_held=self.holding.find(),
        )
        self._pusher = Pusher(
            machine.senders,
            PROVIDERS,
            clock.now_s,
            lambda: self.is_stopping,
            files=machine.files,
            guard=self._guard,
            redactor=REDACTOR,
        )
        self.scanner = Scanner(
            [Root(PROVIDERS["claude"], machine.root)],
            lambda seen, live: self.inbox.append(Observed(seen, live)),
            lambda gone: self.inbox.append(Vanished(gone)),
            machine.files,
        )

    def start(self) -> None:
        self.engine.start()
        self.scanner.expect(self.engine.followed())
        self.scan()

    def scan(self) -> None:
        self.scanner.scan()
        self.inbox.append(ScanEnded())

    def look_at_rules(self) -> None:
        """The daemon's look, every second."""
        if not self.engine.private.knows(self._guard.rules()):
            self.inbox.append(RulesChanged())

    def _new_uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _dispatch(self, task: Task) -> None:
        key = _stream_of(task)
        if key is not None:
            taken = key in self._running or any(_stream_of(one) == key for one in self.tasks)
            assert not taken, f"two tasks at a time for {key}"
            is_question = isinstance(task, RealignTask)
            assert is_question or not self.engine.pausing.why, f"a task for {key} while paused"
        if self._shelf and isinstance(task, UploadTask):
            self._shelf.check_rest(task, self.engine.tracks[task.key])
        self.tasks.append(task)

    # --- steps ------------------------------------------------------------------------------------------------

    def take_event(self) -> bool:
        if not self.inbox:
            return False
        event = self.inbox.popleft()
        if self._shelf:
            self._shelf.hear(event)
        self.engine.handle(event)
        self.engine.tick()
        key = getattr(event, "key", None)
        if key is not None:
            self._checked(key)
        return True

    def _dispatch_disk(self, task: DiskTask) -> None:
        if isinstance(task, LetGoTask):
            self._released(task)  # as the world is when that is decided
        self.looks.append(task)

    def run_task(self) -> bool:
        """One of the tasks that were handed out, from its beginning to its outcome."""
        if self.looks and (not self.tasks or self._rng.random() < 0.5):
            self.inbox.append(self._look(self.looks.popleft()))
            return True
        if not self.tasks:
            return False
        task = self.tasks.pop(self._rng.randrange(len(self.tasks)))
        key = _stream_of(task)
        if key is not None:
            self._running.add(key)
        try:
            self.inbox.append(self._pusher.run(task))
        finally:
            if key is not None:
                self._running.discard(key)
        return True

    def _look(self, task: DiskTask) -> DiskOutcome:
        match task:
            case ReviewTask():
                return review(self._guard, self._files, task)
            case CompareTask():
                return compare(self._files, task)
            case _:
                return self.holding.do(task)

    def pass_time(self, seconds: float) -> None:
        """The engine is called at each of its deadlines until then."""
        until = self.clock.mono_s + seconds
        while (deadline := self.engine.next_deadline_s()) is not None and deadline <= until:
            self.clock.advance(max(0.0, deadline - self.clock.mono_s))
            self.engine.tick()
            if self.engine.next_deadline_s() == deadline:
                break
        self.clock.advance(max(0.0, until - self.clock.mono_s))
        self.engine.tick()

    def wait(self) -> bool:
        """Until the next deadline; False when there is none."""
        deadline = self.engine.next_deadline_s()
        if deadline is None:
            return False
        self.clock.advance(max(0.0, deadline - self.clock.mono_s) + 0.001)
        self.engine.tick()
        return True

    def stop(self) -> None:
        """As the daemon does it: what runs comes to an end or is abandoned, what is known is written."""
        self.is_stopping = True
        while self.tasks and self._rng.random() < 0.7:
            self.run_task()
        while self.take_event():
            pass
        self.engine.finish()
        self.store.close()

    # --- an end -----------------------------------------------------------------------------------------------

    def settle(self, most: int = 5_000) -> None:
        """Everything that can still happen by itself, happens."""
        self.scan()
        self.look_at_rules()
        for _ in range(most):
            if self.take_event() or self.run_task():
                continue
            if not self._is_waiting() and not self.engine.is_busy():
                self.engine.journal.write()
                return
            if not self.wait():
                return
        states = {"/".join(key): str(track.state) for key, track in self.engine.tracks.items()}
        conditions = [one.condition for one in self.destinations.values()]
        raise AssertionError(f"not settled after {most} steps: {states}, {conditions}")

    def _is_waiting(self) -> bool:
        """A stream waits for a time that will come by itself, not for a person."""
        asking = {
            name
            for name, one in self.destinations.items()
            if one.condition not in (Condition.NEEDS_LOGIN, Condition.MISCONFIGURED)
        }
        tracks = [(key, track) for key, track in self.engine.tracks.items() if key.destination in asking]
        for key, track in tracks:
            there = self.destinations[key.destination]
            if track.status == OWED and (there.deletes or there.condition is not Condition.RUNNING):
                return True
        if self.engine.pausing.why:
            return False
        return any(track.state in UNSENT for _, track in tracks)


def _stream_of(task: Task) -> TrackKey | None:
    return None if isinstance(task, (ProbeTask, MetaTask, DeleteTask)) else task.key
