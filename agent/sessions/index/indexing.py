"""Keeps the index of sessions up to date: reads what transcripts say, counts it, and goes on where it stopped.

A stream that grew is read on from where it was read to, as long as the reader that came there is still at hand (it
knows what later lines refer to); else it is read anew, as one that was rewritten is. Progress is written every few
streams, so that what is interrupted goes on there.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from agent.core.sessions.lineage import conversations, link
from agent.core.sessions.normalised import LineReader
from agent.core.sessions.summary import Summary
from agent.core.transcripts.session import Facts, Observation, Provider, StreamId, is_side_file
from agent.core.transcripts.transcript import whole_lines_bytes
from agent.delivery.base.reading import marker_at
from agent.delivery.base.world import Files
from agent.delivery.discovery.scanner import Root
from agent.delivery.inventory.survey import Followed, find_streams
from agent.errors import DiskError
from agent.providers.tracing import Tracer
from agent.sessions.read.readout import read_lines
from agent.system.files import reading as real_files
from agent.system.files.reading import TranscriptFile
from agent.system.state.index_db import IndexDb, Indexed, Known

READER_VERSIONS: Mapping[str, int] = {}
"""Provider → version of its reader, 1 without one. What another version has read is read anew."""

_FIRST_BYTES = 64 << 10
_LONGEST_TELLING_BYTES = 64 << 10

_BATCH_STREAMS = 64
_BATCH_BYTES = 16 << 20
_BATCH_S = 2.0
"""What was read is written after so many streams, bytes or seconds, whichever comes first."""

_READERS = 32
"""Streams that are read on without a look back: more are hardly written at once."""

_LINK_SHARE = 0.05
"""Linking sessions looks at all of them, so it takes at most this share of the time."""

Progress = Callable[[int, int], None]
"""Bytes read so far, and how many there are to read."""


class Failed(NamedTuple):
    path: str
    why: str


class _Place:
    """How far a stream was read, with what is needed to read on."""

    def __init__(self, provider: Provider, stream: StreamId) -> None:
        self.reader: LineReader = provider.reader(stream)
        self.tracer = None if stream.subpath else Tracer(provider.name, stream.session_id)
        self.summary = Summary()
        self.marked: list[bytes] = []
        self.facts = Facts()
        self.offset = 0
        self.is_closed = False
        """The reader said what can only be said at the end, so it can't go on."""


class Indexer:
    """For one thread, under the index's lock. `failed`: transcripts that could not be read, of the last look."""

    def __init__(
        self,
        db: IndexDb,
        roots: Sequence[Root],
        *,
        versions: Mapping[str, int] = READER_VERSIONS,
        files: Files = real_files,
        followed: Followed = dict,
        monotonic_s: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
        is_to_end: Callable[[], bool] = lambda: False,
    ) -> None:
        self._db = db
        self._roots = roots
        self._providers = {root.provider.name: root.provider for root in roots}
        self._versions = versions
        self._files = files
        self._followed = followed
        self._monotonic_s, self._now_s = monotonic_s, now_s
        self._is_to_end = is_to_end
        self._places: OrderedDict[StreamId, _Place] = OrderedDict()
        self._batch: list[Indexed] = []
        self._batch_bytes = 0
        self._written_s = monotonic_s()
        self._to_link = not db.has_links_of_all()
        self._link_after_s = 0.0
        self.failed: list[Failed] = []
        self.bytes_read = 0

    def look_at_all(self, progress: Progress = lambda _done, _all: None, *, force: Sequence[str] | None = None) -> int:
        """Brings everything up to date: how many streams were read. `force`: providers of which all is read anew."""
        found = find_streams(self._roots, self._followed).files
        known = self._db.known()
        there = [one for files in found.values() for one in files]
        due = [one for one in there if self._is_due(one, known.get(one.stream), force or ())]
        due.sort(key=lambda one: -one.mtime_ns)  # what people ask for is mostly recent
        total = sum(one.size for one in due)
        self.bytes_read = 0
        for one in due:
            if self._is_to_end():
                break
            self._read_one(one, known.get(one.stream), anew=one.provider in (force or ()))
            progress(self.bytes_read, total)
        else:
            self._note_imports({one.provider for one in there})
        seen = {one.stream for one in there}
        lost = [stream for stream, was in known.items() if stream not in seen and not was.gone]
        self.lose(stream for stream in lost if self._files.is_missing(known[stream].path))
        self.finish()
        return len(due)

    def look_at(self, observations: Iterable[Observation]) -> None:
        """Brings these up to date."""
        for one in observations:
            known = self._db.known_of(one.stream)
            if one.provider in self._providers and self._is_due(one, known, ()):
                self._read_one(one, known, anew=False)
        self.finish()

    def lose(self, streams: Iterable[StreamId]) -> None:
        gone = list(streams)
        for one in gone:
            self._places.pop(one, None)
        if gone:
            self._flush()
            self._db.set_gone(gone)

    def finish(self) -> None:
        """Writes what was read, and links sessions when it is time for that."""
        self._flush()
        if self._to_link and self._monotonic_s() >= self._link_after_s:
            self.link()

    def link(self) -> None:
        began_s = self._monotonic_s()
        self._flush()
        links = link(self._db.traces())
        ids = [row["session_id"] for row in self._db.ask("select session_id from sessions order by started_at_s")]
        roots = {member: one.root for one in conversations(ids, links) for member in one.members}
        self._db.set_links(links, roots)
        self._to_link = False
        self._link_after_s = self._monotonic_s() + (self._monotonic_s() - began_s) / _LINK_SHARE

    # --- one stream -------------------------------------------------------------------------------------------

    def _version(self, provider: str) -> int:
        return self._versions.get(provider, 1)

    def _is_due(self, one: Observation, known: Known | None, force: Sequence[str]) -> bool:
        if known is None or one.provider in force:
            return True
        if known.path != one.path and not known.gone and not self._files.is_missing(known.path):
            return False  # another file with the same id; the first one stands for it
        is_same = (known.size, known.mtime_ns, known.inode) == (one.size, one.mtime_ns, one.inode % (1 << 63))
        return not is_same or known.gone or known.path != one.path or known.reader != self._version(one.provider)

    def _read_one(self, one: Observation, known: Known | None, *, anew: bool) -> None:
        try:
            with real_files.open_file(one.path) as file:
                found = self._read(one, None if anew else known, file)
        except DiskError as exc:
            self._places.pop(one.stream, None)
            self.failed.append(Failed(one.path, exc.message))
            return
        self._to_link = self._to_link or known is None
        self._batch.append(found)
        age_s = self._monotonic_s() - self._written_s
        if len(self._batch) >= _BATCH_STREAMS or self._batch_bytes >= _BATCH_BYTES or age_s > _BATCH_S:
            self._flush()

    def _read(self, one: Observation, known: Known | None, file: TranscriptFile) -> Indexed:
        provider, version = self._providers[one.provider], self._version(one.provider)
        if is_side_file(one.stream.subpath):
            whole = Known(one.path, one.size, one.mtime_ns, one.inode, one.size, b"", version, gone=False)
            return Indexed(one.stream, one.provider, whole, Summary(), Facts())
        place = self._place_of(provider, one, known, file)
        if place.offset == 0:
            # Somebody may have asked for the beginning while it was being written: it is read whole lines at a time.
            data = file.read_at(0, _FIRST_BYTES)
            place.facts = provider.read_facts(data[: whole_lines_bytes(data)], (), Facts(one.project))
        self._read_on(place, provider, file)
        if place.marked:
            place.facts = provider.read_facts(b"", place.marked, place.facts)
            place.marked = []
        place.facts = Facts(one.project).merged(place.facts)
        self._keep(one.stream, place)
        marker = marker_at(file, place.offset)
        read = Known(one.path, one.size, one.mtime_ns, one.inode, place.offset, marker, version, gone=False)
        trace = None if place.tracer is None else place.tracer.trace()
        return Indexed(one.stream, one.provider, read, place.summary, place.facts, trace)

    def _place_of(self, provider: Provider, one: Observation, known: Known | None, file: TranscriptFile) -> _Place:
        """Where to read on; from the beginning what nobody can go on with."""
        place = self._places.pop(one.stream, None)
        if place is None or known is None or place.is_closed or known.reader != self._version(one.provider):
            return _Place(provider, one.stream)
        is_same = known.path == one.path and known.offset == place.offset <= file.size()
        return place if is_same and marker_at(file, place.offset) == known.marker else _Place(provider, one.stream)

    def _read_on(self, place: _Place, provider: Provider, file: TranscriptFile) -> None:
        reader, summary, tracer, telling = place.reader, place.summary, place.tracer, provider.telling
        began = place.offset
        for line in read_lines(file, place.offset):
            data = line.data
            for event in reader.skip(data) if line.too_long else reader.read(data):
                summary.add(event)
            summary.lines += 1
            if tracer is not None and not line.too_long:
                tracer.add(data)
            if telling and data.startswith(telling) and len(data) <= _LONGEST_TELLING_BYTES:
                place.marked.append(data)
            place.offset = line.end
        for event in reader.finish():
            summary.add(event)
            place.is_closed = True
        self.bytes_read += place.offset - began
        self._batch_bytes += place.offset - began

    def _keep(self, stream: StreamId, place: _Place) -> None:
        if place.is_closed:
            return
        self._places[stream] = place
        if len(self._places) > _READERS:
            self._places.popitem(last=False)

    def _flush(self) -> None:
        if self._batch:
            self._db.write(self._batch)
        self._batch, self._batch_bytes, self._written_s = [], 0, self._monotonic_s()

    def _note_imports(self, providers: Iterable[str]) -> None:
        self._flush()
        for one in sorted(providers):
            self._db.note_import(one, self._version(one), self._now_s())
