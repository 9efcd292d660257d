"""`try` and `login` as somebody at a terminal sees them."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import PROGRAM, READY_S, TOKEN, end, environment, receiver

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals", allow_module_level=True)

import pty

_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal:
    """A program on a pseudo-terminal, its output without control sequences."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        env = environment(home, TERM="xterm-256color", COLUMNS="100", LINES="40")
        # In a session of its own: what asks for secrets would find the terminal of whoever runs the tests.
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments], env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self._timer = threading.Timer(READY_S, self.process.kill)
        self._timer.start()
        self.seen = ""

    def read_until(self, words: str) -> None:
        """Fails when the program ends, or is killed for its silence, before it shows them."""
        start = len(self.seen)
        while words not in self.seen[start:]:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                data = b""
            assert data, f"the program ended before {words!r}"
            self.seen += _CONTROL.sub(b"", data).decode(errors="replace")

    def type(self, words: str) -> None:
        os.write(self._master, words.encode() + b"\n")

    def close(self) -> None:
        self._timer.cancel()
        end(self.process, signal.SIGKILL)
        os.close(self._master)


def environment_of_children(pid: int) -> bytes:
    """Where the system tells; Linux does."""
    children = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    found = b"".join(Path(f"/proc/{child}/environ").read_bytes() for child in children.split())
    assert b"TRANSCRIPTD_HOME" in found or sys.platform != "linux"
    return found


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    folder = tmp_path / "projects"
    (folder / "p").mkdir(parents=True)
    (folder / "p" / "s1.jsonl").write_bytes(b'{"uuid":"u","cwd":"/home/ada/tide"}\n{"type":"mode"}\n')
    (folder / "p" / "s2.jsonl").write_bytes(b'{"type":"custom-title","customTitle":"bad \\u001b[31m title"}\n')
    return folder


@pytest.fixture
def terminal(tmp_path: Path, projects: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path / "home", "try", "--dir", str(projects))
    yield made
    made.close()


def test_the_live_view_follows_a_session_and_ends_on_ctrl_c(terminal: Terminal, projects: Path) -> None:
    terminal.read_until("2 of 2 transcripts synced")
    assert "viewer       http://127.0.0.1:" in terminal.seen
    assert "tide" in terminal.seen
    assert "3 entries" in terminal.seen
    assert TOKEN.encode() not in environment_of_children(terminal.process.pid), "of a real server; not the receiver's"
    with (projects / "p" / "s1.jsonl").open("ab") as file:
        file.write(b'{"uuid":"v"}\n')
    terminal.read_until("4 entries")
    terminal.process.send_signal(signal.SIGINT)
    terminal.read_until("stopped; what was sent stays in")
    assert terminal.process.wait(timeout=30) == 0
    assert "Traceback" not in terminal.seen


def test_a_title_can_not_steer_the_terminal(terminal: Terminal) -> None:
    terminal.read_until("bad  [31m title")


def test_login_asks_for_the_token_and_never_shows_it(tmp_path: Path) -> None:
    with receiver(tmp_path / "data") as server:
        terminal = Terminal(tmp_path / "home", "login", server.url)
        try:
            terminal.read_until(f"token for {server.url}: ")
            terminal.type("tsd_typed_but_wrong")
            terminal.read_until("does not accept this token; nothing was changed")
            assert terminal.process.wait(timeout=30) == 4
        finally:
            terminal.close()
    assert "tsd_typed" not in terminal.seen
    assert not (tmp_path / "home" / "config.toml").exists()
