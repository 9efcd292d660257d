"""What `status` tells, as values: filled by the engine's report, or from the state when no daemon runs."""

from collections.abc import Sequence

import msgspec

from agent.core.lifecycle import UNSENT, State
from agent.core.session import StreamId, is_side_file

SCHEMA = 1
"""Version of the JSON that scripts read; grows when a field changes its meaning or goes."""


OWED = 1
"""In the place of a status: what the server may have of a private session is still to be deleted there."""

KEPT = 2
"""In the place of a status: it is private, and no server has anything of it."""

MAYBE_THERE = 3
"""In the place of a status: its file is gone, and a server may have something of it that it never acknowledged."""

DELETED_HERE = 204
"""In the place of a status: deleted there because it is private; to be restored before anything is sent again."""

DELETED_THERE = 410


class StreamLine(msgspec.Struct, frozen=True):
    """One stream or side file at one destination. Sizes in bytes, times in wall seconds; `retry_at_s` None unless it
    waits. `status`: the HTTP status that refused it for good. `held`: it stays deliverable if its file is deleted.
    `generations`: how often a new one was begun for it there, because file and server differed."""

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


class DestinationLine(msgspec.Struct, frozen=True):
    """How it stands with one server. `protocol`: bulk, ingress, upload, or empty while unknown. `token`: where it comes
    from, in the words of the settings. `acknowledged_s`: when it last said that it has something; None when it never
    did."""

    name: str
    url: str
    condition: str
    protocol: str = ""
    why: str = ""
    retry_at_s: float | None = None
    token: str = ""
    acknowledged_s: float | None = None


class Counts(msgspec.Struct, frozen=True):
    """Streams and side files by state, and what they hold. `not_addressable`: entries that a base server has no place
    for. `held`: files that stay deliverable when their coding agent deletes them. `generations`: how often a new one
    was begun, by all streams at all destinations. `refused`, `waiting`: why streams are not sent, or not yet → how
    many. `next_try_s`: the earliest time at which something is tried again. `kept_bytes`: of the files that are held.
    `redactions`: secrets replaced so far. `bytes` and `sent_bytes` count a file once for each destination, `disk_bytes`
    once."""

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


class Status(msgspec.Struct, frozen=True):
    """`running` False: nobody is at work, and this is what the state remembers. `problems` have the two parts of an
    error: what is wrong, and the next command. `unread`: folders and files that could not be looked into.
    `withheld`: why sessions stay here → how many. `to_delete`: private sessions that servers may still have. `paused`:
    why nothing is sent, in the words of `lifecycle.PauseReason`, empty when it is; `paused_until_s` None without an
    end. `restarts`: unclean ends within the last hour. `agents`: folder that is watched → whose transcripts it has."""

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

    @property
    def synced(self) -> bool:
        """Nothing waits, nothing was refused, and nothing is there that could not be looked at."""
        fine = {State.SYNCED, State.GONE, State.PRIVATE}
        return (
            not self.unread
            and not self.to_delete
            and all(state in fine or not number for state, number in self.counts.states.items())
        )


def count_streams(lines: Sequence[StreamLine]) -> Counts:
    states: dict[str, int] = {}
    for line in lines:
        states[line.state] = states.get(line.state, 0) + 1
    return Counts(
        sessions=len({line.session_id for line in lines}),
        streams=len({StreamId(line.session_id, line.subpath) for line in lines if not is_side_file(line.subpath)}),
        files=len({StreamId(line.session_id, line.subpath) for line in lines if is_side_file(line.subpath)}),
        held=len({StreamId(line.session_id, line.subpath) for line in lines if line.held}),
        states=states,
        bytes=sum(max(line.size, 0) for line in lines),
        sent_bytes=sum(min(line.sent_bytes, max(line.size, 0)) for line in lines),
        entries=sum(line.entries for line in lines),
        not_addressable=sum(line.entries - line.sent_entries for line in lines),
        generations=sum(line.generations for line in lines),
        refused=count_reasons(lines, State.REFUSED),
        waiting=count_reasons(lines, State.WAITING),
        next_try_s=min((line.retry_at_s for line in lines if line.retry_at_s is not None), default=None),
        kept_bytes=sum({line.path: max(line.size, 0) for line in lines if line.held}.values()),
        disk_bytes=sum({(line.session_id, line.subpath): max(line.size, 0) for line in lines}.values()),
    )


def count_reasons(lines: Sequence[StreamLine], state: State) -> dict[str, int]:
    """Why streams are in that state → how many, the most frequent first."""
    reasons: dict[str, int] = {}
    for line in lines:
        if line.state == state:
            reasons[line.reason] = reasons.get(line.reason, 0) + 1
    return dict(sorted(reasons.items(), key=lambda one: -one[1]))


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
    """Wall time of the last change of the stream that has waited longest."""
    return min((line.mtime_s for line in lines if line.state in UNSENT), default=None)
