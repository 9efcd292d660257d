"""An agent in virtual time beside the real receiver, or beside a server that a test scripts."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.wire import RawReply, Request
from agent.receiver.app import build_app
from agent.receiver.sqlite import SqliteStore
from tests.fakes import AsgiServer, ScriptedServer
from tests.simulation.world import Server, SimulatedAgent, entry

TOKEN = "tsd_of_a_test"

Script = Callable[[Request], RawReply | None]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[AsgiServer]:
    store = SqliteStore(tmp_path / "receiver.sqlite3")
    server = AsgiServer(build_app(store, extra_token=TOKEN), TOKEN)
    yield server
    server.close()
    store.close()


@pytest.fixture
def scripted(receiver: AsgiServer) -> Callable[[Script], ScriptedServer]:
    """The real receiver, with a function that may answer in its place."""
    return lambda script: ScriptedServer(receiver, script)


@pytest.fixture
def make_agent(tmp_path: Path) -> Iterator[Callable[..., SimulatedAgent]]:
    made: list[SimulatedAgent] = []

    def make(server: Server, **options: Any) -> SimulatedAgent:
        agent = SimulatedAgent(tmp_path / f"agent{len(made)}", server, **options)
        made.append(agent)
        return agent

    yield make
    for agent in made:
        agent.close()


@pytest.fixture
def lines() -> Callable[[int], bytes]:
    rng = random.Random(1)
    return lambda count: b"".join(entry(rng) for _ in range(count))
