"""Our daemon as a process, in both ways: under our eyes (`python -m tests.bench.agents HOME URL ROOT`), and as the
command that service managers start.

Under our eyes it does what `transcriptd push` does and prints what the pass took, from after the imports. With
`--stay` it goes on watching, answers each line on stdin with what was acknowledged since the last one, and ends when
stdin does. With `--early` it is up when it has seen what there is, and the backlog is still draining.
"""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self
from unittest import mock

import msgspec

from agent.cli.running import running_daemon, set_up_log
from agent.core.delivery.lifecycle import UNSENT, State
from agent.core.settings import Destination, Settings, Watch, render_settings
from agent.core.wire import Accepted
from agent.daemon.process import supervisor
from agent.delivery.engine.engine import Engine
from agent.delivery.state.inputs import Input
from agent.delivery.state.tasks import Pushed
from agent.errors import NotRunning
from agent.system.control_socket import ControlClient
from agent.system.paths import paths_below
from agent.system.tokens import FixedToken
from tests.bench.children import PYTHON, Child, ChildFailed
from tests.bench.machine import peak_resident_bytes
from tests.bench.servers import TOKEN
from tests.bench.workshop import Workshop

_LOOK_S = 0.02
_START_S = 600.0


class Stamp(NamedTuple):
    """The engine learned at `at_ns` (monotonic) that the server has the session's file up to `offset`."""

    session_id: str
    offset: int
    at_ns: int


class PassReport(NamedTuple):
    """What one pass took. `unsynced`: transcripts that did not get through, which must be none."""

    seconds: float
    cpu_s: float
    peak_bytes: int
    unsynced: int


class _StampingEngine(Engine):
    """The engine, noting when it has learned of an acknowledgement."""

    stamps: ClassVar[list[Stamp]] = []

    def handle(self, event: Input) -> None:
        super().handle(event)
        if isinstance(event, Pushed) and isinstance(event.reply, Accepted):
            self.stamps.append(Stamp(event.key.session_id, event.cursor.offset, time.monotonic_ns()))


def _settings(url: str, root: Path, protocol: str) -> Settings:
    return Settings((Destination(url, protocol=protocol),), watch=Watch(claude=(str(root),)))


def _serve(home: Path, url: str, root: Path, protocol: str, *, stay: bool, early: bool) -> None:
    set_up_log("error")
    began_s, cpu_began_s = time.monotonic(), time.process_time()
    engine = mock.patch.object(supervisor, "Engine", _StampingEngine) if stay else contextlib.nullcontext()
    with (
        engine,
        running_daemon(_settings(url, root, protocol), paths_below(home), FixedToken(TOKEN), watch=stay) as one,
    ):
        while not one.full_scans or (not early and one.ask(_has_unsent)):
            time.sleep(_LOOK_S)
        took = PassReport(
            time.monotonic() - began_s,
            time.process_time() - cpu_began_s,
            peak_resident_bytes(os.getpid()),
            0 if early else one.ask(_count_unsynced),
        )
        _say(took)
        while stay and sys.stdin.readline():
            found, _StampingEngine.stamps[:] = list(_StampingEngine.stamps), []
            _say(found)


def _count_unsynced(engine: Engine) -> int:
    return sum(track.state is not State.SYNCED for track in engine.tracks.values())


def _has_unsent(engine: Engine) -> bool:
    """Entries are what is measured; projects and titles of sessions follow when all of those are sent."""
    return any(track.state in UNSENT for track in engine.tracks.values())


def _say(value: Any) -> None:
    print(msgspec.json.encode(value).decode(), flush=True)


# --- for those who measure -----------------------------------------------------------------------------------------


class WatchedAgent(Child):
    """The daemon under our eyes. `first_pass` is known once it is up: when all is sent, or, `early`, found."""

    def __init__(
        self,
        shop: Workshop,
        home: Path,
        url: str,
        root: Path,
        *,
        protocol: str = "auto",
        stay: bool = False,
        early: bool = False,
    ) -> None:
        command = [PYTHON, "-m", "tests.bench.agents", str(home), url, str(root), "--protocol", protocol]
        command += ["--stay"] * stay + ["--early"] * early
        super().__init__(command, shop.environment(home))
        try:
            self.first_pass = msgspec.json.decode(self.hear(), type=PassReport)
            if self.first_pass.unsynced:
                raise ChildFailed(f"{self.first_pass.unsynced} transcripts did not get through")
        except BaseException:
            self.end()
            raise

    def stamps(self) -> list[Stamp]:
        """What was acknowledged since this was asked last."""
        self.tell("stamps")
        return msgspec.json.decode(self.hear(), type=list[Stamp])


def run_pass(shop: Workshop, home: Path, url: str, root: Path, *, protocol: str = "auto") -> PassReport:
    """One pass in a process of its own."""
    with WatchedAgent(shop, home, url, root, protocol=protocol) as agent:
        return agent.first_pass


class RunningAgent:
    """`transcriptd run`, with the home's settings, once it has everything on the server."""

    def __init__(self, shop: Workshop, home: Path, url: str, root: Path) -> None:
        paths = paths_below(home)
        paths.config.write_text(render_settings(_settings(url, root, "auto")), encoding="utf-8")
        self.socket = paths.socket
        self._child = Child([PYTHON, "-m", "agent", "run"], shop.environment(home), err=home / "run.log")
        try:
            self._wait()
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        return self._child.pid

    def scan(self) -> None:
        """A full look at everything, to its end."""
        with ControlClient(self.socket) as client:
            before = client.call("agent.push")["full_scans"]
            while not self._is_done(client, before):
                time.sleep(_LOOK_S)

    def end(self) -> None:
        self._child.end(ask=True)

    def _wait(self) -> None:
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(NotRunning), ControlClient(self.socket, timeout_s=60) as client:
                if self._is_done(client, 0):
                    return
            time.sleep(0.1)
        raise ChildFailed(f"the agent was not done after {_START_S:.0f} s")

    @staticmethod
    def _is_done(client: ControlClient, scans_before: int) -> bool:
        seen = client.call("agent.progress")
        return seen["full_scans"] > scans_before and not seen["busy"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("home", type=Path)
    arguments.add_argument("url")
    arguments.add_argument("root", type=Path)
    arguments.add_argument("--protocol", default="auto")
    arguments.add_argument("--stay", action="store_true")
    arguments.add_argument("--early", action="store_true")
    given = arguments.parse_args()
    _serve(given.home, given.url, given.root, given.protocol, stay=given.stay, early=given.early)


if __name__ == "__main__":
    main()
