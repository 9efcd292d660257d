"""Transcripts and state on two file systems, as in a dev container with mounted folders: what is retained is a copy."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.delivery.lifecycle import State
from agent.core.status import Status
from agent.core.transcripts.session import StreamId
from agent.core.wire import Request, parse_streams, streams_request
from agent.daemon.status.report import Surroundings, report
from agent.delivery.retention.keeper import SWEEP_S
from agent.delivery.state.inputs import Retry
from agent.delivery.state.tasks import KeepTask, NotHeld, PushTask
from tests.daemon.test_generations import contents, generations
from tests.fakes import AsgiServer, FakeRules, ScriptedServer, no_answer
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]
STREAM = StreamId("s", "")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another device than the transcripts."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system to write to")
    folder = Path(tempfile.mkdtemp(prefix="td-", dir=shared))
    yield folder
    shutil.rmtree(folder)


class Line:
    def __init__(self, receiver: AsgiServer) -> None:
        self.away = True
        self.receiver = receiver
        self.server = ScriptedServer(receiver, lambda _: no_answer() if self.away else None)


@pytest.fixture
def line(receiver: AsgiServer) -> Line:
    return Line(receiver)


def rest(agent: SimulatedAgent) -> None:
    agent.look()
    agent.live_for(2 * SWEEP_S + 1)


def come_back(agent: SimulatedAgent, line: Line) -> None:
    line.away = False
    agent.engine.handle(Retry())
    agent.settle()
    agent.live_for(2 * SWEEP_S)


def streams_of(server: AsgiServer, session: str) -> list[list[bytes]]:
    """What each stream of a session holds, in all its generations."""
    rows = parse_streams(server.send(streams_request(session))) or []
    subpaths = sorted({row.subpath for row in rows})
    return [[content for _, content in generations(server, session, one)] for one in subpaths]


def copied(agent: SimulatedAgent) -> list[int]:
    return sorted(one.size for one in agent.kept.list_kept())


def look(agent: SimulatedAgent) -> Status:
    return report(agent.engine, Surroundings(1, 0.0, (), (), 0, ()))


def problems(agent: SimulatedAgent) -> list[str]:
    return [what for what, _ in look(agent).problems]


def forget_state(agent: SimulatedAgent) -> None:
    agent.store.close()
    for part in (agent.root.parent / "state").glob("state.db*"):
        part.unlink()
    agent.boot()


@pytest.mark.parametrize("again", [SimulatedAgent.crash, forget_state], ids=["a crash", "a lost state"])
def test_a_copy_grows_with_its_original_after_a_restart_too(
    make_agent: Make, lines: Lines, line: Line, elsewhere: Path, again: Callable[[Any], None]
) -> None:
    agent = make_agent(line.server, state_folder=elsewhere)
    agent.append("s", lines(3))
    rest(agent)
    assert copied(agent) == [agent.path("s").stat().st_size]
    again(agent)
    agent.append("s", lines(4))
    content = agent.path("s").read_bytes()
    rest(agent)
    assert copied(agent) == [len(content)]
    assert agent.track("s").path == str(agent.path("s")), "the original stands for itself"
    agent.path("s").unlink()
    agent.look()
    again(agent)
    come_back(agent, line)
    assert contents(line.receiver, "s") == [content]
    assert agent.state("s") is State.GONE
    assert copied(agent) == []


def test_another_file_of_the_same_number_and_size_waits_for_the_one_before_it(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line, elsewhere: Path
) -> None:
    """Begun anew: a number is free as soon as its file is gone, so only what is in it tells."""
    agent = make_agent(line.server, state_folder=elsewhere)
    older = lines(3)
    newer = older[::-1].replace(b"\n", b"") + b"\n"
    newer += b"x" * (len(older) - len(newer) - 1) + b"\n"
    agent.append("s", older)
    rest(agent)
    agent.path("s").unlink()
    agent.append("s", newer)
    assert agent.path("s").stat().st_size == len(older)
    agent.look()
    line.away = False
    agent.engine.handle(Retry())
    agent.settle()
    assert contents(receiver, "s") == [older, newer]


def test_a_copy_above_half_of_the_limit_is_made_longer_as_long_as_there_is_room(
    make_agent: Make, lines: Lines, line: Line, elsewhere: Path
) -> None:
    first, second, third = lines(6), lines(2), lines(9)
    limit = len(first) + len(second) + 1
    agent = make_agent(line.server, state_folder=elsewhere, kept_bytes=limit)
    agent.append("s", first)
    rest(agent)
    agent.append("s", second)
    rest(agent)
    assert copied(agent) == [len(first) + len(second)]
    assert not [what for what in problems(agent) if "retained" in what]
    agent.append("s", third)
    rest(agent)
    assert copied(agent) == [len(first) + len(second)]
    assert [what for what in problems(agent) if "can't be retained" in what and f"{len(third)} bytes more" in what]
    assert not agent.engine.keeper.is_safe(STREAM)


def test_many_copies_that_are_asked_for_at_once_stay_within_the_limit(
    make_agent: Make, lines: Lines, line: Line, elsewhere: Path
) -> None:
    agent = make_agent(line.server, state_folder=elsewhere, kept_bytes=5_000)
    for number in range(40):
        agent.append(f"s{number}", lines(2))
    rest(agent)
    sizes = copied(agent)
    assert len(sizes) >= 2
    assert sum(sizes) <= 5_000


def test_what_is_not_there_any_more_is_not_counted(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line, elsewhere: Path
) -> None:
    """Somebody empties our folder while a copy stands for its file."""
    agent = make_agent(line.server, state_folder=elsewhere, kept_bytes=3_000)
    agent.append("s", lines(4))
    rest(agent)
    agent.path("s").unlink()
    agent.look()
    shutil.rmtree(elsewhere / "kept")
    come_back(agent, line)
    assert agent.state("s") is State.GONE
    assert [what for what in problems(agent) if "bytes are lost" in what]
    line.away = True
    agent.append("t", lines(6))
    rest(agent)
    assert copied(agent) == [agent.path("t").stat().st_size]


def test_lines_that_were_lost_are_said_after_a_restart_too(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line, elsewhere: Path
) -> None:
    first, second = lines(4), lines(8)
    agent = make_agent(line.server, state_folder=elsewhere, kept_bytes=len(first) + 1)
    agent.append("s", first)
    rest(agent)
    agent.append("s", second)
    rest(agent)
    agent.path("s").unlink()
    agent.look()
    agent.live_for(2)
    agent.crash()
    come_back(agent, line)
    assert contents(receiver, "s") == [first]
    for _ in range(2):
        words = f"1 file went away before all of it was sent: {len(second):,} bytes are lost"
        assert words in problems(agent)
        assert not look(agent).synced
        track = agent.track("s")
        assert track.size - track.cursor.offset == len(second)
        agent.crash()
    assert [(row.kind, row.detail) for row in agent.store.audit() if row.kind == "lost"] == [
        ("lost", f"{len(second)} bytes")
    ]


# --- found by stories of `tests/simulation` ---------------------------------------------------------------------------


def test_what_was_held_of_a_private_session_is_known_to_be_there_after_a_damaged_state(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    rules = FakeRules()
    agent = make_agent(line.server, rulebook=rules)
    line.away = False
    agent.append("s", lines(3))
    agent.settle()
    line.away = True
    agent.append("s", lines(2))
    rest(agent)
    assert len(copied(agent)) == 1
    rules.sessions.add("s")
    agent.store.close()
    (agent.root.parent / "state" / "state.db").write_bytes(b"no database" * 1000)
    agent.boot()
    line.away = False
    agent.engine.handle(Retry())
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    assert receiver.send(Request("GET", "/v1/session_ingress/session/s/entries")).status in (404, 410)


def test_what_was_held_of_a_second_file_is_sent_when_that_goes_away_as_the_first_did(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    """It was to be compared; when the other file was gone, it took that one's place, and was gone as well."""
    agent = make_agent(line.server)
    first, more = lines(2), lines(3)
    agent.append("s", first)
    agent.look()
    other = agent.root / "q" / "s.jsonl"
    other.parent.mkdir()
    other.write_bytes(first + more)
    agent.scanner.scan()
    agent.clock.advance(SWEEP_S + 1)
    agent.engine.tick()
    held = [one for one in agent.disk_tasks if isinstance(one, KeepTask) and one.path == str(other)]
    for one in held:
        agent.engine.handle(agent.do_disk_task(one))
    assert held
    agent.path("s").unlink()
    other.unlink()
    agent.look()
    come_back(agent, line)
    assert first + more in contents(receiver, "s")


def test_a_second_file_is_compared_again_when_the_first_was_rewritten_before_it_was_sent(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    agent = make_agent(line.server)
    older, newer = lines(2), lines(6)
    agent.append("s", older)
    other = agent.root / "q" / "s.jsonl"
    other.parent.mkdir()
    other.write_bytes(older)
    rest(agent)
    with agent.path("s").open("r+b") as file:
        file.write(newer)
    come_back(agent, line)
    held = [content for one in streams_of(receiver, "s") for content in one]
    assert newer in held
    assert older in held


def test_what_was_held_of_a_second_file_and_the_one_in_its_place_are_both_sent_after_a_damaged_state(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    """Both would be the same stream; the one that came second took the place of the first."""
    agent = make_agent(line.server)
    second, in_its_place = lines(3), lines(6)
    agent.append("s", lines(9))
    agent.look()
    other = agent.root / "a" / "s.jsonl"  # found before the first one after a start
    other.parent.mkdir()
    other.write_bytes(second)
    rest(agent)
    other.unlink()
    agent.store.close()
    (agent.root.parent / "state" / "state.db").write_bytes(b"no database" * 1000)
    other.write_bytes(in_its_place)
    agent.boot()
    come_back(agent, line)
    held = [content for one in streams_of(receiver, "s") for content in one]
    assert second in held
    assert in_its_place in held


def write(agent: SimulatedAgent, folder: str, content: bytes) -> None:
    """A new file of the session, whatever stood there."""
    path = agent.root / folder / "s.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    rest(agent)


@pytest.mark.parametrize("is_there", [True, False], ids=["it stays", "it goes away"])
def test_what_came_after_the_file_that_is_held_of_a_second_one_is_sent_if_it_is_still_there(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line, is_there: bool
) -> None:
    agent = make_agent(line.server)
    held, newer = lines(3), lines(4)
    agent.append("s", lines(9))
    rest(agent)
    write(agent, "q", held)
    write(agent, "q", newer)
    if not is_there:
        (agent.root / "q" / "s.jsonl").unlink()
        agent.look()
    come_back(agent, line)
    found = [content for one in streams_of(receiver, "s") for content in one]
    assert held in found
    assert (newer in found) == is_there


def test_each_of_several_files_that_came_after_the_one_that_is_held_is_sent(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    agent = make_agent(line.server)
    held, more, *newer = lines(3), lines(1), lines(4), lines(5)
    write(agent, "p", held)
    write(agent, "p", newer[0])
    write(agent, "q", held + more)
    write(agent, "q", newer[1])
    come_back(agent, line)
    found = [content for one in streams_of(receiver, "s") for content in one]
    assert [one in found for one in (held + more, *newer)] == [True] * 3


class Files:
    """Several files of one session, each of which may take another's place, while the server is away. `owed`: all that
    was ever retained."""

    FOLDERS = ("p", "q", "r")

    def __init__(self, agent: SimulatedAgent, lines: Lines, seed: int) -> None:
        self.agent = agent
        self._lines = lines
        self._rng = random.Random(seed)
        self.owed: set[bytes] = set()

    def step(self) -> None:
        path = self.agent.root / self._rng.choice(self.FOLDERS) / "s.jsonl"
        path.parent.mkdir(exist_ok=True)
        chance = self._rng.random()
        if chance < 0.5:
            begins_as = self._rng.choice([b"", *self._contents()])
            path.unlink(missing_ok=True)
            path.write_bytes(begins_as + self._lines(self._rng.randrange(1, 4)))
        elif chance < 0.65:
            with path.open("ab") as file:
                file.write(self._lines(1))
        elif chance < 0.8:
            path.unlink(missing_ok=True)
        elif chance < 0.9:
            self.agent.crash()
        self._rng.choice((self._look, self._sweep, self._do_disk_tasks, self._rest))()
        for held in self.agent.engine.keeper.held.values():
            self.owed.update(Path(held.path).read_bytes().splitlines(keepends=True))

    def _look(self) -> None:
        self.agent.look(live=self._rng.random() < 0.5)

    def _sweep(self) -> None:
        """While nothing else happens."""
        self.agent.clock.advance(SWEEP_S + 1)
        self.agent.engine.tick()

    def _do_disk_tasks(self) -> None:
        for _ in range(self._rng.randrange(len(self.agent.disk_tasks) + 1)):
            self.agent.engine.handle(self.agent.do_disk_task(self.agent.disk_tasks.pop(0)))

    def _rest(self) -> None:
        rest(self.agent)

    def _contents(self) -> list[bytes]:
        return [one.read_bytes() for one in sorted(self.agent.root.glob("*/s.jsonl"))]


@pytest.fixture(params=["links", "copies"])
def either(request: pytest.FixtureRequest, make_agent: Make, line: Line) -> Callable[[int], SimulatedAgent]:
    """An agent of a seed, whose state is beside the transcripts, or on another device."""
    folder = request.getfixturevalue("elsewhere") if request.param == "copies" else None
    return lambda seed: make_agent(line.server, seed=seed, state_folder=folder)


@pytest.mark.parametrize("seed", [*range(10), 332, 338, 387, 613, 1070, 1126, 3409, 3436, 3728, 3828])
def test_what_is_retained_of_any_file_of_a_session_arrives_whatever_takes_its_place(
    either: Callable[[int], SimulatedAgent], lines: Lines, receiver: AsgiServer, line: Line, seed: int
) -> None:
    agent = either(seed)
    files = Files(agent, lines, seed)
    for _ in range(20):
        files.step()
    come_back(agent, line)
    there = {one for held in streams_of(receiver, "s") for content in held for one in content.splitlines(keepends=True)}
    assert files.owed <= there, f"{len(files.owed - there)} of {len(files.owed)} lines are lost"
    agent.live_for(3 * SWEEP_S)
    assert not copied(agent), "what is sent is let go"


def test_a_file_that_moved_while_it_was_sent_is_followed_at_its_new_place(
    either: Callable[[int], SimulatedAgent], lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    """What is held of it does not take its place, since that ends where the file was seen last."""
    agent = either(0)
    agent.append("s", lines(2))
    agent.look()
    rest(agent)
    line.away = False
    agent.engine.handle(Retry())
    while not [one for one in agent.in_flight if isinstance(one, PushTask)]:
        assert agent.run_one()
    moved = agent.root / "q" / "s.jsonl"
    moved.parent.mkdir()
    agent.path("s").rename(moved)
    with moved.open("ab") as file:
        file.write(lines(2))
    agent.look()
    come_back(agent, line)
    assert agent.track("s").path == str(moved)
    assert [one for one in contents(receiver, "s") if one == moved.read_bytes()]
    assert problems(agent) == []


def test_a_file_that_is_sent_does_not_give_its_place_to_what_is_held_of_an_earlier_one(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    """That it differs from what is held may be heard late: it was sent meanwhile."""
    agent = make_agent(line.server)
    agent.append("s", lines(2))
    rest(agent)
    line.away = False
    agent.engine.handle(Retry())
    agent.settle()
    content = agent.path("s").read_bytes()
    agent.path("s").unlink()
    agent.path("s").write_bytes(content)
    agent.settle()
    assert STREAM in agent.engine.keeper.held, "until the next look"
    agent.engine.handle(NotHeld(STREAM, "", str(agent.path("s"))))
    agent.append("s", lines(1))
    agent.settle()
    assert agent.track("s").path == str(agent.path("s"))
    assert contents(receiver, "s") == [agent.path("s").read_bytes()]
