"""One seed's story: an agent, its files, its state and a server in virtual time, and everything that happens to them.

The same seed gives the same story, step by step. Nothing here waits, and nothing is outside: no file, no thread.
"""

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agent.core.transcripts.session import StreamId
from agent.core.wire import BulkOffer, Request
from agent.delivery.base.world import Limits
from agent.delivery.engine.engine import QUIET_S
from agent.delivery.retention.holding import Keeping
from agent.delivery.state.inputs import Retry
from agent.delivery.state.pausing import HeldOff, ResumeAsked
from agent.delivery.state.tasks import LetGoTask, TrackKey
from tests.fakes import FakeClock, FakeRules
from tests.simulation import copies, links, operations, sidefiles, uploads
from tests.simulation.badfiles import BadFiles
from tests.simulation.checks import check_cursor, check_end, check_generation, check_leave, check_release
from tests.simulation.disk import FakeDisk
from tests.simulation.kept import FakeKept
from tests.simulation.process import DESTINATION, Machine, Process
from tests.simulation.server import Generation, ModelServer
from tests.simulation.sidefiles import SideFiles, check_file, check_side_files
from tests.simulation.store import Medium
from tests.simulation.there import SECOND, There, draw_at_second
from tests.simulation.transcripts import ROOT, Transcripts, Writer
from tests.simulation.uploads import SHELF, Shelf
from tests.simulation.wire import Crash, Wire

STEPS = 150
PASS_S = 30.0
SCAN_S = 300.0
AUDIT_S = 1200.0

PRIVATE_SHARE = 0.3
"""Of stories, those in which somebody has something to hide; and how often he changes his mind there."""
PRIVATE_STEPS = 0.06
SUDDEN_RULES = 0.02
"""How often the rules of a private story change between two steps of a look or a push."""


MOUNTED_SHARE = 0.4
"""Of stories in which transcripts and state are on two file systems."""

KEPT = os.sep + os.path.join("state", "kept")

COPIES_SHARE, COPIES_STEPS = 0.25, 0.15
"""The same of stories in which sessions have several files."""

SIDE_SHARE, SIDE_STEPS, SUDDEN_SIDE = 0.25, 0.15, 0.02
"""The same of stories of side files, and how often one changes between two steps of a look or a push."""

UPLOAD_SHARE, UPLOAD_STEPS = 0.12, 0.06
"""The same of stories with a server that only takes whole files."""

SECOND_SHARE, SECOND_STEPS = 0.15, 0.08
"""The same of stories with a second destination, and of what happens there."""

LINKS_SHARE, LINKS_STEPS = 0.15, 0.1
"""The same of stories with symbolic links."""

PAUSED_SHARE, PAUSED_STEPS = 0.2, 0.05
"""The same of stories in which somebody, or a network, wants the agent to rest."""


class Story:
    """What the seed decides at its beginning: which kind of server, how rough the way, and which of the operations
    happen in this story, and how often. A story in which everything happens at once finds less than many in which a
    few things do."""

    def __init__(
        self,
        seed: int,
        *,
        clock: FakeClock | None = None,
        disk: Any = None,
        root: str = ROOT,
        kept_root: str = KEPT,
        medium: Any = None,
        kept: Callable[[bool], Keeping] | None = None,
    ) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.trace: list[str] = []
        self.clock = clock or FakeClock()
        is_base = rng.random() < 0.2
        self.rewrites = rng.random() < (0.35 if not is_base else 0.1)
        """Whether files are anything but append-only."""
        # Drawn apart, so that the other stories stay what they were.
        self._fate = random.Random(~seed)
        self.is_private = self._fate.random() < PRIVATE_SHARE
        """Whether this is also a story of what is private."""
        # Apart from those too.
        self._rests = random.Random(f"rests {seed}")
        self.has_pauses = self._rests.random() < PAUSED_SHARE
        """Whether somebody pauses the agent now and then in this story."""
        self.copies = random.Random(f"copies {seed}")
        self.has_copies = self.copies.random() < COPIES_SHARE
        """Whether sessions have several files in this story, more often than by chance."""
        self.besides = random.Random(f"side files {seed}")
        self.has_side_files = self.besides.random() < SIDE_SHARE
        """Whether something stands beside the transcripts that travels as a whole."""
        self.rules = FakeRules()
        self.ever_private: set[str] = set()
        self.has_lost_state = False
        """Whether the state may say less than what was once written to it, and nobody can tell."""
        self.there = _make_there(self, DESTINATION, rng, is_base)
        """The destination that is spoken of."""
        self.destinations = {DESTINATION: self.there}
        # Apart from those too.
        self.second = random.Random(f"second {seed}")
        if self.second.random() < SECOND_SHARE:
            is_second_base = self.second.random() < 0.2
            self.destinations[SECOND] = _make_there(self, SECOND, self.second, is_second_base)
            is_base = is_base or is_second_base
        # Apart from those too.
        self.uploading = random.Random(f"uploads {seed}")
        self.shelf = Shelf(self, self.uploading) if self.uploading.random() < UPLOAD_SHARE else None
        """Takes whole files only."""
        # Apart from those too.
        self._holds = random.Random(f"holds {seed}")
        self.has_mounts = self._holds.random() < MOUNTED_SHARE
        """Whether transcripts and state are on two file systems, so that what is retained is a copy."""
        self.kept_bytes = self._holds.choice((1 << 30, 1 << 30, 3000, 500, 0)) if self.has_mounts else 1 << 30
        self.disk = disk or FakeDisk(self.clock.now_s, mounted=kept_root if self.has_mounts else "")
        self.disk.tick_ns = rng.choice((1, 1, 4_000_000, 2_000_000_000))
        self.files = BadFiles(self.disk, rng, self.between)
        self.hints: list[str] = []
        self.transcripts = Transcripts(self.disk, rng, self.hints.append, root)
        self.sides = SideFiles(self.disk, self.hints.append, root)
        self.root = root
        self.linking = random.Random(f"links {seed}")
        self.has_links = self.linking.random() < LINKS_SHARE
        self.links: dict[str, str] = {}
        """Path → where it leads."""
        if self.has_links:
            links.prepare(self)
            self.files.fence = links.outside(root)
        self.writer = Writer(rng, unique=is_base, long=rng.random() < 0.3)
        self.medium = medium or Medium()
        fake_kept = FakeKept(self.disk, kept_root, self.between, lambda: self.medium.is_full)
        self.kept: Keeping = kept(self.has_mounts) if kept else fake_kept
        self._haste = rng.choice((0.0, 0.02, 0.1))
        self._depth = 0
        self._table = operations.draw_table(self)
        self.audits = rng.random() < 0.5
        """Whether everything is looked at slowly again and again."""
        limits = Limits(workers=rng.choice((1, 2, 8)), audit_interval_s=AUDIT_S if self.audits else 0.0)
        self._machine = Machine(
            self.files,
            {name: one.wire for name, one in self.destinations.items()} | ({SHELF: self.shelf} if self.shelf else {}),
            root,
            self.clock,
            rng,
            limits,
            rng.random() < 0.1,
            self.rules,
            self._check_cursor,
            self.kept,
            self.kept_bytes,
            self._check_release,
            self.shelf,
        )
        self._next_pass_s = self._next_scan_s = 0.0
        self.boot()

    def log(self, what: str) -> None:
        self.trace.append(what)

    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    # --- from beginning to end --------------------------------------------------------------------------------

    def run(self) -> None:
        for _ in range(STEPS):
            self.step()
        self.end_trouble()
        check_end(self)
        for there in self.destinations.values():
            with self.at(there):
                check_side_files(self)
        if self.has_links:
            links.check_links(self)
        self.process.store.close()

    def step(self) -> None:
        operation = self._table.draw(self.rng)
        if self.is_private and self._fate.random() < PRIVATE_STEPS:
            operation = operations.draw_private(self._fate)
        if self.has_copies and self.copies.random() < COPIES_STEPS:
            operation = copies.draw(self.copies)
        if self.has_pauses and self._rests.random() < PAUSED_STEPS:
            operation = operations.draw_pause(self._rests)
        if self.has_side_files and self.besides.random() < SIDE_STEPS:
            operation = sidefiles.draw(self.besides)
        if self.has_links and self.linking.random() < LINKS_STEPS:
            operation = links.draw(self.linking)
        if self.shelf and self.uploading.random() < UPLOAD_STEPS:
            operation = uploads.draw(self.uploading)
        there = self.there
        if len(self.destinations) > 1 and self.second.random() < SECOND_STEPS:
            operation, there = draw_at_second(self, self.second), self.destinations[SECOND]
        try:
            self.log(operation.name if there is self.there else f"{there.name}: {operation.name}")
            with self.at(there):
                operation.act(self)
            self._keep_time()
        except Crash:
            self.boot()

    def end_trouble(self) -> None:
        """Everything that was broken works again. What somebody has to say `retry` after, gets it."""
        self.log("the trouble is over")
        self._haste = 0.0
        for there in self.destinations.values():
            there.end_trouble()
        if self.shelf:
            self.shelf.end_trouble()
        self.files.faults.clear()
        self.files.out_of_descriptors = False
        self.medium.is_full = False
        self.rules.blind = ""
        if self.has_pauses:
            self.process.inbox.extend((HeldOff(""), ResumeAsked()))
        if any(there.may_hold_another for there in self.destinations.values()):
            for path, (place, _) in list(self.transcripts.files.items()):
                # That a server holds something else comes out when it is spoken to, with a line of its own.
                self.transcripts.append(path, place, b"\n" + self.writer.entry(place.stream.session_id))
        if any(there.wire.stopped or there.server.has_lost for there in self.destinations.values()) or self.shelf:
            self.process.inbox.append(Retry())
        self.process.settle()
        self._let_quiet_pass()

    def _let_quiet_pass(self) -> None:
        """Last lines without a newline are taken as whole by and by, and the slow audit comes around."""
        needs_audit = self.audits and bool(self.transcripts.unseen)
        for _ in range(10 if needs_audit else 3):
            self.process.pass_time(AUDIT_S / 4 if needs_audit else QUIET_S + 1)
            self.process.settle()

    def boot(self) -> None:
        """A new process over the same files and state; what the old one had not written is forgotten."""
        for there in self.destinations.values():
            there.wire.told_deleted.clear()
        for _ in range(9):
            try:
                self.process = Process(self._machine, self.medium.open())
                self.process.start()
            except Crash:
                continue
            break
        self._next_pass_s, self._next_scan_s = self.clock.mono_s + PASS_S, self.clock.mono_s + SCAN_S
        self.log(f"start {self.process.store.note}")

    def _keep_time(self) -> None:
        """The daemon's ticks."""
        if self.clock.mono_s >= self._next_pass_s:
            self._next_pass_s = self.clock.mono_s + PASS_S
            self.process.scanner.look_again()
        if self.clock.mono_s >= self._next_scan_s:
            self._next_scan_s = self.clock.mono_s + SCAN_S
            self.process.scan()
        self.process.look_at_rules()

    @property
    def is_sudden(self) -> bool:
        """Whether this happens in the middle of a look or a push."""
        return self._depth > 0

    def between(self) -> None:
        """Somewhere in the middle of a look or a push: the rules may change, the world may go on, or end."""
        if self.is_private and not self._depth and self._haste and self._fate.random() < SUDDEN_RULES:
            operation = operations.draw_rules_change(self._fate)
            self.log(f"meanwhile: {operation.name}")
            operation.act(self)
        if self.has_side_files and not self._depth and self._haste and self.besides.random() < SUDDEN_SIDE:
            operation = sidefiles.draw(self.besides, sudden=True)
            self.log(f"meanwhile: {operation.name}")
            operation.act(self)
        if self._depth or not self._haste or self.rng.random() >= self._haste:
            return
        self._depth += 1
        try:
            operation = self._table.draw_sudden(self.rng)
            self.log(f"meanwhile: {operation.name}")
            operation.act(self)
        finally:
            self._depth -= 1

    # --- what must hold meanwhile -----------------------------------------------------------------------------

    def _check_cursor(self, key: TrackKey) -> None:
        if key.destination != SHELF:
            with self.at(self.destinations[key.destination]):
                check_cursor(self, key)

    def _check_release(self, task: LetGoTask) -> None:
        for there in self.destinations.values():
            with self.at(there):
                check_release(self, task)

    # --- where it is at ---------------------------------------------------------------------------------------

    @contextmanager
    def at(self, there: There) -> Iterator[None]:
        """What is done and asked meanwhile concerns this destination."""
        before, self.there = self.there, there
        try:
            yield
        finally:
            self.there = before

    @property
    def server(self) -> ModelServer:
        return self.there.server

    @property
    def wire(self) -> Wire:
        return self.there.wire


def _make_there(story: Story, name: str, rng: random.Random, is_base: bool) -> There:
    server = _make_server(rng, is_base)
    server.files = story.has_side_files
    told = story.log if name == DESTINATION else lambda what: story.log(f"{name}: {what}")

    def leaves(request: Request) -> None:
        with story.at(there):
            check_leave(story, request)

    def changed(stream: StreamId, generation: Generation) -> None:
        with story.at(there):
            check_generation(story, stream, generation)

    def took_file(stream: StreamId, data: bytes) -> None:
        with story.at(there):
            check_file(story, stream, data)

    wire = Wire(server, rng, told, story.between, leaves)
    there = There(name, server, wire, [server.copy()])
    server.refuse, server.changed, server.took_file = there.refuse, changed, took_file
    wire.trouble = rng.choice((0.0, 0.0, 0.1, 0.3, 0.6))
    wire.harsh = rng.random() < 0.15
    return there


def _make_server(rng: random.Random, is_base: bool) -> ModelServer:
    offer = BulkOffer(rng.choice((8 << 20, 8 << 20, 2000, 300)), rng.choice((10_000, 10_000, 3, 1)), ("zstd", "gzip"))
    server = ModelServer(
        bulk=offer,
        max_entry_bytes=rng.choice((1 << 20, 1 << 20, 1 << 20, 1000)),
    )
    if is_base:
        server.bulk = None
        server.tells_head = rng.random() < 0.7
    return server


def run_seed(seed: int) -> Story:
    """The story of a seed, from beginning to end. Raises AssertionError, or whatever a defect raises."""
    story = Story(seed)
    story.run()
    return story
