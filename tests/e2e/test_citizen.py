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

from agent.system.control_socket import ControlClient
from agent.system.paths import paths_below
from tests.e2e.processes import READY_S, agent, end, environment, receiver, write_config

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs Unix sockets and signals")

NOBODY = "http://127.0.0.1:9"

STUCK = """
import threading
from agent.daemon import pusher, workers
from agent.daemon.tasks import PushTask
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
