"""What the lines of a session say of its descent, whichever coding agent wrote them: fed line by line, gives a `Trace`.

    claude   `uuid` of entries; `forkedFrom.sessionId` (made by /branch); `sessionKind` "bg" of copies that run on
    codex    no ids: the header refers to a part of another thread (`forked_from_id`, `history_base`), or to the one
             that started it (`source.subagent.thread_spawn.parent_thread_id`)
    gemini   `id` of messages, the same one again whenever a message is written anew
    copilot  `id` of events; a handoff names the session that it came from

Subagents that are streams of their session (`subpath`) need no trace: they are linked by their place.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from agent.core.sessions.lineage import LinkKind, Sampler, Trace

_LONGEST_ID = 256
"""Ids of sessions and entries are below 50 characters. A longer one is nobody's parent."""

_LONGEST_LINE_BYTES = 32 << 20


class _Line(msgspec.Struct):
    uuid: Any = None
    id: Any = None
    type: Any = None
    timestamp: Any = None
    startTime: Any = None  # noqa: N815 - the key of the format
    cwd: Any = None
    sessionKind: Any = None  # noqa: N815 - the key of the format
    forkedFrom: msgspec.Raw = msgspec.Raw()  # noqa: N815 - the key of the format
    payload: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


class _Said(NamedTuple):
    """What one line adds."""

    entry_id: str = ""
    parent: str = ""
    kind: LinkKind | None = None
    referred_entries: int = 0
    is_background: bool = False
    cwd: str = ""


_decode = msgspec.json.Decoder(_Line).decode
_BROKEN = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Tracer:
    """For one session's main transcript, from its first line on. What is no line of its agent is overlooked."""

    def __init__(self, provider: str, session_id: str) -> None:
        self._provider = provider
        self._session_id = session_id
        self._read = _READERS.get(provider, _read_claude)
        self._sampler = Sampler()
        self._at_s: float | None = None
        self._said = _Said()
        self._last_message = ""

    def add(self, line: bytes) -> None:
        if len(line) > _LONGEST_LINE_BYTES:
            return
        try:
            found = _decode(line)
            said = self._read(found)
        except _BROKEN:
            return
        if self._at_s is None:
            self._at_s = _time(found.timestamp) or _time(found.startTime)
        if said.entry_id and not (self._provider == "gemini" and said.entry_id == self._last_message):
            self._sampler.add(said.entry_id)
            self._last_message = said.entry_id
        known = self._said
        if said.parent and not known.parent and said.parent != self._session_id:
            known = known._replace(parent=said.parent, kind=said.kind, referred_entries=said.referred_entries)
        self._said = known._replace(is_background=known.is_background or said.is_background, cwd=known.cwd or said.cwd)

    def trace(self) -> Trace:
        said, sampler = self._said, self._sampler
        return Trace(
            self._session_id,
            self._provider,
            self._at_s,
            sampler.sample(),
            sampler.entry_count,
            sampler.last_hash,
            said.parent,
            said.kind,
            said.referred_entries,
            said.is_background,
            said.cwd,
        )


def _read_claude(line: _Line) -> _Said:
    parent = _text(_object(line.forkedFrom).get("sessionId"))
    is_background = line.sessionKind == "bg"
    kind = (LinkKind.BACKGROUND if is_background else LinkKind.BRANCH) if parent else None
    return _Said(_text(line.uuid), parent, kind, is_background=is_background, cwd=_cwd(line.cwd))


def _read_codex(line: _Line) -> _Said:
    if line.type != "session_meta":
        return _Said()
    payload = _object(line.payload)
    cwd = _cwd(payload.get("cwd"))
    source = payload.get("source")
    subagent = source.get("subagent") if isinstance(source, dict) else None
    spawn = subagent.get("thread_spawn") if isinstance(subagent, dict) else None
    spawned_by = _text(spawn.get("parent_thread_id")) if isinstance(spawn, dict) else ""
    spawned_by = spawned_by or _text(payload.get("parent_thread_id"))
    if spawned_by:
        return _Said(parent=spawned_by, kind=LinkKind.SUBAGENT, cwd=cwd)
    base = payload.get("history_base")
    base = base if isinstance(base, dict) else {}
    forked_from = _text(payload.get("forked_from_id")) or _text(base.get("thread_id"))
    count = payload.get("forked_from_ordinal_exclusive", base.get("end_ordinal_exclusive"))
    return _Said(
        parent=forked_from,
        kind=LinkKind.FORK if forked_from else None,
        referred_entries=count if isinstance(count, int) and not isinstance(count, bool) and 0 < count < 1 << 53 else 0,
        cwd=cwd,
    )


def _read_gemini(line: _Line) -> _Said:
    return _Said(_text(line.id))


def _read_copilot(line: _Line) -> _Said:
    if line.type not in ("session.start", "session.handoff"):
        return _Said(_text(line.id))
    data = _object(line.data)
    context = data.get("context")
    cwd = _cwd(context.get("cwd")) if isinstance(context, dict) else ""
    parent = _text(data.get("parentSessionId")) or _text(data.get("sourceSessionId"))
    return _Said(_text(line.id), parent, LinkKind.FORK if parent else None, cwd=cwd)


_READERS: dict[str, Callable[[_Line], _Said]] = {
    "claude": _read_claude,
    "codex": _read_codex,
    "gemini": _read_gemini,
    "copilot": _read_copilot,
}


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    found = msgspec.json.decode(raw) if raw else None
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= _LONGEST_ID else ""


def _cwd(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 4096 else ""


def _time(value: Any) -> float | None:
    """Wall seconds of an ISO time; None for what is none."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        found = datetime.fromisoformat(value)
        return found.timestamp() if found.tzinfo else None
    except (ValueError, OverflowError, OSError):
        return None
