"""Where delivery of a file stands, how to tell that it is still the same file, and where a server's head lies in it."""

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from agent.core.transcripts.session import Head
from agent.core.transcripts.transcript import EMPTY_CHAIN, EntryMark

MARKER_WINDOW_BYTES = 4096
"""How much before the cursor is hashed. Identity by inode fails (ext4 reuses one at once) and so does a hash of the
first bytes (forks share them); what stands just before the cursor is what the next append depends on."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Cursor(NamedTuple):
    """How far the server has acknowledged a stream. Moves only on the server's word.

    `offset`: bytes of the file. `entry_count`: lines up to there. `last_uuid`: id of the server's last entry, in the
    server's words. `chain`: chain hash over what was sent. `marker`: see `marker_of`. `generation`: None before the
    first append. `sent_count`: how many of those entries a server holds; a base server takes no others than main
    entries with a uuid. `raw_chain`: the chain hash over the lines of the file, before secrets were replaced in them;
    empty where nothing was, so that both are one. Whether a file is still what was sent is asked of this one: what is
    replaced changes with the rules.
    """

    offset: int = 0
    entry_count: int = 0
    last_uuid: str | None = None
    chain: bytes = EMPTY_CHAIN
    marker: bytes = b""
    generation: str | None = None
    sent_count: int = 0
    raw_chain: bytes = b""

    @property
    def file_chain(self) -> bytes:
        return self.raw_chain or self.chain

    def head(self) -> Head:
        return Head(self.last_uuid, self.entry_count, self.generation, self.chain.hex())


START = Cursor()


def pack_cursor(cursor: Cursor) -> bytes:
    """A third of what a cursor takes in memory."""
    numbers, rest = cursor[:2], cursor[2:]
    return msgspec.msgpack.encode((*numbers, *map(_shorten, rest)))


def unpack_cursor(packed: bytes) -> Cursor:
    if packed == PACKED_START:
        return START
    offset, count, last_uuid, chain, marker, generation, sent_count, raw_chain = msgspec.msgpack.decode(packed)
    return Cursor(offset, count, _lengthen(last_uuid), chain, marker, _lengthen(generation), sent_count, raw_chain)


def _shorten(value: object) -> object:
    """A UUID as its 16 bytes."""
    if isinstance(value, str) and _UUID.fullmatch(value):
        return bytes.fromhex(value.replace("-", ""))
    return value


def _lengthen(value: str | bytes | None) -> str | None:
    if not isinstance(value, bytes):
        return value
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


PACKED_START = pack_cursor(START)


def marker_of(before: bytes) -> bytes:
    """Hash of the last `MARKER_WINDOW_BYTES` of `before`, the bytes that end at a cursor's offset."""
    return blake2b(before[-MARKER_WINDOW_BYTES:], digest_size=16).digest() if before else b""


class Place(NamedTuple):
    """A position behind an entry of a file: entries and bytes up to there, and the chain hash over them; see `Cursor`
    for `raw_chain`."""

    entry_count: int
    offset: int
    chain: bytes
    raw_chain: bytes = b""


def place_behind(mark: EntryMark) -> Place:
    return Place(mark.ordinal, mark.end, mark.chain, mark.raw_chain)


BEGINNING = Place(0, 0, EMPTY_CHAIN)


class Survey:
    """One walk over a file: which of some heads stand in it, and places to compare it with another history.

    `best`: the head with the most entries on which both ends agree, and where it stands; None when there is none.
    """

    MOST_PLACES = 1 << 16

    def __init__(self, marks: Iterable[EntryMark], heads: Iterable[Head]) -> None:
        wanted: dict[int, list[Head]] = {}
        for head in heads:
            wanted.setdefault(head.entry_count, []).append(head)
        self.best: tuple[Head, Place] | None = next(((head, BEGINNING) for head in wanted.get(0, ())), None)
        self._places: list[Place] = []
        self._stride = 1
        for mark in marks:
            place = place_behind(mark)
            for head in wanted.get(mark.ordinal, ()):
                if _agrees(mark, head):
                    self.best = (head, place)
            self._keep(place)

    def _keep(self, place: Place) -> None:
        if place.entry_count % self._stride:
            return
        self._places.append(place)
        if len(self._places) == self.MOST_PLACES:
            del self._places[::2]
            self._stride *= 2

    def places_up_to(self, entry_count: int) -> list[Place]:
        """Places in order, none behind `entry_count`: each of a short file, evenly spread ones of a long file."""
        return [place for place in self._places if place.entry_count <= entry_count]


def _agrees(mark: EntryMark, head: Head) -> bool:
    if head.chain_hash is not None:
        return mark.chain.hex() == head.chain_hash
    return mark.entry_id == head.last_uuid


class BasePlaces(NamedTuple):
    """Where a base server's last uuid stands locally: each place with its rank among the entries with a uuid
    (1-based). Real files repeat uuids, so there may be several."""

    places: list[tuple[int, EntryMark]]

    def choose(self, offset: int, stored_count: int | None) -> tuple[int, EntryMark]:
        """The place to go on behind; there must be one. Among several, `stored_count` (how many entries with a uuid
        the server holds) decides; without it the first at or after `offset`, else the nearest before."""
        if len(self.places) > 1 and stored_count is not None:
            for place in self.places:
                if place[0] == stored_count:
                    return place
        ahead = next((place for place in self.places if place[1].start >= offset), None)
        return ahead or self.places[-1]


def stored_prefix(marks: Iterable[EntryMark], stored: Sequence[str]) -> tuple[Place, int]:
    """Behind the longest beginning of a file whose entries a base server holds in that order, whatever others wrote
    between them; and how many of those it holds. `stored`: uuids as the server has them."""
    place, rank, at = BEGINNING, 0, 0
    for mark in marks:
        if mark.has_uuid:
            while at < len(stored) and stored[at] != mark.entry_id:
                at += 1
            if at == len(stored):
                break
            at, rank = at + 1, rank + 1
        place = place_behind(mark)
    return place, rank


def find_base_places(marks: Iterable[EntryMark], last_uuid: str) -> BasePlaces:
    places, rank = [], 0
    for mark in marks:
        rank += mark.has_uuid
        if mark.has_uuid and mark.entry_id == last_uuid:
            places.append((rank, mark))
    return BasePlaces(places)
