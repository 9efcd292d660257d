"""The unit in a real `systemd --user` of a user who is not root."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.services.__main__ import LINUX
from agent.services.spec import ServiceSpec
from agent.services.systemd import render_unit
from tests.conftest import REPOSITORY, require_tool
from tests.services.manager import HOME, Manager, user_manager

pytestmark = pytest.mark.e2e

AWKWARD = f"{HOME}/Ünï cödé/100% $HOME \"q\" 'a' b\\s ${{X}}"
"""A folder's name with everything that means something to systemd."""


@pytest.fixture
def manager() -> Iterator[Manager]:
    with user_manager() as made:
        yield made


def installed_version() -> int:
    told = subprocess.run([require_tool("systemctl"), "--version"], capture_output=True, text=True, check=True)
    return int(told.stdout.split()[1])


def verify(unit: Path) -> subprocess.CompletedProcess[str]:
    program = require_tool("systemd-analyze")
    return subprocess.run([program, "--user", "verify", str(unit)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("awkward", [False, True], ids=["plain", "awkward"])
def test_systemd_finds_no_fault_with_the_unit(awkward: bool, tmp_path: Path) -> None:
    folder = tmp_path / ("Ünï 100% $X \"q\" 'a' b\\s" if awkward else "plain")
    folder.mkdir()
    program = folder / "transcriptd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    spec = ServiceSpec((str(program), "run"), (("CLAUDE_CONFIG_DIR", str(folder)),), str(folder))
    unit = tmp_path / "transcriptd.service"
    unit.write_text(render_unit(spec, installed_version()))
    done = verify(unit)
    assert (done.returncode, done.stderr) == (0, "")


def test_verify_would_have_told(tmp_path: Path) -> None:
    """It ends with 0 whatever it says, so what it says has to count."""
    unit = tmp_path / "transcriptd.service"
    unit.write_text(render_unit(LINUX, installed_version()).replace("UMask=", "UMaks="))
    assert "UMaks" in verify(unit).stderr


def test_a_unit_forbids_what_it_says_and_keeps_words_as_they_are(manager: Manager) -> None:
    program = f"{AWKWARD}/transcriptd"
    source = (REPOSITORY / "tests" / "services" / "probe.py").read_text(encoding="utf-8")
    manager.write(program.removeprefix(f"{HOME}/"), f"#!{sys.executable}\n{source}", 0o755)
    spec = ServiceSpec((program, f"{AWKWARD} $HOME", "run"), (("CODEX_HOME", AWKWARD),), HOME)
    manager.write(".config/systemd/user/transcriptd.service", render_unit(spec, installed_version()))

    assert manager.run(program).returncode == 0
    outside = json.loads((manager.home / "found.json").read_text())
    (manager.home / "found.json").unlink()
    assert manager.run("systemctl", "--user", "daemon-reload").returncode == 0
    started = manager.run("systemctl", "--user", "start", "transcriptd")
    assert started.returncode == 0, started.stderr
    assert manager.show("transcriptd", "ActiveState") == "active"
    inside = json.loads((manager.home / "found.json").read_text())

    forbidden = ["writable and executable memory", "setuid file", "personality", "being traced", "AF_ALG"]
    assert {name: outside[name] for name in forbidden} == dict.fromkeys(forbidden, "allowed")
    assert all(inside[name] != "allowed" for name in [*forbidden, "user namespace"]), inside
    assert all(inside[name] == "allowed" for name in ("AF_UNIX", "AF_INET", "AF_INET6"))
    told = {name: inside[name] for name in ("umask", "nice", "core", "no new privileges", "filtered")}
    assert told == {"umask": 0o077, "nice": 10, "core": 0, "no new privileges": True, "filtered": True}
    assert inside["arguments"] == [program, f"{AWKWARD} $HOME", "run"]
    assert inside["environment"]["CODEX_HOME"] == AWKWARD
