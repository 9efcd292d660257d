"""Holds the files of unsent streams, so that they can be delivered even if their coding agent deletes them first."""

from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, unquote

from agent.core.audit import AuditKind
from agent.core.lifecycle import UNSENT, State
from agent.core.packed import is_packed
from agent.core.session import Observation, StreamId
from agent.daemon.gates import Gates
from agent.daemon.journal import Journal
from agent.daemon.tasks import FoundHeld, Held, HeldOutcome, HeldTask, KeepTask, LetGo, LetGoTask, NotHeld, TrackKey
from agent.daemon.tracks import Track

SWEEP_S = 30.0
"""What is sent within this time needs no holding; a coding agent's clean-up comes after days."""

_MAIN = "=main"
"""Stands for the empty subpath; no quoted name holds a `=`."""

_ENDING = ".jsonl"


def kept_name(provider: str, stream: StreamId) -> str:
    """Where a stream's file is held: from the name alone it can be told again whose it is."""
    subpath = quote(stream.subpath, safe="") or _MAIN
    return f"{provider}/{quote(stream.session_id, safe='')}/{subpath}{_ENDING}"


def parse_kept_name(name: str) -> tuple[str, StreamId] | None:
    """The provider and stream of a held file's name; None when it is no such name."""
    parts = name.split("/")
    if len(parts) != 3 or not parts[2].endswith(_ENDING):
        return None
    subpath = parts[2].removesuffix(_ENDING)
    return parts[0], StreamId(unquote(parts[1]), "" if subpath == _MAIN else unquote(subpath))


def is_wanted(track: Track) -> bool:
    """Whether its destination still wants something of it; one that refused it may want it later."""
    return track.state in UNSENT or (track.state is State.REFUSED and track.status != 0)


class Keeper:
    """`limit_bytes`: of all copies together; links cost nothing."""

    def __init__(
        self,
        tracks: dict[TrackKey, Track],
        gates: Gates,
        journal: Journal,
        dispatch: Callable[[HeldTask], None],
        *,
        monotonic_s: Callable[[], float],
        limit_bytes: int,
    ) -> None:
        self._tracks = tracks
        self._gates = gates
        self._journal = journal
        self._dispatch = dispatch
        self._monotonic_s = monotonic_s
        self._limit_bytes = limit_bytes
        self._asked: set[StreamId] = set()
        self._providers: dict[StreamId, str] = {}
        self.others: Callable[[], Iterable[Observation]] = tuple
        """Files that may hold what no stream holds, each with the stream that it would be."""
        self.held: dict[StreamId, Held] = {}
        self._copied_bytes = 0
        self.trouble: dict[StreamId, str] = {}
        """Streams whose file can't be held, and why."""
        self.sweep_at_s: float | None = None
        """Monotonic time of the next look; None while everything is sent."""

    def load(self, found: Iterable[FoundHeld]) -> Iterator[Observation]:
        """Takes up what an earlier life held, and gives each as what a look at it would find."""
        for one in found:
            parsed = parse_kept_name(one.name)
            if parsed is not None:
                provider, stream = parsed
                self._providers[stream] = provider
                self._set_held(stream, Held(stream, one.path, one.inode, one.copied_bytes))
                self.wake()
                yield Observation(stream, provider, one.path, one.size, one.mtime_ns, 0, one.inode)

    def wake(self) -> None:
        """Something is to be sent, and may have to be held."""
        if self.sweep_at_s is None:
            self.sweep_at_s = self._monotonic_s() + SWEEP_S

    def sweep(self) -> None:
        wanted: dict[StreamId, Track | Observation] = {one.stream: one for one in self.others()}
        wanted |= {key.stream: track for key, track in self._tracks.items() if is_wanted(track)}
        for stream, file in wanted.items():
            self._hold(stream, file)
        for stream in [one for one in self.held if one not in wanted]:
            self.let_go(stream)
        self.sweep_at_s = None
        if wanted or self.held:
            self.wake()

    def _hold(self, stream: StreamId, track: Track | Observation) -> None:
        held = self.held.get(stream)
        is_stale = held is not None and (
            0 < held.copied_bytes < track.size  # of a copy
            or held.inode not in {0, track.inode}  # of a link to a file that another one continues
        )
        if is_packed(track.path):
            return  # packed to be kept
        if stream in self._asked or (held is not None and (track.path == held.path or not is_stale)):
            return
        self._asked.add(stream)
        self._providers[stream] = track.provider
        left = self._limit_bytes - self._copied_bytes
        self._dispatch(KeepTask(stream, track.path, kept_name(track.provider, stream), max(0, left)))

    def let_go(self, stream: StreamId) -> None:
        if stream in self.held and stream not in self._asked:
            self._asked.add(stream)
            self._dispatch(LetGoTask(stream, kept_name(self._providers[stream], stream)))

    def came_back(self, outcome: HeldOutcome) -> None:
        stream = outcome.stream
        self._asked.discard(stream)
        match outcome:
            case Held():
                if stream not in self.held:
                    self._note(stream, AuditKind.KEPT, "a copy" if outcome.copied_bytes else "a link")
                self._set_held(stream, outcome)
                self.trouble.pop(stream, None)
            case NotHeld():
                self.trouble[stream] = outcome.why
            case LetGo():
                if stream in self.held:
                    self._set_held(stream, None)
                    self._note(stream, AuditKind.LET_GO, "")
                self.trouble.pop(stream, None)

    def _set_held(self, stream: StreamId, held: Held | None) -> None:
        """The sum is kept beside it: there may be 100,000, and each asks for what is left."""
        before = self.held.pop(stream, None)
        self._copied_bytes -= before.copied_bytes if before else 0
        if held is not None:
            self.held[stream] = held
            self._copied_bytes += held.copied_bytes

    def _note(self, stream: StreamId, kind: AuditKind, detail: str) -> None:
        keys = (TrackKey(one.name, *stream) for one in self._gates)
        key = next((one for one in keys if one in self._tracks), None)
        if key is not None:
            self._journal.note_audit(key, kind, detail)
