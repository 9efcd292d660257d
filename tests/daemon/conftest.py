"""An agent in virtual time beside the real receiver, or beside a server that a test scripts."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import AsgiServer, receiver_without_network
from tests.simulation.wire import Server
from tests.simulation.world import SimulatedAgent, entry


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[AsgiServer]:
    with receiver_without_network(tmp_path) as server:
        yield server


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
