"""Durations as people type them."""

import re

from agent.errors import UsageError

_UNITS_S = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?) *(s|min|m|h|d)", re.ASCII)

LONGEST_S = 366 * 86_400.0


def parse_duration_s(text: str) -> float:
    """`90s`, `30min`, `1h`, `2d`, or several in a row as in `1h30min`. Raises UsageError."""
    stripped = text.strip().lower()
    parts = _PART.findall(stripped) if re.fullmatch(rf"(?:{_PART.pattern} *)+", stripped, re.ASCII) else []
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if not parts:
        raise UsageError(f"{text[:24]!r} is no duration, expected a number with s, min, h or d", hint="like 1h30min")
    if not 1.0 <= seconds <= LONGEST_S:
        raise UsageError(f"{text[:24]!r} is out of range, expected from 1s to {LONGEST_S / 86_400:.0f}d")
    return seconds
