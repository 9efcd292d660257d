"""Text as it reads behind JSON's escapes, and where each byte of it came from."""

import re
from bisect import bisect_right

_BLOCK_BYTES = 2048
"""How far apart the places are of which it is remembered where they came from."""

_NEAR_BYTES = 128
"""How much is walked through to tell where one byte came from."""

_TOKEN = re.compile(rb'\\(?:u[0-9a-fA-F]{4}|[\\"/bfnrt])')
_SINGLE = re.compile(rb'\\(?:u[0-9a-fA-F]{4}|["/bfnrt])')
_RUN = re.compile(rb'(?:\\[\\"/bfnrt])+|(?:\\u[0-9a-fA-F]{4})+')
_UNICODE = re.compile(rb"(\\u[0-9a-fA-F]{4}(?:\\u[0-9a-fA-F]{4})*)")
"""Letters come first, so that `re` looks for them alone."""

_COLOUR = b"\\u001b"
"""By far the most common one where there are very many."""

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

_LONG_RUN = b"\\" * 64
_LONG_RUNS = re.compile(rb"(\\{64,})")
"""As text has them that was escaped again and again."""

_OTHER = b"\x80"
"""What every sign beyond ASCII becomes: no secret has one, and it is as good a border as any."""


def _sign(code: int) -> bytes:
    if code == 0x5C:
        return _PAIR
    if code == 0:  # which stands for the pair here
        return b"\x7f"
    return bytes((code,)) if code < 0x80 else _OTHER


_DIGITS = "0123456789abcdefABCDEF"
_SIGNS = {f"\\u00{one}{two}".encode(): _sign(int(one + two, 16)) for one in _DIGITS for two in _DIGITS}
"""What each escape stands for, but those that are all alike."""

_PLAIN = b"".join(map(_sign, range(256)))


def _signs(run: bytes) -> bytes:
    """What escapes behind one another stand for, in C where they are what they mostly are."""
    codes = bytes.fromhex(run.replace(b"\\u", b"").decode())
    if not any(codes[::2]):
        return codes[1::2].translate(_PLAIN)
    return b"".join([_SIGNS.get(run[at : at + 6], _OTHER) for at in range(0, len(run), 6)])


def _unescape(block: bytes) -> bytes:
    if b"\\" not in block:
        return block
    # From the left, pairs first: a run of backslashes always begins at the border of an escape.
    text = undo_pairs(block)
    if _COLOUR in text:
        text = text.replace(_COLOUR, b"\x1b")
    if b"\\u" in text:
        parts = _UNICODE.split(text)  # in C: there may be a million
        parts[1::2] = [_SIGNS.get(one) or _signs(one) for one in parts[1::2]]
        text = b"".join(parts)
    for escape, plain in _SHORT:
        if b"\\" not in text:  # which is told faster than anything is replaced
            break
        text = text.replace(escape, plain)
    return text.replace(_PAIR, b"\\")


def _size(block: bytes) -> int:
    """How long `_unescape` makes it."""
    return len(_SINGLE.sub(_OTHER, undo_pairs(block))) if b"\\" in block else len(block)


def undo_pairs(block: bytes) -> bytes:
    """With a zero byte in the place of each escaped backslash."""
    if _LONG_RUN in block:
        parts = _LONG_RUNS.split(block)
        parts[1::2] = [_PAIR * (len(one) // 2) + one[: len(one) % 2] for one in parts[1::2]]
        block = b"".join(parts)
    return block.replace(b"\\\\", _PAIR)


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


class _Blocks:
    """Escaped text in blocks, so that few escapes have to be counted to find one place."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._starts, self._places = [0], [0]

    def find(self, offset: int) -> tuple[int, int, int]:
        """The block with that place of the plain text: where it begins and ends, and how far into it the place is."""
        starts, places = self._starts, self._places
        size = len(self._raw)
        while places[-1] <= offset and starts[-1] < size:  # no further than it is asked for
            start, at = starts[-1], starts[-1] + _BLOCK_BYTES
            starts.append(escape_border(self._raw, at, start) if at < size else size)
            places.append(places[-1] + _size(self._raw[start : starts[-1]]))
        block = max(0, min(bisect_right(places, offset) - 1, len(starts) - 2))
        return starts[block], starts[min(block + 1, len(starts) - 1)], offset - places[block]


class View:
    """`data` is what `raw` reads as; `origin(offset)` is where the byte at an offset of `data` begins in `raw`."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.data = _unescape(raw)
        self._blocks: _Blocks | None = None

    def origin(self, offset: int) -> int:
        if self._blocks is None:  # most texts are never asked
            self._blocks = _Blocks(self._raw)
        start, end, inside = self._blocks.find(offset)
        while end - start > _NEAR_BYTES:
            middle = escape_border(self._raw, (start + end) // 2, start)
            size = _size(self._raw[start:middle])
            if inside < size:
                end = middle
            else:
                start, inside = middle, inside - size
        return self._walk(start, end, inside)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The origins of two places, the second not before the first."""
        at, size = self.origin(start), end - start
        if size > _NEAR_BYTES:
            return at, self.origin(end)
        return at, self._walk(at, min(len(self._raw), at + 6 * (size + 1)), size)

    def _walk(self, start: int, end: int, inside: int) -> int:
        """Through the block, by runs of signs that are equally long."""
        at = start
        for match in _RUN.finditer(self._raw, start, end):
            begin, stop = match.span()
            if inside < begin - at:
                break
            inside -= begin - at
            size = 6 if self._raw[begin + 1] == _U else 2
            count = (stop - begin) // size
            if inside < count:
                return begin + inside * size
            inside -= count
            at = stop
        return at + inside
