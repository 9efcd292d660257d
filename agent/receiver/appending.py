"""One append to the SQLite store, inside its transaction."""

import sqlite3
from collections.abc import Iterator

from agent.core.transcripts.session import StreamId
from agent.receiver.generations import Generation
from agent.receiver.lines import Extent, LongLine


class Writing:
    """One append under way. `extent` begins where the generation ends."""

    def __init__(self, db: sqlite3.Connection, stream: StreamId, at: Generation) -> None:
        self.extent = Extent(at.entry_count, at.size_bytes, at.chain, at.last_compaction)
        self._db = db
        self._stream = stream
        self._generation = at.id

    def add_run(self, run: bytes) -> None:
        first = self.extent.count + 1
        lines = self.extent.add_run(run)
        self._insert(first, lines, run)

    def add_long(self, pieces: Iterator[bytes]) -> None:
        line = self.extent.begin_long()
        ordinal = self.extent.count + 1
        for number, piece in enumerate(pieces):
            line.feed(piece)
            self._db.execute("INSERT INTO parts VALUES (?, ?, ?, ?)", (self._generation, ordinal, number, piece))
        self.extent.add_long(line)
        self._insert(ordinal, 1, None, line)

    def _insert(self, first: int, count: int, data: bytes | None, long: LongLine | None = None) -> None:
        told = (long.size, long.is_object()) if long else (None, None)
        behind = (self.extent.size, self.extent.chain, self.extent.compaction)
        self._db.execute(
            "INSERT INTO runs (generation, first, count, data, long_bytes, is_object,"
            " size_behind, chain_behind, compaction_behind) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self._generation, first, count, data, *told, *behind),
        )

    def last_id(self) -> str | None:
        return self.extent.last_id(self._stream)
