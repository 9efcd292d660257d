"""Conversations with service managers, as they go on a machine that has them: what was asked, and what it said."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.services.runner import Ran
from agent.services.state import World


class Conversation:
    """A runner that expects exactly these commands, in this order. `*` at the end of one stands for any rest."""

    def __init__(self, *turns: tuple[str, int, str]) -> None:
        self._turns = list(turns)
        self.said: list[str] = []

    def __call__(self, command: Sequence[str]) -> Ran:
        asked = " ".join(command)
        self.said.append(asked)
        assert self._turns, f"nobody expected: {asked}"
        wanted, status, answer = self._turns.pop(0)
        begins = wanted.endswith("*") and asked.startswith(wanted[:-1])
        assert begins or asked == wanted, f"expected: {wanted}\nwas: {asked}"
        return Ran(status, answer if status == 0 else "", answer if status else "")

    def is_over(self) -> bool:
        return not self._turns


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.time_s = 1000.0

    def sleep(self, duration_s: float) -> None:
        self.time_s += duration_s

    def monotonic(self) -> float:
        return self.time_s


def make_world(home: Path, runner: Conversation, environment: Mapping[str, str] | None = None, **more: Any) -> World:
    clock = Clock()
    known = {"XDG_RUNTIME_DIR": "/run/user/501", "USER": "ada", **(environment or {})}
    outside: dict[str, Any] = {"sleep": clock.sleep, "monotonic": clock.monotonic, "now": lambda: 2000.0, "uid": 501}
    return World(known, home, home / "state", runner, **{**outside, **more})
