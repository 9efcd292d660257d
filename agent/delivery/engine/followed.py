"""Which file each stream is followed by, as its tracks say."""

from collections.abc import Mapping, Sequence

from agent.core.delivery.lifecycle import State
from agent.core.transcripts.session import StreamId
from agent.core.transcripts.sources import origin_of
from agent.delivery.retention.keeper import is_wanted
from agent.delivery.state.gates import Gates
from agent.delivery.state.journal import Journal
from agent.delivery.state.tasks import TrackKey
from agent.delivery.state.tracks import Track


def origin_stream(stream: StreamId) -> StreamId:
    """The stream that a file of this one claims to be."""
    subpath = origin_of(stream.subpath)
    return stream if subpath == stream.subpath else StreamId(stream.session_id, subpath)


class Followed:
    """`subpaths`: session → those of its streams beside the main transcript."""

    def __init__(
        self, tracks: Mapping[TrackKey, Track], gates: Gates, journal: Journal, subpaths: Mapping[str, Sequence[str]]
    ) -> None:
        self._tracks = tracks
        self._gates = gates
        self._journal = journal
        self._subpaths = subpaths

    def of(self, stream: StreamId) -> list[tuple[TrackKey, Track]]:
        """What is known of it, for each destination."""
        keys = (TrackKey(one.name, *stream) for one in self._gates)
        return [(key, track) for key in keys if (track := self._tracks.get(key)) is not None]

    def family(self, origin: StreamId) -> list[StreamId]:
        """The stream, and those of files that went another way; of each something is known."""
        beside = self._subpaths.get(origin.session_id, ())
        copies = [one for one in beside if one != origin.subpath and origin_of(one) == origin.subpath]
        streams = [StreamId(origin.session_id, subpath) for subpath in (origin.subpath, *copies)]
        return [one for one in streams if self.of(one)]

    def track(self, stream: StreamId) -> Track | None:
        """One that has a file; None where no file stands for the stream."""
        return next((track for _, track in self.of(stream) if track.state is not State.GONE), None)

    def path(self, stream: StreamId) -> str | None:
        track = self.track(stream)
        return None if track is None else track.path

    def is_unsent(self, stream: StreamId) -> bool:
        return any(is_wanted(track) for _, track in self.of(stream))

    def move(self, stream: StreamId, path: str) -> None:
        """From now on the file at `path` stands for it."""
        for key, track in self.of(stream):
            track.path = path
            self._journal.note_change(key)
