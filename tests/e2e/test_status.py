"""`status` and `doctor` beside a real agent and a real receiver, and `status --watch` on a real terminal."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import (
    PROGRAM,
    READY_S,
    Receiver,
    agent,
    command,
    end,
    environment,
    last_json,
    read_until,
    write_config,
)
from tests.e2e.processes import receiver as real_receiver

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals", allow_module_level=True)

import pty


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "h"


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Receiver]:
    projects = tmp_path / "projects"
    (projects / "p").mkdir(parents=True)
    (projects / "p" / "s.jsonl").write_bytes(b'{"uuid":"u","cwd":"/home/ada/tide"}\n')
    with real_receiver(tmp_path / "data") as running:
        write_config(home, running.url, projects)
        (home / "config.toml").chmod(0o600)
        yield running


class Watching:
    """`status --watch` on a terminal of its own, which only collects what is written."""

    def __init__(self, home: Path, columns: int, lines: int) -> None:
        self._master, slave = pty.openpty()
        self._seen = b""
        self.resize(columns, lines)
        env = environment(home, TERM="xterm-256color")
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            env.pop(name, None)
        self.process = subprocess.Popen(
            [*PROGRAM, "status", "--watch"], env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self._timer = threading.Timer(READY_S, self.process.kill)
        self._timer.start()

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def pictures(self) -> Iterator[list[str]]:
        """Each picture as the lines that it leaves on the terminal."""
        while True:
            _, begun, rest = self._seen.partition(b"\x1b[?2026h")
            picture, ended, after = rest.partition(b"\x1b[?2026l")
            if begun and ended:
                self._seen = after
                text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", picture.decode())
                yield re.split("\r+\n", text)
            else:
                self._read()

    def read_to_end(self) -> bytes:
        try:
            while True:
                self._read()
        except (OSError, AssertionError):
            return self._seen

    def _read(self) -> None:
        data = os.read(self._master, 65536)
        assert data, "the program ended"
        self._seen += data

    def wait_for(self, words: str) -> list[str]:
        return next(picture for picture in self.pictures() if any(words in line for line in picture))

    def close(self) -> None:
        self._timer.cancel()
        end(self.process, signal.SIGKILL)
        os.close(self._master)


def test_status_and_doctor_of_an_agent_at_work_and_of_none(server: Receiver, home: Path) -> None:
    assert command(home, "status").returncode == 3
    with agent(home) as working:
        read_until(working, "transcriptd is running")
        assert command(home, "push").returncode == 0
        done = command(home, "status")
        assert done.returncode == 0
        rows = dict(re.findall(r"^(\S.*?)  +(.*)$", done.stdout, re.MULTILINE))
        assert re.fullmatch(r"\d+ s ago", rows["last push"])
        assert rows["transcripts"] == "1 synced"
        assert len(done.stdout.splitlines()) <= 8
        found = last_json(command(home, "doctor", "--json"))
        levels = {one["name"]: one["level"] for one in found["findings"]}
        wrong = {name for name, level in levels.items() if level != "ok"}
        assert wrong <= {"service", "token default"}, found
        assert "clock default" in levels
        assert str(working.pid) in next(one["words"] for one in found["findings"] if one["name"] == "agent")
        assert end(working) == 0
    stopped = command(home, "status", "--json")
    assert stopped.returncode == 3
    found = last_json(stopped)
    assert found["destinations"][0]["acknowledged_s"] > 0, "also when nobody is at work"


def test_a_server_that_does_not_accept_the_token_ends_status_with_4(server: Receiver, home: Path) -> None:
    with agent(home, TRANSCRIPTD_TOKEN="tsd_wrong") as working:
        read_until(working, "transcriptd is running")
        for _ in range(200):
            done = command(home, "status")
            if done.returncode:
                break
        assert done.returncode == 4
        assert "TRANSCRIPTD_TOKEN" in done.stdout


def test_the_watch_follows_the_agent_and_the_terminal_and_ends_with_0(server: Receiver, home: Path) -> None:
    watching = Watching(home, 80, 24)
    try:
        watching.wait_for("transcriptd is not running")
        with agent(home) as working:
            read_until(working, "transcriptd is running")
            picture = watching.wait_for("1 synced")
            assert len(picture) <= 24
            watching.resize(40, 6)
            small = watching.wait_for("more line")
            assert len(small) == 6
            assert max(map(len, small)) <= 40
            watching.resize(140, 50)
            end(working, signal.SIGKILL)
        watching.wait_for("transcriptd is not running")
        with agent(home) as again:
            read_until(again, "transcriptd is running")
            watching.wait_for("transcriptd is running")
        watching.process.send_signal(signal.SIGINT)
        left = watching.read_to_end()
        assert watching.process.wait(30) == 0
        assert b"\x1b[?1049l" in left, "the terminal is as it was before"
        assert b"transcriptd is" in left.partition(b"\x1b[?1049l")[2], "and shows what was seen last"
        assert b"Traceback" not in left
    finally:
        watching.close()


def test_the_watch_as_json_is_an_object_a_line(server: Receiver, home: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "status", "--watch", "--json"], env=environment(home), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["schema"] == 1
        text = (home / "config.toml").read_text()
        (home / "config.toml").write_text("[push\n")
        found = next(found for line in process.stdout if "error" in (found := json.loads(line)))
        assert found["error"] == "bad_configuration"
        (home / "config.toml").write_text(text)
        assert any(json.loads(line).get("running") is False for line in process.stdout)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(30) == 0
