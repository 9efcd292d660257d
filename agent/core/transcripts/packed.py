"""Transcripts that their coding agent packed (zstd): their lines, in bounded memory.

Nothing in such a file says where a line stands, so whoever wants a place in it unpacks all before that. What is packed
is old and changes no more; but a program that did not know it as packed may have appended lines to it, as they are.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

PIECE_BYTES = 1 << 20
MOST_BYTES = 4 << 30
"""What claims to be longer is taken for damage or malice: a few bytes can stand for any number."""

_MOST_WINDOW_BYTES = 8 << 20
"""How much of what went before may be needed. Codex packs with 2 MiB."""

_DAMAGED = "is no file that zstd packed, or a damaged one"

_MAGIC = b"\x28\xb5\x2f\xfd"

_SKIPPED_MAGIC = b"\x2a\x4d\x18"
"""Behind a byte from 0x50 to 0x5f: a frame that holds nothing to unpack (RFC 8878, 3.1.2)."""

_LINE_BEGIN = b"{"
"""What stands behind the last frame and begins so is lines that nobody packed."""


class PackedDamage(Exception):
    """It can't be unpacked; the message says why, as the end of a sentence."""


def is_packed(path: str) -> bool:
    """Whether a file is a packed transcript, by its name. Narrow, so that a side file which happens to be packed
    travels as it is."""
    name = path.replace("\\", "/").rpartition("/")[2]
    return name.startswith("rollout-") and name.endswith(".jsonl.zst")


def unpack(source: BinaryIO) -> Iterator[bytes]:
    """The bytes of a packed file from its beginning, in pieces. Raises PackedDamage, before the first piece where it is
    not whole, and what reading raises."""
    import zstandard  # most machines have no such file

    packed: Any = _Beginning(source, find_packed_end(source))  # of a file, `stream_reader` wants `read` only
    unpacker = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW_BYTES)
    total = 0
    with unpacker.stream_reader(packed, read_across_frames=True, closefd=False) as reader:
        while True:
            try:
                piece = reader.read(PIECE_BYTES) or packed.read_rest(PIECE_BYTES)
            except zstandard.ZstdError as exc:
                raise PackedDamage(_DAMAGED) from exc
            if not piece:
                return
            total += len(piece)
            if total > MOST_BYTES:
                raise PackedDamage(f"unpacks to more than {MOST_BYTES} bytes")
            yield piece


class _Beginning:
    """A file up to an offset, as who unpacks wants it."""

    def __init__(self, source: BinaryIO, end: int) -> None:
        self._source, self._at, self._end = source, 0, end

    def read(self, count: int = -1, /) -> bytes:
        left = self._end - self._at
        return self._read(left if count < 0 else min(left, count))

    def read_rest(self, count: int) -> bytes:
        """What follows, when the beginning was read."""
        return self._read(count) if self._at >= self._end else b""

    def _read(self, count: int) -> bytes:
        self._source.seek(self._at)
        data = self._source.read(count) if count > 0 else b""
        self._at += len(data)
        return data


def find_packed_end(source: BinaryIO) -> int:
    """The offset behind the last frame. Raises PackedDamage unless that is the end, or lines begin there; and unless
    the last block of the last frame is there: what is cut off unpacks without an error, and would look like a
    transcript that became shorter. Reads a few bytes of each block (RFC 8878)."""
    source.seek(0, 2)
    size, at = source.tell(), 0
    while at < size or at == 0:
        source.seek(at)
        if at and source.read(len(_LINE_BEGIN)) == _LINE_BEGIN:
            return at
        at = _frame_end(source, at)
        if at > size:
            raise PackedDamage("is packed and not whole")
    return at


def _frame_end(source: BinaryIO, at: int) -> int:
    """The offset behind a frame; behind the end of the file for one that is cut."""
    source.seek(at)
    head = source.read(8)
    if head[1:4] == _SKIPPED_MAGIC and head[0] & 0xF0 == 0x50:
        return at + 8 + int.from_bytes(head[4:8], "little")
    head = head[:5]
    if head[:4] != _MAGIC[: len(head[:4])]:
        raise PackedDamage(_DAMAGED)
    if len(head) < 5:
        return at + 5
    flags = head[4]
    is_single = bool(flags & 0x20)
    size_bytes = (1 if is_single else 0, 2, 4, 8)[flags >> 6]
    at += 5 + (not is_single) + (0, 1, 2, 4)[flags & 3] + size_bytes
    is_last = False
    while not is_last:
        source.seek(at)
        block = int.from_bytes(source.read(3), "little")
        is_last, kind, length = bool(block & 1), block >> 1 & 3, block >> 3
        if kind == 3:
            raise PackedDamage(_DAMAGED)
        at += 3 + (1 if kind == 1 else length)
        if source.seek(0, 2) < at:
            return at
    return at + (4 if flags & 4 else 0)
