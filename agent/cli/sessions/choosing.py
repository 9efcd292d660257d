"""Which session somebody means: an id, its beginning, a label, words of its title, or `latest`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.core.settings import Settings
from agent.core.transcripts.session import Facts, Observation
from agent.system.paths import Paths

LATEST = "latest"


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
    from agent.cli.sessions.resolving import check_one
    from agent.delivery.discovery.roots import find_roots
    from agent.delivery.inventory.survey import find_streams, read_followed
    from agent.system.state.annotations import Annotations

    found = find_streams(find_roots(settings, environment), lambda: read_followed(paths)).files
    ids = _by_id(words, found)
    known: Mapping[str, Facts] = {}
    if len(ids) != 1 or words != ids[0]:
        known = {**read_sessions(paths)[1], **_indexed_facts(settings, paths)}
        if not ids:
            labels = {session: one.label for session, one in Annotations(paths.annotations).read().items()}
            ids = _by_name(words, found, labels, known)
    check_one(words, ids)
    session_id = ids[0]
    files = tuple(sorted(found[session_id], key=lambda one: one.stream.subpath))
    facts = known.get(session_id) or read_sessions(paths)[1].get(session_id, Facts())
    facts = facts.merged(Facts(next((one.project for one in files if one.project), "")))
    return Chosen(session_id, files[0].provider, files, facts)


def _by_id(words: str, found: Mapping[str, Sequence[Observation]]) -> list[str]:
    """The id, the newest, or those whose ids begin so."""
    if words in found:
        return [words]
    if words == LATEST:
        return [max(found, key=lambda session: max(one.mtime_ns for one in found[session]))] if found else []
    return [session for session in found if session.startswith(words)] if words else []


def _by_name(
    words: str, found: Mapping[str, Sequence[Observation]], labels: Mapping[str, str], known: Mapping[str, Facts]
) -> list[str]:
    """Those with such a label; where there are none, those with such a title."""
    wanted = words.casefold()
    if not wanted:
        return []
    labelled = [one for one in found if wanted in labels.get(one, "").casefold()]
    return labelled or [one for one in found if wanted in known.get(one, Facts()).shown_title().casefold()]


def _indexed_facts(settings: Settings, paths: Paths) -> dict[str, Facts]:
    from agent.system.state.index_db import open_index_readonly

    db = open_index_readonly(paths.index) if settings.index.enabled else None
    if db is None:
        return {}
    with db:
        rows = db.ask("select session_id, project, title, prompt from sessions")
    return {row["session_id"]: Facts(row["project"], row["title"], row["prompt"]) for row in rows}
