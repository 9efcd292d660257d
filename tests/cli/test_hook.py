"""`transcriptd hook`: settings of Claude Code as they are found on disk, before and after."""

import json
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.hooks import EVENTS
from tests.cli.running import Done, run, spawn
from tests.conftest import REPOSITORY

MINE = '{\n  "model": "opus",\n  "env": {"KEY": "sk-1"},\n  "limit": 1.50,\n  "hooks": {"Stop": [ ]}\n}'


@pytest.fixture
def settings(home: Path) -> Path:
    """Where Claude Code of this home keeps them; its folder is there, the file is not."""
    (home / ".claude").mkdir()
    return home / ".claude" / "settings.json"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command that a person typed, in a folder with a blank in its name."""
    made = tmp_path / "bin of mine" / "transcriptd"
    made.parent.mkdir()
    made.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m agent "$@"\n', encoding="utf-8")
    made.chmod(0o755)
    return made


def hook(program: Path, *arguments: str) -> Done:
    """`run`, by the name that was typed."""
    return run("hook", *arguments, program=str(program))


def commands(settings: Path) -> list[str]:
    found = json.loads(settings.read_text(encoding="utf-8"))["hooks"]
    return [found[event][-1]["hooks"][0]["command"] for event in EVENTS]


def test_install_and_uninstall_leave_every_byte_as_it_was(settings: Path, program: Path) -> None:
    settings.write_bytes(MINE.encode())
    settings.chmod(0o640)
    done = hook(program, "install")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        f"{settings}:\n  SessionStart: added\n  SessionEnd: added\nas it was before: {settings}.before-transcriptd\n"
    )
    assert settings.with_name("settings.json.before-transcriptd").read_bytes() == MINE.encode()
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640
    assert json.loads(settings.read_bytes())["limit"] == 1.5
    done = hook(program, "uninstall")
    assert done.out.startswith(f"{settings}:\n  SessionStart: removed\n  SessionEnd: removed\n")
    assert settings.read_bytes() == MINE.encode()
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640
    assert hook(program, "uninstall").out == f"{settings}: there are no hooks of transcriptd\n"


def test_without_settings_there_are_some_and_then_none(settings: Path, program: Path) -> None:
    assert hook(program, "install", "--json").json()["changed"] is True
    assert list(json.loads(settings.read_bytes())) == ["hooks"]
    assert hook(program, "uninstall", "--json").json() == {
        "schema": 1,
        "settings": str(settings),
        "changed": True,
        "done": ["SessionStart: removed", "SessionEnd: removed"],
        "copy": f"{settings}.before-transcriptd",
    }
    assert not settings.exists()


def test_twice_changes_nothing_and_another_program_takes_over(settings: Path, program: Path, tmp_path: Path) -> None:
    settings.write_bytes(MINE.encode())
    hook(program, "install")
    first = settings.read_bytes()
    again = hook(program, "install", "--json").json()
    assert (again["changed"], again["copy"]) == (False, None)
    assert settings.read_bytes() == first
    other = tmp_path / "transcriptd"
    other.symlink_to(program)
    assert "SessionEnd: changed, it was '" in hook(other, "install").out
    assert [shlex.split(one)[0] for one in commands(settings)] == [str(other)] * 2, "not what a link leads to"
    hook(other, "uninstall")
    assert settings.read_bytes() == MINE.encode(), "the copy is still that from before the first time"


def test_a_shell_can_run_what_was_installed(settings: Path, program: Path, home: Path, tmp_path: Path) -> None:
    hook(program, "install")
    path = tmp_path / "s.jsonl"
    for command in commands(settings):
        payload = json.dumps({"session_id": "s", "transcript_path": str(path)})
        answer = run_shell(command, payload, {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)})
        assert answer == (0, "")
    assert (home / "td" / "state" / "spool").read_text(encoding="utf-8") == f"s\t{path}\n" * 2, (
        "the home of the install"
    )
    found = hook(program, "status", "--json").json()
    assert (found["wrong"], found["waiting"]) == ([], 1)


def run_shell(command: str, stdin: str, environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        ["sh", "-c", command], input=stdin, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_in_an_ordinary_home_the_command_is_short(
    settings: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRANSCRIPTD_HOME")
    hook(program, "install")
    assert commands(settings) == [f"'{program}' capture"] * 2


@pytest.mark.parametrize(
    "text", [" ", "{", '{"a": 1} // mine', "[]", '{"hooks": 1}', '{"hooks": {}, "hooks": {}}', "\ud800"]
)
def test_what_is_not_understood_is_not_touched(text: str, settings: Path, program: Path) -> None:
    data = text.encode("utf-8", "surrogatepass")
    settings.write_bytes(data)
    for what in ("install", "uninstall", "status"):
        done = hook(program, what)
        assert (done.status, done.out) == (78, "")
        assert str(settings) in done.err
        assert "nothing was changed" in done.err
        assert settings.read_bytes() == data
    assert {one.name for one in settings.parent.iterdir()} == {"settings.json"}


def test_without_claude_code_it_says_so(home: Path, program: Path) -> None:
    done = hook(program, "install")
    assert done.status == 1
    assert f"folder {home / '.claude'} is not there" in done.err
    assert not (home / ".claude").exists()


def test_the_file_can_be_named(program: Path, tmp_path: Path, home: Path) -> None:
    named = tmp_path / "other.json"
    assert hook(program, "install", "--settings", str(named)).status == 0
    assert len(commands(named)) == 2
    assert not (home / ".claude").exists()
    assert hook(program, "status", "--settings", str(named)).status == 0


def test_without_a_variable_it_is_in_the_users_home(home: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLAUDE_CONFIG_DIR")
    (home / ".claude").mkdir()
    hook(program, "install")
    assert (home / ".claude" / "settings.json").exists()


def test_status_tells_what_is_wrong(settings: Path, program: Path) -> None:
    done = hook(program, "status", "--json")
    assert done.status == 1
    assert [what.partition(" has ")[0] for what in done.json()["wrong"]] == list(EVENTS)
    hook(program, "install")
    assert hook(program, "status").status == 0
    program.unlink()
    done = hook(Path(sys.executable), "status")
    assert done.status == 1
    assert f"! {program} is not there" in done.out
    settings.write_text('{"disableAllHooks": true}', encoding="utf-8")
    assert "disableAllHooks" in hook(program, "status").out


def test_without_a_command_to_run_there_is_no_hook(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    done = hook(tmp_path / "__main__.py", "install")
    assert (done.status, settings.exists()) == (1, False)
    assert "is not found" in done.err


def test_the_module_finds_the_command_beside_its_python(settings: Path) -> None:
    assert spawn("hook", "install").status == 0
    (program,) = {shlex.split(one)[0] for one in commands(settings)}
    assert Path(program).parent == Path(sys.executable).parent


def test_a_command_private_comes_and_goes_with_the_hooks(settings: Path, program: Path, home: Path) -> None:
    path = home / ".claude" / "commands" / "private.md"
    done = hook(program, "install", "--private-command")
    assert done.out.endswith(f"{path}: added\n")
    [command] = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("--this")]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "CLAUDE_CODE_SESSION_ID": "s-1"}
    status, out = run_shell(command, "", environ)
    assert (status, "session s-1: added" in out) == (0, True), out
    assert "session s-1\n" in (home / "td" / "private.list").read_text(encoding="utf-8"), "the home of the install"
    assert hook(program, "install", "--private-command").out.endswith(f"{path}: the command is there already\n")
    assert hook(program, "uninstall").out.endswith(f"{path}: removed\n")
    assert not path.exists()


def test_another_command_of_that_name_stays(settings: Path, program: Path, home: Path) -> None:
    path = home / ".claude" / "commands" / "private.md"
    path.parent.mkdir()
    path.write_text("mine\n", encoding="utf-8")
    done = hook(program, "install", "--private-command")
    assert (done.status, f"{path} is not ours" in done.err) == (78, True)
    hook(program, "uninstall")
    assert path.read_text(encoding="utf-8") == "mine\n"
    path.unlink()
    hook(program, "install", "--private-command")
    path.write_text(path.read_text(encoding="utf-8") + "And say hello.\n", encoding="utf-8")
    assert "left as it is; somebody changed it" in hook(program, "uninstall").out
    assert path.exists()
