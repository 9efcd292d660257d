"""What is told of sessions and destinations, each once, by a whole agent in virtual time."""

import os
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from agent.core.delivery.lifecycle import UNSENT, State
from agent.core.sessions.events import EventKind, Happening
from agent.core.sessions.runs import QUIET_S, SETTLE_S, End
from agent.delivery.engine.telling import REST_S
from agent.delivery.state.inputs import Retry, RulesChanged, SaidOver
from agent.delivery.state.pausing import HeldOff, PauseAsked, ResumeAsked
from tests.fakes import AsgiServer, FakeRules, ScriptedServer, StrictBaseServer, no_answer, reply
from tests.simulation.world import SimulatedAgent, any_lines

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]

STARTED, CHANGED, SYNCED, PRIVATE, ENDED, CONDITION = list(EventKind)[:6]


def kinds(agent: SimulatedAgent, session: str = "s") -> list[str]:
    return [one.kind for one in agent.told if one.session_id == session]


def write(agent: SimulatedAgent, data: bytes, session: str = "s", subpath: str = "", age_s: float = 0.0) -> None:
    """As somebody does who writes by the clock of the agent."""
    agent.append(session, data, subpath)
    at_s = agent.clock.now_s() - age_s
    os.utime(agent.path(session, subpath), (at_s, at_s))


def test_a_session_starts_arrives_grows_and_ends(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    write(agent, lines(3))
    agent.settle()
    assert kinds(agent) == [STARTED, SYNCED]
    agent.live_for(10)
    write(agent, lines(1))
    agent.settle()
    assert kinds(agent) == [STARTED, SYNCED, CHANGED, SYNCED]
    agent.live_for(QUIET_S - 1)
    assert ENDED not in kinds(agent)
    agent.live_for(2)
    assert kinds(agent) == [STARTED, SYNCED, CHANGED, SYNCED, ENDED]
    agent.look()
    agent.live_for(3 * QUIET_S)
    assert len(kinds(agent)) == 5, "nothing happened since"
    write(agent, lines(1))
    agent.settle()
    agent.live_for(QUIET_S + 1)
    assert kinds(agent)[5:] == [CHANGED, SYNCED, ENDED]


@pytest.mark.parametrize("why", [End.HOOK, End.LINE])
def test_a_session_ends_when_it_is_said_so(make_agent: Make, lines: Lines, receiver: AsgiServer, why: End) -> None:
    agent = make_agent(receiver)
    write(agent, lines(3))
    agent.settle()
    agent.engine.handle(SaidOver("s", why, agent.clock.now_s()))
    agent.live_for(SETTLE_S + 1)
    assert kinds(agent) == [STARTED, SYNCED, ENDED]
    agent.live_for(2 * QUIET_S)
    assert kinds(agent).count(ENDED) == 1
    (run,) = agent.runs.values()
    assert (run.session_id, run.why) == ("s", why)
    write(agent, lines(1))
    agent.settle()
    agent.live_for(QUIET_S + 1)
    assert kinds(agent).count(ENDED) == 2
    assert len(agent.runs) == 2


def test_a_transcript_under_another_name_goes_on_with_its_run(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    write(agent, lines(3))
    agent.settle()
    (before,) = agent.runs.values()
    agent.path("s").rename(agent.path("t"))
    agent.look()
    write(agent, lines(1), "t")
    agent.settle()
    agent.live_for(QUIET_S + 1)
    (run,) = agent.runs.values()
    assert (run.id, run.session_id, run.why) == (before.id, "t", End.QUIET)
    assert (kinds(agent, "s").count(ENDED), kinds(agent, "t").count(ENDED)) == (0, 1)


def test_what_was_written_before_the_start_is_no_run(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    """A home that was copied here has thousands of fresh files, and nobody works in them."""
    agent = make_agent(receiver)
    agent.crash()
    agent.engine.telling._is_settled = False
    write(agent, lines(3))
    agent.settle()
    assert agent.runs == {}
    write(agent, lines(1))
    agent.settle()
    assert len(agent.runs) == 1


def test_what_is_told_of_a_session_is_no_word_of_it(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    write(agent, lines(3))
    agent.settle()
    synced = agent.told[-1]
    size = agent.path("s").stat().st_size
    at_s = synced.at_s
    assert synced == Happening(SYNCED, at_s, session_id="s", provider="claude", project="/home/dev/demo", bytes=size)


def test_a_backlog_is_history(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    write(agent, lines(3), age_s=86_400)
    write(agent, lines(3), "live")
    agent.settle()
    agent.live_for(QUIET_S + 1)
    assert [one.history for one in agent.told if one.kind == STARTED] == [True, False]
    assert kinds(agent) == [STARTED, SYNCED], "what nobody writes does not end"
    assert kinds(agent, "live") == [STARTED, SYNCED, ENDED]


def test_one_that_grows_without_pause_is_told_once_a_second(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    write(agent, lines(1))
    agent.settle()
    agent.told.clear()
    began_s = agent.clock.mono_s
    for _ in range(100):
        write(agent, lines(1))
        agent.look(live=True)
        agent.live_for(0.1)
    agent.settle()
    agent.live_for(2 * REST_S)
    counts = Counter(kinds(agent))
    seconds = agent.clock.mono_s - began_s
    assert 5 <= counts[SYNCED] <= seconds + 1
    assert 5 <= counts[CHANGED] <= seconds + 1 + counts[SYNCED]
    assert kinds(agent)[-1] == SYNCED, "the last word is how it stands"


def test_a_session_is_synced_when_all_its_streams_are_everywhere(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    away = ScriptedServer(StrictBaseServer(), lambda _: no_answer())
    agent = make_agent(receiver, beside={"elsewhere": away})
    write(agent, lines(3))
    write(agent, lines(3), subpath="subagents/agent-a")
    agent.look()
    agent.live_for(30)
    assert kinds(agent) == [STARTED, CHANGED]
    away.script = lambda _: None
    away.behind = receiver
    agent.settle()
    assert kinds(agent) == [STARTED, CHANGED, SYNCED]


def test_a_refused_stream_keeps_its_session_from_being_synced(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda one: reply(451) if "agent-a" in one.path else None)
    agent = make_agent(server)
    write(agent, lines(2))
    write(agent, lines(2), subpath="subagents/agent-a")
    agent.settle()
    assert State.REFUSED in agent.states().values()
    assert SYNCED not in kinds(agent)
    server.script = lambda _: None
    agent.engine.handle(Retry())
    agent.settle()
    assert kinds(agent)[-1] == SYNCED


def test_a_session_that_becomes_private_is_named_once_and_no_more_than_named(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    rules = FakeRules()
    agent = make_agent(receiver, rulebook=rules)
    write(agent, lines(3))
    agent.settle()
    agent.told.clear()
    rules.sessions.add("s")
    agent.engine.handle(RulesChanged())
    agent.settle()
    assert kinds(agent) == [PRIVATE]
    agent.crash()
    write(agent, lines(1))
    agent.settle()
    agent.live_for(QUIET_S + 1)
    assert kinds(agent) == [PRIVATE, CHANGED, ENDED]
    assert all(one == Happening(one.kind, one.at_s, session_id="s") for one in agent.told if one.session_id)
    rules.sessions.clear()
    agent.engine.handle(RulesChanged())
    agent.settle()
    rules.sessions.add("s")
    agent.engine.handle(RulesChanged())
    agent.settle()
    assert kinds(agent)[3:] == [SYNCED, PRIVATE]


def test_a_new_session_that_is_private_is_told_as_that(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver, rulebook=FakeRules("s"))
    write(agent, lines(3))
    agent.settle()
    assert kinds(agent) == [STARTED, PRIVATE]
    assert all(not one.project and not one.provider for one in agent.told if one.session_id)


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_a_restart_repeats_nothing(make_agent: Make, lines: Lines, receiver: AsgiServer, how: str) -> None:
    agent = make_agent(receiver)
    for session in ("a", "b"):
        write(agent, lines(3), session)
    agent.settle()
    agent.live_for(QUIET_S + 2)
    agent.told.clear()
    if how == "stop":
        agent.engine.finish()
    agent.crash()
    agent.settle()
    agent.live_for(2 * QUIET_S)
    assert [one for one in agent.told if one.session_id] == []


def test_one_at_work_over_a_restart_ends_once(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    write(agent, lines(3))
    agent.settle()
    agent.live_for(100)
    agent.crash()
    agent.live_for(QUIET_S + 1)
    agent.crash()
    agent.live_for(QUIET_S + 1)
    assert kinds(agent) == [STARTED, SYNCED, ENDED]


def test_conditions_are_told_when_they_change_and_not_at_each_knock(make_agent: Make, lines: Lines) -> None:
    there = StrictBaseServer()
    server = ScriptedServer(there, lambda _: no_answer() if is_away else None)
    is_away = True
    agent = make_agent(server)
    write(agent, lines(3))
    agent.live_for(3600)
    is_away = False
    agent.live_for(3600)
    told = [(one.destination, one.condition, bool(one.why)) for one in agent.told if one.kind == CONDITION]
    assert told == [
        ("there", "offline", True),
        ("there", "running", False),
    ]


def test_a_pause_is_told_and_its_end_whoever_wished_it(make_agent: Make, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.settle()
    agent.told.clear()
    for event in (PauseAsked(60.0), PauseAsked(90.0), HeldOff("metered network"), ResumeAsked(), HeldOff("")):
        agent.engine.handle(event)
    agent.engine.handle(PauseAsked(60.0))
    agent.live_for(61)
    told = [(one.condition, one.why) for one in agent.told if one.kind == CONDITION]
    by_you, metered, on = ("paused", "by you"), ("paused", "metered network"), ("resumed", "")
    assert told == [by_you, metered, on, by_you, on]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_each_is_told_once_and_the_last_word_is_true(
    make_agent: Make, receiver: AsgiServer, seed: int
) -> None:
    rng = random.Random(seed)
    agent: Any = make_agent(receiver, seed=seed)
    lives = [0]
    for _ in range(40):
        match rng.randrange(8):
            case 0:
                lives.append(len(agent.told))
                agent.crash()
            case 1 | 2:
                subpath = rng.choice(["", "", "subagents/agent-a"])
                write(agent, any_lines(rng, rng.randrange(1, 6)), rng.choice("abc"), subpath, rng.choice([0, 0, 1e5]))
            case 3:
                agent.look(live=rng.random() < 0.5)
            case 4:
                agent.live_for(rng.choice([0.3, 2.0, 400.0]))
            case _:
                agent.run_one()
    agent.settle()
    agent.live_for(REST_S)
    agent.live_for(2 * QUIET_S)
    recount: Counter[str] = Counter()
    for key, track in agent.engine.tracks.items():
        recount[key.session_id] += track.state in UNSENT | {State.REFUSED, State.DELETED_ON_SERVER}
    assert {one: count for one, count in recount.items() if count} == agent.engine.telling._open
    for first, end in zip(lives, [*lives[1:], len(agent.told)], strict=True):
        for session in "abc":
            life = [one.kind for one in agent.told[first:end] if one.session_id == session]
            assert life.count(STARTED) <= 1
            assert STARTED not in life[1:], "it comes first"
            assert all(one != two or one == CHANGED for one, two in pairwise(life)), life
    for session in "abc":
        of_it = kinds(agent, session)
        if SYNCED in of_it:
            after = of_it[len(of_it) - of_it[::-1].index(SYNCED) :]
            assert set(after) <= {ENDED}, "the last word is how it stands"
    assert not agent.engine.telling._runs.running()
