"""An agent with real threads and sockets, and a way to the server that breaks: what `status` says meanwhile, and how
long it takes to come back once the way is whole again."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agent.core.settings import Destination, Push, Settings, Watch
from agent.core.status import Status
from agent.daemon.process import ticks as ticks_module
from agent.daemon.process.supervisor import Daemon
from agent.daemon.status.report import report
from agent.system import remote as remote_module
from agent.system.machine.network import WayOut
from agent.system.paths import paths_below
from agent.system.tokens import FixedToken
from tests.e2e.processes import TOKEN, Receiver, receiver
from tests.e2e.relay import Mode, Relay
from tests.reliability import MakeTally
from tests.system.certificates import EXPIRED, Authority

BACK_WITHIN_S = 10.0
AT_MOST_S = 60.0

AT_HOME = WayOut("10.0.0.2", None)


class Agent:
    def __init__(self, folder: Path, url: str) -> None:
        self.projects = folder / "projects"
        (self.projects / "p").mkdir(parents=True)
        self.way_out = AT_HOME
        settings = Settings((Destination(url),), Push(interval_s=1.0), Watch(claude=(str(self.projects),)))
        self.daemon = Daemon(
            settings, paths_below(folder / "home"), FixedToken(TOKEN), {}, way_out=lambda: self.way_out
        )
        self._written = 0

    def write(self, session: str) -> bytes:
        """A line more, and all there is."""
        self._written += 1
        path = self.projects / "p" / f"{session}.jsonl"
        with path.open("ab") as file:
            file.write(b'{"uuid":"u%d"}\n' % self._written)
        return path.read_bytes()

    def status(self) -> Status:
        around = self.daemon.surroundings()
        return self.daemon.ask(lambda engine: report(engine, around))

    def wait_for(self, wanted: Callable[[Status], bool], most_s: float = AT_MOST_S) -> float:
        """Seconds until `status` is as wanted."""
        began = time.monotonic()
        while not wanted(seen := self.status()):
            assert time.monotonic() - began < most_s, (seen.destinations, seen.counts)
            time.sleep(0.02)  # between two looks at a real agent; what is waited for is the condition
        return time.monotonic() - began

    def wait_offline(self, words: str) -> None:
        self.wait_for(lambda seen: seen.destinations[0].condition == "offline")
        seen = self.status()
        assert words in seen.destinations[0].why
        assert any(words in problem for problem, _ in seen.problems)


def is_synced(seen: Status) -> bool:
    return seen.destinations[0].condition == "running" and set(seen.counts.states) == {"synced"}


@contextmanager
def agent_to(folder: Path, url: str) -> Iterator[Agent]:
    made = Agent(folder, url)
    made.daemon.start()
    try:
        yield made
    finally:
        made.daemon.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver(tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.fixture
def relay(server: Receiver) -> Iterator[Relay]:
    port = urlsplit(server.url).port
    assert port is not None
    made = Relay(port)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "READ_S", 1.0)
    monkeypatch.setattr(remote_module, "REPLY_S", 1.0)
    monkeypatch.setattr(ticks_module, "LOOK_S", 0.5)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Fault:
    """A way that is broken from the start, the words for it, and its repair. `name` is the host to speak to."""

    name = "127.0.0.1"
    scheme = "http"
    title = words = ""

    def __init__(self, relay: Relay, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        self.relay, self.authority, self.monkeypatch = relay, authority, monkeypatch

    def break_way(self) -> None: ...

    def repair(self) -> None:
        self.relay.mode = Mode.PASS


class BlackHole(Fault):
    title = "black hole"
    words = "no answer within"

    def break_way(self) -> None:
        self.relay.mode = Mode.HOLE


class SlowDrip(Fault):
    title = "slow drip"
    words = "for one answer"

    def break_way(self) -> None:
        self.relay.mode = Mode.DRIP


class DeadDns(Fault):
    title = "DNS is dead"
    name = "transcripts.example"
    words = "its name has no address, or DNS does not answer"
    dead = True

    def break_way(self) -> None:
        resolve = socket.getaddrinfo

        def answer(host: str, *args: Any, **named: Any) -> Any:
            if host == self.name and self.dead:
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return resolve("127.0.0.1", *args, **named)

        self.monkeypatch.setattr(socket, "getaddrinfo", answer)

    def repair(self) -> None:
        self.dead = False


class BadTls(Fault):
    scheme = "https"
    times: tuple[str, str] | None = None
    names = "IP:127.0.0.1"

    def break_way(self) -> None:
        self.monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(self.authority.bundle))
        issued = self.authority.issue(self.names, self.times) if self.times else self.authority.issue(self.names)
        self.relay.tls = issued.server_context()

    def repair(self) -> None:
        self.relay.tls = self.authority.issue().server_context()


class Expired(BadTls):
    title = "certificate expired"
    words = "its certificate is no longer valid on"
    times = EXPIRED


class WrongHost(BadTls):
    title = "certificate for another host"
    words = "its certificate is for another address"
    names = "IP:127.9.9.9"


class Untrusted(BadTls):
    title = "certificate of a stranger"
    words = "nobody whom this machine trusts vouches for its certificate"

    def break_way(self) -> None:
        folder = self.authority.bundle.parent / "stranger"
        folder.mkdir()
        super().break_way()
        self.relay.tls = Authority(folder).issue().server_context()


class NoTls(BadTls):
    title = "no TLS where it should be"
    words = "TLS failed"

    def break_way(self) -> None:
        super().break_way()
        self.relay.tls = None


class DeadProxy(DeadDns):
    """Repaired by its going away: the environment is asked again with the next way out. What is called by a name of
    this machine would go through no proxy."""

    title = "proxy is dead"
    dead = False
    words = "through the proxy: it is not there, or does not let us through"

    def break_way(self) -> None:
        super().break_way()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.monkeypatch.setenv("HTTP_PROXY", f"http://ada:open-sesame@127.0.0.1:{listener.getsockname()[1]}")

    def repair(self) -> None:
        self.monkeypatch.delenv("HTTP_PROXY")


FAULTS = (BlackHole, SlowDrip, DeadDns, Expired, WrongHost, Untrusted, NoTls, DeadProxy)


@pytest.fixture
def make_fault(
    relay: Relay, authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[[type[Fault]], Fault]]:
    """No password of a proxy may stand in the log of the block."""
    yield lambda kind: kind(relay, authority, monkeypatch)
    assert "open-sesame" not in caplog.text


@pytest.mark.parametrize("kind", FAULTS)
def test_a_broken_way_is_named_and_taken_again_when_it_is_whole(
    kind: type[Fault],
    tmp_path: Path,
    server: Receiver,
    make_fault: Callable[[type[Fault]], Fault],
    tally: MakeTally,
) -> None:
    fault = make_fault(kind)
    fault.break_way()
    session = f"broken-{kind.__name__}"
    with agent_to(tmp_path, f"{fault.scheme}://{fault.name}:{fault.relay.port}") as agent:
        written = agent.write(session)
        agent.wait_offline(fault.words)
        assert "open-sesame" not in str(agent.status())
        fault.repair()
        if kind is DeadProxy:
            agent.way_out = WayOut("10.7.7.7", None)
        took_s = agent.wait_for(is_synced)
    assert server.entries(session) == written
    tally("nothing is lost", f"the way to the server: {kind.title}").note_lines(
        written.splitlines(), server.entries(session).splitlines()
    )
    assert took_s <= BACK_WITHIN_S


def test_a_way_that_dies_while_all_is_well_is_left_for_the_new_one_at_once(
    tmp_path: Path, server: Receiver, relay: Relay, monkeypatch: pytest.MonkeyPatch, tally: MakeTally
) -> None:
    """From one network to another: the old connections hang, and nothing says so but our own address."""
    monkeypatch.setattr(remote_module, "READ_S", 600.0)
    monkeypatch.setattr(remote_module, "REPLY_S", 600.0)
    seen = tally("nothing is lost", "another network, connections left hanging")
    with agent_to(tmp_path, f"http://127.0.0.1:{relay.port}") as agent:
        for turn in range(5):
            relay.mode = Mode.HOLE
            for remote in agent.daemon._remotes.values():
                remote.close()  # so that the next request runs into the hole
            session = f"moved-{turn}"
            before = relay.connections
            written = agent.write(session)
            while relay.connections == before:
                time.sleep(0.01)  # until a request hangs
            relay.mode = Mode.PASS
            agent.way_out = WayOut(f"10.0.{turn}.9", None)
            took_s = agent.wait_for(lambda seen, session=session: is_synced(seen) and has(server, session))  # type: ignore[misc]  # the default is for the loop
            assert server.entries(session) == written
            seen.note_lines(written.splitlines(), server.entries(session).splitlines())
            assert took_s <= BACK_WITHIN_S


def has(server: Receiver, session: str) -> bool:
    streams = server.get(f"/v1/session_ingress/session/{session}/streams")
    return b'"entry_count"' in streams


def test_turning_the_look_off_leaves_a_hanging_way_hanging(
    tmp_path: Path, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above would see without the look at the way out: it measures what it says."""
    monkeypatch.setattr(ticks_module, "LOOK_S", 600.0)
    monkeypatch.setattr(remote_module, "READ_S", 600.0)
    relay.mode = Mode.HOLE
    with agent_to(tmp_path, f"http://127.0.0.1:{relay.port}") as agent:
        agent.write("hangs")
        while not relay.connections:
            time.sleep(0.01)  # until the first request hangs
        relay.mode = Mode.PASS
        agent.way_out = WayOut("10.7.7.7", None)
        with pytest.raises(AssertionError):
            agent.wait_for(is_synced, most_s=2.0)
