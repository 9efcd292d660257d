"""Engine and server joined by a wire that drops, delays, repeats and reorders: every seed ends in equality."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.delivery.lifecycle import State
from agent.core.transcripts.transcript import entry_uuid
from agent.core.wire import Request
from tests.fakes import AsgiServer, StrictBaseServer, receiver_without_network
from tests.simulation.world import SimulatedAgent, any_lines, entry

SEEDS = int(os.environ.get("TRANSCRIPTD_REAL_SEEDS", "60"))
"""How many seeds of each kind; more with TRANSCRIPTD_REAL_SEEDS=1000."""

STEPS = 120
STREAMS = (("s1", ""), ("s2", ""), ("s2", "subagents/agent-a"), ("s3", ""))


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[AsgiServer]:
    with receiver_without_network(tmp_path) as server:
        yield server


def stored_lines(server: AsgiServer, session: str, subpath: str) -> list[bytes]:
    found = server.send(Request("GET", f"/v1/session_ingress/session/{session}/entries?subpath={subpath}&limit=1000"))
    return found.body.split(b"\n")[:-1] if found.status == 200 else []


def live_through(agent: SimulatedAgent, *, odd_lines: bool) -> None:
    """Files grow, requests run in any order, the wire breaks, the process dies; then the trouble is over."""
    rng = agent.rng
    agent.wire.trouble = rng.choice((0.0, 0.1, 0.3, 0.6))
    crashes = rng.choice((0.0, 0.01, 0.05))
    for _ in range(STEPS):
        draw = rng.random()
        if draw < 0.25:
            session, subpath = rng.choice(STREAMS)
            lines = any_lines(rng, rng.randrange(1, 6)) if odd_lines else entry(rng)
            if rng.random() < 0.3:
                cut = rng.randrange(len(lines))
                agent.append(session, lines[:cut], subpath)
                agent.look(live=rng.random() < 0.5)
                lines = lines[cut:]
            agent.append(session, lines, subpath)
            agent.look(live=rng.random() < 0.8)
        elif draw < 0.25 + crashes:
            agent.crash()
        elif draw < 0.85:
            agent.run_one() or agent.wait()
        else:
            agent.wait()
    agent.wire.trouble = 0.0
    agent.wire.deliver_all_late()
    agent.settle()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_bulk_server_ends_up_with_the_files_byte_for_byte(seed: int, receiver: AsgiServer, tmp_path: Path) -> None:
    agent = SimulatedAgent(tmp_path / "agent", receiver, seed)
    live_through(agent, odd_lines=True)
    for session, subpath in STREAMS:
        if agent.path(session, subpath).exists():
            assert stored_lines(receiver, session, subpath) == agent.whole_lines(session, subpath)
            assert agent.state(session, subpath) is State.SYNCED
    agent.close()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_strict_base_server_ends_up_with_every_entry_once(seed: int, tmp_path: Path) -> None:
    server = StrictBaseServer(tells_head=seed % 3 != 0)
    agent = SimulatedAgent(tmp_path / "agent", server, seed)
    live_through(agent, odd_lines=False)
    for session, subpath in STREAMS:
        if not agent.path(session, subpath).exists():
            continue
        if subpath:
            assert agent.state(session, subpath) is State.REFUSED
            continue
        expected = [line for line in agent.whole_lines(session) if entry_uuid(line)]
        assert server.sessions.get(session, []) == expected
        assert agent.state(session) is State.SYNCED
    agent.close()


def test_the_same_seed_gives_the_same_trace(tmp_path: Path) -> None:
    prints = []
    for name in ("one", "two"):
        agent = SimulatedAgent(tmp_path / name, StrictBaseServer(), 4711)
        live_through(agent, odd_lines=True)
        prints.append(agent.fingerprint())
        agent.close()
    assert prints[0] == prints[1]
    assert random.Random(4711).random() == random.Random(4711).random()
