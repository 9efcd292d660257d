"""The real daemon dies over and over, at named points and at random, while transcripts grow; so does the receiver at
times. At the end of each story a real receiver must hold exactly the files, and never may a cursor be ahead of it."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.session import StreamId
from agent.system.state_db import open_state_readonly
from tests.faults.amounts import amount, linux
from tests.faults.crash_points import POINTS, Point, every_point, find_owner
from tests.faults.fork_server import Child, ForkServer
from tests.faults.stage import Stage, compare
from tests.reliability import MakeTally

AT_POINTS = 700
AT_RANDOM = 350
A_STORY = 7
"""Deaths of one home, before its last life must bring everything to the server."""

LIVES_A_DEATH = 3
"""Not each life reaches the point it was to die at; so many are tried."""

pytestmark = linux


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("kill")
    with ForkServer(folder / "logs") as forks, Stage(forks, folder / "receiver") as stage:
        yield stage


class Story:
    """One home, its transcripts, and its deaths."""

    def __init__(self, stage: Stage, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self._stage = stage
        self._home = folder / "home"
        self.projects = folder / "projects"
        (self.projects / "p").mkdir(parents=True)
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
            projects=str(self.projects),
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

    def end_well(self) -> None:
        child = self.begin_life(None, rounds=0)
        status = self._stage.forks.wait(child)
        assert status == 0, (self.seed, status, child.said())
        self._check(child, "its last life")

    def _check(self, child: Child, where: str) -> None:
        assert "defect" not in child.said(), (self.seed, where, child.said())
        child.log.unlink()
        ahead = self._ahead()
        assert not ahead, (self.seed, where, ahead)

    def _ahead(self) -> list[tuple[StreamId, int, int]]:
        """Streams of which the state says that the server has more than it has."""
        state = open_state_readonly(self._home / "state" / "state.db")
        if state is None or self.base:
            return []
        try:
            counts = {row.stream: row.cursor.entry_count for row in state.tracks() if row.cursor.entry_count}
        finally:
            state.close()
        heads = self._stage.heads(list(counts))
        return [(one, count, heads[one].entry_count) for one, count in counts.items() if heads[one].entry_count < count]


def test_every_crash_point_is_still_there() -> None:
    for name, _ in POINTS:
        find_owner(name)


def test_sigkill_at_named_points_loses_and_repeats_nothing(stage: Stage, tmp_path: Path, tally: MakeTally) -> None:
    kills = tally("nothing is lost, nothing is sent twice", "SIGKILL of the agent at a named crash point")
    rng = random.Random(1)
    wanted = amount(AT_POINTS)
    points: list[Point] = []
    died: dict[str, int] = {}
    story_number = 0
    while sum(died.values()) < wanted:
        story_number += 1
        story = Story(stage, tmp_path / str(story_number), story_number)
        for _ in range(A_STORY):
            if not points:
                points = every_point()
                rng.shuffle(points)
            point = points.pop()
            if story.die_at(point):
                died[point.name] = died.get(point.name, 0) + 1
                kills.note()
        story.end_well()
        different = compare(stage, story.projects, kills, base=story.base)
        assert not different, (story.seed, [str(one) for one in different])


def test_sigkill_at_random_loses_and_repeats_nothing(stage: Stage, tmp_path: Path, tally: MakeTally) -> None:
    kills = tally("nothing is lost, nothing is sent twice", "SIGKILL of the agent at random")
    wanted, died, story_number = amount(AT_RANDOM), 0, 1_000_000
    while died < wanted:
        story_number += 1
        story = Story(stage, tmp_path / str(story_number), story_number)
        for _ in range(A_STORY):
            if story.die_at_random():
                died += 1
                kills.note()
        story.end_well()
        different = compare(stage, story.projects, kills, base=story.base)
        assert not different, (story.seed, [str(one) for one in different])
