"""Time. Wall time is for people and servers; only monotonic time measures how long something took."""

import time
from typing import Protocol


class Clock(Protocol):
    def now_s(self) -> float:
        """Wall time, seconds since 1970; may jump."""

    def monotonic_s(self) -> float:
        """Seconds that only grow; stands still while the machine sleeps."""


class SystemClock:
    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()
