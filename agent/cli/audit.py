"""`transcriptd audit`: what happened to which transcript, and when. Read from the state, beside a daemon or without."""

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from agent.cli.completing import complete_session
from agent.cli.config import environment, remembered
from agent.core.delivery.audit import AuditKind
from agent.errors import DiskError, UsageError
from agent.system.paths import Paths, default_paths

if TYPE_CHECKING:
    from agent.system.state.state_db import AuditRow

_SHOWN = 100
"""Rows for people, when nobody says how many; scripts get all."""

_KIND = click.Choice([kind.value for kind in AuditKind])

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_COLUMNS = ("time", "destination", "session", "subpath", "kind", "detail", "path")


@click.command()
@click.argument("session", shell_complete=complete_session, nargs=-1)
@click.option("--since", metavar="AGE", help="Not older: 30m, 12h, 7d, 2w, or a date (2026-11-21).")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([one.value for one in AuditKind]),
    help="Only these; may be repeated.",
)
@click.option("--limit", type=click.IntRange(0), help=f"The last ones; 0 for all.  [default: {_SHOWN} in a table]")
@click.option("--json", "form", flag_value="json", help="One JSON object, for scripts.")
@click.option("--tsv", "form", flag_value="tsv", help="A line each, fields between tabs, the first line names them.")
def audit(
    session: tuple[str, ...], since: str | None, kinds: tuple[str, ...], limit: int | None, form: str | None
) -> None:
    """What was uploaded, refused, realigned …, the oldest first. Ids, sizes and statuses; never text.

    SESSION is an id or its beginning. The log goes back 90 days, or 100,000 rows.
    """
    oldest_s = -math.inf if since is None else parse_since(since, time.time())
    rows = [
        row
        for row in _read(default_paths(environment()))
        if row.at_s >= oldest_s
        and (not kinds or row.kind in kinds)
        and (not session or row.stream.session_id.startswith(session))
    ]
    most = limit if limit is not None else 0 if form else _SHOWN
    shown = rows[-most:] if most else rows
    if form == "json":
        from agent.cli.output import print_json

        print_json({"schema": 1, "entries": [_fields(row) for row in shown], "total": len(rows)})
    elif form == "tsv":
        click.echo("\t".join(_COLUMNS))
        for row in shown:
            click.echo("\t".join(map(_escape, _texts(row))))
    else:
        _print_table(shown, len(rows))


def parse_since(text: str, now_s: float) -> float:
    """Wall time of an age (`7d`) or a date or time (ISO 8601; this machine's zone unless it names one). Raises
    UsageError."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS_S and number.isascii() and number.isdigit():
        return now_s - int(number) * _UNITS_S[unit]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as exc:
        raise UsageError(f"{text!r} is neither an age nor a date", hint="for example: --since 7d") from exc


def _read(paths: Paths) -> list["AuditRow"]:
    is_there = paths.database.exists()  # before: an agent that begins may be about to make it
    with remembered(paths) as store:
        if store is not None:
            return list(store.audit())
    if is_there:
        raise DiskError(f"{paths.database} can't be read", hint="transcriptd status")
    return []


def _fields(row: "AuditRow") -> dict[str, str | float]:
    texts = dict(zip(_COLUMNS, _texts(row), strict=True))
    return {"at_s": row.at_s, **texts}


def _texts(row: "AuditRow") -> tuple[str, ...]:
    """As `_COLUMNS` names them. The time is UTC, to the second."""
    try:
        at = datetime.fromtimestamp(row.at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # a clock that was far off
        at = f"{row.at_s:.0f}"
    return (at, row.destination, *row.stream, row.kind, row.detail, row.path)


def _escape(text: str) -> str:
    """One field of one line, and nothing that a terminal obeys."""
    return "".join(ch if ch.isprintable() and ch != "\\" else ch.encode("unicode_escape").decode() for ch in text)


def _print_table(rows: Sequence["AuditRow"], total: int) -> None:
    from agent.cli.output import clean, console, make_table, plural

    if not rows:
        click.echo("nothing in the audit log" if total == 0 else "nothing to show")
        return
    columns = [("time", "left"), ("destination", "left"), ("session", "left"), ("transcript", "left")]
    columns += [("what", "left"), ("detail", "left"), ("file", "fold")]
    several = len({row.destination for row in rows}) > 1
    table = [
        [
            _local_time(row.at_s),
            clean(row.destination, 16),
            clean(row.stream.session_id[:8]),
            clean(row.stream.subpath.rpartition("/")[2], 24) or "main",
            clean(row.kind.replace("_", " ")),
            clean(row.detail, 48),
            clean(row.path),
        ]
        for row in rows
    ]
    if not several:
        columns = columns[:1] + columns[2:]
        table = [line[:1] + line[2:] for line in table]
    console().print(make_table(columns, table))
    if len(rows) < total:
        click.echo(f"{plural(total - len(rows), 'older row')}: --limit 0")


def _local_time(at_s: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))
    except (ValueError, OverflowError, OSError):
        return f"{at_s:.0f}"
