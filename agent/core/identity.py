"""Where delivery of a file stands, how to tell that it is still the same file, and where a server's head lies in it."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from agent.core.session import Head
from agent.core.transcript import EMPTY_CHAIN, EntryMark

MARKER_WINDOW_BYTES = 4096
"""How much before the cursor is hashed. Identity by inode fails (ext4 reuses one at once) and so does a hash of the
first bytes (forks share them); what stands just before the cursor is what the next append depends on."""


class Cursor(NamedTuple):
    """How far the server has acknowledged a stream. Moves only on the server's word.

    `offset`: bytes of the file. `entry_count`: lines up to there. `last_uuid`: id of the server's last entry, in the
    server's words. `chain`: chain hash over what was sent. `marker`: see `marker_of`. `generation`: None before the
    first append. `sent_count`: how many of those entries a server holds; a base server takes no others than main
    entries with a uuid.
    """

    offset: int = 0
    entry_count: int = 0
    last_uuid: str | None = None
    chain: bytes = EMPTY_CHAIN
    marker: bytes = b""
    generation: str | None = None
    sent_count: int = 0

    def head(self) -> Head:
        return Head(self.last_uuid, self.entry_count, self.generation, self.chain.hex())


START = Cursor()


def marker_of(before: bytes) -> bytes:
    """Hash of the last `MARKER_WINDOW_BYTES` of `before`, the bytes that end at a cursor's offset."""
    return blake2b(before[-MARKER_WINDOW_BYTES:], digest_size=16).digest() if before else b""


def find_head(marks: Iterable[EntryMark], head: Head) -> EntryMark | None:
    """The local entry at which a bulk server's non-empty `head` stands, if both ends agree on all up to there."""
    for mark in marks:
        if mark.ordinal == head.entry_count:
            if head.chain_hash is not None:
                return mark if mark.chain.hex() == head.chain_hash else None
            return mark if mark.entry_id == head.last_uuid else None
    return None


class BasePlaces(NamedTuple):
    """Where a base server's last uuid stands locally: each place with its rank among the entries with a uuid
    (1-based). Real files repeat uuids, so there may be several."""

    places: list[tuple[int, EntryMark]]

    def choose(self, offset: int, stored_count: int | None) -> EntryMark | None:
        """The place to go on behind. With several, `stored_count` (how many entries the server holds) decides;
        without it the first at or after `offset`, else the nearest before."""
        if len(self.places) > 1 and stored_count is not None:
            for rank, mark in self.places:
                if rank == stored_count:
                    return mark
        ahead = next((mark for _, mark in self.places if mark.start >= offset), None)
        return ahead or (self.places[-1][1] if self.places else None)


def find_base_places(marks: Iterable[EntryMark], last_uuid: str) -> BasePlaces:
    places, rank = [], 0
    for mark in marks:
        rank += mark.has_uuid
        if mark.has_uuid and mark.entry_id == last_uuid:
            places.append((rank, mark))
    return BasePlaces(places)
