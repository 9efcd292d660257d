"""What the engine asks of a pusher, and what comes of it, as values."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from agent.core.privacy.rules import NO_GROUNDS, Grounds
from agent.core.transcripts.identity import Cursor
from agent.core.transcripts.session import Facts, Head, Rejected, StreamId
from agent.core.transcripts.sources import Relation
from agent.core.wire import Capabilities, Meta, Reply
from agent.delivery.privacy.permits import Permit
from agent.errors import LocalProtocolError


class TrackKey(NamedTuple):
    """One stream at one destination. Flat, since there may be 100,000."""

    destination: str
    session_id: str
    subpath: str

    @property
    def stream(self) -> StreamId:
        return StreamId(self.session_id, self.subpath)


class Leave(NamedTuple):
    """What it takes to decide whether something of a session may leave. `facts`: what is known of the session.
    `main_path`: of its main transcript, whose folders are those of the session; empty when that is not known.
    `judged`: under which rules that was decided of all before the cursor. `others`: files of the session that were
    not compared yet with those that are followed. `permit`: what the pusher made of it. `grounds`: for what the session
    was private before."""

    facts: Facts = Facts()
    main_path: str = ""
    judged: str = ""
    provider: str = "claude"
    permit: Permit | None = None
    others: tuple[str, ...] = ()
    grounds: Grounds = NO_GROUNDS

    @property
    def granted(self) -> Permit:
        """Raises LocalProtocolError before a pusher has asked for it."""
        if self.permit is None:
            raise LocalProtocolError("something would leave without a permit")
        return self.permit


class PushTask(NamedTuple):
    """Send what follows `cursor`: one batch on a bulk server, a run of entries on a base server. At most
    `max_bytes` of the file are read at once; a single line may be longer. `tombstones`: ordinal → status. `check`: see
    first that everything before the cursor is what was sent. `tail`: send also what follows the last newline, if it
    reads as an entry; nobody seems to be writing it any more. `projects`: patterns, one of which the session's
    project has to match; none: any. `retained`: path of what is held of the file; what stands in there goes first.
    `max_entry_bytes`: the largest entry that the server says to take; 0 where it says nothing."""

    key: TrackKey
    provider: str
    path: str
    cursor: Cursor
    bulk: bool
    max_bytes: int
    max_entries: int
    encoding: str | None
    tombstones: Mapping[int, int]
    leave: Leave
    check: bool = False
    tail: bool = False
    projects: tuple[str, ...] = ()
    retained: str = ""
    max_entry_bytes: int = 0


class Pushed(NamedTuple):
    """`cursor`: how far the server acknowledged. `reply`: the last answer, Accepted when all went well. `more`: whole
    lines are left. `at_fault`: entries in the batch that was answered. `tombstones`: ordinal → entry that was refused,
    and for which another was sent; those up to the cursor are stored. `redacted`: kind → how many secrets
    were replaced in what was sent."""

    key: TrackKey
    cursor: Cursor
    reply: Reply
    more: bool
    facts: Facts
    at_fault: int = 0
    tombstones: Mapping[int, Rejected] = {}
    judged: str = ""
    """Under which rules it was decided that all up to the cursor may leave."""
    redacted: Mapping[str, int] = {}


class Unreadable(NamedTuple):
    """The file can't be read now, or is no longer there."""

    key: TrackKey
    path: str
    why: str
    vanished: bool


class Rewritten(NamedTuple):
    """What stands before the cursor is not what was sent, or what follows it not what is retained of the file.
    `older`: something may be retained that was not sent."""

    key: TrackKey
    older: bool = False


class RealignTask(NamedTuple):
    """Find where `head` stands in the file, or whatever else the server holds of the stream. `spare`: the id of a new
    generation, for when it stands nowhere; empty where the server keeps no generations."""

    key: TrackKey
    path: str
    cursor: Cursor
    bulk: bool
    head: Head | None
    tombstones: Mapping[int, int]
    leave: Leave
    spare: str = ""


class How(StrEnum):
    REALIGNED = "realigned"
    ADOPTED = "adopted"
    """Another writer's entry stands last on a base server: ours follow it."""
    NEW_GENERATION = "new generation"
    REFUSED = "refused"
    """What the server holds is nowhere in the file."""


class Realigned(NamedTuple):
    """`cursor` is None when refused."""

    key: TrackKey
    cursor: Cursor | None
    how: How


class RealignFailed(NamedTuple):
    key: TrackKey
    reply: Reply


class ProbeTask(NamedTuple):
    """`upload`: the destination only takes whole files."""

    destination: str
    upload: bool = False


class Probed(NamedTuple):
    destination: str
    capabilities: Capabilities | None
    reply: Reply
    gzip: bool = False


class MetaTask(NamedTuple):
    destination: str
    session_id: str
    provider: str
    meta: Meta
    digest: str
    leave: Leave = Leave()


class MetaSent(NamedTuple):
    destination: str
    session_id: str
    provider: str
    digest: str
    reply: Reply
    stale: bool = False
    """The rules became others while it was looked at; it has to be looked at anew."""


class FileTask(NamedTuple):
    """Send a side file as a whole, unless the server has it. `bytes_per_s`: not faster than that."""

    key: TrackKey
    path: str
    bytes_per_s: float
    leave: Leave = Leave()


class UploadTask(NamedTuple):
    """Send the whole lines of a transcript as one file, to a server that takes nothing else. `tail`: as for
    `PushTask`."""

    key: TrackKey
    provider: str
    path: str
    cursor: Cursor
    gzip: bool
    leave: Leave
    projects: tuple[str, ...] = ()
    tail: bool = False


class Withheld(NamedTuple):
    """The session's project is not among those of the destination; nothing was sent."""

    key: TrackKey
    facts: Facts


class KeptBack(NamedTuple):
    """Something of a session may not leave. `certain`: it is private, and what the server has of it is to go. `under`:
    by which rules, see `Guard.under`. `blind`: nothing can tell of any session. `stale`: the rules became others while
    it was looked at, so that has to be done anew. `used`: something was asked of the server before that came out."""

    key: TrackKey
    why: str
    certain: bool
    under: str
    blind: bool
    stale: bool
    used: bool
    grounds: Grounds = NO_GROUNDS
    """What made it private."""


class DeleteTask(NamedTuple):
    """Nothing of the session is to be on the server any more."""

    destination: str
    session_id: str


class SessionDeleted(NamedTuple):
    destination: str
    session_id: str
    reply: Reply


class RestoreTask(NamedTuple):
    """The session was deleted on the server, and is to be sent again."""

    key: TrackKey
    path: str
    leave: Leave


class Restored(NamedTuple):
    key: TrackKey
    reply: Reply


class ReviewTask(NamedTuple):
    """May what was sent of a session still be there? `number`: of the look that it is part of. `paths`: its
    transcripts, the main one first. `judged`: under which rules that was decided before; empty when it has to be
    decided anew in any case."""

    number: int
    session_id: str
    paths: tuple[str, ...]
    facts: Facts
    judged: str
    provider: str
    grounds: Grounds = NO_GROUNDS


class Reviewed(NamedTuple):
    """`why` is empty for what may. `under`: by which rules, see `Guard.under`. `unread`: that can't be told, since a
    file could not be read. `stale`: as in `KeptBack`."""

    number: int
    session_id: str
    why: str
    certain: bool
    under: str
    unread: bool = False
    stale: bool = False
    grounds: Grounds = NO_GROUNDS


class FoundHeld(NamedTuple):
    """A file that an earlier life held, as `Held`; `mtime_ns` of its content."""

    name: str
    path: str
    size: int
    mtime_ns: int
    inode: int


class KeepTask(NamedTuple):
    """Hold the file at `path` for a stream under a name of ours. `ours`: that is one which was held for another."""

    stream: StreamId
    path: str
    name: str
    ours: bool = False


class Held(NamedTuple):
    """What is held: the path of ours, and its size when it was looked at. `inode`: of the file that has this name as a
    second one; 0 for a copy, which is the beginning of whatever file begins so, and which another look may find too
    short. `mtime_ns`: of the file at that look. `source`: the file that it was compared with last, empty when an
    earlier life held it."""

    stream: StreamId
    path: str
    inode: int
    size: int
    mtime_ns: int
    source: str = ""

    def holds(self, inode: int, size: int, mtime_ns: int) -> bool:
        """Whether that is all of a file which looks so: a link grows with its file, a copy has what it has. The number
        of a file says nothing of a copy: the next file may have it, and the same size."""
        return self.inode == inode if self.inode else (self.size, self.mtime_ns) == (size, mtime_ns)


class NotHeld(NamedTuple):
    """`why` is empty where nothing is wrong with the disk. `other`: the file at this path does not begin as what is
    held already."""

    stream: StreamId
    why: str
    other: str = ""


class LetGoTask(NamedTuple):
    stream: StreamId
    name: str


class LetGo(NamedTuple):
    stream: StreamId


class Look(NamedTuple):
    """What a look at a file gave, links followed."""

    size: int
    mtime_ns: int
    device: int
    inode: int

    @property
    def identity(self) -> tuple[int, int]:
        """Two names of one file have it in common, while both are there."""
        return self.device, self.inode


class Against(NamedTuple):
    """A stream that a file is compared with: the file at `path` that stands for it, or, without one, the entries that
    were sent: so many, with that chain hash over the file's lines."""

    stream: StreamId
    path: str
    entry_count: int = 0
    chain: bytes = b""


class CompareTask(NamedTuple):
    """Is the file at `path`, which claims `stream`, any of these?"""

    stream: StreamId
    path: str
    against: tuple[Against, ...]


class Compared(NamedTuple):
    """`relation`: of the file to that at `of_path`, which stands for the stream `of` (or to what was sent of it, for
    the empty path); None when that can't be told, and `why`. `look`, `of_look`: both as they were before they were
    read; None for what was not there."""

    stream: StreamId
    path: str
    look: Look | None
    of: StreamId
    of_path: str
    of_look: Look | None
    relation: Relation | None
    why: str = ""


HeldTask = KeepTask | LetGoTask
HeldOutcome = Held | NotHeld | LetGo
DiskTask = HeldTask | ReviewTask | CompareTask
DiskOutcome = HeldOutcome | Reviewed | Compared
"""These concern no destination."""


def destination_of(what: "Task | Outcome") -> str:
    if isinstance(what, (ProbeTask, Probed, MetaTask, MetaSent, DeleteTask, SessionDeleted)):
        return what.destination
    return what.key.destination


StreamTask = PushTask | FileTask | UploadTask | RealignTask | RestoreTask
StreamOutcome = Pushed | Unreadable | Rewritten | Withheld | KeptBack | Realigned | RealignFailed | Restored
Task = StreamTask | ProbeTask | MetaTask | DeleteTask
Outcome = StreamOutcome | Probed | MetaSent | SessionDeleted
