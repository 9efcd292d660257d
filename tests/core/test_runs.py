"""Runs: the table, and any interleaving of lines, hooks, quiet, renames, crashes and restarts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import count

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.core.sessions.runs import (
    EARLY_S,
    LASTS_S,
    QUIET_S,
    REPLAY_S,
    RESTART_S,
    SETTLE_S,
    TRANSITIONS,
    Action,
    ChangeKind,
    End,
    Moment,
    Run,
    RunBook,
    RunChange,
    RunState,
    Signal,
    Wrote,
)


class Bench:
    """A book with a clock; `changes` are all that were told."""

    def __init__(self, found: Iterable[Run] = (), at_s: float = 1_000.0, ids: Iterable[int] | None = None) -> None:
        self.changes: list[RunChange] = []
        numbers = iter(ids if ids is not None else count(1))
        self.book = RunBook(lambda: f"run-{next(numbers)}", self.changes.append)
        self.at_s = at_s
        self.book.restore(found, self.now)

    @property
    def now(self) -> Moment:
        return Moment(1_700_000_000.0 + self.at_s, self.at_s)

    def line(self, session: str = "s", age_s: float = 0.0, file: int = 0) -> None:
        self.book.wrote(Wrote(session, "claude", self.now.now_s - age_s, 7, file), self.now)

    def over(self, session: str = "s", why: End = End.HOOK, age_s: float = 0.0) -> None:
        self.book.said_over(session, why, self.now.now_s - age_s, self.now)

    def wait(self, span_s: float) -> None:
        end_s = self.at_s + span_s
        while (due_s := self.book.next_s()) is not None and due_s <= end_s:
            self.at_s = max(self.at_s, due_s)
            self.book.tick(self.now)
        self.at_s = end_s
        self.book.tick(self.now)

    def told(self) -> list[tuple[str, str, str]]:
        return [(str(one.kind), one.run.session_id, one.run.why) for one in self.changes]


def test_the_table_has_every_signal_that_can_come() -> None:
    assert {state: set(row) for state, row in TRANSITIONS.items()} == {
        RunState.IDLE: {Signal.LINE, Signal.END},
        RunState.WARNED: set(Signal),
        RunState.RUNNING: set(Signal),
        RunState.ENDING: set(Signal),
    }
    for state, row in TRANSITIONS.items():
        for signal, (after, action) in row.items():
            had_run = state in (RunState.RUNNING, RunState.ENDING)
            has_run = after in (RunState.RUNNING, RunState.ENDING)
            assert (action is Action.BEGIN) == (has_run and not had_run), (state, signal)
            assert (action is Action.COMPLETE) == (had_run and not has_run), (state, signal)
    assert set(LASTS_S) == set(RunState) - {RunState.IDLE}


def test_a_run_is_on_until_nobody_writes_for_five_minutes() -> None:
    bench = Bench()
    bench.line()
    bench.wait(QUIET_S - 1)
    bench.line()
    bench.wait(QUIET_S - 1)
    assert bench.told() == [("began", "s", "")]
    bench.wait(2)
    assert bench.told() == [("began", "s", ""), ("complete", "s", "quiet")]
    assert bench.changes[0].run.id == bench.changes[1].run.id
    assert bench.changes[0].run.start_bytes == 7
    bench.wait(10 * QUIET_S)
    assert len(bench.changes) == 2
    assert bench.book.next_s() is None
    assert not bench.book._entries, "nothing is kept of who does not write"
    assert not bench.book._ended_at_s


@pytest.mark.parametrize("why", [End.HOOK, End.LINE])
def test_an_end_that_is_said_waits_for_the_last_lines(why: End) -> None:
    bench = Bench()
    bench.line()
    bench.wait(10)
    bench.over(why=why)
    bench.wait(SETTLE_S / 2)
    bench.line()
    bench.over(why=End.QUIET)
    assert len(bench.changes) == 1
    bench.wait(SETTLE_S)
    assert bench.told()[1:] == [("complete", "s", str(why))]
    bench.line(age_s=SETTLE_S)
    assert len(bench.changes) == 2, "a line from before the end, seen late, begins no run"
    bench.line()
    assert bench.told()[2:] == [("began", "s", "")]
    assert bench.changes[2].run.id != bench.changes[0].run.id


def test_a_hook_may_come_before_the_lines() -> None:
    bench = Bench()
    bench.over()
    bench.wait(EARLY_S / 2)
    bench.line()
    bench.wait(SETTLE_S)
    assert bench.told() == [("began", "s", ""), ("complete", "s", "hook")]


def test_a_hook_from_long_ago_ends_nothing() -> None:
    bench = Bench()
    bench.over(age_s=EARLY_S + 1)
    bench.line()
    bench.over(age_s=60)
    bench.wait(QUIET_S - 1)
    assert bench.told() == [("began", "s", "")]
    bench.over("another")
    bench.wait(EARLY_S)
    assert not [one for one in bench.book._entries if one == "another"]


def test_hooks_of_a_million_sessions_are_not_remembered() -> None:
    bench = Bench()
    for number in range(5_000):
        bench.over(f"s{number}")
    assert len(bench.book._entries) == 1_000
    bench.wait(EARLY_S)
    assert not bench.book._entries
    bench.over("later")
    assert len(bench.book._entries) == 1


def test_a_run_keeps_its_id_when_its_session_gets_another() -> None:
    bench = Bench()
    bench.line("first", file=11)
    assert bench.book.session_of(11) == "first"
    bench.book.rename("first", "second", bench.now)
    bench.line("second", file=11)
    bench.wait(QUIET_S)
    assert [(str(one.kind), one.run.id, one.run.session_id, one.before) for one in bench.changes] == [
        ("began", "run-1", "first", ""),
        ("renamed", "run-1", "second", "first"),
        ("complete", "run-1", "second", ""),
    ]
    assert bench.book.session_of(11) == bench.book.session_of(0) == ""


def test_one_session_has_one_run() -> None:
    bench = Bench()
    bench.line("a")
    bench.line("b")
    bench.book.rename("a", "b", bench.now)
    bench.wait(QUIET_S)
    assert bench.told()[2:] == [("complete", "a", "joined"), ("complete", "b", "quiet")]


def test_an_open_run_of_an_earlier_life_goes_on_or_ends() -> None:
    open_run = Run("before", "s", "claude", 1_700_000_000.0)
    gone_on = Bench([open_run])
    gone_on.line(age_s=100)
    gone_on.wait(QUIET_S - 101)
    assert gone_on.told() == []
    gone_on.wait(2)
    assert [(one.run.id, one.run.why) for one in gone_on.changes] == [("before", "quiet")]
    ended = Bench([open_run])
    ended.wait(RESTART_S)
    assert [(one.run.id, one.run.why) for one in ended.changes] == [("before", "quiet")]


def test_what_ended_before_a_restart_does_not_end_again() -> None:
    done = Run("before", "s", "claude", 1_700_000_000.0, ended_at_s=1_700_000_990.0, why="hook")
    bench = Bench([done])
    bench.line(age_s=20)
    bench.wait(REPLAY_S - 1)
    assert bench.changes == []
    bench.line()
    assert bench.told() == [("began", "s", "")]


def test_a_session_that_writes_all_day_takes_no_more_memory() -> None:
    bench = Bench()
    for _ in range(10_000):
        bench.line()
        bench.at_s += 0.5
    assert len(bench.book._due) < 10


SESSIONS = st.sampled_from(["a", "b", "c"])


class AnyLife(RuleBasedStateMachine):
    """What the daemon does with a book: changes are first remembered, then told; a crash forgets what was not."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = count(1)
        self.durable: dict[str, Run] = {}
        self.told: list[RunChange] = []
        """To whom follows, over all lives: only what was remembered before."""
        self.bench = Bench(ids=self.ids)

    @rule(session=SESSIONS, age_s=st.sampled_from([0.0, 1.0, 61.0, 299.0]))
    def line(self, session: str, age_s: float) -> None:
        self.bench.line(session, age_s, file=ord(session))

    @rule(session=SESSIONS, why=st.sampled_from([End.HOOK, End.LINE]), age_s=st.sampled_from([0.0, 5.0, 100.0]))
    def over(self, session: str, why: End, age_s: float) -> None:
        self.bench.over(session, why, age_s)

    @rule(before=SESSIONS, after=SESSIONS)
    def rename(self, before: str, after: str) -> None:
        self.bench.book.rename(before, after, self.bench.now)

    @rule(span_s=st.sampled_from([0.1, 1.0, SETTLE_S, EARLY_S, RESTART_S, 200.0, QUIET_S]))
    def wait(self, span_s: float) -> None:
        self.bench.wait(span_s)

    @rule()
    def remember(self) -> None:
        changes, self.bench.changes[:] = list(self.bench.changes), []
        self.durable |= {one.run.id: one.run for one in changes}
        self.told += changes

    @rule(is_orderly=st.booleans(), span_s=st.sampled_from([0.0, 10.0, 1_000.0]))
    def restart(self, is_orderly: bool, span_s: float) -> None:
        if is_orderly:
            self.remember()
        self.bench = Bench(self.durable.values(), self.bench.at_s + span_s, self.ids)

    @invariant()
    def each_run_is_complete_once_and_begins_once(self) -> None:
        counts = Counter((one.run.id, one.kind) for one in self.told)
        for (_, kind), times in counts.items():
            assert times == 1 or kind is ChangeKind.RENAMED
        for number, one in enumerate(self.told):
            if one.kind is ChangeKind.COMPLETE:
                assert all(later.run.id != one.run.id for later in self.told[number + 1 :])

    @invariant()
    def a_session_has_one_run_at_a_time(self) -> None:
        sessions = [run.session_id for run in self.bench.book.running()]
        assert len(sessions) == len(set(sessions))

    def teardown(self) -> None:
        self.remember()
        self.bench.wait(2 * QUIET_S + RESTART_S)
        self.remember()
        open_runs = [run for run in self.durable.values() if not run.is_complete]
        assert not open_runs, "each that anybody knows of is told complete"
        assert not self.bench.book._entries
        kinds: Mapping[str, set[str]] = {}
        for one in self.told:
            kinds = {**kinds, one.run.id: {*kinds.get(one.run.id, set()), str(one.kind)}}
        assert all("complete" in found for found in kinds.values())


AnyLife.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyLife = AnyLife.TestCase
