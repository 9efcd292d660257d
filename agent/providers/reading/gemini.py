"""Gemini CLI's lines as events; seen in 0.61.

A transcript is a log of changes: a message that grew is written again as a whole under its id (the last one holds),
and `$set` lines patch the session or write all its messages again. Here each thing is told once, when it is new or
has changed: a text that changed is told again with the same `entry_id`, and holds from then on; of thoughts, tokens
and calls only what was not told. A line that says nothing new is a STATUS whose text is `repeat`. Of messages beyond
the last `_MESSAGES` that were told nothing is known, and they are told again if they recur.
The tokens that came out of a cache are counted in `input` there, and are taken out of it here.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from agent.core.sessions.normalised import Completeness, Kind, LineReader, ToolKind, Usage
from agent.core.transcripts.session import StreamId
from agent.providers.reading.lines import (
    UNKNOWN,
    Recent,
    TableReader,
    Told,
    UsageOnce,
    count_of,
    json_of,
    text_of,
)
from agent.providers.reading.tools import GEMINI, tool_kind

name = "gemini"

_MESSAGES = 8192
_LONGEST_ID = 256
_REPEAT = "repeat"

_NOT_TYPED = re.compile(r"[0-9a-f]{32}")
"""Ids of what the program says first in the user's name; many sessions share them. Others are UUIDs."""


class _Tokens(msgspec.Struct, gc=False):
    input: Any = 0
    output: Any = 0
    cached: Any = 0
    thoughts: Any = 0


class _Thought(msgspec.Struct, gc=False):
    subject: Any = None
    description: Any = None


class _Response(msgspec.Struct, gc=False):
    output: Any = None
    error: Any = None


class _FunctionResponse(msgspec.Struct, gc=False):
    id: Any = None
    name: Any = None
    response: _Response | None = None


class _FunctionCall(msgspec.Struct, gc=False):
    id: Any = None
    name: Any = None
    args: msgspec.Raw = msgspec.Raw()


class _Part(msgspec.Struct, gc=False):
    text: Any = None
    functionResponse: _FunctionResponse | None = None  # noqa: N815 - the key of the format
    functionCall: _FunctionCall | None = None  # noqa: N815 - the key of the format


class _Call(msgspec.Struct, gc=False):
    id: Any = None
    name: Any = None
    args: msgspec.Raw = msgspec.Raw()
    result: list[_Part] | str | None = None
    status: Any = None


class _Message(msgspec.Struct, gc=False):
    id: Any = None
    type: Any = None
    timestamp: Any = None
    content: list[_Part] | _Part | str | None = None
    thoughts: list[_Thought] | None = None
    tokens: _Tokens | None = None
    model: Any = None
    toolCalls: list[_Call] | None = None  # noqa: N815 - the key of the format


class _Patch(msgspec.Struct, gc=False):
    messages: list[_Message] | None = None
    summary: Any = None
    sessionId: Any = None  # noqa: N815 - the key of the format
    lastUpdated: Any = None  # noqa: N815 - the key of the format
    memoryScratchpad: Any = None  # noqa: N815 - the key of the format
    directories: Any = None


class _Line(_Message):
    patch: _Patch | None = msgspec.field(name="$set", default=None)
    rewind: Any = msgspec.field(name="$rewindTo", default=None)
    sessionId: Any = None  # noqa: N815 - the key of the format
    startTime: Any = None  # noqa: N815 - the key of the format
    kind: Any = None


_decode = msgspec.json.Decoder(_Line).decode


class _Known(NamedTuple):
    """What was told of a message: a hash of its text, how many thoughts; and the line it first stood in."""

    text: int | None = None
    thoughts: int = 0
    line: int = 0


def reader(stream: StreamId) -> LineReader:
    return TableReader(told := Told(name, stream), _decode, _Reader(told).tell)


class _Reader:
    def __init__(self, told: Told) -> None:
        self.told = told
        self.known: Recent[str, _Known] = Recent(_MESSAGES)
        self.calls: Recent[str, bool] = Recent(_MESSAGES)
        """Call id → whether its result was told."""
        self.usage = UsageOnce()
        self.started = False

    def tell(self, line: _Line) -> bool:
        told = self.told
        if line.patch is not None:
            return _patch(self, line.patch)
        if isinstance(line.rewind, str):
            known = self.known.get(line.rewind)
            told.parent_id = line.rewind[:_LONGEST_ID]
            told.add(Kind.SESSION_REWOUND, "$rewindTo", text=f"from line {known.line} on" if known else "")
            return True
        if line.type is None and isinstance(line.sessionId, str):
            told.date(line.startTime)
            parent = line.sessionId if line.kind == "subagent" and line.sessionId != told.session_id else ""
            told.add(Kind.SESSION_STARTED, "header", command="gemini", resumed=self.started, parent_session_id=parent)
            self.started = True
            return True
        if not _message(self, line):
            return False
        if not told.events:
            told.add(Kind.STATUS, text_of(line.type), text=_REPEAT, completeness=Completeness.PARTIAL)
        return True


def _patch(reader: _Reader, patch: _Patch) -> bool:
    for message in patch.messages or ():
        if not _message(reader, message):
            reader.told.warn(UNKNOWN, "$set/messages")
    reader.told.entry_id = ""
    if patch.lastUpdated is not None:
        reader.told.date(patch.lastUpdated)
    if not reader.told.events:
        text = text_of(patch.summary)
        reader.told.add(Kind.STATUS, "$set", text=text or _REPEAT if patch.messages else text)
    return True


def _message(reader: _Reader, message: _Message) -> bool:
    teller = _TYPES.get(message.type) if isinstance(message.type, str) else None
    if teller is None:
        return False
    told = reader.told
    told.date(message.timestamp)
    told.entry_id = text_of(message.id)
    known = reader.known.get(told.entry_id) or _Known(line=told.line)
    now = teller(reader, message, known)
    if told.entry_id:
        reader.known.put(told.entry_id, now)
    return True


def _parts(content: list[_Part] | _Part | str | None) -> list[_Part]:
    if isinstance(content, str):
        return [_Part(text=content)]
    return [content] if isinstance(content, _Part) else content or []


def _text(content: list[_Part] | _Part | str | None) -> tuple[str, bool]:
    """The text, and whether nothing else but answers of tools stands beside it."""
    if isinstance(content, str):
        return content, True
    parts = _parts(content)
    whole = all(isinstance(one.text, str) or one.functionResponse or one.functionCall for one in parts)
    return "\n".join(one.text for one in parts if isinstance(one.text, str)), whole


def _user(reader: _Reader, message: _Message, known: _Known) -> _Known:
    text, whole = _text(message.content)
    key = hash(text)
    if (text or not whole) and key != known.text:
        if _NOT_TYPED.fullmatch(text_of(message.id)):
            reader.told.add(Kind.STATUS, "user/context", text=text)
        else:
            completeness = Completeness.FULL if whole else Completeness.PARTIAL
            reader.told.add(Kind.USER_MESSAGE, "user", text=text, completeness=completeness)
    for part in _parts(message.content):
        if part.functionResponse is not None:
            _result(reader, part.functionResponse, "user/functionResponse")
    return known._replace(text=key)


def _gemini(reader: _Reader, message: _Message, known: _Known) -> _Known:
    told, model = reader.told, text_of(message.model)
    thoughts = message.thoughts or []
    for thought in thoughts[known.thoughts :]:
        text = "\n".join(filter(None, (text_of(thought.subject), text_of(thought.description))))
        told.add(Kind.REASONING, "gemini/thoughts", text=text, model=model)
    text, whole = _text(message.content)
    key = hash(text)
    if text and key != known.text:
        completeness = Completeness.FULL if whole else Completeness.PARTIAL
        told.add(Kind.ASSISTANT_MESSAGE, "gemini", text=text, model=model, completeness=completeness)
    for call in message.toolCalls or ():
        _call(reader, call)
    if message.tokens is not None:
        _used(reader, message.tokens, model)
    return known._replace(text=key, thoughts=max(known.thoughts, len(thoughts)))


def _call(reader: _Reader, call: _Call) -> None:
    call_id, tool = text_of(call.id), text_of(call.name)
    if reader.calls.get(call_id) is None:
        kind: ToolKind = tool_kind(tool, GEMINI)
        reader.told.call("gemini/toolCalls", call_id, tool, kind, json_of(call.args) if call.args else "")
        reader.calls.put(call_id, False)
    if call.result is None or reader.calls.get(call_id):
        return
    texts = [one.functionResponse.response for one in _parts(call.result) if one.functionResponse]
    text = "\n".join(_said(one) for one in texts if one) or _text(call.result)[0]
    _tell_result(reader, "gemini/toolCalls", call_id, text, text_of(call.status) not in ("success", ""))


def _result(reader: _Reader, found: _FunctionResponse, source: str) -> None:
    """A tool's answer as the model gets it; mostly its call has told it."""
    if not reader.calls.get(call_id := text_of(found.id)):
        response = found.response or _Response()
        _tell_result(reader, source, call_id, _said(response), response.error is not None)


def _said(response: _Response) -> str:
    return text_of(response.output) or text_of(response.error)


def _tell_result(reader: _Reader, source: str, call_id: str, text: str, is_error: bool) -> None:
    reader.calls.put(call_id, True)
    reader.told.result(source, call_id, text, is_error=is_error)


def _used(reader: _Reader, tokens: _Tokens, model: str) -> None:
    cached = count_of(tokens.cached)
    output = count_of(tokens.output) + count_of(tokens.thoughts)
    usage = Usage(max(0, count_of(tokens.input) - cached), output, cached)
    new = reader.usage.new(reader.told.entry_id, usage)
    if new is not None:
        reader.told.add(Kind.USAGE, "gemini/tokens", usage=new, model=model)


def _noted(reader: _Reader, message: _Message, known: _Known) -> _Known:
    text = _text(message.content)[0]
    if (key := hash(text)) != known.text:
        reader.told.add(Kind.STATUS, text_of(message.type), text=text, is_error=message.type == "error")
    return known._replace(text=key)


_TYPES: Mapping[str, Callable[[_Reader, _Message, _Known], _Known]] = {
    "user": _user,
    "gemini": _gemini,
    "info": _noted,
    "warning": _noted,
    "error": _noted,
}
"""Type of a message → what tells what is new in it, and gives what is known of it then."""
