"""The unit in a real `systemd --user` of a user who is not root."""

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from agent.services.__main__ import LINUX
from agent.services.spec import ServiceSpec
from agent.services.systemd import render_unit
from tests.conftest import REPOSITORY, require_tool
from tests.e2e.processes import TOKEN, Receiver, receiver
from tests.services.manager import HOME, UID, Manager, last_json, user_manager
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

AWKWARD = f"{HOME}/Ünï cödé/100%h $HOME \"q\" 'a' b\\s ${{X}}"
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
    folder = tmp_path / ("Ünï 100%h $X \"q\" 'a' b\\s" if awkward else "plain")
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

    forbidden = ["writable and executable memory", "setuid file", "personality", "being traced"]
    assert {name: outside[name] for name in forbidden} == dict.fromkeys(forbidden, "allowed")
    assert all(inside[name] != "allowed" for name in [*forbidden, "user namespace"]), inside
    assert outside["AF_PACKET"] == os.strerror(errno.EPERM), "for want of a privilege"
    assert inside["AF_PACKET"] == os.strerror(errno.EAFNOSUPPORT), "for there is no such thing"
    assert all(inside[name] == "allowed" for name in ("AF_UNIX", "AF_INET", "AF_INET6"))
    told = {name: inside[name] for name in ("umask", "nice", "core", "no new privileges", "filtered")}
    assert told == {"umask": 0o077, "nice": 10, "core": 0, "no new privileges": True, "filtered": True}
    assert inside["arguments"] == [program, f"{AWKWARD} $HOME", "run"]
    assert inside["environment"]["CODEX_HOME"] == AWKWARD


# ---- the agent in its unit ----

FAULTS = f"""
import os, threading, time
def armed(name):
    return os.path.exists("{HOME}/faults/" + name)
if armed("older"):
    import agent
    agent.__version__ = "0.0.9"
if armed("slow"):
    from agent.system.control_socket import server
    begin = server.ControlServer.__init__
    def late(self, *arguments, **options):
        os.rename("{HOME}/faults/slow", "{HOME}/faults/waiting")
        while armed("waiting"):
            time.sleep(0.02)
        begin(self, *arguments, **options)
    server.ControlServer.__init__ = late
if armed("impatient"):
    from agent.core.delivery import lifecycle
    lifecycle.KEYRING_WAIT_S = 0.5
if armed("stuck"):
    os.rename("{HOME}/faults/stuck", "{HOME}/faults/was-stuck")
    from agent.delivery.push import pusher
    from agent.daemon.process import workers
    workers.PUSH_S = 0.5
    pusher.Pusher.run = lambda *arguments: threading.Event().wait()
"""
"""What goes wrong when a file of that name is there: the agent itself stays as it is."""

DROP_IN = f"""
[Service]
RestartSec=100ms
Environment=PYTHONPATH={HOME}/faults PYTHONDONTWRITEBYTECODE=1
"""

UNIT = ".config/systemd/user/transcriptd.service"
OURS = (".config/transcriptd", ".local/state")
SESSION = "5e551014-0000-4000-8000-000000000001"


class Owner:
    """Who installs the service, and what they type."""

    def __init__(self, manager: Manager, url: str) -> None:
        self.manager = manager
        self.program = f"{HOME}/.local/bin/transcriptd"
        # A clone in a temporary folder would be refused.
        self.named = ["--program", self.program] if Path(tempfile.gettempdir()) in REPOSITORY.parents else []
        self.settings = (
            f'[[destination]]\nurl = "{url}"\ntoken = "file"\ntoken_file = "{HOME}/token"\n[push]\ninterval_s = 1\n'
        )
        self._entries = 0

    def do(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.manager.run(self.program, *arguments, **more)

    def install(self, **more: str) -> dict[str, Any]:
        done = self.do("service", "install", *self.named, "--json", **more)
        assert done.returncode == 0, done.stderr
        return last_json(done)

    def service(self) -> dict[str, Any]:
        return last_json(self.do("service", "status", *self.named, "--json"))

    def arm(self, fault: str) -> None:
        self.manager.write(f"faults/{fault}", "")

    def condition(self) -> str:
        return str(last_json(self.do("status", "--json"))["destinations"][0]["condition"])

    def drop_in(self, more: str) -> None:
        """What a test can't wait for; it is read at the next start."""
        self.manager.write(f"{UNIT}.d/test.conf", f"{DROP_IN}{more}\n")
        self.manager.systemctl("daemon-reload")

    def fault(self, name: str) -> Path:
        return self.manager.home / "faults" / name

    def type_on(self) -> None:
        """The session goes on by an entry."""
        self._entries += 1
        entry = {"uuid": f"00000000-0000-4000-8000-{self._entries:012}", "type": "user", "cwd": HOME}
        with (self.manager.home / f".claude/projects/p/{SESSION}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def is_synced(self, server: Receiver) -> bool:
        try:
            return server.entries(SESSION).count(b"\n") == self._entries
        except requests.HTTPError:
            return False

    def property(self, name: str) -> str:
        return self.manager.show("transcriptd", name)


def test_a_service_from_its_installation_to_its_end(manager: Manager, tmp_path: Path) -> None:
    with receiver(tmp_path / "data") as server:
        owner = Owner(manager, server.url)
        manager.write("token", TOKEN)
        manager.write("faults/sitecustomize.py", FAULTS)
        manager.write(f".claude/projects/p/{SESSION}.jsonl", "")
        owner.drop_in("")
        manager.write(".local/bin/note", "")
        (manager.home / ".local/bin/transcriptd").symlink_to(Path(sys.prefix) / "bin" / "transcriptd")
        before = manager.files()

        refused = owner.do("service", "install", *owner.named)
        assert (refused.returncode, "transcriptd login URL" in refused.stderr) == (78, True)
        assert manager.files() == before
        manager.write(".config/transcriptd/config.toml", owner.settings)
        before = manager.files()

        # READY only after the socket answers.
        owner.arm("slow")
        installing = threading.Thread(target=owner.install)
        installing.start()
        wait_for(owner.fault("waiting").exists, "a socket that is late")
        assert owner.property("ActiveState") == "activating"
        assert owner.do("service", "status").returncode == 3
        owner.fault("waiting").unlink()
        installing.join()
        assert owner.manager.systemctl("is-enabled", "transcriptd") == "enabled"
        found = owner.service()
        assert (found["kind"], found["installed"], found["enabled"], found["active"]) == ("systemd", True, True, True)
        assert (found["command"], found["why"]) == ([owner.program, "run"], "")
        assert str(found["pid"]) == owner.property("MainPID")
        status = owner.do("status", "--json")
        assert status.returncode == 0, status.stderr

        # It works under all that the unit forbids.
        owner.type_on()
        wait_for(lambda: owner.is_synced(server), "the first entry")

        # Killed, it comes back and catches up.
        manager.run("sh", "-c", f"kill -KILL {owner.property('MainPID')}")
        owner.type_on()
        wait_for(lambda: owner.is_synced(server), "what was written meanwhile")
        assert int(owner.property("NRestarts")) >= 1

        # Again: nothing to do.
        process = owner.property("MainPID")
        again = owner.install()
        assert (again["changed"], again["done"], owner.property("MainPID")) == (False, [], process)

        # New settings without a new process.
        manager.write(".config/transcriptd/config.toml", owner.settings + '[log]\nlevel = "debug"\n')
        assert manager.run("systemctl", "--user", "reload", "transcriptd").returncode == 0
        assert owner.property("MainPID") == process

        # A thread that is stuck: the watchdog.
        assert owner.do("service", "stop").returncode == 0
        assert owner.property("ActiveState") == "inactive"
        owner.arm("stuck")
        owner.drop_in("WatchdogSec=3s")
        assert owner.do("service", "start").returncode == 0
        assert owner.fault("was-stuck").exists()
        owner.type_on()
        wait_for(lambda: owner.is_synced(server), "what a stuck thread held up", 30)
        assert int(owner.property("NRestarts")) >= 1, "counted anew since it was started by hand"

        owner.drop_in("")

        # Wrong settings: it ends, and that is that.
        manager.write(".config/transcriptd/config.toml", "[[destination]]\nurll = 1\n")
        wrong = owner.do("service", "restart")
        assert wrong.returncode == 1
        assert "exit status 78" in wrong.stderr
        assert "transcriptd config check" in wrong.stderr
        assert (owner.property("ActiveState"), owner.property("SubState")) == ("failed", "failed")
        assert owner.do("service", "status").returncode == 3
        manager.write(".config/transcriptd/config.toml", owner.settings)

        # An older version runs: brought up to date in place. So is a unit that would be written otherwise now.
        owner.arm("older")
        assert owner.do("service", "start").returncode == 0
        owner.fault("older").unlink()
        assert owner.install()["done"] == ["restarted: an older version was running"]
        changed = owner.install(CODEX_HOME=f"{HOME}/codex 100%")
        assert changed["done"] == [f"{HOME}/{UNIT}: changed", "restarted"]
        assert f'"CODEX_HOME={HOME}/codex 100%%"' in (manager.home / UNIT).read_text()
        owner.type_on()
        wait_for(lambda: owner.is_synced(server), "an entry after the upgrade")

        owner.fault("was-stuck").unlink()
        gone = owner.do("service", "uninstall")
        assert gone.returncode == 0, gone.stderr
        assert owner.property("LoadState") == "not-found"
        assert manager.files() == before | {name for name in manager.files() if name.startswith(OURS)}
        assert owner.do("service", "uninstall").stdout.startswith("it is not installed")
        gone = owner.do("service", "uninstall", "--purge", "--yes")
        assert gone.returncode == 0, gone.stderr
        assert manager.files() == {name for name in before if not name.startswith(OURS)} | {".local/state"}


BUS = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path=/run/user/{UID}/bus"}


def is_gone(file: Path) -> bool:
    return not file.exists()


def start_keyring(manager: Manager, *, unlock: bool) -> None:
    """Ends the one that runs, and starts one as a login by passphrase does, or as one without (by a finger, say)."""
    processes = manager.home.parent.parent / "proc"
    for name in processes.glob("[0-9]*/comm"):
        if name.read_text() == "gnome-keyring-d\n":
            manager.run("sh", "-c", f"kill {name.parent.name}")
            wait_for(partial(is_gone, name), "the end of a keyring")
    how = "printf passphrase | gnome-keyring-daemon --unlock" if unlock else "gnome-keyring-daemon --start"
    done = manager.run("sh", "-c", f"{how} --components=secrets --daemonize", **BUS)
    assert done.returncode == 0, done.stderr


def test_a_keyring_that_is_locked_at_login_holds_up_nothing_but_sending(manager: Manager, tmp_path: Path) -> None:
    for tool in ("gnome-keyring-daemon", "dbus-daemon"):
        require_tool(tool)
    with receiver(tmp_path / "data") as server:
        owner = Owner(manager, server.url)
        manager.write("faults/sitecustomize.py", FAULTS)
        manager.write(f".claude/projects/p/{SESSION}.jsonl", "")
        manager.write(".local/bin/note", "")
        (manager.home / ".local/bin/transcriptd").symlink_to(Path(sys.prefix) / "bin" / "transcriptd")
        owner.drop_in("")
        owner.arm("impatient")
        manager.systemctl("stop", "gnome-keyring-daemon.socket")  # where it is installed, a desktop's own way
        start_keyring(manager, unlock=True)
        done = manager.run(owner.program, "login", server.url, "--token-stdin", stdin=f"{TOKEN}\n", **BUS)
        assert done.returncode == 0, done.stderr

        start_keyring(manager, unlock=False)
        owner.type_on()
        assert owner.install()["active"] is True, "READY does not wait for it"
        wait_for(lambda: owner.condition() == "waiting_for_keyring", "a look at the keyring")
        assert not owner.is_synced(server)
        start_keyring(manager, unlock=True)
        wait_for(lambda: owner.is_synced(server), "what a locked keyring held up")
        assert owner.property("NRestarts") == "0"
