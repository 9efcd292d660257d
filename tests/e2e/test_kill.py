"""A real agent killed over and over while transcripts grow; a real receiver must end up with exactly the files."""

import random
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.e2e.processes import (
    agent,
    command,
    end,
    last_json,
    read_until,
    receiver,
    write_config,
)
from tests.simulation.world import any_lines

KILLS = 100
SESSIONS = 12
LONGEST_WORK_S = 0.2
EARLY = 0.2
"""Share of deaths that come while the agent still starts."""


class Writer(threading.Thread):
    """Appends to sessions as coding agents do: whole lines mostly, torn ones at times, until told to stop."""

    def __init__(self, projects: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._rng = random.Random(seed)
        self._projects = projects
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(self._rng.uniform(0.0, 0.01)):
            self._write_some()
        for number in range(SESSIONS):
            with self._path(number).open("ab") as file:
                file.write(b'{"type":"the end"}\n')

    def _write_some(self) -> None:
        data = any_lines(self._rng, self._rng.randrange(1, 4))
        with self._path(self._rng.randrange(SESSIONS)).open("ab") as file:
            file.write(data if self._rng.random() < 0.9 else data[: len(data) // 2])

    def _path(self, number: int) -> Path:
        return self._projects / "p" / f"session-{number}.jsonl"


def test_sigkill_a_hundred_times_loses_and_repeats_nothing(tmp_path: Path) -> None:
    projects, home = tmp_path / "projects", tmp_path / "home"
    (projects / "p").mkdir(parents=True)
    chance = random.Random(20)
    writer = Writer(projects, seed=21)
    with receiver(tmp_path / "data") as server:
        write_config(home, server.url, projects)
        writer.start()
        for _ in range(KILLS):
            with agent(home) as victim:
                if chance.random() > EARLY:
                    read_until(victim, "transcriptd is running")
                with pytest.raises(subprocess.TimeoutExpired):
                    victim.wait(timeout=chance.uniform(0.0, LONGEST_WORK_S))
                end(victim, signal.SIGKILL)
        writer.stop.set()
        writer.join()
        answer = command(home, "push", "--json")
        assert answer.returncode == 0, answer.stderr
        assert last_json(answer)["counts"]["states"] == {"synced": SESSIONS}
        for path in sorted(projects.rglob("*.jsonl")):
            assert server.entries(path.stem) == path.read_bytes(), path.stem
        verified = command(home, "sessions", "verify", "--json")
        assert verified.returncode == 0
        assert last_json(verified)["equal"] is True


def test_sigterm_ends_a_working_agent_cleanly(tmp_path: Path) -> None:
    projects, home = tmp_path / "projects", tmp_path / "home"
    (projects / "p").mkdir(parents=True)
    with receiver(tmp_path / "data") as server:
        write_config(home, server.url, projects)
        with agent(home) as working:
            read_until(working, "transcriptd is running")
            (projects / "p" / "s.jsonl").write_bytes(b'{"uuid":"u"}\n')
            pushed = command(home, "push", "--json")
            assert pushed.returncode == 0, pushed.stderr
            assert server.entries("s") == b'{"uuid":"u"}\n'
            assert end(working) == 0
        later = last_json(command(home, "status", "--json"))
        assert later["running"] is False
        assert later["counts"]["entries"] == 1
