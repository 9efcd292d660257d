"""When a server took something last, and how many secrets were replaced so far: for `status`."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    # `status` without a daemon reads these, and need not load the engine for that.
    from agent.delivery.state.gates import Gates
    from agent.delivery.state.journal import Journal

_REDACTIONS = "redactions"


class Remembers(Protocol):
    def settled(self, key: str) -> str: ...


def read_acknowledged_s(store: Remembers, destination: str) -> float | None:
    """Wall time; None when nothing was ever taken there, or nobody remembers."""
    return _number(store.settled(_key(destination))) or None


def read_redactions(store: Remembers) -> int:
    return int(_number(store.settled(_REDACTIONS)))


class Milestones:
    """Written with the progress itself, so that they cost no write of their own."""

    def __init__(self, gates: "Gates", journal: "Journal", now_s: Callable[[], float]) -> None:
        self._gates = gates
        self._journal = journal
        self._now_s = now_s
        self.redactions = 0

    def load(self, store: Remembers) -> None:
        self.redactions = read_redactions(store)
        for one in self._gates:
            one.acknowledged_s = read_acknowledged_s(store, one.name) or 0.0

    def acknowledged(self, destination: str) -> None:
        now_s = self._now_s()
        self._gates[destination].acknowledged_s = now_s
        self._journal.note_settled(_key(destination), f"{now_s:.3f}")

    def redacted(self, count: int) -> None:
        self.redactions += count
        self._journal.note_settled(_REDACTIONS, str(self.redactions))


def _key(destination: str) -> str:
    return f"acknowledged {destination}"


def _number(text: str) -> float:
    """0 for what is no number: a state may be anybody's."""
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0
