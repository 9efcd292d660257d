"""`transcriptd logs`, wherever the agent wrote."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.cli.logs import journal_command, read_journal, show_logs
from agent.services import Ran
from agent.system.paths import Paths, paths_below
from agent.system.state.lives import Lives
from tests.cli.running import run


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("TRANSCRIPTD_HOME", str(tmp_path))
    (tmp_path / "state").mkdir()
    return paths_below(tmp_path)


def test_the_newest_lines_of_the_files_are_shown(paths: Paths) -> None:
    paths.logs.mkdir()
    (paths.logs / "transcriptd.log.1").write_text("one\ntwo\n", encoding="utf-8")
    (paths.logs / "transcriptd.log").write_text("three\nfour\n", encoding="utf-8")
    assert run("logs").out == "one\ntwo\nthree\nfour\n"
    assert run("logs", "-n", "3").out == "two\nthree\nfour\n"


def test_without_any_log_it_says_so(paths: Paths) -> None:
    done = run("logs")
    assert (done.status, done.out) == (3, "")
    assert "no agent has run in the background" in done.err
    Lives(paths.lives).begin(1.0, "stream")
    done = run("logs")
    assert done.status == 2
    assert "wrote its log to that terminal" in done.err
    assert 'file = "always"' in done.err


def test_what_went_to_the_journal_is_asked_of_it(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []
    Lives(paths.lives).begin(1.0, "journal", "--user-unit=transcriptd.service")
    show_logs(paths, 7, is_followed=True, run=lambda command: asked.append(command) or 0)  # type: ignore[func-returns-value]
    assert asked == [["journalctl", "--user", "--user-unit=transcriptd.service", "--no-pager", "--lines=7", "--follow"]]
    with pytest.raises(SystemExit, match="5"):
        show_logs(paths, 7, is_followed=False, run=lambda _: 5)
    monkeypatch.setenv("PATH", "")
    done = run("logs")
    assert done.status == 2
    assert "journalctl is not installed" in done.err
    assert 'file = "always"' in done.err


def test_the_journal_is_read_without_the_name_of_the_machine() -> None:
    asked: list[Sequence[str]] = []

    def answer(command: Sequence[str]) -> Ran:
        asked.append(command)
        return Ran(0, "one\ntwo\n", "")

    assert read_journal("--user-unit=a.service", 9, answer) == "one\ntwo\n"
    start = ["journalctl", "--user", "--user-unit=a.service", "--no-pager", "--lines=9"]
    assert asked == [[*start, "--output=short-iso", "--no-hostname"]]
    refused = read_journal("", 9, lambda _: Ran(1, "", "No journal files were opened\n"))
    assert refused == "the journal can't be read: No journal files were opened"


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="needs journalctl")
@pytest.mark.parametrize("unit", ["", "--unit=transcriptd.service"])
def test_journalctl_takes_the_arguments(unit: str, tmp_path: Path) -> None:
    command = [*journal_command(unit, 5, is_followed=False), "--output=short-iso", "--no-hostname"]
    done = subprocess.run([*command, f"--directory={tmp_path}"], capture_output=True, text=True, check=False)
    assert "unrecognized" not in done.stderr
    assert "invalid" not in done.stderr.lower()
