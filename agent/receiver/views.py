"""What readers get: a generation as NDJSON, as loglines, as teleport events. All are streamed run by run."""

from collections.abc import Iterator

import msgspec

from agent.core.transcripts.objects import is_object
from agent.core.transcripts.transcript import split_lines
from agent.receiver.lines import entry_id, facts_of, long_entry_id
from agent.receiver.store import LongEntry, Reading


def stream_ndjson(reading: Reading, after: int, limit: int) -> Iterator[bytes]:
    """The lines as they arrived."""
    for run in reading.runs(after, limit):
        if isinstance(run, LongEntry):
            yield from run.pieces()
            yield b"\n"
        else:
            yield run.data


def stream_loglines(reading: Reading, after: int) -> Iterator[bytes]:
    """`{"loglines": […]}` of the entries that are JSON objects. A torn line in between would make the whole answer
    unreadable, so it is left out; `GET …/entries` has it."""
    yield b'{"loglines":['
    between = b""
    for run in reading.runs(after, reading.head.entry_count):
        if isinstance(run, LongEntry):
            if run.is_object:
                yield between
                yield from run.pieces()
                between = b","
        elif lines := [line for line in split_lines(run.data) if is_object(line)]:
            yield between + b",".join(lines)
            between = b","
    yield b"]}"


def stream_events(session_id: str, reading: Reading, after: int, limit: int) -> Iterator[bytes]:
    """One page of teleport events. The cursor names the generation, so that pages never mix two histories."""
    yield b'{"data":['
    between = b""
    for run in reading.runs(after, limit):
        if isinstance(run, LongEntry):
            yield between
            yield from _long_event(session_id, run)
        else:
            lines = split_lines(run.data)
            yield between + b",".join(_event(session_id, *place) for place in enumerate(lines, run.first))
        between = b","
    last = after + limit
    cursor = f"{reading.head.generation}.{last}" if last < reading.head.entry_count else None
    yield b'],"next_cursor":' + msgspec.json.encode(cursor) + b"}"


def _event(session_id: str, ordinal: int, line: bytes) -> bytes:
    facts = facts_of(line)
    return msgspec.json.encode(
        {
            "event_id": entry_id(session_id, "", ordinal, line),
            "event_type": facts.type if isinstance(facts.type, str) else "",
            "is_compaction": facts.is_compaction(),
            "created_at": facts.timestamp if isinstance(facts.timestamp, str) else None,
            "payload": msgspec.Raw(line) if is_object(line) else None,
        }
    )


def _long_event(session_id: str, entry: LongEntry) -> Iterator[bytes]:
    """Nothing of an entry this long is decoded, so its type and time stay unsaid."""
    event = {"event_id": long_entry_id(session_id, "", entry), "event_type": "", "is_compaction": False}
    yield msgspec.json.encode(event)[:-1] + b',"created_at":null,"payload":'
    if entry.is_object:
        yield from entry.pieces()
    else:
        yield b"null"
    yield b"}"
