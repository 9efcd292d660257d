"""Which session somebody means: an id, its beginning, words of its title, or `latest`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.core.session import Facts, Observation
from agent.core.settings import Settings
from agent.errors import UsageError
from agent.system.paths import Paths

LATEST = "latest"
_SHOWN = 5


class Chosen(NamedTuple):
    """`files`: transcripts and side files that lie here, the main one first. `facts`: empty where nobody remembers
    any."""

    session_id: str
    provider: str
    files: tuple[Observation, ...]
    facts: Facts


def choose_session(words: str, settings: Settings, paths: Paths, environment: Mapping[str, str]) -> Chosen:
    """The one session that `words` mean among those whose files lie here. Raises UsageError for none, or for several,
    with the beginnings of their ids in the hint."""
    from agent.cli.sessions.known import read_sessions
    from agent.daemon.supervisor import find_roots
    from agent.daemon.survey import find_files

    found, _ = find_files(find_roots(settings, environment))
    known = read_sessions(paths)[1]
    ids = _matching(words, found, known)
    if len(ids) != 1:
        what = f"no session here is called {words!r}" if not ids else f"{len(ids)} sessions are called {words!r}"
        hint = "transcriptd sessions list" if not ids else "say more of its id: " + ", ".join(sorted(ids)[:_SHOWN])
        raise UsageError(what, hint=hint)
    session_id = ids[0]
    files = tuple(sorted(found[session_id], key=lambda one: one.stream.subpath))
    return Chosen(session_id, files[0].provider, files, known.get(session_id, Facts()))


def _matching(words: str, found: Mapping[str, Sequence[Observation]], known: Mapping[str, Facts]) -> list[str]:
    """The first way that finds any: the id, the newest, the beginning of an id, the title."""
    if words in found:
        return [words]
    if words == LATEST:
        return [max(found, key=lambda session: max(one.mtime_ns for one in found[session]))] if found else []
    ids = [session for session in found if session.startswith(words)] if words else []
    wanted = words.casefold()
    return ids or [one for one in found if wanted and wanted in known.get(one, Facts()).shown_title().casefold()]
