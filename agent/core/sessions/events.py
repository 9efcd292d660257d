"""What happened, as numbered values for whoever listens. Never a word of a transcript; of a private session its id
alone."""

from enum import StrEnum
from typing import Any

import msgspec

SCHEMA = 1
"""Version of the JSON; grows when a field changes its meaning or goes."""


class EventKind(StrEnum):
    SESSION_STARTED = "session.started"
    """A session that nobody knew was found; `history` when nothing was written to it lately."""
    SESSION_CHANGED = "session.changed"
    """It grew. Told once a second at most, and before anything else is told of it."""
    SESSION_SYNCED = "session.synced"
    """All that is there of it is at all its destinations. Told once a second at most."""
    SESSION_PRIVATE = "session.private"
    """It stays here from now on."""
    SESSION_ENDED = "session.ended"
    """A hook or a line said so, or nobody has written to it for five minutes. One that is gone on with ends again."""
    AGENT_CONDITION = "agent.condition"
    """How the agent stands with a destination is another; or, without a destination, it was paused or resumed."""
    REFRESH = "refresh"
    """To one client: what it asks for is no longer in the ring. Whatever it knows may be old; ask for all again."""


class Happening(msgspec.Struct, frozen=True, omit_defaults=True):
    """`seq` only grows; 0 until it has one. `at_s`: wall seconds. `bytes`: of the session's main transcript. `why`: in
    the words of `status`. Fields that say nothing are left out of the JSON."""

    kind: str
    at_s: float
    seq: int = 0
    session_id: str = ""
    provider: str = ""
    project: str = ""
    bytes: int = 0
    history: bool = False
    destination: str = ""
    condition: str = ""
    why: str = ""
    epoch: str = ""


def to_json(happening: Happening) -> dict[str, Any]:
    """`seq`, `at_s` and `kind` first and always."""
    fields = {"seq": happening.seq, "at_s": happening.at_s, "kind": str(happening.kind)}
    found: dict[str, Any] = msgspec.to_builtins(happening)
    return {**fields, **{name: value for name, value in found.items() if name not in fields}}
