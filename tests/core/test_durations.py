"""How long, as people type it."""

import pytest

from agent.core.durations import parse_duration_s
from agent.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30min", 1800), ("30m", 1800), ("1h", 3600), ("2d", 172_800), ("1h30min", 5400), (" 1.5 H ", 5400)],
)
def test_the_usual_ways_are_understood(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10", "h", "1h soon", "-1h", "1y", "١h", "1e9s", "0s", "0.5s", "367d"])
def test_anything_else_is_refused_with_what_would_do(text: str) -> None:
    with pytest.raises(UsageError, match="expected") as caught:
        parse_duration_s(text)
    assert caught.value.exit_status == 2
