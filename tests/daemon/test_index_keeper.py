"""The daemon's side of the index: bounded, patient with a process that fails, and gone with it."""

import io
import json
import logging
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.transcripts.session import Gone, Observation, StreamId
from agent.delivery.discovery.scanner import Root
from agent.providers import PROVIDERS
from agent.sessions.index.index_child import BUSY, serve
from agent.sessions.index.index_keeper import MOST_PENDING, IndexKeeper, start_child
from agent.sessions.index.index_upkeep import held_index
from agent.system.paths import Paths, paths_below
from agent.system.state.index_db import open_index_readonly
from tests.daemon.test_indexing import said
from tests.waiting import wait_for


class FakeChild:
    """A process whose stdin is read here and whose answers are given here."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.status: int | None = None
        self.stdin = self
        self.stdout = self
        self.closed = threading.Event()

    def write(self, data: bytes) -> None:
        if self.status is not None:
            raise BrokenPipeError
        self.asked.put(json.loads(data))

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed.set()
        self._answers.put(None)

    def say(self, **words: Any) -> None:
        self._answers.put(json.dumps(words).encode())

    def end(self, status: int) -> None:
        self.status = status
        self._answers.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while (line := self._answers.get()) is not None:
            yield line

    def wait(self, timeout: float | None = None) -> int:
        return self.status or 0


class Stage:
    def __init__(self, tmp_path: Path) -> None:
        self.children: list[FakeChild] = []
        self.now_s = 1000.0
        self.keeper = IndexKeeper(tmp_path, [], start=self.start, coalesce_s=0.01, monotonic_s=lambda: self.now_s)

    def start(self) -> Any:
        self.children.append(FakeChild())
        return self.children[-1]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(tmp_path)
    # Waiting is for what happens; time passes when something is waited for.
    real = threading.Condition.wait

    def wait(self: threading.Condition, timeout: float | None = None) -> bool:
        done = real(self, None if timeout is None else min(timeout, 0.005))
        if timeout is not None:
            made.now_s += timeout
        return done

    monkeypatch.setattr(type(made.keeper._changed), "wait", wait)
    yield made
    made.keeper.stop()


def seen(name: str, size: int = 1) -> Observation:
    return Observation(StreamId(name, ""), "claude", f"/p/{name}.jsonl", size, 1, 1, 1)


def test_a_process_is_started_only_when_there_is_something_to_tell(stage: Stage) -> None:
    stage.keeper.start()
    assert stage.children == []
    assert not stage.keeper.progress().busy
    stage.keeper.observed([seen("a"), seen("a", 2)])
    stage.keeper.vanished([Gone(StreamId("b", ""), "/p/b.jsonl")])
    wait_for(lambda: stage.children, "a child")
    child = stage.children[0]
    assert child.asked.get()["roots"] == []
    first = child.asked.get()
    asked = [first] if first["gone"] else [first, child.asked.get()]
    assert [one["files"][0][3] for one in asked if one["files"]] == [2], "the last that was seen of a file"
    assert stage.keeper.progress().busy
    child.say(did=asked[-1]["n"], unread=0)
    wait_for(lambda: not stage.keeper.progress().busy, "the answer")
    assert len(stage.children) == 1


def test_many_changes_become_one_look_at_everything(stage: Stage) -> None:
    stage.keeper.observed([seen(str(number)) for number in range(MOST_PENDING * 10)])
    assert len(stage.keeper._files) <= MOST_PENDING
    stage.keeper.start()
    wait_for(lambda: stage.children, "a child")
    stage.children[0].asked.get()
    assert stage.children[0].asked.get() == {"n": 1, "all": True}


def test_a_process_that_dies_is_told_of_once_and_tried_again_later(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    stage.keeper.start()
    stage.keeper.observed([seen("a")])
    for number in range(3):
        wait_for(lambda: len(stage.children) > number, "a child")  # noqa: B023 - asked within this turn
        before_s = stage.now_s
        stage.children[number].end(1)
    wait_for(lambda: len(stage.children) > 3, "another")
    assert stage.now_s - before_s >= 240, "1, 2, 4 minutes"
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert "ended with 1" in caplog.text
    child = stage.children[3]
    child.asked.get()
    assert child.asked.get()["all"] is True, "what it was asked is not known to be done"


def test_one_that_ends_by_itself_is_no_failure_and_started_when_needed(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.keeper.start()
    stage.keeper.observed([seen("a")])
    wait_for(lambda: stage.children, "a child")
    child = stage.children[0]
    child.asked.get()
    child.say(did=child.asked.get()["n"], unread=0)
    wait_for(lambda: not stage.keeper.progress().busy, "the answer")
    child.end(0)
    wait_for(lambda: stage.keeper._child is None, "its end")
    stage.keeper.observed([seen("b")])
    wait_for(lambda: len(stage.children) > 1, "another child")
    assert caplog.records == []


# --- the process itself -----------------------------------------------------------------------------------------------


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return paths_below(tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    folder = tmp_path / "projects" / "p"
    folder.mkdir(parents=True)
    (folder / "one.jsonl").write_bytes(said(3))
    return Root(PROVIDERS["claude"], str(folder.parent))


def asked(*wishes: dict[str, Any]) -> "queue.SimpleQueue[dict[str, Any]]":
    found: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    for number, wish in enumerate(wishes, 1):
        found.put({"n": number, **wish})
    return found


def test_the_process_does_what_it_is_asked_and_ends_when_that_is_all(paths: Paths, root: Root) -> None:
    told: list[Any] = []
    path = f"{root.path}/p/one.jsonl"
    file = [["one", ""], "claude", path, 1, 1, 1, 1]
    wishes = asked({"all": True}, {"files": [file], "gone": []}, {"files": [], "gone": [["one", ""]]})
    assert serve(paths, [root], wishes, told.append, idle_s=0.01) == 0
    assert [one for one in told if "did" in one] == [{"did": number, "unread": 0} for number in (1, 2, 3)]
    index = open_index_readonly(paths.index)
    assert index is not None
    with index:
        assert index.ask("select gone, lines from sessions") == [{"gone": 1, "lines": 3}]


def test_two_processes_do_not_write_at_once(paths: Paths, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.sessions.index.index_child.LOCK_S", 0.0)
    with held_index(paths):
        assert serve(paths, [root], asked({"all": True}), lambda _: None, idle_s=0.01) == BUSY


def talk(child: "subprocess.Popen[bytes]", *said_: dict[str, Any]) -> None:
    assert child.stdin is not None
    for one in said_:
        child.stdin.write(json.dumps(one).encode() + b"\n")
    child.stdin.flush()


def test_a_real_process_answers_and_ends_with_whoever_asked(paths: Paths, root: Root) -> None:
    with start_child() as child:
        assert isinstance(child.stdout, io.BufferedReader)
        talk(child, {"state": str(paths.state), "roots": [["claude", root.path]]}, {"n": 7, "all": True})
        answers: Callable[[], dict[str, Any]] = lambda: json.loads(child.stdout.readline())  # type: ignore[union-attr]  # noqa: E731
        answer = answers()
        while "did" not in answer:
            answer = answers()
        assert answer == {"did": 7, "unread": 0}
        assert paths.index.stat().st_mode & 0o777 == 0o600
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(20) == 0


def test_new_settings_of_a_real_keeper_leave_no_process_behind(paths: Paths, root: Root) -> None:
    children: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        children.append(start_child())
        return children[-1]

    keeper = IndexKeeper(paths.state, [root], start=start, coalesce_s=0.01)
    keeper.start()
    keeper.ask_all()
    wait_for(lambda: children and not keeper.progress().busy, "the index", 30.0)
    keeper.stop()
    assert [one.poll() for one in children] == [0]
