"""A real daemon beside a real receiver, while somebody lays hands on its state."""

import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.system.paths import default_paths
from agent.system.state.state_db import SCHEMA_VERSION
from tests.e2e.processes import (
    Receiver,
    agent,
    command,
    end,
    environment,
    last_json,
    read_until,
    receiver,
    write_config,
)
from tests.reliability import MakeTally
from tests.simulation.world import any_lines
from tests.system.privileges import needs_posix

SESSIONS = 5
WAIT_S = 60.0


class Machine:
    """A home with transcripts, and the server that should hold them."""

    def __init__(self, folder: Path, server: Receiver) -> None:
        self.projects, self.home, self.server = folder / "projects", folder / "home", server
        (self.projects / "p").mkdir(parents=True)
        write_config(self.home, server.url, self.projects)
        self.database = default_paths(environment(self.home)).database
        self._chance = random.Random(8)

    def write(self) -> None:
        for number in range(SESSIONS):
            with (self.projects / "p" / f"s{number}.jsonl").open("ab") as file:
                file.write(any_lines(self._chance, 5))

    @contextmanager
    def running(self) -> Iterator[None]:
        with agent(self.home) as process:
            read_until(process, "transcriptd is running")
            yield
            end(process)

    def status(self) -> dict[str, Any]:
        return last_json(command(self.home, "status", "--json"))

    def wait_for(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Until the status is as it should be; a status costs a fraction of a second, so this does not spin."""
        deadline = time.monotonic() + WAIT_S
        while not holds(found := self.status()):
            assert time.monotonic() < deadline, found
        return found

    def wait_until_delivered(self) -> dict[str, Any]:
        total = sum(path.stat().st_size for path in self.projects.rglob("*.jsonl"))
        return self.wait_for(lambda found: found["running"] and found["counts"]["sent_bytes"] == total)

    def check(self, tally: MakeTally, fault: str) -> None:
        counted = tally("nothing is lost, nothing is sent twice", f"state of a running daemon: {fault}")
        for path in sorted(self.projects.rglob("*.jsonl")):
            expected, stored = path.read_bytes(), self.server.entries(path.stem)
            counted.note_lines(expected.splitlines(), stored.splitlines())
            assert stored == expected
        verified = command(self.home, "sessions", "verify", "--json")
        assert last_json(verified)["equal"] is True


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with receiver(tmp_path / "data") as server:
        yield Machine(tmp_path, server)


def copy_of(database: Path, to: Path) -> Path:
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return to


def test_an_older_state_put_back_costs_questions_and_no_line(
    machine: Machine, tmp_path: Path, tally: MakeTally
) -> None:
    machine.write()
    with machine.running():
        machine.wait_until_delivered()
    older = copy_of(machine.database, tmp_path / "older.db")
    for _ in range(2):
        machine.write()
        with machine.running():
            machine.wait_until_delivered()
    shutil.rmtree(machine.database.parent)
    machine.database.parent.mkdir(mode=0o700)
    shutil.copy(older, machine.database)
    with machine.running():
        assert machine.wait_until_delivered()["problems"] == []
        machine.write()
        machine.wait_until_delivered()
        machine.check(tally, "an older copy put back")


def test_a_state_of_a_newer_version_is_told_and_kept(machine: Machine, tally: MakeTally) -> None:
    machine.write()
    with machine.running():
        machine.wait_until_delivered()
    with closing(sqlite3.connect(machine.database, isolation_level=None)) as db:
        db.execute(f"pragma user_version = {SCHEMA_VERSION + 1}")
    before = machine.database.read_bytes()
    machine.write()
    with machine.running():
        ((what, hint),) = machine.wait_until_delivered()["problems"]
        assert f"schema version {SCHEMA_VERSION + 1}, this transcriptd knows up to {SCHEMA_VERSION}" in what
        assert hint == "upgrade transcriptd again"
        machine.check(tally, "of a newer version")
    assert machine.database.with_name(f"state.version-{SCHEMA_VERSION + 1}.db").read_bytes() == before


@needs_posix
def test_a_state_that_is_removed_while_the_daemon_runs_is_there_again(machine: Machine, tally: MakeTally) -> None:
    machine.write()
    with machine.running():
        machine.wait_until_delivered()
        for part in machine.database.parent.glob("state.db*"):
            part.unlink()
        machine.write()
        machine.wait_for(lambda _: machine.database.exists())
        machine.wait_until_delivered()
        machine.check(tally, "removed")
    assert machine.status()["counts"]["states"] == {"synced": SESSIONS}, "also what did not change since"


@needs_posix
def test_a_state_that_could_not_be_written_is_written_when_it_can_be(machine: Machine, tally: MakeTally) -> None:
    machine.write()
    machine.database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    other = sqlite3.connect(machine.database, isolation_level=None)
    other.execute("begin exclusive")
    with closing(other), machine.running():
        ((what, hint),) = machine.wait_until_delivered()["problems"]
        assert "kept in memory only" in what
        assert "written" in hint
        other.execute("rollback")
        machine.wait_for(lambda found: not found["problems"])
        machine.check(tally, "in memory until its place could be written")
    assert machine.status()["counts"]["states"] == {"synced": SESSIONS}
