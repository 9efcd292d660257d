"""One append to the SQLite store, inside its transaction."""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from agent.core.session import Head, StreamId
from agent.core.transcript import derived_id, extend_chain, split_lines
from agent.receiver.lines import LongLine, entry_id, last_compaction


class Generation(NamedTuple):
    """A row of `generations`, as far as appends and readers need it."""

    id: int
    name: str
    entry_count: int
    size_bytes: int
    last_uuid: str | None
    chain: bytes
    last_compaction: int
    last_batch: str | None

    def head(self) -> Head:
        return Head(self.last_uuid, self.entry_count, self.name, self.chain.hex())


class Writing:
    """One append under way. The counts begin where the generation ends."""

    def __init__(self, db: sqlite3.Connection, stream: StreamId, at: Generation) -> None:
        self.count, self.size, self.chain, self.compaction = (
            at.entry_count,
            at.size_bytes,
            at.chain,
            at.last_compaction,
        )
        self._db = db
        self._stream = stream
        self._generation = at.id
        self._last: bytes | LongLine = b""

    def add_run(self, run: bytes) -> None:
        lines = split_lines(run)
        self._db.execute(
            "INSERT INTO runs (generation, first, count, data) VALUES (?, ?, ?, ?)",
            (self._generation, self.count + 1, len(lines), run),
        )
        self.chain = extend_chain(self.chain, lines)
        if (boundary := last_compaction(run, lines)) is not None:
            self.compaction = self.count + 1 + boundary
        self.count += len(lines)
        self.size += len(run)
        self._last = lines[-1]

    def add_long(self, pieces: Iterator[bytes]) -> None:
        line = LongLine(self.chain)
        self.count += 1
        for number, piece in enumerate(pieces):
            line.feed(piece)
            self._db.execute("INSERT INTO parts VALUES (?, ?, ?, ?)", (self._generation, self.count, number, piece))
        self._db.execute(
            "INSERT INTO runs (generation, first, count, long_bytes, is_object) VALUES (?, ?, 1, ?, ?)",
            (self._generation, self.count, line.size, line.is_object()),
        )
        self.chain = line.chain()
        self.size += line.size + 1
        self._last = line

    def last_id(self) -> str:
        """Only the last line of a batch is parsed: nothing else of it becomes a head."""
        last = self._last
        if isinstance(last, bytes):
            return entry_id(*self._stream, self.count, last)
        return last.uuid() or derived_id(*self._stream, self.count, last.sha256())
