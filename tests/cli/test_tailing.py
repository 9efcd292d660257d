"""`transcriptd sessions tail`: what it shows of files alone. With a running agent: tests/e2e/test_following.py."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli.config import environment, load_settings
from agent.cli.sessions.choosing import choose_session
from agent.cli.sessions.tailing import Following, Shown
from agent.system.paths import default_paths
from tests.cli.running import run

SESSION = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"


def line(words: str, second: int = 0) -> bytes:
    fields = {"type": "user", "uuid": words, "cwd": "/w", "timestamp": f"2026-11-20T10:00:{second:02}Z"}
    return json.dumps({**fields, "message": {"content": words}}).encode() + b"\n"


@pytest.fixture
def path(home: Path) -> Path:
    """A session in the folder of this test's home."""
    folder = Path(os.environ["CLAUDE_CONFIG_DIR"]) / "projects" / "p"
    folder.mkdir(parents=True)
    (folder / f"{SESSION}.jsonl").write_bytes(b"".join(line(f"word {number}", number) for number in range(5)))
    return folder / f"{SESSION}.jsonl"


def subagent(path: Path, words: str, second: int) -> None:
    below = path.with_suffix("") / "subagents" / "agent-a.jsonl"
    below.parent.mkdir(parents=True, exist_ok=True)
    with below.open("ab") as file:
        file.write(line(words, second))


def texts(done: str) -> list[str]:
    return [json.loads(one)["text"] for one in done.splitlines() if '"user.message"' in one]


def test_the_last_events_are_shown(path: Path) -> None:
    assert texts(run("sessions", "tail", SESSION, "-n", "3", "--json").out) == ["word 2", "word 3", "word 4"]
    assert texts(run("sessions", "tail", "latest", "--json").out) == [f"word {number}" for number in range(5)]
    assert run("sessions", "tail", SESSION[:6], "-n", "0").out == ""
    shown = run("sessions", "tail", SESSION, "-n", "1").out
    assert "word 4" in shown
    assert "word 3" not in shown


def test_raw_lines_are_as_they_stand(path: Path) -> None:
    data = path.read_bytes() + b'{"torn'
    path.write_bytes(data)
    done = run("sessions", "tail", SESSION, "-n", "2", "--raw")
    assert done.raw == b"".join(data.splitlines(keepends=True)[3:5])


def test_subagents_stand_where_their_time_is(path: Path) -> None:
    subagent(path, "below", 2)
    plain = texts(run("sessions", "tail", SESSION, "--json").out)
    assert "below" not in plain
    done = run("sessions", "tail", SESSION, "--subagents", "--json")
    assert texts(done.out) == ["word 0", "word 1", "word 2", "below", "word 3", "word 4"]
    assert "subagents/agent-a" in run("sessions", "tail", SESSION, "--subagents").out


@pytest.mark.usefixtures("path")
def test_two_ways_to_show_lines_are_one_too_many() -> None:
    done = run("sessions", "tail", SESSION, "--raw", "--json")
    assert (done.status, done.out) == (2, "")
    assert run("sessions", "tail", "nobody").status == 2


def test_escapes_of_a_hostile_transcript_reach_no_terminal(path: Path) -> None:
    path.write_bytes(line("\x1b]0;title\x07\x1b[31mred\u202e"))
    shown = run("sessions", "tail", SESSION).out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown


class Script:
    """Does one thing at each wait, and ends the following behind the last."""

    def __init__(self, *steps: Callable[[], Any]) -> None:
        self._steps = iter(steps)

    def __call__(self, _: float) -> None:
        step = next(self._steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()


def follow(*steps: Callable[[], Any], **more: Any) -> tuple[list[str], list[str]]:
    paths, around = default_paths(environment()), environment()
    settings = load_settings(paths)
    said: list[str] = []
    chosen = choose_session(SESSION, settings, paths, around)
    following = Following(chosen, paths, settings, around, wait=Script(*steps), say=said.append, **more)
    following.last(0)

    def shown() -> Iterator[Shown]:
        try:
            yield from following.follow()
        except KeyboardInterrupt:
            return

    return [one.event.text if one.event else one.raw.decode()[-12:] for one in shown()], said


def add(path: Path, *words: str) -> Callable[[], None]:
    def step() -> None:
        with path.open("ab") as file:
            file.write(b"".join(map(line, words)))

    return step


def nothing() -> None:
    pass


def test_what_is_added_to_a_file_is_shown_without_an_agent(path: Path) -> None:
    steps = [add(path, f"new {number}") for number in range(20)]
    assert follow(*steps, nothing) == ([f"new {number}" for number in range(20)], [])


def test_a_session_at_rest_is_said_to_be_one(path: Path) -> None:
    os.utime(path, (1, 1))
    found, said = follow(*itertools.repeat(nothing, 20), add(path, "after all"), nothing)
    assert found == ["after all"]
    assert said == ["nobody works in this session now; waiting whether it goes on"]


def test_a_rewritten_file_is_followed_on(path: Path) -> None:
    def rewrite() -> None:
        path.with_suffix(".new").write_bytes(line("another") * 3)
        path.with_suffix(".new").replace(path)

    found, said = follow(rewrite, add(path, "after"), lambda: path.write_bytes(b""), add(path, "cut"), nothing)
    assert found == ["after", "cut"]
    assert said == ["the transcript was rewritten; going on from its end"] * 2


def test_a_session_that_moves_is_followed_to_its_new_folder(path: Path) -> None:
    away = path.parent.parent / "q" / path.name

    def move() -> None:
        away.parent.mkdir()
        path.rename(away)

    found, _ = follow(add(path, "here"), move, *itertools.repeat(nothing, 8), add(away, "there"), *[nothing] * 8)
    assert found == ["here", "there"]


def test_a_subagent_that_begins_is_followed_too(path: Path) -> None:
    steps = [nothing, lambda: subagent(path, "below", 9), *itertools.repeat(nothing, 16)]
    assert follow(*steps, subagents=True)[0] == ["below"]
    assert follow(*steps)[0] == []


def test_a_great_burst_is_shown_whole(path: Path) -> None:
    words = [f"{number}" for number in range(5_000)]
    assert follow(add(path, *words), nothing, nothing)[0] == words
