"""Rows as SQLite keeps them, and back."""

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from agent.core.privacy.rules import Grounds
from agent.core.transcripts.identity import Cursor
from agent.core.transcripts.session import Facts, Rejected, RejectedRow, StreamId
from agent.system.state.state_db.rows import AuditRow, TrackRow
from agent.system.state.state_db.schema import Values, naming_damage, row_sum, transaction


class Table(NamedTuple):
    select: str
    """All columns that are summed, then the sum."""
    insert: str
    """Of one row; `row` more times for more."""
    row: str
    clear: str


def _table(name: str, columns: str, order: str = "") -> Table:
    marks = f"({', '.join('?' * (columns.count(',') + 2))})"
    return Table(
        f"select {columns}, sum from {name} {order}",  # noqa: S608 - words of this page only
        f"insert or replace into {name} ({columns}, sum) values {marks}",  # noqa: S608 - the same
        marks,
        f"delete from {name}",  # noqa: S608 - the same
    )


SETTLED = _table("settled", "key, value")
TRACKS = _table(
    "tracks",
    "destination, session_id, subpath, provider, path, size, mtime_ns, state, reason, attempts,"
    " offset, entry_count, last_uuid, chain, marker, generation, sent_count, raw_chain, inode, status, generations",
)
TOMBSTONES = _table("tombstones", "destination, session_id, subpath, ordinal, status, size, most")
SESSIONS = _table("sessions", "session_id, project, title, prompt")
METAS = _table("metas", "destination, session_id, digest")
AUDIT = _table("audit", "at_s, destination, session_id, subpath, kind, detail, path", "order by seq")

GROUNDS = _table("grounds", "session_id, folders, remotes")

TABLES = (SETTLED, TRACKS, TOMBSTONES, SESSIONS, METAS, AUDIT, GROUNDS)


_ROWS = 128
"""Of 23 values at most; SQLite takes 32,766 a statement."""


OnDamage = Callable[[sqlite3.Error | None], None]
"""What SQLite says; None for a row that fails its checksum."""


def read_rows(
    db: sqlite3.Connection, table: Table, on_damage: OnDamage, values: Values = ()
) -> Iterator[tuple[Any, ...]]:
    """The rows that are as they were written. Raises nothing of SQLite."""
    try:
        with naming_damage():
            for row in db.execute(table.select, values):
                if _is_whole(row):
                    yield row[:-1]
                else:
                    on_damage(None)
    except sqlite3.Error as exc:
        on_damage(exc)


def _is_whole(row: tuple[Any, ...]) -> bool:
    try:
        return bool(row_sum(row[:-1]) == row[-1])
    except UnicodeEncodeError:
        return False


def insert_rows(db: sqlite3.Connection, table: Table, rows: Iterable[Values]) -> None:
    """Many rows a statement where there are many: at the end of each other threads get their turn, and a busy one keeps
    it for 5 ms."""
    summed = ((*row, row_sum(row)) for row in rows)
    while len(part := list(itertools.islice(summed, _ROWS))) == _ROWS:
        db.execute(table.insert + f", {table.row}" * (_ROWS - 1), list(itertools.chain.from_iterable(part)))
    db.executemany(table.insert, part)


def copy_rows(source: sqlite3.Connection, target: sqlite3.Connection, *, replace: bool) -> bool:
    """Copies all whole rows in one transaction; False when others were left out. Without `replace` what `target` holds
    besides stays, and what was settled there stays settled. Raises sqlite3.Error of `target` only."""
    damage: list[sqlite3.Error | None] = []
    with transaction(target):
        settled = [] if replace else list(read_rows(target, SETTLED, damage.append))
        for table in TABLES:
            if replace:
                target.execute(table.clear)
            insert_rows(target, table, read_rows(source, table, damage.append))
        insert_rows(target, SETTLED, settled)
    return not damage


# --- one row ----------------------------------------------------------------------------------------------------------


def encode_track(row: TrackRow) -> Values:
    path, reason = _encode_name(row.path), _encode_name(row.reason)
    numbers = (row.size, max(-_MOST, min(row.mtime_ns, _MOST)))
    start = (row.destination, *row.stream, row.provider, path, *numbers, str(row.state), reason, row.attempts)
    return (*start, *row.cursor, _encode_inode(row.inode), row.status, row.generations)


def decode_track(row: tuple[Any, ...]) -> TrackRow:
    start = (row[0], StreamId(row[1], row[2]), row[3], _decode_name(row[4]), *row[5:8], _decode_name(row[8]), row[9])
    return TrackRow._make((*start, Cursor(*row[10:18]), row[18] % _INODES, *row[19:]))


def encode_rejected(row: RejectedRow) -> Values:
    return (row.destination, *row.stream, row.ordinal, *row.entry)


def decode_rejected(row: tuple[Any, ...]) -> RejectedRow:
    return RejectedRow(row[0], StreamId(row[1], row[2]), row[3], Rejected(*row[4:]))


def encode_facts(session_id: str, facts: Facts) -> Values:
    return (session_id, *map(_encode_name, facts))


def decode_facts(row: tuple[Any, ...]) -> tuple[str, Facts]:
    return row[0], Facts(*map(_decode_name, row[1:]))


def encode_grounds(session_id: str, grounds: Grounds) -> Values:
    return (session_id, _encode_names(grounds.folders), _encode_names(grounds.remotes))


def decode_grounds(row: tuple[Any, ...]) -> tuple[str, Grounds]:
    return row[0], Grounds(_decode_names(row[1]), _decode_names(row[2]))


def encode_audit(row: AuditRow) -> Values:
    detail, path = _encode_name(row.detail), _encode_name(row.path)
    return (float(row.at_s), row.destination, *row.stream, str(row.kind), detail, path)


def decode_audit(row: tuple[Any, ...]) -> AuditRow:
    return AuditRow(row[0], row[1], StreamId(row[2], row[3]), row[4], _decode_name(row[5]), _decode_name(row[6]))


_MOST = 2**63 - 1
_INODES = 2**64
"""Inodes have no sign, SQLite's numbers do; dates of files may lie beyond the year 2262, where 63 bits of nanoseconds
end."""


def _encode_inode(inode: int) -> int:
    inode %= _INODES
    return inode - _INODES if inode > _MOST else inode


def _encode_name(text: str) -> str | bytes:
    """Names on disk are bytes, and may be no UTF-8; SQLite's texts are. What mentions such a name is kept as bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def _encode_names(names: Iterable[str]) -> str | bytes:
    """No folder that ever was holds a NUL."""
    return _encode_name("\0".join(sorted(one for one in names if "\0" not in one)))


def _decode_names(value: str | bytes) -> frozenset[str]:
    return frozenset(filter(None, _decode_name(value).split("\0")))


def _decode_name(value: str | bytes) -> str:
    return os.fsdecode(value)
