"""What `status` tells, as values: filled by the engine's report, or from the state when no daemon runs.

`COUNTED` says as what each stream enters the sums, `OPEN` what may stand against "synced". Whoever tells of numbers
(`status`, `doctor`, `try`, `push`, `sessions verify`, the control socket) takes them from here.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from agent.core.delivery.lifecycle import UNSENT, State
from agent.core.transcripts.session import PROJECT_UNKNOWN, TOO_LARGE, StreamId, is_side_file

SCHEMA = 1
"""Version of the JSON that scripts read; grows when a field changes its meaning or goes."""

OWED = 1
"""In the place of a status: what the server may have of a private session is still to be deleted there."""

KEPT = 2
"""In the place of a status: it is private, and no server has anything of it."""

MAYBE_THERE = 3
"""In the place of a status: its file is gone, and a server may have something of it that it never acknowledged."""

LOST = "its file went away before all of it was sent"
"""As the reason of a stream that is gone: what was seen in its file and not sent is nowhere any more."""

DELETED_HERE = 204
"""In the place of a status: deleted there because it is private; to be restored before anything is sent again."""

DELETED_THERE = 410

MOST_NAMED = 20
"""Files that are not followed, one line each."""


class Open(StrEnum):
    """What is not proven to be on a server although nobody wants it to stay here; by kind."""

    UNSENT = "unsent"
    COMPARED_AGAIN = "compared_again"
    REFUSED = "refused"
    NO_PLACE = "no_place"
    NO_PLACE_ENTRIES = "no_place_entries"
    REJECTED_ENTRIES = "rejected_entries"
    TOO_LARGE_ENTRIES = "too_large_entries"
    DELETED_THERE = "deleted_there"
    LOST = "lost"
    TO_DELETE = "to_delete"
    UNREAD = "unread"
    UNDECIDED = "undecided"
    UNFOLLOWED = "unfollowed"
    NO_SERVER = "no_server"


class OpenRow(NamedTuple):
    """How a kind is told: `one` of it, or `many` with their number in the place of `{}`. `hint`: the next command.
    `forbids`: nothing is "synced", "100 %" or verified while there is any. `warns`: `status` tells it among its
    problems; False where a line of its own tells it already."""

    one: str
    many: str
    hint: str = ""
    forbids: bool = True
    warns: bool = True


OPEN: Mapping[Open, OpenRow] = {
    Open.UNSENT: OpenRow("1 not sent yet", "{} not sent yet", "transcriptd status", warns=False),
    Open.COMPARED_AGAIN: OpenRow(
        "1 is compared again with what was sent", "{} are compared again with what was sent", warns=False
    ),
    Open.REFUSED: OpenRow("1 refused by a server", "{} refused by a server", "transcriptd retry", warns=False),
    Open.NO_PLACE: OpenRow(
        "1 has no place on this kind of server", "{} have no place on this kind of server", warns=False
    ),
    Open.NO_PLACE_ENTRIES: OpenRow(
        "1 entry has no place on this kind of server", "{} entries have no place on this kind of server", warns=False
    ),
    Open.REJECTED_ENTRIES: OpenRow(
        "1 rejected entry: a note stands in its place on the server",
        "{} rejected entries: notes stand in their place on the server",
        "transcriptd retry",
        warns=False,
    ),
    Open.TOO_LARGE_ENTRIES: OpenRow(
        "1 entry is larger than its server takes: a note stands in its place there",
        "{} entries are larger than their server takes: notes stand in their place there",
        warns=False,
    ),
    Open.DELETED_THERE: OpenRow(
        "1 was deleted on the server", "{} were deleted on the server", "transcriptd sessions list", warns=False
    ),
    Open.LOST: OpenRow(
        "1 file went away before all of it was sent",
        "{} files went away before all of them was sent",
        "transcriptd audit --kind lost",
        warns=False,
    ),
    Open.TO_DELETE: OpenRow(
        "1 private session is still on a server", "{} private sessions are still on a server", warns=False
    ),
    Open.UNREAD: OpenRow(
        "1 folder or file could not be looked into",
        "{} folders and files could not be looked into",
        "transcriptd doctor",
        warns=False,
    ),
    Open.UNDECIDED: OpenRow(
        "1 stays here until it is known where its session worked",
        "{} stay here until it is known where their sessions worked",
        "transcriptd private list",
        warns=False,
    ),
    Open.UNFOLLOWED: OpenRow(
        "1 file that may be a transcript is not followed",
        "{} files that may be transcripts are not followed",
        "transcriptd doctor",
        warns=False,
    ),
    Open.NO_SERVER: OpenRow(
        "there is no server to send to", "there is no server to send to", "transcriptd login URL", warns=False
    ),
}


class Counted(NamedTuple):
    """As what streams in a state enter the sums. `here`: on disk. `due`: in the whole of the per cent, since it is to
    be on the server. `there`: what was acknowledged is on the server, and counts for the per cent where it is `due`.
    `open`: as what it stands against "synced"; None for nothing."""

    here: bool
    due: bool
    there: bool
    open: Open | None


_ON_ITS_WAY = Counted(here=True, due=True, there=True, open=Open.UNSENT)

COUNTED: Mapping[State, Counted] = {
    **dict.fromkeys(sorted(UNSENT), _ON_ITS_WAY),
    State.SYNCED: Counted(here=True, due=True, there=True, open=None),
    State.PRIVATE: Counted(here=True, due=False, there=True, open=None),
    State.REFUSED: Counted(here=True, due=True, there=True, open=Open.REFUSED),
    State.DELETED_ON_SERVER: Counted(here=True, due=True, there=False, open=Open.DELETED_THERE),
    State.GONE: Counted(here=False, due=False, there=True, open=None),
}


def describe_open(found: Mapping[str, int], *, warnings: bool = False) -> list[tuple[str, str]]:
    """What is open, in words, each with the next command. `warnings`: only what no other line of `status` tells. A kind
    that a newer version added is told by its name."""
    told = []
    for name, number in found.items():
        row = OPEN[Open(name)] if name in OPEN else OpenRow("1 {name}", "{} {name}", "transcriptd status")
        if number and (row.warns or not warnings):
            words = row.one if number == 1 else row.many.replace("{}", f"{number:,}")
            told.append((words.replace("{name}", name.replace("_", " ")), row.hint))
    return told


def forbids_synced(found: Mapping[str, int]) -> bool:
    return any(number and (name not in OPEN or OPEN[Open(name)].forbids) for name, number in found.items())


class StreamLine(msgspec.Struct, frozen=True):
    """One stream or side file at one destination. Sizes in bytes, times in wall seconds; `retry_at_s` None unless it
    waits. `status`: the HTTP status that refused it for good. `held`: it stays deliverable if its file is deleted.
    `generations`: how often a new one was begun for it there, because file and server differed. `rejected`: HTTP
    status → entries that it refused there, and that notes stand for. `too_large`: those of them that are larger than it
    says to take, by size, each with that limit."""

    destination: str
    session_id: str
    subpath: str
    path: str
    state: str
    size: int
    sent_bytes: int
    entries: int
    sent_entries: int
    mtime_s: float
    reason: str = ""
    retry_at_s: float | None = None
    generation: str | None = None
    status: int = 0
    held: bool = False
    generations: int = 0
    rejected: Mapping[int, int] = {}
    too_large: Sequence[tuple[int, int]] = ()


class DestinationLine(msgspec.Struct, frozen=True):
    """How it stands with one server. `protocol`: bulk, ingress, upload, or empty while unknown. `token`: where it comes
    from, in the words of the settings. `acknowledged_s`: when it last said that it has something; None when it never
    did. `deletes`: whether it deletes sessions that somebody wants forgotten; None while that is not known."""

    name: str
    url: str
    condition: str
    protocol: str = ""
    why: str = ""
    retry_at_s: float | None = None
    token: str = ""
    acknowledged_s: float | None = None
    deletes: bool | None = None


class Counts(msgspec.Struct, frozen=True):
    """Streams and side files by state, and what they hold, as `COUNTED` says. `not_addressable`: entries that a base
    server has no place for. `rejected`: why servers refused single entries, for which notes stand there → how many.
    `held`: files that stay deliverable when their coding agent deletes them. `generations`: how often a new one was
    begun, by all streams at all destinations. `refused`, `waiting`: why streams are not sent, or not yet → how many.
    `next_try_s`: the earliest time at which something is tried again. `kept_bytes`: of the files that are held.
    `redactions`: secrets replaced so far. `bytes` of what is to be on servers and `sent_bytes` of what of it is there
    count a file once for each destination, `disk_bytes` once. Where a base server left entries out, `sent_bytes` is the
    file's size by the share of entries that it has."""

    sessions: int = 0
    streams: int = 0
    files: int = 0
    held: int = 0
    states: dict[str, int] = {}
    bytes: int = 0
    sent_bytes: int = 0
    entries: int = 0
    not_addressable: int = 0
    generations: int = 0
    refused: dict[str, int] = {}
    waiting: dict[str, int] = {}
    next_try_s: float | None = None
    kept_bytes: int = 0
    redactions: int = 0
    disk_bytes: int = 0
    rejected: dict[str, int] = {}


class Status(msgspec.Struct, frozen=True):
    """`running` False: nobody is at work, and this is what the state remembers. `problems` have the two parts of an
    error: what is wrong, and the next command. `unread`: folders and files that could not be looked into.
    `withheld`: why sessions stay here → how many. `to_delete`: private sessions that servers may still have. `paused`:
    why nothing is sent, in the words of `lifecycle.PauseReason`, empty when it is; `paused_until_s` None without an
    end. `restarts`: unclean ends within the last hour. `agents`: folder that is watched → whose transcripts it has.
    `open`: kind (`Open`) → how many; with nothing in it, all that is to be on servers is there."""

    schema: int
    version: str
    running: bool
    destinations: Sequence[DestinationLine]
    counts: Counts
    pid: int | None = None
    since_s: float | None = None
    watching: Sequence[str] = ()
    polling: Sequence[str] = ()
    held_back: int = 0
    unread: int = 0
    oldest_unsent_s: float | None = None
    problems: Sequence[tuple[str, str]] = ()
    withheld: dict[str, int] = {}
    to_delete: int = 0
    paused: str = ""
    paused_until_s: float | None = None
    restarts: int = 0
    agents: dict[str, str] = {}
    open: dict[str, int] = {}

    @property
    def synced(self) -> bool:
        """All that is to be on servers is there, and nothing is here that could not be looked at."""
        return not self.unread and not self.to_delete and not forbids_synced(self.open)

    @property
    def share(self) -> float | None:
        """How much of what is to be on servers is there, in per cent; None when there is nothing of the kind. 100 only
        when nothing is open."""
        if self.counts.bytes == 0:
            return None
        share = 100 * self.counts.sent_bytes / self.counts.bytes
        return share if share < 99.9 or self.synced else 99.9


def describe_lost_home(variable: str, folder: str) -> tuple[str, str]:
    """A folder that the environment names and that is not there, as one of `problems`."""
    return f"{variable} names {folder}, which is not there", f"set {variable} right, then transcriptd service install"


def describe_unfollowed(files: Sequence[tuple[str, str]], more: int = 0) -> list[tuple[str, str]]:
    """Files that are not followed, each with its reason, as `problems`; beyond a few only how many."""
    found = [(f"{path} is not followed: {why}", "") for path, why in files[:MOST_NAMED]]
    more += max(0, len(files) - MOST_NAMED)
    return found + ([(f"{more:,} more files are not followed", "transcriptd sessions verify --json")] if more else [])


def count_streams(lines: Sequence[StreamLine]) -> Counts:
    states: dict[str, int] = {}
    for line in lines:
        states[line.state] = states.get(line.state, 0) + 1
    here = [line for line in lines if COUNTED[State(line.state)].here]
    there = [line for line in lines if COUNTED[State(line.state)].there]
    due = list(_due(lines))
    return Counts(
        sessions=len({line.session_id for line in here}),
        streams=len({StreamId(line.session_id, line.subpath) for line in here if not is_side_file(line.subpath)}),
        files=len({StreamId(line.session_id, line.subpath) for line in here if is_side_file(line.subpath)}),
        held=len({StreamId(line.session_id, line.subpath) for line in lines if line.held}),
        states=states,
        bytes=sum(max(line.size, 0) for line in due),
        sent_bytes=sum(map(_there_bytes, due)),
        entries=sum(line.entries for line in there),
        not_addressable=sum(line.entries - line.sent_entries for line in there),
        generations=sum(line.generations for line in lines),
        refused=count_reasons(lines, State.REFUSED),
        waiting=count_reasons(lines, State.WAITING),
        next_try_s=min((line.retry_at_s for line in lines if line.retry_at_s is not None), default=None),
        kept_bytes=sum({line.path: max(line.size, 0) for line in lines if line.held}.values()),
        disk_bytes=sum({(line.session_id, line.subpath): max(line.size, 0) for line in here}.values()),
        rejected=count_rejected(there) | _too_large_reasons(there),
    )


def count_open(lines: Sequence[StreamLine]) -> dict[str, int]:
    """Kind → how many, of what is known of streams; nothing for kinds of which there is none."""
    found: dict[str, int] = {}

    def add(kind: Open | None, number: int = 1) -> None:
        if kind is not None and number:
            found[kind] = found.get(kind, 0) + number

    for line in _due(lines):
        add(_open_as(line))
    for line in lines:
        add(Open.UNDECIDED if is_undecided(line) else None)
        if COUNTED[State(line.state)].there:
            add(Open.NO_PLACE_ENTRIES, line.entries - line.sent_entries)
            add(Open.REJECTED_ENTRIES, sum(line.rejected.values()) - len(line.too_large))
            add(Open.TOO_LARGE_ENTRIES, len(line.too_large))
    add(Open.LOST, len(count_lost(lines)))
    add(Open.TO_DELETE, sum(count_to_delete(lines).values()))
    return found


def is_undecided(line: StreamLine) -> bool:
    """Whether it stays here only because a fact is missing that may still come. No rule names it."""
    return line.state == State.PRIVATE and line.reason == PROJECT_UNKNOWN


def _due(lines: Sequence[StreamLine]) -> Iterable[StreamLine]:
    """Those that are to be on their servers. A side file whose session stays here does, too."""
    withheld = {(line.destination, line.session_id) for line in lines if line.state == State.PRIVATE}
    for line in lines:
        follows = is_side_file(line.subpath) and line.state == State.REFUSED and not line.status
        if COUNTED[State(line.state)].due and not (follows and (line.destination, line.session_id) in withheld):
            yield line


def _open_as(line: StreamLine) -> Open | None:
    """What was acknowledged to its end is only looked at again. What no server was asked has no place there."""
    kind = COUNTED[State(line.state)].open
    if kind is Open.UNSENT and 0 < line.size <= line.sent_bytes:
        return Open.COMPARED_AGAIN
    return Open.NO_PLACE if kind is Open.REFUSED and not line.status else kind


def _there_bytes(line: StreamLine) -> int:
    if not COUNTED[State(line.state)].there:
        return 0
    sent = min(line.sent_bytes, max(line.size, 0))
    has = max(line.sent_entries - sum(line.rejected.values()), 0)
    return sent * has // line.entries if has < line.entries else sent


def count_rejected(lines: Iterable[StreamLine]) -> dict[str, int]:
    """Why servers refused entries that they may take another time → how many, the most frequent first."""
    reasons: dict[str, int] = {}
    for line in lines:
        for status, number in line.rejected.items():
            why = f"the server answers {status}"
            passing = number - len(line.too_large) if status == TOO_LARGE else number
            if passing:
                reasons[why] = reasons.get(why, 0) + passing
    return dict(sorted(reasons.items(), key=lambda one: -one[1]))


def group_too_large(lines: Iterable[StreamLine]) -> dict[int, list[int]]:
    """Limits that servers declare for entries → sizes of those above."""
    found: dict[int, list[int]] = {}
    for line in lines:
        for size, most in line.too_large:
            found.setdefault(most, []).append(size)
    return found


def _too_large_reasons(lines: Iterable[StreamLine]) -> dict[str, int]:
    return {f"the server takes {most:,} bytes at most": len(sizes) for most, sizes in group_too_large(lines).items()}


def count_reasons(lines: Sequence[StreamLine], state: State) -> dict[str, int]:
    """Why streams are in that state → how many, the most frequent first."""
    reasons: dict[str, int] = {}
    for line in lines:
        if line.state == state:
            reasons[line.reason] = reasons.get(line.reason, 0) + 1
    return dict(sorted(reasons.items(), key=lambda one: -one[1]))


def unsent_bytes(size: int, sent_bytes: int) -> int:
    """Of a file that had `size` at last: one that is shorter than what was sent is another one."""
    return size - sent_bytes if size >= sent_bytes else size


def count_lost(lines: Sequence[StreamLine]) -> dict[StreamId, int]:
    """Streams whose files went away before all of it was sent → bytes that no server has."""
    lost: dict[StreamId, int] = {}
    for line in lines:
        if line.state == State.GONE and line.reason == LOST:
            stream = StreamId(line.session_id, line.subpath)
            lost[stream] = max(lost.get(stream, 0), unsent_bytes(line.size, line.sent_bytes))
    return lost


def count_withheld(lines: Sequence[StreamLine]) -> dict[str, int]:
    """Why sessions stay here → how many."""
    reasons: dict[str, set[str]] = {}
    for line in lines:
        if line.state == State.PRIVATE:
            reasons.setdefault(line.reason, set()).add(line.session_id)
    return {reason: len(sessions) for reason, sessions in reasons.items()}


def count_to_delete(lines: Sequence[StreamLine]) -> dict[str, int]:
    """Destination → private sessions of which it may still have something."""
    owed: dict[str, set[str]] = {}
    for line in lines:
        if line.status == OWED:
            owed.setdefault(line.destination, set()).add(line.session_id)
    return {name: len(sessions) for name, sessions in owed.items()}


def oldest_unsent_s(lines: Sequence[StreamLine]) -> float | None:
    """Wall time of the last change of the stream that has waited longest. What is only compared again waits for
    nothing."""
    return min((line.mtime_s for line in lines if _open_as(line) is Open.UNSENT), default=None)
