"""What the engine asks of a pusher, and what comes of it, as values."""

from collections.abc import Mapping
from typing import NamedTuple

from agent.core.identity import Cursor
from agent.core.session import Facts, Head, StreamId
from agent.core.wire import Capabilities, Meta, Reply


class TrackKey(NamedTuple):
    """One stream at one destination. Flat, since there may be 100,000."""

    destination: str
    session_id: str
    subpath: str

    @property
    def stream(self) -> StreamId:
        return StreamId(self.session_id, self.subpath)


class PushTask(NamedTuple):
    """Send what follows `cursor`: one batch on a bulk server, a run of entries on a base server. At most
    `max_bytes` of the file are read at once; a single line may be longer. `tombstones`: ordinal → status."""

    key: TrackKey
    provider: str
    path: str
    cursor: Cursor
    bulk: bool
    max_bytes: int
    max_entries: int
    encoding: str | None
    tombstones: Mapping[int, int]
    facts: Facts


class Pushed(NamedTuple):
    """`cursor`: how far the server acknowledged. `reply`: the last answer, Accepted when all went well. `more`: whole
    lines are left. `at_fault`: entries in the batch that was answered."""

    key: TrackKey
    cursor: Cursor
    reply: Reply
    more: bool
    facts: Facts
    at_fault: int = 0


class Unreadable(NamedTuple):
    """The file can't be read now, or is no longer there."""

    key: TrackKey
    why: str
    vanished: bool


class Rewritten(NamedTuple):
    """What stands before the cursor is not what was sent."""

    key: TrackKey


class RealignTask(NamedTuple):
    """Find where `head` stands in the file. Without a head the server is asked for it first."""

    key: TrackKey
    path: str
    cursor: Cursor
    bulk: bool
    head: Head | None
    tombstones: Mapping[int, int]


class Realigned(NamedTuple):
    """`cursor` None: the server's head is nowhere in the file. `foreign`: another writer's entry was adopted."""

    key: TrackKey
    cursor: Cursor | None
    foreign: bool = False


class RealignFailed(NamedTuple):
    key: TrackKey
    reply: Reply


class ProbeTask(NamedTuple):
    destination: str


class Probed(NamedTuple):
    destination: str
    capabilities: Capabilities | None
    reply: Reply


class MetaTask(NamedTuple):
    destination: str
    session_id: str
    provider: str
    meta: Meta
    digest: str


class MetaSent(NamedTuple):
    destination: str
    session_id: str
    provider: str
    digest: str
    reply: Reply


Task = PushTask | RealignTask | ProbeTask | MetaTask
Outcome = Pushed | Unreadable | Rewritten | Realigned | RealignFailed | Probed | MetaSent
