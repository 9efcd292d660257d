"""Sleep, clocks and networks, in virtual time: what waited comes back at once, what was decided stays decided."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.delivery.lifecycle import Condition, State
from agent.core.wire import RawReply, Request
from agent.daemon.process import ticks as ticks_module
from agent.daemon.process.ticks import LOOK_S, Ticks, _Every
from agent.delivery.base.world import Limits
from agent.delivery.engine.engine import WAKE_SPREAD_S
from agent.delivery.state.inputs import Woken
from agent.system.machine.network import WayOut
from tests.daemon.test_delivery import Lines, Make, is_append, stored
from tests.fakes import AsgiServer, FakeClock, ScriptedServer, no_answer, reply
from tests.reliability import MakeTally
from tests.simulation.world import SimulatedAgent

HOUR_S = 3600.0
YEAR_S = 365.25 * 86_400


class Laptop:
    """An agent with the look at clock and network that a daemon has beside it, in virtual time."""

    def __init__(self, agent: SimulatedAgent) -> None:
        self.agent = agent
        self.way_out = WayOut("10.0.0.2", None)
        self.told: list[str] = []
        self.ticks = Ticks(agent.clock, lambda: self.way_out, self._woken)
        self._look_at_s = agent.clock.mono_s + LOOK_S

    def _woken(self, why: str) -> None:
        self.told.append(why)
        self.agent.engine.handle(Woken())
        self.agent.look()

    def live_for(self, seconds: float) -> None:
        """With a look every few seconds, as the thread of the ticks does."""
        agent, until = self.agent, self.agent.clock.mono_s + seconds
        while agent.clock.mono_s < until:
            if agent.run_one():
                continue
            deadline = agent.engine.next_deadline_s()
            then = min(until, self._look_at_s, until if deadline is None else deadline)
            agent.clock.advance(max(0.001, then - agent.clock.mono_s))
            if agent.clock.mono_s >= self._look_at_s:
                self._look_at_s += LOOK_S
                self.ticks.look()
            agent.engine.tick()

    def sleep(self, seconds: float) -> None:
        self.agent.clock.wall_s += seconds

    def set_clock(self, wall_s: float) -> None:
        self.agent.clock.wall_s = wall_s


def synced_after(laptop: Laptop, most_s: float = 60.0) -> float:
    began = laptop.agent.clock.mono_s
    while set(laptop.agent.states().values()) != {State.SYNCED}:
        laptop.live_for(0.25)
        assert laptop.agent.clock.mono_s - began < most_s, laptop.agent.states()
    return laptop.agent.clock.mono_s - began


# --- the promise ----------------------------------------------------------------------------------------------------


def test_within_ten_seconds_of_waking_all_is_delivered(
    make_agent: Make, lines: Lines, receiver: AsgiServer, tally: MakeTally
) -> None:
    """The network died while the lid was open, and came back while it was shut: the next try was minutes away."""
    seen = tally("nothing is lost", "sleep of hours, network dead before it")
    for number, slept_s in enumerate((30.0, 8 * HOUR_S, 20 * 86_400.0)):
        down = False
        server = ScriptedServer(receiver, lambda _: no_answer() if down else None)  # noqa: B023 - used in this turn only
        laptop = Laptop(make_agent(server))
        agent = laptop.agent
        down = True
        for session in range(20):
            agent.append(f"n{number}s{session}", lines(2))
        agent.look()
        laptop.live_for(2 * HOUR_S)
        assert agent.destination.condition is Condition.OFFLINE
        laptop.sleep(slept_s)
        down = False
        assert synced_after(laptop) <= 10.0
        assert len(laptop.told) == 1
        for session in range(20):
            name = f"n{number}s{session}"
            seen.note_lines(agent.whole_lines(name), stored(receiver, name).split(b"\n")[:-1])
            assert stored(receiver, name) == agent.path(name).read_bytes()


def test_a_network_that_comes_seconds_after_waking_is_taken_within_ten(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    down = True
    laptop = Laptop(make_agent(ScriptedServer(receiver, lambda _: no_answer() if down else None)))
    laptop.agent.append("s", lines(1))
    laptop.agent.look()
    laptop.live_for(2 * HOUR_S)
    laptop.sleep(HOUR_S)
    laptop.way_out = WayOut(None, None)
    laptop.live_for(33)
    laptop.way_out = WayOut("10.0.0.2", None)
    down = False
    assert synced_after(laptop) <= 10.0
    assert laptop.told[-1] == "the way to the network is another one"


def test_a_network_that_nobody_sees_coming_after_a_wake_up_is_found_by_trying(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """The first question after waking came too early, and our address is what it was: failures from before the sleep
    must not make the next try minutes away."""
    down = True
    laptop = Laptop(make_agent(ScriptedServer(receiver, lambda _: no_answer() if down else None)))
    laptop.agent.append("s", lines(1))
    laptop.agent.look()
    laptop.live_for(2 * HOUR_S)
    laptop.sleep(HOUR_S)
    laptop.live_for(LOOK_S + 3)
    assert laptop.agent.state("s") is State.DUE
    down = False
    assert synced_after(laptop) <= 10.0


def test_a_stream_that_waited_by_itself_tries_again_soon_but_not_all_at_once(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    down = True
    server = ScriptedServer(receiver, lambda request: reply(500) if down and is_append(request) else None)
    laptop = Laptop(make_agent(server))
    agent = laptop.agent
    for number in range(30):
        agent.append(f"s{number}", lines(1))
    agent.look()
    laptop.live_for(2 * HOUR_S)
    assert set(agent.states().values()) == {State.WAITING}
    down = False
    before = sum(map(is_append, server.requests))
    agent.engine.handle(Woken())
    laptop.live_for(0.05)
    assert sum(map(is_append, server.requests)) - before < 10
    laptop.live_for(WAKE_SPREAD_S)
    assert set(agent.states().values()) == {State.SYNCED}


def test_a_wake_up_revives_nothing_that_was_refused(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda request: reply(403) if is_append(request) else None)
    agent = make_agent(server)
    agent.append("s", lines(1))
    agent.settle()
    before = sum(map(is_append, server.requests))
    agent.engine.handle(Woken())
    agent.live_for(HOUR_S)
    assert agent.state("s") is State.REFUSED
    assert sum(map(is_append, server.requests)) == before


def test_waking_over_and_over_costs_a_question_each_time_and_no_more(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda _: no_answer())
    agent = make_agent(server)
    for number in range(20):
        agent.append(f"s{number}", lines(1))
    agent.look()
    agent.live_for(HOUR_S)
    before = len(server.requests)
    for _ in range(100):
        agent.engine.handle(Woken())
        while agent.run_one():
            pass
    assert len(server.requests) - before <= 100


# --- clocks ----------------------------------------------------------------------------------------------------------

JUMPS = {"+1h": HOUR_S, "-1h": -HOUR_S, "1970": None, "2100": 4_102_444_800.0}


@pytest.mark.parametrize("jump", JUMPS)
def test_whatever_the_clock_says_what_is_written_arrives(
    jump: str, make_agent: Make, lines: Lines, receiver: AsgiServer, tally: MakeTally
) -> None:
    seen = tally("nothing is lost", f"wall clock set to {jump}, and back")
    laptop = Laptop(make_agent(receiver))
    agent, right_s = laptop.agent, laptop.agent.clock.wall_s
    by_s = JUMPS[jump]
    wrong_s = 0.0 if by_s is None else by_s if by_s > YEAR_S else right_s + by_s
    for turn, wall_s in enumerate((wrong_s, right_s, wrong_s, right_s)):
        laptop.set_clock(wall_s)
        agent.append("s", lines(1))
        agent.append(f"{jump}-{turn}", lines(1))
        agent.look(live=True)
        assert synced_after(laptop) <= 10.0
        agent.crash()
        laptop.live_for(LOOK_S)
    assert len(laptop.told) >= 4
    seen.note_lines(agent.whole_lines("s"), stored(receiver, "s").split(b"\n")[:-1])
    assert stored(receiver, "s") == agent.path("s").read_bytes()


@pytest.mark.parametrize("by_s", [-HOUR_S, HOUR_S, -50 * YEAR_S, 70 * YEAR_S])
def test_a_clock_that_is_set_while_streams_wait_neither_drops_nor_prolongs_the_wait(
    by_s: float, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """Waits are counted by monotonic time: without any look at the clock they end as they would have."""
    down = True
    server = ScriptedServer(receiver, lambda request: reply(500) if down and is_append(request) else None)
    agent = make_agent(server)
    agent.append("s", lines(1))
    agent.look()
    agent.live_for(60)
    agent.clock.wall_s += by_s
    before = sum(map(is_append, server.requests))
    agent.live_for(HOUR_S)
    assert 5 <= sum(map(is_append, server.requests)) - before <= 60
    down = False
    agent.live_for(301)
    assert agent.state("s") is State.SYNCED


@pytest.mark.parametrize("ours_s", [-50 * YEAR_S, -HOUR_S, 0.0, HOUR_S, 70 * YEAR_S])
def test_a_date_to_come_back_at_is_one_of_the_servers_clock(
    ours_s: float, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    theirs = datetime(2026, 3, 1, 12, tzinfo=UTC)
    form = "%a, %d %b %Y %H:%M:%S GMT"
    headers = {"date": theirs.strftime(form), "retry-after": (theirs + timedelta(seconds=90)).strftime(form)}
    busy = True

    def script(request: Request) -> RawReply | None:
        nonlocal busy
        if busy and is_append(request):
            busy = False
            return reply(503, headers=headers)
        return None

    agent = make_agent(ScriptedServer(receiver, script))
    agent.clock.wall_s = theirs.timestamp() + ours_s
    agent.append("s", lines(1))
    agent.look()
    began = agent.clock.mono_s
    agent.settle()
    assert 90 <= agent.clock.mono_s - began < 95


@pytest.mark.parametrize("wish", ["0", "0.0", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_server_that_says_at_once_is_not_asked_without_end(
    wish: str, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    def busy(_: Request) -> RawReply:
        assert len(server.requests) < 60
        return reply(503, headers={"retry-after": wish})

    server = ScriptedServer(receiver, busy)
    agent = make_agent(server)
    agent.append("s", lines(1))
    agent.look()
    agent.live_for(HOUR_S)
    assert agent.destination.condition is Condition.OFFLINE


# --- the first start, for those who do not want their history sent ---------------------------------------------------


def write_at(agent: SimulatedAgent, session: str, data: bytes, mtime_s: float) -> None:
    import os

    agent.append(session, data)
    os.utime(agent.path(session), (mtime_s, mtime_s))


@pytest.fixture
def fresh(make_agent: Make, receiver: AsgiServer) -> SimulatedAgent:
    agent = make_agent(receiver, limits=Limits(backlog=False))
    agent.crash()
    return agent


def begin_at(agent: SimulatedAgent, state: Path, wall_s: float) -> None:
    """As if the first start ever were now, by a clock that says this."""
    agent.store.close()
    for path in state.parent.glob("state.db*"):
        path.unlink()
    agent.clock.wall_s = wall_s
    agent.boot()


@pytest.mark.parametrize("clock_s", [0.0, 4_102_444_800.0], ids=["1970", "2100"])
def test_a_first_start_by_a_wrong_clock_sends_no_history_and_holds_back_nothing_new(
    clock_s: float, fresh: SimulatedAgent, lines: Lines, receiver: AsgiServer
) -> None:
    right_s = 1_780_000_000.0
    write_at(fresh, "history", lines(2), right_s - 86_400)
    begin_at(fresh, fresh._state_path, clock_s)
    laptop = Laptop(fresh)
    laptop.live_for(LOOK_S)
    laptop.set_clock(right_s)
    laptop.live_for(LOOK_S)
    fresh.settle()
    assert fresh.states() == {}
    write_at(fresh, "new", lines(2), right_s + 60)
    fresh.settle()
    assert stored(receiver, "new") == fresh.path("new").read_bytes()
    fresh.clock.advance(600)
    fresh.crash()
    write_at(fresh, "newer", lines(1), right_s + 300)  # while nobody looked
    fresh.settle()
    assert stored(receiver, "newer") == fresh.path("newer").read_bytes()
    assert "history/" not in fresh.states()
    assert list(fresh.engine.sightings.held_back) == [str(fresh.path("history"))]


# --- ticks -----------------------------------------------------------------------------------------------------------


def make_ticks(clock: FakeClock) -> tuple[Ticks, list[str], list[WayOut]]:
    told: list[str] = []
    ways = [WayOut("10.0.0.2", "fd00::2")]
    return Ticks(clock, lambda: ways[-1], told.append), told, ways


def test_a_quiet_day_tells_nothing() -> None:
    clock = FakeClock()
    ticks, told, _ = make_ticks(clock)
    for _ in range(int(86_400 / LOOK_S)):
        clock.advance(LOOK_S)
        ticks.look()
    assert told == []


def test_each_change_of_the_way_out_is_told_once() -> None:
    clock = FakeClock()
    ticks, told, ways = make_ticks(clock)
    for way in (WayOut("10.0.0.2", None), WayOut(None, None), WayOut(None, None), WayOut("10.7.0.2", None)):
        ways.append(way)
        clock.advance(LOOK_S)
        ticks.look()
        ticks.look()
    assert told == [
        "the way to the network is another one",
        "there is no network",
        "the way to the network is another one",
    ]


def test_a_clock_that_leaps_75_years_brings_one_turn_and_not_those_that_were_missed() -> None:
    """APScheduler's own interval goes through all of them: 79 million for one of 30 s."""
    every = _Every(30.0)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    first = every.get_next_fire_time(None, now)
    assert first == now + timedelta(seconds=30)
    later = datetime(2100, 1, 1, tzinfo=UTC)
    assert every.get_next_fire_time(first, later) == later + timedelta(seconds=30)


def test_a_real_scheduler_runs_its_turns_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next turn stands an hour ahead then; the look at the clock brings it forward."""
    import threading

    clock = FakeClock()
    ticks, told, _ = make_ticks(clock)
    ran = threading.Event()
    monkeypatch.setattr(ticks_module, "LOOK_S", HOUR_S)  # the test looks, the thread does not
    ticks.every(HOUR_S, ran.set)
    ticks.start()
    try:
        clock.wall_s -= HOUR_S
        ticks.look()
        assert ran.wait(10)
        assert told == ["the clock was set back by 3600 s"]
    finally:
        ticks.stop()
