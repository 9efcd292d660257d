"""The engine's mutable values: a stream at one destination, and a destination."""

from collections import deque
from dataclasses import dataclass, field

from agent.core.identity import Cursor
from agent.core.lifecycle import Condition, State
from agent.core.session import Head
from agent.core.wire import BulkOffer, Capabilities
from agent.daemon.tasks import TrackKey

ENCODINGS = ("zstd", "gzip")
"""In the order we like them."""


@dataclass(slots=True)
class Track:
    """`limit`: entries in the next batch, 0 for no limit of its own. `timer`: number of the one timer that counts.
    `conflict`: the server's head as a 409 told it. Times are wall seconds; kept small, there may be 100,000."""

    provider: str
    path: str
    size: int
    mtime_ns: int
    state: State
    cursor: Cursor
    reason: str = ""
    attempts: int = 0
    adoptions: int = 0
    limit: int = 0
    live: bool = False
    timer: int = 0
    retry_at_s: float = 0.0
    wished_s: float | None = None
    conflict: Head | None = None


@dataclass(slots=True)
class DestinationState:
    """`compress`: worth it when the way is longer than this machine. `bulk` follows from settings and offer.
    `metas`: sessions whose facts are to be told, with their provider."""

    name: str
    url: str
    protocol: str = "auto"
    compress: bool = True
    condition: Condition = Condition.PROBING
    why: str = ""
    attempts: int = 0
    timer: int = 0
    retry_at_s: float = 0.0
    wished_s: float | None = None
    bulk: bool = False
    max_bytes: int = BulkOffer().max_bytes
    max_entries: int = BulkOffer().max_entries
    encoding: str | None = None
    metas: dict[str, str] = field(default_factory=dict)
    _live: deque[TrackKey] = field(default_factory=deque)
    _backlog: deque[TrackKey] = field(default_factory=deque)

    def take_offer(self, capabilities: Capabilities) -> None:
        offer = capabilities.bulk if self.protocol != "ingress" else None
        self.bulk = offer is not None
        if offer is not None:
            self.max_bytes, self.max_entries = max(1, offer.max_bytes), max(1, offer.max_entries)
            known = [one for one in ENCODINGS if one in offer.encodings]
            self.encoding = known[0] if known and self.compress else None

    def queue(self, key: TrackKey, track: Track) -> None:
        (self._live if track.live else self._backlog).append(key)

    def is_busy(self) -> bool:
        if self.condition is Condition.RUNNING:
            return bool(self._live or self._backlog or (self.bulk and self.metas))
        return self.condition is Condition.PROBING

    def next_key(self, *, live_only: bool) -> TrackKey | None:
        if self._live:
            return self._live.popleft()
        return self._backlog.popleft() if self._backlog and not live_only else None
