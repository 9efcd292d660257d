"""The file of runs: each change a line; torn lines harm no other, and it stays in proportion to what is known."""

from pathlib import Path

import pytest

from agent.core.sessions.runs import Run
from agent.errors import DiskError
from agent.system.state.runs_file import RunsFile


def run(name: str, ended_at_s: float | None = None) -> Run:
    return Run(name, f"session-{name}", "claude", 1_000.0, ended_at_s=ended_at_s)


def test_the_last_line_of_a_run_is_what_holds(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    file = RunsFile(path)
    assert file.read() == []
    file.note([run("a")], [run("a")])
    file.note([run("b")], [run("a"), run("b")])
    file.note([run("a", 2_000.0)], [run("a", 2_000.0), run("b")])
    assert RunsFile(path).read() == [run("a", 2_000.0), run("b")]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_life_begins_with_what_is_known_and_no_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    RunsFile(path).note([run("a")], [run("a")])
    with path.open("ab") as file:
        file.write(b'{"id":"b","sess')
    after = RunsFile(path)
    assert after.read() == [run("a")]
    after.note([run("c")], [run("a"), run("c")])
    after.note([run("d")], [run("a"), run("c"), run("d")])
    assert RunsFile(path).read() == [run("a"), run("c"), run("d")]
    assert path.read_bytes().count(b"\n") == 3


def test_it_is_written_anew_when_most_of_it_is_past(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    file = RunsFile(path)
    for number in range(2_000):
        file.note([run("a", float(number))], [run("a", float(number))])
    assert path.read_bytes().count(b"\n") < 300
    assert RunsFile(path).read() == [run("a", 1_999.0)]


def test_after_a_write_that_failed_nothing_is_added_behind_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    file = RunsFile(path)
    file.note([run("a")], [run("a")])
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    with pytest.raises(DiskError, match=r"runs\.jsonl is a folder"):
        file.note([run("b")], [run("a"), run("b")])
    path.rmdir()
    path.write_bytes(content + b'{"id":"b",')
    file.note([run("c")], [run("a"), run("b"), run("c")])
    assert RunsFile(path).read() == [run("a"), run("b"), run("c")]
