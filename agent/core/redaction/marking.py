"""Marks in place of secrets, so that what is JSON stays the same JSON but for its strings."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

from agent.core.redaction.escapes import undo_pairs
from agent.core.redaction.finding import Found, Searcher

DENSE = "too-many"
"""The kind of a text with so many secrets that they can't be told apart in time."""

_MARK = re.compile(rb"\[redacted:[a-z0-9-]{1,40}:[0-9a-f]{8}\]")
_LEFT_OVER_BYTES = 8
"""What a match has beside an older mark inside of it goes too, unless it is shorter."""

_JSON = re.compile(rb"\s*[\[{]\s*[\"\[{}\]]")
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_BETWEEN_STRINGS = re.compile(rb"(?:[\s\d:,{}\[\]+.eE-]|true|false|null)*")
_TEXT_BLOCK = re.compile(rb'"text"\s*:\s*"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_NEXT_BLOCK_BYTES = 300
"""Blocks of text further apart than that are no neighbours."""

_KEY_NOISE = re.compile(rb"\\\\[nrt]|[^A-Za-z0-9+/=]")
"""What stands between the lines of a key, which may be anything."""

_ID_NAMES = (
    rb"(?:uuid|[a-z]+Uuid|[a-zA-Z]*(?:session|message|request|prompt|agent|task|run|parent|toolUse|batch)_?[iI][dD]"
    rb"|tool_use_id|toolUseID|id|type|subtype|role|timestamp|version)"
)
_ID_BEFORE = re.compile(rb'(?<!\\)\\*+"' + _ID_NAMES + rb'\\*+"\s*:\s*\\*+"([^"\\]*)\Z')
_ID = re.compile(
    rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?:msg|toolu|srvtoolu|req|call|resp|evt|session|chatcmpl)"
    rb"[_-][A-Za-z0-9_-]{8,64}|[0-9a-f]{6,64}|[A-Za-z][A-Za-z_-]{0,40}|[0-9][0-9TZ:.+ -]{0,40}"
    rb"|\d+\.\d+\.\d+[A-Za-z0-9.+-]{0,30}"
)
_ID_BYTES = 240
_DENSE_STRING = re.compile(
    rb'("(?:' + _ID_NAMES + rb"|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    rb'|(?:msg|toolu|req)_[A-Za-z0-9]{10,40}|[a-z]{0,12})")|"(?:[^"\\]++|\\.)*+("|\\?\Z)',
    re.DOTALL,
)


class Edit(NamedTuple):
    start: int
    end: int
    new: bytes
    kind: str


class Place(NamedTuple):
    """How a piece of text stands in what surrounds it. `is_json`: only what is inside of strings may change. `inside`:
    it begins inside of one. Before `since` it has left already, and behind `until` (None: its end) it is looked at
    again."""

    is_json: bool
    inside: bool = False
    since: int = 0
    until: int | None = None


def is_json_like(text: bytes) -> bool:
    """Whether it begins as a JSON object or array does."""
    return _JSON.match(text) is not None


def structural_quotes(text: bytes) -> int:
    """The quotes that begin or end a string."""
    if b"\\" in text:
        text = undo_pairs(text).replace(b'\\"', b"")
    return text.count(b'"')


class Marker:
    def __init__(self, searcher: Searcher, key: bytes) -> None:
        self._searcher = searcher
        self._key = blake2b(key, digest_size=32).digest()

    def edits(self, raw: bytes, hits: Sequence[int], place: Place) -> list[Edit]:
        """What to replace in `raw`, in order, without overlaps. `hits`: what the searcher's screen said of it."""
        found, dense = self._searcher.find(raw, hits, escaped=place.is_json)
        if dense:
            return self._dense(raw, place)
        if place.is_json and self._searcher.blocks_signal in hits:
            found = sorted(found + self._across_blocks(raw), key=lambda one: (one.start, -one.end))
        marks = [match.span() for match in _MARK.finditer(raw)] if b"[redacted:" in raw else []
        quotes = _Quotes(raw, place)
        edits: list[Edit] = []
        done = 0
        for one in found:
            start = max(one.start, done)
            if start >= one.end or (place.is_json and _is_id(raw, one.start, one.end)):
                continue
            for part in _outside(start, one.end, marks):
                edits += [Edit(*span, self._mark(one), one.kind) for span in quotes.split(*part)]
            done = one.end
        return edits

    def _mark(self, one: Found) -> bytes:
        text = _KEY_NOISE.sub(b"", one.text) if one.kind == "private-key" else one.text
        name = blake2b(text, key=self._key, digest_size=4).hexdigest()
        return f"user-{name}".encode() if one.kind == "home" else f"[redacted:{one.kind}:{name}]".encode()

    def _across_blocks(self, raw: bytes) -> list[Found]:
        """Secrets that begin in one block of text and end in a later one."""
        found: list[Found] = []
        if self._searcher.screen(b"".join(_TEXT_BLOCK.findall(raw))) is None:
            return found
        for blocks in _neighbours(raw):
            joined = b"".join(raw[start:end] for start, end in blocks)
            hits = self._searcher.screen(joined)
            if hits is None:
                continue
            places = [0, *accumulate(end - start for start, end in blocks)]
            for one in self._searcher.find(joined, hits, escaped=True)[0]:
                first, last = bisect_right(places, one.start) - 1, bisect_left(places, one.end) - 1
                for number in range(first, last + 1) if last > first else ():
                    begin, shift = blocks[number][0], places[number]
                    part = (max(one.start, shift) - shift, min(one.end, places[number + 1]) - shift)
                    if part[0] < part[1]:
                        found.append(Found(begin + part[0], begin + part[1], one.kind, one.text))
        return found

    def _dense(self, raw: bytes, place: Place) -> list[Edit]:
        """All text, but for what can be told to be an id."""
        since, until = place.since, len(raw) if place.until is None else place.until
        text = raw[since:until]
        mark = self._mark(Found(since, until, DENSE, text))
        if not place.is_json:
            return [Edit(since, until, mark, DENSE)]
        inside = (structural_quotes(raw[:since]) + place.inside) % 2
        new = _DENSE_STRING.sub(lambda match: match[1] or b'"' + mark + match[2], b'"' * inside + text)
        return [Edit(since, until, new[inside:], DENSE)]


def _neighbours(raw: bytes) -> Iterator[list[tuple[int, int]]]:
    """Where the texts of blocks stand, those of one list of blocks together."""
    row: list[tuple[int, int]] = []
    for match in _TEXT_BLOCK.finditer(raw):
        between = raw[row[-1][1] : match.start()] if row else b""
        if row and (len(between) > _NEXT_BLOCK_BYTES or b"}" not in between or b"]" in between):
            if len(row) > 1:
                yield row
            row = []
        row.append(match.span(1))
    if len(row) > 1:
        yield row


def _outside(start: int, end: int, marks: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What of a span is not a mark already."""
    number = max(0, bisect_left(marks, (start, 0)) - 1)
    whole = True
    while number < len(marks) and marks[number][0] < end:
        begin, stop = marks[number]
        if stop > start:
            whole = False
            if begin - start >= _LEFT_OVER_BYTES:
                yield start, begin
            start = stop
        number += 1
    if end - start >= (1 if whole else _LEFT_OVER_BYTES):
        yield start, end


def _is_id(raw: bytes, start: int, end: int) -> bool:
    """Whether the span is within an id, a time or a type: of that name, and looking like one."""
    lead = raw[max(0, start - _ID_BYTES) : start]
    before = _ID_BEFORE.search(lead)
    if before is None or end - start > _ID_BYTES:
        return False
    rest = re.split(rb'[\\"]', raw[start : end + _ID_BYTES], maxsplit=1)[0]
    return start + len(rest) >= end and _ID.fullmatch(before[1] + rest) is not None


class _Quotes:
    """Where strings are, for spans that are asked for in order."""

    def __init__(self, raw: bytes, place: Place) -> None:
        self._raw = raw
        self._is_json = place.is_json
        self._at, self._inside = 0, place.inside

    def split(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a span that may be replaced without breaking JSON around."""
        if not self._is_json:
            yield start, end
            return
        at = start
        for part in self._parts(start, end):
            if part and (self._is_inside(at) or not _BETWEEN_STRINGS.fullmatch(part)):
                yield at, at + len(part)
            at += len(part) + 1

    def _parts(self, start: int, end: int) -> list[bytes]:
        """The span, cut at quotes that no backslash stands before."""
        text = self._raw[start:end]
        if b'"' not in text:
            return [text]
        hidden = _ESCAPE.sub(lambda match: b"." * len(match[0]), text) if b"\\" in text else text
        return [text[at:to] for at, to in pairwise_cuts(hidden)]

    def _is_inside(self, at: int) -> bool:
        self._inside ^= structural_quotes(self._raw[self._at : at]) % 2 == 1
        self._at = at
        return self._inside


def pairwise_cuts(text: bytes) -> Iterator[tuple[int, int]]:
    """Where the parts of a text between its quotes begin and end."""
    at = 0
    for part in text.split(b'"'):
        yield at, at + len(part)
        at += len(part) + 1
