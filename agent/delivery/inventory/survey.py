"""What lies on this machine, session by session, and what the private list says of it: for commands that tell what
leaves. Nothing is sent."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import NamedTuple

from agent.core.delivery.lifecycle import State
from agent.core.privacy.rules import NO_GROUNDS, Grounds, PrivateRules, Verdict
from agent.core.transcripts.session import Facts, Observation, Provider, StreamId, is_side_file
from agent.delivery.base.reading import first_facts
from agent.delivery.discovery.scanner import Root, Scanner
from agent.delivery.privacy.permits import CLOCK_S, Copies, read_passage
from agent.delivery.privacy.subjects import subject_of
from agent.delivery.push.comparing import choose_files
from agent.errors import DiskError
from agent.providers import PROVIDERS
from agent.system.files import reading as real_files
from agent.system.git import GitRemotes
from agent.system.paths import Paths
from agent.system.state.state_db import TrackRow, open_state_readonly

Followed = Callable[[], Mapping[str, StreamId]]
"""Gives the files that the agent follows, with the streams that they stand for."""

_OVERLAP_BYTES = 16 << 10
"""A folder's name may stand across the border of two pieces."""


class SessionHere(NamedTuple):
    """`project`: the folder it began in, empty where nothing says so. `files`: its transcripts and side files, the main
    one first. Sizes in bytes, times in wall seconds: of the file that changed longest ago, and of the last one."""

    session_id: str
    project: str
    files: tuple[Observation, ...]
    bytes: int
    oldest_s: float
    newest_s: float
    verdict: Verdict


class Survey(NamedTuple):
    """`unreadable`: path → why, of what could not be looked into; a session of which something can't be read is
    private where its content matters. `unfollowed`: how many files may be transcripts and are not followed."""

    sessions: list[SessionHere]
    unreadable: Mapping[str, str]
    unfollowed: int


def survey_sessions(
    roots: Sequence[Root],
    known: Mapping[str, Facts],
    rules: PrivateRules,
    git: GitRemotes,
    followed: Followed = dict,
    *,
    grounds: Mapping[str, Grounds] = MappingProxyType({}),
) -> Survey:
    """The sessions below `roots`. `known`: what is remembered of them; `grounds`: for what they were private. Where a
    rule asks for folders, or for what is a copy of what, every transcript is read to its end."""
    there = find_streams(roots, followed)
    found, unreadable = there.files, there.unreadable
    copies = Copies(real_files)
    copies.take_in(rules.sessions, transcripts_of(found))
    looking = _Looking(rules, git, copies, {root.provider.name: root.provider for root in roots}, unreadable)
    sessions = [
        looking.look_at(session, files, known.get(session, Facts()), grounds.get(session, NO_GROUNDS))
        for session, files in found.items()
    ]
    return Survey(sessions, unreadable, len(there.unfollowed) + there.unfollowed_more)


def find_sessions(roots: Sequence[Root]) -> list[str]:
    """Only the ids, which takes a look at folders and hardly any file."""
    return list(find_files(roots).files)


def find_copies(roots: Sequence[Root], named: Collection[str]) -> dict[str, int]:
    """Session → bytes of its files, of those in which entries of a `named` one (ids, case-folded) stand. Only what was
    written since the oldest of these entries is read. What can't be read is left out: this is for a count."""
    found = find_files(roots).files
    copies = Copies(real_files)
    copies.take_in(frozenset(named), transcripts_of(found))
    transcripts = {
        session: [one for one in files if not is_side_file(one.stream.subpath)] for session, files in found.items()
    }
    since_ns = (copies.begun_since("") - CLOCK_S) * 1e9 if copies.sessions() else 0
    return {
        session: sum(one.size for one in found[session])
        for session, files in transcripts.items()
        if session.casefold() not in named
        and copies.sessions()
        and any(one.mtime_ns >= since_ns and _holds_entries(copies, one) for one in files)
    }


def transcripts_of(found: Mapping[str, Sequence[Observation]]) -> dict[str, tuple[list[str], str]]:
    """Session → the paths of its transcripts, and whose they are."""
    return {
        session: ([one.path for one in files if not is_side_file(one.stream.subpath)], files[0].provider)
        for session, files in found.items()
        if files
    }


def _holds_entries(copies: Copies, one: Observation) -> bool:
    with suppress(DiskError), real_files.open_file(one.path) as file:
        rest = b""
        for piece in file.pieces(0, file.size()):
            passage = read_passage(one.provider, rest + piece, folders=False, ids=True)
            if copies.find(one.stream.session_id, passage.ids):
                return True
            rest = piece[-_OVERLAP_BYTES:]
    return False


class Inventory(NamedTuple):
    """`files`: session → its files as they lie there. `unreadable`: path → why, of what could not be looked into;
    `unfollowed`: of what may be a transcript and is not followed, of which there are `unfollowed_more`; `aside`: of
    links that lead out and the like that are none."""

    files: dict[str, list[Observation]]
    unreadable: dict[str, str]
    unfollowed: dict[str, str]
    unfollowed_more: int
    aside: dict[str, str]


def find_files(roots: Sequence[Root], others: Sequence[Root] = ()) -> Inventory:
    """What lies below these folders now. `others`: where their links may lead besides."""
    found: dict[str, list[Observation]] = {}

    def observed(observations: list[Observation], _: bool) -> None:
        for one in observations:
            found.setdefault(one.stream.session_id, []).append(one)

    scanner = Scanner(roots, observed, lambda _: None, others=others)
    scanner.scan()
    unfollowed = dict(scanner.unfollowed)
    return Inventory(found, dict(scanner.unreadable), unfollowed, scanner.unfollowed_more, dict(scanner.aside))


def find_streams(roots: Sequence[Root], followed: Followed) -> Inventory:
    """The same, but of several files of one transcript only those that stand for something, each as the stream that it
    is: by the same table as what is sent."""
    found = find_files(roots)
    known: Mapping[str, StreamId] | None = None
    for session, files in found.files.items():
        streams: dict[StreamId, list[Observation]] = {}
        for one in files:
            streams.setdefault(one.stream, []).append(one)
        if len(streams) == len(files):
            continue
        known = followed() if known is None else known
        found.files[session] = []
        for several in streams.values():
            chosen, trouble = choose_files(real_files, several, known)
            found.files[session] += chosen
            found.unreadable.update(trouble)
    return found


def read_followed(paths: Paths) -> dict[str, StreamId]:
    """As the agent's state has it; nothing where there is none."""
    store = open_state_readonly(paths.database)
    if store is None:
        return {}
    try:
        return followed_files(store.tracks())
    finally:
        store.close()


def followed_files(rows: Iterable[TrackRow]) -> dict[str, StreamId]:
    return {row.path: row.stream for row in rows if row.state != State.GONE}


class _Looking(NamedTuple):
    rules: PrivateRules
    git: GitRemotes
    copies: Copies
    providers: Mapping[str, Provider]
    unreadable: dict[str, str]

    def look_at(self, session_id: str, files: list[Observation], known: Facts, grounds: Grounds) -> SessionHere:
        files.sort(key=lambda one: one.stream.subpath)
        known = known.merged(Facts(next((one.project for one in files if one.project), "")))
        folders: dict[str, None] = {known.project: None} if known.project else {}
        owners: set[str] = set()
        is_whole = True
        for one in files:
            if not is_side_file(one.stream.subpath):
                try:
                    known = self._read(one, known, folders, owners)
                except DiskError as exc:
                    self.unreadable[one.path] = exc.message
                    is_whole = False
        named = folders if PROVIDERS[files[0].provider].lines_name_project else {}
        project = known.project or next(iter(named), "")
        verdict = self.rules.decide(
            subject_of(self.rules, self.git, session_id, project, folders=folders, aliases=owners, grounds=grounds)
        )
        if not is_whole and self._reads_all and not verdict.private:
            verdict = Verdict(True, "it can't be read", certain=False)
        times = [one.mtime_ns / 1e9 for one in files]
        size = sum(one.size for one in files)
        return SessionHere(session_id, project, tuple(files), size, min(times), max(times), verdict)

    @property
    def _reads_all(self) -> bool:
        return bool(self.rules.projects or self.rules.asks_for_remotes or self.copies.sessions())

    def _read(self, one: Observation, known: Facts, folders: dict[str, None], owners: set[str]) -> Facts:
        """What this file says of its session; folders and the sessions that it is a copy of are added to."""
        if known.project and not self._reads_all:
            return known
        with real_files.open_file(one.path) as file:
            known = first_facts(self.providers[one.provider], file, known)
            rest = b""
            for piece in file.pieces(0, file.size()) if self._reads_all else ():
                passage = read_passage(one.provider, rest + piece, folders=True, ids=bool(self.copies.sessions()))
                folders.update(dict.fromkeys(passage.folders))
                owner = self.copies.find(one.stream.session_id, passage.ids)
                owners.update([owner] if owner else [])
                rest = piece[-_OVERLAP_BYTES:]
        return known
