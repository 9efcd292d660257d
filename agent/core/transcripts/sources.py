"""Several files of one transcript: which of them stands for it, as a table.

A session's file may be there twice: copied into a worktree's folder and gone on with there, begun anew by a resume,
brought by a program that synchronises folders, or one file under two names. What they hold decides, never which of
them was found first.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from hashlib import blake2b
from itertools import count

from agent.core.transcripts.session import FILES, Observation, is_side_file

COPIES = "copies/"
"""How the subpath of a file begins that went another way than the one its session is followed by."""

_ID_BYTES = 8
_NAME = re.compile(rf"[0-9a-f]{{{2 * _ID_BYTES}}}")


class Relation(StrEnum):
    """Of a file to the one that is followed; where that is gone, to what was sent of it."""

    SAME = "the same file under another name"
    EQUAL = "equal"
    BEGINNING = "how the other begins"
    CONTINUES = "it begins with the other"
    DIVERGED = "diverged"


class Standing(StrEnum):
    """How it stands with the stream that the file is compared with."""

    FOLLOWED = "followed"
    """Something of it may be on a server, or is held to be sent first."""
    YIELDS = "yields"
    """Nothing has left or is held, and the file it is compared with is the better one to begin with."""


class Decision(StrEnum):
    COVERED = "covered"
    """All that the file holds is in the one that is followed."""
    FOLLOW = "follow"
    """It holds all that the one before holds, or all that was sent, and takes its place."""
    APART = "apart"
    """It becomes a stream of its own."""
    SWAP = "swap"
    """It takes the place, and the one before is decided on in turn."""


DECISIONS: Mapping[Relation, Mapping[Standing, Decision]] = {
    Relation.SAME: {Standing.FOLLOWED: Decision.COVERED, Standing.YIELDS: Decision.COVERED},
    Relation.EQUAL: {Standing.FOLLOWED: Decision.COVERED, Standing.YIELDS: Decision.COVERED},
    Relation.BEGINNING: {Standing.FOLLOWED: Decision.COVERED, Standing.YIELDS: Decision.COVERED},
    Relation.CONTINUES: {Standing.FOLLOWED: Decision.FOLLOW, Standing.YIELDS: Decision.FOLLOW},
    Relation.DIVERGED: {Standing.FOLLOWED: Decision.APART, Standing.YIELDS: Decision.SWAP},
}
"""A file that lacks what was sent never takes the place of the one that has it: no row of `FOLLOWED` says so."""


def rank(seen: Observation) -> tuple[int, int, str]:
    """Of files that went different ways, the one that comes first is the one to begin with: the larger one, then what
    was written longer ago."""
    return -seen.size, seen.mtime_ns, seen.path


def relation_of(size: int, other_size: int) -> Relation:
    """Of two files that are the same as far as the shorter one goes, of the first to the second."""
    if size == other_size:
        return Relation.EQUAL
    return Relation.BEGINNING if size < other_size else Relation.CONTINUES


def copy_subpath(subpath: str, path: str, taken: Collection[str] = ()) -> str:
    """Of the stream that a diverged file becomes, beside the stream with `subpath`. It follows from where the file
    lies, so that it is the same in each life. `taken`: subpaths that stand for other files by now."""
    return next(one for one in _copy_subpaths(subpath, path) if one not in taken)


def _copy_subpaths(subpath: str, path: str) -> Iterator[str]:
    for salt in count():
        key = path.encode(errors="surrogateescape")
        digest = blake2b(key, digest_size=_ID_BYTES, salt=salt.to_bytes(4))
        yield _below(subpath, COPIES + digest.hexdigest())


def _below(subpath: str, name: str) -> str:
    if is_side_file(subpath):
        return f"{FILES}{name}/{subpath.removeprefix(FILES)}"
    return f"{name}/{subpath}" if subpath else name


def copy_place(subpath: str) -> tuple[str, str] | None:
    """Folder and name of a session's copy below what is the session's own, for coding agents that have no such place;
    None for any other stream, and for copies of what stands beside the session."""
    name = subpath.removeprefix(COPIES)
    return (COPIES.rstrip("/"), f"{name}.jsonl") if subpath.startswith(COPIES) and _NAME.fullmatch(name) else None


def copy_at(parts: tuple[str, ...]) -> str | None:
    """The subpath of the copy at such a place."""
    name = parts[-1].removesuffix(".jsonl") if parts else ""
    return COPIES + name if copy_place(COPIES + name) == parts[-2:] else None


def origin_of(subpath: str) -> str:
    """The subpath beside which a diverged file is a stream of its own; `subpath` itself for any other stream."""
    prefix, rest = (FILES, subpath.removeprefix(FILES)) if is_side_file(subpath) else ("", subpath)
    if not rest.startswith(COPIES):
        return subpath
    _, _, below = rest.removeprefix(COPIES).partition("/")
    return prefix + below
