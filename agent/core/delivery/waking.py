"""Did the machine sleep, was its clock set, did we stand still? Decided from two looks at its clocks."""

from typing import NamedTuple

DRIFT_S = 5.0
"""Between two looks the clocks may part by this much: more than time servers correct at once in daily life, less than
a connection minds."""

LATE_S = 30.0
"""A look this late is a wake, too: Windows counts sleep as time, and a process that was stopped for as long has
connections that the other side may have given up."""

LONGEST_SLEEP_S = 90 * 86_400.0
"""Nobody's laptop sleeps longer and comes back with its memory; a clock that leaps further was set."""


class Reading(NamedTuple):
    """`wall_s` may jump; `monotonic_s` only grows, and stands still during sleep on Linux and macOS."""

    wall_s: float
    monotonic_s: float


class Slept(NamedTuple):
    """For about `seconds`; or the clock was set forward by them, which looks the same."""

    seconds: float


class ClockSet(NamedTuple):
    """Forward by `by_s` seconds, or back where that is negative."""

    by_s: float


class Late(NamedTuple):
    """We did not run for `seconds`; whether the machine slept is not known."""

    seconds: float


Wake = Slept | ClockSet | Late


def decide_wake(before: Reading, after: Reading, period_s: float) -> Wake | None:
    """What happened between two looks that should be `period_s` apart; None when nothing did. Only neighbours are
    compared, so a clock that is slowly corrected never adds up to anything."""
    passed_s = after.monotonic_s - before.monotonic_s
    drift_s = after.wall_s - before.wall_s - passed_s
    if DRIFT_S < drift_s <= LONGEST_SLEEP_S:
        return Slept(drift_s)
    if abs(drift_s) > DRIFT_S:
        return ClockSet(drift_s)
    late_s = passed_s - period_s
    return Late(late_s) if late_s > LATE_S else None


def describe_wake(wake: Wake) -> str:
    """For the log: what happened, in words."""
    match wake:
        case Slept():
            return f"the machine slept for {wake.seconds:.0f} s, or its clock was set forward"
        case ClockSet():
            return f"the clock was set {'forward' if wake.by_s > 0 else 'back'} by {abs(wake.by_s):.0f} s"
        case Late():
            return f"the machine did not let us run for {wake.seconds:.0f} s"
