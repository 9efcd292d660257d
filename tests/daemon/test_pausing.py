"""Paused: nothing of a session leaves, nothing is lost, and it ends when it was to end."""

from typing import Any

import pytest

from agent.core.delivery.lifecycle import PauseReason, State
from agent.core.settings import Push
from agent.core.wire import Request
from agent.daemon.process.thrift import Readers, Thrift
from agent.daemon.status.report import Surroundings, describe_line, report
from agent.delivery.state.inputs import RulesChanged, Woken
from agent.delivery.state.pausing import HeldOff, PauseAsked, ResumeAsked, decide_hold_off, parse_pause, render_pause
from agent.delivery.state.tasks import PushTask
from agent.system.machine.power import Power
from tests.daemon.test_delivery import Lines, Make, is_append, stored
from tests.fakes import AsgiServer, FakeRules, ScriptedServer, StrictBaseServer
from tests.simulation.world import SimulatedAgent

AROUND = Surroundings(1, 0.0, (), (), 0, ())
HOUR_S = 3600.0


def tell(agent: SimulatedAgent, event: Any) -> None:
    agent.engine.handle(event)
    agent.engine.tick()


def paused(agent: SimulatedAgent) -> str:
    return agent.engine.pausing.why


@pytest.fixture
def watched(receiver: AsgiServer) -> ScriptedServer:
    return ScriptedServer(receiver, lambda request: None)


def test_nothing_is_sent_while_paused_and_all_of_it_afterwards(
    make_agent: Make, lines: Lines, receiver: AsgiServer, watched: ScriptedServer
) -> None:
    agent = make_agent(watched)
    tell(agent, PauseAsked())
    agent.append("s", lines(3))
    agent.settle()
    assert agent.state("s") is State.DUE
    assert not any(map(is_append, watched.requests))
    assert not agent.engine.is_busy(), "who waits for a pass would wait without end"
    found = report(agent.engine, AROUND)
    assert (found.paused, found.paused_until_s) == ("by you", None)
    assert describe_line(agent.engine) == "paused (by you); there running: 1 due"
    tell(agent, ResumeAsked())
    assert agent.engine.is_busy()
    agent.settle()
    assert stored(receiver, "s") == agent.path("s").read_bytes()
    assert report(agent.engine, AROUND).paused == ""


def test_what_is_under_way_comes_to_its_end(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.settle()
    agent.append("s", lines(1))
    agent.look()
    assert any(isinstance(task, PushTask) for task in agent.in_flight)
    tell(agent, PauseAsked())
    while agent.run_one():
        pass
    agent.append("s", lines(1))
    agent.settle()
    assert stored(receiver, "s").count(b"\n") == 1
    assert agent.state("s") in (State.DUE, State.SETTLING)


def test_a_pause_ends_by_itself(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.settle()
    tell(agent, PauseAsked(HOUR_S))
    assert agent.engine.pausing.until_s == agent.clock.wall_s + HOUR_S
    agent.append("s", lines(1))
    agent.look()
    agent.live_for(HOUR_S - 1)
    assert agent.state("s") is State.DUE
    agent.live_for(2)
    agent.settle()
    assert paused(agent) == ""
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_a_later_wish_counts(make_agent: Make, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    tell(agent, PauseAsked(HOUR_S))
    tell(agent, PauseAsked(3 * HOUR_S))
    agent.live_for(2 * HOUR_S)
    assert paused(agent), "the first one's timer is nobody's"
    tell(agent, PauseAsked())
    agent.live_for(10 * HOUR_S)
    assert paused(agent)


@pytest.mark.parametrize("for_s", [None, HOUR_S])
def test_a_pause_outlives_a_crash_at_once(for_s: float | None, make_agent: Make, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    tell(agent, PauseAsked(for_s))
    agent.crash()
    assert paused(agent) == "by you"
    assert agent.engine.pausing.until_s == (None if for_s is None else agent.clock.wall_s + HOUR_S)
    agent.clock.advance(HOUR_S / 2)
    agent.crash()
    agent.live_for(HOUR_S / 2 + 1)
    assert paused(agent) == ("by you" if for_s is None else "")
    tell(agent, ResumeAsked())
    agent.crash()
    assert paused(agent) == ""


def test_a_pause_that_ran_out_meanwhile_is_over(make_agent: Make, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    tell(agent, PauseAsked(HOUR_S))
    agent.clock.advance(HOUR_S + 1)
    agent.crash()
    assert paused(agent) == ""


def test_an_hour_is_an_hour_also_for_a_machine_that_slept(make_agent: Make, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    tell(agent, PauseAsked(HOUR_S))
    agent.clock.wall_s += HOUR_S / 2
    tell(agent, Woken())
    assert paused(agent)
    agent.live_for(HOUR_S / 2 + 1)
    assert paused(agent) == ""
    tell(agent, PauseAsked(HOUR_S))
    agent.clock.wall_s += 8 * HOUR_S
    tell(agent, Woken())
    agent.engine.tick()
    assert paused(agent) == ""


@pytest.mark.parametrize("crashes", [False, True])
def test_a_clock_that_is_set_back_makes_no_pause_longer(crashes: bool, make_agent: Make, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    tell(agent, PauseAsked(HOUR_S))
    agent.clock.wall_s -= 365 * 86_400
    tell(agent, Woken())
    if crashes:
        agent.crash()
    assert agent.engine.pausing.until_s == pytest.approx(agent.clock.wall_s + HOUR_S)
    agent.live_for(HOUR_S + 1)
    assert paused(agent) == ""


def test_what_became_private_is_deleted_also_while_paused(
    make_agent: Make, lines: Lines, watched: ScriptedServer
) -> None:
    rules = FakeRules()
    agent = make_agent(watched, rulebook=rules)
    agent.append("s", lines(1))
    agent.settle()
    tell(agent, PauseAsked())
    rules.sessions.add("s")
    tell(agent, RulesChanged())
    agent.settle()
    assert [request.method for request in watched.requests][-1] == "DELETE"
    rules.sessions.clear()
    tell(agent, RulesChanged())
    before = len(watched.requests)
    agent.settle()
    assert not any(request.body for request in watched.requests[before:])


def test_a_run_of_entries_ends_with_the_one_that_is_under_way(make_agent: Make, lines: Lines) -> None:
    base = StrictBaseServer()
    agent = make_agent(base)
    agent.settle()
    agent.append("s", lines(9))
    agent.look()
    agent._pusher._is_stopping = lambda: bool(paused(agent))

    def pause(request: Request) -> None:
        if request.method == "PUT" and "s" not in base.sessions:
            agent.engine.pausing.handle(PauseAsked())

    agent.wire.server = ScriptedServer(base, pause)
    agent.settle()
    assert len(base.sessions["s"]) == 1
    tell(agent, ResumeAsked())
    agent.settle()
    assert b"\n".join([*base.sessions["s"], b""]) == agent.path("s").read_bytes()


# --- network and battery -------------------------------------------------------------------------------------------


def test_what_network_and_battery_say_holds_back_and_goes_by_itself(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    tell(agent, HeldOff(PauseReason.METERED))
    agent.append("s", lines(1))
    agent.settle()
    assert (agent.state("s"), paused(agent)) == (State.DUE, "metered network")
    tell(agent, PauseAsked())
    assert paused(agent) == "by you"
    tell(agent, HeldOff(""))
    assert paused(agent) == "by you"
    tell(agent, HeldOff(PauseReason.LOW_BATTERY))
    tell(agent, ResumeAsked())
    assert paused(agent) == "low battery"
    agent.crash()
    assert paused(agent) == "", "it is looked at anew"


@pytest.mark.parametrize(
    ("push", "is_metered", "power", "why"),
    [
        (Push(), True, Power(True, 1), ""),
        (Push(on_metered=False), True, None, "metered network"),
        (Push(on_metered=False), False, None, ""),
        (Push(on_metered=False), None, None, ""),
        (Push(on_battery_below=20), None, Power(True, 19.9), "low battery"),
        (Push(on_battery_below=20), None, Power(True, 20), ""),
        (Push(on_battery_below=20), None, Power(False, 1), ""),
        (Push(on_battery_below=20), None, Power(True, None), ""),
        (Push(on_battery_below=20), None, None, ""),
        (Push(on_metered=False, on_battery_below=20), True, Power(True, 1), "metered network"),
    ],
)
def test_the_settings_decide(push: Push, is_metered: bool | None, power: Power | None, why: str) -> None:
    assert decide_hold_off(push, is_metered, power) == why


def test_a_change_is_told_once_and_nothing_is_read_that_nobody_asks_for() -> None:
    told: list[HeldOff] = []
    seen = {"power": Power(True, 10.0)}

    def nobody() -> bool:
        raise AssertionError("nobody asked for it")

    thrift = Thrift(Push(on_battery_below=20), Readers(nobody, lambda: seen["power"]), told.append)
    thrift.look()
    thrift.look()
    seen["power"] = Power(False, 10.0)
    thrift.look()
    assert [one.why for one in told] == ["low battery", ""]
    idle = Thrift(Push(), Readers(nobody, nobody), told.append)  # type: ignore[arg-type]
    idle.look()
    assert not idle.is_wanted


# --- what the store remembers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left_s"),
    [
        (render_pause(1000.0, 60.0), 60.0),
        (render_pause(990.0, 60.0), 50.0),
        (render_pause(900.0, 60.0), 0.0),
        (render_pause(2000.0, 60.0), 60.0),
        (render_pause(1000.0, None), None),
        ("garbled", None),
        ("1 2 3", None),
    ],
)
def test_a_remembered_pause_lasts_what_is_left_of_it(text: str, left_s: float | None) -> None:
    assert parse_pause(text, 1000.0) == left_s
