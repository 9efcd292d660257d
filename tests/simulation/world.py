"""A whole agent in virtual time: real scanner, engine, pusher, state store and files; a server behind a wire that the
seed may break. Nothing here waits: when nobody can act, the clock is put forward."""

import hashlib
import json
import random
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.core.delivery.lifecycle import UNSENT, State
from agent.core.redaction.redactor import Redactor
from agent.core.sessions.events import Happening
from agent.core.sessions.runs import Run, RunChange
from agent.delivery.base.world import Limits, World
from agent.delivery.discovery.scanner import Root, Scanner
from agent.delivery.engine.engine import Engine
from agent.delivery.privacy.permits import Guard, NoRules, Rulebook
from agent.delivery.push.comparing import compare
from agent.delivery.push.pusher import Pusher
from agent.delivery.push.reviewing import review
from agent.delivery.retention.holding import Holding
from agent.delivery.state.inputs import Observed, ScanEnded, Vanished
from agent.delivery.state.tasks import (
    CompareTask,
    DiskOutcome,
    DiskTask,
    Outcome,
    PushTask,
    RealignTask,
    RestoreTask,
    ReviewTask,
    Task,
    TrackKey,
)
from agent.delivery.state.tracks import DestinationState
from agent.providers import PROVIDERS
from agent.system.files import reading as real_files
from agent.system.files.keeping import KeptFiles
from agent.system.state.state_db import open_state
from tests.fakes import FakeClock
from tests.redactors import REDACTOR
from tests.simulation.wire import Server, Wire

DESTINATION = "there"


class SimulatedAgent:
    """`step` lets one of the things that could happen now happen; which one, chance decides."""

    def __init__(
        self,
        folder: Path,
        server: Server,
        seed: int = 0,
        *,
        protocol: str = "auto",
        compress: bool = False,
        limits: Limits | None = None,
        projects: tuple[str, ...] = (),
        beside: Mapping[str, Server] | None = None,
        rulebook: Rulebook | None = None,
        redactor: Redactor = REDACTOR,
        roots: Sequence[Root] = (),
        state_folder: Path | None = None,
        kept_bytes: int = 1 << 30,
    ) -> None:
        """`beside`: further destinations by name. `rulebook`: what is private. `redactor`: from the next `boot` on
        another one may stand there. `roots`: folders of coding agents beside that of Claude Code. `state_folder`: where
        files are retained, which may be another file system, with copies up to `kept_bytes`."""
        self._roots = roots
        self.redactor = redactor
        self.rulebook = rulebook or NoRules()
        self.rng = random.Random(seed)
        self.clock = FakeClock()
        self.trace: list[str] = []
        self.root = folder / "projects"
        (self.root / "p").mkdir(parents=True)
        self._state_path = folder / "state" / "state.db"
        self._protocol = protocol
        self._compress = compress
        self._limits = limits or Limits()
        self._projects = projects
        self.wire = Wire(server, self.rng, self.trace.append)
        self._servers: dict[str, Server] = {DESTINATION: self.wire, **(beside or {})}
        self.kept = KeptFiles((state_folder or folder / "state") / "kept")
        self._kept_bytes = kept_bytes
        self.in_flight: list[Task] = []
        self.told: list[Happening] = []
        """Over all lives."""
        self.runs: dict[str, Run] = {}
        """As the file of runs has them, which is written before anybody hears of one."""
        self.boot()

    def boot(self) -> None:
        """A new process over the same files and state; what the old one had not written is forgotten."""
        self.wire.told_deleted.clear()
        self.in_flight, self.disk_tasks = [], list[DiskTask]()
        self.holding = Holding(self.kept, self._kept_bytes)
        self.store = open_state(self._state_path, "damaged.db")
        world = World(self.clock.now_s, self.clock.monotonic_s, self.rng.random, self._new_uuid)
        self.destinations = {name: DestinationState(name, "http://127.0.0.1") for name in self._servers}
        self.destination = self.destinations[DESTINATION]
        self.destination.protocol, self.destination.compress = self._protocol, self._compress
        self.destination.projects = self._projects
        self.guard = Guard(self.rulebook, real_files)
        self.engine = Engine(
            list(self.destinations.values()),
            self.store,
            world,
            self._dispatch,
            self._limits,
            guard=self.guard,
            dispatch_disk=self.disk_tasks.append,
            found_held=self.holding.find(),
            tell=self.told.append,
            tell_run=self._note_run,
            found_runs=list(self.runs.values()),
        )
        self._pusher = Pusher(
            self._servers,
            PROVIDERS,
            self.clock.now_s,
            pause=self.clock.advance,
            guard=self.guard,
            redactor=self.redactor,
        )
        self.scanner = Scanner(
            [Root(PROVIDERS["claude"], str(self.root)), *self._roots],
            lambda seen, live: self.engine.handle(Observed(seen, live)),
            lambda paths: self.engine.handle(Vanished(paths)),
        )
        self.engine.start()
        self.scanner.expect(self.engine.followed())
        self.look()

    def crash(self) -> None:
        self.trace.append("crash")
        self.store.close()
        self.boot()

    def close(self) -> None:
        self.store.close()

    def _note_run(self, change: RunChange) -> None:
        self.runs[change.run.id] = change.run

    def _new_uuid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def _dispatch(self, task: Task) -> None:
        if isinstance(task, (PushTask, RealignTask, RestoreTask)):
            busy = [one.key for one in self.in_flight if isinstance(one, (PushTask, RealignTask, RestoreTask))]
            assert task.key not in busy, "two requests in flight for one stream"
        self.in_flight.append(task)

    # --- what may happen ----------------------------------------------------------------------------------------

    def look(self, *, live: bool = False) -> None:
        if live:
            for path in sorted(self.root.rglob("*.jsonl")):
                self.scanner.look(str(path))
        else:
            self.scanner.scan()
            self.engine.handle(ScanEnded())
        self.engine.tick()

    def run_one(self) -> bool:
        """One of the tasks in flight is done; False when there is none."""
        while self.disk_tasks:
            asked = self.disk_tasks.pop(0)
            self.engine.handle(self.do_disk_task(asked))
        if not self.in_flight:
            return False
        self.engine.handle(self.run_a_task())
        self.engine.tick()
        return True

    def do_disk_task(self, asked: DiskTask) -> DiskOutcome:
        match asked:
            case ReviewTask():
                return review(self.guard, real_files, asked)
            case CompareTask():
                return compare(real_files, asked)
            case _:
                return self.holding.do(asked)

    def run_a_task(self) -> Outcome:
        """The engine has not heard of it yet."""
        return self._pusher.run(self.in_flight.pop(self.rng.randrange(len(self.in_flight))))

    def wait(self) -> bool:
        """Time passes until the next timer; False when there is none."""
        deadline = self.engine.next_deadline_s()
        if deadline is None:
            return False
        self.clock.advance(max(0.0, deadline - self.clock.mono_s) + 0.001)
        self.engine.tick()
        return True

    def live_for(self, seconds: float) -> None:
        """Until then, and until no request is under way."""
        until = self.clock.mono_s + seconds
        while self.clock.mono_s < until or self.in_flight:
            if self.run_one():
                continue
            deadline = self.engine.next_deadline_s()
            if deadline is None or deadline > until or not self.wait():
                self.clock.advance(max(0.0, until - self.clock.mono_s))

    def settle(self, most: int = 2_000) -> None:
        """Everything that can still happen by itself, happens."""
        self.look()
        for _ in range(most):
            if self.run_one():
                continue
            if not self.is_waiting() and not self.engine.is_busy():
                self.engine.journal.write()
                return
            if not self.wait():
                return
        raise AssertionError(f"not settled after {most} steps: {self.states()}")

    def is_waiting(self) -> bool:
        """A stream waits for a time that will come by itself, not for a person."""
        if self.destination.condition in ("needs_login", "misconfigured"):
            return False
        if any(one.deletions and (one.deletes or one.condition != "running") for one in self.destinations.values()):
            return True
        if self.engine.pausing.why:
            return False
        return any(track.state in UNSENT for track in self.engine.tracks.values())

    def states(self) -> dict[str, str]:
        return {f"{key.session_id}/{key.subpath}": track.state for key, track in self.engine.tracks.items()}

    def state(self, session: str, subpath: str = "") -> State:
        return State(self.track(session, subpath).state)

    def track(self, session: str, subpath: str = "") -> Any:
        return self.engine.tracks[TrackKey(DESTINATION, session, subpath)]

    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    # --- files --------------------------------------------------------------------------------------------------

    def path(self, session: str, subpath: str = "") -> Path:
        if subpath:
            return self.root / "p" / session / f"{subpath}.jsonl"
        return self.root / "p" / f"{session}.jsonl"

    def append(self, session: str, data: bytes, subpath: str = "") -> None:
        path = self.path(session, subpath)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)

    def whole_lines(self, session: str, subpath: str = "") -> list[bytes]:
        return self.path(session, subpath).read_bytes().split(b"\n")[:-1]


def entry(rng: random.Random, **fields: Any) -> bytes:
    """One line with a uuid, as a coding agent writes it."""
    made = {"type": "user", "uuid": str(uuid.UUID(int=rng.getrandbits(128), version=4)), "cwd": "/home/dev/demo"}
    return json.dumps(made | {"message": {"content": "word " * rng.randrange(40)}} | fields).encode() + b"\n"


def any_lines(rng: random.Random, count: int) -> bytes:
    """Lines as they come: with and without uuid, repeated, empty, torn, not text at all."""
    lines: list[bytes] = []
    for _ in range(count):
        kinds: Sequence[bytes] = (
            entry(rng),
            entry(rng),
            entry(rng),
            b'{"type":"mode","mode":"plan"}\n',
            lines[-1] if lines else b"\n",
            b"\n",
            b'{"type":"user","uu\n',
            b"\x00" * rng.randrange(1, 40) + b"\n",
            b'{"a":"\xff\xfe \xe2\x80\xa8"}\n',
        )
        lines.append(rng.choice(kinds))
    return b"".join(lines)
