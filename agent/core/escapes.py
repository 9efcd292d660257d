"""Text as it reads behind JSON's escapes, and where each byte of it came from."""

import re
from bisect import bisect_right
from itertools import accumulate, pairwise

_BLOCK_BYTES = 128
"""How much is looked at to tell where one byte came from."""

_TOKEN = re.compile(rb'\\(?:u[0-9a-fA-F]{4}|[\\"/bfnrt])')
_SINGLE = re.compile(rb'\\(?:u[0-9a-fA-F]{4}|["/bfnrt])')
_RUN = re.compile(rb'(?:\\[\\"/bfnrt])+|(?:\\u[0-9a-fA-F]{4})+')
_UNICODE = re.compile(rb"(\\u[0-9a-fA-F]{4})")
_SHORT = (
    (b"\\n", b"\n"),
    (b'\\"', b'"'),
    (b"\\t", b"\t"),
    (b"\\r", b"\r"),
    (b"\\/", b"/"),
    (b"\\b", b"\b"),
    (b"\\f", b"\f"),
)
_U = ord("u")
_PAIR = b"\x00"
"""Stands for an escaped backslash while the others are undone; as long as what it stands for."""

_OTHER = b"\x80"
"""What every sign beyond ASCII becomes: no secret has one, and it is as good a border as any."""


def _sign(escape: bytes) -> bytes:
    code = int(escape[2:], 16)
    if code == 0x5C:
        return _PAIR
    return bytes((code,)) if code < 0x80 else _OTHER


_SIGNS = {b"\\u%04x" % code: _sign(b"\\u%04x" % code) for code in range(256)}
"""The most usual ones."""


def _unescape(block: bytes) -> bytes:
    if b"\\" not in block:
        return block
    # From the left, pairs first: a run of backslashes always begins at the border of an escape.
    text = block.replace(b"\\\\", _PAIR)
    if b"\\u" in text:
        parts = _UNICODE.split(text)  # in C: there may be a million
        parts[1::2] = [_SIGNS.get(one) or _sign(one) for one in parts[1::2]]
        text = b"".join(parts)
    for escape, plain in _SHORT:
        text = text.replace(escape, plain)
    return text.replace(_PAIR, b"\\")


def _size(block: bytes) -> int:
    """How long `_unescape` makes it."""
    return len(_SINGLE.sub(_OTHER, block.replace(b"\\\\", _PAIR))) if b"\\" in block else len(block)


def escape_border(data: bytes, at: int, since: int = 0) -> int:
    """The nearest place from `at` on that cuts no escape in two; `since` is one before it."""
    near = data.rfind(b"\\", max(since, at - 5), at)
    if near < 0:
        return at
    before = data[since : near + 1]
    run = len(before) - len(before.rstrip(b"\\"))
    if run % 2 == 0:
        return at
    token = _TOKEN.match(data, near)
    return min(len(data), max(at, token.end() if token else near + 2))


class View:
    """`data` is what `raw` reads as; `origin(offset)` is where the byte at an offset of `data` begins in `raw`."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.data = _unescape(raw)
        self._starts: list[int] = []
        self._places: list[int] = []
        self._known: tuple[int, list[int], list[int], list[int]] = (-1, [], [], [])

    def origin(self, offset: int) -> int:
        if not self._starts:
            self._index()
        block = min(bisect_right(self._places, offset) - 1, len(self._starts) - 2)
        if self._known[0] != block:
            self._known = (block, *self._runs(block))
        _, places, origins, sizes = self._known
        inside = offset - self._places[block]
        run = bisect_right(places, inside) - 1
        return origins[run] + (inside - places[run]) * sizes[run]

    def _index(self) -> None:
        """In blocks, so that few escapes have to be counted for one place. Most texts are never asked."""
        starts = [0]
        while (at := starts[-1] + _BLOCK_BYTES) < len(self._raw):
            starts.append(escape_border(self._raw, at, starts[-1]))
        starts.append(len(self._raw))
        sizes = (_size(self._raw[start:end]) for start, end in pairwise(starts))
        self._starts, self._places = starts, [0, *accumulate(sizes)]

    def _runs(self, block: int) -> tuple[list[int], list[int], list[int]]:
        """The block as runs of signs that are equally long: where each begins in the text and in `raw`, and how long
        one sign of it is in `raw`."""
        start, end = self._starts[block], self._starts[block + 1]
        places, origins, sizes = [0], [start], [1]
        at, place = start, 0
        for match in _RUN.finditer(self._raw, start, end):
            begin, stop = match.span()
            size = 6 if self._raw[begin + 1] == _U else 2
            place += begin - at
            places += (place, place + (stop - begin) // size)
            origins += (begin, stop)
            sizes += (size, 1)
            at, place = stop, places[-1]
        return places, origins, sizes
