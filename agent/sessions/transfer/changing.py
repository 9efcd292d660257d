"""What changes a transcript, for commands and for the socket alike: checkpoints of compactions to branch from or to go
back to, cutting its beginning off, emptying it, taking it away.

The old transcript is kept beside it first. The agent then finds another file under the name, and begins a new
generation; the server keeps the old one. A session that is at work, or not wholly sent, is left alone.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from agent.core.transcripts.rewriting import (
    BY_PROVIDER,
    Checkpoint,
    choose_checkpoint,
    find_checkpoints,
    find_cut,
    find_uuid,
    fork_line,
    mend_parent,
    read_summary,
    stays_on_reset,
)
from agent.core.transcripts.session import Observation
from agent.errors import DiskError, UsageError
from agent.system.files.reading import open_lines
from agent.system.files.replacing import archive_name, is_open, keep_copy, make_file, mode_of, remove_file, replace_file

QUIET_S = 300.0
"""A session whose files changed within this time may be at work: agents open a file only to add to it."""

LONGEST_LINE_BYTES = 256 << 20

_AFTER_BOUNDARY = 8
"""The summary follows its boundary within so many lines."""


class Subject(NamedTuple):
    """A session of this machine. `files`: its transcripts and side files, the main one first. `unsent`: something of it
    is still to be sent."""

    session_id: str
    provider: str
    files: Sequence[Observation]
    unsent: bool = False

    @property
    def path(self) -> str:
        """Of its main transcript. Raises UsageError without one."""
        found = next((one.path for one in self.files if not one.stream.subpath), None)
        if found is None:
            raise UsageError("this session has no main transcript here", hint="transcriptd sessions list")
        return found


class Changed(NamedTuple):
    """`path`: the transcript that was made or changed; empty where it was taken away. `archive`: where the old one is.
    `session_id`: of what was made. `kept`: lines that it has, of `total` before."""

    session_id: str
    path: str
    archive: str = ""
    kept: int = 0
    total: int = 0


def _lines(path: str) -> Iterator[bytes]:
    """Whole lines and what follows the last one, without their newlines. Raises DiskError, UsageError."""
    with open_lines(path) as source:
        while line := source.readline(LONGEST_LINE_BYTES):
            if len(line) >= LONGEST_LINE_BYTES:
                raise UsageError(f"{path} has a line of more than {LONGEST_LINE_BYTES >> 20} MiB, so it is left alone")
            yield line.removesuffix(b"\n")


def _ended(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield line + b"\n"


# ---- looking ----


def list_checkpoints(subject: Subject) -> list[Checkpoint]:
    _refuse_others(subject)
    return list(find_checkpoints(_lines(subject.path)))


def get_checkpoint(subject: Subject, word: str) -> tuple[Checkpoint, str]:
    """A checkpoint, and the summary that took its place."""
    found = _find(subject, word)
    for at, line in enumerate(_lines(subject.path), 1):
        if found.line < at <= found.line + _AFTER_BOUNDARY and (summary := read_summary(line)):
            return found, summary
        if at > found.line + _AFTER_BOUNDARY:
            break
    return found, ""


def _find(subject: Subject, word: str) -> Checkpoint:
    found = list_checkpoints(subject)
    chosen = choose_checkpoint(found, word)
    if chosen is None:
        what = f"none of its checkpoints is called {word[:80]!a}, of {len(found):,}"
        raise UsageError(what, hint=f"transcriptd sessions compaction list {subject.session_id}")
    return chosen


def _before(path: str, checkpoint: Checkpoint) -> Iterator[bytes]:
    for at, line in enumerate(_lines(path), 1):
        if at == checkpoint.line:
            return
        yield line


# ---- changing ----


def branch(subject: Subject, word: str, new_id: Callable[[], str] = lambda: str(uuid.uuid4())) -> Changed:
    """A new session that begins with what was said up to a checkpoint; the old one is not touched."""
    found, path = _find(subject, word), subject.path
    fork_id = new_id()
    target = os.path.join(os.path.dirname(path), f"{fork_id}.jsonl")
    kept = 0

    def pieces() -> Iterator[bytes]:
        nonlocal kept
        copied = (fork_line(line, subject.session_id, fork_id) for line in _before(path, found))
        for line in copied:
            if line is not None:
                kept += 1
                yield line + b"\n"

    make_file(target, mode_of(path), pieces)
    return Changed(fork_id, target, "", kept, found.line - 1)


def restore(subject: Subject, word: str, now_s: float | None = None) -> Changed:
    """The transcript as it was before a compaction."""
    found = _find(subject, word)

    def pieces(archive: str) -> Iterator[bytes]:
        return _ended(_before(archive, found))

    return _replace(subject, pieces, found.line - 1, now_s)


def compact(subject: Subject, keep: int, now_s: float | None = None) -> Changed:
    """The last lines only: at least `keep`, from the last place on where a conversation may begin."""
    _refuse_others(subject)
    refuse_live(subject, now_s)
    cut = find_cut(_lines(subject.path), keep)
    if cut is None:
        raise UsageError(f"there is nothing to cut off in front of its last {keep:,} lines")

    def pieces(archive: str) -> Iterator[bytes]:
        def kept() -> Iterator[bytes]:
            return (line for at, line in enumerate(_lines(archive), 1) if at >= cut.line)

        known = {found for line in kept() if (found := find_uuid(line)) is not None}
        return _ended(mend_parent(line, known) for line in kept())

    return _replace(subject, pieces, cut.kept, now_s)._replace(total=cut.total)


def reset(subject: Subject, now_s: float | None = None) -> Changed:
    """An empty conversation; only what the session is called stays."""
    _refuse_others(subject)

    def pieces(archive: str) -> Iterator[bytes]:
        return _ended(line for line in _lines(archive) if stays_on_reset(line))

    return _replace(subject, pieces, 0, now_s)


def take_away(subject: Subject, now_s: float | None = None) -> list[Changed]:
    """Every transcript and side file of the session out of its coding agent's sight, each kept beside its place."""
    refuse_live(subject, now_s, unsent_too=False)
    done = []
    for one in sorted(subject.files, key=lambda file: file.stream.subpath == ""):
        archive = archive_name(one.path, _stamp(now_s))
        if os.path.dirname(one.path) != os.path.dirname(subject.path):
            archive = _archive_of_part(subject, one, now_s)
        keep_copy(one.path, archive)
        remove_file(one.path, archive)
        done.append(Changed(subject.session_id, "", archive))
    return done


def _archive_of_part(subject: Subject, one: Observation, now_s: float | None) -> str:
    """Beside the main transcript: what lies in the session's folder may count as a side file of it."""
    base = archive_name(subject.path, _stamp(now_s))
    name = one.stream.subpath.replace("/", "_").replace("\\", "_")[-80:]
    return f"{base.removesuffix('.transcriptd-old')}.{name}.transcriptd-old"


def _replace(subject: Subject, pieces: Callable[[str], Iterator[bytes]], kept: int, now_s: float | None) -> Changed:
    refuse_live(subject, now_s)
    path = subject.path
    archive = archive_name(path, _stamp(now_s))
    keep_copy(path, archive)
    replace_file(path, archive, lambda: pieces(archive))
    return Changed(subject.session_id, path, archive, kept)


def _stamp(now_s: float | None) -> str:
    return datetime.fromtimestamp(time.time() if now_s is None else now_s, UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def _refuse_others(subject: Subject) -> None:
    if subject.provider not in BY_PROVIDER:
        raise UsageError(
            f"this is not offered for sessions of {subject.provider}: its transcripts can't be cut soundly"
        )


def refuse_live(subject: Subject, now_s: float | None, *, unsent_too: bool = True) -> None:
    """Raises UsageError while somebody may be at work in it, or the server lacks something of it."""
    now_s = time.time() if now_s is None else now_s
    for one in subject.files:
        try:
            age_s = now_s - os.stat(one.path).st_mtime
        except OSError as exc:
            raise DiskError(f"{one.path} can't be looked at: {exc.strerror}") from exc
        if age_s < QUIET_S:
            what = f"it may be at work: it changed {max(0.0, age_s):.0f} s ago, {QUIET_S:.0f} s of quiet are asked for"
            raise UsageError(what, hint="end its session, and try again later")
    if is_open(one.path for one in subject.files):
        raise UsageError("a process has it open", hint="end its session first")
    if unsent_too and subject.unsent:
        raise UsageError("something of it is not sent yet", hint="transcriptd push")
