"""How sessions descend from each other, and which are one conversation: from small traces of them, kept while their
lines are read, to links.

    traces = [Trace("a", "claude", …), …]
    links = link(traces)                             session → its parent and why; sessions without one are left out
    for one in conversations(map(name, traces), links): …       each session stands in exactly one

A copy is recognised by the ids of its entries: what a session holds of an earlier one is a copy of it. Where its lines
name a parent, that is believed first. All of it takes O(n log n), also where every session begins with the same
entries, and depends on the traces alone and not on their order.
"""

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

FIRST_IDS = 256
"""So many entries of a session are known one by one, which is most of all sessions."""

SAMPLED = 16
"""Of later ones, one in so many: chosen by the hash of the id, so that copies choose the same."""

MOST_IDS = 1024
"""Of one session, which is 12,500 entries; 12 KiB."""


class LinkKind(StrEnum):
    RESUME = "resume"
    """Goes on with all that its parent was when it ended, in a file of its own."""
    FORK = "fork"
    """Holds or refers to a part of its parent, which went its own way from there."""
    BRANCH = "branch"
    """A fork that somebody made inside of a session, as its lines say."""
    SUBAGENT = "subagent"
    """Its parent started it to do a part of the work."""
    BACKGROUND = "background"
    """A copy that runs on while nobody looks at it."""


class Sample(NamedTuple):
    """Entries by which copies are recognised: hash of the id (8 bytes) and ordinal from 1, both in the file's order."""

    hashes: "array[int]"
    ordinals: "array[int]"


class Trace(NamedTuple):
    """What is kept of a session to link it. `started_at_s`: the first time that its lines name, None for none.
    `entry_count`: of entries with ids; `last_hash`: of the last one's id, 0 without any. `parent_session_id`: as the
    lines name it, and `parent_kind` what they call that; `referred_entries`: of the parent, used but not copied.
    `is_background`: the lines say that nobody sits before it."""

    session_id: str
    provider: str
    started_at_s: float | None = None
    sample: Sample = Sample(array("Q"), array("Q"))
    entry_count: int = 0
    last_hash: int = 0
    parent_session_id: str = ""
    parent_kind: LinkKind | None = None
    referred_entries: int = 0
    is_background: bool = False
    cwd: str = ""


class Link(NamedTuple):
    """`shared_entries`: of the session, those that are its parent's; exact within the first `FIRST_IDS`, from the
    sample beyond. `is_missing`: the parent is named, and not among the traces."""

    kind: LinkKind
    parent: str
    shared_entries: int
    is_missing: bool = False


class Conversation(NamedTuple):
    """`root`: the session that it began with, which is not among the `members` where it is missing. `members`: parents
    before their children."""

    root: str
    members: tuple[str, ...]


class Sampler:
    """Takes the ids of a session's entries in their order."""

    def __init__(self) -> None:
        self.entry_count = 0
        self.last_hash = 0
        self._hashes = array("Q")
        self._ordinals = array("Q")

    def add(self, entry_id: str | bytes) -> None:
        raw = entry_id.encode("utf-8", "surrogatepass") if isinstance(entry_id, str) else entry_id
        hashed = int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big")
        self.entry_count += 1
        self.last_hash = hashed
        is_wanted = self.entry_count <= FIRST_IDS or hashed % SAMPLED == 0
        if is_wanted and len(self._hashes) < MOST_IDS:
            self._hashes.append(hashed)
            self._ordinals.append(self.entry_count)

    def sample(self) -> Sample:
        return Sample(self._hashes, self._ordinals)


def link(traces: Iterable[Trace]) -> Mapping[str, Link]:
    """Session → its parent, for those that have one. A parent that the lines name comes first, also when it is missing;
    else it is the session that first had the latest entry that both hold. Nobody descends from itself: in a circle of
    names the session that began first is the root. Of two traces with one id, the one with more entries counts."""
    known = _in_order(traces)
    by_id = {one.session_id: one for one in known}
    parents: dict[str, str] = {}
    for one, found in zip(known, _first_holders(known), strict=True):
        parent = one.parent_session_id or found
        if parent and parent != one.session_id:
            parents[one.session_id] = parent
    _break_circles(known, parents)
    shared = _count_shared(by_id, parents)
    return {
        child: _describe(by_id[child], by_id.get(parent), parent, shared.get(child, 0))
        for child, parent in parents.items()
    }


def conversations(sessions: Iterable[str], links: Mapping[str, Link]) -> list[Conversation]:
    """Every session in exactly one, in the order of `sessions`; members are in that order too, each behind its parent.
    Those that name one missing parent are one conversation."""
    order = list(dict.fromkeys(sessions))
    children: dict[str, list[str]] = {}
    roots: dict[str, None] = {}
    present = set(order)
    for one in order:
        parent = links[one].parent if one in links else ""
        if parent:
            children.setdefault(parent, []).append(one)
        if not parent:
            roots[one] = None
        elif parent not in present:
            roots[parent] = None
    found = []
    for root in roots:
        members: list[str] = []
        waiting = [root]
        while waiting:
            one = waiting.pop()
            if one in present:
                members.append(one)
            waiting += reversed(children.get(one, ()))
        found.append(Conversation(root, tuple(members)))
    return found


def _in_order(traces: Iterable[Trace]) -> list[Trace]:
    """One of each id; the first to begin first. Who names a parent did not begin before those who name none."""
    best: dict[str, Trace] = {}
    for one in traces:
        known = best.get(one.session_id)
        if known is None or _rank(one) > _rank(known):
            best[one.session_id] = one
    return sorted(best.values(), key=_beginning)


def _rank(one: Trace) -> tuple[object, ...]:
    """Total, so that the order in which traces come decides nothing."""
    start = one.started_at_s if one.started_at_s is not None else float("inf")
    named = (one.provider, one.parent_session_id, str(one.parent_kind or ""), one.referred_entries, one.cwd)
    return (one.entry_count, -start, one.last_hash, *named, one.is_background, one.sample.hashes.tobytes())


def _beginning(one: Trace) -> tuple[float, bool, bool, str]:
    start = one.started_at_s if one.started_at_s is not None else float("inf")
    return start, bool(one.parent_session_id), one.is_background, one.session_id


def _first_holders(known: Sequence[Trace]) -> list[str]:
    """For each, which earlier session first had the latest of its entries that an earlier one has; empty for none."""
    owners: dict[tuple[str, int], str] = {}
    found = []
    for one in known:
        holder = ""
        for hashed in reversed(one.sample.hashes):
            if holder := owners.get((one.provider, hashed), ""):
                break
        found.append(holder)
        for hashed in one.sample.hashes:
            owners.setdefault((one.provider, hashed), one.session_id)
    return found


def _break_circles(known: Sequence[Trace], parents: dict[str, str]) -> None:
    """Takes the parent of whoever began first in each circle."""
    rank = {one.session_id: number for number, one in enumerate(known)}
    done: set[str] = set()
    for one in known:
        path: list[str] = []
        on_path: set[str] = set()
        at = one.session_id
        while at in parents and at not in done and at not in on_path:
            path.append(at)
            on_path.add(at)
            at = parents[at]
        if at in on_path:
            circle = path[path.index(at) :]
            del parents[min(circle, key=rank.__getitem__)]
        done.update(path)


def _count_shared(by_id: Mapping[str, Trace], parents: Mapping[str, str]) -> dict[str, int]:
    children: dict[str, list[str]] = {}
    for child, parent in parents.items():
        if parent in by_id:
            children.setdefault(parent, []).append(child)
    shared = {}
    for parent, those in children.items():
        held = set(by_id[parent].sample.hashes)  # one set at a time, however many sessions there are
        for child in those:
            shared[child] = _shared_with(held, by_id[child].sample)
    return shared


def _shared_with(held: set[int], sample: Sample) -> int:
    exact = sampled = deepest = 0
    for hashed, ordinal in zip(sample.hashes, sample.ordinals, strict=True):
        if hashed in held:
            deepest = ordinal
            if ordinal <= FIRST_IDS:
                exact += 1
            else:
                sampled += 1
    return min(exact + sampled * SAMPLED, max(deepest, exact))


def _describe(child: Trace, parent: Trace | None, name: str, shared: int) -> Link:
    shared = max(shared, child.referred_entries)
    if child.parent_kind is not None and child.parent_session_id == name:
        kind = child.parent_kind
    elif child.is_background:
        kind = LinkKind.BACKGROUND
    elif parent is not None and _holds_all_of(child, parent, shared):
        kind = LinkKind.RESUME
    else:
        kind = LinkKind.FORK
    return Link(kind, name, shared, is_missing=parent is None)


def _holds_all_of(child: Trace, parent: Trace, shared: int) -> bool:
    """Whether the parent ended where the child goes on."""
    if child.entry_count <= FIRST_IDS or parent.entry_count <= FIRST_IDS:
        return shared >= parent.entry_count > 0
    return parent.last_hash in set(child.sample.hashes) or shared >= parent.entry_count
