"""JSON as the text that it is: where its parts stand, and how to put one in or take one out without touching the rest.

What `json` reads and writes again comes out with other numbers, escapes and line ends, and with duplicate keys lost; a
file that belongs to somebody else must not.
"""

import json
from typing import Any, NamedTuple

from agent.errors import SettingsError

_BLANK = " \t\r\n"
_BOM = "\ufeff"


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# Numbers stay text: nobody computes with them, and one may be longer than `int` takes.
_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=str, parse_int=str)


class Value(NamedTuple):
    """A value that stands at `text[at:end]`. As a member of an object it has a key, which stands at `key_at`."""

    at: int
    end: int
    kind: str
    key: str = ""
    key_at: int = -1

    @property
    def begin(self) -> int:
        return self.at if self.key_at < 0 else self.key_at

    def read(self, text: str) -> Any:
        return _decoder.raw_decode(text, self.at)[0]

    def members(self, text: str) -> list["Value"]:
        """Of an object, in their order, duplicates included."""
        found = []
        at = _skip(text, self.at + 1)
        while text[at] != "}":
            key, end = _decoder.raw_decode(text, at)
            value = _value(text, _skip(text, _skip(text, end) + 1))
            found.append(value._replace(key=key, key_at=at))
            at = _next_part(text, value.end)
        return found

    def items(self, text: str) -> list["Value"]:
        """Of a list."""
        found = []
        at = _skip(text, self.at + 1)
        while text[at] != "]":
            found.append(_value(text, at))
            at = _next_part(text, found[-1].end)
        return found

    def parts(self, text: str) -> list["Value"]:
        return self.members(text) if self.kind == "{" else self.items(text)


class Style(NamedTuple):
    """How a document is written. `indent`: one step of it; None for all in one line. `newline` ends a line."""

    indent: str | None
    newline: str
    colon: str

    @classmethod
    def of(cls, text: str, root: Value) -> "Style":
        newline = "\r\n" if "\r\n" in text else "\n"
        members = root.members(text)
        if not members:
            return cls("  ", newline, ": ")
        first = members[0]
        lead = text[root.at + 1 : first.begin]
        colon = ": " if text[first.at - 1] in _BLANK else ":"
        return cls(lead.rpartition("\n")[2] or "  " if "\n" in lead else None, newline, colon)

    def render(self, value: Any, at_indent: str | None) -> str:
        """`value` as it stands in a line that begins with `at_indent`; None: within a line."""
        if at_indent is None or self.indent is None:
            comma = ", " if self.colon == ": " else ","
            return json.dumps(value, ensure_ascii=False, separators=(comma, self.colon))
        lines = json.dumps(value, ensure_ascii=False, indent=self.indent, separators=(",", self.colon)).split("\n")
        return (self.newline + at_indent).join(lines)


def parse_document(text: str, source: str) -> Value:
    """The object that a document is. Raises SettingsError for anything else, comments included."""
    at = _skip(text, len(_BOM) if text.startswith(_BOM) else 0)
    try:
        value, end = _decoder.raw_decode(text, at)
        if (more := _skip(text, end)) < len(text):
            raise json.JSONDecodeError("more follows after its end", text, more)
    except json.JSONDecodeError as exc:
        why = f"line {exc.lineno} column {exc.colno}: {exc.msg[:1].lower()}{exc.msg[1:]}"
        raise SettingsError(f"{source} is not JSON, {why}", hint="nothing was changed; correct it first") from exc
    except (ValueError, RecursionError) as exc:
        raise SettingsError(f"{source} is not JSON that can be read", hint="nothing was changed") from exc
    if not isinstance(value, dict):
        raise SettingsError(f"{source} holds no object", hint="nothing was changed; correct it first")
    return Value(at, end, "{")


def find_member(text: str, value: Value, key: str) -> Value | None:
    """The member of an object, the last of several as everywhere; None without one, and where there is no object."""
    found = [one for one in value.members(text) if one.key == key] if value.kind == "{" else []
    return found[-1] if found else None


def find_single(text: str, value: Value, key: str, source: str) -> Value | None:
    """The same, for one that is to be changed. Raises SettingsError when there are several."""
    if sum(one.key == key for one in value.members(text)) > 1:
        raise SettingsError(f"{key} stands more than once in {source}", hint="nothing was changed; correct it first")
    return find_member(text, value, key)


def add_member(text: str, container: Value, key: str, value: Any, style: Style) -> str:
    return _add(text, container, json.dumps(key, ensure_ascii=False) + style.colon, value, style)


def add_item(text: str, container: Value, value: Any, style: Style) -> str:
    return _add(text, container, "", value, style)


def _add(text: str, container: Value, name: str, value: Any, style: Style) -> str:
    """Behind the last part, and written as that one is."""
    parts = container.parts(text)
    if parts:
        last = parts[-1]
        lead = _lead(text, last.begin)
        indent = lead.rpartition("\n")[2] if "\n" in lead else None
        gap = lead if indent is None else style.newline + indent
        if indent is None and len(parts) == 1:
            gap = " " if style.colon == ": " else ""
        return text[: last.end] + "," + gap + name + style.render(value, indent) + text[last.end :]
    close = container.end - 1
    if style.indent is None:
        return text[: container.at + 1] + name + style.render(value, None) + text[close:]
    outer = _line_indent(text, container.at)
    inner = style.newline + outer + style.indent
    made = inner + name + style.render(value, outer + style.indent) + style.newline + outer
    return text[: container.at + 1] + made + text[close:]


def remove_part(text: str, container: Value, part: Value) -> str:
    """The container without one of its parts: what `add_member` and `add_item` put in, taken out."""
    parts = container.parts(text)
    at = [one.begin for one in parts].index(part.begin)
    if len(parts) == 1:
        return text[: container.at + 1] + text[container.end - 1 :]
    if at == len(parts) - 1:
        return text[: parts[at - 1].end] + text[part.end :]
    return text[: part.begin] + text[parts[at + 1].begin :]


def replace(text: str, value: Value, new: str) -> str:
    return text[: value.at] + new + text[value.end :]


def _value(text: str, at: int) -> Value:
    return Value(at, _decoder.raw_decode(text, at)[1], text[at])


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _next_part(text: str, end: int) -> int:
    """Where the next part begins after one that ends at `end`, or the bracket that closes."""
    at = _skip(text, end)
    return _skip(text, at + 1) if text[at] == "," else at


def _lead(text: str, at: int) -> str:
    """The blanks before `at`."""
    begin = at
    while text[begin - 1] in _BLANK:
        begin -= 1
    return text[begin:at]


def _line_indent(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at].removeprefix(_BOM)
    return line[: len(line) - len(line.lstrip(" \t"))]
