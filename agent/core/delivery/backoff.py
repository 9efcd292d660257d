"""How long to wait before the next try. Chance is handed in: `chance()` gives a float in [0, 1)."""

import math
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

FIRST_S = 0.5
CAP_S = 8.0
TRIES = 10
"""Base protocol: 500 ms · 2^(n-1), capped at 8 s, 10 tries; after those the cool-down grows instead."""

COOL_DOWN_FIRST_S = 15.0
COOL_DOWN_CAP_S = 300.0
RETRY_AFTER_CAP_S = 3600.0
"""A server may ask for patience, but not put a session off for days (a wrong clock, a typo)."""


def retry_delay_s(attempts: int, chance: Callable[[], float]) -> float:
    """Seconds until the next try after `attempts` (≥ 1) failed ones in a row.

    Full jitter over the first tries, so that many clients do not march in step. The cool-down keeps at least half
    of its length, so that it can't collapse into a quick retry; it grows to its cap and stays there.
    """
    if attempts <= TRIES:
        return chance() * min(CAP_S, FIRST_S * 2.0 ** (attempts - 1))
    cool_down = min(COOL_DOWN_CAP_S, COOL_DOWN_FIRST_S * 2.0 ** min(attempts - TRIES - 1, 16))
    return cool_down * (0.5 + chance() / 2)


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Seconds asked for by a Retry-After header (a number of seconds or an HTTP date; RFC 9110, 10.2.3), clamped to
    [0, 1 h]; None when it is missing or can't be read. `now_s` is wall time."""
    if value is None:
        return None
    value = value.strip()
    try:
        seconds = float(value) if value[:1].isdigit() else None
    except ValueError:
        return None
    if seconds is None:
        date_s = parse_http_date(value)
        if date_s is None:
            return None
        seconds = date_s - now_s
    return min(max(seconds, 0.0), RETRY_AFTER_CAP_S) if math.isfinite(seconds) else None


def parse_http_date(value: str) -> float | None:
    """Wall seconds of an HTTP date; None when it is none. Two of its three forms may name no zone; it is UTC then,
    not this machine's."""
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
