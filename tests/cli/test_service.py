"""`transcriptd service` as a person meets it, on a machine that answers as recorded."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.cli import consent, purging, service
from agent.core.settings import parse_settings
from agent.services import open_manager
from agent.services.state import World
from agent.system.paths import Paths, paths_below
from tests.cli.running import Done, run
from tests.services.recorded import Conversation
from tests.services.test_spec import make_program
from tests.services.test_systemd import DEAD, MANAGER, VERSION, shown

SETTINGS = '[[destination]]\nurl = "http://127.0.0.1:9"\ntoken = "file"\ntoken_file = "/token"\n'
GONE = shown(LoadState="not-found", UnitFileState="", ActiveState="inactive")
LINGERS = ("loginctl show-user*", 0, "yes")
ENDS = ("loginctl show-user*", 0, "no")
INSTALLING = (
    MANAGER,
    VERSION,
    GONE,
    ("systemctl --user daemon-reload", 0, ""),
    shown(UnitFileState="disabled", ActiveState="inactive"),
    ("systemctl --user enable transcriptd.service", 0, ""),
    ("systemctl --user start transcriptd.service", 0, ""),
    shown(),
)
Talk = Callable[..., Conversation]


@pytest.fixture
def talk(home: Path, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Has the machine of a user who is not root answer so from now on. On Linux, wherever this runs."""
    monkeypatch.setattr(service, "open_manager", lambda world, name, platform: open_manager(world, name, "linux"))
    monkeypatch.delenv("TRANSCRIPTD_HOME")
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "CODEX_HOME"):
        monkeypatch.delenv(name)

    def begin(*turns: tuple[str, int, str], uid: int = 501, config: str = SETTINGS) -> Conversation:
        made = Conversation(*turns)
        environment = {name: os.environ[name] for name in ("HOME", "XDG_RUNTIME_DIR", "PATH")}
        world = World(environment, home, home / "state", made, uid=uid, monotonic=lambda: 1000.0, now=lambda: 2000.0)
        monkeypatch.setattr(service, "make_world", lambda *_: world)
        file = home / ".config" / "transcriptd" / "config.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(config)
        return made

    return begin


@pytest.fixture
def program(home: Path) -> str:
    return make_program(home / "bin" / "transcriptd")


def install(program: str, *more: str) -> Done:
    return run("service", "install", "--program", program, *more)


def test_installed_it_says_what_it_did(talk: Talk, program: str, home: Path) -> None:
    said = talk(*INSTALLING, ENDS)
    done = install(program)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    file = home / ".config/systemd/user/transcriptd.service"
    assert lines[:3] == [f"{file}: written", "enabled: it starts with the session", "started"]
    assert lines[3].startswith("service  systemd, starts with the session, running since ")
    assert lines[4] == f"starts   {program} run"
    assert "loginctl enable-linger" in done.err
    assert said.is_over()


def test_installed_for_scripts(talk: Talk, program: str) -> None:
    talk(*INSTALLING, LINGERS)
    found = install(program, "--json").json()
    assert (found["schema"], found["kind"], found["active"], found["changed"]) == (1, "systemd", True, True)
    assert (found["command"], found["notes"], len(found["done"])) == ([program, "run"], [], 3)


@pytest.mark.parametrize("act", ["install", "start", "restart"])
def test_root_is_refused(act: str, talk: Talk, program: str) -> None:
    said = talk(uid=0)
    done = run("service", act)
    assert (done.status, "this is root" in done.err, "without sudo" in done.err) == (77, True, True)
    assert said.said == []


@pytest.mark.parametrize(
    ("config", "words"), [("", "transcriptd login URL"), ("x = 1", "config.toml"), ("[log]\nlevel = 1", "log")]
)
def test_settings_that_would_end_it_at_once_are_refused(config: str, words: str, talk: Talk, program: str) -> None:
    said = talk(config=config)
    done = install(program)
    assert (done.status, words in done.err) == (78, True)
    assert said.said == []


def test_a_program_in_a_temporary_folder_is_refused(talk: Talk, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    talk()
    monkeypatch.setenv("PATH", str(Path(program).parent))
    monkeypatch.setattr(sys, "executable", str(Path(program).with_name("python")))
    done = run("service", "install")
    assert done.status == 1
    assert "temporary folder" in done.err
    assert install("/nowhere/transcriptd").status == 2


def test_without_a_session_it_says_what_to_do(talk: Talk, program: str, home: Path) -> None:
    talk(DEAD, VERSION)
    done = install(program)
    assert (done.status, "loginctl enable-linger" in done.err) == (1, True)
    assert not (home / ".config" / "systemd").exists()


def test_beside_an_agent_that_runs_by_hand_it_is_not_installed(
    talk: Talk, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk(MANAGER)
    monkeypatch.setattr(service, "_hello", lambda _: {"version": "0.0.1", "pid": 4711})
    done = install(program)
    assert done.status == 75
    assert "an agent (process 4711) is at work, and not as a service" in done.err


def test_a_service_of_another_home_is_not_touched(
    talk: Talk, program: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk(*INSTALLING, LINGERS)
    assert install(program).status == 0
    monkeypatch.setenv("TRANSCRIPTD_HOME", str(home / "other"))
    (home / "other").mkdir()
    (home / "other" / "config.toml").write_text(SETTINGS)
    for act in (["install", "--program", program], ["uninstall"]):
        talk(MANAGER, shown(), VERSION)
        done = run("service", *act)
        assert (done.status, "another home: that of its user" in done.err) == (2, True), done.err


def test_what_a_service_will_not_have_is_said(talk: Talk, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = (
        SETTINGS.replace('"file"', '"environment"') + '[[destination]]\nname = "b"\nurl = "https://b.example.com"\n'
    )
    talk(*INSTALLING, LINGERS, config=config + 'token = "credential"\n')
    monkeypatch.setenv("HTTPS_PROXY", "http://ada:s3cr3t@proxy:1")
    monkeypatch.setenv("TRANSCRIPTD_TOKEN", "s3cr3t")
    done = install(program)
    assert "the token of default is in the environment" in done.err
    assert "LoadCredential=" in done.err
    assert "HTTPS_PROXY goes into the service without its user and password" in done.err
    assert "TRANSCRIPTD_TOKEN stays out" in done.err
    assert "s3cr3t" not in done.err + done.out


def test_status_of_one_that_is_not_there(talk: Talk) -> None:
    talk(MANAGER)
    done = run("service", "status")
    assert (done.status, done.out) == (3, "service  not installed: transcriptd service install\n")
    talk(MANAGER)
    found = run("service", "status", "--json").json()
    assert (found["schema"], found["installed"], found["active"], found["pid"]) == (1, False, False, 0)


@pytest.mark.parametrize("platform", ["linux", "macos", "windows", "winsw"])
def test_print_shows_the_file_and_touches_nothing(
    platform: str, talk: Talk, program: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(home))
    before = set(home.rglob("*"))
    done = run("service", "print", "--for", platform, "--program", program)
    assert done.status == 0, done.err
    assert program in done.out
    begins = {"linux": "# Written", "macos": "<?xml", "windows": "<?xml", "winsw": "<!-- For WinSW"}
    assert done.out.startswith(begins[platform])
    assert set(home.rglob("*")) == before


def test_only_what_is_captured_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a task of Windows starts."""
    done = run("service", "run", "--set", "PYTHONPATH=/x")
    assert (done.status, "not PYTHONPATH" in done.err) == (2, True)
    monkeypatch.setenv("CODEX_HOME", "/before")
    done = run("service", "run", "--set", "CODEX_HOME=/x=y")
    assert done.status == 78, "there are no settings"
    assert os.environ["CODEX_HOME"] == "/x=y"


# ---- purge ----


@pytest.fixture
def paths(home: Path) -> Paths:
    made = paths_below(home / "td")
    for name in (
        "state/state.db",
        "state/state.db-wal",
        "state/state.damaged-1.db",
        "state/lives.json",
        "state/spool.1",
    ):
        (made.state / Path(name).name).parent.mkdir(parents=True, exist_ok=True)
        (home / "td" / name).write_text("")
    for name in ("config.toml", "private.list", "redaction.key"):
        (home / "td" / name).write_text("")
    made.logs.mkdir()
    (made.logs / "transcriptd.log.1").write_text("")
    return made


def test_purged_everything_of_ours_is_gone(paths: Paths, home: Path) -> None:
    purging.remove_planned(purging.plan_purge(paths, None), paths)
    assert not (home / "td").exists()


def test_what_is_somebody_elses_stays(paths: Paths, home: Path) -> None:
    """A receiver's data, which on macOS and Windows lies in the same folder; notes of the user's."""
    theirs = [paths.state / "receiver" / "receiver.sqlite3", paths.logs / "notes.txt", home / "td" / "config.toml.mine"]
    for one in theirs:
        one.parent.mkdir(exist_ok=True)
        one.write_text("")
    purging.remove_planned(purging.plan_purge(paths, None), paths)
    assert {one for one in (home / "td").rglob("*") if one.is_file()} == set(theirs)


def test_a_copy_that_is_let_go_meanwhile_stops_no_plan(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each look: an agent may be at work still."""
    folder = paths.kept / "a"
    names = [folder / f"{number}.jsonl" for number in range(3)]
    at, calls = 0, 1

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                names[1].unlink(missing_ok=True)
            return real(*given, **named)

        return call

    while calls > at:
        at, calls = at + 1, 0
        folder.mkdir(parents=True, exist_ok=True)
        for one in names:
            one.write_text("{}\n")
        with monkeypatch.context() as patch:
            for name in ("stat", "lstat"):
                patch.setattr(Path, name, counted(getattr(Path, name)))
            found = purging.plan_purge(paths, None).only_copies
        assert {names[0], names[2]} <= set(found)
    assert at > 3


def test_a_transcript_that_is_nowhere_else_is_never_removed(paths: Paths, home: Path) -> None:
    (paths.kept / "a").mkdir(parents=True)
    only, linked = paths.kept / "a" / "only.jsonl", paths.kept / "a" / "linked.jsonl"
    only.write_text("{}\n")
    (home / "there.jsonl").write_text("{}\n")
    linked.hardlink_to(home / "there.jsonl")
    plan = purging.plan_purge(paths, None)
    purging.remove_planned(plan, paths)
    assert only.read_text() == "{}\n"
    assert f"{paths.kept}: transcripts that are nowhere else (1)" in plan.left
    only.unlink()
    purging.remove_planned(purging.plan_purge(paths, None), paths)
    assert not (home / "td").exists()
    assert (home / "there.jsonl").exists()


def test_tokens_of_the_keyring_go_and_those_in_files_stay(paths: Paths) -> None:
    config = SETTINGS + '[[destination]]\nname = "b"\nurl = "https://b.example.com"\n'
    plan = purging.plan_purge(paths, parse_settings(config, "x"))
    assert plan.tokens == ["b"]
    assert "/token: your token of default" in plan.left


def test_purge_asks_first(talk: Talk, home: Path) -> None:
    talk(MANAGER)
    done = run("service", "uninstall", "--purge")
    assert (done.status, "--yes" in done.err) == (2, True)
    assert (home / ".config/transcriptd/config.toml").exists()
    talk(MANAGER, MANAGER)
    done = run("service", "uninstall", "--purge", "--yes")
    assert done.status == 0, done.err
    assert "config.toml: removed" in done.out
    assert "left: what servers have" in done.out
    assert not (home / ".config/transcriptd").exists()


@pytest.mark.parametrize("answer", ["n", "y"])
def test_on_a_terminal_it_shows_what_would_go(
    answer: str, talk: Talk, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent, "is_terminal", lambda: True)
    said = talk(*([MANAGER] * 2))
    done = run("service", "uninstall", "--purge", stdin=f"{answer}\n")
    file = home / ".config/transcriptd/config.toml"
    assert f"to be removed:\n  {file}\n" in done.out
    assert "left: /token: your token of default" in done.out
    assert "remove all of this? [y/N]" in done.out
    assert (done.status, file.exists()) == ((0, False) if answer == "y" else (2, True))
    assert len(said.said) == 1, "nothing was stopped or removed before"


def test_a_token_that_cant_be_removed_keeps_the_rest(talk: Talk, home: Path) -> None:
    """Without the settings nobody would find it again. The keyring of these tests fails."""
    talk(MANAGER, MANAGER, config='[[destination]]\nurl = "https://b.example.com"\nkeyring = "kwallet"\n')
    done = run("service", "uninstall", "--purge", "--yes")
    assert done.status == 77, done.out + done.err
    assert (home / ".config/transcriptd/config.toml").exists()
