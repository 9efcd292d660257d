"""What a server has of a session, brought here piece by piece: from a bulk server with the proof that it is all of it,
from any other one as well as can be.

Memory is bounded by a piece, whatever a server sends; a page of a base server is held, and made smaller when it is too
large. What breaks off goes on behind the last whole line.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from hashlib import blake2b, sha256
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from agent.core.transcripts.session import StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, measure_run
from agent.core.wire import (
    NOT_OURS,
    Meta,
    RawReply,
    Request,
    SessionRow,
    SideFile,
    StreamHead,
    entries_request,
    events_request,
    fetch_file_request,
    fetch_meta_request,
    files_request,
    loglines_request,
    parse_digest,
    parse_files,
    parse_meta,
    parse_sessions,
    parse_streams,
    sessions_request,
    streams_request,
)
from agent.errors import AgentError, RemoteProtocolError, SessionDeleted, Unauthorized, Unreachable, UsageError

_T = TypeVar("_T")

TRIES = 3
"""Breaks in a row without a single line more."""

MOST_STREAMS = 100_000
EVENT_PAGES = 100
EVENTS = 1000
_PAGE_BYTES = 64 << 20
_LOGLINES_BYTES = 256 << 20
_PEEKED = 64
_PEEKED_BYTES = 64 << 10
_LISTED = 1000
_MOST_LISTED = 1_000_000
_MOST_ROUNDS = 1_000
"""Requests for one stream. Each brings all that is left, unless a connection breaks."""

_MOST_LINE_BYTES = 1 << 30
"""Four times what our receiver takes of an entry."""

_MARK = re.compile(rb"\[redacted:[a-z0-9-]{1,40}:[0-9a-f]{8}\]")
_MARK_BYTES = 70
_STONE = b'\n{"type":"transcriptd-tombstone"'


class Source(Protocol):
    """`system.remote.Remote`, or a test's."""

    def send(self, request: Request) -> RawReply: ...
    def receive(self, request: Request, take: Callable[[bytes], object]) -> RawReply: ...


class Sink(Protocol):
    """`system.files.landing.Arrival`."""

    size: int

    def write(self, data: bytes, /) -> None: ...
    def cut(self, size: int, /) -> None: ...


class Offer(NamedTuple):
    """What a server has of a session. `streams`: one row for each stream, of the generation that is wanted; empty on a
    base server, where `bulk` is False. `older`: how many other generations it keeps."""

    session_id: str
    owner: str | None
    bulk: bool
    meta: Meta = Meta()
    streams: tuple[StreamHead, ...] = ()
    files: tuple[SideFile, ...] = ()
    older: int = 0


class Fetched(NamedTuple):
    """`entries` and `chain`: of what came. `secrets`: how many marks stand in the place of some; `stones`: entries that
    the server had refused. `note`: what people should know of it."""

    entries: int
    size: int
    chain: bytes
    secrets: int = 0
    stones: int = 0
    note: str = ""


# ---- what there is ----


def list_sessions(source: Source, owner: str | None) -> Iterator[SessionRow]:
    """Every session, the one that changed last first. Raises UsageError where a server has no such list."""
    cursor: str | None = None
    seen: set[str] = set()
    for _ in range(_MOST_LISTED // _LISTED):
        raw = source.send(sessions_request(_LISTED, cursor, owner))
        if raw.status in (404, 405, 501):
            if owner not in (None, "*"):
                raise UsageError(f"the token may not read what belongs to {owner!a}", hint="transcriptd pull --list")
            raise UsageError("this server has no list of its sessions", hint="name a session by its whole id")
        raise_for(raw)
        page = parse_sessions(raw)
        if page is None:
            raise _senseless("list of sessions")
        yield from page.sessions
        cursor = page.next_cursor
        if cursor is None:
            return
        if cursor in seen or not page.sessions:
            raise RemoteProtocolError("the server's list of sessions does not get on: a page leads back, or is empty")
        seen.add(cursor)
    raise RemoteProtocolError(f"the server's list of sessions has no end; more than {_MOST_LISTED:,} are not taken")


def find_offer(source: Source, session_id: str, owner: str | None, generation: str | None) -> Offer:
    """Of a bulk server. `generation`: one of a stream that is wanted instead of its current one. Raises UsageError for
    what is not there, SessionDeleted, RemoteError."""
    raw = source.send(streams_request(session_id, owner))
    if raw.status == 404:
        raise _unknown(session_id)
    raise_for(raw)
    rows = parse_streams(raw)
    if rows is None:
        raise _senseless("list of the session's transcripts")
    if len(rows) > MOST_STREAMS:
        raise RemoteProtocolError(f"the server tells of {len(rows):,} streams, at most {MOST_STREAMS:,} are taken")
    named = {row.subpath: row for row in rows if generation and row.head.generation == generation}
    if generation and not named:
        raise UsageError("the server has no such generation of this session", hint="transcriptd sessions verify")
    current = {row.subpath: row for row in rows if row.current}
    chosen = {**current, **named}
    files_raw = source.send(files_request(session_id, owner))
    raise_for(files_raw, 404, 405, 501)
    files = parse_files(files_raw)
    if files is None:
        raise _senseless("list of the session's side files")
    meta = parse_meta(source.send(fetch_meta_request(session_id, owner)))
    kept = tuple(chosen[one] for one in sorted(chosen) if chosen[one].head.entry_count)
    return Offer(session_id, owner, True, meta, kept, tuple(files), len(rows) - len(chosen))


# ---- bulk ----


class Meter:
    """Counts and proves lines that come in pieces of any size. `whole`: bytes up to the last newline."""

    def __init__(self) -> None:
        self.entries = 0
        self.whole = 0
        self.chain = EMPTY_CHAIN
        self._open: Any = None
        self._open_bytes = 0

    def feed(self, piece: bytes) -> None:
        at = 0
        if self._open is not None:
            end = piece.find(b"\n")
            self._open.update(piece if end < 0 else memoryview(piece)[:end])
            self._open_bytes += len(piece) if end < 0 else end + 1
            if end < 0:
                return
            self.chain, self.entries = self._open.digest(), self.entries + 1
            self.whole += self._open_bytes
            self.forget_rest()
            at = end + 1
        rest = piece[at:] if at else piece
        run = measure_run(self.chain, rest, 1 << 62)
        self.chain, self.entries, self.whole = run.chain, self.entries + run.entries, self.whole + run.size
        if run.size < len(rest):
            self._open = blake2b(self.chain, digest_size=32)
            self._open.update(memoryview(rest)[run.size :])
            self._open_bytes = len(rest) - run.size

    @property
    def rest(self) -> int:
        """Bytes of the line that has not ended yet."""
        return self._open_bytes

    def forget_rest(self) -> None:
        """What followed the last newline never came."""
        self._open, self._open_bytes = None, 0


class _Marks:
    """What stands in the place of something that did not leave."""

    def __init__(self) -> None:
        self.secrets = self.stones = 0
        self._tail = b"\n"

    def feed(self, piece: bytes) -> None:
        data, before = self._tail + piece, self._tail
        self.secrets += len(_MARK.findall(data)) - len(_MARK.findall(before))
        self.stones += data.count(_STONE) - before.count(_STONE)
        self._tail = data[-_MARK_BYTES:]


def fetch_stream(source: Source, session_id: str, row: StreamHead, owner: str | None, sink: Sink) -> Fetched:
    """All lines of a generation, as many as its head says and with its chain hash; else RemoteProtocolError. Raises
    RemoteError, and what `sink` raises."""
    head, meter, marks = row.head, Meter(), _Marks()
    if head.chain_hash is None:
        raise RemoteProtocolError("the server proves nothing of what it has")

    def take(piece: bytes) -> None:
        meter.feed(piece)
        if meter.entries > head.entry_count:
            raise RemoteProtocolError("the server sends more than it has")
        if meter.rest > _MOST_LINE_BYTES:
            raise RemoteProtocolError(f"the server sends a line of more than {_MOST_LINE_BYTES:,} bytes")
        marks.feed(piece)
        sink.write(piece)

    def ask() -> bool:
        stream = StreamId(session_id, row.subpath)
        left = head.entry_count - meter.entries
        request = entries_request(stream, head.generation, meter.entries, left, owner)
        raise_for(source.receive(request, take))
        return meter.entries == head.entry_count

    def step_back() -> int:
        meter.forget_rest()
        sink.cut(meter.whole)
        return meter.entries

    _persist(ask, step_back)
    if (meter.entries, meter.chain.hex()) != (head.entry_count, head.chain_hash) or meter.whole != sink.size:
        raise RemoteProtocolError(
            f"what came is not what the server says it has: {meter.entries:,} of {head.entry_count:,} entries,"
            " and another chain hash",
            hint="transcriptd sessions verify",
        )
    return Fetched(meter.entries, sink.size, meter.chain, marks.secrets, marks.stones)


def peek(source: Source, session_id: str, row: StreamHead, owner: str | None) -> list[bytes]:
    """The first whole lines of a stream, as far as they are short. Raises RemoteError."""
    held = bytearray()

    class Enough(AgentError):
        """Of what was to be seen."""

    def take(piece: bytes) -> None:
        held.extend(piece)
        if len(held) > _PEEKED_BYTES:
            raise Enough("enough")

    stream = StreamId(session_id, row.subpath)
    with contextlib.suppress(Enough):
        raise_for(source.receive(entries_request(stream, row.head.generation, 0, _PEEKED, owner), take))
    return bytes(held[:_PEEKED_BYTES]).split(b"\n")[:-1]


def fetch_file(source: Source, session_id: str, file: SideFile, owner: str | None, sink: Sink) -> Fetched:
    """A side file, of the digest and size that the list says; else RemoteProtocolError."""
    wanted = parse_digest(file.digest)
    if wanted is None or file.size < 0:
        raise RemoteProtocolError("the server proves nothing of a side file")
    digest = sha256()

    def take(piece: bytes) -> None:
        if sink.size + len(piece) > file.size:
            raise RemoteProtocolError("the server sends more of a side file than it has")
        digest.update(piece)
        sink.write(piece)

    def ask() -> bool:
        raise_for(source.receive(fetch_file_request(session_id, file.path, owner), take))
        return True

    def begin_anew() -> int:
        nonlocal digest
        digest = sha256()
        sink.cut(0)
        return 0

    _persist(ask, begin_anew)
    if digest.digest() != wanted or sink.size != file.size:
        raise RemoteProtocolError("a side file that came has another digest than the server says")
    return Fetched(0, sink.size, wanted)


def _persist(ask: Callable[[], bool], step_back: Callable[[], int]) -> None:
    """Asks until all came; what breaks off goes on where `step_back` leads, which says how far that is."""
    failures, reached = 0, 0
    for _ in range(_MOST_ROUNDS):
        broke: AgentError | None = None
        try:
            if ask():
                return
        except Unreachable as exc:
            broke = exc
        now = step_back()
        failures = 1 if now > reached else failures + 1
        reached = now
        if failures >= TRIES:
            raise broke or RemoteProtocolError("the server sends less than it has")
    raise RemoteProtocolError(f"the server did not send all that it says it has in {_MOST_ROUNDS:,} answers")


# ---- base ----


def fetch_base(source: Source, session_id: str, sink: Sink) -> Fetched:
    """The main transcript's entries from a server that has no more: events by pages, else loglines. Each entry becomes
    a line as the server wrote it. Raises UsageError for an unknown session, RemoteError."""
    pages = _fetch_events(source, session_id, sink)
    if pages is None:
        return _fetch_loglines(source, session_id, sink)
    return pages


def _fetch_events(source: Source, session_id: str, sink: Sink) -> Fetched | None:
    """None where a server has no events."""
    meter, cursor, limit = Meter(), None, EVENTS
    seen: set[str] = set()
    pages = 0
    while True:
        if pages == EVENT_PAGES:
            return _fetched(meter, sink, f"only the first {EVENT_PAGES} pages: the server has more")
        try:
            raw = source.send(events_request(session_id, limit, cursor, max_reply_bytes=_PAGE_BYTES))
        except Unreachable as exc:
            if limit > 1 and "more than" in exc.message:
                limit = max(1, limit // 10)  # too large to be held
                continue
            raise
        if raw.status in (404, 405, 501):
            return None if cursor is None else _fetched(meter, sink, "the server stopped in between: there may be more")
        raise_for(raw)
        page = _decode(raw.body, _Events)
        for one in page.data:
            _write(one.payload, meter, sink)
        pages += 1
        if not page.next_cursor:
            return _fetched(meter, sink, "")
        if page.next_cursor in seen:
            raise RemoteProtocolError("the server's pages of events lead back to one that came before")
        cursor = page.next_cursor
        seen.add(cursor)


def _fetch_loglines(source: Source, session_id: str, sink: Sink) -> Fetched:
    raw = source.send(loglines_request(session_id, max_reply_bytes=_LOGLINES_BYTES))
    if raw.status == 404:
        raise _unknown(session_id)
    raise_for(raw)
    meter = Meter()
    for line in _decode(raw.body, _Loglines).loglines:
        _write(line, meter, sink)
    return _fetched(meter, sink, "")


def _fetched(meter: Meter, sink: Sink, note: str) -> Fetched:
    return Fetched(meter.entries, sink.size, meter.chain, note=note)


def _write(payload: msgspec.Raw, meter: Meter, sink: Sink) -> None:
    entry = bytes(payload).strip()
    if entry in (b"", b"null"):
        return
    # Outside of strings a line end is a blank, and inside of them it is no JSON.
    line = entry.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"
    meter.feed(line)
    sink.write(line)


class _Event(msgspec.Struct):
    payload: msgspec.Raw = msgspec.Raw()


class _Events(msgspec.Struct):
    data: list[_Event]
    next_cursor: str | None = None


class _Loglines(msgspec.Struct):
    loglines: list[msgspec.Raw]


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise RemoteProtocolError(NOT_OURS) from None


# ---- answers ----


def _senseless(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"the server's {what} is none of this protocol, or says what can't be")


def _unknown(session_id: str) -> UsageError:
    return UsageError(f"the server knows no session {session_id[:80]!a}", hint="transcriptd pull --list")


def raise_for(raw: RawReply, *allowed: int) -> None:
    """Raises what an answer that is no 200 means."""
    if raw.status == 200 or raw.status in allowed:
        return
    if raw.status == 401:
        raise Unauthorized("the server does not accept the token", hint="transcriptd login URL")
    if raw.status == 403:
        raise UsageError("the token may not read that", hint="ask whoever runs the server for a token that may")
    if raw.status == 404:
        raise UsageError("the server has it no more", hint="transcriptd pull --list")
    if raw.status == 410:
        raise SessionDeleted("somebody deleted this session on the server", hint="transcriptd restore SESSION")
    raise Unreachable(f"the server answers {raw.status}", hint="transcriptd status")
