"""Whether something may leave this machine: decided again right before each request, in the thread that sends it.

A session is private by a rule that names it or one of the folders it worked in, or because its entries stand in such a
session, too: a resumed or forked conversation is a copy. So what is going to leave is looked at for folders and ids of
entries, and what left before under other rules is looked at again.
"""

import contextlib
import math
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple, Protocol
from urllib.parse import quote

from agent.core.privacy.rules import NO_GROUNDS, Grounds, copied_words
from agent.core.transcripts.session import Facts
from agent.delivery.base.world import Files
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
    is not; it stays here, and what the server has stays there. `grounds`: the folders and remotes that say so, to be
    remembered."""

    why: str = ""
    certain: bool = True
    grounds: Grounds = NO_GROUNDS


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

    def judge(
        self, rules: RulesNow, session_id: str, project: str, folders: frozenset[str], grounds: Grounds = NO_GROUNDS
    ) -> Verdict:
        """By `rules`, which `now` gave. `project`: the folder a session began in, empty while it is not known;
        `folders`: all it worked in; `grounds`: for what it was private before. Raises NotShared, `stale`, when it has
        these rules no more."""


class NoRules:
    """Everything is shared."""

    def now(self) -> RulesNow:
        return RulesNow("")

    def judge(
        self, rules: RulesNow, session_id: str, project: str, folders: frozenset[str], grounds: Grounds = NO_GROUNDS
    ) -> Verdict:
        return SHARED


def stale_rules() -> NotShared:
    """What ends a task that would send by rules of a moment ago."""
    return NotShared("the rules of privacy just became others", certain=False, stale=True)


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


class _Spot:
    """How far a file of a private session was read. A new one each time that the session becomes private, so that
    nothing is noted of what was forgotten meanwhile."""

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = 0


class Copies:
    """The ids of the entries of sessions that somebody named private. For any number of threads."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._spots: dict[str, dict[str, _Spot]] = {}
        """Session → path → how far it was read."""
        self._ids: dict[int, str] = {}
        """Id → session."""
        self._providers: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        """Session → wall time of its oldest entry."""
        self._version, self._digest = 0, ""
        self._named = frozenset[str]()

    @property
    def version(self) -> int:
        """Another one whenever other files are known."""
        with self._lock:
            return self._version

    @property
    def digest(self) -> str:
        """The names of the sessions, between blanks."""
        with self._lock:
            return self._digest

    def begun_since(self, digest: str) -> float:
        """Wall time of the oldest entry of those that a former `digest` did not name: nothing that was last written
        before is a copy of one. Infinite when there are no such."""
        known = set(digest.split())
        added = [session for session in self.sessions() if quote(session) not in known]
        with self._lock:
            is_read = all(session in self._begun for session in added)
        if not is_read:
            self._read_on()
        with self._lock:
            return min((self._begun.get(session, 0.0) for session in added), default=math.inf)

    def sessions(self) -> list[str]:
        with self._lock:
            return list(self._spots)

    def knows_all_of(self, named: frozenset[str]) -> bool:
        """Whether the files of the sessions that the rules name were told since they name these."""
        with self._lock:
            return self._named == named

    def take_in(self, named: frozenset[str], found: Mapping[str, tuple[Iterable[str], str]]) -> None:
        """These sessions are named now (ids, case-folded), and no others. `found`: session → the paths of its
        transcripts and whose they are; also of sessions that are not named."""
        self._forget(one for one in self.sessions() if one.casefold() not in named)
        for session_id, (paths, provider) in found.items():
            if session_id.casefold() in named and paths:
                self.know(session_id, paths, provider)
        with self._lock:
            self._named = named
            self._version += 1

    def know(self, session_id: str, paths: Iterable[str], provider: str) -> None:
        """More files of a session that is named."""
        with self._lock:
            self._providers[session_id] = provider
            known = self._spots.setdefault(session_id, {})
            added = [path for path in paths if path not in known]
            known.update((path, _Spot()) for path in added)
            self._note_files(is_new=bool(added))

    def _forget(self, sessions: Iterable[str]) -> None:
        gone = list(sessions)
        with self._lock:
            for session_id in gone:
                self._spots.pop(session_id, None)
                self._begun.pop(session_id, None)
                self._providers.pop(session_id, None)
            if gone:
                self._ids = {one: session for one, session in self._ids.items() if session in self._spots}
            self._note_files(is_new=bool(gone))

    def _note_files(self, *, is_new: bool) -> None:
        """Under the lock."""
        if is_new:
            self._version += 1
            self._digest = " ".join(sorted(map(quote, self._spots)))

    def find(self, session_id: str, ids: frozenset[int]) -> str | None:
        """The private session in which one of these entries stands."""
        if not ids or not self.sessions():
            return None
        self._read_on()
        with self._lock:
            owners = {owner for one in ids if (owner := self._ids.get(one)) is not None} - {session_id}
            return min(owners, default=None)

    def _read_on(self) -> None:
        """Takes in what the private sessions have grown by. Nobody is kept waiting while a disk is read."""
        with self._lock:
            places = [(owner, path, spot) for owner, paths in self._spots.items() for path, spot in paths.items()]
            providers = dict(self._providers)
        for owner, path, spot in places:
            with contextlib.suppress(DiskError):  # of what is gone, what was read stays known
                self._read_file(owner, providers[owner], path, spot)

    def _read_file(self, owner: str, provider: str, path: str, spot: _Spot) -> None:
        offset = spot.offset
        with self._files.open_file(path) as file:
            size = file.size()
            start = offset if offset <= size else 0
            for window in _windows(file.read_at, start, size):
                ids = read_passage(provider, window, folders=False, ids=True).ids
                times = [at_s for raw in _TIME.findall(window) if (at_s := _parse_time_s(raw)) is not None]
                self._take(owner, path, spot, ids, times)
        with self._lock:
            if self._is_current(owner, path, spot):
                if spot.offset == offset:  # else another thread has read further meanwhile
                    spot.offset = size
                self._begun.setdefault(owner, 0.0)  # what names no time may be of any

    def _take(self, owner: str, path: str, spot: _Spot, ids: Iterable[int], times: list[float]) -> None:
        with self._lock:
            if not self._is_current(owner, path, spot):
                return  # shared again meanwhile
            for one in ids:
                self._ids.setdefault(one, owner)
            if times:
                self._begun[owner] = min(self._begun.get(owner, math.inf), *times)

    def _is_current(self, owner: str, path: str, spot: _Spot) -> bool:
        return self._spots.get(owner, {}).get(path) is spot


class Guard:
    """For any number of threads."""

    def __init__(self, rulebook: Rulebook, files: Files) -> None:
        self._rulebook = rulebook
        self._files = files
        self.copies = Copies(files)

    def rules(self) -> RulesNow:
        return self._rulebook.now()

    def take_in(self, rules: RulesNow, found: Mapping[str, tuple[Iterable[str], str]]) -> None:
        """From now on permits are given by these rules. `found`: as for `Copies.take_in`."""
        self.copies.take_in(rules.sessions, found)

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

    def permit(self, session_id: str, facts: Facts, provider: str, grounds: Grounds = NO_GROUNDS) -> "Permit":
        """`grounds`: for what the session was private before."""
        return Permit(self, session_id, facts.project, provider, grounds)

    def is_private(self, session_id: str, project: str) -> bool:
        """As far as its id and folder tell."""
        try:
            folders = frozenset({project} if project else ())
            return bool(self.judge(self.rules(), session_id, project, folders, frozenset()).why)
        except NotShared:
            return True  # the rules change just now

    def judge(
        self,
        rules: RulesNow,
        session_id: str,
        project: str,
        folders: frozenset[str],
        ids: frozenset[int],
        *,
        grounds: Grounds = NO_GROUNDS,
    ) -> Verdict:
        """Raises NotShared, `stale`, as `Rulebook.judge` does."""
        owner = self.copies.find(session_id, ids)
        if owner is not None:
            return Verdict(copied_words(owner))
        return self._rulebook.judge(rules, session_id, project, folders, grounds)

    def windows(self, path: str, start: int, end: int) -> Iterator[bytes]:
        """Raises DiskError."""
        with self._files.open_file(path) as file:
            yield from _windows(file.read_at, start, min(end, file.size()))


class Permit:
    """For what one task sends of one session. Everything it rests on is read under the rules that held when it was
    made: the folders and ids that they ask for, the sessions that they name, the remotes. It is good for as long as
    they hold; when they are others, the task begins anew. `used`: something was asked of a server under it."""

    def __init__(self, guard: Guard, session_id: str, project: str, provider: str, grounds: Grounds) -> None:
        self._guard = guard
        self._grounds = grounds
        self._provider = provider
        self._session_id = session_id
        self._project = project
        self._folders: dict[str, None] = {project: None} if project else {}
        self._ids: frozenset[int] = frozenset()
        self._has_news = True
        self._version = guard.copies.version  # first: what is known of copies later makes it stale
        self._rules = guard.rules()
        self._epoch = guard.epoch(self._rules)
        self.epoch = ""
        """Under which all that was seen may leave."""
        self.under = guard.under(self._rules)
        self.used = False

    def review(self, path: str, end: int, judged: str) -> None:
        """Sees what left before, up to that offset, unless that was `judged` under what holds now. Raises DiskError."""
        if judged != self._epoch:
            self.look(path, 0, end)

    def see(self, data: bytes) -> None:
        """Takes in what is going to leave."""
        rules = self._rules
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
        """Raises NotShared when what was seen may not leave, or when the rules are others than it was seen under."""
        self._check_rules()
        if self._has_news:
            try:
                verdict = self._guard.judge(
                    self._rules,
                    self._session_id,
                    self._project,
                    frozenset(self._folders),
                    self._ids,
                    grounds=self._grounds,
                )
            except NotShared as exc:
                exc.used = self.used
                raise
            if verdict.why:
                raise NotShared(
                    verdict.why,
                    certain=verdict.certain,
                    under=self.under,
                    used=self.used,
                    grounds=verdict.grounds[:2],
                )
            self._ids = frozenset()  # known not to be of a private session; kept, a long run would gather many
            self._has_news = False
            self._check_rules()  # that took its time: git was asked, files were read
        self.epoch = self._epoch

    def _check_rules(self) -> None:
        now = self._guard.rules()
        if now.blind:
            raise NotShared(now.blind, certain=False, blind=True, used=self.used)
        copies = self._guard.copies
        is_same = now == self._rules and copies.version == self._version and copies.knows_all_of(now.sessions)
        if not is_same:
            stale = stale_rules()
            stale.used = self.used
            raise stale

    def look(self, path: str, start: int, end: int) -> None:
        """The same for what is too long to hold. Raises DiskError."""
        if self._rules.asks_content:
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
