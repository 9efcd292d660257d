"""Waiting: long enough for the server, never so long that somebody wonders."""

import math
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.delivery.backoff import COOL_DOWN_CAP_S, RETRY_AFTER_CAP_S, TRIES, parse_retry_after, retry_delay_s

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOW_S = NOW.timestamp()
ALMOST_ONE = math.nextafter(1.0, 0.0)


# --- delays -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**6), st.floats(0, ALMOST_ONE))
def test_every_delay_is_between_nothing_and_five_minutes(attempts: int, chance: float) -> None:
    assert 0 <= retry_delay_s(attempts, lambda: chance) <= 300 == COOL_DOWN_CAP_S


def test_the_longest_delays_double_from_half_a_second_and_stop_at_eight() -> None:
    longest = [retry_delay_s(attempts, lambda: ALMOST_ONE) for attempts in range(1, TRIES + 1)]
    assert longest == pytest.approx([0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8])


@pytest.mark.parametrize("attempts", range(1, TRIES + 1))
def test_the_first_tries_have_full_jitter(attempts: int) -> None:
    """Nothing but chance: any share of the length, down to none."""
    assert retry_delay_s(attempts, lambda: 0.0) == 0
    assert retry_delay_s(attempts, lambda: 0.25) == pytest.approx(retry_delay_s(attempts, lambda: 0.75) / 3)


@pytest.mark.parametrize("attempts", [TRIES + 1, TRIES + 3, TRIES + 9, 10_000])
def test_a_cool_down_keeps_at_least_half_of_its_length(attempts: int) -> None:
    shortest, longest = retry_delay_s(attempts, lambda: 0.0), retry_delay_s(attempts, lambda: ALMOST_ONE)
    assert shortest >= 7.5
    assert shortest == pytest.approx(longest / 2)


def test_cool_downs_grow_to_the_cap_and_stay_there() -> None:
    longest = [retry_delay_s(attempts, lambda: ALMOST_ONE) for attempts in range(TRIES, TRIES + 12)]
    assert longest[0] < longest[1], "after the tries the wait gets longer, not shorter"
    assert longest == sorted(longest)
    assert longest[6:] == pytest.approx([300.0] * 6)
    assert retry_delay_s(10**9, lambda: ALMOST_ONE) == pytest.approx(300.0)


def test_chance_is_asked_once_a_delay() -> None:
    for attempts in (1, TRIES, TRIES + 1):
        asked: list[int] = []

        def chance(asked: list[int] = asked) -> float:
            asked.append(1)
            return 0.5

        retry_delay_s(attempts, chance)
        assert len(asked) == 1


# --- Retry-After --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["UTC", "America/Los_Angeles", "Asia/Kolkata"])
def time_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The machine's own zone, which must not matter."""
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone of a process can't be set here")
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        ("1", 1),
        ("120", 120),
        ("  7 ", 7),
        ("1.5", 1.5),
        ("3600", 3600),
        ("3601", RETRY_AFTER_CAP_S),
        ("99999999999", RETRY_AFTER_CAP_S),
        ("1e300", RETRY_AFTER_CAP_S),
    ],
)
def test_seconds_are_taken_up_to_an_hour(value: str, expected: float) -> None:
    assert parse_retry_after(value, NOW_S) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(30, 30), (0, 0), (-30, 0), (-(10**8), 0), (3600, 3600), (7200, 3600), (10**8, 3600)]
)
def test_dates_are_taken_from_now_up_to_an_hour(seconds: int, expected: float) -> None:
    value = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert parse_retry_after(value, NOW_S) == expected


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 01 Mar 2026 12:00:30 GMT",  # what is sent today
        "Sunday, 01-Mar-26 12:00:30 GMT",  # RFC 850
        "Sun Mar  1 12:00:30 2026",  # asctime, which names no zone and means UTC
        "Sun, 01 Mar 2026 12:00:30 -0000",
        "Sun, 01 Mar 2026 12:00:30",
        "Sun, 01 Mar 2026 13:00:30 +0100",
    ],
)
def test_every_form_of_an_http_date_means_the_same_in_every_zone(value: str, time_zone: str) -> None:
    assert parse_retry_after(value, NOW_S) == 30, os.environ["TZ"]


@pytest.mark.parametrize(
    "value",
    [
        None, "", "   ", "soon", "-1", "-120", "+5", "nan", "NaN", "inf", "-inf", "infinity", "0x10", "5 s", "1,5", "²",
        "12:30", "Sun, 99 Mar 2026 12:00:30 GMT", "Sun, 01 Mar 2026 25:61:61 GMT",
        "Fri, 31 Dec 99999 23:59:59 GMT", "\x00", "1" * 5000 + "x",
    ],
)  # fmt: skip
def test_what_is_no_wish_is_ignored(value: str | None) -> None:
    assert parse_retry_after(value, NOW_S) is None


@given(st.text(max_size=60) | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{2,6} [0-9:]{1,9}( GMT)?"))
def test_no_header_puts_a_session_off_for_more_than_an_hour_or_breaks_anything(value: str) -> None:
    wish = parse_retry_after(value, NOW_S)
    assert wish is None or 0 <= wish <= RETRY_AFTER_CAP_S
