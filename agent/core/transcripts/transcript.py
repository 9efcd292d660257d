"""Bytes of a transcript to entries: whole lines, their ids, ordinals and chain hashes.

An entry is what stands between two 0x0A bytes. Nothing else separates lines (raw U+2028 stands inside strings), no
line is too odd to count (empty, torn, NUL bytes, not JSON), and what follows the last 0x0A is not an entry yet.
Both ends of the wire use this module, so both give the same entry the same id.
"""

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b, sha256
from typing import Any, NamedTuple, Protocol

import msgspec

from agent.core.transcripts.objects import read_object

EMPTY_CHAIN = bytes(32)
"""h0: the chain hash of no entries."""

LONG_LINE_BYTES = 1 << 20
"""Lines above this are never held in one piece; real ones have a median of 1 KB and a maximum of some MB."""

ENTRY_NAMESPACE = uuid.UUID("7c0e3c1c-5b1d-5c0e-9d3a-0b2f6f1f7a55")
"""Namespace of the UUIDv5 that names an entry without a usable uuid; fixed, since stored ids depend on it."""

_USABLE_UUID = re.compile(r"[\x21-\x7e]{1,128}")
"""What may stand in the Last-Uuid header: printable ASCII without a space, at most 128 characters."""


class _UuidOnly(msgspec.Struct):
    uuid: Any = None


_decode_uuid = msgspec.json.Decoder(_UuidOnly).decode


class PieceSource(Protocol):
    """A binary file, as far as this module needs one."""

    def readline(self, limit: int, /) -> bytes: ...


class Cleaner(Protocol):
    """`redaction.Redactor`: what is left of a line when its secrets are out."""

    def redact_line(self, line: bytes, /) -> bytes: ...
    def redact_pieces(self, pieces: Iterable[bytes], /) -> Iterator[bytes]: ...


class Chained(Protocol):
    """What is known of a stream up to some entry: see `identity.Cursor`."""

    @property
    def entry_count(self) -> int: ...
    @property
    def chain(self) -> bytes: ...
    @property
    def file_chain(self) -> bytes: ...


class EntryMark(NamedTuple):
    """One entry of a stream. `ordinal` is 1-based; `start` and `end` are file offsets, `end` behind the newline;
    `chain` is the chain hash up to and including this entry, as entries travel. `ends_line` False: it has no newline
    (yet). `raw_chain`: the same over the lines of the file; empty where both are equal."""

    ordinal: int
    start: int
    end: int
    entry_id: str
    has_uuid: bool
    chain: bytes
    ends_line: bool = True
    raw_chain: bytes = b""

    @property
    def file_chain(self) -> bytes:
        return self.raw_chain or self.chain


def usable_uuid(value: object) -> str | None:
    """The value when it can serve as an entry id, else None."""
    return value if isinstance(value, str) and _USABLE_UUID.fullmatch(value) else None


def entry_uuid(line: bytes) -> str | None:
    """The top-level `uuid` of one line (the last one, if the key recurs), or None: not an object, not JSON, none."""
    if b"uuid" not in line and b"\\u" not in line:
        return None
    read = read_object(line, _decode_uuid)
    return None if read is None else usable_uuid(read.uuid)


def derived_id(session_id: str, subpath: str, ordinal: int, line_sha256: str) -> str:
    """The id of an entry that has no usable uuid. `line_sha256` is hex."""
    return str(uuid.uuid5(ENTRY_NAMESPACE, f"{session_id}\n{subpath}\n{ordinal}\n{line_sha256}"))


def whole_lines_bytes(data: bytes) -> int:
    """How many bytes of `data` are whole lines: up to and including the last 0x0A."""
    return data.rfind(b"\n") + 1


def split_lines(data: bytes) -> list[bytes]:
    """The lines of `data`, which ends with 0x0A or is empty, without their newlines."""
    lines = data.split(b"\n")
    lines.pop()
    return lines


def extend_chain(chain: bytes, lines: Iterable[bytes]) -> bytes:
    """hn over `lines` (without newlines), from the 32 bytes of the chain before them."""
    for line in lines:
        link = blake2b(chain, digest_size=32)
        link.update(line)
        chain = link.digest()
    return chain


class Run(NamedTuple):
    """Whole lines at the beginning of some bytes: how many, how many bytes with their newlines, the chain hash behind
    the last, and those that begin in a way that was asked for."""

    entries: int
    size: int
    chain: bytes
    marked: list[bytes]


def measure_run(chain: bytes, data: bytes, most: int, beginnings: tuple[bytes, ...] = ()) -> Run:
    """The whole lines of `data`, at most `most`, and hn over them; `chain` is that before them. Copies no line that is
    not marked: this is what every byte goes through."""
    view, find, starts = memoryview(data), data.find, data.startswith
    entries = at = 0
    marked = []
    while entries < most and (end := find(b"\n", at)) >= 0:
        link = blake2b(chain, digest_size=32)
        link.update(view[at:end])
        chain = link.digest()
        if starts(beginnings, at):
            marked.append(data[at:end])
        entries, at = entries + 1, end + 1
    return Run(entries, at, chain, marked)


def extend_chain_by_pieces(chain: bytes, pieces: Iterable[bytes]) -> bytes:
    """The same over one line that is given in pieces."""
    link = blake2b(chain, digest_size=32)
    for piece in pieces:
        link.update(piece)
    return link.digest()


def tombstone_line(size: int, line_sha256: str, entry_uuid: str | None, status: int) -> bytes:
    """The entry that travels instead of one that the server refused for good (HTTP `status`). The same input gives
    the same bytes, so a chain over tombstones can be computed again from the file."""
    fields: dict[str, object] = {"type": "transcriptd-tombstone"}
    if entry_uuid is not None:
        fields["uuid"] = entry_uuid
    return msgspec.json.encode(fields | {"size": size, "sha256": line_sha256, "status": status})


class UuidScanner:
    """The top-level `uuid` of a line too long to hold, fed piece by piece.

    Gives what `entry_uuid` gives for every line that is valid JSON. Keeps at most one short string in memory.
    """

    _STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
    _NEXT_TOKEN = re.compile(rb'["{}\[\],:]')
    _KEPT_BYTES = 1024

    def __init__(self) -> None:
        self._depth = 0
        self._object = False
        self._in_string = False
        self._escaped = False
        self._kept: bytearray | None = None
        self._key: bytes | None = None
        self._expect_key = False
        self._found: str | None = None
        self._closed = False

    def feed(self, piece: bytes) -> None:
        at, end = 0, len(piece)
        while at < end:
            at = self._string(piece, at) if self._in_string else self._structure(piece, at)

    def result(self) -> str | None:
        return self._found if self._closed and self._object and self._depth == 0 else None

    def _string(self, piece: bytes, at: int) -> int:
        if self._escaped:
            self._keep(piece[at : at + 1])
            self._escaped = False
            return at + 1
        match = self._STRING_REST.match(piece, at)
        stop = match.end() if match else at
        self._keep(piece[at:stop])
        if stop == len(piece):
            return stop
        if piece[stop : stop + 1] == b'"':
            self._in_string = False
            self._string_ended()
        else:
            self._keep(b"\\")
            self._escaped = True
        return stop + 1

    def _keep(self, data: bytes) -> None:
        if self._kept is None:
            return
        if len(self._kept) + len(data) > self._KEPT_BYTES:
            self._kept = None
            return
        self._kept += data

    def _string_ended(self) -> None:
        if self._depth != 1:
            return
        text = self._decoded()
        if self._expect_key:
            self._key = text.encode() if text is not None else None
            self._expect_key = False
        elif self._key == b"uuid":
            self._found = usable_uuid(text)
        self._kept = None

    def _decoded(self) -> str | None:
        if self._kept is None:
            return None
        try:
            return msgspec.json.decode(b'"' + bytes(self._kept) + b'"', type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _structure(self, piece: bytes, at: int) -> int:
        match = self._NEXT_TOKEN.search(piece, at)
        if match is None:
            return len(piece)
        token = match.group()
        if token == b'"':
            self._in_string = True
            wanted = self._depth == 1 and self._object and (self._expect_key or self._key == b"uuid")
            self._kept = bytearray() if wanted else None
        elif token in b"{[":
            self._depth += 1
            if self._depth == 1:
                self._object = self._expect_key = token == b"{"
            self._forget_value()
        elif token in b"}]":
            self._depth -= 1
            self._closed = self._depth == 0
        elif self._depth == 1 and self._object:
            if token == b",":
                self._expect_key, self._key = True, None
            else:
                self._forget_value()
        return match.end()

    def _forget_value(self) -> None:
        """A key that recurs takes its last value, whatever that is."""
        if self._key == b"uuid" and self._depth <= 2:
            self._found = None


class _Entry:
    """One entry under way: what its id and its link of the chain need, in bounded memory."""

    def __init__(self, chain: bytes) -> None:
        self.size = 0
        self._link = blake2b(chain, digest_size=32)
        self._sha = sha256()
        self._first = b""
        self._scanner: UuidScanner | None = None

    def add(self, piece: bytes) -> None:
        self._link.update(piece)
        if self.size:
            self._sha.update(self._first)
            self._scanner = self._scanner or UuidScanner()
            self._scanner.feed(self._first)
            self._first = b""
            self._scanner.feed(piece)
            self._sha.update(piece)
        else:
            self._first = piece
        self.size += len(piece)

    def chain(self) -> bytes:
        return self._link.digest()

    def uuid(self) -> str | None:
        return self._scanner.result() if self._scanner else entry_uuid(self._first)

    def sha256(self) -> str:
        self._sha.update(self._first)
        self._first = b""
        return self._sha.hexdigest()


def describe_line(pieces: Iterable[bytes]) -> tuple[int, str | None, str]:
    """Size, usable uuid and SHA-256 (hex) of one line without its newline, given in pieces of any size."""
    entry = _Entry(EMPTY_CHAIN)
    for piece in pieces:
        entry.add(piece)
    found = entry.uuid()
    return entry.size, found, entry.sha256()


def walk_entries(
    source: PieceSource,
    session_id: str,
    subpath: str,
    *,
    tombstones: Mapping[int, int] | None = None,
    with_tail: bool = False,
    cleaner: Cleaner | None = None,
    known: Chained | None = None,
) -> Iterator[EntryMark]:
    """Every whole entry of a stream from its first byte, in bounded memory. `tombstones` maps the ordinal of each
    entry that travelled as a tombstone to the HTTP status that caused it. `with_tail`: also what follows the last
    newline, as it travels when it stays as it is; it ends where the file ends. `cleaner`: what each line goes through
    before it travels. `known`: how far the stream has travelled; where the lines of the file up to there are the same,
    its chain is taken, since rules may have been others then."""
    mark = EntryMark(0, 0, 0, "", has_uuid=False, chain=EMPTY_CHAIN)
    while piece := source.readline(LONG_LINE_BYTES):
        line, entry = _RawLine(source, piece), _Entry(mark.chain)
        raw_chain = _add_line(entry, line, mark, cleaner)
        if not line.ends and not (with_tail and line.size):
            return
        mark = _mark_behind(mark, entry, line, (session_id, subpath), tombstones or {}, raw_chain=raw_chain)
        if known is not None and known.entry_count == mark.ordinal and known.file_chain == mark.file_chain:
            mark = mark._replace(chain=known.chain, raw_chain=apart(mark.file_chain, known.chain))
        yield mark


def apart(raw_chain: bytes, chain: bytes) -> bytes:
    """`raw_chain` where it differs from `chain`, else nothing: most streams hold no secret, and there are many."""
    return b"" if raw_chain == chain else raw_chain


class _RawLine:
    """One line as it is read, from its first piece on. `size` and `ends` are right when it has been read."""

    def __init__(self, source: PieceSource, first: bytes) -> None:
        self._source = source
        self.first = first
        self.size = 0
        self.ends = False

    def is_short(self) -> bool:
        return len(self.first) < LONG_LINE_BYTES or self.first.endswith(b"\n")

    def pieces(self) -> Iterator[bytes]:
        """Without the newline."""
        piece = self.first
        while piece and not self.ends:
            self.ends = piece.endswith(b"\n")
            body = piece[:-1] if self.ends else piece
            self.size += len(body)
            yield body
            piece = b"" if self.ends else self._source.readline(LONG_LINE_BYTES)


def _add_line(entry: _Entry, line: _RawLine, before: EntryMark, cleaner: Cleaner | None) -> bytes:
    """Gives the entry what travels of the line; the chain hash over the file's lines, or nothing if they are those."""
    if cleaner is not None and line.is_short():
        (piece,) = line.pieces()
        clean = cleaner.redact_line(piece)
        entry.add(clean)
        return extend_chain(before.file_chain, [piece]) if clean is not piece or before.raw_chain else b""
    if cleaner is None and not before.raw_chain:
        for piece in line.pieces():
            entry.add(piece)
        return b""
    link = blake2b(before.file_chain, digest_size=32)

    def hashed() -> Iterator[bytes]:
        for piece in line.pieces():
            link.update(piece)
            yield piece

    for clean in hashed() if cleaner is None else cleaner.redact_pieces(hashed()):
        entry.add(clean)
    return link.digest()


def _mark_behind(
    before: EntryMark,
    entry: _Entry,
    line: _RawLine,
    stream: tuple[str, str],
    tombstones: Mapping[int, int],
    *,
    raw_chain: bytes,
) -> EntryMark:
    ordinal, chain = before.ordinal + 1, entry.chain()
    raw_chain = raw_chain or chain
    found, status = entry.uuid(), tombstones.get(ordinal)
    line_sha256 = entry.sha256() if found is None or status is not None else ""
    if status is not None:
        stone = tombstone_line(entry.size, line_sha256, found, status)
        line_sha256 = sha256(stone).hexdigest()
        chain = extend_chain(before.chain, [stone])
    entry_id = found or derived_id(*stream, ordinal, line_sha256)
    end = before.end + line.size + line.ends
    return EntryMark(ordinal, before.end, end, entry_id, found is not None, chain, line.ends, apart(raw_chain, chain))
