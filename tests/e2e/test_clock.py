"""Real agents whose clock is set, and that sleep or stand still, while their next try is an hour away."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.core.delivery.waking import LATE_S
from agent.daemon.process.ticks import LOOK_S
from tests.conftest import require_tool
from tests.e2e.processes import Receiver, agent, command, environment, last_json, read_until, receiver, write_config
from tests.e2e.relay import Mode, Relay
from tests.reliability import MakeTally
from tests.system.http_server import plain, sends, serving

BACK_WITHIN_S = 10.0

LIBRARIES = ("lib/*/faketime/libfaketime.so.1", "lib*/faketime/libfaketime.so.1")
"""Of Debian and of others. The program of that name is not asked: it fails where a killed one left its shared memory
behind under a number that has come round again."""

JUMPS = {
    "an hour forward, or slept": ("+1h", "slept for 3600 s"),
    "eight hours forward, or slept": ("+8h", "slept for 28800 s"),
    "an hour back": ("-1h", "set back by 3600 s"),
    "1970": ("@1970-01-02 00:00:00", "set back by"),
    "2100": ("@2100-01-01 00:00:00", "set forward by"),
}


class Clock:
    """The wall clock of programs that are started with `environment`; what measures time goes on as it does. A jump
    forward is what sleep looks like to a program on Linux and macOS."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")
        require_tool("faketime")
        library = next(one for where in LIBRARIES for one in Path("/usr").glob(where))
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, to: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{to}\n")
        new.replace(self._file)


class Home:
    """Where an agent lives, and what a coding agent writes for it."""

    def __init__(self, folder: Path, url: str, more: str = "") -> None:
        self.folder = folder / "home"
        self.projects = folder / "projects"
        self.projects.mkdir()
        write_config(self.folder, url, self.projects, more)

    def write(self, session: str) -> bytes:
        path = self.projects / "p" / f"{session}.jsonl"
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            file.write(b'{"uuid":"u"}\n')
        return path.read_bytes()

    def condition(self) -> str:
        return str(last_json(command(self.folder, "status", "--json"))["destinations"][0]["condition"])

    def wait_offline(self) -> None:
        deadline = time.monotonic() + 60
        while self.condition() != "offline":
            assert time.monotonic() < deadline


@contextmanager
def put_off_for_an_hour(folder: Path, more: str = "") -> Iterator[tuple[Home, Relay]]:
    """An agent's home whose server asks for patience until somebody turns the relay."""
    with serving(sends(plain("503 Service Unavailable", b"{}", "Retry-After: 3600"))) as busy:
        relay = Relay(busy.port)
        try:
            yield Home(folder, f"http://127.0.0.1:{relay.port}", more), relay
        finally:
            relay.close()


def seconds_until_stored(server: Receiver, session: str, wanted: bytes) -> float:
    began = time.monotonic()
    while True:
        try:
            if server.entries(session) == wanted:
                return time.monotonic() - began
        except OSError:
            pass  # 404 until the session is there: requests' errors are of this kind
        assert time.monotonic() - began < 60
        time.sleep(0.05)  # between two looks at a real server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver(tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.mark.parametrize("jump", JUMPS)
def test_within_ten_seconds_of_a_jump_of_the_clock_all_is_delivered(
    jump: str, tmp_path: Path, server: Receiver, tally: MakeTally
) -> None:
    to, words = JUMPS[jump]
    session = "jump" + "".join(filter(str.isalnum, jump))
    clock = Clock(tmp_path)
    with put_off_for_an_hour(tmp_path) as (home, relay), agent(home.folder, **clock.environment) as working:
        read_until(working, "transcriptd is running")
        written = home.write(session)
        home.wait_offline()
        relay.turn_to(urlsplit(server.url).port)
        clock.set(to)
        took_s = seconds_until_stored(server, session, written)
        read_until(working, words)
    tally("nothing is lost", f"the clock jumps: {jump}").note_lines(
        written.splitlines(), server.entries(session).splitlines()
    )
    assert took_s <= BACK_WITHIN_S


def test_what_happens_every_so_often_goes_on_when_the_clock_goes_back(tmp_path: Path, server: Receiver) -> None:
    """No change notice comes from a folder that is not there yet: only a pass finds it, and the pass that was to come
    next stands an hour ahead."""
    clock = Clock(tmp_path)
    home = Home(tmp_path, server.url, "[push]\ninterval_s = 1\n")
    home.projects.rmdir()
    with agent(home.folder, **clock.environment) as working:
        read_until(working, "transcriptd is running")
        for turn, to in enumerate(("-1h", "@1970-01-02 00:00:00", "@2100-01-01 00:00:00", "-2h")):
            clock.set(to)
            read_until(working, "the clock was set")
            home.projects.mkdir()
            written = home.write(f"later{turn}")
            assert seconds_until_stored(server, f"later{turn}", written) <= BACK_WITHIN_S
            (home.projects / "p" / f"later{turn}.jsonl").unlink()
            (home.projects / "p").rmdir()
            home.projects.rmdir()


def test_an_agent_starts_and_delivers_whatever_the_clock_says(tmp_path: Path, server: Receiver) -> None:
    clock = Clock(tmp_path)
    home = Home(tmp_path, server.url)
    for turn, to in enumerate(("@1970-01-02 00:00:00", "@2100-01-01 00:00:00", "+0")):
        clock.set(to)
        written = home.write(f"start{turn}")
        pushed = command(home.folder, "push", "--json", env=environment(home.folder, **clock.environment))
        assert pushed.returncode == 0, pushed.stderr
        assert server.entries(f"start{turn}") == written


def test_an_agent_that_was_stopped_leaves_what_hangs_and_delivers(
    tmp_path: Path, server: Receiver, tally: MakeTally
) -> None:
    """As a virtual machine that was paused, or Windows after sleep: both clocks went on, the connections did not."""
    port = urlsplit(server.url).port
    assert port is not None
    relay = Relay(port)
    relay.mode = Mode.HOLE
    home = Home(tmp_path, f"http://127.0.0.1:{relay.port}")
    try:
        with agent(home.folder) as working:
            read_until(working, "transcriptd is running")
            written = home.write("stopped")
            while not relay.connections:
                time.sleep(0.01)  # until the first request is on its way
            working.send_signal(signal.SIGSTOP)
            with pytest.raises(subprocess.TimeoutExpired):
                working.wait(timeout=LATE_S + LOOK_S + 3.0)
            relay.mode = Mode.PASS
            working.send_signal(signal.SIGCONT)
            took_s = seconds_until_stored(server, "stopped", written)
            read_until(working, "did not let us run for")
    finally:
        relay.close()
    tally("nothing is lost", "the process is stopped, its request hangs").note_lines(
        written.splitlines(), server.entries("stopped").splitlines()
    )
    assert took_s <= BACK_WITHIN_S
