"""What the agent does with each answer of a server: sections 1 to 3 of docs/wire.md."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.core.delivery.lifecycle import Condition, State
from agent.core.delivery.pressure import Window
from agent.core.transcripts.session import StreamId
from agent.core.transcripts.transcript import tombstone_line
from agent.core.wire import RawReply, Request
from agent.delivery.base.world import Limits
from agent.delivery.engine.answers import NO_HEAD
from agent.delivery.engine.errands import NO_SUBAGENTS
from agent.delivery.state.inputs import Retry
from tests.fakes import (
    AsgiServer,
    ScriptedServer,
    StrictBaseServer,
    body_bytes,
    no_answer,
    receiver_without_network,
    reply,
)
from tests.simulation.server import ModelServer
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]


def is_append(request: Request) -> bool:
    return request.method == "POST" and "/entries" in request.path


def is_put_entry(request: Request) -> bool:
    return request.method == "PUT" and "/" not in urlsplit(request.path).path.split("/session/")[1]


def stored(server: AsgiServer, session: str, subpath: str = "") -> bytes:
    return server.send(Request("GET", f"/v1/session_ingress/session/{session}/entries?subpath={subpath}")).body


def troubles(agent: SimulatedAgent) -> list[str]:
    """What the audit log tells, but for what went well."""
    return [row.kind for row in agent.store.audit() if row.kind != "uploaded"]


# --- 409, the four cases, on a base server --------------------------------------------------------------------------


def test_an_entry_that_is_stored_already_counts_as_sent(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    lost = ScriptedServer(server, lambda request: None)
    agent = make_agent(lost)
    agent.append("s", lines(3))

    def lose_second_answer(request: Request) -> RawReply | None:
        if is_put_entry(request) and len(server.sessions.get("s", [])) == 1:
            server.send(request)
            return no_answer()
        return None

    lost.script = lose_second_answer
    agent.settle()
    assert server.sessions["s"] == agent.whole_lines("s")


def test_a_head_further_on_in_the_file_moves_the_cursor_there(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(5))
    server.sessions["s"] = agent.whole_lines("s")[:3]
    agent.settle()
    assert server.sessions["s"] == agent.whole_lines("s")
    assert sum(is_put_entry(request) for request in server.requests) == 3  # the refused first, then the missing two


def test_a_server_that_lost_entries_gets_them_again(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(5))
    agent.settle()
    del server.sessions["s"][2:]
    agent.append("s", lines(1))
    agent.settle()
    assert server.sessions["s"] == agent.whole_lines("s")
    assert troubles(agent) == ["realigned"]


def test_a_server_that_lost_everything_gets_it_again(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(3))
    agent.settle()
    del server.sessions["s"]
    agent.append("s", lines(1))
    agent.settle()
    assert server.sessions["s"] == agent.whole_lines("s")


def test_a_head_of_another_writer_is_adopted_and_audited(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    server.sessions["s"] = [lines(1).rstrip(b"\n")]
    agent.append("s", lines(2))
    agent.settle()
    assert server.sessions["s"][1:] == agent.whole_lines("s")
    assert troubles(agent) == ["adopted"]


def test_without_the_header_the_head_is_looked_up(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer(tells_head=False)
    agent = make_agent(server)
    agent.append("s", lines(4))
    server.sessions["s"] = agent.whole_lines("s")[:2]
    agent.settle()
    assert server.sessions["s"] == agent.whole_lines("s")


def test_a_conflict_that_nothing_explains_stops_the_session_alone(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    refuses = ScriptedServer(
        server, lambda request: reply(409) if is_put_entry(request) and "/odd" in request.path else None
    )
    agent = make_agent(refuses)
    agent.append("odd", lines(1))
    agent.append("s", lines(1))
    agent.settle()
    assert (agent.state("odd"), agent.track("odd").reason) == (State.REFUSED, NO_HEAD)
    assert agent.state("s") is State.SYNCED


@pytest.mark.parametrize("held", [3, 7])
def test_a_repeated_uuid_is_told_apart_by_how_much_the_server_holds(held: int, make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    history = lines(3)
    agent.append("s", history + lines(1) + history + lines(2))
    server.sessions["s"] = agent.whole_lines("s")[:held]  # its head is the third entry, which is also the seventh
    agent.settle()
    assert server.sessions["s"] == agent.whole_lines("s")


def test_contradictory_conflicts_end_in_a_cool_down(make_agent: Make, lines: Lines) -> None:
    heads = iter(range(10_000))

    def invent(request: Request) -> RawReply | None:
        return reply(409, headers={"x-last-uuid": f"made-up-{next(heads)}"}) if is_put_entry(request) else None

    server = ScriptedServer(StrictBaseServer(), invent)
    agent = make_agent(server)
    agent.append("s", lines(1))
    agent.look()
    while agent.run_one():
        pass
    assert agent.state("s") is State.WAITING
    assert sum(is_put_entry(request) for request in server.requests) == 6
    assert agent.track("s").retry_at_s - agent.clock.now_s() > 7


# --- 409 on a bulk server -------------------------------------------------------------------------------------------


def test_a_lost_state_is_found_again_with_one_conflict_a_stream(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    first = make_agent(receiver)
    first.append("s", lines(4))
    first.settle()
    watched = ScriptedServer(receiver, lambda request: None)
    second = make_agent(watched)
    second.append("s", first.path("s").read_bytes() + lines(2))
    second.settle()
    assert stored(receiver, "s") == second.path("s").read_bytes()
    assert sum(is_append(request) for request in watched.requests) == 2


# --- the table of answers -------------------------------------------------------------------------------------------


def test_401_stops_the_destination_and_marks_nothing_failed(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    valid = False
    server = ScriptedServer(receiver, lambda request: None if valid else reply(401))
    agent = make_agent(server)
    agent.append("s", lines(2))
    agent.append("t", lines(2))
    agent.settle()
    asked = len(server.requests)
    assert agent.destination.condition is Condition.NEEDS_LOGIN
    assert set(agent.states().values()) == {State.DUE}
    assert {track.attempts for track in agent.engine.tracks.values()} == {0}
    assert asked == 1
    agent.live_for(901)
    agent.settle()
    assert len(server.requests) == asked + 1
    valid = True
    agent.engine.handle(Retry())
    agent.settle()
    assert set(agent.states().values()) == {State.SYNCED}


def test_401_in_the_middle_of_a_run_keeps_what_was_acknowledged(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    valid = False

    def expire(request: Request) -> RawReply | None:
        return reply(401) if is_put_entry(request) and len(server.sessions.get("s", [])) == 2 and not valid else None

    agent = make_agent(ScriptedServer(server, expire))
    agent.append("s", lines(5))
    agent.settle()
    assert (agent.destination.condition, agent.state("s")) == (Condition.NEEDS_LOGIN, State.DUE)
    assert agent.track("s").cursor.sent_count == 2
    valid = True
    agent.engine.handle(Retry())
    agent.settle()
    assert server.sessions["s"] == agent.whole_lines("s")


@pytest.mark.parametrize("status", [402, 403, 406, 411, 418, 451])
def test_another_4xx_refuses_one_session_until_retry(
    status: int, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    forbidden = True
    server = ScriptedServer(
        receiver,
        lambda request: reply(status) if forbidden and is_append(request) and "/bad/" in request.path else None,
    )
    agent = make_agent(server)
    agent.append("bad", lines(1))
    agent.append("good", lines(1))
    agent.settle()
    assert (agent.state("bad"), agent.state("good")) == (State.REFUSED, State.SYNCED)
    assert str(status) in agent.track("bad").reason
    agent.append("bad", lines(1))
    agent.settle()
    assert agent.state("bad") is State.REFUSED
    forbidden = False
    agent.engine.handle(Retry())
    agent.settle()
    assert stored(receiver, "bad") == agent.path("bad").read_bytes()


def test_404_on_an_append_is_a_wrong_address_and_probed_every_15_min(make_agent: Make, lines: Lines) -> None:
    server = ScriptedServer(StrictBaseServer(), lambda request: reply(404))
    agent = make_agent(server)
    agent.append("s", lines(1))
    agent.settle()
    assert (agent.destination.condition, agent.state("s")) == (Condition.MISCONFIGURED, State.DUE)
    assert 899 < agent.destination.retry_at_s - agent.clock.now_s() <= 900


def test_410_is_never_sent_again(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda request: reply(410) if is_append(request) else None)
    agent = make_agent(server)
    agent.append("s", lines(1))
    agent.settle()
    asked = sum(map(is_append, server.requests))
    agent.append("s", lines(1))
    agent.engine.handle(Retry())
    agent.settle()
    assert agent.state("s") is State.DELETED_ON_SERVER
    assert sum(map(is_append, server.requests)) == asked == 1


@pytest.mark.parametrize("status", [413, 400, 422])
def test_an_entry_that_is_not_accepted_becomes_a_tombstone_and_the_rest_goes_on(
    status: int, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    bad = json.dumps({"uuid": "bad-one", "text": "x" * 500}).encode()
    server = ScriptedServer(
        receiver, lambda request: reply(status) if is_append(request) and bad in body_bytes(request) else None
    )
    agent = make_agent(server)
    before, after = lines(9), lines(14)
    agent.append("s", before + bad + b"\n" + after)
    agent.settle()
    got = stored(receiver, "s")
    stone = got[len(before) : -len(after)]
    fields = json.loads(stone)
    assert got.startswith(before)
    assert got.endswith(after)
    assert stone == tombstone_line(len(bad), fields["sha256"], "bad-one", status) + b"\n"
    assert (fields["uuid"], fields["size"]) == ("bad-one", len(bad))
    assert troubles(agent) == ["tombstoned"]
    agent.crash()
    agent.append("s", lines(1))
    agent.settle()
    assert agent.state("s") is State.SYNCED
    assert stored(receiver, "s").startswith(got)


def test_a_tombstone_that_the_server_lost_is_no_longer_part_of_what_was_sent(
    make_agent: Make, lines: Lines, receiver: AsgiServer, tmp_path: Path
) -> None:
    """It begins anew and takes the entry now. A look at all of the file must find it as it was sent then."""
    bad = json.dumps({"uuid": "bad-one"}).encode()
    server = ScriptedServer(
        receiver, lambda request: reply(422) if is_append(request) and bad in body_bytes(request) else None
    )
    agent = make_agent(server)
    agent.append("s", lines(2) + bad + b"\n" + lines(2))
    agent.settle()
    assert troubles(agent) == ["tombstoned"]
    (tmp_path / "empty").mkdir()
    with receiver_without_network(tmp_path / "empty") as empty:
        server.behind, server.script = empty, lambda _: None
        agent.append("s", lines(1))
        agent.settle()
        copy = agent.path("s").with_suffix(".new")
        copy.write_bytes(agent.path("s").read_bytes())
        copy.replace(agent.path("s"))
        agent.settle()
        assert stored(empty, "s") == agent.path("s").read_bytes()
    assert troubles(agent) == ["tombstoned", "realigned"]


def test_a_tombstone_survives_the_loss_of_an_answer(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    bad = b'{"uuid":"bad-one"}'
    lose = True

    def script(request: Request) -> RawReply | None:
        nonlocal lose
        if is_append(request) and bad in body_bytes(request):
            return reply(422)
        if is_append(request) and b"tombstone" in body_bytes(request) and lose:
            lose = False
            receiver.send(request)
            return no_answer()
        return None

    agent = make_agent(ScriptedServer(receiver, script))
    agent.append("s", lines(1) + bad + b"\n" + lines(1))
    agent.settle()
    assert agent.state("s") is State.SYNCED
    assert stored(receiver, "s").count(b"\n") == 3


def test_a_tombstone_is_known_after_a_restart(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    """Where the server stands is told by a chain hash, and that covers what travelled."""
    bad = b'{"uuid":"bad-one"}'
    server = ScriptedServer(
        receiver, lambda request: reply(422) if is_append(request) and bad in body_bytes(request) else None
    )
    agent = make_agent(server)
    agent.append("s", lines(2) + bad + b"\n" + lines(1))
    agent.settle()
    agent.append("s", lines(1))
    agent.look()
    while agent.run_one():
        pass
    (remembered,) = agent.store.tracks()
    assert remembered.cursor.entry_count == 4
    assert agent.track("s").cursor.entry_count == 5, "progress that is not written yet, which the crash forgets"
    agent.crash()
    server.requests.clear()
    agent.append("s", lines(1))
    agent.settle()
    assert not any(bad in body_bytes(request) for request in server.requests)
    assert sum(map(is_append, server.requests)) == 2
    assert troubles(agent) == ["tombstoned", "realigned"]
    assert stored(receiver, "s").count(b"\n") == 6


def test_where_a_server_stands_before_what_was_sent_tombstones_are_known_too(make_agent: Make, lines: Lines) -> None:
    """It was brought back from a backup; the agent crashed meanwhile."""
    bad = b'{"uuid":"bad-one"}'
    server = ModelServer(refuse=lambda _, sent: 422 if bad in sent else None)
    agent = make_agent(server)
    agent.append("s", lines(2) + bad + b"\n" + lines(1))
    agent.settle()
    backup = server.copy()
    agent.append("s", lines(2))
    agent.settle()
    agent.crash()
    server.set_back(backup)
    agent.append("s", lines(1))
    agent.settle()
    assert troubles(agent) == ["tombstoned", "realigned"]
    current = server.current(StreamId("s", ""))
    assert current is not None
    assert len(current.lines) == 7


def test_a_tombstone_that_was_taken_back_is_not_looked_for_either(make_agent: Make, lines: Lines) -> None:
    """The server lost all, took the entry itself, and was then brought back to where it had that."""
    bad = b'{"uuid":"bad-one"}'
    server = ModelServer(refuse=lambda _, sent: 422 if bad in sent else None)
    agent = make_agent(server)
    agent.append("s", lines(2) + bad + b"\n" + lines(1))
    agent.settle()
    server.set_back({})
    server.refuse = lambda _, sent: None
    agent.append("s", lines(1))
    agent.settle()
    backup = server.copy()
    agent.append("s", lines(2))
    agent.settle()
    server.set_back(backup)
    agent.append("s", lines(1))
    agent.settle()
    assert troubles(agent) == ["tombstoned", "realigned", "realigned"]
    current = server.current(StreamId("s", ""))
    assert current is not None
    assert current.lines == agent.whole_lines("s")


def test_a_server_that_refuses_tombstones_too_stops_the_session(make_agent: Make, lines: Lines) -> None:
    base = StrictBaseServer()
    server = ScriptedServer(base, lambda request: reply(422) if is_put_entry(request) else None)
    agent = make_agent(server)
    agent.append("s", lines(2))
    agent.settle()
    assert agent.state("s") is State.REFUSED
    assert "entry 1" in agent.track("s").reason
    server.script = lambda _: None
    agent.engine.handle(Retry())
    agent.settle()
    assert base.sessions["s"] == agent.whole_lines("s"), "the entry itself: its tombstone was never stored"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 425, 429, 507, 599])
def test_an_outage_is_waited_for_and_never_given_up(
    status: int, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    down = True
    server = ScriptedServer(receiver, lambda request: reply(status) if down and is_append(request) else None)
    agent = make_agent(server)
    agent.append("s", lines(2))
    agent.look()
    agent.live_for(3600)
    tries = sum(map(is_append, server.requests))
    assert agent.state("s") is State.WAITING
    assert 15 <= tries <= 60  # ten soon, then one every few minutes
    down = False
    agent.settle()
    assert agent.state("s") is State.SYNCED


def test_a_dead_network_costs_one_question_at_a_time(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    down = True
    server = ScriptedServer(receiver, lambda request: no_answer() if down else None)
    agent = make_agent(server)
    for number in range(40):
        agent.append(f"s{number}", lines(1))
    agent.look()
    agent.live_for(3600)
    assert agent.destination.condition is Condition.OFFLINE
    assert len(server.requests) < 40
    assert set(agent.states().values()) == {State.DUE}
    down = False
    agent.settle()
    assert set(agent.states().values()) == {State.SYNCED}


def test_after_an_outage_one_stream_goes_ahead(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    down = True
    server = ScriptedServer(receiver, lambda request: no_answer() if down else None)
    agent = make_agent(server)
    for number in range(10):
        agent.append(f"s{number}", lines(1))
    agent.look()
    agent.live_for(60)
    agent.destination.window, down = Window(8.0), False
    most = 0
    while State.SYNCED not in agent.states().values():
        most = max(most, list(agent.states().values()).count(State.PUSHING))
        assert agent.run_one() or agent.wait()
    assert most == 1
    agent.settle()
    assert set(agent.states().values()) == {State.SYNCED}


def test_a_poisoned_session_does_not_hold_up_the_others(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(
        receiver, lambda request: reply(502) if is_append(request) and "/poison/" in request.path else None
    )
    agent = make_agent(server)
    agent.append("poison", lines(1))
    for number in range(20):
        agent.append(f"s{number}", lines(1))
    agent.look()
    agent.live_for(60)
    states = agent.states()
    assert states.pop("poison/") is State.WAITING
    assert set(states.values()) == {State.SYNCED}


@pytest.mark.parametrize(("status", "for_everybody"), [(408, False), (500, False), (429, True), (503, True)])
def test_retry_after_wins_over_our_own_patience(
    status: int, for_everybody: bool, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    times: list[float] = []

    def script(request: Request) -> RawReply | None:
        if "/meta" in request.path or not (for_everybody or is_append(request)):
            return None
        times.append(agent.clock.now_s())
        return reply(status, headers={"retry-after": "77"}) if len(times) == 1 else None

    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server)
    agent.settle()
    server.script = script
    agent.append("s", lines(1))
    agent.settle()
    assert agent.state("s") is State.SYNCED
    assert 77 <= times[1] - times[0] < 90


@pytest.mark.parametrize(
    "page",
    [
        RawReply(200, {"content-type": "text/html"}, b"<html>welcome to the hotel</html>"),
        RawReply(302, {"location": "http://portal/"}, b""),
        RawReply(204, {}, b""),
        RawReply(200, {"content-type": "application/json"}, b'{"ok": true}'),
    ],
    ids=["page", "redirect", "nothing", "other json"],
)
@pytest.mark.parametrize("base_only", [False, True])
def test_a_captive_portal_is_no_server(
    page: RawReply, base_only: bool, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    portal = True
    behind = StrictBaseServer() if base_only else receiver
    agent = make_agent(ScriptedServer(behind, lambda request: page if portal else None))
    agent.append("s", lines(2))
    agent.look()
    for _ in range(30):
        agent.run_one() or agent.wait()
    assert agent.track("s").cursor.offset == 0
    assert agent.destination.condition is not Condition.RUNNING
    portal = False
    agent.settle()
    assert agent.state("s") is State.SYNCED


# --- what is offered ------------------------------------------------------------------------------------------------


def test_a_server_that_stops_offering_bulk_gets_single_entries(make_agent: Make, lines: Lines) -> None:
    store = StrictBaseServer()
    offer = json.dumps({"protocol": 1, "bulk": {"max_bytes": 1 << 20, "max_entries": 100, "encodings": []}}).encode()
    offered = True

    def script(request: Request) -> RawReply | None:
        if offered and request.path.endswith("/capabilities"):
            return reply(200, offer)
        return None

    agent = make_agent(ScriptedServer(store, script))
    assert agent.run_one()
    assert agent.destination.bulk
    offered = False
    agent.append("s", lines(3))
    agent.settle()
    assert not agent.destination.bulk
    assert store.sessions["s"] == agent.whole_lines("s")


def test_the_settings_can_demand_bulk(make_agent: Make, lines: Lines) -> None:
    agent = make_agent(StrictBaseServer(), protocol="bulk")
    agent.append("s", lines(1))
    agent.settle()
    assert agent.destination.condition is Condition.MISCONFIGURED
    assert "bulk" in agent.destination.why


def test_the_settings_can_demand_single_entries(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda request: None)
    agent = make_agent(server, protocol="ingress")
    agent.append("s", lines(3))
    agent.settle()
    assert not any(map(is_append, server.requests))
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_a_base_server_gets_main_entries_with_a_uuid_and_the_rest_is_counted(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(2) + b'{"type":"mode"}\n' + lines(1))
    agent.append("s", lines(2), "subagents/agent-a")
    agent.settle()
    cursor = agent.track("s").cursor
    assert (cursor.entry_count, cursor.sent_count) == (4, 3)
    assert agent.track("s", "subagents/agent-a").reason == NO_SUBAGENTS
    assert len(server.sessions["s"]) == 3


@pytest.mark.parametrize("encoding", ["zstd", "gzip", None])
def test_batches_travel_in_each_encoding(
    encoding: str | None, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    offered = [encoding] if encoding else []
    offer = json.dumps({"protocol": 1, "bulk": {"max_bytes": 1 << 20, "max_entries": 7, "encodings": offered}}).encode()
    server = ScriptedServer(
        receiver, lambda request: reply(200, offer) if request.path.endswith("/capabilities") else None
    )
    agent = make_agent(server, compress=True)
    agent.append("s", lines(30))
    agent.settle()
    appends = [request for request in server.requests if is_append(request)]
    assert {request.headers.get("Content-Encoding") for request in appends} == {encoding}
    assert len(appends) == 5
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_facts_of_a_session_follow_its_entries(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(2) + b'{"type":"custom-title","customTitle":"Tides","sessionId":"s"}\n')
    agent.settle()
    meta = json.loads(receiver.send(Request("GET", "/v1/session_ingress/session/s/meta")).body)
    assert (meta["project"], meta["title"], meta["provider"]) == ("/home/dev/demo", "Tides", "claude")


def test_history_stays_here_when_the_settings_say_so_until_it_grows(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    import os

    agent = make_agent(receiver, limits=Limits(backlog=False))
    agent.append("old", lines(2))
    os.utime(agent.path("old"), (agent.clock.now_s() - 86_400,) * 2)
    agent.append("new", lines(2))
    os.utime(agent.path("new"), (agent.clock.now_s() + 5,) * 2)
    agent.settle()
    assert agent.states() == {"new/": State.SYNCED}
    assert len(agent.engine.sightings.held_back) == 1
    agent.append("old", lines(1))
    os.utime(agent.path("old"), (agent.clock.now_s() + 9,) * 2)
    agent.settle()
    assert stored(receiver, "old") == agent.path("old").read_bytes()
    assert not agent.engine.sightings.held_back


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
def test_facts_that_are_not_taken_hold_up_no_entries(
    status: int, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda request: reply(status) if request.path.endswith("/meta") else None)
    agent = make_agent(server)
    agent.append("s", lines(2))
    agent.settle()
    asked = len(server.requests)
    agent.live_for(3600)
    assert agent.state("s") is State.SYNCED
    assert agent.destination.condition is Condition.RUNNING
    assert len(server.requests) == asked


def test_a_rewritten_file_follows_what_a_base_server_holds(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(4))
    agent.settle()
    before = list(server.sessions["s"])
    agent.path("s").write_bytes(lines(2))
    agent.settle()
    assert server.sessions["s"] == before + agent.whole_lines("s")
    assert troubles(agent) == ["rewritten", "adopted"]


@pytest.mark.parametrize("wrong", [{"entry_count": 99}, {"chain_hash": "00" * 32}], ids=["count", "chain"])
def test_a_success_that_does_not_match_what_was_sent_moves_no_cursor(
    wrong: dict[str, object], make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    lies, appends = True, list[Request]()

    def lie(request: Request) -> RawReply | None:
        if not is_append(request) or not lies:
            return None
        appends.append(request)
        answer = receiver.send(request)
        return answer._replace(body=json.dumps(json.loads(answer.body) | wrong).encode())

    agent = make_agent(ScriptedServer(receiver, lie))
    agent.append("s", lines(2))
    agent.look()
    while not appends:
        agent.run_one()
    assert agent.track("s").cursor.offset == 0
    lies = False
    agent.settle()
    assert agent.state("s") is State.SYNCED
    assert stored(receiver, "s") == agent.path("s").read_bytes()
