"""The user unit: its text, and what `systemctl` is asked. A real one is in test_real_systemd.py."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import ServiceError, ServiceRefused
from agent.services.spec import ServiceSpec
from agent.services.state import ServiceState
from agent.services.systemd import Systemd, parse_unit, render_unit
from tests.services.recorded import Conversation, make_world

SPEC = ServiceSpec(("/bin/sh", "run"), (), "/logs")
VERSION = ("systemctl --version", 0, "systemd 252 (252.39)\n+PAM")
MANAGER = ("systemctl --user show --property=Version --property=UnitPath", 0, "Version=252\nUnitPath=/etc /home\n")
DEAD = ("systemctl --user show --property=Version --property=UnitPath", 1, "Failed to connect to bus: No medium found")
SHOW = "systemctl --user show transcriptd.service*"
ODD = st.text(st.sampled_from("%$\\\"' {}ab"))
TEXT = ODD | st.text(
    st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=("Cs", "Cc", "Zl", "Zp"))
)


def shown(**facts: str) -> tuple[str, int, str]:
    usual = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active", "NeedDaemonReload": "no"}
    more = {"MainPID": "17", "ActiveEnterTimestampMonotonic": "900000000"}
    return SHOW, 0, "".join(f"{name}={value}\n" for name, value in {**usual, **more, **facts}.items())


def write(home: Path, text: str = "") -> Path:
    file = home / ".config" / "systemd" / "user" / "transcriptd.service"
    file.parent.mkdir(parents=True)
    file.write_text(text or render_unit(SPEC, 252))
    return file


# ---- its text ----


@given(TEXT, TEXT, TEXT)
@example("a%%b", "100%%", "%h %%h")
@example("a$$b", '"$HOME" \\', "'it''s' \\\\")
def test_a_unit_says_what_it_was_told(program: str, argument: str, value: str) -> None:
    spec = ServiceSpec((f"/{program}", argument or "x", "run"), (("CODEX_HOME", value),), "/logs")
    assert parse_unit(render_unit(spec, 257)) == (spec.command, {"CODEX_HOME": value})


def test_what_the_field_asks_for_is_there() -> None:
    lines = render_unit(SPEC, 254).splitlines()
    for line in """
        Type=notify NotifyAccess=main Restart=on-failure RestartSec=5 RestartSteps=8 RestartMaxDelaySec=300
        StartLimitIntervalSec=0 RestartPreventExitStatus=78 WatchdogSec=180 WantedBy=default.target UMask=0077 Nice=10
        NoNewPrivileges=yes SystemCallFilter=@system-service SystemCallArchitectures=native MemoryDenyWriteExecute=yes
        RestrictSUIDSGID=yes RestrictRealtime=yes RestrictNamespaces=yes LockPersonality=yes
        """.split():  # noqa: SIM905 - a paragraph of lines
        assert line in lines
    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK" in lines
    breaking = (
        "ProtectSystem ProtectHome PrivateTmp PrivateDevices ProtectKernel ProtectClock CapabilityBoundingSet State"
    )
    assert not [line for line in lines for key in breaking.split() if line.startswith(key)]


def test_an_older_systemd_is_told_only_what_it_knows() -> None:
    assert "RestartSteps" not in render_unit(SPEC, 253)


# ---- what is asked ----


def test_installed_anew(tmp_path: Path) -> None:
    talk = Conversation(
        VERSION,
        MANAGER,
        shown(LoadState="not-found", UnitFileState="", ActiveState="inactive"),
        ("systemctl --user daemon-reload", 0, ""),
        shown(UnitFileState="disabled", ActiveState="inactive"),
        ("systemctl --user enable transcriptd.service", 0, ""),
        ("systemctl --user start transcriptd.service", 0, ""),
    )
    done = Systemd(make_world(tmp_path, talk), "transcriptd").install(SPEC, outdated=False)
    file = tmp_path / ".config/systemd/user/transcriptd.service"
    assert done == [f"{file}: written", "enabled: it starts with the session", "started"]
    assert file.read_text() == render_unit(SPEC, 252)
    assert file.stat().st_mode & 0o777 == 0o644
    assert talk.is_over()


def test_installed_again_nothing_happens(tmp_path: Path) -> None:
    file = write(tmp_path)
    before = file.stat().st_ino
    talk = Conversation(VERSION, MANAGER, shown(), shown(), shown())
    assert Systemd(make_world(tmp_path, talk), "transcriptd").install(SPEC, outdated=False) == []
    assert file.stat().st_ino == before
    assert talk.is_over()


def test_a_unit_that_changed_is_read_anew_and_started_again(tmp_path: Path) -> None:
    write(tmp_path, "of another version")
    reload, restart = "systemctl --user daemon-reload", "systemctl --user restart transcriptd.service"
    talk = Conversation(VERSION, MANAGER, shown(), (reload, 0, ""), shown(), (restart, 0, ""))
    done = Systemd(make_world(tmp_path, talk), "transcriptd").install(SPEC, outdated=False)
    assert [words.split(": ")[-1] for words in done] == ["changed", "restarted"]


@pytest.mark.parametrize(
    ("turns", "words", "hint"),
    [
        ([("systemctl --version", 127, "systemctl: not found")], "systemd, which would start", "transcriptd run"),
        ([("systemctl --version", 0, "systemd 219\n")], "systemd 219 is too old", ""),
        ([VERSION, DEAD], "can't be reached", "sudo loginctl enable-linger ada"),
        ([VERSION, MANAGER, shown(UnitFileState="masked")], "is masked", "systemctl --user unmask"),
    ],
    ids=["no systemd", "too old", "no session", "masked"],
)
def test_what_stands_in_the_way_is_said_before_anything_is_written(
    turns: list[tuple[str, int, str]], words: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(ServiceError, match=words) as raised:
        Systemd(make_world(tmp_path, Conversation(*turns)), "transcriptd").install(SPEC, outdated=False)
    assert hint in raised.value.hint
    assert isinstance(raised.value, ServiceRefused) == (words == "is masked")
    assert not list(tmp_path.iterdir())


def test_a_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    failed = (
        "systemctl --user start transcriptd.service",
        1,
        "Job for transcriptd.service failed because the control process exited with error code.",
    )
    talk = Conversation(MANAGER, failed, shown(ActiveState="failed", Result="exit-code", ExecMainStatus="78"))
    with pytest.raises(ServiceError, match="exit status 78: the settings are wrong") as raised:
        Systemd(make_world(tmp_path, talk), "transcriptd").start()
    assert raised.value.hint == "transcriptd config check"


def test_what_is_not_installed_cant_be_started(tmp_path: Path) -> None:
    start = ("systemctl --user start transcriptd.service", 5, "Unit transcriptd.service not found.")
    talk = Conversation(MANAGER, start, shown(LoadState="not-found", ActiveState="inactive"))
    with pytest.raises(ServiceError, match="not installed") as raised:
        Systemd(make_world(tmp_path, talk), "transcriptd").start()
    assert raised.value.hint == "transcriptd service install"


def test_without_a_manager_the_file_goes_all_the_same(tmp_path: Path) -> None:
    file = write(tmp_path)
    wanted = file.with_name("default.target.wants") / file.name
    wanted.parent.mkdir()
    wanted.symlink_to(file)
    assert Systemd(make_world(tmp_path, Conversation(DEAD)), "transcriptd").uninstall() == [f"{file}: removed"]
    assert not list(tmp_path.iterdir())


def test_a_shell_that_lacks_the_way_to_its_manager_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.isdir", lambda path: path == "/run/user/501")
    asked = "env XDG_RUNTIME_DIR=/run/user/501 systemctl --user"
    talk = Conversation((f"{asked} show*", 0, "Version=252\n"), (f"{asked} stop transcriptd.service", 0, ""))
    Systemd(make_world(tmp_path, talk, {"XDG_RUNTIME_DIR": ""}), "transcriptd").stop()

    assert talk.is_over()


def test_a_folder_that_the_manager_does_not_read_is_not_written_to(tmp_path: Path) -> None:
    """XDG_CONFIG_HOME of a shell's start file, which the manager never saw."""
    read = f"UnitPath={tmp_path}/.config/systemd/user /etc/systemd/user\n"
    talk = Conversation((MANAGER[0], 0, read))
    world = make_world(tmp_path, talk, {"XDG_CONFIG_HOME": str(tmp_path / "elsewhere")})
    found = Systemd(world, "transcriptd").state(SPEC)
    assert found.file == f"{tmp_path}/.config/systemd/user/transcriptd.service"


# ---- how it stands ----


def state(home: Path, *turns: tuple[str, int, str], spec: ServiceSpec = SPEC) -> ServiceState:
    return Systemd(make_world(home, Conversation(MANAGER, *turns)), "transcriptd").state(spec)


def test_how_a_service_stands_that_works(tmp_path: Path) -> None:
    file = write(tmp_path)
    found = state(tmp_path, shown(), VERSION)
    assert found == ServiceState("systemd", True, True, True, str(file), SPEC.command, "", "", 17, 1900.0)


def test_one_that_is_not_there(tmp_path: Path) -> None:
    found = state(tmp_path)
    assert (found.installed, found.why, found.hint) == (False, "", "transcriptd service install")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"UnitFileState": "disabled"}, "it does not start with the session"),
        ({"ActiveState": "inactive", "Result": "success"}, "it was stopped"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "78"}, "78: the settings are wrong"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "ExecMainStatus": "1"}, "about to start again"),
        ({"ActiveState": "failed", "Result": "watchdog"}, "ended by the watchdog"),
    ],
)
def test_what_is_wrong_is_said(facts: dict[str, str], why: str, tmp_path: Path) -> None:
    write(tmp_path)
    found = state(tmp_path, shown(**facts), VERSION)
    assert why in found.why
    assert found.hint


@pytest.mark.parametrize(
    ("installed", "why"),
    [
        (ServiceSpec(("/gone/transcriptd", "run"), (), "/logs"), "starts /gone/transcriptd, which is not there"),
        (ServiceSpec(("/bin/true", "run"), (), "/logs"), "it starts /bin/true run, and this is /bin/sh run"),
        (ServiceSpec(SPEC.command, (("CODEX_HOME", "/x"),), "/logs"), "with another CODEX_HOME"),
        (ServiceSpec(SPEC.command, (("TRANSCRIPTD_HOME", "/x"),), "/logs"), "it is for another home: /x"),
    ],
)
def test_one_that_is_not_of_this_install(installed: ServiceSpec, why: str, tmp_path: Path) -> None:
    write(tmp_path, render_unit(installed, 252))
    assert why in state(tmp_path, shown(), VERSION).why


def test_one_that_somebody_else_wrote(tmp_path: Path) -> None:
    write(tmp_path, "[Service]\n")
    assert state(tmp_path, shown(), VERSION).why == "its file is not one of transcriptd"


def test_one_whose_manager_is_away(tmp_path: Path) -> None:
    write(tmp_path)
    away = (SHOW, 1, "Failed to connect to bus")
    found = Systemd(make_world(tmp_path, Conversation(DEAD, away, VERSION)), "transcriptd").state(SPEC)
    assert (found.installed, found.active, "can't be reached" in found.why) == (True, False, True)


@pytest.mark.parametrize(("status", "answer", "notes"), [(0, "no\n", 1), (0, "yes\n", 0), (127, "not found", 0)])
def test_who_does_not_linger_is_told(status: int, answer: str, notes: int, tmp_path: Path) -> None:
    talk = Conversation(("loginctl show-user 501 --property=Linger --value", status, answer))
    found = Systemd(make_world(tmp_path, talk), "transcriptd").notes()
    assert len(found) == notes
    assert all(hint == "loginctl enable-linger" for _, hint in found)
