"""`transcriptd sessions list`: what there is."""

from typing import Any

import click

from agent.cli.config import environment, load_settings
from agent.cli.sessions.wishes import narrowing, read_wanted
from agent.core.sessions.session_queries import LIVES, SORTS
from agent.system.paths import default_paths


@click.command("list")
@narrowing
@click.option("--state", default="", metavar="STATE", help=f"{', '.join(LIVES)}, private, or synced, waiting, … .")
@click.option("--archived/--all", "archived", default=None, help="Only archived ones; or those too.")
@click.option("--sort", default="changed", show_default=True, type=click.Choice(list(SORTS)), help="What comes first.")
@click.option("--flat", is_flag=True, help="One row for each session, also of one conversation.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(0), help="How many; 0 for all.")
def list_(
    *, state: str, archived: bool | None, sort: str, flat: bool, as_json: bool, limit: int, **narrowed: str
) -> None:
    """Sessions, the one that changed last first.

    Sessions that began as copies of each other (resumed, forked, branched) are one conversation and one row: the one
    that changed last, with how many there are. Archived ones are left out.
    """
    from agent.cli.sessions.shelf import opened_look
    from agent.sessions.search.session_rows import Asked, list_sessions, short_ids

    _check_state(state)
    wanted = read_wanted(**narrowed)
    paths = default_paths(environment())
    shown = {None: False, True: True, False: None}[archived]
    with opened_look(load_settings(paths), paths, environment()) as look:
        found = list_sessions(look, Asked(wanted, state, shown, sort, limit, flat))
        names = {} if as_json else short_ids(look, (one["session"] for one in found["sessions"]))
    if as_json:
        from agent.cli.output import print_json

        print_json(found)
        return
    _print(found["sessions"], names, found["total"], narrowed=bool(state or archived or any(narrowed.values())))


def _check_state(state: str) -> None:
    """Raises UsageError for one that no session can be in."""
    if state and state not in (*LIVES, "private"):
        from agent.cli.output import STATE_WORDS
        from agent.errors import UsageError

        if state not in STATE_WORDS:
            known = dict.fromkeys((*LIVES, *STATE_WORDS))
            raise UsageError(f"{state[:32]!r} is no state", hint=f"known are {', '.join(known)}")


def _print(rows: list[dict[str, Any]], names: dict[str, str], total: int, *, narrowed: bool) -> None:
    from agent.cli.output import age_words, clean, has_colour, plural, screen_size, size_words

    if not rows:
        click.echo(
            "no such sessions"
            if narrowed
            else "no sessions yet; the agent has not run here (transcriptd run), or there are no transcripts"
        )
        return
    width = screen_size()[0] or 140
    table: list[tuple[str, ...]] = [("session", "project", "title", "entries", "size", "changed", "")]
    table += [
        (
            clean(names[row["session"]]),
            clean(row["project"].replace("\\", "/").rstrip("/").rpartition("/")[2], 24),
            clean(row["title"], 60),
            f"{row.get('lines', row['entries']):,}",
            size_words(row["bytes"]),
            age_words(row["changed_at_s"]),
            _state_words(row),
        )
        for row in rows
    ]
    for number, line in enumerate(_laid_out(table, width)):
        state = "bold" if number == 0 else _colour(rows[number - 1])
        click.echo(_painted(*line, state) if has_colour() else "".join(line).rstrip())
    if len(rows) < total:
        click.echo(f"{plural(total - len(rows), 'more session')}: --limit 0")


def _laid_out(table: list[tuple[str, ...]], width: int) -> list[tuple[str, str]]:
    """Lines, the last column apart: the title gives way, and where that is not enough whole columns do. Done here,
    since the library for tables takes as long as all the rest."""
    from rich.cells import cell_len, set_cell_size

    widths = [max(cell_len(row[at]) for row in table) for at in range(len(table[0]))]
    room = width - sum(widths) + widths[_TITLE] - 2 * len(widths) + 2
    left_out = []
    for at in _LEFT_OUT:
        if room < _LEAST_TITLE:
            left_out.append(at)
            room += widths[at] + 2
    widths[_TITLE] = max(10, min(widths[_TITLE], room))
    lines = []
    for row in table:
        cells = []
        for at, text in enumerate(row[:-1]):
            if at in left_out:
                continue
            if at in _RIGHT:
                cells.append(" " * (widths[at] - cell_len(text)) + text)
            else:
                fits = cell_len(text) <= widths[at]
                cells.append(set_cell_size(text if fits else set_cell_size(text, widths[at] - 1) + "…", widths[at]))
        lines.append(("  ".join(cells) + "  ", row[-1]))
    return lines


_TITLE = 2
_LEAST_TITLE = 16
_LEFT_OUT = (3, 4, 1)
"""Columns that a narrow terminal has no room for: entries, then size, then project."""
_RIGHT = (3, 4, 5)


def _painted(line: str, state: str, colour: str) -> str:
    if colour == "bold":
        return click.style(line + state, bold=True)
    known = colour if colour in _COLOURS else ""
    return line + (click.style(state, fg=known) if known else click.style(state, dim=True))


_COLOURS = ("cyan", "yellow", "green", "magenta", "red")


def _colour(row: dict[str, Any]) -> str:
    from agent.cli.output import STATE_WORDS

    return STATE_WORDS.get(_state_of(row), ("", ""))[1]


def _state_of(row: dict[str, Any]) -> str:
    if row["private"]:
        return "private"
    if row["life"] == "gone" and row["state"] in ("", "synced"):
        return "gone"
    return str(row["state"] or row["life"])


def _state_words(row: dict[str, Any]) -> str:
    from agent.cli.output import STATE_WORDS, clean

    state = _state_of(row)
    words = STATE_WORDS.get(state, (clean(state, 24), ""))[0]
    if row["life"] == "live" and state != "live":
        words = f"live, {words}"
    return f"{words} +{row['members'] - 1:,}" if row["members"] > 1 else words
