"""`transcriptd pause` and `resume` where no agent runs, and what other commands say while paused."""

import time
from pathlib import Path

import pytest

from agent.cli.config import remembered
from agent.cli.pausing import describe_pause
from agent.delivery.state.pausing import PAUSED, parse_pause
from agent.system.machine.lock import DaemonLock
from agent.system.paths import Paths, paths_below
from tests.cli.running import run, spawn


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("TRANSCRIPTD_HOME", str(tmp_path))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    projects = tmp_path / "projects"
    projects.mkdir()
    text = f'[[destination]]\nurl = "http://127.0.0.1:9"\n[watch]\nclaude = ["{projects}"]\n'
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    return paths_below(tmp_path)


def settled(paths: Paths) -> str:
    with remembered(paths) as store:
        assert store is not None
        return store.settled(PAUSED)


def test_a_pause_without_an_agent_holds_when_one_starts(paths: Paths) -> None:
    done = run("pause")
    assert done.status == 0
    assert done.out.splitlines() == [
        "transcriptd is paused until you resume it (transcriptd resume)",
        "no agent is running; this holds when one starts",
    ]
    assert parse_pause(settled(paths), time.time()) is None
    pushed = spawn("push")
    assert pushed.status == 75, pushed.err
    assert pushed.err == "transcriptd: paused until you resume it\n  try: transcriptd resume\n"
    done = run("resume")
    assert (done.status, done.out.splitlines()[0]) == (0, "transcriptd is not paused")
    assert settled(paths) == ""


def test_a_script_reads_how_long(paths: Paths) -> None:
    before = time.time()
    found = run("pause", "--for", "1h30min", "--json").json()
    assert found["paused"] == "by you"
    assert before + 5400 <= found["paused_until_s"] <= time.time() + 5400
    assert (found["schema"], found["running"]) == (1, False)
    left_s = parse_pause(settled(paths), time.time())
    assert left_s is not None
    assert 5300 < left_s <= 5400
    assert run("resume", "--json").json()["paused"] == ""


@pytest.mark.parametrize("text", ["soon", "0s", "", "400d"])
def test_a_time_that_is_none_changes_nothing(paths: Paths, text: str) -> None:
    done = run("pause", "--for", text)
    assert done.status == 2
    assert "expected" in done.err
    assert not paths.database.exists()


def test_nothing_is_written_beside_an_agent_that_does_not_answer(paths: Paths) -> None:
    paths.state.mkdir()
    lock = DaemonLock(paths.lock)
    lock.acquire()
    try:
        assert run("pause").status == 75
    finally:
        lock.release()


def test_words_tell_the_day_when_it_is_not_today() -> None:
    assert describe_pause("metered network", None) == "paused: metered network"
    assert describe_pause("by you", time.time() + 3600).count(":") == 1
    assert describe_pause("by you", time.time() + 3 * 86_400).count("-") == 2
