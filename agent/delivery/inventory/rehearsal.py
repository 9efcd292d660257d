"""What would leave, found out by those who send it: the pusher runs as ever, towards a server that takes everything and
is not there. So what is shown went through the same rules and the same redaction as what leaves."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from agent import __version__
from agent.core.delivery.lifecycle import State
from agent.core.delivery.projects import matches_project
from agent.core.privacy.rules import NO_GROUNDS, Grounds
from agent.core.settings import Destination, Settings
from agent.core.transcripts.identity import START, Cursor
from agent.core.transcripts.session import Facts, Head, Observation, is_side_file
from agent.core.wire import LongBody, RawReply, Request
from agent.delivery.inventory.survey import SessionHere
from agent.delivery.push.asking import Sender
from agent.delivery.push.pusher import Pusher
from agent.delivery.state.facts import meta_of
from agent.delivery.state.tasks import (
    FileTask,
    KeptBack,
    Leave,
    MetaTask,
    Pushed,
    PushTask,
    Rewritten,
    TrackKey,
    Unreadable,
    UploadTask,
    Withheld,
)
from agent.system.state.state_db import TrackRow

_BATCH_BYTES = 1 << 20
_MOST_ENTRIES = 1 << 30
_FAST = 1e15

MARK = re.compile(rb"\[redacted:[a-z0-9-]+:[0-9a-f]+\]")
"""What stands in place of a secret."""

_STAYS = {State.DELETED_ON_SERVER: "it was deleted on the server", State.REFUSED: "the server refused it"}


class Stream(NamedTuple):
    """A transcript or side file of which something would leave: `left` bytes behind `cursor`."""

    file: Observation
    cursor: Cursor
    left: int


class Plan(NamedTuple):
    """A session at one destination. `why_not`: why nothing of it leaves; empty when something does or all has."""

    destination: str
    session: SessionHere
    streams: tuple[Stream, ...]
    why_not: str = ""


class Leaving(NamedTuple):
    """What one transcript, side file or the facts of a session would send: `what` for people, bytes, entries, and how
    many marks stand in place of secrets. `trouble`: why it would not, or not yet."""

    what: str
    bytes: int = 0
    entries: int = 0
    marks: int = 0
    trouble: str = ""


class Remembered(NamedTuple):
    """What the agent remembers. `told`: destination, session and digest of facts that a server has. `began_at_s`: wall
    time of its first start; None before that. `grounds`: session → for what it is or was private."""

    tracks: Mapping[TrackKey, TrackRow] = {}
    facts: Mapping[str, Facts] = {}
    told: frozenset[tuple[str, str, str]] = frozenset()
    began_at_s: float | None = None
    grounds: Mapping[str, Grounds] = {}


def plan_sessions(
    settings: Settings, destination: Destination, sessions: Sequence[SessionHere], known: Remembered
) -> list[Plan]:
    """What a pass would do with each session, the one that changed longest ago first. `destination.projects` with `~`
    resolved."""
    return [_plan(settings, destination, session, known) for session in sorted(sessions, key=lambda one: one.newest_s)]


def _plan(settings: Settings, destination: Destination, session: SessionHere, known: Remembered) -> Plan:
    plan = Plan(destination.name, session, ())
    if session.verdict.private:
        return plan._replace(why_not=session.verdict.why)
    if destination.projects and not matches_project(session.project, destination.projects):
        return plan._replace(why_not=f"{destination.name} takes other projects")
    streams, reasons = [], []
    for file in session.files:
        row = known.tracks.get(TrackKey(destination.name, *file.stream))
        why = _why_not(settings, destination, file, row, known.began_at_s)
        cursor = START if row is None else row.cursor
        if why:
            reasons.append(why)
        elif file.size > cursor.offset:
            streams.append(Stream(file, cursor, file.size - cursor.offset))
    return plan._replace(streams=tuple(streams), why_not=reasons[0] if reasons and not streams else "")


def _why_not(
    settings: Settings, destination: Destination, file: Observation, row: TrackRow | None, began_at_s: float | None
) -> str:
    if row is not None and row.state in _STAYS:
        return row.reason or _STAYS[State(row.state)]
    if destination.protocol in ("ingress", "upload") and is_side_file(file.stream.subpath):
        return "the server takes no side files"
    if destination.protocol == "ingress" and file.stream.subpath:
        return "the server takes no transcripts of subagents"
    is_history = began_at_s is None or file.mtime_ns < began_at_s * 1e9
    if row is None and not settings.push.backlog and is_history:
        return "it was there before the first start, and backlog = false"
    return ""


class Rehearsal:
    """For one thread. `make_pusher`: the one that sends, but to these senders. `out` is given every byte that would
    leave, in its order and before compression."""

    def __init__(
        self,
        destination: Destination,
        make_pusher: Callable[[Mapping[str, Sender]], Pusher],
        known: Remembered,
        out: Callable[[bytes], None],
        *,
        host: str,
    ) -> None:
        self._destination = destination
        self._known = known
        self._host, self._version = host, __version__
        self._taker = _Taker(out)
        self._pusher = make_pusher({destination.name: self._taker})
        self._facts: dict[str, Facts] = dict(known.facts)

    def run(self, plan: Plan) -> Iterator[Leaving]:
        """One after another what would leave of a session, in the order in which it would: entries, facts, side
        files. Each has gone to `out` when it comes."""
        main = next((one.path for one in plan.session.files if not one.stream.subpath), "")
        entries = [one for one in plan.streams if not is_side_file(one.file.stream.subpath)]
        took_entries = False
        for stream in entries:
            leaving = self._send(stream, main)
            took_entries |= leaving.entries > 0
            yield leaving
        if took_entries and self._destination.protocol not in ("ingress", "upload"):
            yield from self._tell(plan.session, main)
        for stream in plan.streams:
            if is_side_file(stream.file.stream.subpath):
                yield self._send(stream, main)

    def _send(self, stream: Stream, main: str) -> Leaving:
        file, cursor = stream.file, stream.cursor
        key = TrackKey(self._destination.name, *file.stream)
        self._taker.begin(file.stream.subpath or "main")
        before = cursor.entry_count
        while True:
            grounds = self._known.grounds.get(key.session_id, NO_GROUNDS)
            leave = Leave(self._facts.get(key.session_id, Facts()), main, grounds=grounds)
            outcome = self._pusher.run(self._task(key, file, cursor, leave))
            if isinstance(outcome, Pushed):
                self._learn(key, outcome.facts)
                has_moved, cursor = outcome.cursor.offset > cursor.offset, outcome.cursor
                if outcome.more and has_moved:
                    continue
            return self._taker.taken(cursor.entry_count - before, _trouble(outcome))

    def _task(self, key: TrackKey, file: Observation, cursor: Cursor, leave: Leave) -> PushTask | FileTask | UploadTask:
        one = self._destination
        if is_side_file(key.subpath):
            return FileTask(key, file.path, _FAST, leave)
        if one.protocol == "upload":
            return UploadTask(key, file.provider, file.path, cursor, gzip=False, leave=leave, projects=one.projects)
        bulk = one.protocol != "ingress"
        if bulk and cursor.generation is None:
            cursor = START._replace(generation=_NO_GENERATION)
        return PushTask(
            key, file.provider, file.path, cursor, bulk, _BATCH_BYTES, _MOST_ENTRIES, None, {}, leave,
            projects=one.projects,
        )  # fmt: skip

    def _learn(self, key: TrackKey, facts: Facts) -> None:
        known = self._facts.get(key.session_id, Facts())
        if key.subpath:
            facts = facts._replace(title=known.title, prompt=known.prompt)
        self._facts[key.session_id] = known.merged(facts)

    def _tell(self, session: SessionHere, main: str) -> Iterator[Leaving]:
        facts = self._facts.get(session.session_id, Facts())
        provider, name = session.files[0].provider, self._destination.name
        meta, digest = meta_of(facts, provider, self._host, self._version)
        told = {one[2] for one in self._known.told if one[:2] == (name, session.session_id)}
        if digest in told or (told and facts.is_recalled()):
            return
        self._taker.begin("facts")
        self._pusher.run(MetaTask(name, session.session_id, provider, meta, digest, Leave(facts, main)))
        yield self._taker.taken(0, "")


class _Taker:
    """Stands for a server, and gives what it is sent to `out`."""

    def __init__(self, out: Callable[[bytes], None]) -> None:
        self._out = out
        self.begin("")

    def begin(self, what: str) -> None:
        self._what, self._bytes, self._marks, self._rest = what, 0, 0, b""

    def taken(self, entries: int, trouble: str) -> Leaving:
        return Leaving(self._what, self._bytes, entries, self._marks, trouble)

    def send(self, request: Request) -> RawReply:
        newlines = sum(self._take(piece) for piece in _pieces(request))
        if request.method == "HEAD":
            return RawReply(404, {}, b"")
        if not request.path.partition("?")[0].endswith("/entries"):
            return RawReply(200, {}, b"{}")
        count = int(request.headers["Entry-Count"]) + newlines
        head = Head(None, count, request.headers["Generation"])
        return RawReply(200, {}, msgspec.json.encode(head))

    def _take(self, piece: bytes) -> int:
        self._out(piece)
        self._bytes += len(piece)
        seen = self._rest + piece
        found = [one.end() for one in MARK.finditer(seen)]
        self._marks += len(found)
        self._rest = seen[max([*found, len(seen) - _LONGEST_MARK_BYTES, 0]) :]
        return piece.count(b"\n")


_LONGEST_MARK_BYTES = 128
_NO_GENERATION = "00000000-0000-0000-0000-000000000000"


def _pieces(request: Request) -> Iterator[bytes]:
    body = request.body
    if isinstance(body, LongBody):
        yield from body.pieces()
    elif body:
        yield body


def _trouble(outcome: object) -> str:
    match outcome:
        case KeptBack() | Unreadable():
            return outcome.why
        case Withheld():
            return "the destination takes other projects"
        case Rewritten():
            return "it was rewritten; the server is asked first how much of it is new"
    return ""
