"""What is known, told: rows and sums for `status`, from the engine's memory or from its store."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent import __version__
from agent.core.delivery.lifecycle import Condition, State
from agent.core.settings import Settings, TokenIn
from agent.core.status import (
    OPEN,
    SCHEMA,
    DestinationLine,
    Open,
    Status,
    StreamLine,
    count_lost,
    count_open,
    count_reasons,
    count_rejected,
    count_streams,
    count_to_delete,
    count_withheld,
    describe_open,
    group_too_large,
    oldest_unsent_s,
)
from agent.core.transcripts.session import Rejected, RejectedRow, StreamId

if TYPE_CHECKING:
    # `status` without a daemon answers from the store, and need not load the engine for that.
    from agent.delivery.engine.engine import Engine
    from agent.delivery.state.tasks import TrackKey
    from agent.delivery.state.tracks import DestinationState, Track
    from agent.system.state.state_db import TrackRow

_HINTS = {
    Condition.NEEDS_LOGIN: "transcriptd login {url}",
    Condition.WAITING_FOR_KEYRING: "",
    Condition.MISCONFIGURED: "transcriptd config show",
    Condition.OFFLINE: "",
}


NOT_COMPARED = "another file of its session, not compared yet"
"""Why a file is not sent yet."""

SOON_S = 3 * 86_400.0
"""What would be lost within this time, `status` warns of."""


class Surroundings(NamedTuple):
    """What the engine does not know of itself."""

    pid: int
    since_s: float
    watching: tuple[str, ...]
    polling: tuple[str, ...]
    unread: int
    problems: tuple[tuple[str, str], ...]
    now_s: float = 0.0
    retention_s: Mapping[str, float] = {}
    """Provider → seconds after its last change until a transcript is deleted."""
    tokens: Mapping[str, str] = {}
    """Destination → where its token comes from."""
    restarts: int = 0
    agents: Mapping[str, str] = {}
    """Folder that is followed → what people call the coding agent."""
    open: Mapping[str, int] = {}
    """Kind (`core.status.Open`) → how many, of what is no stream."""
    lost_rules: int = 0
    """Rules of privacy that hold although they are gone."""


class News(NamedTuple):
    """What the one who started the daemon has to tell. `restarts`: ends that nobody wished, within the last hour.
    `lost`: rules of privacy that hold although they are gone."""

    problems: tuple[tuple[str, str], ...] = ()
    restarts: int = 0
    lost: int = 0


def list_streams(engine: "Engine") -> list[StreamLine]:
    return [_line(engine, key, track) for key, track in engine.tracks.items()] + _open_lines(engine)


def list_streams_of(engine: "Engine", sessions: Iterable[str]) -> list[StreamLine]:
    """The same of these sessions only."""
    wanted = list(sessions)
    lines = [_line(engine, *one) for session in wanted for one in engine.streams_of(session)]
    return lines + [one for one in _open_lines(engine) if one.session_id in set(wanted)]


def _open_lines(engine: "Engine") -> list[StreamLine]:
    """Files that may hold what no stream holds: as the streams that they may become, at each server."""
    return [
        StreamLine(
            destination.name,
            *one.copy,
            one.seen.path,
            State.REFUSED if one.trouble else State.DUE,
            one.seen.size,
            0,
            0,
            0,
            one.seen.mtime_ns / 1e9,
            f"it can't be compared with the other file of its session: {one.trouble}" if one.trouble else NOT_COMPARED,
            held=one.copy in engine.keeper.held,
        )
        for one in engine.sightings.open_files()
        for destination in engine.gates
    ]


def _line(engine: "Engine", key: "TrackKey", track: "Track") -> StreamLine:
    return StreamLine(
        key.destination,
        key.session_id,
        key.subpath,
        track.path,
        track.state,
        track.size,
        track.cursor.offset,
        track.cursor.entry_count,
        track.cursor.sent_count,
        track.mtime_ns / 1e9,
        track.reason,
        track.retry_at_s if track.state is State.WAITING else None,
        track.cursor.generation,
        track.status,
        engine.keeper.is_safe(key.stream),
        track.generations,
        count_statuses(stones := engine.answers.stones_of(key, track)),
        list_final(stones, engine.gates[key.destination].max_entry_bytes),
    )


def describe_line(engine: "Engine") -> str:
    """For a service manager: counts and conditions, without names of sessions."""
    counts: dict[str, int] = {}
    for track in engine.tracks.values():
        counts[track.state] = counts.get(track.state, 0) + 1
    states = ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no transcripts yet"
    paused = f"paused ({engine.pausing.why}); " if engine.pausing.why else ""
    return f"{paused}{'; '.join(f'{one.name} {one.standing}' for one in engine.gates)}: {states}"


def resolve_sessions(engine: "Engine", beginning: str, limit: int) -> list[dict[str, str]]:
    """Sessions whose ids begin so, in their order, `limit` at most."""
    found = {key.session_id for key in engine.tracks if key.session_id.startswith(beginning)}
    return [{"session_id": one, "project": engine.facts.of(one).project} for one in sorted(found)[:limit]]


def count_statuses(stones: Mapping[int, Rejected]) -> Mapping[int, int]:
    """HTTP status → how many of `stones`."""
    return Counter(one.status for one in stones.values()) if stones else {}


def list_final(stones: Mapping[int, Rejected], most: int | None) -> Sequence[tuple[int, int]]:
    """Sizes of the entries that are larger than the server says to take (`most`, as in `Rejected.is_final`), each with
    that limit."""
    return [(one.size, one.most if most is None else most) for one in stones.values() if one.is_final(most)]


def list_remembered(rows: Iterable["TrackRow"], stones: Iterable[RejectedRow] = ()) -> list[StreamLine]:
    """`stones`: entries that were rejected, those taken back among them."""
    rejected: dict[tuple[str, StreamId], dict[int, Rejected]] = {}
    for name, stream, ordinal, entry in stones:
        if entry.status:
            rejected.setdefault((name, stream), {})[ordinal] = entry
    return [
        StreamLine(
            row.destination,
            *row.stream,
            row.path,
            row.state,
            row.size,
            row.cursor.offset,
            row.cursor.entry_count,
            row.cursor.sent_count,
            row.mtime_ns / 1e9,
            row.reason,
            None,
            row.cursor.generation,
            row.status,
            generations=row.generations,
            rejected=count_statuses(found := rejected.get((row.destination, row.stream), {})),
            too_large=list_final(found, None),
        )
        for row in rows
    ]


def report(engine: "Engine", around: Surroundings) -> Status:
    lines = list_streams(engine)
    is_open = count_open(lines)
    is_open |= {Open.UNREAD: around.unread} if around.unread else {}
    is_open |= {kind: number for kind, number in around.open.items() if number}
    return Status(
        SCHEMA,
        __version__,
        running=True,
        destinations=[_destination(one, around.tokens.get(one.name, "")) for one in engine.gates],
        counts=msgspec.structs.replace(count_streams(lines), redactions=engine.milestones.redactions),
        pid=around.pid,
        since_s=around.since_s,
        watching=around.watching,
        polling=around.polling,
        held_back=len(engine.sightings.held_back),
        unread=around.unread,
        oldest_unsent_s=oldest_unsent_s(lines),
        problems=[
            *around.problems,
            *_problems(engine, around, lines),
            *describe_open(is_open, warnings=True),
            *_about_to_be_lost(engine, around),
        ],
        open=is_open,
        withheld=count_withheld(lines),
        to_delete=sum(count_to_delete(lines).values()),
        restarts=around.restarts,
        agents=dict(around.agents),
        paused=engine.pausing.why,
        paused_until_s=engine.pausing.until_s,
    )


class Past(NamedTuple):
    """What the state remembers beside the streams. `acknowledged_s`: destination → wall time. `held`: how many files,
    with `kept_bytes` together."""

    acknowledged_s: Mapping[str, float | None] = {}
    redactions: int = 0
    paused: str = ""
    paused_until_s: float | None = None
    held: int = 0
    kept_bytes: int = 0


def report_remembered(
    settings: Settings,
    rows: Iterable["TrackRow"],
    *,
    stones: Iterable[RejectedRow] = (),
    token_given: bool = False,
    past: Past = Past(),  # noqa: B008 - a value that never changes
) -> Status:
    """For when no daemon runs: as of the last time one did. `stones`: see `list_remembered`. `token_given`: the
    environment has one for all."""
    lines = list_remembered(rows, stones)
    counts = msgspec.structs.replace(
        count_streams(lines), redactions=past.redactions, held=past.held, kept_bytes=past.kept_bytes
    )
    is_open = count_open(lines)
    is_open |= {} if settings.destinations else {Open.NO_SERVER: 1}
    return Status(
        SCHEMA,
        __version__,
        running=False,
        destinations=[
            DestinationLine(
                one.name,
                one.url,
                "not_running",
                token="environment" if token_given else one.token,
                acknowledged_s=past.acknowledged_s.get(one.name),
                deletes=False if one.protocol == "upload" else None,
            )
            for one in settings.destinations
        ],
        counts=counts,
        oldest_unsent_s=oldest_unsent_s(lines),
        problems=[*_refused(lines), *_lost(lines), *describe_open(is_open, warnings=True)],
        open=is_open,
        withheld=count_withheld(lines),
        to_delete=sum(count_to_delete(lines).values()),
        paused=past.paused,
        paused_until_s=past.paused_until_s,
    )


def _destination(one: "DestinationState", token: str) -> DestinationLine:
    protocol = ""
    if one.condition is Condition.RUNNING:
        protocol = "upload" if one.takes_files_only else "bulk" if one.bulk else "ingress"
    return DestinationLine(
        one.name,
        one.url,
        one.standing,
        protocol,
        one.why,
        one.retry_at_s or None,
        token,
        one.acknowledged_s or None,
        False if one.takes_files_only else one.deletes if one.condition is Condition.RUNNING else None,
    )


def _hint(one: "DestinationState", token: str) -> str:
    if one.standing is Condition.NEEDS_LOGIN and token == TokenIn.ENVIRONMENT:
        return "set TRANSCRIPTD_TOKEN to a token of that server"
    return one.hint or _HINTS[one.standing].format(url=one.url)


def _problems(engine: "Engine", around: Surroundings, lines: list[StreamLine]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if engine.private.blind:
        found.append((f"nothing is sent: {engine.private.blind}", "transcriptd private list"))
    for name, number in count_to_delete(lines).items():
        if engine.gates[name].condition is Condition.RUNNING and not engine.gates[name].deletes:
            what = f"{name}: {number} private sessions are still there; this server offers no deletion"
            found.append((what, "ask whoever runs it"))
    troubled = (one for one in engine.gates if one.standing in _HINTS and one.why)
    found += [(f"{one.name}: {one.why}", _hint(one, around.tokens.get(one.name, ""))) for one in troubled]
    if engine.journal.trouble:
        found.append((f"{engine.journal.trouble}; progress is kept in memory", "free some disk space"))
    for one in engine.sightings.open_files():
        if one.trouble:
            what = (
                f"{one.seen.path} ({one.seen.size} bytes) is on no server: it can't be compared with the other file of"
            )
            found.append((f"{what} session {one.seen.stream.session_id}: {one.trouble}", "transcriptd push"))
    found += _not_retained(engine)
    return found + _refused(lines) + _lost(lines)


def count_about_to_be_lost(engine: "Engine", around: Surroundings) -> int:
    """What is neither sent nor held, and may be deleted soon."""
    from agent.delivery.retention.keeper import is_wanted

    count = 0
    for key, track in engine.tracks.items():
        retention_s = around.retention_s.get(track.provider)
        if retention_s is None or not is_wanted(track) or engine.keeper.is_safe(key.stream):
            continue
        if track.cursor.offset >= track.size:
            continue  # it was sent, and is only compared again
        count += track.mtime_ns / 1e9 + retention_s - around.now_s < SOON_S
    return count


def _about_to_be_lost(engine: "Engine", around: Surroundings) -> list[tuple[str, str]]:
    count = count_about_to_be_lost(engine, around)
    if not count:
        return []
    what = f"{count} not sent yet may be deleted by their coding agent within {SOON_S / 86_400:.0f} days"
    return [(what, "transcriptd push")]


def _not_retained(engine: "Engine") -> list[tuple[str, str]]:
    """What would be lost with its file, as far as it is not sent."""
    reasons = list(engine.keeper.trouble.values())
    if not reasons:
        return []
    more = f" (and {len(reasons) - 1} more like it)" if len(reasons) > 1 else ""
    return [(f"{reasons[0]}{more}", "transcriptd push")]


def _lost(lines: list[StreamLine]) -> list[tuple[str, str]]:
    lost = count_lost(lines)
    if not lost:
        return []
    one = OPEN[Open.LOST]
    words = one.one if len(lost) == 1 else one.many.format(f"{len(lost):,}")
    return [(f"{words}: {sum(lost.values()):,} bytes are lost", one.hint)]


def _refused(lines: list[StreamLine]) -> list[tuple[str, str]]:
    """What servers refused. What a server has no place for is no trouble; the counts tell of it."""
    reasons = count_reasons([line for line in lines if line.status], State.REFUSED)
    found = [(f"{number} not sent: {reason}", "transcriptd retry") for reason, number in reasons.items()]
    for reason, number in count_rejected(lines).items():
        one = OPEN[Open.REJECTED_ENTRIES]
        words = one.one if number == 1 else one.many.format(f"{number:,}")
        found.append((f"{words} ({reason})", one.hint))
    for most, sizes in sorted(group_too_large(lines).items()):
        one = OPEN[Open.TOO_LARGE_ENTRIES]
        words = one.one if len(sizes) == 1 else one.many.format(f"{len(sizes):,}")
        of = "" if len(sizes) == 1 else "up to "
        found.append((f"{words} ({of}{max(sizes):,} of at most {most:,} bytes)", one.hint))
    return found
