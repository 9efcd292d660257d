"""`transcriptd sessions stats`: tokens and tools, with a small chart."""

from collections.abc import Sequence
from typing import Any

import click

from agent.cli.config import environment, load_settings
from agent.cli.sessions.wishes import narrowing, read_wanted
from agent.core.sessions.session_queries import GROUPS
from agent.system.paths import default_paths

_ROWS = 30
_TOOLS = 15
_BAR = 24
_LEAST_BAR = 4
_LEFT_OUT = ("cached", "tools", "messages", "kind")
"""Columns that a narrow terminal has no room for, the first to go first."""
_EIGHTHS = " ▏▎▍▌▋▊▉"

Columns = list[tuple[str, str]]


@click.command()
@narrowing
@click.option("--by", default="day", show_default=True, type=click.Choice(GROUPS), help="What is summed up.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def stats(by: str, as_json: bool, **narrowed: str) -> None:
    """Tokens, messages and calls of tools, by day (of this machine's clock), project, model or agent.

    Costs are of those sessions whose agent says them.
    """
    from agent.cli.output import print_json
    from agent.cli.sessions.shelf import opened_look
    from agent.sessions.search.session_rows import sum_up

    wanted = read_wanted(**narrowed)
    paths = default_paths(environment())
    with opened_look(load_settings(paths), paths, environment()) as look:
        found = sum_up(look, wanted, by)
    if as_json:
        print_json(found)
        return
    _print(found)


def _print(found: dict[str, Any]) -> None:
    from agent.cli.output import clean, console, make_table, plural

    groups = found["groups"]
    if not groups:
        click.echo("nothing was spent in these sessions")
        return
    by_size = sorted(groups, key=lambda one: -_tokens(one))
    shown = groups[-_ROWS:] if found["by"] == "day" else by_size[:_ROWS]
    most = max(map(_tokens, shown)) or 1
    columns = [(found["by"], "left"), ("tokens", "right"), ("", "left"), ("out", "right"), ("cached", "right")]
    columns += [("messages", "right"), ("tools", "right"), ("sessions", "right"), ("USD", "right")]
    table = [
        (
            clean(_short(one["name"], found["by"]), 40) or "(unknown)",
            count_words(_tokens(one)),
            _tokens(one) / most,
            count_words(one["output"]),
            count_words(one["cache_read"] + one["cache_creation"]),
            f"{one['messages']:,}",
            f"{one['calls']:,}",
            f"{one['sessions']:,}",
            f"{one['cost_usd']:,.2f}" if one["cost_usd"] else "",
        )
        for one in shown
    ]
    console().print(make_table(*_with_bars(columns, table)))
    if len(shown) < len(groups):
        click.echo(f"{plural(len(groups) - len(shown), 'more row')}: --json")
    if found["tools"]:
        _print_tools(found["tools"])
    total = found["total"]
    cost = f", {total['cost_usd']:,.2f} USD" if total["cost_usd"] else ""
    click.echo(f"\n{plural(total['sessions'], 'session')}, {count_words(_tokens(total))} tokens{cost}")


def _print_tools(tools: list[dict[str, Any]]) -> None:
    from agent.cli.output import clean, console, make_table

    most = max(one["calls"] for one in tools) or 1
    columns = [("tool", "left"), ("kind", "left"), ("calls", "right"), ("", "left"), ("failed", "right")]
    columns += [("sessions", "right")]
    table = [
        (
            clean(one["tool"], 40) or "(unknown)",
            clean(one["kind"]),
            f"{one['calls']:,}",
            one["calls"] / most,
            f"{one['errors']:,}" if one["errors"] else "",
            f"{one['sessions']:,}",
        )
        for one in tools[:_TOOLS]
    ]
    click.echo()
    console().print(make_table(*_with_bars(columns, table)))


def _with_bars(columns: Columns, rows: Sequence[tuple[str | float, ...]]) -> tuple[Columns, list[tuple[str, ...]]]:
    """A bar for each share. Numbers need their room: the bars get what a terminal has left, or none of it, and where
    that is not enough whole columns go."""
    from rich.cells import cell_len

    from agent.cli.output import screen_size

    names = [name for name, _ in columns]
    cells = [[one if isinstance(one, str) else "" for one in row] for row in rows]
    widths = [max(cell_len(row[at]) for row in [names, *cells]) + 2 for at in range(len(names))]
    room = (screen_size()[0] or sum(widths) + _BAR) - sum(widths)
    if room >= _LEAST_BAR:
        bars = [tuple(one if isinstance(one, str) else bar(one, min(_BAR, room)) for one in row) for row in rows]
        return columns, bars
    left_out = {names.index("")}
    for at in (names.index(one) for one in _LEFT_OUT if one in names):
        if room < 0:
            left_out.add(at)
            room += widths[at]
    kept = [at for at in range(len(names)) if at not in left_out]
    return [columns[at] for at in kept], [tuple(row[at] for at in kept) for row in cells]


def bar(share: float, width: int = _BAR) -> str:
    """A bar of `share` (0 to 1) of its width, in eighths of a character; something as soon as there is anything."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8) or (1 if share > 0 else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def count_words(count: float) -> str:
    """Numbers of tokens, for people."""
    for limit, length, unit in ((10_000, 1, ""), (9_999_500, 1e3, "k"), (9_999_500_000, 1e6, "M")):
        if count < limit:
            return f"{count / length:,.0f}{unit}"
    return f"{count / 1e9:,.1f}G"


def _tokens(one: dict[str, Any]) -> int:
    return int(one["input"] + one["output"] + one["cache_read"] + one["cache_creation"])


def _short(name: str, by: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] if by == "project" else name
