"""What is due when, in monotonic time."""

import heapq
from typing import Generic, NamedTuple, TypeVar

Owner = TypeVar("Owner")


class Due(NamedTuple, Generic[Owner]):
    """`number` tells whether the timer still counts: its owner remembers the number of the one that does."""

    at_s: float
    order: int
    owner: Owner
    number: int


class Timers(Generic[Owner]):
    def __init__(self) -> None:
        self._heap: list[Due[Owner]] = []
        self._order = 0

    def set(self, owner: Owner, number: int, at_s: float) -> None:
        self._order += 1
        heapq.heappush(self._heap, Due(at_s, self._order, owner, number))

    def next_s(self) -> float | None:
        return self._heap[0].at_s if self._heap else None

    def pop_due(self, now_s: float) -> Due[Owner] | None:
        """The next one whose time has come, taken out; None when none has."""
        if self._heap and self._heap[0].at_s <= now_s:
            return heapq.heappop(self._heap)
        return None
