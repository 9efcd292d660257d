"""An agent without a token: what it waits for, how often it asks, and that it goes on by itself."""

import logging
from collections.abc import Callable

import pytest

from agent.core.delivery.lifecycle import KEYRING_WAIT_S, LONG_WAIT_S, Condition, State
from agent.core.wire import RawReply, Request
from agent.errors import AgentError, KeyringError, KeyringLocked, KeyringMissing, TokenNotReadable, Unauthorized
from tests.fakes import AsgiServer, ScriptedServer, reply
from tests.reliability import MakeTally
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]

WITHIN_S = 30.0


class Gatekeeper:
    """Raises what a token's source raises, before anything is sent."""

    def __init__(self, trouble: AgentError | None) -> None:
        self.trouble = trouble
        self.asked = 0

    def __call__(self, request: Request) -> RawReply | None:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return None


def stored(server: AsgiServer, session: str) -> bytes:
    return server.send(Request("GET", f"/v1/session_ingress/session/{session}/entries")).body


@pytest.mark.parametrize("trouble", [KeyringLocked("locked"), KeyringMissing("none"), KeyringError("failed (X)")])
def test_delivery_waits_for_a_keyring_and_goes_on_within_half_a_minute(
    *,
    trouble: KeyringError,
    make_agent: Make,
    lines: Lines,
    receiver: AsgiServer,
    tally: MakeTally,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    keeper = Gatekeeper(trouble)
    agent = make_agent(ScriptedServer(receiver, keeper))
    agent.append("s", lines(3))
    agent.look()
    agent.live_for(1)
    (one,) = agent.destinations.values()
    assert (one.condition, one.why) == (Condition.WAITING_FOR_KEYRING, trouble.message)
    agent.live_for(3600)
    agent.append("t", lines(3))
    agent.look()
    assert [agent.state(session) for session in "st"] == [State.DUE, State.DUE], "the queue grows"
    assert keeper.asked == pytest.approx(3600 / KEYRING_WAIT_S, rel=0.02), "one question at a time"
    assert caplog.text.count("waiting_for_keyring") == 1, "told once, not at each knock"
    keeper.trouble = None
    agent.live_for(WITHIN_S)
    told = tally("nothing is lost", "a keyring that is locked for an hour")
    for session in "st":
        there = stored(receiver, session)
        told.note_lines(agent.path(session).read_bytes().splitlines(), there.splitlines())
        assert there == agent.path(session).read_bytes()
    assert one.why == ""
    assert caplog.text.count("is running") == 1


def test_a_locked_keyring_that_turns_out_empty_needs_a_login(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    keeper = Gatekeeper(KeyringLocked("locked"))
    agent = make_agent(ScriptedServer(receiver, keeper))
    agent.append("s", lines(3))
    agent.look()
    agent.live_for(60)
    keeper.trouble = Unauthorized("there is no token", hint="transcriptd login URL")
    agent.live_for(WITHIN_S)
    (one,) = agent.destinations.values()
    assert (one.condition, one.why, one.hint) == (
        Condition.NEEDS_LOGIN,
        "there is no token",
        "transcriptd login URL",
    )
    asked = keeper.asked
    agent.live_for(LONG_WAIT_S - 60)
    assert keeper.asked == asked, "nobody logs in by being asked for"
    agent.engine.gates.ask_again()  # after a login
    keeper.trouble = None
    agent.live_for(1)
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_a_file_that_must_not_be_used_says_why_and_what_helps(make_agent: Make, receiver: AsgiServer) -> None:
    keeper = Gatekeeper(TokenNotReadable("token file x is open to others", hint="chmod 600 x"))
    agent = make_agent(ScriptedServer(receiver, keeper))
    agent.live_for(1)
    (one,) = agent.destinations.values()
    assert one.condition is Condition.NEEDS_LOGIN
    assert (one.why, one.hint) == ("token file x is open to others", "chmod 600 x")


def test_a_token_that_ends_while_sending_holds_what_was_under_way(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    keeper = Gatekeeper(None)
    agent = make_agent(ScriptedServer(receiver, keeper))
    agent.append("s", lines(3))
    agent.settle()
    keeper.trouble = KeyringLocked("locked")
    agent.append("s", lines(2))
    agent.look()
    agent.live_for(20)
    assert agent.state("s") is State.DUE
    keeper.trouble = None
    agent.live_for(WITHIN_S)
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_a_login_that_comes_while_the_old_token_is_tried_is_not_lost(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """The question that is out is answered with 401; the next one would be a quarter of an hour away."""
    refusing = True
    server = ScriptedServer(receiver, lambda _: reply(401) if refusing else None)
    agent = make_agent(server)
    agent.append("s", lines(3))
    agent.look()
    assert len(agent.in_flight) == 1, "the question what the server offers"
    agent.engine.gates.ask_again()
    assert len(agent.in_flight) == 1, "one at a time"
    agent.run_one()
    refusing = False
    agent.live_for(1)
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_a_refused_token_is_asked_about_once_and_told_once(
    make_agent: Make, receiver: AsgiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = ScriptedServer(receiver, lambda _: reply(401))
    agent = make_agent(server)
    agent.live_for(4 * LONG_WAIT_S + 10)
    assert len(server.requests) == 5
    assert caplog.text.count("needs_login") == 1
