"""What the state holds, as values."""

from collections.abc import Iterable
from typing import NamedTuple

from agent.core.privacy.rules import Grounds
from agent.core.transcripts.identity import Cursor
from agent.core.transcripts.session import Facts, RejectedRow, StreamId


class TrackRow(NamedTuple):
    """One stream at one destination, as it is remembered. Facts of sessions are kept apart.
    `status`: the HTTP status that refused the stream for good, 0 for none. `inode` 0: not known. `generations`: how
    often a new one was begun for it there."""

    destination: str
    stream: StreamId
    provider: str
    path: str
    size: int
    mtime_ns: int
    state: str
    reason: str
    attempts: int
    cursor: Cursor
    inode: int = 0
    status: int = 0
    generations: int = 0


class AuditRow(NamedTuple):
    """Something that people may ask about later. `detail` holds ids, sizes, offsets and statuses only."""

    at_s: float
    destination: str
    stream: StreamId
    kind: str
    detail: str
    path: str = ""


class Changes(NamedTuple):
    """What one commit writes."""

    tracks: Iterable[TrackRow] = ()
    tombstones: Iterable[RejectedRow] = ()
    sessions: Iterable[tuple[str, Facts]] = ()
    metas: Iterable[tuple[str, str, str]] = ()
    audit: Iterable[AuditRow] = ()
    settled: Iterable[tuple[str, str]] = ()
    grounds: Iterable[tuple[str, Grounds]] = ()
