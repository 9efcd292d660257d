"""More files at once than the system tells of, and a system that tells of nothing: none is missed, memory is bounded,
and `status` says how it is.

The daemon is the real one, with real notices; in the burst its server is away, since what is tested is that it sees.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from agent.errors import NotRunning
from agent.system.control_socket import ControlClient
from agent.system.paths import paths_below
from tests.conftest import require_tool
from tests.e2e.processes import write_config
from tests.faults.amounts import amount, linux
from tests.faults.burst import run_burst
from tests.faults.fork_server import ForkServer
from tests.faults.stage import Stage, compare
from tests.faults.tracer import Fault, attached
from tests.reliability import MakeTally, Tally

FILES = 300_000
MOST_KIB = 700 << 10
"""300,000 transcripts that all wait for a server, with everything that is known of each."""

pytestmark = linux


def test_three_hundred_thousand_files_at_once(tmp_path: Path, tally: MakeTally) -> None:
    """How soon is measured by `tests.bench burst`."""
    notes = tally("nothing is lost", "files created in a burst")
    files = amount(FILES)
    burst = run_burst(tmp_path, files)
    notes.note(files, lost=files - burst.known)
    assert burst.known == files
    assert burst.peak_kib < MOST_KIB


# --- a system that tells of nothing, or takes nothing more ------------------------------------------------------------

NO_WATCHES = Fault("inotify_add_watch", 1, "error=ENOSPC", sticky=True)
NO_INSTANCES = Fault("?inotify_init,?inotify_init1", 1, "error=EMFILE", sticky=True)


class Running:
    """`transcriptd run` in a child under strace, beside a receiver."""

    def __init__(self, stage: Stage, folder: Path, calls: Sequence[str], paths: Sequence[str], fault: Fault) -> None:
        self.stage = stage
        self.home, self.projects = folder / "home", folder / "projects"
        self._names = itertools.count()
        (self.projects / "p").mkdir(parents=True)
        write_config(self.home, stage.url, self.projects, "poll_interval_s = 0.5\n[push]\ninterval_s = 1\n")
        self._child = stage.forks.start("tests.faults.jobs:command", hold=True, home=str(self.home), arguments=["run"])
        state = self.home / "state"
        self._fault = attached(self._child, calls, [state / one for one in paths], fault, folder / "strace")

    def __enter__(self) -> Self:
        self._fault.__enter__()
        self.stage.forks.release(self._child)
        return self

    def end_fault(self) -> None:
        self._fault.__exit__()

    def __exit__(self, *_exc: object) -> None:
        self._fault.__exit__()
        self.stage.forks.kill(self._child)

    def write(self) -> None:
        number = next(self._names)
        (self.projects / "p" / f"f{number}.jsonl").write_bytes(b'{"uuid":"%d"}\n' % number)

    def status(self) -> dict[str, Any]:
        """What the daemon answers; empty while it does not."""
        try:
            with ControlClient(paths_below(self.home).socket, timeout_s=5.0) as client:
                found: dict[str, Any] = client.call("agent.status")
                return found
        except NotRunning:
            return {}

    def says(self, words: str) -> bool:
        return any(words in what for what, _ in self.status().get("problems", ()))

    def has_delivered(self) -> bool:
        return not compare(self.stage, self.projects, Tally("", "", ""))


def until(condition: Callable[[], object], what: str) -> None:
    deadline, never = time.monotonic() + 120, threading.Event()  # a machine may be busy
    while not condition():
        assert time.monotonic() < deadline, what
        never.wait(0.05)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_tool("strace")
    with ForkServer(tmp_path / "logs") as forks, Stage(forks, tmp_path / "receiver") as stage:
        yield stage


@pytest.mark.parametrize("fault", [NO_WATCHES, NO_INSTANCES], ids=["watches", "instances"])
def test_without_notices_the_folders_are_polled_and_status_says_so(
    stage: Stage, tmp_path: Path, tally: MakeTally, fault: Fault
) -> None:
    with Running(
        stage, tmp_path / "agent", ["inotify_add_watch", "inotify_init", "inotify_init1"], [], fault
    ) as running:
        until(lambda: running.status().get("polling"), "status does not say that it polls")
        assert running.status()["watching"] == []
        assert running.says("the system gives no change notices")
        for _ in range(10):
            running.write()
        until(running.has_delivered, "what is polled does not arrive")
        running.end_fault()
        until(lambda: running.status().get("watching"), "it polls still")
        assert not running.says("change notices")
        running.write()
        until(running.has_delivered, "what is watched does not arrive")
        notes = tally("nothing is lost", "inotify watches or instances exhausted")
        assert not compare(stage, running.projects, notes, tried=11)


def test_a_full_disk_does_not_stop_delivery_and_status_says_so(stage: Stage, tmp_path: Path, tally: MakeTally) -> None:
    """Full from the moment on at which the state was made."""
    full = Fault("pwrite64", 50, "error=ENOSPC", sticky=True)
    state = ["state.db", "state.db-wal", "state.db-shm"]
    with Running(stage, tmp_path / "agent", ["pwrite64"], state, full) as running:
        until(running.status, "it does not start")

        def is_told_of_one_more() -> bool:
            running.write()
            until(running.has_delivered, "delivery stopped")
            return running.says("kept in memory")

        until(is_told_of_one_more, "status does not say so")  # how many that takes depends on how often it writes
        running.write()
        until(running.has_delivered, "delivery stopped")
        running.end_fault()
        until(lambda: not running.says("kept in memory"), "it does not notice that the disk has room again")
        notes = tally("nothing is lost, nothing is sent twice", "a disk that is full while the agent runs")
        assert not compare(stage, running.projects, notes)


@pytest.mark.parametrize("how", ["error=EMFILE", "error=ECONNABORTED", "error=ENOMEM"])
def test_commands_are_answered_after_some_could_not_be(stage: Stage, tmp_path: Path, how: str) -> None:
    with Running(stage, tmp_path / "agent", ["accept4"], [], Fault("accept4", 1, how, sticky=True)) as running:
        until(paths_below(running.home).socket.exists, "it does not start")
        assert running.status() == {}
        running.end_fault()
        until(running.status, "the daemon is deaf for ever")
