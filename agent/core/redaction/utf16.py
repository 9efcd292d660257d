"""Files in UTF-16, as tools of Windows write them: as UTF-8 for whoever looks at them, and back, byte for byte."""

import codecs
from collections.abc import Iterable, Iterator

_LOOKED_AT_BYTES = 4096
_BYTE_ORDERS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_MANY, _FEW = 0.4, 0.05
"""Of the letters of most languages on a computer every second byte is zero, of any other file hardly one."""


def utf16_of(head: bytes) -> str | None:
    """Which of its two orders a file is in that begins like this, by its mark or by its zeros; None: in none."""
    if head.startswith(codecs.BOM_UTF32_LE) and head[4:6] != b"\0\0":
        return None
    if (marked := _BYTE_ORDERS.get(head[:2])) is not None:
        return marked
    head = head[: min(len(head), _LOOKED_AT_BYTES) & ~1]
    half = len(head) // 2
    if half < 4:
        return None
    even, odd = head[::2].count(0) / half, head[1::2].count(0) / half
    if odd > _MANY and even < _FEW:
        return "utf-16-le"
    return "utf-16-be" if even > _MANY and odd < _FEW else None


class Narrowed:
    """Pieces of UTF-16 as pieces of UTF-8. Any bytes come back as they were; a last one alone is `odd` afterwards."""

    def __init__(self, pieces: Iterable[bytes], encoding: str) -> None:
        self._pieces = pieces
        self._encoding = encoding
        self.odd = b""

    def __iter__(self) -> Iterator[bytes]:
        held = b""
        for piece in self._pieces:
            held += piece
            end = self._border(held)
            if end:
                yield self._narrow(held[:end])
            held = held[end:]
        whole = len(held) & ~1
        self.odd = held[whole:]
        if whole:
            yield self._narrow(held[:whole])

    def _border(self, held: bytes) -> int:
        """The last place where no sign is cut in two."""
        end = len(held) & ~1
        if end and 0xD8 <= held[end - 1 if self._encoding == "utf-16-le" else end - 2] <= 0xDB:
            end -= 2
        return end

    def _narrow(self, part: bytes) -> bytes:
        return part.decode(self._encoding, "surrogatepass").encode("utf-8", "surrogatepass")


def widened(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Pieces of UTF-8 as pieces of UTF-16."""
    held = b""
    for piece in pieces:
        held += piece
        end = len(held)
        while end and held[end - 1] & 0xC0 == 0x80:
            end -= 1
        if end and held[end - 1] >= 0xC0:
            end -= 1
        if end:
            yield _widen(held[:end], encoding)
        held = held[end:]
    if held:
        yield _widen(held, encoding)


def _widen(part: bytes, encoding: str) -> bytes:
    return part.decode("utf-8", "surrogatepass").encode(encoding, "surrogatepass")
