"""What the readers of all agents share: decoding that never raises, numbering, and memory that is bounded."""

import contextlib
import re
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec

from agent.core.sessions.normalised import LONGEST_LINE_BYTES, RAW_BYTES, Completeness, Event, Kind, ToolKind, Usage
from agent.core.transcripts.session import StreamId

Key = TypeVar("Key")
Value = TypeVar("Value")
Line = TypeVar("Line")

UNKNOWN, BROKEN, TOO_LONG, TOO_DEEP = "unknown", "broken", "too_long", "too_deep"

_USUAL_TIME = len("2026-11-20T23:24:51.223Z")

_REMEMBERED = 1024
"""Calls and messages that later lines may refer to; an answer stands some lines behind its question."""

_LONGEST_ID = 256
"""Longer ones are nobody's and are not remembered, and neither is the empty one."""

_GLUE_TRIES = 64
"""Beginnings of objects that are tried for a whole line behind a torn one."""

_ERROR_AT = re.compile(r"\(byte (\d+)\)$")

_LONE_HALF = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class Recent(Generic[Key, Value]):
    """What was remembered last, and not more of it than `most`."""

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._most = most
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        return self._kept.get(key)

    def put(self, key: Key, value: Value) -> None:
        if isinstance(key, str) and not 0 < len(key) <= _LONGEST_ID:
            return
        kept = self._kept
        kept[key] = value
        kept.move_to_end(key)
        if len(kept) > self._most:
            kept.popitem(last=False)

    def drop(self, key: Key) -> None:
        self._kept.pop(key, None)


def text_of(value: object) -> str:
    """The value where it is text, else nothing."""
    return value if isinstance(value, str) else ""


def count_of(value: object) -> int:
    """A number of tokens; 0 for what can be none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else 0


def money_of(value: object) -> float | None:
    """An amount; None for what can be none."""
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else -1.0
    return number if 0 <= number < 1e12 else None


def json_of(raw: msgspec.Raw) -> str:
    """JSON text as it stands in the line."""
    return str(memoryview(raw), "utf-8", "replace")


def time_of(value: object) -> float | None:
    """Wall seconds of an ISO 8601 time (without a zone: UTC) or of milliseconds since 1970; None for what is neither
    or before 1970."""
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            at_s = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            at_s = datetime.fromtimestamp(value / 1000, UTC).timestamp()
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return at_s if at_s >= 0 else None


class Told:
    """The events of one stream as they are told, numbered. `at_s`, `entry_id`, `parent_id`, `sidechain` are those of
    the line that is being read."""

    def __init__(self, provider: str, stream: StreamId) -> None:
        self.provider = provider
        self.session_id, self.subpath = stream
        self.seq = 0
        self.line = 0
        self.events: list[Event] = []
        self.at_s: float | None = None
        self.entry_id = ""
        self.parent_id = ""
        self.sidechain = False
        self._raw = b""
        self._calls: Recent[str, tuple[str, ToolKind]] = Recent()
        self._minute, self._minute_s = "", 0

    def begin(self, raw: bytes) -> None:
        """The next line."""
        self.line += 1
        self._raw = raw
        self.events = []
        self.at_s = None
        self.entry_id = self.parent_id = ""
        self.sidechain = False

    def date(self, value: Any) -> None:
        """When the line was written. Lines that follow one another mostly say the same minute."""
        usual = isinstance(value, str) and len(value) == _USUAL_TIME and value[19] == "." and value[23] == "Z"
        if usual and value[:17] == self._minute:
            seconds = value[17:19] + value[20:23]
            if seconds.isdigit() and seconds < "60":
                self.at_s = self._minute_s + int(seconds) / 1000
                return
        self.at_s = time_of(value)
        if usual and self.at_s is not None:
            self._minute, self._minute_s = value[:17], int(self.at_s) // 60 * 60

    def add(
        self,
        kind: Kind,
        source: str,
        *,
        text: str = "",
        completeness: Completeness = Completeness.FULL,
        model: str = "",
        cwd: str = "",
        command: str = "",
        resumed: bool = False,
        parent_session_id: str = "",
        tool: str = "",
        tool_kind: ToolKind | None = None,
        call_id: str = "",
        arguments: str = "",
        is_error: bool = False,
        usage: Usage | None = None,
        raw: bytes = b"",
    ) -> None:
        self.seq += 1
        self.events.append(
            Event(
                kind=kind,
                seq=self.seq,
                line=self.line,
                provider=self.provider,
                session_id=self.session_id,
                source=source,
                subpath=self.subpath,
                at_s=self.at_s,
                completeness=completeness,
                entry_id=self.entry_id,
                parent_id=self.parent_id,
                parent_session_id=parent_session_id,
                text=text,
                model=model,
                cwd=cwd,
                command=command,
                resumed=resumed,
                tool=tool,
                tool_kind=tool_kind,
                call_id=call_id,
                arguments=arguments,
                is_error=is_error,
                usage=usage,
                raw=raw,
                sidechain=self.sidechain,
            )
        )

    def warn(self, text: str, source: str = "") -> None:
        self.add(Kind.PARSE_WARNING, source, text=text, raw=self._raw[:RAW_BYTES])

    def call(self, source: str, call_id: str, tool: str, kind: ToolKind, arguments: str, **fields: Any) -> None:
        """A tool is called; its result will know how it was called."""
        self._calls.put(call_id, (tool, kind))
        self.add(Kind.TOOL_CALL, source, tool=tool, tool_kind=kind, call_id=call_id, arguments=arguments, **fields)

    def was_called(self, call_id: str) -> bool:
        return self._calls.get(call_id) is not None

    def result(self, source: str, call_id: str, text: str, **fields: Any) -> None:
        tool, kind = self._calls.get(call_id) or ("", None)
        self.add(Kind.TOOL_RESULT, source, call_id=call_id, text=text, tool=tool, tool_kind=kind, **fields)


class Pairs:
    """Tells the second of two lines that say the same, each in its own way, and in either order. What is said twice in
    one way stands for two."""

    def __init__(self) -> None:
        self._waiting: Recent[tuple[str, int], int] = Recent()

    def is_second(self, way: str, other: str, *said: str) -> bool:
        key = hash(said)
        waiting = self._waiting.get((other, key)) or 0
        if waiting:
            self._waiting.put((other, key), waiting - 1)
            return True
        self._waiting.put((way, key), (self._waiting.get((way, key)) or 0) + 1)
        return False


class UsageOnce:
    """What was used, told once where messages say it again and again with growing numbers."""

    def __init__(self) -> None:
        self._known: Recent[str, Usage] = Recent()

    def new(self, key: str, usage: Usage) -> Usage | None:
        """What `usage` adds to what was known of the message `key`; None for nothing new."""
        known = self._known.get(key)
        if known is None:
            self._known.put(key, usage)
            return usage
        if usage == known:
            return None
        self._known.put(key, larger := _larger(known, usage))
        more = Usage(
            larger.input - known.input,
            larger.output - known.output,
            larger.cache_read - known.cache_read,
            larger.cache_creation - known.cache_creation,
        )
        return more if more != Usage() else None


def _larger(one: Usage, other: Usage) -> Usage:
    return Usage(
        max(one.input, other.input),
        max(one.output, other.output),
        max(one.cache_read, other.cache_read),
        max(one.cache_creation, other.cache_creation),
    )


class TableReader(Generic[Line]):
    """A LineReader: decodes each line and lets `tell` say what it says; whatever `tell` can't place it answers False
    to, and that is a PARSE_WARNING `unknown`, too."""

    def __init__(self, told: Told, decode: Callable[[bytes], Line], tell: Callable[[Line], bool]) -> None:
        self._told = told
        self._decode = decode
        self._tell = tell

    def read(self, line: bytes, /) -> list[Event]:
        told = self._told
        told.begin(line)
        if len(line) > LONGEST_LINE_BYTES:
            told.warn(TOO_LONG)
            return told.events
        decoded = self._decoded(line)
        if isinstance(decoded, str):
            told.warn(decoded)
            glued = self._glued(line) if decoded == BROKEN else None
            if glued is not None:
                self._tell(glued)
        elif not self._tell(decoded) or not told.events:
            told.warn(UNKNOWN, source_of(decoded))
        return told.events

    def _glued(self, line: bytes) -> Line | None:
        """The whole line that was appended to what a crash had torn; None without one. It begins near where the torn
        one stops making sense, and nothing within it reads as JSON up to the line's end."""
        at = len(line)
        try:
            msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            found = _ERROR_AT.search(str(exc))
            at = int(found[1]) + 2 if found else at
        except RecursionError:
            return None
        left = 2 * len(line)
        for _ in range(_GLUE_TRIES):
            at = line.rfind(b'{"', 0, at)
            left -= len(line) - at
            if at <= 0 or left < 0:
                return None
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return self._decode(line[at:])
        return None

    def finish(self) -> list[Event]:
        return []

    def skip(self, raw: bytes) -> list[Event]:
        """In the place of a line that is too long to be read: `raw` is its beginning."""
        self._told.begin(raw)
        self._told.warn(TOO_LONG)
        return self._told.events

    def _decoded(self, line: bytes) -> Line | str:
        """The line, or what is wrong with it."""
        try:
            return self._decode(line)
        except msgspec.ValidationError:
            return UNKNOWN
        except (msgspec.DecodeError, UnicodeDecodeError):
            # JavaScript cuts strings between the halves of a sign and writes the half that is left as an escape.
            mended = _LONE_HALF.sub(_mend, line) if b"\\u" in line else line
            return self._decoded(mended) if mended != line else BROKEN
        except RecursionError:
            return TOO_DEEP


def _mend(match: re.Match[bytes]) -> bytes:
    found = match.group()
    return b"\\ufffd" if len(found) == 6 else found


def source_of(decoded: object) -> str:
    """The line's own type, bounded: an unknown one may be of any length."""
    return text_of(getattr(decoded, "type", ""))[:64]
