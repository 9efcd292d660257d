"""The agent under a service manager, as far as a socket of the test's own can play one."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import UsageError
from agent.system.control_socket import ControlClient
from agent.system.paths import paths_below
from tests.e2e.processes import (
    PROGRAM,
    READY_S,
    agent,
    command,
    end,
    environment,
    last_json,
    read_until,
    receiver,
    write_config,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs Unix sockets and signals")

NOBODY = "http://127.0.0.1:9"

STUCK = """
import threading
from agent.delivery.push import pusher
from agent.daemon.process import workers
from agent.delivery.state.tasks import PushTask
workers.PUSH_S = 0.5
run = pusher.Pusher.run
def stuck(self, task):
    if isinstance(task, PushTask):
        threading.Event().wait()
    return run(self, task)
pusher.Pusher.run = stuck
from agent.cli.main import main
main()
"""
"""An agent of which a worker never comes back from what it was given."""


class Manager:
    """What a service manager hears, datagram by datagram."""

    def __init__(self, heard: socket.socket, address: str) -> None:
        self._heard = heard
        self.environment = {"NOTIFY_SOCKET": address}

    def hear(self) -> list[str]:
        return self._heard.recv(1 << 16).decode().splitlines()

    def forget(self) -> None:
        """What was said so far."""
        self._heard.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.hear()
        self._heard.settimeout(READY_S)

    def hear_until(self, wanted: Callable[[list[str]], bool]) -> list[str]:
        while not wanted(words := self.hear()):
            pass
        return words


@contextmanager
def manager() -> Iterator[Manager]:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"{folder}/notify")
        heard.settimeout(READY_S)
        yield Manager(heard, f"{folder}/notify")


def says(word: str) -> Callable[[list[str]], bool]:
    return lambda words: word in words


def test_ready_reload_watchdog_and_stop_are_told(tmp_path: Path) -> None:
    home, projects = tmp_path / "h", tmp_path / "projects"
    projects.mkdir()
    write_config(home, NOBODY, projects)
    with manager() as heard, agent(home, **heard.environment, WATCHDOG_USEC="300000") as process:
        words = heard.hear_until(says("READY=1"))
        with ControlClient(paths_below(home).socket) as client:
            assert client.call("agent.hello")["protocol"] == 1
        assert [word for word in words if word.startswith("STATUS=")] == [words[-1]]
        heard.hear_until(says("WATCHDOG=1"))
        process.send_signal(signal.SIGHUP)
        words = heard.hear_until(says("RELOADING=1"))
        assert words[1].startswith("MONOTONIC_USEC=")
        heard.hear_until(says("READY=1"))
        with ControlClient(paths_below(home).socket) as client:
            assert client.call("agent.status")["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
        heard.hear_until(says("STOPPING=1"))
        assert end(process) == 0


def test_a_stuck_worker_is_named_and_the_watchdog_not_fed(tmp_path: Path) -> None:
    home, projects = tmp_path / "h", tmp_path / "projects"
    (projects / "p").mkdir(parents=True)
    (projects / "p" / "s.jsonl").write_bytes(b'{"uuid":"one"}\n')
    with receiver(tmp_path / "data") as server, manager() as heard:
        write_config(home, server.url, projects)
        process = subprocess.Popen(
            [sys.executable, "-c", STUCK, "run"],
            env=environment(home, **heard.environment, WATCHDOG_USEC="300000", WATCHDOG_PID=""),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            timer = threading.Timer(READY_S, process.kill)
            timer.start()
            line = next(line for line in process.stderr if "no sign" in line)
            timer.cancel()
            assert "thread pusher default" in line
            assert "test" not in line
            heard.forget()
            for _ in range(3):
                words = heard.hear()
                assert "WATCHDOG=1" not in words
                assert words[0].startswith("STATUS=")
        finally:
            end(process, signal.SIGKILL)


def problems(home: Path) -> list[tuple[str, str]]:
    with ControlClient(paths_below(home).socket) as client:
        return [tuple(one) for one in client.call("agent.status")["problems"]]


def test_new_settings_are_taken_up_and_bad_ones_are_not(tmp_path: Path) -> None:
    home, projects = tmp_path / "h", tmp_path / "projects"
    (projects / "p").mkdir(parents=True)
    (projects / "p" / "s.jsonl").write_bytes(b'{"uuid":"one"}\n')
    write_config(home, NOBODY, projects)
    with receiver(tmp_path / "data") as server, manager() as heard, agent(home, **heard.environment) as process:
        heard.hear_until(says("READY=1"))
        (home / "config.toml").write_text("[push]\nworkers = 99\n", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        heard.hear_until(says("RELOADING=1"))
        heard.hear_until(says("READY=1"))
        (problem, hint), *_ = problems(home)
        assert problem.startswith("the settings are as before: push.workers in ")
        assert hint == "transcriptd config path"
        with ControlClient(paths_below(home).socket) as client:
            with pytest.raises(UsageError, match="expected from 1 to 8"):
                client.call("agent.reload")
            write_config(home, server.url, projects)
            client.call("agent.reload")
            assert client.call("agent.status")["destinations"][0]["url"] == server.url
        assert not [what for what, _ in problems(home) if "settings" in what]
        pushed = command(home, "push", "--json")
        assert pushed.returncode == 0, pushed.stderr
        assert server.entries("s") == b'{"uuid":"one"}\n'
        process.send_signal(signal.SIGTERM)
        assert end(process) == 0


def test_login_gives_the_running_agent_another_server_and_nothing_is_lost(tmp_path: Path) -> None:
    home, projects = tmp_path / "h", tmp_path / "projects"
    (projects / "p").mkdir(parents=True)
    path = projects / "p" / "s.jsonl"
    with receiver(tmp_path / "data") as first, receiver(tmp_path / "data2") as second:
        write_config(home, first.url, projects)
        with agent(home) as process:
            read_until(process, "transcriptd is running")
            listener = subprocess.Popen(
                [*PROGRAM, "events", "-f", "--json"], env=environment(home), stdout=subprocess.PIPE, text=True
            )
            for number in range(4):
                with path.open("ab") as file:
                    file.write(b'{"uuid":"%d"}\n' % number)
                if number == 0:
                    with (home / "config.toml").open("a") as file_of_settings:
                        file_of_settings.write("[push]\nworkers = 2\n")
                if number == 2:
                    login = command(home, "login", second.url, "--name", "second", "--environment")
                    assert login.returncode == 0, login.stderr
                    assert "the running agent goes on with it" in login.stdout
                else:
                    process.send_signal(signal.SIGHUP)
            pushed = command(home, "push", "--json")
            assert pushed.returncode == 0, pushed.stderr
            assert [one["name"] for one in last_json(pushed)["destinations"]] == ["default", "second"]
            # Who listens stays through new settings.
            read_until(listener, f'"bytes": {path.stat().st_size}')
            end(listener)
            for server in (first, second):
                assert server.entries("s") == path.read_bytes()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_a_crash_is_told_at_the_next_start_and_blocks_nothing(tmp_path: Path) -> None:
    home, projects = tmp_path / "h", tmp_path / "projects"
    projects.mkdir()
    write_config(home, NOBODY, projects)
    with agent(home) as first:
        read_until(first, "transcriptd is running")
        again = command(home, "run")
        assert again.returncode == 75
        assert f"another transcriptd (process {first.pid}) is at work" in again.stderr
    assert paths_below(home).socket.exists(), "what a crash leaves behind"
    (home / "state" / "daemon.pid").write_text(f"{os.getpid()}\n", encoding="ascii")  # given to somebody else since
    with agent(home) as second:
        read_until(second, "the last run ended without being told to; such ends within the last hour: 1")
        read_until(second, "transcriptd is running")
        assert ("transcriptd ended unexpectedly once within the last hour", "transcriptd logs") in problems(home)
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
    with agent(home) as third:
        read_until(third, "transcriptd is running")
        with ControlClient(paths_below(home).socket) as client:
            assert client.call("agent.status")["restarts"] == 1, "a stop is no crash"
        third.send_signal(signal.SIGTERM)
        assert third.wait(30) == 0


@pytest.mark.parametrize("text", ["", "[push]\nworkers = 0\n", '[[destination]]\nurl = "nonsense"\n', "]"])
def test_bad_settings_end_with_78_and_the_log_file_says_why(tmp_path: Path, text: str) -> None:
    home = tmp_path / "h"
    home.mkdir()
    (home / "config.toml").write_text(text, encoding="utf-8")
    with (tmp_path / "err").open("w+", encoding="utf-8") as err:
        done = subprocess.run([*PROGRAM, "run"], env=environment(home), stderr=err, timeout=60, check=False)
        assert done.returncode == 78
    assert "config.toml" in (home / "logs" / "transcriptd.log").read_text(encoding="utf-8")
    assert not paths_below(home).lives.exists()


def test_a_paused_agent_sends_nothing_until_it_is_resumed_also_after_a_crash(tmp_path: Path) -> None:
    home, projects = tmp_path / "h", tmp_path / "projects"
    (projects / "p").mkdir(parents=True)
    with receiver(tmp_path / "data") as server:
        write_config(home, server.url, projects)
        with agent(home) as first:
            read_until(first, "transcriptd is running")
            paused = last_json(command(home, "pause", "--for", "1h", "--json"))
            assert (paused["paused"], paused["running"]) == ("by you", True)
        (projects / "p" / "s.jsonl").write_bytes(b'{"uuid":"one"}\n')
        with agent(home) as second:
            read_until(second, "transcriptd is running")
            pushed = command(home, "push")
            assert pushed.returncode == 75
            assert "transcriptd: paused until" in pushed.stderr
            assert "try: transcriptd resume" in pushed.stderr
            with ControlClient(paths_below(home).socket) as client:
                seen = client.call("agent.status")
                assert (seen["paused"], seen["paused_until_s"]) == ("by you", pytest.approx(paused["paused_until_s"]))
                for bad in (0, -1, 1e12, "1h", True):
                    with pytest.raises(UsageError, match="for_s"):
                        client.call("agent.pause", for_s=bad)
            assert command(home, "resume").stdout == "transcriptd is not paused\n"
            pushed = command(home, "push")
            assert pushed.returncode == 0, pushed.stderr
            assert server.entries("s") == b'{"uuid":"one"}\n'
