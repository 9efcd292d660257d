"""What `doctor` is told of the service."""

import socket
import sys
from pathlib import Path

import pytest

from agent.services import find_service, make_spec, make_world
from agent.services.launchd import render_plist
from agent.services.runner import NOT_FOUND, Ran, run_command
from agent.services.systemd import render_unit
from agent.system.paths import paths_below
from tests.services.recorded import Conversation
from tests.services.test_launchd import NONE_DISABLED, RUNNING
from tests.services.test_spec import make_program
from tests.services.test_systemd import MANAGER, VERSION, shown


def test_a_service_of_this_very_install(tmp_path: Path) -> None:
    """However the command was typed."""
    environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/run/user/1", "CLAUDE_CONFIG_DIR": "/c"}
    program = make_program(tmp_path / "bin" / "transcriptd")
    python = make_program(tmp_path / "bin" / "python")
    paths = paths_below(tmp_path / "td")
    spec, _ = make_spec(environment, paths.logs, typed=program, executable=python, windows=False)
    unit = tmp_path / ".config" / "systemd" / "user" / "transcriptd.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(render_unit(spec, 252))
    talk = Conversation(MANAGER, shown(), VERSION)
    found = find_service(environment, paths, talk, platform="linux", typed="/x/pytest", executable=python)
    assert (found.kind, found.installed, found.enabled, found.active) == ("systemd", True, True, True)
    assert (found.command, found.why, found.hint) == ((program, "run"), "", "")

    talk = Conversation(MANAGER, shown(), VERSION)
    found = find_service(environment, paths, talk, platform="linux", typed="", executable="/elsewhere/bin/python")
    assert found.why == f"it starts {program} run, and this is /elsewhere/bin/python -m agent run"


def test_one_of_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 501)
    environment = {"HOME": str(tmp_path)}
    paths = paths_below(tmp_path / "td")
    spec, _ = make_spec(environment, paths.logs, typed="", executable=sys.executable, windows=False)
    plist = tmp_path / "Library" / "LaunchAgents" / "transcriptd.plist"
    plist.parent.mkdir(parents=True)
    plist.write_text(render_plist(spec))
    found = find_service(environment, paths, Conversation(RUNNING, NONE_DISABLED), platform="darwin", typed="")
    assert (found.kind, found.active, found.why) == ("launchd", True, "")


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    """Where the system has none of its programs, too."""

    def runner(_: object) -> Ran:
        return Ran(NOT_FOUND, "", "not found")

    for platform, kind in {"linux": "systemd", "darwin": "launchd", "win32": "windows task"}.items():
        found = find_service({"HOME": str(tmp_path)}, paths_below(tmp_path), runner, platform=platform)
        assert (found.kind, found.installed, found.hint) == (kind, False, "transcriptd service install")


def test_on_windows_whoever_answers_at_the_port_is_at_work(tmp_path: Path) -> None:
    paths = paths_below(tmp_path)
    paths.state.mkdir()
    world = make_world({}, paths)
    assert not world.answers()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        paths.socket.write_text(f"{listener.getsockname()[1]} token\n")
        assert world.answers()
    assert not world.answers()


def test_the_real_runner_never_raises() -> None:
    assert run_command(["/nowhere/systemctl"]) == Ran(NOT_FOUND, "", "/nowhere/systemctl: not found")
    assert run_command(["a\0b"]).status == NOT_FOUND
    told = run_command(["sh", "-c", "echo é; echo no >&2; echo $LC_ALL; exit 3"])
    assert told == Ran(3, "é\nC\n", "no\n")
    assert run_command(["sh", "-c", r"printf '\377\376a\000'"]).out == "a"
