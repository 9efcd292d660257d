"""Copilot CLI's lines as events; seen in 1.0.102.

A tool is called by the message that asks for it; where it begins to run is told as a STATUS, unless no message asked.
Of what streams in pieces (`…_delta`) only the whole that follows is told. The tokens that came out of a cache are
counted in `inputTokens` there, and are taken out of it here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from agent.core.sessions.normalised import Completeness, Kind, LineReader, Usage
from agent.core.transcripts.session import StreamId
from agent.providers.reading.lines import Pairs, Recent, TableReader, Told, count_of, json_of, text_of
from agent.providers.reading.tools import COPILOT, tool_kind

name = "copilot"

_ALONE, _IN_MESSAGE = "alone", "in message"

_LIMIT_ERRORS = ("rate_limit", "quota", "user_weekly_rate_limited", "user_global_rate_limited")


class _Context(msgspec.Struct, gc=False):
    cwd: Any = None


class _Request(msgspec.Struct, gc=False):
    toolCallId: Any = None  # noqa: N815 - the keys of the format, to the end of these classes
    name: Any = None
    arguments: msgspec.Raw = msgspec.Raw()


class _Result(msgspec.Struct, gc=False):
    content: Any = None


class _Error(msgspec.Struct, gc=False):
    message: Any = None
    code: Any = None


class _Usage(msgspec.Struct, gc=False):
    model: Any = None
    apiCallId: Any = None  # noqa: N815
    inputTokens: Any = 0  # noqa: N815
    outputTokens: Any = 0  # noqa: N815
    cacheReadTokens: Any = 0  # noqa: N815
    cacheWriteTokens: Any = 0  # noqa: N815


class _Data(_Usage):
    content: Any = None
    message: Any = None
    reasoningText: Any = None  # noqa: N815
    reasoningOpaque: Any = None  # noqa: N815
    encryptedContent: Any = None  # noqa: N815
    toolRequests: list[_Request] | None = None  # noqa: N815
    toolCallId: Any = None  # noqa: N815
    parentToolCallId: Any = None  # noqa: N815
    toolName: Any = None  # noqa: N815
    arguments: msgspec.Raw = msgspec.Raw()
    success: Any = None
    result: _Result | str | None = None
    error: _Error | str | None = None
    usage: _Usage | None = None
    copilotVersion: Any = None  # noqa: N815
    producer: Any = None
    selectedModel: Any = None  # noqa: N815
    newModel: Any = None  # noqa: N815
    context: _Context | None = None
    shutdownType: Any = None  # noqa: N815
    errorReason: Any = None  # noqa: N815
    errorType: Any = None  # noqa: N815
    warningType: Any = None  # noqa: N815
    hookType: Any = None  # noqa: N815
    title: Any = None
    reason: Any = None
    summaryContent: Any = None  # noqa: N815
    allowAllPermissionMode: Any = None  # noqa: N815
    forkedFromSessionId: Any = None  # noqa: N815


class _Line(msgspec.Struct, gc=False):
    type: Any = None
    data: _Data | None = None
    id: Any = None
    timestamp: Any = None
    parentId: Any = None  # noqa: N815


_decode = msgspec.json.Decoder(_Line).decode


def reader(stream: StreamId) -> LineReader:
    return TableReader(told := Told(name, stream), _decode, _Reader(told).tell)


class _Reader:
    """What later lines refer to: the calls that were told, the messages whose reasoning was, the answers that were
    counted."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.model = ""
        self.version = ""
        self.counted: Recent[str, bool] = Recent()
        self.pairs = Pairs()
        self.limited = False

    def tell(self, line: _Line) -> bool:
        told, data = self.told, line.data
        told.date(line.timestamp)
        if data is None or not isinstance(line.type, str):
            return False
        told.entry_id, told.parent_id = text_of(line.id), text_of(line.parentId)
        told.sidechain = isinstance(data.parentToolCallId, str)
        teller = _LINES.get(line.type)
        if teller is None:
            return False
        teller(self, data, line.type)
        return True


def _started(reader: _Reader, data: _Data, source: str) -> None:
    reader.version = text_of(data.copilotVersion) or reader.version
    reader.model = text_of(data.selectedModel) or reader.model
    parent = text_of(data.forkedFromSessionId)
    reader.told.add(
        Kind.SESSION_STARTED,
        source,
        command=f"{text_of(data.producer) or 'copilot-agent'} {reader.version}".strip(),
        model=reader.model,
        cwd=text_of(data.context.cwd) if data.context else "",
        resumed=source == "session.resume" or bool(parent),
        parent_session_id=parent,
    )


def _user(reader: _Reader, data: _Data, source: str) -> None:
    reader.told.add(Kind.USER_MESSAGE, source, text=text_of(data.content))


def _assistant(reader: _Reader, data: _Data, source: str) -> None:
    told, model = reader.told, text_of(data.model)
    if reader.limited:
        reader.limited = False
        told.add(Kind.LIMIT_RESUMED, source, model=model)
    if data.reasoningText or data.reasoningOpaque or data.encryptedContent:
        _reason(reader, source, text_of(data.reasoningText), model, (_IN_MESSAGE, _ALONE))
    if text := text_of(data.content):
        told.add(Kind.ASSISTANT_MESSAGE, source, text=text, model=model)
    for request in data.toolRequests or ():
        _call(reader, source, request.toolCallId, request.name, request.arguments)
    if not told.events:
        told.add(Kind.STATUS, source, text="empty", model=model)


def _reasoning(reader: _Reader, data: _Data, source: str) -> None:
    text = text_of(data.content) or text_of(data.reasoningText)
    _reason(reader, source, text, text_of(data.model), (_ALONE, _IN_MESSAGE))


def _reason(reader: _Reader, source: str, text: str, model: str, ways: tuple[str, str]) -> None:
    """A message repeats the reasoning that stands on a line of its own. `ways`: how this one says it, and the other."""
    if text and reader.pairs.is_second(*ways, text):
        reader.told.add(Kind.STATUS, source, text="repeat", completeness=Completeness.PARTIAL)
        return
    completeness = Completeness.FULL if text else Completeness.METADATA_ONLY
    reader.told.add(Kind.REASONING, source, text=text, model=model, completeness=completeness)


def _call(reader: _Reader, source: str, call_id: object, tool: object, arguments: msgspec.Raw) -> None:
    called = text_of(tool)
    reader.told.call(
        source, text_of(call_id), called, tool_kind(called, COPILOT), json_of(arguments) if arguments else ""
    )


def _begun(reader: _Reader, data: _Data, source: str) -> None:
    if reader.told.was_called(text_of(data.toolCallId)):
        reader.told.add(Kind.STATUS, source, call_id=text_of(data.toolCallId), completeness=Completeness.PARTIAL)
    else:
        _call(reader, source, data.toolCallId, data.toolName, data.arguments)


def _done(reader: _Reader, data: _Data, source: str) -> None:
    result, error = data.result, data.error
    text = text_of(result.content) if isinstance(result, _Result) else text_of(result)
    if not text:
        text = text_of(error.message) if isinstance(error, _Error) else text_of(error)
    reader.told.result(source, text_of(data.toolCallId), text, is_error=data.success is False)


def _used(reader: _Reader, data: _Data, source: str) -> None:
    """Tokens of one answer; told once, also where it is counted in two ways."""
    used = data.usage or data
    call_id = text_of(used.apiCallId)
    if call_id and reader.counted.get(call_id):
        reader.told.add(Kind.STATUS, source, text="repeat", completeness=Completeness.PARTIAL)
        return
    reader.counted.put(call_id, True)
    cached, written = count_of(used.cacheReadTokens), count_of(used.cacheWriteTokens)
    fresh = max(0, count_of(used.inputTokens) - cached - written)
    usage = Usage(fresh, count_of(used.outputTokens), cached, written)
    reader.told.add(Kind.USAGE, source, usage=usage, model=text_of(used.model))


def _ended(reader: _Reader, data: _Data, source: str) -> None:
    text = text_of(data.errorReason) or text_of(data.shutdownType)
    reader.told.add(Kind.SESSION_ENDED, source, text=text, is_error=data.shutdownType == "error")


def _failed(reader: _Reader, data: _Data, source: str) -> None:
    text = text_of(data.message)
    if data.errorType in _LIMIT_ERRORS:
        reader.limited = True
        reader.told.add(Kind.LIMIT_HIT, source, text=text)
    else:
        reader.told.add(Kind.STATUS, source, text=text, is_error=True)


def _compacted(reader: _Reader, data: _Data, source: str) -> None:
    if data.success is False:
        reader.told.add(Kind.STATUS, source, text="compaction failed", is_error=True)
    else:
        reader.told.add(Kind.COMPACTION, source, text=text_of(data.summaryContent))


def _permission(text: str) -> Callable[[_Reader, _Data, str], None]:
    def tell(reader: _Reader, data: _Data, source: str) -> None:
        said = text or text_of(data.allowAllPermissionMode)
        reader.told.add(Kind.PERMISSION, source, text=said, call_id=text_of(data.toolCallId))

    return tell


def _noted(field: str = "") -> Callable[[_Reader, _Data, str], None]:
    def tell(reader: _Reader, data: _Data, source: str) -> None:
        text = text_of(getattr(data, field)) if field else ""
        reader.told.add(Kind.STATUS, source, text=text, completeness=Completeness.PARTIAL)

    return tell


def _model_changed(reader: _Reader, data: _Data, source: str) -> None:
    reader.model = text_of(data.newModel) or reader.model
    reader.told.add(Kind.STATUS, source, text="model", model=reader.model)


_LINES: Mapping[str, Callable[[_Reader, _Data, str], None]] = {
    "session.start": _started,
    "session.resume": _started,
    "session.shutdown": _ended,
    "session.error": _failed,
    "session.usage_record": _used,
    "assistant.usage": _used,
    "session.compaction_complete": _compacted,
    "session.compaction_start": _noted(),
    "session.truncation": _noted(),
    "session.permissions_changed": _permission(""),
    "permission.requested": _permission("asked"),
    "permission.completed": _permission("answered"),
    "session.model_change": _model_changed,
    "session.title_changed": _noted("title"),
    "session.info": _noted("message"),
    "session.warning": _noted("message"),
    "session.mode_changed": _noted(),
    "session.plan_changed": _noted(),
    "session.context_changed": _noted(),
    "session.workspace_file_changed": _noted(),
    "session.snapshot_rewind": _noted(),
    "session.handoff": _noted(),
    "session.idle": _noted(),
    "session.usage_info": _noted(),
    "session.task_complete": _noted(),
    "session.background_tasks_changed": _noted(),
    "session.remote_steerable_changed": _noted(),
    "session.skills_loaded": _noted(),
    "session.tools_updated": _noted(),
    "session.custom_agents_updated": _noted(),
    "session.mcp_servers_loaded": _noted(),
    "session.mcp_server_status_changed": _noted(),
    "session.extensions_loaded": _noted(),
    "user.message": _user,
    "pending_messages.modified": _noted(),
    "system.message": _noted("content"),
    "system.notification": _noted("content"),
    "assistant.turn_start": _noted(),
    "assistant.turn_end": _noted(),
    "assistant.intent": _noted(),
    "assistant.message": _assistant,
    "assistant.message_delta": _noted(),
    "assistant.streaming_delta": _noted(),
    "assistant.reasoning": _reasoning,
    "assistant.reasoning_delta": _noted(),
    "tool.user_requested": _begun,
    "tool.execution_start": _begun,
    "tool.execution_progress": _noted(),
    "tool.execution_partial_result": _noted(),
    "tool.execution_complete": _done,
    "hook.start": _noted("hookType"),
    "hook.end": _noted("hookType"),
    "skill.invoked": _noted(),
    "subagent.started": _noted(),
    "subagent.completed": _noted(),
    "subagent.failed": _noted(),
    "subagent.selected": _noted(),
    "subagent.deselected": _noted(),
    "user_input.requested": _permission("asked"),
    "user_input.completed": _permission("answered"),
    "elicitation.requested": _permission("asked"),
    "elicitation.completed": _permission("answered"),
    "exit_plan_mode.requested": _permission("asked"),
    "exit_plan_mode.completed": _permission("answered"),
    "command.queued": _noted(),
    "command.execute": _noted(),
    "command.completed": _noted(),
    "abort": _noted("reason"),
}
"""Line type → how it is told."""
