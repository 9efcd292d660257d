"""From `login` to `logout` with real processes and a real gnome-keyring: locked, unlocked, emptied, gone; and no token
where none belongs."""

import json
import logging
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.core.settings import Destination, Settings, Watch
from agent.core.wire import RawReply, Request
from agent.daemon.process import supervisor
from agent.daemon.process.supervisor import Daemon
from agent.errors import NotRunning
from agent.system.control_socket import ControlClient
from agent.system.machine.network import WayOut
from agent.system.paths import paths_below
from agent.system.remote import Remote
from agent.system.tokens import Secret
from agent.system.tokens.client import Keyring, Place
from agent.system.tokens.sources import open_tokens
from tests.e2e.processes import PROGRAM, READY_S, TOKEN, Receiver, end, receiver
from tests.keyrings import Desktop, desktop
from tests.reliability import MakeTally
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

UNLOCKED_WITHIN_S = 30.0


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    with desktop(tmp_path, monkeypatch) as made:
        yield made


class Machine:
    """Somebody's machine: a home, transcripts, and the commands they type."""

    def __init__(self, folder: Path, server: Receiver) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.server = server
        self.projects = folder / "projects"
        (self.projects / "p").mkdir(parents=True)
        self.home.mkdir()
        self.config = self.home / "config.toml"
        self.config.write_text(
            f'# mine\n[watch]\nclaude = ["{self.projects}"]\n\n[log]\nlevel = "debug" # all of it\n', encoding="utf-8"
        )
        self.log = folder / "agent.log"
        self.said = ""
        self.agent: subprocess.Popen[str] | None = None
        self._entries = 0

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "TRANSCRIPTD_HOME": str(self.home)}

    def do(self, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*PROGRAM, *arguments],
            env={**self.environment(), **more},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=READY_S,
            check=False,
        )
        self.said += done.stdout + done.stderr
        return done

    def login(self, token: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self.do("login", self.server.url, "--token-stdin", *more, stdin=token + "\n")

    def make_token(self, name: str) -> str:
        made = self.do("receiver", "token", "create", name, "--data", str(self.server.data))
        token = re.search(r"tsd_\S+", made.stdout)
        assert token is not None
        self.said = ""  # this is the one place that shows it
        return token.group()

    def start(self, **more: str) -> None:
        with self.log.open("a") as log:
            self.agent = subprocess.Popen(
                [*PROGRAM, "run"],
                env={**self.environment(), **more},
                stdout=log,
                stderr=log,
                text=True,
                stdin=subprocess.DEVNULL,
            )
        wait_for(self.answers, "the agent", READY_S)

    def answers(self) -> bool:
        """A socket is there a moment before anybody listens at it."""
        try:
            self.status()
        except NotRunning:
            return False
        return True

    def stop(self) -> None:
        if self.agent is not None:
            assert end(self.agent) == 0
            self.agent = None

    def write(self, session: str = "s", entries: int = 3) -> None:
        with (self.projects / "p" / f"{session}.jsonl").open("a", encoding="utf-8") as file:
            for _ in range(entries):
                self._entries += 1
                entry = {"uuid": f"00000000-0000-4000-8000-{self._entries:012}", "type": "user", "cwd": "/home/ada"}
                file.write(json.dumps(entry) + "\n")

    def status(self) -> dict[str, Any]:
        with ControlClient(self.home / "state" / "control.sock") as client:
            found: dict[str, Any] = client.call("agent.status")
        return found

    def condition(self) -> str:
        return str(self.status()["destinations"][0]["condition"])

    def waits_for(self, condition: str, limit_s: float = UNLOCKED_WITHIN_S) -> None:
        wait_for(lambda: self.condition() == condition, condition, limit_s)

    def has_all(self) -> bool:
        """Whether the server has every byte of every transcript."""
        status = self.status()["counts"]["states"]
        paths = list((self.projects / "p").glob("*.jsonl"))
        return set(status) == {"synced"} and all(self.server.entries(one.stem) == one.read_bytes() for one in paths)

    def arrives(self, limit_s: float = READY_S) -> None:
        wait_for(self.has_all, "everything on the server", limit_s)

    def shown_processes(self) -> str:
        """Command line and environment of the agent and of everything that it started."""
        assert self.agent is not None
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if not folder.name.isdigit() or self.agent.pid not in _ancestors(int(folder.name)):
                    continue
                found += [(folder / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")]
            except OSError:
                continue  # it has ended
        assert found
        return "\n".join(found)


def _ancestors(pid: int) -> list[int]:
    found = [pid]
    while found[-1] > 1:
        stat = Path(f"/proc/{found[-1]}/stat").read_text(encoding="utf-8")
        found.append(int(stat.rpartition(")")[2].split()[1]))
    return found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with receiver(tmp_path / "data") as server:
        made = Machine(tmp_path, server)
        try:
            yield made
        finally:
            if made.agent is not None:
                end(made.agent)


def canaries(machine: Machine, tokens: list[str]) -> list[tuple[str, str]]:
    """(what, where) of each token found in what was logged, said, kept on disk or shown of processes."""
    places = {"logs": machine.log.read_bytes() if machine.log.exists() else b"", "output": machine.said.encode()}
    for path in machine.home.rglob("*"):
        if path.is_file():
            places[str(path.relative_to(machine.home))] = path.read_bytes()
    if machine.agent is not None:
        places["processes"] = machine.shown_processes().encode()
    return [(token, where) for token in tokens for where, data in places.items() if token.encode() in data]


def test_a_day_with_a_keyring(bus: Desktop, machine: Machine, tally: MakeTally) -> None:
    told = tally("nothing is lost", "a keyring that is away, locked, emptied, filled with another token")
    first, second = machine.make_token("first"), machine.make_token("second")
    bus.log_in()

    done = machine.login("tsd_of_nobody")
    assert (done.returncode, done.stdout) == (4, "")
    assert "does not accept this token; nothing was changed" in done.stderr
    assert "destination" not in machine.config.read_text(encoding="utf-8")

    done = machine.login(first)
    assert done.returncode == 0, done.stderr
    settings = machine.config.read_text(encoding="utf-8")
    assert settings.startswith("# mine\n")
    assert "# all of it" in settings
    assert 'keyring = "secret-service"' in settings
    machine.write()
    machine.start()
    machine.arrives()
    assert machine.status()["destinations"][0]["token"] == "keyring"
    machine.stop()

    # The machine boots: nobody has logged in, the agent is up before the keyring.
    bus.log_out()
    machine.write()
    machine.start()
    machine.waits_for("waiting_for_keyring")
    bus.log_in(unlock=False)
    machine.write("another")
    wait_for(lambda: machine.status()["counts"]["sessions"] == 2, "the queue to grow")
    assert machine.status()["counts"]["states"] == {"due": 2}
    assert machine.condition() in ("waiting_for_keyring", "probing")
    assert machine.do("push").returncode == 77
    bus.unlock()
    machine.arrives(UNLOCKED_WITHIN_S)

    # Locking it again takes nothing away from an agent that has its token.
    bus.lock()
    machine.write()
    machine.arrives()

    # Another token takes the first one's place: rotation without a restart.
    bus.unlock()
    done = machine.login(second)
    assert "the running agent goes on with it" in done.stdout
    machine.do("receiver", "token", "revoke", "first", "--data", str(machine.server.data))
    machine.write("another")
    machine.arrives()

    # The item is removed, and comes back.
    assert "logged out" in machine.do("logout").stdout
    machine.waits_for("needs_login")
    machine.write()
    wait_for(lambda: machine.status()["counts"]["states"].get("due"), "the queue to grow")
    done = machine.do("push")
    assert done.returncode == 4
    assert f"transcriptd login {machine.server.url}" in done.stdout
    assert machine.login(second).returncode == 0
    machine.arrives()

    machine.do("status")
    machine.do("status", "--json")
    machine.do("config", "show")
    found = canaries(machine, [first, second])
    for path in (machine.projects / "p").glob("*.jsonl"):
        told.note_lines(path.read_bytes().splitlines(), machine.server.entries(path.stem).splitlines())
    assert found == []
    assert bus.prompts() == 0
    waiting = machine.log.read_text().count("is waiting_for_keyring")
    assert waiting <= 2, "once a change of state: not there yet, then locked"
    machine.stop()


def test_an_item_that_is_removed_behind_our_back(bus: Desktop, machine: Machine) -> None:
    """What is in memory goes on; the next start says that somebody has to log in."""
    token = machine.make_token("first")
    bus.log_in()
    assert machine.login(token).returncode == 0
    machine.write()
    machine.start()
    machine.arrives()
    place = Place(f"transcriptd {machine.server.url}", f"default of {machine.home}")
    assert Keyring("secret-service").drop(place)
    machine.write()
    machine.arrives()
    machine.stop()
    done = machine.do("push")
    assert done.returncode == 4
    assert "there is no token for" in done.stdout
    assert "there was no token" in machine.do("logout").stdout
    machine.start()
    machine.waits_for("needs_login")
    Keyring("secret-service").store(place, Secret(token))
    machine.write()
    machine.do("push")  # somebody's wish to try again looks at the keyring, too
    machine.arrives()


def test_the_variable_shows_where_its_owner_put_it_and_nowhere_else(machine: Machine) -> None:
    token = machine.make_token("first")
    assert machine.do("login", machine.server.url, "--environment", TRANSCRIPTD_TOKEN=token).returncode == 0
    machine.write()
    machine.start(TRANSCRIPTD_TOKEN=token)
    machine.arrives()
    assert machine.status()["destinations"][0]["token"] == "environment"
    assert canaries(machine, [token]) == [(token, "processes")], "the agent's own environment, by its owner's word"


class InProcess:
    """An agent in this process, with a token from a file."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.projects = folder / "projects"
        (self.projects / "p").mkdir(parents=True)
        self.token_file = folder / "token"
        self.put(token)
        one = Destination(url, token="file", token_file=str(self.token_file))
        settings = Settings((one,), watch=Watch(claude=(str(self.projects),)))
        paths = paths_below(folder / "agent")
        tokens = open_tokens((one,), "", {})
        self.daemon = Daemon(settings, paths, tokens, {}, way_out=lambda: WayOut("10.0.0.2", None))

    def put(self, token: str) -> None:
        fresh = self.token_file.with_name("fresh")
        fresh.write_text(token)
        fresh.chmod(0o600)
        fresh.replace(self.token_file)

    def condition(self) -> str:
        return self.daemon.ask(lambda engine: str(next(iter(engine.gates)).condition))


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcess]:
    monkeypatch.setattr(supervisor, "TOKENS_S", 0.1)
    with receiver(tmp_path / "data") as server:
        made = InProcess(tmp_path, server.url, TOKEN)
        try:
            yield made
        finally:
            made.daemon.stop()


def test_a_token_file_that_changes_needs_no_restart(in_process: InProcess) -> None:
    in_process.put("tsd_wrong")
    in_process.daemon.start()
    wait_for(lambda: in_process.condition() == "needs_login", "the wrong token to be refused")
    in_process.put(TOKEN)
    wait_for(lambda: in_process.condition() == "running", "the right one to be noticed")
    in_process.token_file.chmod(0o644)
    wait_for(lambda: in_process.condition() == "needs_login", "that others may read it")
    in_process.token_file.chmod(0o600)
    wait_for(lambda: in_process.condition() == "running", "that they may not any more")


def test_a_defect_with_the_token_in_hand_shows_its_place_only(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Remote, request: Request, token: str, take: object) -> RawReply:
        raise RuntimeError(f"a defect with {token} in its words")

    monkeypatch.setattr(Remote, "_send", broken)
    caplog.set_level(logging.DEBUG)
    in_process.daemon.start()
    wait_for(lambda: "a defect in a push: RuntimeError at" in caplog.text, "the defect to be told")
    assert TOKEN not in caplog.text
