"""The real daemon dies over and over, at named points and at random, while transcripts grow; so does the receiver at
times. At the end of each story a real receiver must hold exactly the files, and never may a cursor be ahead of it."""

import itertools
import random
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.core.transcripts.session import StreamId
from agent.system.state.state_db import open_state_readonly
from tests.faults.amounts import amount, linux
from tests.faults.crash_points import POINTS, Point, every_point, find_owner
from tests.faults.fork_server import Child, ForkServer
from tests.faults.stage import Stage, compare
from tests.reliability import MakeTally, Tally

AT_POINTS = 700
AT_RANDOM = 350
A_STORY = 7
"""Deaths of one home, before its last life must bring everything to the server."""

RARE = {
    "agent.delivery.state.facts.SessionFacts.note_told",
    "agent.delivery.push.pusher.meta_request",
    "agent.delivery.push.realigner.Realigner.realign",
    "agent.delivery.push.realigner.streams_request",
    "agent.delivery.push.realigner.generation_request",
    "agent.delivery.push.realigner.decide_generation_reply",
    "agent.system.files.reading.TranscriptFile.pieces",
}
"""Needs a rewritten file and a server that keeps generations; or a conflict that names no known head; or a life that is
quiet for long enough to tell the title of a session that it sent from its beginning; or a line longer than a
request."""

AT_ONCE = 3
PARTS = 4
"""So that no test is so long that it would seem to hang."""

pytestmark = linux


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stage]]:
    """A life is waiting for the most part, so several are lived at a time, each with a receiver of its own to kill."""
    folder = tmp_path_factory.mktemp("kill")
    with ExitStack() as stack:
        made = []
        for number in range(AT_ONCE):
            forks = stack.enter_context(ForkServer(folder / f"logs-{number}"))
            made.append(stack.enter_context(Stage(forks, folder / f"receiver-{number}")))
        yield made


class Deck:
    """Every point, shuffled, as often as needed. For any number of threads. `died`: how often where."""

    def __init__(self) -> None:
        self.died: Counter[str] = Counter()
        self._rng = random.Random(1)
        self._left: list[Point] = []
        self._lock = threading.Lock()

    def draw(self, count: int) -> list[Point]:
        with self._lock:
            while len(self._left) < count:
                points = every_point()
                self._rng.shuffle(points)
                self._left = points + self._left
            drawn, self._left = self._left[-count:], self._left[:-count]
            return drawn


@pytest.fixture(scope="module")
def deck() -> Iterator[Deck]:
    """A row that no life ever comes to tests nothing, and has to be seen."""
    deck = Deck()
    yield deck
    never = {name for name, _ in POINTS if name not in deck.died} - RARE
    assert deck.died.total() < AT_POINTS or not never, f"no life came to {sorted(never)}"


class Story:
    """One home, its transcripts, and its deaths."""

    def __init__(self, stage: Stage, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self._stage = stage
        self._folder = folder
        self._home = folder / "home"
        self._projects = folder / "projects"
        (self._projects / "p").mkdir(parents=True)
        self.base = self.rng.random() < 0.2
        self._lives = 0
        self._rewrites = not self.base and stage.capabilities().generations

    def begin_life(self, point: Point | None, rounds: int) -> Child:
        self._lives += 1
        return self._stage.forks.start(
            "tests.faults.jobs:live",
            home=str(self._home),
            url=self._stage.url,
            protocol="ingress" if self.base else "auto",
            projects=str(self._projects),
            name=f"s{self.seed}",
            seed=self.rng.getrandbits(32),
            point=point,
            rounds=rounds,
            flush_s=self.rng.choice((0.0, 0.02, 1.0)),
            rewrites=self._rewrites,
        )

    def die_at(self, point: Point) -> bool:
        """True when that killed it; a life that never came there ends well."""
        child = self.begin_life(point, rounds=3)
        if self.rng.random() < 0.1:
            self._stage.restart()
        status = self._stage.forks.wait(child)
        assert status in (0, -signal.SIGKILL), (self.seed, str(point), status, child.said())
        self._check(child, str(point))
        return status != 0

    def die_at_random(self) -> bool:
        child = self.begin_life(None, rounds=6)
        if self.rng.random() < 0.1:
            self._stage.restart()
        status = self._stage.forks.wait(child, kill_after_s=self.rng.uniform(0.0, 0.15))
        self._check(child, "at random")
        return status != 0

    def end_well(self, tally: Tally) -> None:
        """A last life that nobody ends, after which both sides are equal."""
        child = self.begin_life(None, rounds=0)
        status = self._stage.forks.wait(child)
        assert status == 0, (self.seed, status, child.said())
        self._check(child, "its last life")
        different = compare(self._stage, self._projects, tally, base=self.base, tried=0)
        assert not different, (self.seed, [str(one) for one in different])
        shutil.rmtree(self._folder)

    def _check(self, child: Child, where: str) -> None:
        assert "defect" not in child.said(), (self.seed, where, child.said())
        child.log.unlink(missing_ok=True)
        ahead = self._ahead()
        assert not ahead, (self.seed, where, ahead)

    def _ahead(self) -> list[tuple[StreamId, int, int]]:
        """Streams of which the state says that the server has more than it has."""
        state = open_state_readonly(self._home / "state" / "state.db")
        if state is None or self.base:
            return []
        try:
            believed = [(row.stream, row.cursor) for row in state.tracks() if row.cursor.entry_count]
        finally:
            state.close()
        ahead = []
        for stream, cursor in believed:
            held = self._stage.head(stream, cursor.generation).entry_count
            if held < cursor.entry_count:
                ahead.append((stream, cursor.entry_count, held))
        return ahead


def test_every_crash_point_is_still_there() -> None:
    for name, _ in POINTS:
        find_owner(name)


@pytest.mark.parametrize("part", range(PARTS))
def test_sigkill_at_named_points_loses_and_repeats_nothing(
    stages: list[Stage], deck: Deck, part: int, tmp_path: Path, tally: MakeTally
) -> None:
    kills = tally("nothing is lost, nothing is sent twice", "SIGKILL of the agent at a named crash point")

    def tell(stage: Stage, seed: int) -> None:
        story = Story(stage, tmp_path / str(seed), seed)
        for point in deck.draw(A_STORY):
            if story.die_at(point):
                deck.died[point.name] += 1
                kills.note()
        story.end_well(kills)

    wanted = amount(AT_POINTS // PARTS)
    tell_stories(stages, tell, first=1 + part * 1_000_000, enough=lambda: kills.tried >= wanted)


@pytest.mark.parametrize("part", range(2))
def test_sigkill_at_random_loses_and_repeats_nothing(
    stages: list[Stage], part: int, tmp_path: Path, tally: MakeTally
) -> None:
    kills = tally("nothing is lost, nothing is sent twice", "SIGKILL of the agent at random")

    def tell(stage: Stage, seed: int) -> None:
        story = Story(stage, tmp_path / str(seed), seed)
        for _ in range(A_STORY):
            if story.die_at_random():
                kills.note()
        story.end_well(kills)

    wanted = amount(AT_RANDOM // 2)
    tell_stories(stages, tell, first=10_000_001 + part * 1_000_000, enough=lambda: kills.tried >= wanted)


def tell_stories(
    stages: list[Stage], tell: Callable[[Stage, int], None], *, first: int, enough: Callable[[], bool]
) -> None:
    """One story after another at each stage, each with a seed of its own, until that is enough or one fails."""
    seeds = itertools.count(first)
    failed = threading.Event()

    def work(stage: Stage) -> None:
        try:
            while not enough() and not failed.is_set():
                tell(stage, next(seeds))
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(len(stages)) as pool:
        for done in [pool.submit(work, stage) for stage in stages]:
            done.result()
