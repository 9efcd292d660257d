"""What a command names as the next one, when no agent runs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.cli.starting import has_service, next_step
from agent.services import Ran, find_service
from agent.system.control_socket.server import ControlServer
from agent.system.paths import Paths, default_paths, make_private_folder
from tests.cli.running import run


@pytest.fixture
def paths(home: Path) -> Paths:
    found = default_paths(os.environ)
    make_private_folder(found.config.parent)
    return found


def name_a_server(paths: Paths) -> None:
    paths.config.write_text('[[destination]]\nurl = "https://example.com"\n', encoding="utf-8")


def test_the_first_missing_step_is_named(paths: Paths, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert next_step(paths, {"HOME": str(home)}) == "transcriptd login URL"
    name_a_server(paths)
    assert next_step(paths, {"HOME": str(home)}) == "transcriptd service install"
    unit = home / ".config" / "systemd" / "user" / "transcriptd.service"
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text("", encoding="utf-8")
    assert next_step(paths, {"HOME": str(home)}) == "transcriptd service start"
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert next_step(paths, {"HOME": str(home)}) == "transcriptd run", "a service of root is refused"
    paths.config.write_text("nonsense", encoding="utf-8")
    assert next_step(paths, {"HOME": str(home)}) == "transcriptd config check"


@pytest.mark.parametrize(
    ("platform", "place"),
    [
        ("linux", ".config/systemd/user/transcriptd.service"),
        ("linux", "elsewhere/systemd/user/transcriptd.service"),
        ("darwin", "Library/LaunchAgents/transcriptd.plist"),
    ],
)
def test_a_service_is_known_by_its_file(platform: str, place: str, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "elsewhere")}
    assert not has_service(environment, platform)
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text("", encoding="utf-8")
    assert has_service(environment, platform)
    assert not has_service(environment, "win32"), "a task has none"


def test_commands_that_need_an_agent_name_it(paths: Paths) -> None:
    for command in (["events"], ["logs"]):
        done = run(*command)
        assert (done.status, "try: transcriptd login URL" in done.err) == (3, True), command
    assert "there is no server to send to yet" in run("status").out
    name_a_server(paths)
    expected = next_step(paths, os.environ)
    assert expected != "transcriptd login URL"
    assert f"try: {expected}" in run("events").err
    assert f"→ {expected}" in run("status").out


def test_a_command_that_is_none_names_the_one_that_was_meant() -> None:
    assert "No such command 'stauts'. Did you mean 'status'?" in run("stauts").err
    assert "Did you mean" not in run("frobnicate").err


@pytest.mark.parametrize("command", ["retry", "restore"])
def test_a_session_that_is_none_is_not_told_as_done(command: str, paths: Paths) -> None:
    make_private_folder(paths.socket.parent)

    def resolve(params: Any) -> Any:
        return {"sessions": [{}] if params["beginning"] == "0f" else []}

    server = ControlServer(paths.socket, {"sessions.resolve": resolve, f"agent.{command}": lambda _: {"sessions": 1}})
    try:
        refused = run(command, "0f", "nope")
        assert (refused.status, refused.out) == (2, "")
        assert "no session here begins with 'nope'" in refused.err
        assert run(command, "0f").out.startswith("1 session will be ")
    finally:
        server.close()


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_that_file_is_the_one_that_install_writes(platform: str, paths: Paths, home: Path) -> None:
    environment = {"HOME": str(home)}

    def answer(command: Sequence[str]) -> Ran:
        return Ran(0, "systemd 252\n", "") if "--version" in command else Ran(1, "", "")

    file = Path(find_service(environment, paths, answer, platform=platform, typed="").file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("", encoding="utf-8")
    assert has_service(environment, platform)
