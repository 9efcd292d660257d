"""Runs that may be asked for, whatever order they change in."""

from hypothesis import given
from hypothesis import strategies as st

from agent.core.sessions.known_runs import KnownRuns, is_old
from agent.core.sessions.runs import REPLAY_S, Run

BEGAN = Run("r1", "s", "claude", 1_000.0)


def ended(run: Run, at_s: float) -> Run:
    return Run(run.id, run.session_id, run.provider, run.started_at_s, ended_at_s=at_s, why="quiet")


def test_the_run_that_is_on_stands_for_its_session_and_else_the_last_one() -> None:
    first, second = ended(BEGAN, 1_100.0), Run("r2", "s", "claude", 1_200.0)
    known = KnownRuns([first], 1_150.0)
    assert known.last_of("s") == first
    known.take(second)
    assert known.last_of("s") == second
    known.take(ended(second, 1_250.0))
    assert known.last_of("s") == ended(second, 1_250.0)
    assert known.of_session("s") == [first, ended(second, 1_250.0)]
    assert known.last_of("other") is None


def test_a_run_goes_with_its_session_to_another_id() -> None:
    earlier = ended(BEGAN, 1_050.0)
    known = KnownRuns([earlier, Run("r2", "s", "copilot", 1_100.0)], 1_100.0)
    known.take(Run("r2", "t", "copilot", 1_100.0))
    assert known.last_of("s") == earlier
    assert known.open_sessions({"copilot"}) == {"t"}
    known.take(Run("r1", "t", "claude", 1_000.0, ended_at_s=1_050.0))
    assert known.last_of("s") is None
    assert known.of_session("s") == []


def test_what_ended_is_forgotten_after_its_time() -> None:
    known = KnownRuns([BEGAN], 1_000.0)
    known.take(ended(BEGAN, 1_100.0))
    known.forget_old(1_100.0 + REPLAY_S)
    assert [run.id for run in known] == ["r1"]
    known.forget_old(1_100.1 + REPLAY_S)
    assert (len(known), known.last_of("s"), known.open_sessions({"claude"})) == (0, None, set())
    assert len(KnownRuns([ended(BEGAN, 1_100.0)], 1_100.1 + REPLAY_S)) == 0


RUNS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("st"), st.integers(0, 3), st.none() | st.integers(0, 900)),
    max_size=30,
)


@given(RUNS)
def test_it_says_what_a_look_at_all_of_them_says(steps: list[tuple[str, str, int, int | None]]) -> None:
    known, plain, now_s = KnownRuns((), 0.0), dict[str, Run](), 0.0
    for name, session, began_s, ended_s in steps:
        now_s = max(now_s, float(ended_s or 0))
        run = Run(name, session, "claude", float(began_s), ended_at_s=None if ended_s is None else float(ended_s))
        known.take(run)
        plain[name] = run
        for one in "st":
            of_one = [run for run in plain.values() if run.session_id == one]
            last = max(of_one, key=lambda run: (not run.is_complete, run.started_at_s), default=None)
            found = known.last_of(one)
            assert (found is None) == (last is None)
            if found is not None and last is not None:
                assert (found.is_complete, found.started_at_s) == (last.is_complete, last.started_at_s)
            assert {run.id for run in known.of_session(one)} == {run.id for run in of_one}
        assert known.open_sessions({"claude"}) == {run.session_id for run in plain.values() if not run.is_complete}
    assert {run.id: run for run in known} == plain
    known.forget_old(now_s)
    assert {run.id for run in plain.values() if not is_old(run, now_s)} <= {run.id for run in known}
