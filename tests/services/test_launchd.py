"""The launch agent, by launchd.plist(5), and conversations with `launchctl` as launchctl(1) and its users have them."""

import plistlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ServiceError, ServiceRefused
from agent.services.__main__ import MACOS
from agent.services.launchd import GONE_WITHIN_S, LOOK_S, Launchd, parse_plist, render_plist
from agent.services.spec import ServiceSpec
from tests.services.recorded import Conversation, make_world

TYPES: dict[str, Any] = {
    "Label": str,
    "ProgramArguments": [str],
    "EnvironmentVariables": {str: str},
    "RunAtLoad": bool,
    "KeepAlive": {"SuccessfulExit": bool},
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": ("Background", "Standard", "Adaptive", "Interactive"),
    "LowPriorityIO": bool,
    "Nice": int,
    "Umask": int,
    "HardResourceLimits": {"Core": int},
    "StandardOutPath": str,
    "StandardErrorPath": str,
}
"""Key → type, of launchd.plist(5). launchd ignores what it does not know, and what is of another type."""

DISABLED = "launchctl print-disabled gui/501"
PRINT = "launchctl print gui/501/transcriptd"
BOOTOUT = ("launchctl bootout gui/501/transcriptd", 0, "")
NONE_DISABLED = (DISABLED, 0, 'disabled services = {\n\t"com.apple.x" => disabled\n\t"transcriptd" => enabled\n}\n')
UNKNOWN = (PRINT, 113, 'Could not find service "transcriptd" in domain for user gui: 501')
JOB = """gui/501/transcriptd = {
\tactive count = 1
\tpath = /Users/ada/Library/LaunchAgents/transcriptd.plist
\tstate = running
\tprogram = /x

\truns = 1
\tpid = 4711
\timmediate reason = speculative
\tlast exit code = (never exited)
}
"""
RUNNING = (PRINT, 0, JOB)
ENDED = (PRINT, 0, "gui/501/transcriptd = {\n\tstate = not running\n\truns = 3\n\tlast exit code = 78: EX_CONFIG\n}\n")
STOPPED = (PRINT, 0, "gui/501/transcriptd = {\n\tstate = not running\n\truns = 3\n\tlast exit code = 0\n}\n")
TEXT = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f￾￿", exclude_categories=("Cs", "Cc")))


@pytest.fixture
def spec(tmp_path: Path) -> ServiceSpec:
    return ServiceSpec(("/bin/sh", "run"), (), str(tmp_path / "logs"))


def launchd(home: Path, *turns: tuple[str, int, str]) -> tuple[Launchd, Conversation]:
    talk = Conversation(*turns)
    return Launchd(make_world(home, talk), "transcriptd"), talk


def plist(home: Path) -> Path:
    return home / "Library" / "LaunchAgents" / "transcriptd.plist"


def bootstrap(home: Path, status: int = 0, answer: str = "") -> tuple[str, int, str]:
    return f"launchctl bootstrap gui/501 {plist(home)}", status, answer


def write(home: Path, spec: ServiceSpec) -> None:
    plist(home).parent.mkdir(parents=True)
    plist(home).write_text(render_plist(spec))


# ---- its text ----


def fits(value: object, kind: Any) -> bool:
    if isinstance(kind, tuple):
        return value in kind
    if isinstance(kind, list):
        return isinstance(value, list) and all(fits(one, kind[0]) for one in value)
    if isinstance(kind, dict) and isinstance(value, dict):
        return all(fits(one, kind.get(key, kind.get(str))) for key, one in value.items())
    return type(value) is kind


def test_every_key_is_one_of_launchd_and_of_its_type() -> None:
    keys = plistlib.loads(render_plist(MACOS).encode())
    assert {key for key, value in keys.items() if not fits(value, TYPES.get(key))} == set()


def test_what_the_field_asks_for_is_there() -> None:
    keys = plistlib.loads(render_plist(MACOS).encode())
    assert keys["KeepAlive"] == {"SuccessfulExit": False}
    assert keys["ThrottleInterval"] >= 30
    assert (keys["ProcessType"], keys["Umask"], keys["RunAtLoad"]) == ("Background", 0o077, True)
    assert "EnvironmentVariables" not in plistlib.loads(render_plist(ServiceSpec(("/x",), (), "/l")).encode())


@given(TEXT, TEXT)
def test_a_plist_says_what_it_was_told(path: str, value: str) -> None:
    spec = ServiceSpec((f"/{path}", "run"), (("CODEX_HOME", value),), "/logs")
    assert parse_plist(render_plist(spec).encode()) == (spec.command, {"CODEX_HOME": value})


@pytest.mark.parametrize("content", [b"", b"<plist>", b"<?xml version='1.0'?><a>", b"bplist00", b"[]"])
def test_what_is_no_plist_of_ours(content: bytes) -> None:
    assert parse_plist(content) == ((), {})


# ---- what is asked ----


def test_installed_anew(tmp_path: Path, spec: ServiceSpec) -> None:
    one, talk = launchd(tmp_path, NONE_DISABLED, NONE_DISABLED, UNKNOWN, bootstrap(tmp_path), ENDED, RUNNING)
    done = one.install(spec, outdated=False)
    assert done == [f"{plist(tmp_path)}: written", "started: it starts with the login from now on"]
    assert plist(tmp_path).stat().st_mode & 0o777 == 0o644, "launchd takes no file that others may write"
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    assert talk.is_over()


def test_installed_again_nothing_happens(tmp_path: Path, spec: ServiceSpec) -> None:
    write(tmp_path, spec)
    one, talk = launchd(tmp_path, NONE_DISABLED, NONE_DISABLED, RUNNING, RUNNING)
    assert one.install(spec, outdated=False) == []
    assert talk.is_over()


def test_what_is_loaded_is_gone_before_it_is_loaded_again(tmp_path: Path, spec: ServiceSpec) -> None:
    """bootout returns at once; who bootstraps before launchd has let go gets "Input/output error"."""
    write(tmp_path, ServiceSpec(("/bin/true", "run"), (), spec.logs))
    turns = [RUNNING, BOOTOUT, RUNNING, RUNNING, UNKNOWN, bootstrap(tmp_path), RUNNING]
    one, talk = launchd(tmp_path, NONE_DISABLED, NONE_DISABLED, *turns)
    assert one.install(spec, outdated=False) == [f"{plist(tmp_path)}: changed", "restarted"]
    assert talk.is_over()


def test_a_bootstrap_that_comes_too_early_is_tried_again(tmp_path: Path, spec: ServiceSpec) -> None:
    early = bootstrap(tmp_path, 37, "Bootstrap failed: 37: Operation already in progress")
    turns = [NONE_DISABLED, NONE_DISABLED, UNKNOWN, early, early, bootstrap(tmp_path), RUNNING]
    one, talk = launchd(tmp_path, *turns)
    assert one.install(spec, outdated=False)
    assert talk.is_over()


def test_a_bootout_without_an_end_is_given_up(tmp_path: Path, spec: ServiceSpec) -> None:
    write(tmp_path, spec)
    one, talk = launchd(tmp_path, RUNNING, BOOTOUT, *[RUNNING] * (int(GONE_WITHIN_S / LOOK_S) + 3))
    with pytest.raises(ServiceError, match="launchd does not let go of it within 40 s"):
        one.uninstall()
    assert plist(tmp_path).exists()
    assert talk.is_over()


def test_an_older_version_that_runs_is_started_again(tmp_path: Path, spec: ServiceSpec) -> None:
    write(tmp_path, spec)
    kick = ("launchctl kickstart -k gui/501/transcriptd", 0, "")
    one, talk = launchd(tmp_path, NONE_DISABLED, NONE_DISABLED, RUNNING, RUNNING, RUNNING, kick, RUNNING)
    assert one.install(spec, outdated=True) == ["restarted: an older version was running"]
    assert talk.is_over()


@pytest.mark.parametrize("word", ["disabled", "true"], ids=["since macOS 13", "before"])
def test_who_turned_it_off_in_login_items_is_obeyed(word: str, tmp_path: Path, spec: ServiceSpec) -> None:
    off = (DISABLED, 0, f'disabled services = {{\n\t"transcriptd" => {word}\n}}\n')
    one, _ = launchd(tmp_path, off, off)
    with pytest.raises(ServiceRefused, match="turned off in this Mac's Login Items") as raised:
        one.install(spec, outdated=False)
    assert "launchctl enable gui/501/transcriptd" in raised.value.hint
    assert not plist(tmp_path).exists()


def test_another_service_that_is_turned_off_is_not_ours(tmp_path: Path) -> None:
    off = (DISABLED, 0, 'disabled services = {\n\t"transcriptd-2" => disabled\n\t"xtranscriptd" => true\n}\n')
    launchd(tmp_path, off, off)[0].check()


@pytest.mark.parametrize("status", [112, 125])
def test_nobody_at_the_screen(status: int, tmp_path: Path, spec: ServiceSpec) -> None:
    refused = bootstrap(tmp_path, status, "Bootstrap failed: 125: Domain does not support specified action")
    one, _ = launchd(tmp_path, NONE_DISABLED, NONE_DISABLED, UNKNOWN, refused)
    with pytest.raises(ServiceError, match="nobody is logged in at the screen"):
        one.install(spec, outdated=False)


def test_a_bootstrap_that_fails_says_what_launchd_said(tmp_path: Path, spec: ServiceSpec) -> None:
    refused = bootstrap(tmp_path, 5, "Bootstrap failed: 5: Input/output error")
    one, _ = launchd(tmp_path, NONE_DISABLED, NONE_DISABLED, UNKNOWN, refused, UNKNOWN, NONE_DISABLED, NONE_DISABLED)
    with pytest.raises(ServiceError, match=r"bootstrap failed \(5\): Bootstrap failed: 5: Input/output error"):
        one.install(spec, outdated=False)


def test_one_that_ends_at_once_says_with_what(tmp_path: Path, spec: ServiceSpec) -> None:
    one, _ = launchd(tmp_path, NONE_DISABLED, NONE_DISABLED, UNKNOWN, bootstrap(tmp_path), *[ENDED] * 100)
    with pytest.raises(ServiceError, match="exit status 78") as raised:
        one.install(spec, outdated=False)
    assert raised.value.hint == "transcriptd config check"


def test_without_launchctl(tmp_path: Path, spec: ServiceSpec) -> None:
    one, _ = launchd(tmp_path, (DISABLED, 127, "launchctl: not found"))
    with pytest.raises(ServiceError, match="launchctl"):
        one.install(spec, outdated=False)


def test_uninstalled_all_is_gone(tmp_path: Path, spec: ServiceSpec) -> None:
    write(tmp_path, spec)
    one, talk = launchd(tmp_path, RUNNING, BOOTOUT, RUNNING, UNKNOWN, UNKNOWN)
    assert one.uninstall() == [f"{plist(tmp_path)}: removed"]
    assert one.uninstall() == []
    assert not plist(tmp_path).exists()
    assert talk.is_over()


@pytest.mark.parametrize("status", [3, 36, 113])
def test_a_bootout_of_what_goes_anyway_is_fine(status: int, tmp_path: Path, spec: ServiceSpec) -> None:
    write(tmp_path, spec)
    one, _ = launchd(tmp_path, RUNNING, (BOOTOUT[0], status, "Boot-out failed: 36: Operation now in progress"), UNKNOWN)
    assert one.uninstall()


def test_stopped_it_stays_so(tmp_path: Path, spec: ServiceSpec) -> None:
    """A signal, and an exit status of 0: KeepAlive leaves it alone."""
    write(tmp_path, spec)
    signal = ("launchctl kill SIGTERM gui/501/transcriptd", 0, "")
    one, talk = launchd(tmp_path, RUNNING, signal, RUNNING, STOPPED, STOPPED)
    one.stop()
    one.stop()
    assert talk.is_over()


def test_started_again(tmp_path: Path, spec: ServiceSpec) -> None:
    write(tmp_path, spec)
    one, talk = launchd(tmp_path, STOPPED, ("launchctl kickstart gui/501/transcriptd", 0, ""), RUNNING)
    one.start()
    assert talk.is_over()
    one, talk = launchd(tmp_path, UNKNOWN, NONE_DISABLED, NONE_DISABLED, bootstrap(tmp_path), RUNNING)
    one.start()
    assert talk.is_over()


def test_what_is_not_installed_cant_be_started(tmp_path: Path) -> None:
    for act in ("start", "restart"):
        with pytest.raises(ServiceError, match="not installed"):
            getattr(launchd(tmp_path)[0], act)()


# ---- how it stands ----


@pytest.mark.parametrize(
    ("printed", "active", "why"),
    [
        (RUNNING, True, ""),
        (ENDED, False, "it ended with exit status 78"),
        (STOPPED, False, "it was stopped"),
        (UNKNOWN, False, "launchd does not know it"),
    ],
)
def test_how_it_stands(
    printed: tuple[str, int, str], active: bool, why: str, tmp_path: Path, spec: ServiceSpec
) -> None:
    write(tmp_path, spec)
    found = launchd(tmp_path, printed, NONE_DISABLED)[0].state(spec)
    assert (found.installed, found.enabled, found.active, found.why) == (True, True, active, why)
    assert found.pid == (4711 if active else 0)
    assert bool(found.hint) == bool(why)


def test_how_it_stands_turned_off(tmp_path: Path, spec: ServiceSpec) -> None:
    write(tmp_path, spec)
    off = (DISABLED, 0, '\t"transcriptd" => disabled\n')
    found = launchd(tmp_path, UNKNOWN, off)[0].state(spec)
    assert (found.enabled, found.why) == (False, "it is turned off in Login Items")
    assert launchd(tmp_path / "x")[0].state(spec).installed is False
