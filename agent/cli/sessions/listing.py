"""`transcriptd sessions list`: what there is."""

from collections.abc import Mapping
from typing import Any

import click

from agent.cli.config import environment
from agent.cli.sessions.known import read_sessions
from agent.core.session import Facts
from agent.core.status import StreamLine
from agent.system.paths import default_paths


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(0), help="How many; 0 for all.")
def list_(as_json: bool, limit: int) -> None:
    """Sessions, the one that changed last first."""
    from agent.cli.output import age_words, clean, console, make_table, plural, print_json, size_words, state_text

    lines, facts = read_sessions(default_paths(environment()))
    rows = _by_session(lines, facts)
    shown = rows[:limit] if limit else rows
    if as_json:
        print_json({"schema": 1, "sessions": shown, "total": len(rows)})
        return
    if not rows:
        click.echo("no sessions yet; the agent has not run here (transcriptd run), or there are no transcripts")
        return
    columns = [("session", "left"), ("project", "left"), ("title", "fold"), ("entries", "right"), ("size", "right")]
    columns += [("changed", "right"), ("", "left")]
    table = [
        (
            clean(row["session"][:8]),
            clean(row["project"].replace("\\", "/").rstrip("/").rpartition("/")[2], 24),
            clean(row["title"], 60),
            f"{row['entries']:,}",
            size_words(row["bytes"]),
            age_words(row["changed_at_s"]),
            state_text(row["state"]),
        )
        for row in shown
    ]
    console().print(make_table(columns, table))
    if len(shown) < len(rows):
        click.echo(f"{plural(len(rows) - len(shown), 'more session')}: --limit 0")


def _by_session(lines: list[StreamLine], facts: Mapping[str, Facts]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for line in lines:
        about = facts.get(line.session_id, Facts())
        row = rows.setdefault(
            line.session_id,
            {
                "session": line.session_id,
                "project": about.project,
                "title": about.shown_title(),
                "streams": 0,
                "entries": 0,
                "bytes": 0,
                "changed_at_s": 0.0,
                "state": "synced",
            },
        )
        row["streams"] += 1
        row["entries"] += line.entries
        row["bytes"] += max(line.size, 0)
        row["changed_at_s"] = max(row["changed_at_s"], line.mtime_s)
        if line.state not in ("synced", "gone"):
            row["state"] = line.state
    return sorted(rows.values(), key=lambda row: -row["changed_at_s"])
