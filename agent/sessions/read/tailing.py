"""One session that somebody follows: what is added to its files, as numbered events, kept to a bound. Nothing of this
is there for sessions that nobody follows."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.transcripts.session import StreamId
from agent.errors import DiskError
from agent.sessions.read.readout import read_lines

if TYPE_CHECKING:
    from agent.core.sessions.normalised import Event, LineReader
    from agent.core.transcripts.session import Provider
    from agent.delivery.base.world import Files, OpenFile

MOST_EVENTS = 1_000
MOST_BYTES = 1 << 20
"""Of one session's events: who is slower is told to refresh."""

LONGEST_BYTES = 4 << 20
"""Of a line that is taken apart here; a longer one is a warning. `sessions show` reads it whole."""

TEXT_CHARACTERS = 64 << 10
"""Of one text of an event; the rest stands in the file."""

TURN_BYTES = 1 << 20
"""Read of one file until others have their turn."""

MOST_BACK_BYTES = 4 << 20
"""Before the end of a file nothing is read to be replayed."""

_MARKER_BYTES = 64
_BACK_BYTES = 64 << 10
_AN_EVENT_BYTES = 300
_TEXTS = frozenset({"text", "arguments", "raw"})


class Place(NamedTuple):
    """A file of the session, and from where it is followed; None: from its end."""

    path: str
    offset: int | None = None


class _Stream:
    __slots__ = ("inode", "marker", "offset", "path", "reader", "searched_to")

    def __init__(self, path: str, reader: "LineReader") -> None:
        self.path = path
        self.reader = reader
        self.offset = -1
        """Behind the last line that was read; -1 until it was looked at."""
        self.searched_to = 0
        """So far there is no newline behind it."""
        self.inode = 0
        self.marker = b""


class _Kept(NamedTuple):
    seq: int
    value: dict[str, Any]
    size: int


class Tail:
    """`epoch` names its numbers. `look` and `note` are for one thread; `read` and the listeners for any."""

    def __init__(
        self,
        session_id: str,
        provider: "Provider",
        files: "Files",
        epoch: str,
        *,
        most_events: int = MOST_EVENTS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._most_events = most_events
        self._most_bytes = most_bytes
        self.session_id = session_id
        self.epoch = epoch
        self.run_id = ""
        self.earlier_seq = 0
        """Up to there stand the ends of earlier runs only."""
        self._provider = provider
        self._files = files
        self._streams: dict[str, _Stream] = {}
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = 0
        self._next_seq = 1
        self._lock = threading.Lock()
        self._wakes: dict[object, Callable[[], None]] = {}

    # --- what is added ----------------------------------------------------------------------------------------

    def begin(self, places: Mapping[str, Place]) -> None:
        """Follows the streams from there on; what can't be read is followed from its beginning when it can."""
        for subpath, place in places.items():
            self.add(subpath, place)

    def add(self, subpath: str, place: Place) -> None:
        stream = self._streams[subpath] = _Stream(place.path, self._new_reader(subpath))
        try:
            with self._files.open_file(place.path) as file:
                self._start(stream, file, place.offset)
        except DiskError:
            stream.offset = 0

    def knows(self, subpath: str) -> bool:
        return subpath in self._streams

    def offsets(self) -> dict[str, int]:
        return {subpath: max(0, one.offset) for subpath, one in self._streams.items()}

    def paths(self) -> dict[str, str]:
        return {subpath: one.path for subpath, one in self._streams.items()}

    def look(self, subpath: str, path: str = "") -> bool:
        """Reads what is new; whether there is more to read at once. `path`: where the file is now."""
        stream = self._streams[subpath]
        stream.path = path or stream.path
        try:
            entry = self._files.look_at(stream.path)
            if entry is None or (entry.inode == stream.inode and entry.size == stream.offset):
                return False
            with self._files.open_file(stream.path) as file:
                if self._is_rewritten(stream, file):
                    stream.reader = self._new_reader(subpath)
                    self._start(stream, file, None)
                    self.note("rewritten", subpath=subpath, offset=stream.offset)
                stream.inode = entry.inode
                return self._read_on(subpath, stream, file)
        except DiskError:
            return False  # it is looked at again

    def note(self, kind: str, **fields: Any) -> None:
        """A numbered event that is no line of a file."""
        self._keep({"kind": kind, "session_id": self.session_id, "run": self.run_id, **fields}, _AN_EVENT_BYTES)

    def _read_on(self, subpath: str, stream: _Stream, file: "OpenFile") -> bool:
        """Only whole lines; what is behind the last newline is searched for one, not read again and again."""
        size = file.size()
        newline = file.find_newline(max(stream.offset, stream.searched_to))
        if newline < 0:
            stream.searched_to = size
            return False
        began = stream.offset
        for line in read_lines(file, stream.offset, longest=LONGEST_BYTES):
            reader = stream.reader
            for event in reader.skip(line.data) if line.too_long else reader.read(line.data):
                self._keep_event(subpath, event, line.end)
            stream.offset = stream.searched_to = line.end
            if stream.offset - began >= TURN_BYTES:
                break
        stream.marker = _marker(file, stream.offset)
        return stream.offset < size and stream.offset - began >= TURN_BYTES

    def _start(self, stream: _Stream, file: "OpenFile", offset: int | None) -> None:
        size = file.size()
        wanted = size if offset is None else min(max(offset, size - MOST_BACK_BYTES), size)
        stream.offset = stream.searched_to = find_line_start(file, wanted)
        stream.marker = _marker(file, stream.offset)
        entry = self._files.look_at(stream.path)
        stream.inode = 0 if entry is None else entry.inode

    def _is_rewritten(self, stream: _Stream, file: "OpenFile") -> bool:
        if file.size() < stream.offset:
            return True
        return _marker(file, stream.offset) != stream.marker

    def _new_reader(self, subpath: str) -> "LineReader":
        return self._provider.reader(StreamId(self.session_id, subpath))

    def _keep_event(self, subpath: str, event: "Event", offset: int) -> None:
        value = event_json(event)
        size = _AN_EVENT_BYTES + sum(len(one) for one in value.values() if isinstance(one, str))
        fields = {"kind": "message", "session_id": self.session_id, "run": self.run_id}
        self._keep({**fields, "subpath": subpath, "offset": offset, "event": value}, size)

    def _keep(self, value: dict[str, Any], size: int) -> None:
        with self._lock:
            seq = self._next_seq
            self._next_seq += 1
            self._kept.append(_Kept(seq, {"seq": seq, **value}, size))
            self._kept_bytes += size
            while len(self._kept) > self._most_events or (self._kept_bytes > self._most_bytes and len(self._kept) > 1):
                self._kept_bytes -= self._kept.popleft().size
            wakes = tuple(self._wakes.values())
        for wake in wakes:
            wake()

    # --- who listens ------------------------------------------------------------------------------------------

    @property
    def last_seq(self) -> int:
        return self._next_seq - 1

    @property
    def oldest_seq(self) -> int:
        """Of what is kept; that of the next one when nothing is."""
        with self._lock:
            return self._kept[0].seq if self._kept else self._next_seq

    def read(self, from_seq: int, most: int) -> Sequence[dict[str, Any]] | None:
        """Up to `most` from there on; None when some of them are gone."""
        with self._lock:
            oldest = self._kept[0].seq if self._kept else self._next_seq
            if from_seq < oldest:
                return None
            first = from_seq - oldest
            return [self._kept[at].value for at in range(first, min(len(self._kept), first + most))]

    def take_all(self) -> list[dict[str, Any]]:
        """All that is kept, which is then no longer kept: for one reader who keeps pace."""
        with self._lock:
            found = [one.value for one in self._kept]
            self._kept.clear()
            self._kept_bytes = 0
        return found

    def find_complete(self, run_id: str) -> int:
        """Number of the event that completes the run; 0 when it is not kept."""
        with self._lock:
            found = (one.seq for one in self._kept if one.value["kind"] == "complete" and one.value["run"] == run_id)
            return next(found, 0)

    def listen(self, who: object, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakes[who] = wake

    def forget(self, who: object) -> None:
        with self._lock:
            self._wakes.pop(who, None)

    def wake_all(self) -> None:
        with self._lock:
            wakes = tuple(self._wakes.values())
        for wake in wakes:
            wake()


def event_json(event: "Event", characters: int = TEXT_CHARACTERS) -> dict[str, Any]:
    """As JSON, with texts of at most so many characters; what is cut says so."""
    import msgspec

    value: dict[str, Any] = msgspec.to_builtins(event)
    is_cut = False
    for name, text in value.items():
        most = characters if name in _TEXTS else TEXT_CHARACTERS
        if isinstance(text, str) and len(text) > most:
            value[name] = text[:most]
            is_cut = True
    if is_cut:
        value["cut"] = True
    return value


def find_line_start(file: "OpenFile", offset: int) -> int:
    """Where the line begins that holds the byte before `offset`; `offset` itself where a line ends right before it. A
    line longer than 4 MiB counts as begun there."""
    at = offset
    while at > 0 and offset - at < LONGEST_BYTES:
        first = max(0, at - _BACK_BYTES)
        found = file.read_at(first, at - first).rfind(b"\n")
        if found >= 0:
            return first + found + 1
        at = first
    return 0 if at == 0 else offset


def find_last_lines(file: "OpenFile", count: int, most_bytes: int) -> int:
    """Where the last `count` whole lines begin, within the last `most_bytes`."""
    end = find_line_start(file, file.size())
    at, left = end, count
    while at > 0 and end - at < most_bytes:
        first = max(0, at - _BACK_BYTES)
        data = file.read_at(first, at - first)
        found = len(data)
        while (found := data.rfind(b"\n", 0, found)) >= 0:
            if first + found + 1 == end:
                continue  # the newline of the last one
            left -= 1
            if left == 0:
                return first + found + 1
        at = first
    return 0 if at == 0 else find_line_start(file, at)


def read_last_events(
    reader: "LineReader", file: "OpenFile", count: int, most_bytes: int = 8 << 20
) -> "Iterable[tuple[Event, int]]":
    """The last events of a file, with the offset behind the line of each. Raises DiskError."""
    found: deque[tuple[Event, int]] = deque(maxlen=count)
    if count > 0:
        for line in read_lines(file, find_last_lines(file, count, most_bytes), longest=LONGEST_BYTES):
            events = reader.skip(line.data) if line.too_long else reader.read(line.data)
            found.extend((one, line.end) for one in events)
    return found


def _marker(file: "OpenFile", offset: int) -> bytes:
    first = max(0, offset - _MARKER_BYTES)
    return file.read_at(first, offset - first)
