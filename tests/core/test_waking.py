"""What two looks at the clocks say of the time between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.delivery.waking import LONGEST_SLEEP_S, ClockSet, Late, Reading, Slept, Wake, decide_wake, describe_wake

WALL_S = 1_772_366_400.0
HOUR_S = 3600.0
PERIOD_S = 5.0


def after(passed_s: float, wall_passed_s: float) -> tuple[type[Wake], Wake] | None:
    """With its kind beside it: as tuples, all kinds of one length are equal."""
    wake = decide_wake(Reading(WALL_S, 100.0), Reading(WALL_S + wall_passed_s, 100.0 + passed_s), PERIOD_S)
    return wake and (type(wake), wake)


@pytest.mark.parametrize(
    ("passed_s", "wall_passed_s"),
    [(5, 5), (5, 5.2), (5, 1), (5, 9.9), (5, 0.1), (0, 0), (20, 20), (35, 35), (35, 36)],
)
def test_daily_life_is_nothing(passed_s: float, wall_passed_s: float) -> None:
    assert after(passed_s, wall_passed_s) is None


@pytest.mark.parametrize("slept_s", [6, 60, 8 * HOUR_S, LONGEST_SLEEP_S])
def test_time_that_only_the_wall_clock_saw_was_slept(slept_s: float) -> None:
    assert after(5, 5 + slept_s) == (Slept, Slept(slept_s))


@pytest.mark.parametrize("by_s", [-6, -HOUR_S, LONGEST_SLEEP_S + 1, 2_000_000_000 - WALL_S, -WALL_S, 4e9 - WALL_S])
def test_a_clock_that_went_back_or_leapt_further_than_anybody_sleeps_was_set(by_s: float) -> None:
    assert after(5, 5 + by_s) == (ClockSet, ClockSet(by_s))


@pytest.mark.parametrize("late_s", [31, 600, 8 * HOUR_S])
def test_a_look_that_comes_late_on_both_clocks_is_a_wake_too(late_s: float) -> None:
    assert after(PERIOD_S + late_s, PERIOD_S + late_s) == (Late, Late(late_s))


def test_a_clock_that_is_slowly_corrected_is_never_anything() -> None:
    """500 ppm, the most that time servers do without a leap, for ten days."""
    seen = Reading(WALL_S, 0.0)
    for _ in range(int(10 * 86_400 / PERIOD_S)):
        new = Reading(seen.wall_s + PERIOD_S * 1.0005, seen.monotonic_s + PERIOD_S)
        assert decide_wake(seen, new, PERIOD_S) is None
        seen = new


@given(st.floats(-1e11, 1e11), st.floats(0, 1e9))
def test_every_pair_of_looks_has_an_answer_that_can_be_told(wall_passed_s: float, passed_s: float) -> None:
    found = after(passed_s, wall_passed_s)
    if found is not None:
        assert " s" in describe_wake(found[1])


def test_the_words_say_which_way_and_how_far() -> None:
    assert describe_wake(Slept(60.4)) == "the machine slept for 60 s, or its clock was set forward"
    assert describe_wake(ClockSet(-3600.0)) == "the clock was set back by 3600 s"
    assert describe_wake(ClockSet(1e9)) == "the clock was set forward by 1000000000 s"
    assert describe_wake(Late(31.0)) == "the machine did not let us run for 31 s"
