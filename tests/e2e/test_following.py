"""Somebody follows a session of a real daemon, which is killed while the session goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import NotRunning
from agent.system.control_socket import ControlClient
from agent.system.paths import default_paths
from agent.system.state.spool import Spool
from tests.e2e.processes import PROGRAM, Receiver, agent, command, end, environment, read_until, receiver, write_config

pytestmark = pytest.mark.e2e

SESSION = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "receiver") as made:
        yield made


def write(projects: Path, number: int) -> None:
    fields = {"type": "user", "uuid": f"{SESSION}-{number}", "cwd": "/w/shop", "message": {"content": f"word {number}"}}
    (projects / "p").mkdir(parents=True, exist_ok=True)
    with (projects / "p" / f"{SESSION}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")


class Following:
    """A subscriber of one session, as a program is one; `texts` are of all messages."""

    def __init__(self, home: Path, **params: Any) -> None:
        paths = default_paths({"TRANSCRIPTD_HOME": str(home)})
        self.client = ControlClient(paths.socket)
        self.answer, self._events = self.client.follow("messages.subscribe", session=SESSION[:8], **params)
        self.seen: list[dict[str, Any]] = []

    def close(self) -> Any:
        self.client.close()
        return self.answer

    def until(self, kind: str, text: str = "") -> dict[str, Any]:
        for one in self._events:
            self.seen.append(one)
            if one["kind"] == kind and text in one.get("event", {}).get("text", ""):
                return one
        raise AssertionError

    def texts(self) -> list[str]:
        return [one["event"]["text"] for one in self.seen if one["kind"] == "message" and one["event"].get("text")]

    def count(self, kind: str) -> int:
        return sum(one["kind"] == kind for one in self.seen)


def test_lines_come_in_order_and_a_run_is_complete_once_over_a_crash(tmp_path: Path, server: Receiver) -> None:
    home, projects = tmp_path / "td", tmp_path / "projects"
    write(projects, 0)
    write_config(home, server.url, projects)
    with agent(home) as first:
        read_until(first, "transcriptd is running")
        assert command(home, "push").returncode == 0
        assert Following(home).close()["run"] is None, "somebody wrote, and nobody was seen to"
        write(projects, 0)
        assert command(home, "push").returncode == 0
        following = Following(home, after_seq=0)
        run = following.answer["run"]
        assert run["state"] == "running"
        for number in range(1, 4):
            write(projects, number)
            following.until("message", f"word {number}")
        assert following.texts() == [f"word {number}" for number in range(4)]
        assert [one["seq"] for one in following.seen] == list(range(1, len(following.seen) + 1))
        last = following.seen[-1]
        end(first, signal.SIGKILL)
        with pytest.raises(NotRunning):
            following.until("nothing")
        following.client.close()
    write(projects, 4)
    with agent(home) as second:
        read_until(second, "transcriptd is running")
        assert command(home, "push").returncode == 0
        again = Following(home, after_seq=last["seq"], epoch=following.answer["epoch"], run=run["id"])
        assert again.answer["refresh"]
        assert again.answer["run"]["id"] == run["id"], "the run goes on under its id"
        assert again.answer["offsets"][""] > last["offset"]
        write(projects, 5)
        again.until("message", "word 5")
        spool = Spool(str(default_paths({"TRANSCRIPTD_HOME": str(home)}).spool))
        hook = {"session_id": SESSION, "transcript_path": "", "hook_event_name": "SessionEnd"}
        tell_hook(home, hook)
        complete = again.until("complete")
        assert (complete["run"], complete["why"]) == (run["id"], "hook")
        assert again.count("complete") == 1
        assert spool.signature() is None
        late = Following(home, after_seq=0)
        assert late.answer["run"]["state"] == "complete"
        late.until("complete")
        assert late.texts()[-1] == "word 5"
        write(projects, 6)
        late.until("message", "word 6")
        again.until("message", "word 6")
        assert again.count("complete") == late.count("complete") == 1
        assert {one["run"] for one in again.seen if one["kind"] == "run.began"} != {run["id"]}
        again.client.close()
        late.client.close()
        assert end(second) == 0


def test_the_command_shows_each_line_once_over_a_crash_and_ends_with_0(tmp_path: Path, server: Receiver) -> None:
    home, projects = tmp_path / "td", tmp_path / "projects"
    write(projects, 0)
    write_config(home, server.url, projects)
    shown: list[str] = []

    def until(words: str) -> None:
        shown.append(json.loads(read_until(tail, words))["text"])

    with agent(home) as first:
        read_until(first, "transcriptd is running")
        assert command(home, "push").returncode == 0
        tail = subprocess.Popen(
            [*PROGRAM, "sessions", "tail", SESSION, "-f", "--json"],
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until('"word 0"')
            for number in (1, 2):
                write(projects, number)
                until(f'"word {number}"')
            end(first, signal.SIGKILL)
            write(projects, 3)
            until('"word 3"')
            with agent(home) as second:
                read_until(second, "transcriptd is running")
                for number in (4, 5, 6):
                    write(projects, number)
                    until(f'"word {number}"')
            tail.send_signal(signal.SIGINT)
            assert tail.stdout is not None
            assert tail.stderr is not None
            assert tail.stdout.read() == ""
            assert "Traceback" not in tail.stderr.read()
            assert tail.wait(30) == 0
        finally:
            end(tail, signal.SIGKILL)
    assert shown == [f"word {number}" for number in range(7)]


def tell_hook(home: Path, payload: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "agent", "capture"],
        env={**os.environ, "TRANSCRIPTD_HOME": str(home)},
        input=json.dumps(payload).encode(),
        check=True,
    )
