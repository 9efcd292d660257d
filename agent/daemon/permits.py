"""Whether something may leave this machine: decided again right before each request, in the thread that sends it.

A session is private by a rule that names it or one of the folders it worked in, or because its entries stand in such a
session, too: a resumed or forked conversation is a copy. So what is going to leave is looked at for folders and ids of
entries, and what left before under other rules is looked at again.
"""

import contextlib
import math
import re
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple, Protocol
from urllib.parse import quote

from agent.core.session import Facts
from agent.daemon.world import Files
from agent.errors import DiskError, NotShared
from agent.providers import PROVIDERS

_WINDOW_BYTES = 1 << 20
_OVERLAP_BYTES = 16 << 10
"""No folder and no id is longer; each stands whole in one window at least."""

WHOLE = 1 << 62
"""Up to the end of a file, wherever that is."""

CLOCK_S = 86_400.0
"""Times in a transcript and those of files may be by clocks that are this far apart."""

_TIME = re.compile(rb'"timestamp"\s*:\s*"([0-9T:.Z+-]{10,40})"')


class Verdict(NamedTuple):
    """`why` is empty for what may leave. `certain` False: nothing says that it is private, but nothing can say that it
    is not; it stays here, and what the server has stays there."""

    why: str = ""
    certain: bool = True


SHARED = Verdict()


class RulesNow(NamedTuple):
    """The rules as they stand. `digest` changes with them. `sessions`: the ids that they name, case-folded. `folders`:
    changes with the rules that ask where a session worked, empty without any. `blind`: why they can't be read, so that
    nothing leaves."""

    digest: str
    sessions: frozenset[str] = frozenset()
    folders: str = ""
    blind: str = ""

    def names(self, session_id: str) -> bool:
        return session_id.casefold() in self.sessions

    @property
    def asks_content(self) -> bool:
        """Whether only the content of a transcript can say that it may leave."""
        return bool(self.folders or self.sessions)


class Rulebook(Protocol):
    """The door to the private list and the settings. For any number of threads."""

    def now(self) -> RulesNow:
        """Cheap enough to be asked before each request."""

    def judge(self, session_id: str, project: str, folders: frozenset[str]) -> Verdict:
        """`project`: the folder a session began in, empty while it is not known; `folders`: all it worked in."""


class NoRules:
    """Everything is shared."""

    def now(self) -> RulesNow:
        return RulesNow("")

    def judge(self, session_id: str, project: str, folders: frozenset[str]) -> Verdict:
        return SHARED


class Passage(NamedTuple):
    """What a piece of a transcript tells: the folders it was written in, in their order, and ids of entries."""

    folders: tuple[str, ...]
    ids: frozenset[int]


def read_passage(provider: str, data: bytes, *, folders: bool, ids: bool) -> Passage:
    """What the coding agent's own way to write says of it."""
    reads = PROVIDERS[provider]
    found = map(_short, reads.entry_ids_in(data)) if ids else ()
    return Passage(reads.folders_in(data) if folders else (), frozenset(found))


def _parse_time_s(raw: bytes) -> float | None:
    try:
        return datetime.fromisoformat(raw.decode()).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _short(entry_id: bytes) -> int:
    return int.from_bytes(blake2b(entry_id, digest_size=8).digest())


class Copies:
    """The ids of the entries of sessions that somebody named private. For any number of threads."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._paths: dict[str, dict[str, int]] = {}
        """Session → path → how far it was read."""
        self._ids: dict[int, str] = {}
        """Id → session."""
        self._providers: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        """Session → wall time of its oldest entry."""

    @property
    def digest(self) -> str:
        """Their names, between blanks."""
        return " ".join(sorted(map(quote, self._paths)))

    def begun_since(self, digest: str) -> float:
        """Wall time of the oldest entry of those that a former `digest` did not name: nothing that was last written
        before is a copy of one. Infinite when there are no such."""
        known = set(digest.split())
        added = [session for session in self.sessions() if quote(session) not in known]
        if any(session not in self._begun for session in added):
            self._read_on()
        return min((self._begun.get(session, 0.0) for session in added), default=math.inf)

    def sessions(self) -> list[str]:
        with self._lock:
            return list(self._paths)

    def know(self, session_id: str, paths: Iterable[str], provider: str) -> None:
        with self._lock:
            self._providers[session_id] = provider
            known = self._paths.setdefault(session_id, {})
            for path in paths:
                known.setdefault(path, 0)

    def forget(self, sessions: Iterable[str]) -> None:
        with self._lock:
            for session_id in sessions:
                self._paths.pop(session_id, None)
                self._begun.pop(session_id, None)
                self._providers.pop(session_id, None)
            self._ids = {one: session for one, session in self._ids.items() if session in self._paths}

    def find(self, session_id: str, ids: frozenset[int]) -> str | None:
        """The private session in which one of these entries stands."""
        if not ids or not self._paths:
            return None
        self._read_on()
        with self._lock:
            owners = {owner for one in ids if (owner := self._ids.get(one)) is not None} - {session_id}
            return min(owners, default=None)

    def _read_on(self) -> None:
        """Takes in what the private sessions have grown by. Nobody is kept waiting while a disk is read."""
        with self._lock:
            places = [(owner, path, offset) for owner, paths in self._paths.items() for path, offset in paths.items()]
            providers = dict(self._providers)
        for owner, path, offset in places:
            with contextlib.suppress(DiskError):  # of what is gone, what was read stays known
                self._read_file(owner, providers[owner], path, offset)

    def _read_file(self, owner: str, provider: str, path: str, offset: int) -> None:
        with self._files.open_file(path) as file:
            size = file.size()
            start = offset if offset <= size else 0
            for window in _windows(file.read_at, start, size):
                ids = read_passage(provider, window, folders=False, ids=True).ids
                times = [at_s for raw in _TIME.findall(window) if (at_s := _parse_time_s(raw)) is not None]
                self._take(owner, ids, times)
        with self._lock:
            if owner in self._paths:
                self._paths[owner][path] = size
                self._begun.setdefault(owner, 0.0)  # what names no time may be of any

    def _take(self, owner: str, ids: Iterable[int], times: list[float]) -> None:
        with self._lock:
            if owner not in self._paths:
                return  # shared again meanwhile
            for one in ids:
                self._ids.setdefault(one, owner)
            if times:
                self._begun[owner] = min(self._begun.get(owner, math.inf), *times)


class Guard:
    """For any number of threads."""

    def __init__(self, rulebook: Rulebook, files: Files) -> None:
        self._rulebook = rulebook
        self._files = files
        self.copies = Copies(files)

    def rules(self) -> RulesNow:
        return self._rulebook.now()

    def epoch(self, rules: RulesNow) -> str:
        """What was judged under one stays judged while it is the same."""
        return f"{rules.folders}/{self.copies.digest}"

    def under(self, rules: RulesNow) -> str:
        """What a verdict rests on. It says nothing any more when this has become another."""
        return f"{rules.digest}/{self.epoch(rules)}"

    def may_concern(self, judged: str, changed_at_s: float) -> bool:
        """Whether a transcript that was judged under another epoch, and last written then, may be another matter now
        for what it holds."""
        folders, _, copies = judged.partition("/")
        if folders != self.rules().folders:
            return True
        return changed_at_s >= self.copies.begun_since(copies) - CLOCK_S

    def permit(self, session_id: str, facts: Facts, provider: str) -> "Permit":
        return Permit(self, session_id, facts.project, provider)

    def judge(self, session_id: str, project: str, folders: frozenset[str], ids: frozenset[int]) -> Verdict:
        owner = self.copies.find(session_id, ids)
        if owner is not None:
            return Verdict(f"its entries stand in a private session, {owner}")
        return self._rulebook.judge(session_id, project, folders)

    def windows(self, path: str, start: int, end: int) -> Iterator[bytes]:
        """Raises DiskError."""
        with self._files.open_file(path) as file:
            yield from _windows(file.read_at, start, min(end, file.size()))


class Permit:
    """For what one task sends of one session. `used`: something was asked of a server under it."""

    def __init__(self, guard: Guard, session_id: str, project: str, provider: str) -> None:
        self._guard = guard
        self._provider = provider
        self._session_id = session_id
        self._project = project
        self._folders: dict[str, None] = {project: None} if project else {}
        self._ids: frozenset[int] = frozenset()
        self._judged_under: str | None = None
        self._has_news = True
        self.epoch = ""
        """Under which all that was seen may leave."""
        self.used = False

    def review(self, path: str, end: int, judged: str) -> None:
        """Sees what left before, up to that offset, unless that was `judged` under what holds now. Raises DiskError."""
        if judged != self._guard.epoch(self._guard.rules()):
            self.look(path, 0, end)

    def see(self, data: bytes) -> None:
        """Takes in what is going to leave."""
        rules = self._guard.rules()
        if not rules.asks_content:
            return
        passage = read_passage(self._provider, data, folders=bool(rules.folders), ids=bool(rules.sessions))
        if PROVIDERS[self._provider].lines_name_project:
            self._project = self._project or next(iter(passage.folders), "")
        news = [folder for folder in passage.folders if folder not in self._folders]
        self._folders.update(dict.fromkeys(news))
        self._ids |= passage.ids
        self._has_news = self._has_news or bool(news) or bool(passage.ids)

    def check(self) -> None:
        """Raises NotShared when what was seen may not leave."""
        rules = self._guard.rules()
        if rules.blind:
            raise NotShared(rules.blind, certain=False, blind=True, used=self.used)
        epoch = self._guard.epoch(rules)
        if self._has_news or epoch != self._judged_under:
            under = self._guard.under(rules)
            verdict = self._guard.judge(self._session_id, self._project, frozenset(self._folders), self._ids)
            if verdict.why:
                raise NotShared(verdict.why, certain=verdict.certain, under=under, used=self.used)
            self._ids = frozenset()  # known not to be of a private session; kept, a long run would gather many
            self._judged_under, self._has_news = epoch, False
        self.epoch = epoch

    def look(self, path: str, start: int, end: int) -> None:
        """The same for what is too long to hold. Raises DiskError."""
        if self._guard.rules().asks_content:
            for window in self._guard.windows(path, start, end):
                self.see(window)

    def passing(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """`pieces`, as long as they may leave. Raises NotShared."""
        for piece in pieces:
            self.check()
            yield piece


def _windows(read_at: "ReadAt", start: int, end: int) -> Iterator[bytes]:
    """All bytes between two offsets, and at each seam some of them twice."""
    at = start
    while at < end:
        yield read_at(max(0, at - _OVERLAP_BYTES), min(end, at + _WINDOW_BYTES) - max(0, at - _OVERLAP_BYTES))
        at += _WINDOW_BYTES


class ReadAt(Protocol):
    def __call__(self, offset: int, count: int, /) -> bytes: ...
