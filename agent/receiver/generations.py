"""Generations in the SQLite file: finding them, and reading one across what it shares with those before it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import NamedTuple

from agent.core.transcripts.session import Head, StreamId
from agent.core.transcripts.transcript import split_lines
from agent.errors import AgentError, DiskError, SessionDeleted
from agent.receiver.lines import RUN_BYTES, Extent, measure_prefix
from agent.receiver.store import LongEntry, Run

Connect = Callable[[], AbstractContextManager[sqlite3.Connection]]
"""A connection for one short look."""


class Generation(NamedTuple):
    """A row of `generations`. `parent` is the row that has the first `shared` entries."""

    id: int
    name: str
    entry_count: int
    size_bytes: int
    last_uuid: str | None
    chain: bytes
    last_compaction: int
    last_batch: str | None
    parent: int | None
    shared: int

    def head(self) -> Head:
        return Head(self.last_uuid, self.entry_count, self.name, self.chain.hex())


class Segment(NamedTuple):
    """The entries behind ordinal `after` up to `stop`, which lie in the runs of one generation."""

    generation: int
    after: int
    stop: int


COLUMNS = ", ".join("g." + name for name in Generation._fields)
FROM_STREAM = (
    "FROM sessions s JOIN streams t ON t.session = s.id JOIN generations g ON g.stream = t.id"
    " WHERE s.owner = ? AND s.session_id = ?"
)


def find_current(db: sqlite3.Connection, owner: str, stream: StreamId) -> Generation | None:
    query = f"SELECT {COLUMNS} {FROM_STREAM} AND t.subpath = ? AND g.id = t.current"
    row = db.execute(query, (owner, *stream)).fetchone()
    return Generation(*row) if row else None


def find_named(db: sqlite3.Connection, owner: str, stream: StreamId, name: str) -> Generation | None:
    query = f"SELECT {COLUMNS} {FROM_STREAM} AND t.subpath = ? AND g.name = ?"
    row = db.execute(query, (owner, *stream, name)).fetchone()
    return Generation(*row) if row else None


_LINEAGE = """
    WITH RECURSIVE lineage (id, parent, after, stop) AS (
        SELECT id, parent, shared, ? FROM generations WHERE id = ?
        UNION ALL
        SELECT g.id, g.parent, min(g.shared, l.after), l.after
        FROM lineage l JOIN generations g ON g.id = l.parent WHERE l.after > 0
    )
    SELECT id, after, stop FROM lineage WHERE stop > after ORDER BY after
"""
"""From a generation back to the one that has the first entry."""


def find_segments(db: sqlite3.Connection, generation: Generation) -> list[Segment]:
    """Where the entries of a generation lie, in order."""
    return [Segment(*row) for row in db.execute(_LINEAGE, (generation.entry_count, generation.id))]


class SqliteReading:
    """One generation, as `Store.read` gives it."""

    def __init__(self, connect: Connect, generation: Generation, segments: list[Segment]) -> None:
        self.head = generation.head()
        self.last_compaction = generation.last_compaction
        self._connect = connect
        self._segments = segments

    def runs(self, after: int, limit: int) -> Iterator[Run | LongEntry]:
        end = min(self.head.entry_count, after + limit)
        for generation, begin, stop in self._segments:
            at, until = max(after, begin), min(end, stop)
            while at < until:
                found = self._next(generation, at, until)
                yield found
                at = found.ordinal if isinstance(found, LongEntry) else found.first + found.entries - 1

    def extent_at(self, entries: int) -> Extent:
        """How far the first `entries` go, which are at most those of the head."""
        return measure_prefix(self, entries, self._extent_before(entries)) if entries else Extent()

    def _extent_before(self, entries: int) -> Extent:
        """As far as it is known from a run that ends before entry `entries`, whose id is asked for too."""
        with self._connect() as db:
            for generation, after, stop in reversed(self._segments):
                limit = min(entries - 1, stop)
                if after < limit and (row := db.execute(_EXTENT, (generation, limit, limit)).fetchone()):
                    return Extent(*row)
        return Extent()

    def _next(self, generation: int, after: int, end: int) -> Run | LongEntry:
        kept: list[bytes] = []
        size, last = 0, after
        place = (generation, generation, after + 1, end)
        with self._connect() as db, closing(db.execute(_RUNS, place)) as rows:
            for first, count, data, long_bytes, is_object in rows:
                if first > last + 1:
                    break
                if first + count <= after + 1:
                    continue
                if data is None:
                    if kept:
                        break
                    pieces = partial(self._parts, generation, first, long_bytes)
                    return LongEntry(first, long_bytes, bool(is_object), pieces)
                if data[-1:] != b"\n":
                    break
                kept.append(_cut(data, after + 1 - first, end + 1 - first, count))
                size += len(kept[-1])
                last = min(end, first + count - 1)
                if size >= RUN_BYTES:
                    break
        if last <= after:
            raise self._lack(generation)
        return Run(after + 1, last - after, b"".join(kept))

    def _parts(self, generation: int, ordinal: int, size: int) -> Iterator[bytes]:
        query = "SELECT data FROM parts WHERE generation = ? AND ordinal = ? AND part = ?"
        part, left = 0, size
        while left > 0:
            with self._connect() as db:
                row = db.execute(query, (generation, ordinal, part)).fetchone()
            if row is None:
                raise self._lack(generation)
            yield row[0]
            part += 1
            left -= len(row[0])

    def _lack(self, generation: int) -> AgentError:
        """Why entries are not there. What was deleted while it is read ends in an error, never as if that were all."""
        with self._connect() as db:
            if db.execute("SELECT 1 FROM generations WHERE id = ?", (generation,)).fetchone() is None:
                return SessionDeleted("the session was deleted while it was read")
        return DiskError("the receiver's database lacks entries that it counted")


_RUNS = """
    SELECT first, count, data, long_bytes, is_object FROM runs
    WHERE generation = ? AND first >=
        (SELECT first FROM runs WHERE generation = ? AND first <= ? ORDER BY first DESC LIMIT 1)
    AND first <= ? ORDER BY first
"""

_EXTENT = """
    SELECT first + count - 1, size_behind, chain_behind, compaction_behind FROM runs
    WHERE generation = ? AND first <= ? AND first + count - 1 <= ? AND chain_behind IS NOT NULL
    ORDER BY first DESC LIMIT 1
"""


def _cut(run: bytes, start: int, stop: int, count: int) -> bytes:
    """The lines of a run from index `start` up to `stop`, which may lie outside of it."""
    if start <= 0 and stop >= count:
        return run
    return b"".join(line + b"\n" for line in split_lines(run)[max(0, start) : stop])
