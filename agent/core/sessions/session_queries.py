"""Questions to the index of sessions, as SQL over the tables of `system.state.index_db`. Pure; every value is bound."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

SORTS = {
    "changed": "changed_at_s desc",
    "started": "started_at_s desc",
    "tokens": "tokens desc",
    "cost": "coalesce(cost_usd, 0) desc",
    "messages": "messages desc",
    "size": "bytes desc",
    "title": "title collate nocase, prompt collate nocase",
    "project": "project, changed_at_s desc",
}
"""How a list may be sorted → SQL."""

_GROUPS = {
    "day": "case when hour = 0 then '' else date(hour * 3600, 'unixepoch', 'localtime') end",
    "project": "sessions.project",
    "model": "hours.model",
    "provider": "sessions.provider",
}
GROUPS = tuple(_GROUPS)

LIVE_S = 60.0
"""A session that changed so lately is live."""


class Wanted(NamedTuple):
    """Which sessions. Empty values don't narrow. `project`: a part of the folder's name, or a pattern with `*`.
    `since_s`: changed at that wall time or later. `among`, `without`: ids."""

    project: str = ""
    provider: str = ""
    model: str = ""
    since_s: float | None = None
    life: str = ""
    among: Sequence[str] | None = None
    without: Sequence[str] = ()
    now_s: float = 0.0


LIVES = ("live", "quiet", "ended", "gone")


def life_of(row: Any, now_s: float) -> str:
    """live: written to within the last minute; gone: its files are; ended: it said so; quiet: none of these."""
    if row["gone"]:
        return "gone"
    if now_s - row["changed_at_s"] <= LIVE_S:
        return "live"
    return "ended" if row["ended"] else "quiet"


_LIFE = {
    "gone": "gone",
    "live": "not gone and changed_at_s >= :now_s - 60",
    "ended": "not gone and ended and changed_at_s < :now_s - 60",
    "quiet": "not gone and not ended and changed_at_s < :now_s - 60",
}


def _where(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    parts = ["1"]
    values: dict[str, Any] = {"now_s": wanted.now_s}
    if wanted.project:
        parts.append("project glob :project" if "*" in wanted.project else "instr(lower(project), :project)")
        values["project"] = wanted.project if "*" in wanted.project else wanted.project.lower()
    if wanted.provider:
        parts.append("provider = :provider")
        values["provider"] = wanted.provider
    if wanted.model:
        parts.append("(instr(lower(model), :model) or instr(lower(models), :model))")
        values["model"] = wanted.model.lower()
    if wanted.since_s is not None:
        parts.append("changed_at_s >= :since_s")
        values["since_s"] = wanted.since_s
    if wanted.life:
        parts.append(f"({_LIFE[wanted.life]})")
    if wanted.among is not None:
        parts.append("session_id in (select value from json_each(:among))")
        values["among"] = json.dumps(list(wanted.among))
    if wanted.without:
        parts.append("session_id not in (select value from json_each(:without))")
        values["without"] = json.dumps(list(wanted.without))
    return " and ".join(parts), values


def list_query(wanted: Wanted, sort: str, limit: int, *, flat: bool) -> tuple[str, dict[str, Any]]:
    """Rows of sessions; without `flat` one of each conversation, the one that changed last, with its `members`.
    `limit` 0: all."""
    where, values = _where(wanted)
    values["limit"] = limit or -1
    order = f"order by {SORTS[sort]}, session_id limit :limit"
    if flat:
        return f"select *, 1 as members from sessions where {where} {order}", values  # noqa: S608 - words of this page
    # Which ones is answered from an index with three columns; only those that are shown are read as a whole.
    groups = f"select session_id, count(*) as members, max(changed_at_s) as newest from sessions where {where}"  # noqa: S608
    best = "order by newest desc, session_id limit :limit" if sort == "changed" else ""
    query = f"select sessions.*, members from ({groups} group by root {best}) join sessions using (session_id) {order}"  # noqa: S608
    return query, values


def count_query(wanted: Wanted, *, flat: bool) -> tuple[str, dict[str, Any]]:
    where, values = _where(wanted)
    what = "count(*)" if flat else "count(distinct root)"
    return f"select {what} as total from sessions where {where}", values  # noqa: S608 - words of this page only


_SUMS = (
    "sum(hours.input) as input, sum(hours.output) as output, sum(hours.cache_read) as cache_read,"
    " sum(hours.cache_creation) as cache_creation, sum(hours.cost_usd) as cost_usd,"
    " sum(hours.messages) as messages, sum(hours.calls) as calls, count(distinct hours.session_id) as sessions"
)


def stats_query(wanted: Wanted, group: str) -> tuple[str, dict[str, Any]]:
    """What was spent, by day (of this machine's clock), project, model or provider. With `since_s`, only what was
    spent since."""
    where, values = _where(wanted)
    hours = "hour >= :since_hour" if wanted.since_s is not None else "1"
    values["since_hour"] = int((wanted.since_s or 0) // 3600)
    query = (
        f"select {_GROUPS[group]} as name, {_SUMS} from hours join sessions using (session_id)"  # noqa: S608
        f" where hours.session_id in (select session_id from sessions where {where}) and {hours} group by 1 order by 1"
    )
    return query, values


def tools_query(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    where, values = _where(wanted)
    query = (
        "select kind, tool, sum(tools.calls) as calls, sum(errors) as errors, count(distinct session_id) as sessions"  # noqa: S608
        f" from tools where session_id in (select session_id from sessions where {where})"
        " group by kind, tool order by 3 desc"
    )
    return query, values
