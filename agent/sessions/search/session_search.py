"""A search as people and scripts ask for it: which files, by the index where there is one, and finds as JSON values."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from agent.core.sessions.search_terms import Matcher
from agent.core.sessions.session_queries import Wanted, list_query
from agent.core.settings import Settings
from agent.core.transcripts.session import StreamId
from agent.providers import PROVIDERS
from agent.sessions.search.searching import Target, search
from agent.sessions.search.session_rows import SCHEMA, Look
from agent.system.state.annotations import Annotation

_SIDE_FILES = ("files/tool-results/",)
"""Side files that hold what a tool said; others only say what is in the transcripts too."""


def search_sessions(
    look: Look,
    matcher: Matcher,
    wanted: Wanted,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    limit: int,
    each: int,
    role: str,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Any]:
    """`hits`, `files` looked through, whether that is the `whole` of it, and what could not be read."""
    about: dict[str, Mapping[str, Any]] = {}
    if look.db is None:
        targets = _walked(settings, environment, wanted)
    else:
        rows = look.db.ask(*list_query(wanted._replace(now_s=look.now_s), "changed", 0, flat=True))
        about = {row["session_id"]: row for row in rows}
        targets = _indexed(look, about)
    found = search(matcher, targets, PROVIDERS, limit=limit, each=each, role=role, progress=progress)
    hits = [_hit(look, one, about.get(one.stream.session_id, {})) for one in found.hits]
    return {"schema": SCHEMA, "hits": hits, "files": found.files, "bytes": found.bytes} | {
        "whole": found.is_whole,
        "unread": dict(found.unread),
    }


def _indexed(look: Look, about: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    assert look.db is not None  # noqa: S101 - the caller looked
    files: dict[str, list[Target]] = {}
    for row in look.db.ask("select session_id, subpath, provider, path from streams where not gone"):
        if row["session_id"] in about and _holds_words(row["subpath"]):
            stream = StreamId(row["session_id"], row["subpath"])
            files.setdefault(row["session_id"], []).append(Target(stream, row["provider"], os.fsdecode(row["path"])))
    return [one for session in about for one in files.get(session, ())]


def _walked(settings: Settings, environment: Mapping[str, str], wanted: Wanted) -> list[Target]:
    """Without an index nothing is known of projects and models: a search for those finds nothing."""
    from agent.delivery.discovery.roots import find_roots
    from agent.delivery.inventory.survey import find_streams, read_followed
    from agent.system.paths import default_paths

    if wanted.project or wanted.model:
        return []
    followed = partial(read_followed, default_paths(environment))
    found = find_streams(find_roots(settings, environment), followed).files
    files = sorted((one for those in found.values() for one in those), key=lambda one: -one.mtime_ns)
    return [
        Target(one.stream, one.provider, one.path)
        for one in files
        if _holds_words(one.stream.subpath)
        and wanted.provider in ("", one.provider)
        and (wanted.since_s is None or one.mtime_ns / 1e9 >= wanted.since_s)
    ]


def _holds_words(subpath: str) -> bool:
    return not subpath.startswith("files/") or subpath.startswith(_SIDE_FILES)


def _hit(look: Look, one: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    session, project = one.stream.session_id, row.get("project", "")
    label = look.annotations.get(session, Annotation()).label
    return {
        "session": session,
        "subpath": one.stream.subpath,
        "provider": one.provider,
        "project": project,
        "title": label or row.get("title", "") or row.get("prompt", ""),
        "private": look.is_private(session, project),
        "changed_at_s": row.get("changed_at_s"),
        "line": one.line,
        "role": one.role,
        "kind": one.kind,
        "at_s": one.at_s,
        "text": one.text,
        "begin": one.begin,
        "end": one.end,
    }
