"""Events as people read them: who speaks, when, with which tool, folded to what fits a glance.

What comes out of a transcript is shown through `safe`, so that it moves no cursor, sets no title, writes no clipboard
and turns no text around.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from agent.cli.layout import Line, Span, cells
from agent.core.sessions.normalised import Completeness, Event, Kind, ToolKind, Usage

_TIME_CELLS = 10
_WHO_CELLS = 11
_NARROWEST_BODY = 20
_FOLDED_LINES = 5
"""Of a tool's result; enough to see what came."""

_MESSAGE_CHARACTERS = 1 << 16
_RESULT_CHARACTERS = 1 << 13
_ARGUMENT_BYTES = 1 << 20
"""Longer arguments are not taken apart to find their gist."""

_TAB = 4
_KEPT = frozenset("\n\u200c\u200d")
"""Not printable by Python's rules, and needed: ends of lines, and what joins signs into one."""

_PICTURES = 0x2400
"""Where Unicode has a picture for each of the first 32 control characters."""


class Options(NamedTuple):
    """`width` in cells; 0 for no limit. `notes`: also what the agent notes of itself. `full`: nothing is folded.
    `utc`: times without the machine's zone."""

    width: int = 80
    notes: bool = False
    full: bool = False
    utc: bool = False


def safe(text: str) -> str:
    """The text with everything a terminal or reader would obey instead of showing made visible: control characters,
    escape sequences, signs that turn the direction of text, lone surrogates. Ends of lines stay."""
    text = text.replace("\r\n", "\n").expandtabs(_TAB) if "\t" in text or "\r" in text else text
    if text.isprintable():
        return text
    return "".join([ch if ch in _KEPT or ch.isprintable() else _visible(ch) for ch in text])


def _visible(ch: str) -> str:
    code = ord(ch)
    if code < 0x20:
        return chr(_PICTURES + code)
    if code == 0x7F:
        return "\u2421"
    if ch.isspace() and code < 0x2028:
        return " "
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def safe_line(text: str, width: int = 0) -> str:
    """The same on one line, at most `width` cells of it."""
    short = text[: 4 * width] if width else text
    line = " ".join(safe(short).split())
    return _cropped(line, width) if width and (cells(line) > width or len(short) < len(text)) else line


def render_event(event: Event, options: Options) -> list[Line]:
    """The lines for one event; none for what is only shown with `notes`."""
    teller = _TELLERS.get(event.kind)
    if teller is None:
        return []
    return teller(event, options)


class Rendering:
    """A whole session: its events as lines, days between them, and what was used at the end."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._day = ""
        self._usage = Usage()
        self._cost_usd = 0.0
        self._tools: dict[ToolKind, int] = {}
        self._models: dict[str, None] = {}
        self._warnings = 0

    def lines(self, event: Event) -> Iterator[Line]:
        self._count(event)
        found = render_event(event, self._options)
        if found and event.at_s is not None and (day := _clock("%Y-%m-%d", event.at_s, self._options)) != self._day:
            self._day = day
            yield [Span(f"{day}", "bold")]
        yield from found

    def closing(self) -> Iterator[Line]:
        used = self._usage
        yield []
        parts = [f"{used.input:,} in", f"{used.output:,} out"]
        parts += [f"{used.cache_read:,} from cache"] if used.cache_read else []
        parts += [f"{used.cache_creation:,} to cache"] if used.cache_creation else []
        parts += [f"${self._cost_usd:.2f}"] if self._cost_usd else []
        yield from self._summed("tokens", ", ".join(parts))
        tools = sorted(self._tools.items(), key=lambda row: -row[1])
        yield from self._summed("tools", ", ".join(f"{number:,} {kind}" for kind, number in tools))
        yield from self._summed("models", ", ".join(safe_line(name, 40) for name in self._models))
        if self._warnings == 1:
            yield from self._summed("unread", "1 line could not be read as an event; --raw shows it")
        elif self._warnings:
            yield from self._summed("unread", f"{self._warnings:,} lines could not be read as events; --raw shows them")

    def _summed(self, label: str, words: str) -> Iterator[Line]:
        width = self._options.width and max(_NARROWEST_BODY, self._options.width - _TIME_CELLS)
        for at, line in enumerate(_wrapped(words, width) if words else ()):
            yield [Span(("" if at else label).ljust(_TIME_CELLS), "dim"), *line]

    def _count(self, event: Event) -> None:
        if event.usage is not None:
            one, other = self._usage, event.usage
            self._usage = Usage(
                one.input + other.input,
                one.output + other.output,
                one.cache_read + other.cache_read,
                one.cache_creation + other.cache_creation,
            )
            self._cost_usd += other.cost_usd or 0.0
        if event.kind is Kind.TOOL_CALL:
            kind = event.tool_kind or ToolKind.OTHER
            self._tools[kind] = self._tools.get(kind, 0) + 1
        if event.model and event.model[:1] != "<" and len(self._models) < _MOST_MODELS:
            self._models[event.model[:80]] = None
        self._warnings += event.kind is Kind.PARSE_WARNING


_MOST_MODELS = 8


def _clock(form: str, at_s: float, options: Options) -> str:
    try:
        return time.strftime(form, (time.gmtime if options.utc else time.localtime)(at_s))
    except (OverflowError, ValueError, OSError):  # a year that no calendar has
        return ""


def _who(event: Event, options: Options, name: str, style: str) -> Line:
    at = "" if event.at_s is None else _clock("%H:%M:%S", event.at_s, options)
    mark = "| " if event.sidechain and not event.subpath else ""
    return [Span(at.ljust(_TIME_CELLS), "dim"), Span((mark + name).ljust(_WHO_CELLS), style)]


def _body_width(options: Options) -> int:
    return max(_NARROWEST_BODY, options.width - _TIME_CELLS - _WHO_CELLS) if options.width else 0


def _beside(head: Line, body: list[Line]) -> list[Line]:
    """The first line of the body beside who says it, the others below that."""
    if not body:
        return [head]
    indent = Span(" " * (_TIME_CELLS + _WHO_CELLS))
    return [head + body[0], *([indent, *line] for line in body[1:])]


def _wrapped(text: str, width: int, style: str = "") -> list[Line]:
    """Lines of the text as they are, long ones broken at blanks where that is possible; indents stay."""
    lines: list[Line] = []
    for line in safe(text).split("\n"):
        lines += ([Span(piece, style)] for piece in _pieces(line.rstrip(), width))
    while len(lines) > 1 and not lines[-1][0].text:
        lines.pop()
    return lines


def _pieces(line: str, width: int) -> Iterator[str]:
    """A line in pieces that have room. It may be a megabyte long: no more of it is looked at than is needed."""
    at = 0
    while True:
        near = line[at : at + 2 * width] if width else line
        if not width or (at + len(near) == len(line) and cells(near) <= width):
            yield near
            return
        head = _head(near, width)
        blank = head.rfind(" ") if near[len(head) : len(head) + 1] != " " else -1
        if blank > len(head) // 3 and head[:blank].strip():
            head = head[:blank]
        yield head.rstrip()
        at += len(head)
        while line[at : at + 1] == " ":
            at += 1
        if at >= len(line):
            return


def _head(text: str, width: int) -> str:
    """As much of the text as has room; one sign at least."""
    if text.isascii():
        return text[:width]
    low, high = 1, min(len(text), width)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cells(text[:middle]) <= width else (low, middle - 1)
    return text[:low]


def _cropped(text: str, width: int) -> str:
    return f"{_head(text, width - 1)}…" if width > 1 else text[:width]


def _spoken(name: str, style: str, text_style: str = "") -> Callable[[Event, Options], list[Line]]:
    def tell(event: Event, options: Options) -> list[Line]:
        text = event.text if options.full else event.text[:_MESSAGE_CHARACTERS]
        body = _wrapped(text, _body_width(options), text_style)
        if left := len(event.text) - len(text):
            body += _wrapped(f"… {left:,} more characters; --full shows them", _body_width(options), "dim")
        if event.completeness is Completeness.METADATA_ONLY and not event.text:
            body = [[Span("(left out by the agent)", "dim")]]
        return _beside(_who(event, options, name, style), body)

    return tell


def _called(event: Event, options: Options) -> list[Line]:
    kind = event.tool_kind or ToolKind.OTHER
    width = _body_width(options)
    name = safe_line(event.tool, min(40, width - _LEAST_GIST) if width else 40)
    if options.full:
        body = _wrapped(event.arguments, width)
        return _beside(_who(event, options, kind, "cyan"), [[Span(name, "bold")], *body])
    words = gist(event.arguments)
    room = width - cells(name) - 2 if width else 0
    return _beside(_who(event, options, kind, "cyan"), [[Span(name, "bold"), Span("  " + safe_line(words, room))]])


_LEAST_GIST = 10

_GIST_KEYS = (
    ("command", "cmd", "script"),
    ("file_path", "path", "absolute_path", "notebook_path", "dir_path", "filename"),
    ("pattern", "query", "url", "prompt", "description", "input", "skill", "subject", "taskId"),
)


def gist(arguments: str) -> str:
    """What a call is about: its command, file, or what it looks for; else the arguments as they are."""
    if len(arguments) > _ARGUMENT_BYTES:
        return arguments[:400]
    try:
        found = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return arguments[:4000]
    if isinstance(found, dict):
        for keys in _GIST_KEYS:
            words = next((_words(found[key]) for key in keys if _words(found.get(key))), "")
            if words:
                pattern = _words(found.get("pattern")) if keys is _GIST_KEYS[1] else ""
                return f"{pattern}  {words}" if pattern else words
    return "" if found == {} else found[:4000] if isinstance(found, str) else arguments[:4000]


def _words(value: object) -> str:
    if isinstance(value, str):
        return value[:4000]
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value[:64]):
        return " ".join(value[:64])[:4000]
    return ""


def _resulted(event: Event, options: Options) -> list[Line]:
    style = "red" if event.is_error else "dim"
    width = _body_width(options)
    text = event.text if options.full else event.text[:_RESULT_CHARACTERS]
    if options.full:
        body = _wrapped(text, width, style)
    else:
        lines = safe(text).rstrip().split("\n")
        body = [[Span(_cropped(one, width) if width and cells(one) > width else one, style)] for one in lines]
        body = body[:_FOLDED_LINES]
        left = event.text.count("\n") + (not event.text.endswith("\n")) - len(body)
        if left > 0 and event.text:
            body.append([Span(f"… {left:,} more line{'s' if left > 1 else ''}", "dim")])
    if event.completeness is not Completeness.FULL:
        body += _wrapped("… not all of it stands in the transcript", width, "dim")
    name = "failed" if event.is_error else ""
    return _beside(_who(event, options, name, "red"), body) if event.text.strip() or event.is_error else []


def _started(event: Event, options: Options) -> list[Line]:
    words = "resumed by" if event.resumed else "begun by"
    parts = [f"{words} {safe_line(event.command, 60) or event.provider}"]
    parts += [f"in {safe_line(event.cwd, 200)}"] if event.cwd else []
    parts += [f"with {safe_line(event.model, 60)}"] if event.model else []
    parts += [f"from {safe_line(event.parent_session_id, 60)}"] if event.parent_session_id else []
    return _beside(_who(event, options, "session", "green"), _wrapped(" ".join(parts), _body_width(options)))


def _remark(name: str, words: str, style: str) -> Callable[[Event, Options], list[Line]]:
    """What happened to the session: what was said of it, else `words`."""

    def tell(event: Event, options: Options) -> list[Line]:
        text = event.text[: _MESSAGE_CHARACTERS if options.full else 400]
        body = _wrapped(text or words, _body_width(options), style)
        return _beside(_who(event, options, name, style), body if options.full else body[:_FOLDED_LINES])

    return tell


def _compacted(event: Event, options: Options) -> list[Line]:
    return _remark("compacted", "what was said before is known as a summary from here on", "magenta")(event, options)


def _rewound(event: Event, options: Options) -> list[Line]:
    words = f"what was said {safe_line(event.text, 80) or 'last'} is taken back"
    return _beside(_who(event, options, "rewound", "magenta"), _wrapped(words, _body_width(options), "magenta"))


def _noted(event: Event, options: Options) -> list[Line]:
    if not options.notes and not event.is_error:
        return []
    style = "red" if event.is_error else "dim"
    text = " ".join(filter(None, (safe_line(event.source, 60), event.text[:2000], event.model)))
    body = _wrapped(text, _body_width(options), style)
    return _beside(_who(event, options, "note", style), body if options.full else body[:_FOLDED_LINES])


def _used(event: Event, options: Options) -> list[Line]:
    if not options.notes or event.usage is None:
        return []
    used = event.usage
    words = f"{used.input:,} in, {used.output:,} out, {used.cache_read:,} from cache, {used.cache_creation:,} to cache"
    words += "" if used.cost_usd is None else f", ${used.cost_usd:.4f}"
    return _beside(_who(event, options, "used", "dim"), _wrapped(words, _body_width(options), "dim"))


def _warned(event: Event, options: Options) -> list[Line]:
    raw = event.raw[:200].decode(errors="replace")
    width = _body_width(options)
    body = _wrapped(f"line {event.line:,} can't be read: {event.text}", width, "yellow")
    if options.notes or options.full:
        body.append([Span(safe_line(raw, width or 200), "dim")])
    return _beside(_who(event, options, "unread", "yellow"), body)


_TELLERS: Mapping[Kind, Callable[[Event, Options], list[Line]]] = {
    Kind.SESSION_STARTED: _started,
    Kind.USER_MESSAGE: _spoken("you", "green"),
    Kind.ASSISTANT_MESSAGE: _spoken("assistant", "bold"),
    Kind.REASONING: _spoken("thinking", "dim", "dim"),
    Kind.TOOL_CALL: _called,
    Kind.TOOL_RESULT: _resulted,
    Kind.PERMISSION: _remark("permission", "", "magenta"),
    Kind.STATUS: _noted,
    Kind.USAGE: _used,
    Kind.LIMIT_HIT: _remark("limit", "the usage limit is reached", "red"),
    Kind.LIMIT_RESUMED: _remark("limit", "over", "green"),
    Kind.STDERR: _remark("stderr", "", "red"),
    Kind.SESSION_REWOUND: _rewound,
    Kind.SESSION_CLEARED: _remark("cleared", "the conversation begins anew", "magenta"),
    Kind.SESSION_ENDED: _remark("ended", "", "green"),
    Kind.COMPACTION: _compacted,
    Kind.PARSE_WARNING: _warned,
}
