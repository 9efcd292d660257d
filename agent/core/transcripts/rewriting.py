"""Changes to a transcript of Claude Code, line by line: what may be cut where, and what a line becomes in a fork, so
that what is left is still a conversation that it can go on with. Pure; whoever reads and writes files is elsewhere.

A compaction writes a boundary and a summary behind what was said so far; that, up to the boundary, is a checkpoint.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

BY_PROVIDER = frozenset({"claude"})
"""Coding agents whose transcripts are plain logs of linked lines. A rollout of Codex numbers its lines, Gemini's is a
log of changes, and Copilot rewrites its own: nothing of theirs is changed."""

_KEPT_ON_RESET = frozenset({"custom-title", "agent-name"})
"""What a session is called; no part of a conversation."""


class _Line(msgspec.Struct):
    type: Any = None
    subtype: Any = None
    uuid: Any = None
    parentUuid: Any = None  # noqa: N815 - the key of the format
    isSidechain: Any = None  # noqa: N815 - the key of the format
    isMeta: Any = None  # noqa: N815 - the key of the format
    isCompactSummary: Any = None  # noqa: N815 - the key of the format
    timestamp: Any = None
    compactMetadata: Any = None  # noqa: N815 - the key of the format
    message: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct):
    content: Any = None


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_FAULTS = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Checkpoint(NamedTuple):
    """`number` counts from 1; `line` is that of the boundary, 1-based, so that `line - 1` lines come before. `at`: its
    time as the transcript has it; `trigger` and `tokens` where it says so."""

    number: int
    line: int
    uuid: str
    at: str
    trigger: str
    tokens: int | None


class Cut(NamedTuple):
    """Where the kept part begins. `line`: the first line that stays, 1-based. `kept`: how many stay of `total`."""

    line: int
    kept: int
    total: int


def _read(line: bytes) -> _Line:
    try:
        return _decode_line(line)
    except _FAULTS:
        return _Line()


def find_checkpoints(lines: Iterable[bytes]) -> Iterator[Checkpoint]:
    number = 0
    for at, line in enumerate(lines, 1):
        if b"compact_boundary" not in line:
            continue
        told = _read(line)
        if told.type == "system" and told.subtype == "compact_boundary":
            number += 1
            about = told.compactMetadata if isinstance(told.compactMetadata, dict) else {}
            tokens = about.get("preTokens")
            yield Checkpoint(
                number,
                at,
                _text(told.uuid),
                _text(told.timestamp),
                _text(about.get("trigger")),
                tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else None,
            )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def choose_checkpoint(found: list[Checkpoint], word: str) -> Checkpoint | None:
    """By its number, `latest`, or how its uuid begins; None for none, or several."""
    if word == "latest":
        return found[-1] if found else None
    if word.isascii() and word.isdigit() and len(word) < 8:
        return next((one for one in found if one.number == int(word)), None)
    named = [one for one in found if len(word) >= 4 and one.uuid.startswith(word)]
    return named[0] if len(named) == 1 else None


def read_summary(line: bytes) -> str:
    """What a compaction made of all that was said, when this is the line that says it; else nothing."""
    told = _read(line)
    return _message_text(told) if told.isCompactSummary is True else ""


def _message_text(told: _Line) -> str:
    content = _content(told)
    if isinstance(content, list):
        content = "\n".join(_text(one.get("text")) for one in content if isinstance(one, dict))
    return _text(content)


def _content(told: _Line) -> object:
    try:
        return _decode_message(told.message).content if told.message else None
    except _FAULTS:
        return None


def fork_line(line: bytes, session_id: str, fork_id: str) -> bytes | None:
    """A line as Claude Code itself copies it into a fork: the same uuid in another session, with a word of where it is
    from. None for what it leaves out: lines without a uuid, which tell of one session's state, and torn ones."""
    try:
        fields = _decode_fields(line)
        uuid = msgspec.json.decode(fields.get("uuid", b"null"))
    except _FAULTS:
        return None
    if not isinstance(uuid, str):
        return None
    fields["sessionId"] = _raw(fork_id)
    if "requestId" in fields:  # whose request it was
        fields.setdefault("requestSessionId", _raw(session_id))
    fields["forkedFrom"] = _raw({"sessionId": session_id, "messageUuid": uuid})
    return msgspec.json.encode(fields)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def is_beginning(line: bytes) -> bool:
    """Whether a conversation may begin with this line: something that its user wrote, which answers no call of a tool.
    In front of it, no call waits for its result and no answer is half there."""
    told = _read(line)
    if told.type != "user" or told.isSidechain or told.isMeta or not isinstance(told.uuid, str):
        return False
    content = _content(told)
    if isinstance(content, list):
        return not any(isinstance(one, dict) and one.get("type") == "tool_result" for one in content)
    return isinstance(content, str)


def find_cut(lines: Iterable[bytes], keep: int) -> Cut | None:
    """The last place where a conversation may begin with at least `keep` lines behind it, and no result of a tool whose
    call is in front of it; None when that leaves nothing to take away."""
    beginnings, total = list[int](), 0
    calls: dict[str, int] = {}
    parted: list[tuple[int, int]] = []
    """Behind which line, and up to which one, a cut would part a call from its result."""
    for total, line in enumerate(lines, 1):
        if b'"user"' in line and is_beginning(line):
            beginnings.append(total)
        if b'"tool_' in line:
            for kind, call in _calls(line):
                if kind == "tool_use":
                    calls[call] = total
                elif call in calls:
                    parted.append((calls[call], total))
    chosen = [at for at in beginnings if total - at + 1 >= keep and not any(call < at <= end for call, end in parted)]
    if not chosen or chosen[-1] == 1:
        return None
    return Cut(chosen[-1], total - chosen[-1] + 1, total)


def _calls(line: bytes) -> Iterator[tuple[str, str]]:
    """Calls of tools and their results in a line: what it is, and the id of the call."""
    content = _content(_read(line))
    for one in content if isinstance(content, list) else ():
        if isinstance(one, dict):
            call = one.get("id") if one.get("type") == "tool_use" else one.get("tool_use_id")
            if one.get("type") in ("tool_use", "tool_result") and isinstance(call, str):
                yield one["type"], call


def find_uuid(line: bytes) -> str | None:
    uuid = _read(line).uuid
    return uuid if isinstance(uuid, str) else None


def mend_parent(line: bytes, known: frozenset[str] | set[str]) -> bytes:
    """The line with its parent taken away when that is not there any more; else the very line."""
    parent = _read(line).parentUuid
    if not isinstance(parent, str) or parent in known:
        return line
    try:
        fields = _decode_fields(line)
    except _FAULTS:
        return line
    fields["parentUuid"] = msgspec.Raw(b"null")
    return msgspec.json.encode(fields)


def stays_on_reset(line: bytes) -> bool:
    kind = _read(line).type
    return isinstance(kind, str) and kind in _KEPT_ON_RESET
