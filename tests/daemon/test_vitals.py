"""Threads that are stuck, and threads that only wait, by a clock of the test's own."""

import logging
import threading

import pytest

from agent.daemon.process.ticks import LATE_S, LOOK_S, SCHEDULER, Ticks
from agent.daemon.process.workers import Threads
from agent.daemon.status.vitals import LATE_S as HELD_UP_S
from agent.daemon.status.vitals import LOOK_S as VITALS_LOOK_S
from agent.daemon.status.vitals import Vitals
from agent.delivery.base.heartbeats import Heartbeats, Stuck
from agent.system.machine.network import WayOut
from tests.fakes import FakeClock


def test_who_waits_may_wait_for_ever_and_who_works_may_not() -> None:
    clock = FakeClock()
    beats = Heartbeats(clock.monotonic_s)
    beats.wait("idle")
    beats.work(300.0, "busy")
    clock.advance(300.0)
    assert beats.find_stuck() == []
    clock.advance(1.0)
    assert beats.find_stuck() == [Stuck("busy", 301.0, 300.0)]
    beats.wait("busy")
    clock.advance(1e6)
    assert beats.find_stuck() == []


def test_a_sign_of_life_gives_as_much_time_again_to_who_works_only() -> None:
    clock = FakeClock()
    beats = Heartbeats(clock.monotonic_s, lambda: "me")
    beats.beat()
    assert beats.find_stuck() == []
    beats.work(10.0)
    for _ in range(100):
        clock.advance(9.0)
        beats.beat()
    assert beats.find_stuck() == []
    beats.wait()
    beats.beat()
    clock.advance(100.0)
    assert beats.find_stuck() == []


@pytest.mark.parametrize("was_told", [False, True])
def test_a_thread_that_ends_by_itself_is_missed(was_told: bool) -> None:
    clock, ended = FakeClock(), threading.Event()
    beats = Heartbeats(clock.monotonic_s)
    threads = Threads(beats, lambda: was_told)
    threads.start("keeper", ended.set)
    threads.join(lambda: 30.0)
    assert ended.is_set()
    assert beats.find_stuck() == ([] if was_told else [Stuck("keeper", 0.0, 0.0)])
    beats.beat()  # of somebody else
    beats.leave("keeper")
    assert beats.find_stuck() == []


def test_the_watchdog_is_fed_only_when_nobody_is_stuck_and_the_log_says_who_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    beats = Heartbeats(clock.monotonic_s)
    fed: list[float] = []
    told: list[str] = []
    vitals = Vitals(
        beats.find_stuck,
        lambda: fed.append(clock.mono_s),
        describe=lambda: "all is well",
        tell=told.append,
        watchdog_s=30.0,
        monotonic_s=clock.monotonic_s,
    )
    assert vitals.every_s == 10.0

    def look() -> None:
        clock.advance(vitals.every_s)
        vitals.look()

    beats.work(15.0, "pusher default 0")
    look()
    assert len(fed) == 1
    with caplog.at_level(logging.WARNING):
        look()
        look()
        assert len(fed) == 1, "a dog that is fed does not bite"
        beats.wait("pusher default 0")
        look()
    assert len(fed) == 2
    assert [record.message for record in caplog.records] == [
        "thread pusher default 0 has given no sign for 20 s, at most 15 are allowed",
        "thread pusher default 0 goes on",
    ]
    assert told == ["all is well"] * 4


def test_a_machine_that_slept_makes_nobody_stuck() -> None:
    clock = FakeClock()
    beats = Heartbeats(clock.monotonic_s)
    fed: list[int] = []
    vitals = Vitals(beats.find_stuck, lambda: fed.append(1), monotonic_s=clock.monotonic_s)
    assert vitals.every_s == VITALS_LOOK_S
    beats.work(15.0, "scanner")
    clock.advance(vitals.every_s + HELD_UP_S + 1)
    vitals.look()
    assert fed == [1]
    clock.advance(vitals.every_s)
    vitals.look()
    assert fed == [1], "by now it could have given one"


def test_a_log_line_tells_where_a_stuck_thread_is(caplog: pytest.LogCaptureFixture) -> None:
    clock, go_on = FakeClock(), threading.Event()
    beats = Heartbeats(clock.monotonic_s)
    threads = Threads(beats, lambda: True)

    def be_stuck() -> None:
        beats.work(1.0)
        go_on.wait()

    threads.start("be stuck", be_stuck)
    try:
        vitals = Vitals(lambda: [Stuck("be stuck", 9.0, 1.0)], lambda: None, monotonic_s=clock.monotonic_s)
        vitals.look()
        assert "at most 1 are allowed; it is at threading.py:" in caplog.text
        assert "test_vitals.py:" in caplog.text
    finally:
        go_on.set()
        threads.join(lambda: 30.0)


def test_scheduler_and_the_look_at_the_clock_give_signs_of_their_own() -> None:
    clock = FakeClock()
    beats = Heartbeats(clock.monotonic_s)
    ticks = Ticks(clock, lambda: WayOut(None, None), lambda _: None, beats)
    ran = threading.Event()
    ticks.every(3600.0, lambda: None)
    ticks.every(0.01, ran.set)
    ticks.start()
    try:
        assert ran.wait(30)
        clock.advance(LOOK_S + LATE_S + 1)
        assert {one.who for one in beats.find_stuck()} <= {SCHEDULER, "ticks"}
    finally:
        ticks.stop()
    assert beats.find_stuck() == []
