"""Where a story's transcripts go: a server, the way to it, and what came to be there besides.

A second one has trouble of its own.
"""

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.transcripts.session import StreamId
from tests.simulation.operations import TABLE, Operation
from tests.simulation.server import ModelServer, Session
from tests.simulation.wire import Wire

if TYPE_CHECKING:
    from tests.simulation.story import Story

SECOND = "elsewhere"


@dataclass
class There:
    """One destination. `foreign`: what another agent wrote; `diverged`: where. `is_led`: whether the server got
    something of a file that this agent did not send. `poison`: what an entry holds that is refused, and with which
    status."""

    name: str
    server: ModelServer
    wire: Wire
    backups: list[dict[str, Session]]
    foreign: set[bytes] = field(default_factory=set)
    diverged: set[StreamId] = field(default_factory=set)
    is_led: bool = False
    poison: dict[bytes, int] = field(default_factory=dict)
    session_statuses: dict[str, int] = field(default_factory=dict)

    def refuse(self, session_id: str, lines: list[bytes]) -> int | None:
        if session_id in self.session_statuses:
            return self.session_statuses[session_id]
        for mark, status in self.poison.items():
            if any(mark in line for line in lines):
                return status
        return None

    def end_trouble(self) -> None:
        self.wire.trouble, self.wire.is_cut, self.wire.is_locked = 0.0, False, False
        self.session_statuses.clear()
        self.server.contradicts = self.server.breaks_off = False
        self.wire.deliver_all_late()

    @property
    def may_hold_another(self) -> bool:
        """Whether the server holds something else than the agent may think."""
        return bool(self.server.has_lost or self.diverged or self.is_led)


SECOND_NAMES = (
    "cut wire",
    "mend wire",
    "change trouble",
    "revoke token",
    "give token",
    "refuse session",
    "accept sessions",
    "delete on server",
    "poison",
    "back up",
    "set server back",
    "other writer",
    "other is faster",
)
"""What happens at a second server, and the way to it, as at the first."""


def draw_at_second(story: "Story", rng: random.Random) -> Operation:
    table = [one for one in TABLE if one.name in SECOND_NAMES and (story.rewrites or not one.rewrites)]
    return rng.choices(table, [one.weight for one in table])[0]
