"""What lies on this machine, session by session, for commands that decide or tell what leaves. Nothing is sent."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.core.session import Facts, Observation, Provider, is_side_file
from agent.daemon.reading import first_facts
from agent.daemon.scanner import Root, Scanner
from agent.errors import DiskError
from agent.system import files as real_files

_OVERLAP_BYTES = 16 << 10
"""A folder's name may stand across the border of two pieces."""


class SessionHere(NamedTuple):
    """`project` and `folders` as the lines name them, empty where they do not. `files`: its transcripts and side
    files. Sizes in bytes, times in wall seconds: of the file that changed longest ago, and of the last one."""

    session_id: str
    project: str
    folders: frozenset[str]
    files: tuple[Observation, ...]
    bytes: int
    oldest_s: float
    newest_s: float


class Survey(NamedTuple):
    """`unreadable`: path → why, of what could not be looked into."""

    sessions: list[SessionHere]
    unreadable: Mapping[str, str]


def survey_sessions(roots: Sequence[Root], known: Mapping[str, Facts], *, thorough: bool) -> Survey:
    """The sessions below `roots`. `known`: what is remembered of them. `thorough`: all of each file is read for the
    folders it names; otherwise there is only its project."""
    found, unreadable = _find_files(roots)
    providers = {root.provider.name: root.provider for root in roots}
    sessions = [
        _look_at(session, files, providers, known.get(session, Facts()), unreadable, thorough=thorough)
        for session, files in found.items()
    ]
    return Survey(sessions, unreadable)


def find_sessions(roots: Sequence[Root]) -> list[str]:
    """Only the ids, which takes a look at folders and hardly any file."""
    return list(_find_files(roots)[0])


def _find_files(roots: Sequence[Root]) -> tuple[dict[str, list[Observation]], dict[str, str]]:
    found: dict[str, list[Observation]] = {}

    def observed(observations: list[Observation], _: bool) -> None:
        for one in observations:
            found.setdefault(one.stream.session_id, []).append(one)

    scanner = Scanner(roots, observed, lambda _: None)
    scanner.scan()
    return found, dict(scanner.unreadable)


def _look_at(
    session_id: str,
    files: list[Observation],
    providers: Mapping[str, Provider],
    known: Facts,
    unreadable: dict[str, str],
    *,
    thorough: bool,
) -> SessionHere:
    files.sort(key=lambda one: one.stream.subpath)  # the main transcript comes first
    folders: set[str] = set()
    for one in files:
        if is_side_file(one.stream.subpath) or (known.project and not thorough):
            continue
        provider = providers[one.provider]
        try:
            with real_files.open_file(one.path) as file:
                known = first_facts(provider, file, known)
                rest = b""
                for piece in file.pieces(0, min(one.size, file.size())) if thorough else ():
                    folders |= provider.read_folders(rest + piece)
                    rest = piece[-_OVERLAP_BYTES:]
        except DiskError as exc:
            unreadable[one.path] = exc.message
    times = [one.mtime_ns / 1e9 for one in files]
    size = sum(one.size for one in files)
    return SessionHere(session_id, known.project, frozenset(folders), tuple(files), size, min(times), max(times))
