"""`transcriptd events`: what people and scripts read of the ring, over restarts too."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytest

from agent.cli import events
from agent.core.sessions.events import EventKind, Happening
from agent.daemon.control.control import _event_methods
from agent.errors import NotRunning
from agent.sessions.live.events import Ring
from agent.system.control_socket import PROTOCOL
from agent.system.control_socket.server import ControlServer
from agent.system.paths import default_paths, make_private_folder
from tests.cli.running import run, spawn

STARTED = Happening(
    EventKind.SESSION_STARTED,
    1_767_600_000.0,
    session_id="0f3c2b1e-90ab",
    provider="claude",
    project="/home/dev/shop",
    bytes=1_500,
    history=True,
)
OFFLINE = Happening(
    EventKind.AGENT_CONDITION, 1_767_600_001.0, destination="work", condition="needs_login", why="no \x1b[31mtoken"
)


@contextmanager
def daemon(ring: Ring) -> Iterator[ControlServer]:
    paths = default_paths(os.environ)
    make_private_folder(paths.socket.parent)

    def hello(_: Mapping[str, Any]) -> Any:
        return {"protocol": PROTOCOL, "version": "0", "pid": 1, **ring.describe()}

    server = ControlServer(paths.socket, {"agent.hello": hello, **_event_methods(ring)})
    try:
        yield server
    finally:
        server.close()


def make_ring(*told: Happening, epoch: str = "one", first_seq: int = 1) -> Ring:
    ring = Ring(epoch, lambda: 1_767_600_002.0, first_seq=first_seq)
    for one in told:
        ring.tell(one)
    return ring


def test_without_a_daemon_there_is_nothing_to_tell() -> None:
    for arguments in ([], ["-f"], ["--json"], ["-f", "--json", "--after", "3"]):
        done = run("events", *arguments)
        assert (done.status, done.out) == (3, "")
        assert "no transcriptd is running" in done.err


def test_people_read_a_line_for_each() -> None:
    with daemon(make_ring(STARTED, OFFLINE)):
        one, two = run("events").out.splitlines()
        assert one.startswith("       1  2026-01-05 ")
        assert one.endswith("session.started  shop/0f3c2b1e  1.5 kB  (from before)")
        assert two.endswith("agent.condition  work needs login: no  [31mtoken")
        assert run("events", "--after", "1").out.splitlines() == [two]
        assert run("events", "--after", "2").out == ""
        assert "no longer known" in run("events", "--after", "7").out.splitlines()[0]


def test_scripts_read_an_object_a_line() -> None:
    with daemon(make_ring(STARTED)):
        assert run("events", "--json").json() == {
            "schema": 1,
            "seq": 1,
            "at_s": 1_767_600_000.0,
            "kind": "session.started",
            "session_id": "0f3c2b1e-90ab",
            "provider": "claude",
            "project": "/home/dev/shop",
            "bytes": 1_500,
            "history": True,
        }


def test_it_follows_over_a_restart_and_says_when_to_refresh() -> None:
    paths = default_paths(os.environ)
    told: list[str] = []
    waits: list[float] = []
    second = make_ring(STARTED, epoch="two", first_seq=100)

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            stack.enter_context(daemon(second))

    with ExitStack() as stack:
        first = stack.enter_context(daemon(make_ring(STARTED, OFFLINE)))
        found = events.follow_events(paths, None, wait=wait, gone=told.append)
        assert [next(found)["seq"] for _ in range(2)] == [1, 2]
        first.close()
        assert next(found)["kind"] == "refresh"
        second.tell(OFFLINE)
        assert next(found)["seq"] == 101
        found.close()  # type: ignore[attr-defined]
    assert len(told) == 1, "once, however often it is tried"
    assert waits == [events.RETRY_S] * 3


def test_nobody_there_at_the_beginning_ends_it() -> None:
    with pytest.raises(NotRunning):
        next(events.follow_events(default_paths(os.environ), None, wait=lambda _: None, gone=print))


def test_ctrl_c_is_how_it_ends() -> None:
    def interrupted(*_: object, **__: object) -> Iterator[Mapping[str, Any]]:
        yield {"seq": 1, "at_s": 0.0, "kind": "session.ended", "session_id": "s"}
        raise KeyboardInterrupt

    with mock.patch.object(events, "follow_events", interrupted):
        done = run("events", "-f")
    assert (done.status, done.out.count("\n"), done.err) == (0, 1, "")


def test_a_reader_that_has_enough_ends_it_quietly() -> None:
    import subprocess
    import sys

    from tests.conftest import REPOSITORY

    ring = make_ring(*[STARTED] * 4_000)
    with daemon(ring):
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "events", "-f"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        for _ in range(500):
            ring.tell(STARTED)
        assert process.wait(60) == 0
        assert process.stderr.read() == b""
        process.stderr.close()


def test_it_is_a_command_of_the_program() -> None:
    assert "--follow" in spawn("events", "-h").out
    assert json.loads(json.dumps({"schema": 1}))["schema"] == 1
