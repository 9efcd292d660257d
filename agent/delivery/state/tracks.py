"""The engine's mutable values: a stream at one destination, and a destination."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from agent.core.delivery.lifecycle import Condition, State
from agent.core.delivery.pressure import Window
from agent.core.transcripts.identity import Cursor, pack_cursor, unpack_cursor
from agent.core.transcripts.session import Head, Rejected, is_side_file
from agent.core.wire import BulkOffer, Capabilities
from agent.delivery.state.tasks import TrackKey

ENCODINGS = ("zstd", "gzip")
"""In the order we like them."""


@dataclass(slots=True)
class Track:
    """`limit`: entries in the next batch, 0 for no limit of its own. `timer`: number of the one timer that counts.
    `conflict`: the server's head as a 409 told it. `adoptions`: how often in a row it was tried again at once without
    progress; `reached`: what has to be acknowledged anew before there is any. `status`: the HTTP status that refused it
    for good, else 0. `check` and `tail`: see `PushTask`. `generations`: how often a new one was begun. `judged`: under
    which rules of privacy all before the cursor was judged. `touched`: a server may have something of it. `unheard`:
    what became of the last append is not known, so a server may have more of it than the cursor says. `resend`: entries
    that a server rejected are to go there again. Times are wall seconds; kept small, there may be 100,000."""

    provider: str
    path: str
    size: int
    mtime_ns: int
    state: State
    packed_cursor: bytes
    reason: str = ""
    attempts: int = 0
    adoptions: int = 0
    reached: int = 0
    limit: int = 0
    live: bool = False
    timer: int = 0
    retry_at_s: float = 0.0
    wished_s: float | None = None
    conflict: Head | None = None
    inode: int = 0
    status: int = 0
    check: bool = False
    tail: bool = False
    resend: bool = False
    generations: int = 0
    judged: str = ""
    touched: bool = False
    unheard: bool = False

    @property
    def cursor(self) -> Cursor:
        """A new value each time: whoever needs more than one field of it takes it once."""
        return unpack_cursor(self.packed_cursor)

    @cursor.setter
    def cursor(self, cursor: Cursor) -> None:
        self.packed_cursor = pack_cursor(cursor)


@dataclass(slots=True)
class DestinationState:
    """`compress`: worth it when the way is longer than this machine. `projects`: patterns of those it takes, none for
    all. `bulk` follows from settings and offer. `metas`: sessions whose facts are to be told, with their provider.
    `parked`: side files that wait for their session's entries. `deletes`: whether it offers that; `deletions`: private
    sessions that are to go there. `standing`: the condition as people see it, which knocking again at a closed door
    does not change. `told`: what the log said last of it. `asked_again`: something is new since the question that is
    out was asked. `acknowledged_s`: when something was taken last, 0 for never. `failing`: streams of which a request
    did not come through since anything was taken. `max_entry_bytes`: the largest entry that it says to take; 0 where it
    says nothing, None while it was not asked."""

    name: str
    url: str
    protocol: str = "auto"
    compress: bool = True
    projects: tuple[str, ...] = ()
    condition: Condition = Condition.PROBING
    standing: Condition = Condition.PROBING
    why: str = ""
    hint: str = ""
    told: str = ""
    asked_again: bool = False
    attempts: int = 0
    timer: int = 0
    retry_at_s: float = 0.0
    acknowledged_s: float = 0.0
    wished_s: float | None = None
    bulk: bool = False
    missed: bool = False
    generations: bool = False
    files: bool = False
    gzip: bool = False
    max_bytes: int = BulkOffer().max_bytes
    max_entries: int = BulkOffer().max_entries
    max_entry_bytes: int | None = None
    encoding: str | None = None
    window: Window = field(default_factory=Window)
    in_flight: int = 0
    files_in_flight: int = 0
    metas: dict[str, str] = field(default_factory=dict)
    parked: dict[str, dict[TrackKey, None]] = field(default_factory=dict)
    deletes: bool = False
    deletions: dict[str, None] = field(default_factory=dict)
    failing: set[TrackKey] = field(default_factory=set)
    _live: list[tuple[bool, int, TrackKey]] = field(default_factory=list)
    _arrivals: int = 0
    _backlog: list[tuple[int, TrackKey]] = field(default_factory=list)
    _files: deque[TrackKey] = field(default_factory=deque)

    @property
    def takes_files_only(self) -> bool:
        return self.protocol == "upload"

    def take_offer(self, capabilities: Capabilities) -> None:
        offer = capabilities.bulk if self.protocol not in ("ingress", "upload") else None
        self.bulk = offer is not None
        self.generations = self.bulk and capabilities.generations
        self.files = self.bulk and capabilities.files
        self.deletes = capabilities.delete and not self.takes_files_only
        self.max_entry_bytes = capabilities.max_entry_bytes or 0
        if offer is not None:
            self.max_bytes, self.max_entries = max(1, offer.max_bytes), max(1, offer.max_entries)
            known = [one for one in ENCODINGS if one in offer.encodings]
            self.encoding = known[0] if known and self.compress else None

    def queue(self, key: TrackKey, track: Track) -> None:
        """A stream may stand here more than once; whoever takes it looks whether it is still due."""
        if is_side_file(key.subpath):
            self._files.append(key)
        elif track.live:
            self._arrivals += 1
            heapq.heappush(self._live, (track.cursor.offset == 0, self._arrivals, key))
        else:
            heapq.heappush(self._backlog, (track.mtime_ns, key))

    def park(self, key: TrackKey) -> None:
        self.parked.setdefault(key.session_id, {})[key] = None

    def is_busy(self, tracks: Mapping[TrackKey, Track]) -> bool:
        """Whether something is asked, or is to go that did not fail before."""
        if self.condition is not Condition.RUNNING:
            return self.condition is Condition.PROBING
        if (self.bulk and self.metas) or (self.deletes and self.deletions):
            return True
        queued = chain((one[-1] for one in self._live), (one[-1] for one in self._backlog), self._files)
        return any(tracks[key].state is State.DUE and not tracks[key].attempts for key in queued)

    def next_key(self, *, live_only: bool) -> TrackKey | None:
        """Streams that grow before new ones, and both before the others; of those, what was written first: its coding
        agent deletes it first."""
        if self._live:
            return heapq.heappop(self._live)[2]
        return heapq.heappop(self._backlog)[1] if self._backlog and not live_only else None

    def next_file(self) -> TrackKey | None:
        return self._files.popleft() if self._files else None


def streams_of(
    session: str,
    destinations: Iterable[DestinationState],
    subpaths: Mapping[str, Sequence[str]],
    tracks: Mapping[TrackKey, Track],
) -> Iterator[tuple[TrackKey, Track]]:
    """Those of a session at each destination, the main one first. `subpaths`: of its other streams and side files."""
    for one in destinations:
        for subpath in ("", *subpaths.get(session, ())):
            key = TrackKey(one.name, session, subpath)
            if key in tracks:
                yield key, tracks[key]


def statuses_of(stones: Mapping[int, Rejected]) -> dict[int, int]:
    """Ordinal → HTTP status, as notes in the place of entries name it."""
    return {ordinal: one.status for ordinal, one in stones.items()}


def is_of_bulk(cursor: Cursor) -> bool:
    return cursor.generation is not None and cursor.sent_count == cursor.entry_count


def lacks_entries(track: Track) -> bool:
    """Whether it was sent one by one, which leaves out entries without a uuid, as far as it went."""
    return track.state is State.SYNCED and track.cursor.entry_count > 0 and not is_of_bulk(track.cursor)
