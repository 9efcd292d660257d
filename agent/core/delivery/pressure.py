"""How many requests a destination gets at once: one more for each round that goes well, a tenth fewer when it strains.

Additive increase, multiplicative decrease, as in TCP (Chiu and Jain, 1989): senders that do not know of each other come
to fair shares, and a server that slows down is left alone before it fails.
"""

from typing import NamedTuple

_DECREASE = 0.9
_SLOW_TIMES = 4.0
_SLOW_S = 0.1
"""A full batch that takes four times the best one and this much more has waited in a queue there."""

_FORGET = 1.02
"""The best time is forgotten by and by: the way may have changed for good."""


class Window(NamedTuple):
    """`size`: requests at once, at least 1. `best_s`: the least that a full batch took lately; 0 before the first."""

    size: float = 2.0
    best_s: float = 0.0

    def after_success(self, took_s: float | None, most: int) -> "Window":
        """`took_s` is that of a full batch; None for anything smaller, which says little of the load."""
        if took_s is None:
            return self._replace(size=min(most, self.size + 1 / self.size))
        best_s = min(took_s, self.best_s * _FORGET) if self.best_s else took_s
        if took_s > _SLOW_TIMES * best_s + _SLOW_S:
            return self._replace(best_s=best_s).after_pressure()
        return Window(min(most, self.size + 1 / self.size), best_s)

    def after_pressure(self) -> "Window":
        return self._replace(size=max(1.0, self.size * _DECREASE))
