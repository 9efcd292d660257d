"""Bodies to lines in bounded memory, and what a line says that the server needs to know."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b, sha256
from typing import BinaryIO

import msgspec

from agent.core.transcripts.objects import ObjectCheck, read_object
from agent.core.transcripts.session import StreamId
from agent.core.transcripts.transcript import (
    EMPTY_CHAIN,
    LONG_LINE_BYTES,
    UuidScanner,
    derived_id,
    describe_line,
    entry_uuid,
    extend_chain,
    split_lines,
)
from agent.receiver.store import LongEntry, Reading, Run

RUN_BYTES = 1 << 20
"""How many bytes of short lines are handled together: one statement, one page of an answer."""

_BOUNDARY = b"compact_boundary"


class Facts(msgspec.Struct):
    """What the server shows of an entry; anything may stand in a field."""

    type: object = None
    subtype: object = None
    timestamp: object = None

    def is_compaction(self) -> bool:
        return self.type == "system" and self.subtype == "compact_boundary"


_decode_facts = msgspec.json.Decoder(Facts).decode


def read_runs(body: BinaryIO) -> Iterator[bytes | Iterator[bytes]]:
    """The lines of `body`, which holds whole lines: runs of short ones with their newlines, and the pieces of each
    line above `LONG_LINE_BYTES` (without its newline), which must be taken before going on."""
    while data := body.read(RUN_BYTES):
        rest = b"" if data.endswith(b"\n") else body.readline(LONG_LINE_BYTES + 1)
        start = data.rfind(b"\n") + 1
        if not rest or (rest.endswith(b"\n") and len(data) - start + len(rest) <= LONG_LINE_BYTES + 1):
            yield data + rest
            continue
        if start:
            yield data[:start]
        yield _long_pieces(data[start:] + rest, body)


def _long_pieces(piece: bytes, body: BinaryIO) -> Iterator[bytes]:
    while piece and not piece.endswith(b"\n"):
        yield piece
        piece = body.readline(LONG_LINE_BYTES)
    if len(piece) > 1:
        yield piece[:-1]


def facts_of(line: bytes) -> Facts:
    return read_object(line, _decode_facts) or Facts()


def last_compaction(run: bytes, lines: Sequence[bytes]) -> int | None:
    """Index of the last `system/compact_boundary` entry among the lines of a run. Looking for the bytes first keeps
    this at memory speed."""
    if _BOUNDARY not in run:
        return None
    for index in range(len(lines) - 1, -1, -1):
        if _BOUNDARY in lines[index] and facts_of(lines[index]).is_compaction():
            return index
    return None


def entry_id(session_id: str, subpath: str, ordinal: int, line: bytes) -> str:
    """The id of a short entry at its place."""
    return entry_uuid(line) or derived_id(session_id, subpath, ordinal, sha256(line).hexdigest())


def long_entry_id(session_id: str, subpath: str, entry: LongEntry) -> str:
    _, found, digest = describe_line(entry.pieces())
    return found or derived_id(session_id, subpath, entry.ordinal, digest)


class LongLine:
    """One line above `LONG_LINE_BYTES` under way, in bounded memory."""

    def __init__(self, chain: bytes) -> None:
        self.size = 0
        self._link = blake2b(chain, digest_size=32)
        self._sha = sha256()
        self._scanner = UuidScanner()
        self._check = ObjectCheck()

    def feed(self, piece: bytes) -> None:
        self.size += len(piece)
        self._link.update(piece)
        self._sha.update(piece)
        self._scanner.feed(piece)
        self._check.feed(piece)

    def chain(self) -> bytes:
        return self._link.digest()

    def is_object(self) -> bool:
        return self._check.result()

    def uuid(self) -> str | None:
        return self._scanner.result()

    def sha256(self) -> str:
        return self._sha.hexdigest()


class Extent:
    """How far a history goes: what its next entry needs to know of those before. `compaction` is the ordinal of the
    last compaction's boundary, 0 without one."""

    def __init__(self, count: int = 0, size: int = 0, chain: bytes = EMPTY_CHAIN, compaction: int = 0) -> None:
        self.count = count
        self.size = size
        self.chain = chain
        self.compaction = compaction
        self._last: bytes | LongLine | None = None

    def add_run(self, run: bytes) -> int:
        """Moves behind short lines, each with its newline, and gives how many they are."""
        lines = split_lines(run)
        self.chain = extend_chain(self.chain, lines)
        if (boundary := last_compaction(run, lines)) is not None:
            self.compaction = self.count + 1 + boundary
        self.count += len(lines)
        self.size += len(run)
        self._last = lines[-1]
        return len(lines)

    def begin_long(self) -> LongLine:
        """The next line, to be fed and then given to `add_long`."""
        return LongLine(self.chain)

    def add_long(self, line: LongLine) -> None:
        self.chain = line.chain()
        self.count += 1
        self.size += line.size + 1
        self._last = line

    def last_id(self, stream: StreamId) -> str | None:
        """The id of the last line that was added; None without one. Only that one is parsed: no other becomes a
        head."""
        if self._last is None:
            return None
        if isinstance(self._last, bytes):
            return entry_id(*stream, self.count, self._last)
        return self._last.uuid() or derived_id(*stream, self.count, self._last.sha256())


def measure_prefix(reading: Reading, entries: int, known: Extent) -> Extent:
    """How far the first `entries` of a generation go, from reading those behind `known`, which is less far."""
    for run in reading.runs(known.count, entries - known.count):
        if isinstance(run, Run):
            known.add_run(run.data)
        else:
            line = known.begin_long()
            for piece in run.pieces():
                line.feed(piece)
            known.add_long(line)
    return known
