"""Sessions as people and scripts see them: what the index counted, what was set by hand, how far they are synced.
Used by the commands and by the control socket; values are JSON."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from agent.core.sessions.session_queries import (
    GROUPS,
    LIVES,
    SORTS,
    Wanted,
    count_query,
    life_of,
    list_query,
    stats_query,
    tools_query,
)
from agent.core.status import StreamLine
from agent.core.transcripts.session import Facts
from agent.errors import UsageError
from agent.system.state.annotations import Annotation
from agent.system.state.index_db import IndexDb

SCHEMA = 1

_NOTHING = Annotation()

_SETTLED = ("synced", "gone")

_SHORT = 8


class Synced(NamedTuple):
    """How far sessions are on servers. `streams`: of those asked for, and of all that the index does not know; with
    their `facts`."""

    streams: Sequence[StreamLine] = ()
    facts: Mapping[str, Facts] = {}


FindSynced = Callable[[Iterable[str] | None, "Callable[[], set[str]] | None"], Synced]


class Look(NamedTuple):
    """`find_synced(sessions, not_among)`: of these, and of any but those that `not_among` gives.
    `is_private(session, project)`."""

    db: IndexDb | None
    annotations: Mapping[str, Annotation]
    find_synced: "FindSynced"
    is_private: Callable[[str, str], bool]
    now_s: float


class Asked(NamedTuple):
    """What a list was asked for. `state`: one of `LIVES`, `private`, or how it is synced; `archived` None: both."""

    wanted: Wanted = Wanted()
    state: str = ""
    archived: bool | None = None
    sort: str = "changed"
    limit: int = 50
    flat: bool = False


def list_sessions(look: Look, asked: Asked) -> dict[str, Any]:
    """`sessions` and how many there are in `total`."""
    if asked.sort not in SORTS:
        raise UsageError(f"sort is {asked.sort[:32]!r}, expected one of {', '.join(SORTS)}")
    if look.db is None:
        rows = [one for one in _known_only(look) if _fits(one, asked)]
        return _listed(rows, asked.limit, len(rows))
    life = asked.state if asked.state in LIVES else ""
    by_sync = bool(asked.state) and not life
    wanted = _with_archived(asked.wanted._replace(life=life, now_s=look.now_s), look.annotations, asked.archived)
    limit = 0 if by_sync else asked.limit
    found = look.db.ask(*list_query(wanted, asked.sort, limit, flat=asked.flat))
    synced = look.find_synced([row["session_id"] for row in found], look.db.session_ids)
    by_session = _by_session(synced.streams)
    rows = [_row(look, row, by_session.get(row["session_id"], [])) for row in found]
    indexed = {row["session_id"] for row in found}
    more = [one for one in _known_only(look, indexed, synced) if _fits(one, asked)]
    if by_sync:
        rows = [one for one in rows if asked.state in (one["state"], one["private"] and "private")]
    if more and asked.sort == "changed":
        rows = sorted([*rows, *more], key=lambda one: -one["changed_at_s"])
    else:
        rows += more
    if by_sync:
        return _listed(rows, asked.limit, len(rows))
    total = look.db.ask(*count_query(wanted, flat=asked.flat))[0]["total"] + len(more)
    return _listed(rows, asked.limit, total)


def _listed(rows: list[dict[str, Any]], limit: int, total: int) -> dict[str, Any]:
    return {"schema": SCHEMA, "sessions": rows[: limit or None], "total": total}


def describe_session(look: Look, session_id: str) -> dict[str, Any]:
    """All that is known of it. Raises UsageError when nothing is."""
    synced = look.find_synced([session_id], None)
    lines = [one for one in synced.streams if one.session_id == session_id]
    found = look.db.ask("select *, 1 as members from sessions where session_id = ?", (session_id,)) if look.db else []
    if not found and not lines:
        raise UsageError(f"no session here is called {session_id[:64]!r}", hint="transcriptd sessions list")
    if not found or look.db is None:
        row = next(one for one in _known_only(look, None, synced) if one["session"] == session_id)
        return {**row, "schema": SCHEMA, "files": _files([], lines), "tools": [], "kinds": {}, "lineage": []}
    streams = look.db.ask("select * from streams where session_id = ? order by subpath", (session_id,))
    tools = look.db.ask(
        "select kind, tool, calls, errors from tools where session_id = ? order by calls desc", (session_id,)
    )
    related = look.db.ask(
        "select session_id, title, prompt, parent, link, shared, started_at_s, changed_at_s, lines from sessions"
        " where root = ? and root <> '' order by started_at_s limit 1000",
        (found[0]["root"],),
    )
    return {
        **_row(look, found[0], lines),
        "schema": SCHEMA,
        "members": max(1, len(related)),
        "kinds": json.loads(found[0]["kinds"]),
        "models": json.loads(found[0]["models"]),
        "values": dict(look.annotations.get(session_id, _NOTHING).values),
        "files": _files(streams, lines),
        "tools": tools,
        "lineage": [_related(look, one) for one in related] if len(related) > 1 else [],
    }


def sum_up(look: Look, wanted: Wanted, group: str, *, archived: bool | None = None) -> dict[str, Any]:
    """What was spent, in groups; the tools that were called, the sums."""
    if group not in GROUPS:
        raise UsageError(f"group is {group[:32]!r}, expected one of {', '.join(GROUPS)}")
    if look.db is None:
        raise UsageError("there is no index of sessions", hint="transcriptd sessions backfill")
    wanted = _with_archived(wanted._replace(now_s=look.now_s), look.annotations, archived)
    groups = look.db.ask(*stats_query(wanted, group))
    sums = ("input", "output", "cache_read", "cache_creation", "cost_usd", "messages", "calls")
    total = {name: sum(one[name] or 0 for one in groups) for name in sums}
    if group == "model":
        groups = [one for one in groups if one["name"] or one["input"] or one["output"]]  # said before any model was
    sessions = look.db.ask(*count_query(wanted, flat=True))[0]["total"]
    tools = look.db.ask(*tools_query(wanted))
    return {"schema": SCHEMA, "by": group, "groups": groups, "tools": tools, "total": {**total, "sessions": sessions}}


def resolve(look: Look, words: str, limit: int) -> list[dict[str, Any]]:
    """Sessions that `words` may mean, by the first way that finds any: the id, `latest`, the beginning of an id, a
    label, a title."""
    found = _resolve_indexed(look, words, limit) if look.db else []
    if not found:
        synced = look.find_synced(None, None)
        rows = _known_only(look, None, synced)
        named = [one for one in rows if one["session"].startswith(words)] if words != "latest" else rows[:1]
        folded = words.casefold()
        found = named or [one for one in rows if folded and folded in f"{one['label']}\n{one['title']}".casefold()]
    return found[:limit]


def _resolve_indexed(look: Look, words: str, limit: int) -> list[dict[str, Any]]:
    assert look.db is not None  # noqa: S101 - the caller looked
    query = "select *, 1 as members from sessions"
    values = {"words": words, "limit": limit, "end": words + "\U0010ffff"}
    folded = words.casefold()
    labelled = [one for one, it in look.annotations.items() if folded and folded in it.label.casefold()]
    ways: list[tuple[str, dict[str, Any]]] = [("where session_id = :words", values)]
    if words == "latest":
        ways.append(("where not gone", {**values, "limit": 1}))
    elif words:
        ways.append(("where session_id >= :words and session_id < :end", values))
        among = {**values, "among": json.dumps(labelled)}
        ways.append(("where session_id in (select value from json_each(:among))", among))
        like = {**values, "like": "%" + words.translate(_LIKE) + "%"}
        ways.append(("where title like :like escape '\\' or (title = '' and prompt like :like escape '\\')", like))
    for where, bound in ways:
        rows = look.db.ask(f"{query} {where} order by changed_at_s desc limit :limit", bound)
        if rows:
            return [_row(look, row, []) for row in rows]
    return []


_LIKE = str.maketrans({"%": "\\%", "_": "\\_", "\\": "\\\\"})


def short_ids(look: Look, sessions: Iterable[str]) -> dict[str, str]:
    """The beginning of each id that no other session here has, eight characters at least: ids that begin with a time
    (Codex) have more than that in common."""
    return {one: one[: max(_SHORT, 1 + _common(look, one))] for one in sessions}


def _common(look: Look, session: str) -> int:
    """How many characters at most another id begins with, too: one of the two beside it in their order."""
    if look.db is None:
        return len(session)
    beside = look.db.ask(
        "select max(session_id) as one from sessions where session_id < :it"
        " union all select min(session_id) from sessions where session_id > :it",
        {"it": session},
    )
    pairs = (zip(session, row["one"] or "", strict=False) for row in beside)
    return max(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], one)) for one in pairs)


# --- one row ----------------------------------------------------------------------------------------------------------


def _row(look: Look, row: Mapping[str, Any], lines: Sequence[StreamLine]) -> dict[str, Any]:
    session = row["session_id"]
    set_ = look.annotations.get(session, _NOTHING)
    names = ("provider", "project", "started_at_s", "last_at_s", "changed_at_s", "model", "cost_usd", "messages")
    return {
        "session": session,
        "title": set_.label or row["title"] or row["prompt"],
        "label": set_.label,
        "archived": set_.archived,
        **{name: row[name] for name in names},
        "streams": row["streams"],
        "entries": sum(one.entries for one in lines) if lines else row["lines"],
        "lines": row["lines"],
        "bytes": row["bytes"],
        "state": _state_of(lines),
        "life": life_of(row, look.now_s),
        "private": _is_private(look, session, row["project"], lines),
        "tokens": {name: row[name] for name in ("input", "output", "cache_read", "cache_creation")},
        "tool_calls": row["calls"],
        "conversation": row["root"],
        "members": row["members"],
        "parent": row["parent"],
        "link": row["link"],
        "shared_entries": row["shared"],
    }


def _state_of(lines: Sequence[StreamLine]) -> str:
    """How far it is on servers; empty where nobody looked yet."""
    if not lines:
        return ""
    return next((one.state for one in reversed(lines) if one.state not in _SETTLED), "synced")


def _is_private(look: Look, session: str, project: str, lines: Sequence[StreamLine]) -> bool:
    return any(one.state == "private" for one in lines) or look.is_private(session, project)


def _known_only(look: Look, indexed: "set[str] | None" = None, synced: Synced | None = None) -> list[dict[str, Any]]:
    """Sessions that only the agent remembers, the one that changed last first."""
    synced = synced or look.find_synced(None, None)
    rows = []
    for session, lines in _by_session(synced.streams).items():
        if indexed is not None and session in indexed:
            continue
        facts, set_ = synced.facts.get(session, Facts()), look.annotations.get(session, _NOTHING)
        changed_at_s = max(one.mtime_s for one in lines)
        is_gone = all(one.state == "gone" for one in lines)
        if is_gone and set_.forgotten:
            continue
        row = {
            "session": session,
            "title": set_.label or facts.shown_title(),
            "label": set_.label,
            "archived": set_.archived,
            "project": facts.project,
            "changed_at_s": changed_at_s,
            "streams": len(lines),
            "entries": sum(one.entries for one in lines),
            "bytes": sum(max(one.size, 0) for one in lines),
            "state": _state_of(lines),
            "life": life_of({"gone": is_gone, "changed_at_s": changed_at_s, "ended": False}, look.now_s),
            "private": _is_private(look, session, facts.project, lines),
            "members": 1,
        }
        rows.append(row)
    return sorted(rows, key=lambda one: -one["changed_at_s"])


def _fits(row: Mapping[str, Any], asked: Asked) -> bool:
    """Whether one that is only remembered may be meant: what is not known of it fits nothing."""
    wanted = asked.wanted
    if wanted.provider or wanted.model or (wanted.among is not None and row["session"] not in wanted.among):
        return False
    if wanted.project and wanted.project.strip("*").lower() not in row["project"].lower():
        return False
    if wanted.since_s is not None and row["changed_at_s"] < wanted.since_s:
        return False
    if asked.archived is not None and row["archived"] is not asked.archived:
        return False
    return not asked.state or asked.state in (row["state"], row["life"], row["private"] and "private")


def _by_session(lines: Iterable[StreamLine]) -> dict[str, list[StreamLine]]:
    found: dict[str, list[StreamLine]] = {}
    for one in lines:
        found.setdefault(one.session_id, []).append(one)
    return found


def _with_archived(wanted: Wanted, annotations: Mapping[str, Annotation], archived: bool | None) -> Wanted:
    ids = [session for session, one in annotations.items() if one.archived]
    if archived is None:
        return wanted
    if not archived:
        return wanted._replace(without=ids)
    return wanted._replace(among=ids if wanted.among is None else [one for one in ids if one in set(wanted.among)])


def _files(streams: Sequence[Mapping[str, Any]], lines: Sequence[StreamLine]) -> list[dict[str, Any]]:
    """Each transcript and side file once, with how it stands at each server."""
    found: dict[str, dict[str, Any]] = {}
    for row in streams:
        path = row["path"].decode(errors="surrogateescape")
        found[row["subpath"]] = {
            "subpath": row["subpath"],
            "path": path,
            "bytes": row["size"],
            "read_bytes": row["offset"],
            "gone": bool(row["gone"]),
            "servers": [],
        }
    for line in lines:
        start = {"subpath": line.subpath, "path": line.path, "bytes": line.size, "read_bytes": 0, "gone": False}
        one = found.setdefault(line.subpath, {**start, "servers": []})
        names = ("destination", "state", "reason", "sent_bytes", "entries", "generation", "held")
        rejected = sum(line.rejected.values())
        one["servers"].append({name: getattr(line, name) for name in names} | {"rejected": rejected})
    return [found[subpath] for subpath in sorted(found)]


def _related(look: Look, row: Mapping[str, Any]) -> dict[str, Any]:
    label = look.annotations.get(row["session_id"], _NOTHING).label
    names = ("parent", "link", "started_at_s", "changed_at_s", "lines")
    return {
        "session": row["session_id"],
        "title": label or row["title"] or row["prompt"],
        "shared_entries": row["shared"],
        **{name: row[name] for name in names},
    }


def find_forgettable(index: IndexDb, find_synced: FindSynced) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Sessions whose files are gone: those that servers have as a whole, and those of which they lack something."""
    gone = index.ask("select session_id, title, prompt, bytes, changed_at_s from sessions where gone")
    by_session = _by_session(find_synced([one["session_id"] for one in gone], None).streams)
    sent: list[dict[str, Any]] = []
    unsent: list[dict[str, Any]] = []
    for row in gone:
        lines = by_session.get(row["session_id"], [])
        subpaths = {one["subpath"] for one in _streams_of(index, row["session_id"])}
        whole = {one.subpath for one in lines if one.sent_bytes >= one.size > 0 and not one.held}
        (sent if subpaths and subpaths <= whole else unsent).append(
            {"session": row["session_id"], "title": row["title"] or row["prompt"], "bytes": row["bytes"]}
        )
    return sent, unsent


def _streams_of(index: IndexDb, session: str) -> list[dict[str, Any]]:
    return index.ask("select subpath from streams where session_id = ?", (session,))
