"""What is read of a line of Claude Code. Any where another type is no reason to lose the line. Trees have no
cycles, and a line has a dozen of these: the collector need not look at them."""

from typing import Any

import msgspec


class Tokens(msgspec.Struct, gc=False):
    input_tokens: Any = 0
    output_tokens: Any = 0
    cache_read_input_tokens: Any = 0
    cache_creation_input_tokens: Any = 0


class Block(msgspec.Struct, gc=False):
    type: Any = None
    text: Any = None
    thinking: Any = None
    id: Any = None
    name: Any = None
    input: msgspec.Raw = msgspec.Raw()
    tool_use_id: Any = None
    content: Any = None
    is_error: Any = None


class Message(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    content: list[Block] | str | None = None
    usage: Tokens | None = None


class Attachment(msgspec.Struct, gc=False):
    type: Any = None
    prompt: Any = None
    commandMode: Any = None  # noqa: N815 - the key of the format
    filename: Any = None


class Error(msgspec.Struct, gc=False):
    formatted: Any = None
    status: Any = None


class Forked(msgspec.Struct, gc=False):
    sessionId: Any = None  # noqa: N815 - the key of the format


class Origin(msgspec.Struct, gc=False):
    kind: Any = None


class Command(msgspec.Struct, gc=False):
    command: Any = None
    args: Any = None


class Line(msgspec.Struct, gc=False):
    type: Any = None
    subtype: Any = None
    uuid: Any = None
    parentUuid: Any = None  # noqa: N815 - the keys of the format, to the end of this class
    timestamp: Any = None
    sessionId: Any = None  # noqa: N815
    isSidechain: Any = None  # noqa: N815
    isMeta: Any = None  # noqa: N815
    isCompactSummary: Any = None  # noqa: N815
    isApiErrorMessage: Any = None  # noqa: N815
    apiErrorStatus: Any = None  # noqa: N815
    cwd: Any = None
    version: Any = None
    message: Message | None = None
    attachment: Attachment | None = None
    forkedFrom: Forked | None = None  # noqa: N815
    origin: Origin | None = None
    commandRun: Command | None = None  # noqa: N815
    error: Error | str | None = None
    content: Any = None
    operation: Any = None
    summary: Any = None
    customTitle: Any = None  # noqa: N815
    aiTitle: Any = None  # noqa: N815
    agentName: Any = None  # noqa: N815
    permissionMode: Any = None  # noqa: N815
    mode: Any = None
    lastPrompt: Any = None  # noqa: N815
    toolDenialKind: Any = None  # noqa: N815
    totalCostUSD: Any = None  # noqa: N815
    result: Any = None


decode = msgspec.json.Decoder(Line).decode
