"""Codex's lines as events; seen in 0.169, with the line types that public versions since 0.40 write.

What is said stands twice in a transcript: once as the model's item (`response_item`), once as the program's own note
(`event_msg`), in either order. The first of both is told as what it is, the second as a STATUS that names it a repeat.
The tokens that came out of a cache are counted in `input_tokens` there, and are taken out of it here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from agent.core.sessions.normalised import Completeness, Kind, LineReader, Usage
from agent.core.transcripts.session import CONTINUED, StreamId
from agent.providers.reading.codex_shape import (
    Base as _Base,
)
from agent.providers.reading.codex_shape import (
    Info as _Info,
)
from agent.providers.reading.codex_shape import (
    Limits as _Limits,
)
from agent.providers.reading.codex_shape import (
    Line as _Line,
)
from agent.providers.reading.codex_shape import (
    Part as _Part,
)
from agent.providers.reading.codex_shape import (
    Payload as _Payload,
)
from agent.providers.reading.codex_shape import (
    Tokens as _Tokens,
)
from agent.providers.reading.codex_shape import (
    decode,
)
from agent.providers.reading.lines import Pairs, Recent, TableReader, Told, count_of, json_of, text_of
from agent.providers.reading.tools import CODEX, tool_kind

name = "codex"

_ITEM, _NOTE = "item", "note"
"""The two ways in which the same is said."""

_REPEAT = "repeat"
_RECORD = "token_usage_record"

_HARNESS = re.compile(
    r"\s*(?:# AGENTS\.md instructions|<(?:environment_context|user_instructions|user_shell_command|turn_aborted|skill"
    r"|subagent_notification|model_switch|collaboration_mode|personality_spec|[a-z]+[ _]instructions|INSTRUCTIONS)>)"
)
"""How texts begin that stand in the user's name and were written by the program."""

_FAILED = re.compile(r"(?:Exit code|Process exited with code):? (?!0\b)-?\d")
_LIMIT_INFO = "usage_limit_exceeded"
_FULL_PERCENT = 100.0


def reader(stream: StreamId) -> LineReader:
    return TableReader(told := Told(name, stream), decode, _Reader(told).tell)


class _Reader:
    """What later lines refer to: what was said in one of two ways, which command failed, which model answers."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.pairs = Pairs()
        self.failed: Recent[str, bool] = Recent()
        self.model = ""
        self.total_tokens = -1
        self.recorded = False
        """Whether this version writes a record for each answer; what it counts elsewhere is a repeat or a guess."""
        self.started = False
        self.limited = False

    def tell(self, line: _Line) -> bool:
        payload = line.payload
        self.told.date(line.timestamp)
        if payload is None or not isinstance(line.type, str):
            return False
        self.told.entry_id = text_of(payload.id)
        teller = _LINES.get(line.type)
        return teller is not None and teller(self, payload, line.type) is not False

    def note(self, source: str, text: str = "", completeness: Completeness = Completeness.FULL) -> None:
        self.told.add(Kind.STATUS, source, text=text, completeness=completeness)

    def say(self, kind: Kind, source: str, text: str, way: str, **fields: Any) -> None:
        """`text`, unless it was said in the other way."""
        if self.pairs.is_second(way, _NOTE if way == _ITEM else _ITEM, kind, text):
            self.note(source, _REPEAT, Completeness.PARTIAL)
        else:
            self.told.add(kind, source, text=text, model=self.model if kind is not Kind.USER_MESSAGE else "", **fields)


def _session_meta(reader: _Reader, payload: _Payload, source: str) -> None:
    parent = text_of(payload.forked_from_id) or text_of(payload.parent_thread_id)
    command = f"{text_of(payload.originator)} {text_of(payload.cli_version)}".strip()
    reader.told.add(
        Kind.SESSION_STARTED,
        source,
        command=command,
        cwd=text_of(payload.cwd),
        model=text_of(payload.model),
        resumed=reader.started or bool(payload.forked_from_id),
        parent_session_id=parent,
    )
    reader.started = True
    if reader.told.subpath and payload.history_base is not None:
        _taken_back(reader, payload.history_base, source)


def _taken_back(reader: _Reader, base: _Base, source: str) -> None:
    """The thread goes on in this rollout, before the end of another one of its own."""
    other = text_of(base.rollout_id) or text_of(base.thread_id)
    where = "the main transcript" if other == reader.told.session_id else CONTINUED + other
    ends = (base.end_ordinal_exclusive, base.ordinal_exclusive)
    at = next((one for one in ends if isinstance(one, int) and not isinstance(one, bool)), None)
    text = f"in {where}" if at is None else f"in {where} from ordinal {at} on"
    reader.told.add(Kind.SESSION_REWOUND, f"{source}/history_base", text=text)


def _rolled_back(reader: _Reader, payload: _Payload, source: str) -> None:
    turns = count_of(payload.num_turns)
    text = f"in the last {turns} turns" if turns > 1 else "in the last turn" if turns else ""
    reader.told.add(Kind.SESSION_REWOUND, source, text=text)


def _turn_context(reader: _Reader, payload: _Payload, source: str) -> None:
    reader.model = text_of(payload.model) or reader.model
    reader.told.add(Kind.STATUS, source, text="turn", model=reader.model, cwd=text_of(payload.cwd))


def _compacted(reader: _Reader, payload: _Payload, source: str) -> None:
    reader.told.add(Kind.COMPACTION, source, text=text_of(payload.message))


def _usage_record(reader: _Reader, payload: _Payload, source: str) -> None:
    reader.recorded = True
    _used(reader, source, payload.usage, payload.thread_token_usage)


def _used(reader: _Reader, source: str, tokens: _Tokens | None, total: _Tokens | None) -> None:
    """Tokens of one answer, told once: a total that did not move has been told."""
    count = count_of(total.total_tokens) if total else -1
    repeated = reader.recorded and source != _RECORD
    if tokens is None or repeated or (total is not None and count == reader.total_tokens):
        reader.note(source, _REPEAT if tokens else "", Completeness.PARTIAL)
        return
    reader.total_tokens = count
    cached, written = count_of(tokens.cached_input_tokens), count_of(tokens.cache_write_input_tokens)
    fresh = max(0, count_of(tokens.input_tokens) - cached - written)
    usage = Usage(fresh, count_of(tokens.output_tokens), cached, written)
    reader.told.add(Kind.USAGE, source, usage=usage, model=reader.model)


def _stated(reader: _Reader, _payload: _Payload, source: str) -> None:
    reader.note(source, completeness=Completeness.PARTIAL)


def _response_item(reader: _Reader, payload: _Payload, source: str) -> bool | None:
    teller = _ITEMS.get(payload.type) if isinstance(payload.type, str) else None
    if teller is None:
        return False
    teller(reader, payload, f"{source}/{payload.type}")
    return None


def _event_msg(reader: _Reader, payload: _Payload, source: str) -> bool | None:
    teller = _NOTES.get(payload.type) if isinstance(payload.type, str) else None
    if teller is None:
        return False
    return teller(reader, payload, f"{source}/{payload.type}")


_LINES: Mapping[str, Callable[[_Reader, _Payload, str], bool | None]] = {
    "session_meta": _session_meta,
    "turn_context": _turn_context,
    "response_item": _response_item,
    "event_msg": _event_msg,
    "compacted": _compacted,
    _RECORD: _usage_record,
    "world_state": _stated,
    "inter_agent_communication": _stated,
}


def _joined(content: Sequence[_Part] | str | None) -> tuple[str, bool]:
    """The text, and whether that is all."""
    if isinstance(content, str) or content is None:
        return content or "", True
    texts = [part.text for part in content if isinstance(part.text, str)]
    return "\n".join(texts), len(texts) == len(content)


def _message(reader: _Reader, payload: _Payload, source: str) -> None:
    text, whole = _joined(payload.content)
    completeness = Completeness.FULL if whole else Completeness.PARTIAL
    if payload.role == "assistant":
        reader.say(Kind.ASSISTANT_MESSAGE, source, text, _ITEM, completeness=completeness)
    elif payload.role == "user" and not _is_harness(payload, text):
        reader.say(Kind.USER_MESSAGE, source, text, _ITEM, completeness=completeness)
    else:
        reader.told.add(Kind.STATUS, f"{source}/{text_of(payload.role)[:16]}", text=text, completeness=completeness)


def _is_harness(payload: _Payload, text: str) -> bool:
    kinds = payload.passthrough.content_item_kinds if payload.passthrough else None
    if isinstance(kinds, list) and kinds:
        return not any(isinstance(kind, str) and kind.startswith("user.") for kind in kinds)
    return _HARNESS.match(text) is not None


def _reasoning(reader: _Reader, payload: _Payload, source: str) -> None:
    parts = [*_texts(payload.summary), *_texts(payload.content)]
    completeness = Completeness.PARTIAL if payload.encrypted_content else Completeness.FULL
    for text in parts:
        reader.say(Kind.REASONING, source, text, _ITEM, completeness=completeness)
    if not parts:
        reader.told.add(Kind.REASONING, source, model=reader.model, completeness=Completeness.METADATA_ONLY)


def _texts(content: Sequence[_Part] | str | None) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part.text for part in content or () if isinstance(part.text, str)]


def _call(reader: _Reader, payload: _Payload, source: str) -> None:
    tool = text_of(payload.name) or text_of(payload.type)
    space = text_of(payload.namespace)
    kind = tool_kind(tool, CODEX)
    raw = next((raw for raw in (payload.arguments, payload.input, payload.action) if raw), None)
    call_id = text_of(payload.call_id) or text_of(payload.id)
    reader.told.call(source, call_id, f"{space}{tool}", kind, _arguments(raw) if raw else "")


_decode_text = msgspec.json.Decoder(str).decode


def _arguments(raw: msgspec.Raw) -> str:
    """JSON text: mostly it stands in the line as a string; a patch is text and no JSON."""
    whole = json_of(raw)
    if not whole.startswith('"'):
        return whole
    text = _decode_text(whole)
    return text if text[:1] in ("{", "[") else whole


def _output(reader: _Reader, payload: _Payload, source: str) -> None:
    found, whole = payload.output, True
    if isinstance(found, dict):
        found = found.get("content") or found.get("output")
    if isinstance(found, list):
        texts = [one.get("text") if isinstance(one, dict) else None for one in found]
        whole = all(isinstance(text, str) for text in texts)
        found = "\n".join(text for text in texts if isinstance(text, str))
    text, call_id = text_of(found), text_of(payload.call_id)
    failed = reader.failed.get(call_id) is True or _FAILED.match(text[:64]) is not None
    completeness = Completeness.FULL if whole else Completeness.PARTIAL
    reader.told.result(source, call_id, text, is_error=failed, completeness=completeness)


_ITEMS: Mapping[str, Callable[[_Reader, _Payload, str], None]] = {
    "message": _message,
    "reasoning": _reasoning,
    "function_call": _call,
    "function_call_output": _output,
    "custom_tool_call": _call,
    "custom_tool_call_output": _output,
    "mcp_tool_call_output": _output,
    "local_shell_call": _call,
    "web_search_call": _call,
    "tool_search_call": _call,
    "tool_search_output": _output,
    "image_generation_call": _call,
    "ghost_snapshot": _stated,
    "compaction": _stated,
    "compaction_summary": _stated,
    "context_compaction": _stated,
}


def _said(kind: Kind) -> Callable[[_Reader, _Payload, str], None]:
    def tell(reader: _Reader, payload: _Payload, source: str) -> None:
        reader.say(kind, source, text_of(payload.message) or text_of(payload.text), _NOTE)

    return tell


def _token_count(reader: _Reader, payload: _Payload, source: str) -> None:
    info = payload.info or _Info()
    _used(reader, source, info.last_token_usage, info.total_token_usage)
    limits = payload.rate_limits
    if limits is not None:
        _limited(reader, source, _is_full(limits), text_of(limits.rate_limit_reached_type))


def _is_full(limits: _Limits) -> bool:
    used = [window.used_percent for window in (limits.primary, limits.secondary) if window]
    return bool(limits.rate_limit_reached_type) or any(
        isinstance(percent, (int, float)) and percent >= _FULL_PERCENT for percent in used
    )


def _limited(reader: _Reader, source: str, full: bool, text: str) -> None:
    if full != reader.limited:
        reader.limited = full
        reader.told.add(Kind.LIMIT_HIT if full else Kind.LIMIT_RESUMED, source, text=text)


def _failure(reader: _Reader, payload: _Payload, source: str) -> None:
    if payload.codex_error_info == _LIMIT_INFO and not reader.limited:
        _limited(reader, source, True, text_of(payload.message))
    else:
        reader.told.add(Kind.STATUS, source, text=text_of(payload.message), is_error=True)


def _noted(field: str = "") -> Callable[[_Reader, _Payload, str], None]:
    def tell(reader: _Reader, payload: _Payload, source: str) -> None:
        reader.note(source, text_of(getattr(payload, field)) if field else "", Completeness.PARTIAL)

    return tell


def _turn_ended(reader: _Reader, _payload: _Payload, source: str) -> None:
    reader.note(source, "turn ended", Completeness.PARTIAL)


def _asked(reader: _Reader, payload: _Payload, source: str) -> None:
    reader.told.add(Kind.PERMISSION, source, text="asked", call_id=text_of(payload.call_id))


def _tool_ended(reader: _Reader, payload: _Payload, source: str) -> None:
    """The result itself stands in the model's item behind this."""
    _remember_failure(reader, text_of(payload.call_id), payload.exit_code, payload.success)
    reader.note(source, _REPEAT, Completeness.PARTIAL)


def _remember_failure(reader: _Reader, call_id: str, exit_code: object, success: object = None) -> None:
    if call_id and (success is False or (isinstance(exit_code, int) and exit_code != 0)):
        reader.failed.put(call_id, True)


def _item_completed(reader: _Reader, payload: _Payload, source: str) -> bool | None:
    item = payload.item
    if item is None or not isinstance(item.type, str):
        return False
    source = f"{source}/{item.type[:32]}"
    if item.type == "Reasoning":
        for text in item.summary_text if isinstance(item.summary_text, list) else ():
            reader.say(Kind.REASONING, source, text_of(text), _NOTE)
        if not reader.told.events:
            reader.note(source, _REPEAT, Completeness.PARTIAL)
    elif (kind := _SAID_ITEMS.get(item.type)) is not None:
        reader.say(kind, source, _joined(item.content)[0], _NOTE)
    else:
        _remember_failure(reader, text_of(item.id), item.exit_code, item.status != "failed")
        reader.note(source, _REPEAT, Completeness.PARTIAL)
    return None


_SAID_ITEMS = {"UserMessage": Kind.USER_MESSAGE, "AgentMessage": Kind.ASSISTANT_MESSAGE}

_NOTES: Mapping[str, Callable[[_Reader, _Payload, str], bool | None]] = {
    "user_message": _said(Kind.USER_MESSAGE),
    "agent_message": _said(Kind.ASSISTANT_MESSAGE),
    "agent_reasoning": _said(Kind.REASONING),
    "agent_reasoning_raw_content": _said(Kind.REASONING),
    "agent_reasoning_section_break": _noted(),
    "item_started": _noted(),
    "item_completed": _item_completed,
    "token_count": _token_count,
    "error": _failure,
    "stream_error": _failure,
    "warning": _noted("message"),
    "background_event": _noted("message"),
    "deprecation_notice": _noted(),
    "task_started": _noted(),
    "turn_started": _noted(),
    "task_complete": _turn_ended,
    "turn_complete": _turn_ended,
    "turn_aborted": _noted("reason"),
    "context_compacted": _noted(),
    "thread_rolled_back": _rolled_back,
    "thread_settings_applied": _noted(),
    "thread_name_updated": _noted("thread_name"),
    "entered_review_mode": _noted(),
    "exited_review_mode": _noted(),
    "plan_update": _noted(),
    "turn_diff": _noted(),
    "exec_approval_request": _asked,
    "apply_patch_approval_request": _asked,
    "request_permissions": _asked,
    "elicitation_request": _asked,
    "request_user_input": _asked,
    "exec_command_begin": _noted(),
    "exec_command_end": _tool_ended,
    "patch_apply_begin": _noted(),
    "patch_apply_end": _tool_ended,
    "mcp_tool_call_begin": _noted(),
    "mcp_tool_call_end": _tool_ended,
    "web_search_begin": _noted(),
    "web_search_end": _tool_ended,
    "view_image_tool_call": _noted(),
    "image_generation_end": _tool_ended,
    "collab_agent_spawn_end": _noted(),
    "collab_agent_interaction_end": _noted(),
    "collab_waiting_end": _noted(),
    "collab_close_end": _noted(),
    "collab_resume_end": _noted(),
    "sub_agent_activity": _noted(),
}
"""The program's own notes; False: it can't be told."""
