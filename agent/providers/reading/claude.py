"""Claude Code's lines as events; seen in 1.0.100, 2.0.30, 2.1.197 and 2.1.329.

One line holds one message or one of its blocks, and a message's usage stands on each line of it: it is told once, with
what grew. A session has no line that says that it began: the first line with a version and a folder stands for it,
and so does each line from which on another version writes (it was resumed).
"""

import re
from collections.abc import Callable, Mapping

import msgspec

from agent.core.sessions.normalised import Completeness, Kind, LineReader, ToolKind, Usage
from agent.core.transcripts.session import StreamId
from agent.providers.reading.claude_shape import (
    Block as _Block,
)
from agent.providers.reading.claude_shape import (
    Error as _Error,
)
from agent.providers.reading.claude_shape import (
    Line as _Line,
)
from agent.providers.reading.claude_shape import (
    Message as _Message,
)
from agent.providers.reading.claude_shape import (
    decode,
)
from agent.providers.reading.lines import (
    UNKNOWN,
    TableReader,
    Told,
    UsageOnce,
    count_of,
    json_of,
    money_of,
    text_of,
)
from agent.providers.reading.tools import CLAUDE, tool_kind

name = "claude"

_SHELL_BY_HAND = "!"
"""How a user's own command is begun, and the name of the tool that it is told as."""

_HUMAN = "human"
"""Whose words they are, where newer versions say; else a program's in the user's name."""

_MARKUP = re.compile(r"\s*<([a-z][a-z-]{2,40})>")
_LIMIT_WORDS = ("usage limit reached", "hit your limit", "-hour limit reached", "weekly limit reached", "rate limit")
_LIMIT_STATUS = 429


def reader(stream: StreamId) -> LineReader:
    return TableReader(told := Told(name, stream), decode, _Reader(told).tell)


class _Reader:
    """What later lines refer to: which version writes, which model answers, what is known to be used."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.version = ""
        self.model = ""
        self.usage = UsageOnce()
        self.mode = ""
        self.cost_usd = 0.0
        self.compacted = False
        """Whether a boundary stands before the summary that is to come."""
        self.limited = False

    def tell(self, line: _Line) -> bool:
        told = self.told
        told.date(line.timestamp)
        told.entry_id = text_of(line.uuid)
        told.parent_id = text_of(line.parentUuid)
        told.sidechain = line.isSidechain is True
        if line.version is not None and line.version != self.version and isinstance(line.cwd, str):
            self._tell_start(line)
        teller = _LINES.get(line.type) if isinstance(line.type, str) else None
        return teller is not None and teller(self, line) is not False

    def _tell_start(self, line: _Line) -> None:
        """`parent_session_id`: whose subagent this is, or which session it continues."""
        parent = text_of(line.forkedFrom.sessionId) if line.forkedFrom else text_of(line.sessionId)
        first, self.version = not self.version, text_of(line.version)
        foreign = parent != self.told.session_id and bool(parent)
        self.told.add(
            Kind.SESSION_STARTED,
            text_of(line.type)[:64],
            command=f"claude {self.version}",
            cwd=line.cwd,
            resumed=foreign or not first,
            parent_session_id=parent if foreign or self.told.subpath else "",
        )


def _user(reader: _Reader, line: _Line) -> bool | None:
    content = line.message.content if line.message else None
    if content is None:
        return False
    blocks = [_Block(type="text", text=content)] if isinstance(content, str) else content
    if line.toolDenialKind is not None:
        reader.told.add(Kind.PERMISSION, "user/toolDenialKind", text=f"refused: {text_of(line.toolDenialKind)}")
    for block in blocks:
        teller = _USER_BLOCKS.get(block.type) if isinstance(block.type, str) else None
        if teller is None:
            reader.told.warn(UNKNOWN, f"user/{text_of(block.type)[:64]}")
        else:
            teller(reader, line, block)
    if not blocks:
        reader.told.add(Kind.STATUS, "user", text="empty")
    return None


def _user_text(reader: _Reader, line: _Line, block: _Block) -> None:
    text = text_of(block.text)
    if line.isCompactSummary is True:
        kind = Kind.STATUS if reader.compacted else Kind.COMPACTION
        reader.compacted = False
        reader.told.add(kind, "user/isCompactSummary", text=text)
    elif line.isMeta is True:
        reader.told.add(Kind.STATUS, "user/isMeta", text=text)
    elif line.origin is not None and line.origin.kind not in (None, _HUMAN):
        reader.told.add(Kind.STATUS, f"user/{text_of(line.origin.kind)[:64]}", text=text)
    elif (match := _MARKUP.match(text)) and (teller := _MARKED.get(match.group(1))):
        teller(reader, text)
    else:
        reader.told.add(Kind.USER_MESSAGE, "user/text", text=text)


def _marked(text: str, tag: str) -> str:
    """What stands between `<tag>` and `</tag>`."""
    head = f"<{tag}>"
    begin = text.find(head)
    if begin < 0:
        return ""
    end = text.rfind(f"</{tag}>")
    return text[begin + len(head) : end if end >= 0 else len(text)]


def _slash_command(reader: _Reader, text: str) -> None:
    command, words = _marked(text, "command-name").strip(), _marked(text, "command-args").strip()
    _cleared(reader, "user/command-name", command)
    reader.told.add(Kind.USER_MESSAGE, "user/command-name", text=f"{command} {words}".strip(), command=command)


def _cleared(reader: _Reader, source: str, command: str) -> None:
    if command.lstrip("/") == "clear":
        reader.told.add(Kind.SESSION_CLEARED, source)


def _shell_by_hand(reader: _Reader, text: str) -> None:
    arguments = msgspec.json.encode({"command": _marked(text, "bash-input")}).decode()
    reader.told.call("user/bash-input", "", _SHELL_BY_HAND, ToolKind.SHELL, arguments)


def _shell_result(reader: _Reader, text: str) -> None:
    out, err = _marked(text, "bash-stdout"), _marked(text, "bash-stderr")
    reader.told.add(Kind.TOOL_RESULT, "user/bash-stdout", text=out, tool=_SHELL_BY_HAND, tool_kind=ToolKind.SHELL)
    if err:
        reader.told.add(Kind.STDERR, "user/bash-stderr", text=err)


def _local_stdout(reader: _Reader, text: str) -> None:
    reader.told.add(Kind.STATUS, "user/local-command-stdout", text=_marked(text, "local-command-stdout"))


def _local_stderr(reader: _Reader, text: str) -> None:
    reader.told.add(Kind.STDERR, "user/local-command-stderr", text=_marked(text, "local-command-stderr"))


def _program_said(reader: _Reader, text: str) -> None:
    reader.told.add(Kind.STATUS, "user/markup", text=text)


_MARKED: Mapping[str, Callable[[_Reader, str], None]] = {
    "command-name": _slash_command,
    "command-message": _slash_command,
    "bash-input": _shell_by_hand,
    "bash-stdout": _shell_result,
    "bash-stderr": _shell_result,
    "local-command-stdout": _local_stdout,
    "local-command-stderr": _local_stderr,
    "local-command-caveat": _program_said,
    "system-reminder": _program_said,
    "task-notification": _program_said,
}
"""The markup that stands for something else than words of the user."""


def _tool_result(reader: _Reader, line: _Line, block: _Block) -> None:
    text, whole = _result_text(block.content)
    reader.told.result(
        f"{line.type}/{block.type}",
        text_of(block.tool_use_id),
        text,
        is_error=block.is_error is True,
        completeness=Completeness.FULL if whole else Completeness.PARTIAL,
    )


def _result_text(content: object) -> tuple[str, bool]:
    """The text of a result, and whether that is all of it."""
    if isinstance(content, str):
        return content, "<persisted-output>" not in content[:64]
    if not isinstance(content, list):
        return "", content is None
    parts = [one.get("text") if isinstance(one, dict) else None for one in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts), len(texts) == len(parts)


def _enclosed(reader: _Reader, _line: _Line, block: _Block) -> None:
    """A picture or document: that it was there."""
    reader.told.add(Kind.USER_MESSAGE, f"user/{block.type}", text=f"[{block.type}]", completeness=Completeness.PARTIAL)


_USER_BLOCKS: Mapping[str, Callable[[_Reader, _Line, _Block], None]] = {
    "text": _user_text,
    "tool_result": _tool_result,
    "image": _enclosed,
    "document": _enclosed,
}


def _assistant(reader: _Reader, line: _Line) -> bool | None:
    message = line.message
    if message is None or message.content is None:
        return False
    content = message.content
    blocks = [_Block(type="text", text=content)] if isinstance(content, str) else content
    if line.isApiErrorMessage is True:
        _api_error_message(reader, line, blocks)
    else:
        _model(reader, text_of(message.model))
        for block in blocks:
            teller = _ASSISTANT_BLOCKS.get(block.type) if isinstance(block.type, str) else None
            if teller is None:
                reader.told.warn(UNKNOWN, f"assistant/{text_of(block.type)[:64]}")
            else:
                teller(reader, line, block)
    _used(reader, message)
    if not reader.told.events:
        reader.told.add(Kind.STATUS, "assistant", text="empty")
    return None


_SYNTHETIC = "<synthetic>"
"""In the place of a model: Claude Code itself said it."""


def _model(reader: _Reader, model: str) -> None:
    if not model or model == _SYNTHETIC:
        return
    if reader.limited:
        reader.limited = False
        reader.told.add(Kind.LIMIT_RESUMED, "assistant", model=model)
    if model != reader.model:
        reader.model = model
        reader.told.add(Kind.STATUS, "assistant/model", text="model", model=model)


def _used(reader: _Reader, message: _Message) -> None:
    used = message.usage
    if used is None or message.model == _SYNTHETIC:
        return
    usage = Usage(
        count_of(used.input_tokens),
        count_of(used.output_tokens),
        count_of(used.cache_read_input_tokens),
        count_of(used.cache_creation_input_tokens),
    )
    new = reader.usage.new(message.id, usage) if isinstance(message.id, str) and message.id else usage
    if new is not None:
        reader.told.add(Kind.USAGE, "assistant/usage", usage=new, model=text_of(message.model))


def _assistant_text(reader: _Reader, line: _Line, block: _Block) -> None:
    reader.told.add(Kind.ASSISTANT_MESSAGE, "assistant/text", text=text_of(block.text), model=_model_of(line))


def _thinking(reader: _Reader, line: _Line, block: _Block) -> None:
    text = text_of(block.thinking)
    completeness = Completeness.FULL if text else Completeness.METADATA_ONLY
    reader.told.add(
        Kind.REASONING, f"assistant/{block.type}", text=text, model=_model_of(line), completeness=completeness
    )


def _tool_use(reader: _Reader, _line: _Line, block: _Block) -> None:
    tool = text_of(block.name)
    reader.told.call(f"assistant/{block.type}", text_of(block.id), tool, tool_kind(tool, CLAUDE), json_of(block.input))


def _model_of(line: _Line) -> str:
    return text_of(line.message.model) if line.message else ""


_ASSISTANT_BLOCKS: Mapping[str, Callable[[_Reader, _Line, _Block], None]] = {
    "text": _assistant_text,
    "thinking": _thinking,
    "redacted_thinking": _thinking,
    "tool_use": _tool_use,
    "server_tool_use": _tool_use,
    "mcp_tool_use": _tool_use,
    "tool_result": _tool_result,
    "mcp_tool_result": _tool_result,
    "web_search_tool_result": _tool_result,
    "web_fetch_tool_result": _tool_result,
}


def _api_error_message(reader: _Reader, line: _Line, blocks: list[_Block]) -> None:
    text = "\n".join(text_of(block.text) for block in blocks)
    beginning = text[:512].casefold()
    limited = line.apiErrorStatus == _LIMIT_STATUS or line.error == "rate_limit"
    if limited or any(words in beginning for words in _LIMIT_WORDS):
        reader.limited = True
        reader.told.add(Kind.LIMIT_HIT, "assistant/isApiErrorMessage", text=text)
    else:
        reader.told.add(Kind.STATUS, "assistant/isApiErrorMessage", text=text, is_error=True)


def _system(reader: _Reader, line: _Line) -> bool | None:
    teller = _SUBTYPES.get(line.subtype) if isinstance(line.subtype, str) else None
    if teller is None:
        return False
    teller(reader, line, f"system/{line.subtype}")
    return None


def _noted(reader: _Reader, line: _Line, source: str) -> None:
    reader.told.add(Kind.STATUS, source, text=text_of(line.content))


def _boundary(reader: _Reader, _line: _Line, source: str) -> None:
    reader.compacted = True
    reader.told.add(Kind.COMPACTION, source, completeness=Completeness.PARTIAL)


def _api_error(reader: _Reader, line: _Line, source: str) -> None:
    error = line.error if isinstance(line.error, _Error) else _Error()
    text = text_of(error.formatted) or text_of(line.content)
    if error.status == _LIMIT_STATUS:
        reader.limited = True
        reader.told.add(Kind.LIMIT_HIT, source, text=text)
    else:
        reader.told.add(Kind.STATUS, source, text=text, is_error=True)


def _local_command(reader: _Reader, line: _Line, source: str) -> None:
    text = text_of(line.content)
    if line.commandRun is not None:
        _cleared(reader, source, text_of(line.commandRun.command))
    match = _MARKUP.match(text)
    teller = _MARKED.get(match.group(1)) if match else None
    if teller is None:
        reader.told.add(Kind.STATUS, source, text=text)
    else:
        teller(reader, text)


_SUBTYPES: Mapping[str, Callable[[_Reader, _Line, str], None]] = {
    "api_error": _api_error,
    "away_summary": _noted,
    "bridge_status": _noted,
    "compact_boundary": _boundary,
    "informational": _noted,
    "init": _noted,
    "local_command": _local_command,
    "memory_saved": _noted,
    "microcompact_boundary": _noted,
    "scheduled_task_fire": _noted,
    "stop_hook_summary": _noted,
    "turn_duration": _noted,
}


def _attachment(reader: _Reader, line: _Line) -> bool | None:
    found = line.attachment
    if found is None or not isinstance(found.type, str):
        return False
    source = f"attachment/{found.type[:64]}"
    if found.type == "queued_command" and found.commandMode == "prompt":
        reader.told.add(Kind.USER_MESSAGE, source, text=_prompt_text(found.prompt))
    else:
        reader.told.add(Kind.STATUS, source, text=text_of(found.filename), completeness=Completeness.PARTIAL)
    return None


def _prompt_text(prompt: object) -> str:
    return text_of(prompt) or _result_text(prompt)[0]


def _saying(field: str, completeness: Completeness = Completeness.FULL) -> Callable[[_Reader, _Line], None]:
    """Lines that say one thing of the session."""

    def tell(reader: _Reader, line: _Line) -> None:
        text = text_of(getattr(line, field)) if field else ""
        reader.told.add(Kind.STATUS, text_of(line.type), text=text, completeness=completeness)

    return tell


def _permission_mode(reader: _Reader, line: _Line) -> None:
    """It is written again and again; told when it changes."""
    mode = text_of(line.permissionMode)
    kind = Kind.STATUS if mode == reader.mode else Kind.PERMISSION
    reader.mode = mode
    reader.told.add(kind, "permission-mode", text=mode)


def _cost(reader: _Reader, line: _Line) -> None:
    """The whole session's cost so far: what it adds."""
    total = money_of(line.totalCostUSD)
    if total is None or total == reader.cost_usd:
        reader.told.add(Kind.STATUS, "cost-state", completeness=Completeness.PARTIAL)
        return
    more = total - reader.cost_usd if total > reader.cost_usd else total
    reader.cost_usd = total
    reader.told.add(Kind.USAGE, "cost-state", usage=Usage(cost_usd=more), completeness=Completeness.PARTIAL)


def _result(reader: _Reader, line: _Line) -> None:
    reader.told.add(Kind.SESSION_ENDED, "result", text=text_of(line.result))


_PART = Completeness.PARTIAL

_LINES: Mapping[str, Callable[[_Reader, _Line], bool | None]] = {
    "user": _user,
    "assistant": _assistant,
    "system": _system,
    "attachment": _attachment,
    "queue-operation": _saying("operation", _PART),
    "last-prompt": _saying("lastPrompt"),
    "mode": _saying("mode"),
    "permission-mode": _permission_mode,
    "summary": _saying("summary"),
    "custom-title": _saying("customTitle"),
    "ai-title": _saying("aiTitle"),
    "agent-name": _saying("agentName"),
    "cost-state": _cost,
    "result": _result,
    "api-request": _saying("", _PART),
    "api-request-blob": _saying("", _PART),
    "api-request-shape": _saying("", _PART),
    "atis-latch": _saying("", _PART),
    "file-history-delta": _saying("", _PART),
    "file-history-snapshot": _saying("", _PART),
    "progress": _saying("", _PART),
    "tools-used": _saying("", _PART),
    "worktree-state": _saying("", _PART),
}
"""Line type → how it is told; False: it can't be."""
