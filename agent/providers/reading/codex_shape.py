"""What is read of a line of Codex. Any where another type is no reason to lose the line. Trees have no
cycles, and a line has a dozen of these: the collector need not look at them."""

from typing import Any

import msgspec


class Part(msgspec.Struct, gc=False):
    type: Any = None
    text: Any = None


class Tokens(msgspec.Struct, gc=False):
    input_tokens: Any = 0
    cached_input_tokens: Any = 0
    cache_write_input_tokens: Any = 0
    output_tokens: Any = 0
    total_tokens: Any = 0


class Info(msgspec.Struct, gc=False):
    total_token_usage: Tokens | None = None
    last_token_usage: Tokens | None = None


class Window(msgspec.Struct, gc=False):
    used_percent: Any = None


class Limits(msgspec.Struct, gc=False):
    primary: Window | None = None
    secondary: Window | None = None
    rate_limit_reached_type: Any = None


class Kinds(msgspec.Struct, gc=False):
    content_item_kinds: Any = None


class Item(msgspec.Struct, gc=False):
    type: Any = None
    id: Any = None
    content: list[Part] | str | None = None
    summary_text: Any = None
    exit_code: Any = None
    status: Any = None


class Base(msgspec.Struct, gc=False):
    """Up to where a rollout goes on with another one, which both versions of the name mean."""

    thread_id: Any = None
    rollout_id: Any = None
    end_ordinal_exclusive: Any = None
    ordinal_exclusive: Any = None


class Payload(msgspec.Struct, gc=False):
    type: Any = None
    id: Any = None
    role: Any = None
    content: list[Part] | str | None = None
    summary: list[Part] | str | None = None
    encrypted_content: Any = None
    name: Any = None
    namespace: Any = None
    arguments: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    action: msgspec.Raw = msgspec.Raw()
    call_id: Any = None
    output: Any = None
    message: Any = None
    text: Any = None
    item: Item | None = None
    info: Info | None = None
    rate_limits: Limits | None = None
    usage: Tokens | None = None
    thread_token_usage: Tokens | None = None
    cwd: Any = None
    cli_version: Any = None
    originator: Any = None
    model: Any = None
    forked_from_id: Any = None
    parent_thread_id: Any = None
    history_base: Base | None = None
    num_turns: Any = None
    last_agent_message: Any = None
    reason: Any = None
    exit_code: Any = None
    success: Any = None
    codex_error_info: Any = None
    thread_name: Any = None
    passthrough: Kinds | None = msgspec.field(name="internal_chat_message_metadata_passthrough", default=None)


class Line(msgspec.Struct, gc=False):
    type: Any = None
    timestamp: Any = None
    payload: Payload | None = None


decode = msgspec.json.Decoder(Line).decode
