"""Whether a line is one JSON object, also of lines that are too long to hold."""

import codecs
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

T = TypeVar("T")


class _Nothing(msgspec.Struct):
    pass


_decode_nothing = msgspec.json.Decoder(_Nothing).decode

_ESCAPE = re.compile(rb"\\(?:(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)
"""Any escape; one for half a surrogate pair is a group."""

_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING_PART = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_SCALAR_PART = re.compile(rb"[-+.0-9A-Za-z]++")
_SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?|true|false|null")

_ESCAPE_BYTES = 6
_SCALAR_BYTES = 4096
_DEPTH = 1000
"""Deeper nesting is legal but breaks readers that recurse; such a line is kept, and shown as no object."""


def is_object(line: bytes) -> bool:
    """Whether `line`, which is held in one piece, is one JSON object in UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return read_object(line, _decode_nothing) is not None


def read_object(line: bytes, decode: Callable[[bytes], T]) -> T | None:
    """What `decode`, a decoder of msgspec, makes of an object; None of anything else. Half a surrogate pair is allowed:
    coding agents cut texts in the middle of an emoji, JSON has an escape for that (RFC 8259 section 8.2), and msgspec
    refuses it. Such an escape is read as U+FFFD."""
    try:
        return decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        if b"\\ud" not in line and b"\\uD" not in line:
            return None
    try:
        return decode(_ESCAPE.sub(_without_surrogate, line))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _without_surrogate(escape: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if escape[1] else escape[0]


def is_object_in_pieces(pieces: Iterable[bytes]) -> bool:
    """The same of a line that comes in pieces, cut anywhere."""
    check = ObjectCheck()
    for piece in pieces:
        check.feed(piece)
    return check.result()


class ObjectCheck:
    """The same for a line that comes in pieces, cut anywhere (RFC 8259). Memory: a byte for each open bracket."""

    def __init__(self) -> None:
        self._open = bytearray()
        self._next = "start"
        self._in_string = False
        self._carry = b""
        self._bad = False
        self._text = codecs.getincrementaldecoder("utf-8")()

    def feed(self, piece: bytes) -> None:
        if self._bad:
            return
        try:
            self._text.decode(piece)
        except UnicodeDecodeError:
            self._bad = True
        data, self._carry, at = self._carry + piece, b"", 0
        while at < len(data) and not self._bad:
            at = self._string(data, at) if self._in_string else self._token(data, at)

    def result(self) -> bool:
        return not self._bad and self._next == "end" and not self._carry

    def _string(self, data: bytes, at: int) -> int:
        match = _STRING_PART.match(data, at)
        stop = match.end() if match else at
        if data[stop : stop + 1] == b'"':
            self._in_string = False
            self._next = "colon" if self._next == "key" else "after"
            return stop + 1
        if data[stop : stop + 1] == b"\\" and len(data) - stop < _ESCAPE_BYTES:
            self._carry = data[stop:]
            return len(data)
        self._bad = stop < len(data)
        return stop

    def _token(self, data: bytes, at: int) -> int:
        space = _SPACE.match(data, at)
        at = space.end() if space else at
        token = data[at : at + 1]
        if token in b"{[" and token:
            self._opened(token)
        elif token in b"}]" and token:
            self._closed(token)
        elif token == b",":
            self._bad = self._next != "after"
            self._next = "key" if self._open[-1:] == b"{" else "value"
        elif token == b":":
            self._bad = self._next != "colon"
            self._next = "value"
        elif token == b'"':
            self._bad = self._next not in {"key", "first key", "value", "first value"}
            self._next = "key" if self._next.endswith("key") else "value"
            self._in_string = True
        elif token:
            return self._scalar(data, at)
        return at + 1

    def _opened(self, bracket: bytes) -> None:
        wanted = bracket == b"{" if self._next == "start" else self._next in {"value", "first value"}
        self._bad = not wanted or len(self._open) >= _DEPTH
        self._open += bracket
        self._next = "first key" if bracket == b"{" else "first value"

    def _closed(self, bracket: bytes) -> None:
        opener, empty = (b"{", "first key") if bracket == b"}" else (b"[", "first value")
        self._bad = self._open[-1:] != opener or self._next not in {"after", empty}
        del self._open[-1:]
        self._next = "after" if self._open else "end"

    def _scalar(self, data: bytes, at: int) -> int:
        match = _SCALAR_PART.match(data, at)
        stop = match.end() if match else at
        if stop == len(data) and stop - at <= _SCALAR_BYTES:
            self._carry = data[at:]
            return stop
        self._bad = self._next not in {"value", "first value"} or not _SCALAR.fullmatch(data, at, stop)
        self._next = "after"
        return stop
