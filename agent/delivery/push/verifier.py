"""Proof of completeness: entry counts and chain hashes of both sides, stream by stream."""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from agent.core.redaction.redactor import Redactor
from agent.core.transcripts.identity import BEGINNING, Cursor, Place, Survey, place_behind
from agent.core.transcripts.session import FILES, Head, StreamId, is_side_file
from agent.core.transcripts.transcript import EMPTY_CHAIN, EntryMark, walk_entries
from agent.core.wire import (
    NOT_OURS,
    StreamHead,
    file_head_request,
    head_request,
    loglines_request,
    parse_file_state,
    parse_head,
    parse_loglines,
    parse_streams,
    streams_request,
)
from agent.delivery.push.asking import Sender
from agent.delivery.push.filesender import measure_file
from agent.delivery.push.realigner import LOGLINES_LIMIT_BYTES
from agent.errors import DiskError, RemoteProtocolError, Unauthorized, Unreachable
from agent.system.files.reading import open_file, open_lines


class Outcome(StrEnum):
    EQUAL = "equal"
    BEHIND = "behind"
    """The server holds a true beginning of the file."""
    DIFFERENT = "different"
    MISSING = "missing"


class Subject(NamedTuple):
    """A stream or side file, where it lies, the generation it was sent to, and how far it was sent, where
    that is known."""

    stream: StreamId
    path: str
    generation: str | None = None
    known: Cursor | None = None


class Verdict(NamedTuple):
    """`entries`: whole lines of the file; `entry_bytes`: their bytes with newlines; `on_server`: what the server
    says it holds. `proof`: "chain hash", "digest" of a side file, or "uuids" where a base server can't prove more.
    `generations`: histories of the stream that the server keeps. `differs_at`: the first line that is another one
    there, 1-based; 0 for none, or where a server can't tell."""

    stream: StreamId
    outcome: Outcome
    entries: int
    entry_bytes: int
    on_server: int
    proof: str
    generations: int = 0
    differs_at: int = 0


def verify_streams(
    sender: Sender,
    subjects: Iterable[Subject],
    tombstones: Mapping[StreamId, Mapping[int, int]],
    redactor: Redactor,
) -> tuple[list[Verdict], list[str]]:
    """A verdict for each that can be read, and why the others could not. One session's should stand together, so that
    the server is asked once. Raises RemoteError."""
    verdicts, unread = [], []
    asked: tuple[str, list[StreamHead] | None] | None = None
    for subject in subjects:
        stream = subject.stream
        try:
            if is_side_file(stream.subpath):
                verdicts.append(verify_file(sender, subject, redactor))
                continue
            if asked is None or asked[0] != stream.session_id:
                asked = (stream.session_id, fetch_heads(sender, stream.session_id))
            if asked[1] is None:
                verdicts.append(verify_base(sender, subject.path, stream))
            else:
                stones = tombstones.get(stream, {})
                verdict = verify_bulk(subject, asked[1], stones, redactor)
                if verdict.outcome is Outcome.DIFFERENT:
                    verdict = verdict._replace(differs_at=find_difference(sender, subject, asked[1], stones, redactor))
                verdicts.append(verdict)
        except DiskError as exc:
            unread.append(exc.message)
    return verdicts, unread


def fetch_heads(sender: Sender, session_id: str) -> list[StreamHead] | None:
    """The session's streams on a bulk server; None on one that has no such page. Raises RemoteError."""
    raw = sender.send(streams_request(session_id))
    if raw.status in (405, 501) or (raw.status == 404 and not raw.headers.get("content-type", "").endswith("json")):
        return None
    _raise_for(raw.status)
    heads = parse_streams(raw)
    if heads is None:
        raise RemoteProtocolError(NOT_OURS)
    return heads


def verify_bulk(
    subject: Subject, heads: list[StreamHead], tombstones: Mapping[int, int], redactor: Redactor
) -> Verdict:
    """Raises DiskError when the file can't be read."""
    stream = subject.stream
    rows = [one for one in heads if one.subpath == stream.subpath]
    head = _choose_head(subject, heads)
    entries, end, chain_there = 0, 0, EMPTY_CHAIN if head.entry_count == 0 else None
    with open_lines(subject.path) as source:
        walk = walk_entries(
            source, *stream, tombstones=tombstones, with_tail=True, cleaner=redactor, known=subject.known
        )
        for mark in walk:
            if mark.ordinal == head.entry_count:
                chain_there = mark.chain
            if mark.ends_line or mark.ordinal == head.entry_count:
                entries, end = mark.ordinal, mark.end
    outcome = Outcome.DIFFERENT
    if head.entry_count == 0 and entries:
        outcome = Outcome.MISSING
    elif head.entry_count == 0 or (chain_there is not None and chain_there.hex() == head.chain_hash):
        outcome = Outcome.EQUAL if head.entry_count == entries else Outcome.BEHIND
    return Verdict(stream, outcome, entries, end, head.entry_count, "chain hash", len(rows))


def _choose_head(subject: Subject, heads: Iterable[StreamHead]) -> Head:
    """Of the history that it was sent to, else of the current one."""
    rows = [one for one in heads if one.subpath == subject.stream.subpath]
    ours = next((one.head for one in rows if one.head.generation == subject.generation), None)
    return ours or next((one.head for one in rows if one.current), Head())


def find_difference(
    sender: Sender,
    subject: Subject,
    heads: Iterable[StreamHead],
    tombstones: Mapping[int, int],
    redactor: Redactor,
) -> int:
    """The first line that is another one on the server, by halving: it tells the chain hash behind any number of
    entries. 0 where it does not. Two walks over the file and some thirty small questions, however long it is. Raises
    DiskError, RemoteError."""
    head = _choose_head(subject, heads)

    def walk() -> Iterator[EntryMark]:
        with open_lines(subject.path) as source:
            yield from walk_entries(
                source, *subject.stream, tombstones=tombstones, with_tail=True, cleaner=redactor, known=subject.known
            )

    places = [BEGINNING, *Survey(walk(), ()).places_up_to(head.entry_count)]
    low = _halve(sender, subject.stream, head, places)
    if low is None:
        return 0
    first, most = places[low].entry_count, Survey.MOST_PLACES
    near = (place_behind(mark) for mark in walk() if mark.ordinal >= first + 1)
    within = [places[low], *islice(near, min(most, head.entry_count - first))]
    low = _halve(sender, subject.stream, head, within)
    return 0 if low is None else within[low].entry_count + 1


def _halve(sender: Sender, stream: StreamId, head: Head, places: list[Place]) -> int | None:
    """The index of the last place up to which both are the same; None when the server does not tell."""
    low, high = 0, len(places)
    while high - low > 1:
        middle = (low + high) // 2
        raw = sender.send(head_request(stream, head.generation, places[middle].entry_count))
        _raise_for(raw.status)
        there = parse_head(raw.body) if raw.status == 200 else None
        if there is None or there.chain_hash is None:
            return None
        same = (there.entry_count, there.chain_hash) == (places[middle].entry_count, places[middle].chain.hex())
        low, high = (middle, high) if same else (low, middle)
    return low


def verify_file(sender: Sender, subject: Subject, redactor: Redactor, owner: str | None = None) -> Verdict:
    """Raises DiskError when the file can't be read."""
    with open_file(subject.path) as file:
        whole = file.size()
        size, digest, _, _ = measure_file(lambda: file.pieces(0, whole), redactor)
    session_id, path = subject.stream.session_id, subject.stream.subpath.removeprefix(FILES)
    raw = sender.send(file_head_request(session_id, path, digest, owner))
    _raise_for(raw.status)
    state = parse_file_state(raw, digest, size)
    if raw.status == 404 or state is None:
        outcome = Outcome.MISSING
    else:
        outcome = Outcome.EQUAL if state.there else Outcome.DIFFERENT
    return Verdict(subject.stream, outcome, 0, size, 0, "digest")


def verify_base(sender: Sender, path: str, stream: StreamId) -> Verdict:
    """What a base server can show: the uuids of a session's main entries, in order."""
    if stream.subpath:
        stored: list[str | None] | None = []
    else:
        raw = sender.send(loglines_request(stream.session_id, max_reply_bytes=LOGLINES_LIMIT_BYTES))
        if raw.status != 404:
            _raise_for(raw.status)
        stored = parse_loglines(raw)
    if stored is None:
        raise RemoteProtocolError(NOT_OURS)
    there = [one for one in stored if one is not None]
    here, places, entries, end = list[str](), list[int](), 0, 0
    with open_lines(path) as source:
        for mark in walk_entries(source, *stream):
            entries, end = mark.ordinal, mark.end
            if mark.has_uuid:
                here.append(mark.entry_id)
                places.append(mark.ordinal)
    if there == here and not stream.subpath:
        outcome = Outcome.EQUAL
    elif not there:
        outcome = Outcome.MISSING
    else:
        outcome = Outcome.BEHIND if here[: len(there)] == there else Outcome.DIFFERENT
    differs = (ordinal for one, other, ordinal in zip(here, there, places, strict=False) if one != other)
    at = next(differs, entries + 1) if outcome is Outcome.DIFFERENT else 0
    return Verdict(stream, outcome, entries, end, len(there), "uuids", differs_at=at)


def _raise_for(status: int) -> None:
    if status == 401:
        raise Unauthorized("the server does not accept the token", hint="transcriptd login URL")
    if status not in (200, 404):
        raise Unreachable(f"the server answers {status}", hint="transcriptd status")
