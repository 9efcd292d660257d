"""What readers get: a generation as NDJSON, as loglines, as teleport events. All are streamed page by page."""

from collections.abc import Iterator

import msgspec

from agent.receiver.lines import entry_id, facts_of
from agent.receiver.objects import is_object
from agent.receiver.store import Reading, StoredLine


def stream_ndjson(reading: Reading, after: int, limit: int) -> Iterator[bytes]:
    """The lines as they arrived."""
    for page in reading.pages(after, limit):
        short = [line.data for line in page if line.data is not None]
        if short:
            yield b"\n".join(short) + b"\n"
        if len(short) < len(page):  # a long line ends its page
            yield from page[-1].pieces()
            yield b"\n"


def stream_loglines(reading: Reading, after: int) -> Iterator[bytes]:
    """`{"loglines": […]}` of the entries that are JSON objects. A torn line in between would make the whole answer
    unreadable, so it is left out; `GET …/entries` has it."""
    yield b'{"loglines":['
    between = b""
    for page in reading.pages(after, reading.head.entry_count):
        short = [line.data for line in page if line.data is not None and is_object(line.data)]
        if short:
            yield between + b",".join(short)
            between = b","
        if page[-1].is_object:
            yield between
            yield from page[-1].pieces()
            between = b","
    yield b"]}"


def stream_events(session_id: str, reading: Reading, after: int, limit: int) -> Iterator[bytes]:
    """One page of teleport events. The cursor names the generation, so that pages never mix two histories."""
    yield b'{"data":['
    between = b""
    last = after
    for page in reading.pages(after, limit):
        last = page[-1].ordinal
        for line in page:
            yield between
            yield from _event(session_id, line)
            between = b","
    more = last < reading.head.entry_count
    cursor = f"{reading.head.generation}.{last}" if more else None
    yield b'],"next_cursor":' + msgspec.json.encode(cursor) + b"}"


def _event(session_id: str, line: StoredLine) -> Iterator[bytes]:
    event: dict[str, object] = {
        "event_id": entry_id(session_id, "", line),
        "event_type": "",
        "is_compaction": False,
        "created_at": None,
    }
    if line.data is None:
        # Nothing of a line this long is decoded, so its type and time stay unsaid.
        yield msgspec.json.encode(event)[:-1] + b',"payload":'
        if line.is_object:
            yield from line.pieces()
            yield b"}"
        else:
            yield b"null}"
        return
    facts = facts_of(line.data)
    event["event_type"] = facts.type if isinstance(facts.type, str) else ""
    event["is_compaction"] = facts.is_compaction()
    event["created_at"] = facts.timestamp if isinstance(facts.timestamp, str) else None
    event["payload"] = msgspec.Raw(line.data) if is_object(line.data) else None
    yield msgspec.json.encode(event)
