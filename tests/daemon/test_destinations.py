"""Several servers at once: each has its own place in every file, its own troubles, and its own projects."""

import json
import random
from collections.abc import Callable

import pytest

from agent.core.delivery.lifecycle import Condition, State
from agent.core.delivery.pressure import Window
from agent.core.transcripts.session import StreamId
from agent.core.wire import Request
from agent.delivery.base.world import Limits
from agent.delivery.engine.answers import OUTSIDE
from agent.delivery.engine.outbox import BATCH_BYTES
from agent.delivery.state.tasks import PushTask, TrackKey
from tests.fakes import AsgiServer, ScriptedServer, StrictBaseServer, no_answer, reply
from tests.simulation.server import ModelServer
from tests.simulation.world import SimulatedAgent, entry

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]


def stored(server: AsgiServer, session: str) -> bytes:
    return server.send(Request("GET", f"/v1/session_ingress/session/{session}/entries")).body


def state_at(agent: SimulatedAgent, destination: str, session: str) -> State:
    return agent.engine.tracks[TrackKey(destination, session, "")].state


def test_each_has_its_own_place_in_the_file(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    base = StrictBaseServer()
    agent = make_agent(receiver, beside={"base": base})
    agent.append("s", lines(4))
    agent.settle()
    assert stored(receiver, "s") == agent.path("s").read_bytes()
    assert base.sessions["s"] == agent.whole_lines("s")
    del base.sessions["s"][2:]
    agent.append("s", lines(2))
    agent.settle()
    assert base.sessions["s"] == agent.whole_lines("s")
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_a_file_that_goes_away_while_two_are_about_to_get_it_reaches_both(make_agent: Make, lines: Lines) -> None:
    models = {"there": ModelServer(), "elsewhere": ModelServer()}
    servers = {name: ScriptedServer(one, lambda _: no_answer()) for name, one in models.items()}
    agent = make_agent(servers["there"], beside={"elsewhere": servers["elsewhere"]})
    agent.append("s", data := lines(4))
    agent.look()
    agent.live_for(60)
    for one in servers.values():
        one.script = lambda request: reply(503) if request.path.endswith("/entries") else None
    while sum(isinstance(one, PushTask) for one in agent.in_flight) < 2:
        probes = [one for one in agent.in_flight if not isinstance(one, PushTask)]
        if probes:
            agent.in_flight.sort(key=lambda one: isinstance(one, PushTask))
            agent.engine.handle(agent._pusher.run(agent.in_flight.pop(0)))
            agent.engine.tick()
        else:
            assert agent.wait()
    agent.path("s").unlink()
    for one in servers.values():
        one.script = lambda _: None
    agent.settle()
    for model in models.values():
        current = model.current(StreamId("s", ""))
        assert current is not None
        assert bytes(current.data) == data


def test_the_trouble_of_one_does_not_hold_up_another(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    locked = ScriptedServer(StrictBaseServer(), lambda _: reply(401))
    dead = ScriptedServer(StrictBaseServer(), lambda _: no_answer())
    agent = make_agent(receiver, beside={"locked": locked, "dead": dead})
    for session in "abc":
        agent.append(session, lines(3))
    agent.look()
    agent.live_for(120)
    for session in "abc":
        assert stored(receiver, session) == agent.path(session).read_bytes()
        assert state_at(agent, "there", session) is State.SYNCED
    assert agent.destinations["locked"].condition is Condition.NEEDS_LOGIN
    assert agent.destinations["dead"].condition is Condition.OFFLINE
    assert len(locked.requests) == 1, "one question, and nothing else without a token"
    assert {request.path.rpartition("/")[2] for request in dead.requests} == {"capabilities"}, (
        "a single probe at a time"
    )


def test_destinations_take_turns_and_none_gets_all_of_the_memory(make_agent: Make) -> None:
    rng = random.Random(3)
    servers = {f"d{number}": StrictBaseServer() for number in range(8)}
    agent = make_agent(StrictBaseServer(), beside=servers, limits=Limits(workers=8))
    while agent.run_one():
        pass
    for destination in agent.destinations.values():
        destination.window = Window(8.0)  # all went well for a while
    big = b"".join(entry(rng, filler="x" * 20_000) for _ in range(60))
    for session in "abcdefgh":
        agent.append(session, big)
    agent.look()
    taken = [task for task in agent.in_flight if isinstance(task, PushTask)]
    assert {task.key.destination for task in taken} == {"there", *servers}, "each has something under way"
    assert sum(2 * task.max_bytes for task in taken) <= max(16 << 20, 2 * BATCH_BYTES * (len(servers) + 1))


def test_a_destination_gets_its_projects_and_no_others(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    everything = StrictBaseServer()
    agent = make_agent(receiver, projects=("/home/dev/work", "/srv/*/site"), beside={"all": everything})
    rng = random.Random(5)
    inside = {"w": "/home/dev/work", "x": "/home/dev/work/deep/er", "y": "/srv/one/site"}
    outside = {"o": "/home/dev/workshop", "p": "/srv/one/other"}
    for session, project in {**inside, **outside}.items():
        agent.append(session, entry(rng, cwd=project) + entry(rng, cwd=project))
    agent.append("n", json.dumps({"uuid": "n1"}).encode() + b"\n")
    agent.settle()
    for session in inside:
        assert stored(receiver, session) == agent.path(session).read_bytes()
    for session in [*outside, "n"]:
        assert (agent.state(session), agent.track(session).reason) == (State.PRIVATE, OUTSIDE)
        asked = receiver.send(Request("GET", f"/v1/session_ingress/session/{session}/entries"))
        assert asked.status == 404
        assert everything.sessions[session] == agent.whole_lines(session)


def test_nothing_of_a_session_that_stays_here_is_told(make_agent: Make, receiver: AsgiServer) -> None:
    """Neither its facts nor its side files, nor that there is one; also after restarts."""
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server, projects=("/home/dev/work",))
    agent.append("hidden", entry(random.Random(1), cwd="/home/dev/hidden"))
    for session in ("hidden", "without-transcript"):
        result = agent.root / "p" / session / "tool-results" / "one.txt"
        result.parent.mkdir(parents=True)
        result.write_bytes(b"hidden too")
    for _ in range(3):
        agent.settle()
        agent.live_for(60)
        agent.crash()
        agent.append("hidden", entry(random.Random(2), cwd="/home/dev/work"))
    assert agent.engine.facts.of("hidden").project == "/home/dev/hidden"
    assert {request.path.rpartition("/")[2] for request in server.requests} == {"capabilities"}


@pytest.mark.parametrize("size", [50_000, 100_000, 2 << 20])
def test_a_first_prompt_of_any_length_hides_no_project(make_agent: Make, receiver: AsgiServer, size: int) -> None:
    agent = make_agent(receiver, projects=("/home/dev/work",))
    rng = random.Random(1)
    for session, project in {"in": "/home/dev/work", "out": "/home/dev/other"}.items():
        agent.append(session, entry(rng, filler="x" * size, cwd=project) + entry(rng, cwd=project))
    agent.settle()
    assert stored(receiver, "in") == agent.path("in").read_bytes()
    assert (agent.state("out"), agent.track("out").reason) == (State.PRIVATE, OUTSIDE)


def test_a_session_that_names_its_project_late_is_sent_then(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver, projects=("/home/dev/work",))
    agent.append("s", json.dumps({"type": "mode", "uuid": "n1"}).encode() + b"\n")
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    agent.append("s", entry(random.Random(1), cwd="/home/dev/work"))
    agent.settle()
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_a_subagent_s_file_that_took_another_s_name_is_sent_where_a_base_server_takes_neither(
    make_agent: Make, lines: Lines
) -> None:
    model, subagent = ModelServer(), "subagents/agent-a"
    server = ScriptedServer(model, lambda _: no_answer())
    base = ScriptedServer(StrictBaseServer(), lambda _: no_answer())
    agent = make_agent(server, beside={"base": base})
    agent.append("s", lines(1))
    agent.append("s", first := lines(4), subagent)
    agent.look()
    agent.live_for(60)
    made = agent.root / "made"
    made.write_bytes(second := lines(2))
    made.replace(agent.path("s", subagent))
    agent.look()
    agent.live_for(60)
    server.script = lambda _: None
    agent.live_for(400)
    base.script = lambda _: None
    agent.settle()
    held = {
        bytes(one.data)
        for key, stream in model.sessions["s"].streams.items()
        if key
        for one in stream.generations.values()
    }
    assert {first, second} <= held
