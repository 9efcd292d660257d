"""What transcripts of any coding agent say, in one shape: normalised events.

A provider's `reader(stream)` gives a `LineReader`, which is fed the lines of one stream in their order, and gives for
each line what it says. Nothing is held against a line: what nobody knows becomes a PARSE_WARNING.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

SCHEMA = 1
"""Version of the events as JSON; grows when a field changes its meaning or goes. Indexes made by another one are made
anew."""


class Kind(StrEnum):
    SESSION_STARTED = "session.started"
    """`model`, `cwd`, `command` (the agent's version or way to start), `resumed`, `parent_session_id`."""
    USER_MESSAGE = "user.message"
    ASSISTANT_MESSAGE = "assistant.message"
    REASONING = "reasoning"
    TOOL_CALL = "tool.call"
    """`tool`, `tool_kind`, `call_id`, `arguments`."""
    TOOL_RESULT = "tool.result"
    """`call_id`, `text`, `is_error`; `tool` and `tool_kind` as in its call where that was seen."""
    PERMISSION = "permission"
    """What a tool may do was asked, given or refused, or another mode of that began."""
    STATUS = "status"
    """Anything that the agent notes of itself: turns, titles, modes, checkpoints. `text` says which."""
    USAGE = "usage"
    LIMIT_HIT = "limit.hit"
    LIMIT_RESUMED = "limit.resumed"
    STDERR = "stderr"
    SESSION_CLEARED = "session.cleared"
    SESSION_REWOUND = "session.rewound"
    """Something that was said is taken back; what follows goes on before it. `text`: where that began, if told."""
    SESSION_ENDED = "session.ended"
    """With the agent's result in `text`, where it says one."""
    COMPACTION = "compaction"
    """What was said before is from here on only known as a summary: `text`, where it stands in this line."""
    PARSE_WARNING = "parse.warning"
    """`text`: unknown, broken, too_long or too_deep; `raw`: the line's first `RAW_BYTES`."""


class ToolKind(StrEnum):
    SHELL = "shell"
    READ = "read"
    WRITE = "write"
    EDIT = "edit"
    SEARCH = "search"
    SUBAGENT = "subagent"
    WEB = "web"
    NOTEBOOK = "notebook"
    OTHER = "other"


class Completeness(StrEnum):
    FULL = "full"
    """All that the line says stands in the event."""
    PARTIAL = "partial"
    """Some of it was cut, or stands elsewhere (a side file, a reference to another session)."""
    METADATA_ONLY = "metadata_only"
    """That there was something is known, and not what (encrypted or left out by the agent)."""


RAW_BYTES = 4096

LONGEST_LINE_BYTES = 32 << 20
"""A longer line is not taken apart: a PARSE_WARNING `too_long` stands for it."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Tokens; `cost_usd` None where nobody says."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_creation: int = 0
    cost_usd: float | None = None


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """`seq`: from 1 in its stream. `line`: ordinal of the line it stands in, from 1. `at_s`: wall seconds, None where
    the line says none that can be. `session_id`, `subpath`: the stream. `source`: the line's own type in the agent's
    words (`assistant/tool_use`). `entry_id`, `parent_id`: as the agent links entries. `arguments`: JSON text. Texts are
    as the transcript has them: whoever shows them takes terminal sequences out first."""

    kind: Kind
    seq: int
    line: int
    provider: str
    session_id: str
    source: str
    subpath: str = ""
    at_s: float | None = None
    completeness: Completeness = Completeness.FULL
    entry_id: str = ""
    parent_id: str = ""
    parent_session_id: str = ""
    text: str = ""
    model: str = ""
    cwd: str = ""
    command: str = ""
    resumed: bool = False
    tool: str = ""
    tool_kind: ToolKind | None = None
    call_id: str = ""
    arguments: str = ""
    is_error: bool = False
    usage: Usage | None = None
    raw: bytes = b""
    sidechain: bool = False
    """Said by or to a subagent, also where that stands among the lines of the main transcript."""


class LineReader(Protocol):
    """One stream, line by line; keeps what later lines refer to, within bounds."""

    def read(self, line: bytes, /) -> Sequence[Event]:
        """What the next line says, at least one event; `line` without its newline. Never raises for what stands
        there."""

    def skip(self, raw: bytes, /) -> Sequence[Event]:
        """In the place of the next line, where it is too long to be read: a PARSE_WARNING `too_long`. `raw`: how it
        begins."""

    def finish(self) -> Sequence[Event]:
        """What can only be told at the end of the stream; mostly nothing."""
