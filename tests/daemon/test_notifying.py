"""When the daemon asks for somebody: from the engine's state to the words on a desktop."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from agent.core.delivery.lifecycle import Event, State
from agent.core.notices import DAY_S, Concern
from agent.core.wire import NeedsLogin
from agent.daemon.process.notifying import LOOK_S, Notifying, find_concerns
from agent.daemon.status.report import Surroundings, report
from agent.delivery.state.tasks import TrackKey
from agent.system.notify import Shown
from tests.fakes import FakeClock, ScriptedServer, StrictBaseServer, no_answer, reply
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]


class Desk:
    def __init__(self, concerns: Callable[[], tuple[list[Concern], set[str]]], shown: Shown = Shown.SHOWN) -> None:
        self.clock = FakeClock()
        self.concerns = concerns
        self.stored = ""
        self.shown = shown
        self.words: list[tuple[str, str]] = []
        self.start()

    def start(self) -> None:
        self.notifying = Notifying(
            self.clock, self.stored, concerns=self.concerns, remember=self._remember, show=self._show
        )

    def _remember(self, text: str) -> None:
        self.stored = text

    def _show(self, title: str, body: str) -> tuple[Shown, str]:
        self.words.append((title, body))
        return self.shown, "" if self.shown is Shown.SHOWN else "there is no session bus"

    def look_for(self, seconds: float) -> None:
        for _ in range(int(seconds / LOOK_S)):
            self.clock.advance(LOOK_S)
            self.notifying.look()


def test_a_trouble_that_stays_is_told_once_a_day_over_restarts() -> None:
    desk = Desk(lambda: ([Concern("needs_login", "work")], set()))
    for _ in range(4):
        desk.look_for(DAY_S / 2)
        desk.start()
    assert [title for title, _ in desk.words] == ["transcriptd needs a login"] * 2


def test_a_machine_that_slept_is_given_time() -> None:
    desk = Desk(lambda: ([Concern("unreachable", "work", 2)], set()))
    desk.look_for(600)
    desk.clock.advance(2 * DAY_S)
    desk.notifying.look()
    assert desk.words == []
    desk.look_for(600)
    assert len(desk.words) == 1


def test_where_nothing_can_be_shown_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(lambda: ([Concern("needs_login", "work")], set()), Shown.NOBODY)
    with caplog.at_level(logging.INFO):
        desk.look_for(DAY_S)
    assert 20 <= len(desk.words) <= 25, "tried again, once an hour"
    assert [record.getMessage() for record in caplog.records] == ["no notices on this desktop: there is no session bus"]


def around(agent: Any, **retention: float) -> Surroundings:
    return Surroundings(1, 0.0, (), (), 0, (), agent.clock.now_s(), retention)


@pytest.mark.parametrize(
    ("status", "waits", "expected"),
    [
        (401, True, [Concern("needs_login", "there")]),
        (401, False, [Concern("needs_login", "there")]),
        (0, True, [Concern("unreachable", "there", 1)]),
        (0, False, []),
        (None, True, []),
    ],
)
def test_concerns_follow_from_how_it_stands_with_a_server(
    make_agent: Make, lines: Lines, status: int | None, waits: bool, expected: list[Concern]
) -> None:
    def answer(_: Any) -> Any:
        return None if status is None else reply(status) if status else no_answer()

    agent = make_agent(ScriptedServer(StrictBaseServer(), answer))
    if waits:
        agent.append("s", lines(3))
        agent.look()
    agent.live_for(5)
    assert find_concerns(agent.engine, around(agent)) == (expected, set())


def test_a_server_that_is_being_asked_is_unknown(make_agent: Make) -> None:
    agent = make_agent(StrictBaseServer())
    assert find_concerns(agent.engine, around(agent)) == ([], {"there"})


def test_a_locked_keyring_concerns_only_where_something_waits(make_agent: Make, lines: Lines) -> None:
    agent = make_agent(StrictBaseServer())
    agent.live_for(1)
    agent.engine.gates.lock_out("there", NeedsLogin(later=True))
    assert find_concerns(agent.engine, around(agent))[0] == []
    agent.append("s", lines(3))
    agent.look()
    assert find_concerns(agent.engine, around(agent))[0] == [Concern("keyring_locked", "there", 1)]


def test_what_may_be_deleted_soon_concerns(make_agent: Make, lines: Lines) -> None:
    agent = make_agent(ScriptedServer(StrictBaseServer(), lambda _: no_answer()))
    agent.append("s", lines(3))
    agent.look()
    agent.live_for(5)
    agent.engine.keeper.held.clear()
    found, _ = find_concerns(agent.engine, around(agent, claude=-400 * DAY_S))
    assert Concern("about_to_be_lost", number=1) in found


def test_what_was_sent_and_is_only_compared_again_is_not_about_to_be_lost(make_agent: Make, lines: Lines) -> None:
    """`status` said "2 not sent yet may be deleted" of synced ones."""
    agent = make_agent(StrictBaseServer())
    agent.append("s", lines(3))
    agent.settle()
    agent.path("s").touch()
    agent.engine.apply(TrackKey("there", "s", ""), agent.track("s"), Event.GREW)
    agent.engine.keeper.held.clear()
    assert agent.state("s") is State.DUE
    found, _ = find_concerns(agent.engine, around(agent, claude=-400 * DAY_S))
    assert "about_to_be_lost" not in {one.rule for one in found}
    assert report(agent.engine, around(agent)).oldest_unsent_s is None
