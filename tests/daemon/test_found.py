"""What seeds of the simulation found, told as stories of their own: those stay the same when the simulation grows."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.delivery.lifecycle import State
from agent.core.wire import RawReply, Request
from agent.delivery.state.inputs import Retry
from tests.fakes import AsgiServer, FakeRules, ScriptedServer, body_bytes, no_answer, reply
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]

NO_UUID = b'{"type":"mode","mode":"plan"}\n'


def is_append(request: Request) -> bool:
    return request.method == "POST" and "/entries" in request.path


def stored(server: AsgiServer, session: str, subpath: str = "") -> bytes:
    return server.send(Request("GET", f"/v1/session_ingress/session/{session}/entries?subpath={subpath}")).body


def move(agent: SimulatedAgent, name: str, folder: str) -> Path:
    (agent.root / folder).mkdir(exist_ok=True)
    new = agent.root / folder / name
    (agent.root / "p" / name).rename(new)
    return new


def grow(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_a_synced_file_that_moved_while_nobody_looked_is_followed(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    first, more = lines(2), lines(1)
    agent.append("s", first)
    agent.settle()
    agent.store.close()
    grow(move(agent, "s.jsonl", "elsewhere"), more)
    agent.boot()
    agent.settle()
    assert stored(receiver, "s") == first + more


def test_so_is_a_subagent_whose_lines_alone_say_whose_it_is(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    line = json.dumps({"type": "user", "uuid": "u", "sessionId": "s"}).encode() + b"\n"
    grow(agent.root / "p" / "agent-1.jsonl", line)
    agent.settle()
    agent.store.close()
    grow(move(agent, "agent-1.jsonl", "elsewhere"), line)
    agent.boot()
    agent.settle()
    assert stored(receiver, "s", "agent-1") == line + line
    assert agent.state("s", "agent-1") is State.SYNCED


@pytest.mark.skipif(os.name == "nt", reason="an open file can't be moved there")
def test_a_file_that_was_away_for_a_moment_is_sent(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    """The pusher misses it, while the scanner sees the same file before and after."""
    agent = make_agent(receiver)
    agent.append("s", lines(1))
    agent.settle()
    agent.append("s", lines(2))
    agent.look()
    away = move(agent, "s.jsonl", "elsewhere")
    assert agent.run_one()
    away.rename(agent.path("s"))
    agent.settle()
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_what_was_deleted_on_the_server_stays_deleted_when_its_file_moves(make_agent: Make, lines: Lines) -> None:
    server = ScriptedServer(
        None, lambda request: reply(410) if is_append(request) else reply(200, b'{"protocol":1,"bulk":{}}')
    )
    agent = make_agent(server)
    agent.append("s", lines(1))
    agent.settle()
    assert agent.state("s") is State.DELETED_ON_SERVER
    asked = sum(map(is_append, server.requests))
    grow(move(agent, "s.jsonl", "elsewhere"), lines(1))
    agent.settle()
    agent.crash()
    agent.settle()
    assert agent.state("s") is State.DELETED_ON_SERVER
    assert sum(map(is_append, server.requests)) == asked


def test_a_tombstone_is_of_what_was_refused_and_of_nothing_else(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """The entry at its place may be another one by the time that the tombstone could travel."""
    server = ScriptedServer(receiver, lambda request: None)
    agent = make_agent(server)
    bad, good = b'{"uuid":"bad","x":1}\n', b'{"uuid":"good","y":22222}\n'
    agent.append("s", bad)

    def refuse_and_vanish(request: Request) -> RawReply | None:
        if not is_append(request):
            return None
        return no_answer() if b"tombstone" in body_bytes(request) else reply(422)

    server.script = refuse_and_vanish
    agent.look()
    for _ in range(3):
        agent.run_one() or agent.wait()
    assert any(b"tombstone" in body_bytes(request) for request in server.requests)
    agent.path("s").write_bytes(good)
    server.script = lambda request: None
    agent.crash()
    agent.settle()
    assert stored(receiver, "s") == good


def test_entries_that_a_base_server_has_no_place_for_follow_when_it_takes_batches_after_all(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """A proxy that knows no capabilities for a moment makes a bulk server look like a base server."""
    server = ScriptedServer(receiver, lambda request: reply(404) if "capabilities" in request.path else None)
    agent = make_agent(server)
    agent.append("s", lines(1) + NO_UUID + lines(1) + NO_UUID)
    agent.append("t", NO_UUID)
    agent.settle()
    assert stored(receiver, "s").count(b"\n") == 2
    server.script = lambda request: None
    agent.engine.handle(Retry())
    agent.settle()
    for session in ("s", "t"):
        assert stored(receiver, session) == agent.path(session).read_bytes()


def test_a_batch_on_its_way_when_the_offer_changes_is_no_exception(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda request: reply(404) if "capabilities" in request.path else None)
    agent = make_agent(server)
    agent.settle()
    agent.append("s", NO_UUID + lines(1))
    agent.look()
    [task] = agent.in_flight
    server.script = lambda request: None
    agent.engine.handle(Retry())
    agent.engine.tick()
    agent.in_flight.remove(task)
    agent.run_one()
    agent.in_flight.append(task)
    agent.settle()
    assert stored(receiver, "s") == agent.path("s").read_bytes()


@pytest.mark.parametrize("ending", ["the answer was lost", "the agent died"])
def test_a_file_that_is_cut_to_what_is_known_to_be_sent_is_compared_with_what_may_have_arrived(
    make_agent: Make, lines: Lines, receiver: AsgiServer, ending: str
) -> None:
    """There is nothing more to send, and so nothing that the server would contradict."""
    cut: list[int] = []

    def script(request: Request) -> RawReply | None:
        if not cut or not is_append(request):
            return None
        receiver.send(request)
        os.truncate(agent.path("s"), cut.pop())
        return no_answer()

    agent = make_agent(ScriptedServer(receiver, script))
    first = lines(2)
    agent.append("s", first)
    agent.settle()
    agent.append("s", lines(2))
    cut.append(len(first))
    agent.look()
    if ending == "the agent died":
        agent.engine.journal.write()
        agent.run_a_task()
        agent.crash()
    agent.settle()
    assert not cut
    assert agent.state("s") is State.SYNCED
    assert stored(receiver, "s") == first
    heads = len([row for row in agent.store.audit() if row.kind in ("new_generation", "realigned")])
    assert heads == 1


def test_a_private_session_that_shows_up_late_after_a_damaged_state_and_a_crash_goes_from_the_server(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    rules = FakeRules()
    agent = make_agent(receiver, rulebook=rules)
    agent.append("s", lines(3))
    agent.settle()
    agent.store.close()
    rules.sessions.add("s")
    (agent.root.parent / "state" / "state.db").write_bytes(b"no database" * 1000)
    hidden = agent.path("s").rename(agent.root.parent / "s.jsonl")
    agent.boot()
    agent.crash()
    agent.settle()
    hidden.rename(agent.path("s"))
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    assert receiver.send(Request("GET", "/v1/session_ingress/session/s/entries")).status in (404, 410)
