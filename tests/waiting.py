"""Waiting for what another thread or process is about to do: for the condition, never for a time."""

import time
from collections.abc import Callable
from typing import Any

READY_S = 20.0


def wait_for(condition: Callable[[], Any], what: str = "another thread", limit_s: float = READY_S) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s:.0f} s for: {what}"
        time.sleep(0.005)  # between two looks; what is waited for is the condition
