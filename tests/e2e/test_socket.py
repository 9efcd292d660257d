"""The control socket and the events of a real daemon, driven by commands and by a socket alone."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.control_params import PARAMS, Param
from agent.system.control_socket.rpc import DEFECT
from agent.system.control_socket.rpc import PARAMS as PARAMS_ARE_WRONG
from tests.conftest import REPOSITORY
from tests.e2e.processes import (
    PROGRAM,
    READY_S,
    Receiver,
    agent,
    command,
    end,
    environment,
    read_until,
    receiver,
    write_config,
)

pytestmark = pytest.mark.e2e

SESSION = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"
CANARY = "CANARY-text-of-a-transcript"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "receiver") as made:
        yield made


def write(projects: Path, number: int) -> None:
    fields = {"type": "user", "uuid": f"{SESSION}-{number}", "cwd": "/w/shop", "message": {"content": CANARY}}
    (projects / "p").mkdir(parents=True, exist_ok=True)
    with (projects / "p" / f"{SESSION}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")


class Follower:
    """`transcriptd events -f --json`."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, "events", "-f", "--json"],
            env=environment(home),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.seen: list[dict[str, Any]] = []

    def until(self, kind: str, **fields: object) -> dict[str, Any]:
        while True:
            one: dict[str, Any] = json.loads(read_until(self.process, f'"kind": "{kind}"'))
            self.seen.append(one)
            if all(one.get(name) == value for name, value in fields.items()):
                return one


def test_what_happens_is_told_by_command_and_socket_over_a_restart(tmp_path: Path, server: Receiver) -> None:
    home, projects = tmp_path / "td", tmp_path / "projects"
    write(projects, 1)
    write_config(home, server.url, projects)
    assert command(home, "events").returncode == 3
    with agent(home) as first:
        read_until(first, "transcriptd is running")
        follower = Follower(home)
        try:
            assert follower.until("session.started")["session_id"] == SESSION
            follower.until("session.synced")
            write(projects, 2)
            before = follower.until("session.synced")
            assert before["project"] == "/w/shop"
            speak_by_hand(home)
            # a client that is cut off in the middle, and one that never reads, keep nobody from anything
            bad = [connect(home) for _ in range(2)]
            bad[0].sendall(b'{"jsonrpc":"2.0","id":1,"meth')
            bad[1].sendall(b'{"jsonrpc":"2.0","id":1,"method":"events.subscribe"}\n')
            listed = [json.loads(line) for line in command(home, "events", "--json").stdout.splitlines()]
            assert [one["seq"] for one in listed] == sorted({one["seq"] for one in listed})
            assert sum(one["kind"] == "session.started" for one in listed) == 1
            for one in bad:
                one.close()
            end(first, signal.SIGKILL)
            with agent(home) as second:
                read_until(second, "transcriptd is running")
                refresh = follower.until("refresh")
                assert refresh["epoch"] != listed[0].get("epoch")
                write(projects, 3)
                after = follower.until("session.synced")
                assert after["seq"] > before["seq"]
                for line in command(home, "events", "--json").stdout.splitlines():
                    assert json.loads(line)["kind"] != "session.started", "a restart repeats nothing"
                assert CANARY not in json.dumps(follower.seen)
                follower.process.send_signal(signal.SIGINT)
                assert follower.process.wait(READY_S) == 0
                assert end(second) == 0
        finally:
            end(follower.process, signal.SIGKILL)


def connect(home: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(READY_S)
    made.connect(str(home / "state" / "control.sock"))
    return made


def speak_by_hand(home: Path) -> None:
    """As the example of docs/control-socket.md does."""
    with connect(home) as client, client.makefile("rb") as lines:
        client.sendall(b'{"jsonrpc":"2.0","id":"a","method":"agent.hello","params":{"protocol":1}}\n')
        hello = json.loads(lines.readline())
        assert hello["id"] == "a"
        assert hello["result"]["protocol"] == 1
        assert hello["result"]["pid"] > 0
        client.sendall(b'{"jsonrpc":"2.0","id":"b","method":"agent.hello","params":{"protocol":2}}\n')
        assert "speaks protocol 1" in json.loads(lines.readline())["error"]["message"]
        client.sendall(b'{"jsonrpc":"2.0","id":3,"method":"events.subscribe","params":{"after_seq":0}}\n')
        assert json.loads(lines.readline())["result"]["refresh"] is False
        event = json.loads(lines.readline())
        assert (event["method"], "id" in event) == ("event", False)


def test_the_example_of_the_documentation_runs(tmp_path: Path, server: Receiver) -> None:
    text = (REPOSITORY / "docs" / "control-socket.md").read_text(encoding="utf-8")
    program = text.partition("```python\n")[2].partition("```")[0]
    home = tmp_path / "td"
    write_config(home, server.url, tmp_path / "projects")
    with agent(home) as running:
        read_until(running, "transcriptd is running")
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", program, str(home / "state" / "control.sock")],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert "agent.condition" in read_until(process, "agent.condition")
        finally:
            end(process, signal.SIGKILL)


def ask_raw(client: socket.socket, method: str, params: dict[str, Any]) -> dict[str, Any]:
    client.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
    data = b""
    while not data.endswith(b"\n"):
        data += client.recv(65536)
    answer: dict[str, Any] = json.loads(data.splitlines()[0])
    return answer


def extreme(param: Param) -> list[Any]:
    """The least and the most that a param takes, and texts that are hard on whoever passes them on."""
    number = [int(param.least), int(param.most)]
    found: dict[str, list[Any]] = {
        "a text": ["\0", "--help", "x" * 100_000, "\ud800"],
        "a list of texts": [["\0"], ["--help", "\ud800"], [*map(str, range(int(min(param.most, 100))))]],
        "true or false": [True],
        "a whole number": number,
        "a number": [*number, 1e-300],
        "an object": [{}, {"a.b": None}, {"x": 1}],
        "a list of objects": [[{}]],
    }
    return found[param.kind]


WHOLE = {"a text": "nobody", "a list of texts": ["nobody"], "a whole number": 1, "a list of objects": [{}]}


def test_no_params_are_passed_over_and_none_are_a_defect(tmp_path: Path, server: Receiver) -> None:
    """Of every method, over the socket of a running agent: a wish that was written wrongly is refused and not done."""
    home, projects = tmp_path / "td", tmp_path / "projects"
    write(projects, 1)
    write_config(home, server.url, projects)
    with agent(home) as running:
        read_until(running, "transcriptd is running")
        for method, forms in PARAMS.items():
            for form in forms:
                needed = {name: WHOLE[one.kind] for name, one in form.items() if one.needed}
                with connect(home) as client:
                    answer = ask_raw(client, method, {**needed, "dryRun": True})
                    assert answer["error"]["code"] == PARAMS_ARE_WRONG, (method, answer)
                for name, param in form.items():
                    for value in extreme(param):
                        with connect(home) as client:
                            answer = ask_raw(client, method, {**needed, name: value})
                        assert answer.get("error", {}).get("code") != DEFECT, (method, name, str(value)[:80], answer)
        with connect(home) as client:
            assert "result" in ask_raw(client, "agent.status", {})
        assert end(running) == 0
