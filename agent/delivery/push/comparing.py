"""Compares the files of one session: in a worker, piece by piece, in bounded memory. What is sent is decided by it."""

from collections.abc import Mapping, Sequence

from agent.core.transcripts.session import Observation, StreamId, is_side_file
from agent.core.transcripts.sources import DECISIONS, Decision, Relation, Standing, copy_subpath, rank, relation_of
from agent.core.transcripts.transcript import walk_entries
from agent.delivery.base.world import Files
from agent.delivery.state.tasks import Against, Compared, CompareTask, Look
from agent.errors import DiskError, FileVanished

_PIECE_BYTES = 1 << 20


def compare(files: Files, task: CompareTask) -> Compared:
    """The first of `task.against` that the file is no stranger to; diverged when there is none."""
    first = task.against[0]
    look, against = _look(files, task.path), first
    try:
        if look is None:
            raise FileVanished(f"{task.path} is no longer there")
        for against in task.against:
            found, other = _relate(files, task.path, look, against)
            if found is not Relation.DIVERGED:
                return Compared(task.stream, task.path, look, against.stream, against.path, other, found)
    except DiskError as exc:
        return Compared(task.stream, task.path, look, against.stream, against.path, None, None, exc.message)
    return Compared(task.stream, task.path, look, first.stream, first.path, None, Relation.DIVERGED)


def choose_files(
    files: Files, found: Sequence[Observation], followed: Mapping[str, StreamId]
) -> tuple[list[Observation], dict[str, str]]:
    """Of several files that claim one stream those that stand for something, each with its stream, as the agent decides
    it; path → why, of what could not be compared. `followed`: the files that it follows already."""
    chosen: list[Observation] = []
    trouble: dict[str, str] = {}
    for one in sorted(found, key=lambda one: _rank(one, followed)):
        against = tuple(Against(other.stream, other.path) for other in chosen)
        if not against:
            chosen.append(one._replace(stream=followed.get(one.path, one.stream)))
            continue
        done = compare(files, CompareTask(one.stream, one.path, against))
        if done.relation is None:
            trouble[one.path] = done.why
        decision = Decision.APART if done.relation is None else DECISIONS[done.relation][Standing.FOLLOWED]
        if decision is Decision.FOLLOW:
            chosen = [one._replace(stream=it.stream) if it.stream == done.of else it for it in chosen]
        elif decision is Decision.APART:
            taken = [it.stream.subpath for it in chosen]
            copy = StreamId(one.stream.session_id, copy_subpath(one.stream.subpath, one.path, taken))
            chosen.append(one._replace(stream=followed.get(one.path, copy)))
    return chosen, trouble


def _rank(one: Observation, followed: Mapping[str, StreamId]) -> tuple[bool, bool, tuple[int, int, str]]:
    stream = followed.get(one.path)
    return stream is None, stream != one.stream, rank(one)


def _look(files: Files, path: str) -> Look | None:
    entry = files.look_at(path)
    return None if entry is None else Look(entry.size, entry.mtime_ns, entry.device, entry.inode)


def _relate(files: Files, path: str, look: Look, against: Against) -> tuple[Relation, Look | None]:
    """Raises DiskError."""
    if not against.path:
        return (Relation.CONTINUES if _holds(files, path, against) else Relation.DIVERGED), None
    other = _look(files, against.path)
    if other is None:
        raise FileVanished(f"{against.path} is no longer there")
    if look.identity == other.identity:
        return Relation.SAME, other
    return _compare_contents(files, path, against.path), other


def _compare_contents(files: Files, path: str, other_path: str) -> Relation:
    with files.open_file(path) as one, files.open_file(other_path) as other:
        size, other_size = one.size(), other.size()
        at, end = 0, min(size, other_size)
        while at < end:
            count = min(_PIECE_BYTES, end - at)
            piece, beside = one.read_at(at, count), other.read_at(at, count)
            if len(piece) < count or len(beside) < count:
                raise DiskError(f"{path} or {other_path} became shorter while it was read")
            if piece != beside:
                return Relation.DIVERGED
            at += count
    return relation_of(size, other_size)


def _holds(files: Files, path: str, sent: Against) -> bool:
    """Whether all that was sent stands at the beginning of the file. A side file travels as a whole, and the next one
    of its name takes its place."""
    if sent.entry_count == 0 or is_side_file(sent.stream.subpath):
        return True
    with files.open_lines(path) as source:
        for mark in walk_entries(source, *sent.stream, with_tail=True):
            if mark.ordinal == sent.entry_count:
                return mark.chain == sent.chain
    return False
