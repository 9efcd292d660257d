"""Transcript files as normalised events, in bounded memory: what is held at once is one line, and no longer one than
`LONGEST_LINE_BYTES`."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.core.sessions.normalised import LONGEST_LINE_BYTES, RAW_BYTES, Kind

if TYPE_CHECKING:
    from agent.core.sessions.normalised import Event, LineReader
    from agent.core.transcripts.session import Provider, StreamId

_READ_BYTES = 1 << 18

_TAIL_BYTES = 1 << 18
_MOST_TAIL_BYTES = 1 << 26
"""How far from its end a file is read for the last messages: two of the longest lines have room in it."""

MESSAGES = (Kind.USER_MESSAGE, Kind.ASSISTANT_MESSAGE)


class Readable(Protocol):
    """A file, as far as this module needs one: `system.files.reading.open_file` gives it."""

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer only at the end of the file."""


class WholeLine(NamedTuple):
    """A line that its newline ends. `start` and `end` are offsets, `end` behind the newline. `too_long`: `data` is
    only how it begins."""

    data: bytes
    start: int
    end: int
    too_long: bool = False


def read_lines(
    file: Readable, from_offset: int = 0, to_offset: int | None = None, *, longest: int = LONGEST_LINE_BYTES
) -> Iterator[WholeLine]:
    """The whole lines from an offset where one begins, up to the end of the file or to another such offset. What
    follows the last newline is not a line yet. Raises DiskError."""
    at = start = from_offset
    held: list[bytes] = []
    held_bytes = 0
    while data := file.read_at(at, _READ_BYTES if to_offset is None else min(_READ_BYTES, to_offset - at)):
        at += len(data)
        if (last := data.rfind(b"\n")) < 0:
            if held_bytes <= longest:
                held.append(data)
            held_bytes += len(data)
            if held_bytes > longest:
                held = [b"".join(held)[:RAW_BYTES]]
            continue
        first = data.find(b"\n")
        end = start + held_bytes + first + 1
        if held_bytes <= longest:
            held.append(data[:first])
        if held_bytes + first > longest:
            yield WholeLine(b"".join(held)[:RAW_BYTES], start, end, True)
        else:
            yield WholeLine(b"".join(held), start, end)
        start = end
        for line in data[first + 1 : last].split(b"\n") if last > first else ():
            end = start + len(line) + 1
            yield WholeLine(line, start, end) if len(line) <= longest else WholeLine(line[:RAW_BYTES], start, end, True)
            start = end
        held = [data[last + 1 :]]
        held_bytes = len(held[0])


def read_events(
    provider: "Provider",
    file: Readable,
    stream: "StreamId",
    *,
    from_offset: int = 0,
    to_offset: int | None = None,
    reader: "LineReader | None" = None,
) -> "Iterator[Event]":
    """What the whole lines of a transcript say. `reader`: one that has read what stands before `from_offset`; without
    one, numbering begins there. Raises DiskError."""
    reader = reader or provider.reader(stream)
    for line in read_lines(file, from_offset, to_offset):
        yield from reader.skip(line.data) if line.too_long else reader.read(line.data)
    yield from reader.finish()


def read_last_messages(
    provider: "Provider", file: Readable, size: int, stream: "StreamId", count: int
) -> "list[Event]":
    """The last `count` messages of user and assistant, the oldest first, from the end of a file of `size` bytes: four
    times as much of it is read as before until they are there. Where that does not begin with the first line, `seq`
    and `line` count from where it does. Raises DiskError."""
    tail = _TAIL_BYTES
    while True:
        begin = max(0, size - tail)
        start = _line_behind(file, begin, size)
        found: deque[Event] = deque(maxlen=count)
        if start is not None:
            events = read_events(provider, file, stream, from_offset=start, to_offset=size)
            found.extend(event for event in events if event.kind in MESSAGES)
        if len(found) == count or begin == 0 or tail >= _MOST_TAIL_BYTES:
            return list(found)
        tail *= 4


def _line_behind(file: Readable, offset: int, size: int) -> int | None:
    """Where the first line begins at or behind an offset; None where none does before `size`."""
    at = offset
    if at == 0:
        return 0
    while at < size and (data := file.read_at(at, min(_READ_BYTES, size - at))):
        if (newline := data.find(b"\n")) >= 0:
            return at + newline + 1
        at += len(data)
    return None
