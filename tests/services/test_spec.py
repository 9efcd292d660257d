"""What a service is to start, and what it gets to know."""

import os
import re
import stat
import sys
from pathlib import Path

import pytest

from agent.errors import ServiceError, UsageError
from agent.services.__main__ import render_all
from agent.services.launchd import render_plist
from agent.services.spec import (
    CAPTURED,
    TRUST,
    ServiceSpec,
    capture_environment,
    check_program,
    find_program,
    make_spec,
)
from agent.services.systemd import render_unit
from agent.services.windows import render_task, render_wrapper
from tests.conftest import REPOSITORY


def make_program(path: Path, text: str = "#!/bin/sh\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


# ---- the environment ----


def test_what_a_service_has_to_know_goes_along() -> None:
    kept, warnings = capture_environment(
        {
            "CLAUDE_CONFIG_DIR": "/c",
            "CODEX_HOME": "~/codex",
            "XDG_STATE_HOME": "/s",
            "https_proxy": "http://proxy:8080",
            "NO_PROXY": "localhost",
            "SSL_CERT_FILE": __file__,
            "REQUESTS_CA_BUNDLE": os.path.relpath(__file__),
            "GEMINI_CLI_HOME": "",
        }
    )
    assert dict(kept) == {
        "CLAUDE_CONFIG_DIR": "/c",
        "CODEX_HOME": os.path.expanduser("~/codex"),
        "XDG_STATE_HOME": "/s",
        "https_proxy": "http://proxy:8080",
        "NO_PROXY": "localhost",
        "SSL_CERT_FILE": __file__,
        "REQUESTS_CA_BUNDLE": __file__,
    }
    assert warnings == []
    assert list(kept) == sorted(kept)


@pytest.mark.parametrize("name", TRUST)
def test_certificates_that_are_not_there_are_told_when_the_service_is_installed(name: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "corp.pem")
    kept, warnings = capture_environment({name: missing})
    assert dict(kept) == {name: missing}
    assert warnings == [f"{name} names {missing}, which is not there"]


def test_what_the_page_advises_for_certificates_and_proxies_gets_into_the_service() -> None:
    page = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    advised = set(re.findall(r"\b(?:SSL_CERT|REQUESTS_CA|CURL_CA|HTTPS?|ALL|NO)_(?:FILE|DIR|BUNDLE|PROXY)\b", page))
    assert {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "NO_PROXY"} <= advised <= set(CAPTURED)


def test_no_secret_gets_into_a_file(tmp_path: Path) -> None:
    secret = "s3cr3t"
    names = ["TRANSCRIPTD_TOKEN", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "PATH", "ANYTHING"]
    environment = dict.fromkeys(names, secret)
    environment |= dict.fromkeys(("HTTPS_PROXY", "http_proxy", "ALL_PROXY"), f"http://user:{secret}@proxy:1")
    spec, warnings = make_spec(environment, tmp_path, typed="", executable=sys.executable, program="/bin/true")
    for text in (render_unit(spec, 257), render_plist(spec), render_task(spec), render_wrapper(spec)):
        assert secret not in text
        assert "http://proxy:1" in text
    assert any("TRANSCRIPTD_TOKEN" in words for words in warnings)
    assert sum("password" in words for words in warnings) == 3
    assert all(secret not in words for words in warnings)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("http://u:p@proxy:8080", "http://proxy:8080"),
        ("http://token@proxy:8080/", "http://proxy:8080/"),
        ("u:p@proxy:8080", "proxy:8080"),
        ("http://u:p@ss@proxy", "http://proxy"),
        ("socks5h://u:p@[::1]:1080", "socks5h://[::1]:1080"),
        ("http://proxy:8080/a@b", "http://proxy:8080/a@b"),
    ],
)
def test_a_proxys_password_stays_out(value: str, kept: str) -> None:
    found, warnings = capture_environment({"HTTP_PROXY": value})
    assert dict(found) == {"HTTP_PROXY": kept}
    assert len(warnings) == (kept != value)


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "a\rb", "a\x1bb", "a\udc80b"])
def test_what_no_service_can_be_told_is_refused(text: str) -> None:
    for parts in [((text,), ()), (("/x",), (("CODEX_HOME", text),))]:
        with pytest.raises(UsageError, match="no service can be told"):
            ServiceSpec(parts[0], parts[1], "/logs")


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "ä", "x" * 65])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="a service's name"):
        ServiceSpec(("/x",), (), "/logs", name)


# ---- the command ----


class Machine:
    """An install in a virtual environment, as pipx makes it."""

    def __init__(self, folder: Path) -> None:
        self.python = make_program(folder / "venvs" / "transcriptd" / "bin" / "python")
        self.script = make_program(Path(self.python).with_name("transcriptd"), f"#!{self.python}\n")
        self.folder = folder

    def find(self, *path: Path, typed: str = "") -> tuple[str, ...]:
        environment = {"PATH": os.pathsep.join(map(str, path))}
        return find_program(environment, typed=typed, executable=self.python, windows=False)


def test_a_link_on_the_path_goes_before_what_it_leads_to(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    link = tmp_path / "bin" / "transcriptd"
    link.parent.mkdir()
    link.symlink_to(machine.script)
    assert machine.find(link.parent, typed=machine.script) == (str(link),)
    assert machine.find(Path(machine.script).parent, link.parent) == (machine.script,), "the user's own order"


def test_a_link_through_a_versioned_folder_is_the_stable_name(tmp_path: Path) -> None:
    """As Homebrew's: bin/x → Cellar/x/1.2.3/bin/x → libexec/bin/x."""
    machine = Machine(tmp_path / "Cellar" / "transcriptd" / "1.2.3")
    inner = tmp_path / "Cellar" / "transcriptd" / "1.2.3" / "bin" / "transcriptd"
    inner.parent.mkdir()
    inner.symlink_to(machine.script)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "transcriptd").symlink_to(inner)
    assert machine.find(tmp_path / "bin", typed=machine.script) == (str(tmp_path / "bin" / "transcriptd"),)


def test_another_install_on_the_path_is_not_this_one(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    make_program(tmp_path / "other" / "transcriptd", "#!/usr/bin/python3\n")
    assert machine.find(tmp_path / "other") == (machine.script,)
    ours = make_program(tmp_path / "third" / "transcriptd", f"#!{machine.python}\n")
    assert machine.find(tmp_path / "other", tmp_path / "third") == (ours,), "a script that runs our Python"


def test_without_a_command_python_runs_the_module(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    Path(machine.script).unlink()
    assert machine.find(tmp_path) == (machine.python, "-m", "agent")


def test_on_windows_nothing_opens_a_window(tmp_path: Path) -> None:
    python = make_program(tmp_path / "python.exe")
    found = find_program({}, typed="", executable=python, windows=True)
    assert found == (python, "-m", "agent")
    windowless = make_program(tmp_path / "pythonw.exe")
    assert find_program({}, typed="", executable=python, windows=True) == (windowless, "-m", "agent")


def test_a_program_that_will_be_gone_or_cant_be_run_is_refused(tmp_path: Path) -> None:
    program = make_program(tmp_path / "transcriptd")
    with pytest.raises(ServiceError, match="temporary folder"):
        check_program((program,), {"TMPDIR": str(tmp_path)})
    with pytest.raises(ServiceError, match="temporary folder"):
        check_program((program,), {})  # pytest's folders are below the system's
    os.chmod(program, stat.S_IRUSR)
    with pytest.raises(UsageError, match="can't be run"):
        check_program((program,), {})
    with pytest.raises(UsageError, match="absolute"):
        check_program(("transcriptd",), {})
    check_program(("/bin/sh",), {})


# ---- service-files/ ----


@pytest.mark.parametrize("name", sorted(render_all()))
def test_the_files_that_come_along_are_what_is_rendered(name: str) -> None:
    assert (REPOSITORY / "service-files" / name).read_bytes() == render_all()[name], "make service-files"
