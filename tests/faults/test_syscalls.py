"""The k-th system call of a real pass fails, once or from then on, for every k.

`transcriptd push` runs over real files, a real state and a real receiver in another process, and strace lets one call
fail as a full disk, a broken one, a read-only one or a dead network would. Whatever fails: the command ends, says the
truth by its exit status, and a pass without faults brings everything to the server, once.
"""

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import require_tool
from tests.e2e.processes import write_config
from tests.faults.amounts import SCALE, linux
from tests.faults.fork_server import ForkServer
from tests.faults.stage import Difference, Stage, compare
from tests.faults.tracer import Fault, Trace, run_traced, wait
from tests.reliability import MakeTally, Tally

pytestmark = linux

AT_ONCE = 3
"""Runs at the same time; most of each is waiting."""

FULL, QUOTA, BROKEN, READ_ONLY, TOO_MANY = (f"error={name}" for name in ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE"))
DENIED, SHORT, KILLED = "error=EACCES", "retval=0", "signal=KILL"
"""SHORT once only: no system writes nothing for ever without an error, and Python would try for ever."""

DISK_CALLS: Mapping[str, tuple[str, ...]] = {
    "openat": (TOO_MANY, FULL, QUOTA, BROKEN, READ_ONLY, DENIED),
    "read": (BROKEN, SHORT),
    "pread64": (BROKEN, SHORT),
    "write": (FULL, QUOTA, BROKEN, READ_ONLY, SHORT, KILLED),
    "pwrite64": (FULL, QUOTA, BROKEN, READ_ONLY, SHORT, KILLED),
    "fsync": (BROKEN, FULL, QUOTA, KILLED),
    "fdatasync": (BROKEN, FULL, QUOTA, KILLED),
    "ftruncate": (FULL, BROKEN, READ_ONLY, KILLED),
    "rename": (FULL, QUOTA, BROKEN, READ_ONLY, KILLED),
    "link": (FULL, QUOTA, BROKEN, READ_ONLY, KILLED),
    "linkat": (FULL, QUOTA, BROKEN, READ_ONLY, KILLED),
    "unlink": (BROKEN, READ_ONLY, KILLED),
    "mkdir": (FULL, READ_ONLY, BROKEN),
    "getdents64": (BROKEN, DENIED),
    "newfstatat": (BROKEN, DENIED),
    "flock": ("error=ENOLCK", BROKEN),
    "mmap": ("error=ENOMEM",),
}
WIRE_CALLS: Mapping[str, tuple[str, ...]] = {
    "socket": (TOO_MANY, "error=ENFILE", "error=ENOBUFS"),
    "connect": ("error=ECONNREFUSED", "error=ENETUNREACH", "error=ETIMEDOUT", "error=EACCES"),
    # Not EPIPE or ECONNRESET: whoever is told that of a connection that lives waits for its answer, rightly.
    "sendto": ("error=ENOBUFS", "error=ETIMEDOUT", "error=ENETDOWN", KILLED),
    "recvfrom": ("error=ECONNRESET", "error=ETIMEDOUT", SHORT, KILLED),
    "bind": ("error=EADDRINUSE", "error=EACCES"),
    "listen": ("error=EADDRINUSE",),
    "accept4": (TOO_MANY, "error=ECONNABORTED"),
    "clone3": ("error=EAGAIN",),
}

MOST_OF_ALL = "newfstatat"
"""Half of all calls, which change nothing: that one fails and all after it is tried at every fourth."""

HONEST = {0: "done", 1: "this machine refused", 69: "server away", 75: "something waits", -9: "killed"}
"""Exit statuses that a pass may end with here."""


class Room(NamedTuple):
    """What one thread of this test works with: its own children, and a home that lives through all its faults."""

    forks: ForkServer
    folder: Path


class Laboratory:
    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self._folder = folder
        self._rooms: list[Room] = []
        self._mine = threading.local()
        self._lock = threading.Lock()

    def room(self) -> Room:
        if not hasattr(self._mine, "room"):
            with self._lock:
                folder = self._folder / f"room-{len(self._rooms)}"
                self._mine.room = Room(ForkServer(folder / "logs"), folder)
                self._rooms.append(self._mine.room)
        room: Room = self._mine.room
        return room

    def close(self) -> None:
        for room in self._rooms:
            room.forks.__exit__()


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    require_tool("strace")
    folder = tmp_path_factory.mktemp("syscalls")
    with ForkServer(folder / "logs") as forks, Stage(forks, folder / "receiver") as stage:
        laboratory = Laboratory(stage, folder)
        try:
            yield laboratory
        finally:
            laboratory.close()


class Home:
    """One installation. File names are its own, since all share a server."""

    def __init__(self, stage: Stage, folder: Path, name: str) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.projects = folder / "projects"
        self._name = name
        self._lines = 0
        (self.projects / "p").mkdir(parents=True)
        write_config(self.home, stage.url, self.projects, "[push]\nworkers = 1\n")

    def grow(self) -> None:
        for letter in "ab":
            self._lines += 1
            with (self.projects / "p" / f"{self._name}{letter}.jsonl").open("ab") as file:
                file.write(json.dumps({"uuid": f"{self._name}-{self._lines}", "cwd": "/d", "x": "y" * 300}).encode())
                file.write(b"\n" + json.dumps({"type": "mode"}).encode() + b"\n")

    def paths(self) -> list[Path]:
        """What faults are confined to: Python's own files are not what is tested."""
        state = [self.home / "state" / name for name in STATE_FILES]
        return [self.home / "state", *state, self.projects, self.projects / "p", *(self.projects / "p").iterdir()]


STATE_FILES = (
    "state.db",
    "state.db-wal",
    "state.db-shm",
    "state.db-journal",
    "daemon.lock",
    "daemon.pid",
    "control.sock",
)


def push(room: Room, home: Home, calls: Sequence[str], fault: Fault | None, *, by_path: bool) -> Trace:
    child = room.forks.start("tests.faults.jobs:command", hold=True, home=str(home.home), arguments=["push", "--json"])
    return run_traced(room.forks, child, calls, home.paths() if by_path else (), fault)


def push_freely(room: Room, home: Home, *, file_limit_bytes: int | None = None) -> Trace:
    """A pass that strace does not disturb."""
    child = room.forks.start(
        "tests.faults.jobs:command",
        home=str(home.home),
        arguments=["push", "--json"],
        file_limit_bytes=file_limit_bytes,
    )
    trace = Trace(wait(room.forks, child), "", child.said())
    child.log.unlink()
    return trace


def find_lies(stage: Stage, home: Home, trace: Trace) -> list[str]:
    """What a pass said that was not so."""
    lies = []
    if trace.status not in HONEST or "Traceback" in trace.said or "defect" in trace.said:
        lies.append(f"ended with {trace.status}: {trace.said[-700:]}")
    elif trace.status == 0 and differences(stage, home):
        lies.append(f"said that all is sent: {trace.said[-700:]}")
    elif trace.status > 0 and not trace.said.strip():
        lies.append(f"ended with {trace.status} and said nothing")
    return lies


def differences(stage: Stage, home: Home) -> list[Difference]:
    return compare(stage, home.projects, Tally("", "", ""))


def try_fault(laboratory: Laboratory, home: Home, fault: Fault, calls: Sequence[str], by_path: bool) -> list[str]:
    """One pass with the fault, one without; what was wrong."""
    room, stage = laboratory.room(), laboratory.stage
    home.grow()
    wrong = find_lies(stage, home, push(room, home, calls, fault, by_path=by_path))
    after = push_freely(room, home)
    if after.status != 0:
        wrong.append(f"did not recover, {after.status}: {after.said[-700:]}")
    wrong += [f"differs: {one}" for one in differences(stage, home)]
    return [f"{fault}: {one}" for one in wrong]


def list_faults(calls: Mapping[str, tuple[str, ...]], counts: Mapping[str, int]) -> list[Fault]:
    """Every k of every call, once and from then on. Where CI's time does not do for every error at each of them, they
    take turns."""
    faults = []
    for call, errors in calls.items():
        for k in range(1, counts.get(call, 0) + 1):
            for sticky in (False,) if call == MOST_OF_ALL and k % 4 and SCALE < 5 else (False, True):
                turn = k + sticky * (len(errors) // 2)
                chosen = errors if SCALE >= 5 else (errors[turn % len(errors)],)
                faults += [Fault(call, k, how, sticky) for how in chosen if not (sticky and how == SHORT)]
    return faults


def attack(
    laboratory: Laboratory,
    calls: Mapping[str, tuple[str, ...]],
    make_home: Callable[[int], Home],
    *,
    by_path: bool,
    tally: Tally,
) -> None:
    """Counts a pass's calls first, then lets each of them fail. `make_home(n)`: the home of try n."""
    counted = make_home(0)
    counted.grow()
    trace = push(laboratory.room(), counted, list(calls), None, by_path=by_path)
    assert trace.status == 0, trace.said
    faults = list_faults(calls, trace.most_calls())
    assert faults

    def one(number: int) -> list[str]:
        home = make_home(number)
        wrong = try_fault(laboratory, home, faults[number - 1], list(calls), by_path)
        compare(laboratory.stage, home.projects, tally)
        return wrong

    with ThreadPoolExecutor(AT_ONCE) as pool:
        wrong = [line for lines in pool.map(one, range(1, len(faults) + 1)) for line in lines]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(faults)} tries", *wrong])


def test_any_disk_call_of_a_first_pass_may_fail(laboratory: Laboratory, tally: MakeTally, tmp_path: Path) -> None:
    attack(
        laboratory,
        DISK_CALLS,
        lambda number: Home(laboratory.stage, tmp_path / str(number), f"d{number}"),
        by_path=True,
        tally=tally("nothing is lost, nothing is sent twice", "the k-th disk call of a first pass fails"),
    )


def test_any_disk_call_of_a_later_pass_may_fail(laboratory: Laboratory, tally: MakeTally, tmp_path: Path) -> None:
    homes = threading.local()

    def make_home(number: int) -> Home:
        """One that has lived: each thread keeps its own, and lets it grow old."""
        if not hasattr(homes, "one"):
            homes.one = Home(laboratory.stage, tmp_path / str(number), f"l{number}")
            homes.one.grow()
            assert push_freely(laboratory.room(), homes.one).status == 0
        home: Home = homes.one
        return home

    attack(
        laboratory,
        DISK_CALLS,
        make_home,
        by_path=True,
        tally=tally("nothing is lost, nothing is sent twice", "the k-th disk call of a later pass fails"),
    )


def test_any_network_or_thread_call_may_fail(laboratory: Laboratory, tally: MakeTally, tmp_path: Path) -> None:
    attack(
        laboratory,
        WIRE_CALLS,
        lambda number: Home(laboratory.stage, tmp_path / str(number), f"n{number}"),
        by_path=False,
        tally=tally("nothing is lost, nothing is sent twice", "the k-th network or thread call of a pass fails"),
    )


def test_short_writes(laboratory: Laboratory, tally: MakeTally, tmp_path: Path) -> None:
    """A limit on the size of files cuts a real write short and refuses the next one, as a disk that fills up."""
    notes = tally("nothing is lost, nothing is sent twice", "a write is cut short, and the next one fails")
    room = laboratory.room()
    for number, limit in enumerate(range(2_500, 45_000, 1_777)):
        home = Home(laboratory.stage, tmp_path / str(number), f"w{number}")
        home.grow()
        wrong = find_lies(laboratory.stage, home, push_freely(room, home, file_limit_bytes=limit))
        home.grow()
        assert push_freely(room, home).status == 0, limit
        assert not wrong, (limit, wrong)
        assert not compare(laboratory.stage, home.projects, notes), limit
        shutil.rmtree(home.folder)
