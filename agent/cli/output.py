"""How we speak: sizes, times, tables. Colour only on a terminal that wants it (rich honours NO_COLOR)."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    # It takes a quarter of the time in which `status` has to answer, and that needs no table.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from agent.cli.layout import Row

_WIDEST = 140
"""Beyond this a row is hard to follow with the eye."""

STATE_WORDS = {
    "settling": ("sending", "cyan"),
    "due": ("waiting", "yellow"),
    "pushing": ("sending", "cyan"),
    "pushing_stale": ("sending", "cyan"),
    "waiting": ("trying again", "yellow"),
    "synced": ("synced", "green"),
    "private": ("private", "magenta"),
    "refused": ("not sent", "red"),
    "deleted_on_server": ("deleted on server", "magenta"),
    "gone": ("file gone", "dim"),
}
"""State → what people read, and its colour."""


def print_json(value: Any) -> None:
    """One line of ASCII: fit for every locale, and for names of files that are no UTF-8."""
    click.echo(json.dumps(msgspec.to_builtins(value)))


def size_words(count: float) -> str:
    """Bytes for people, powers of 1000."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.1f} {unit}" if count < 99.5 else f"{count:.0f} {unit}"
    return f"{count / 1000:.1f} TB"


def span_words(span_s: float) -> str:
    """A length of time, in one unit."""
    for limit, length, unit in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h")):
        if span_s < limit:
            return f"{max(0.0, span_s) / length:.0f} {unit}"
    return f"{span_s / 86_400:.0f} days"


def age_words(at_s: float, now_s: float | None = None) -> str:
    """How long ago, in one unit."""
    return f"{span_words((time.time() if now_s is None else now_s) - at_s)} ago"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clean(text: str, width: int = 0) -> str:
    """Text of a transcript, fit for a terminal: no control characters, one line, at most `width` wide (0: any)."""
    shown = "".join(ch if ch.isprintable() else " " for ch in text)
    return shown if not width or len(shown) <= width else shown[: width - 1] + "…"


def state_text(state: str) -> "Text":
    from rich.text import Text

    word, colour = STATE_WORDS.get(state, (state, ""))
    return Text(word, style=colour)


def make_table(columns: Sequence[tuple[str, str]], rows: "Iterable[Sequence[str | Text]]") -> "Table":
    """`columns`: heading and justification ("left", "right", "fold" for a left one that gives way)."""
    from rich.table import Table

    gives_way = any(justify == "fold" for _, justify in columns)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), expand=gives_way)
    for heading, justify in columns:
        if justify == "fold":
            table.add_column(heading, overflow="ellipsis", no_wrap=True, ratio=1)
        else:
            table.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def console(*, stderr: bool = False) -> "Console":
    """For people. Without a terminal it is as wide as it gets; what scripts read is JSON."""
    from rich.console import Console

    # Titles and folders are text: what looks like markup in them is shown, and neither obeyed nor an error.
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal or made.width > _WIDEST:
        made = Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=_WIDEST)
    return made


def has_colour() -> bool:
    """Whether stdout is a terminal that wants colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def screen_size() -> tuple[int, int]:
    """Columns and lines of the terminal; 0 columns where there is none and nothing is to be wrapped."""
    size = shutil.get_terminal_size()
    return (min(size.columns, _WIDEST), size.lines) if sys.stdout.isatty() else (0, size.lines)


def print_rows(rows: "Sequence[Row]") -> None:
    """For people; without a terminal each row is one line, whatever its length."""
    from agent.cli.layout import lay_out, paint

    colour = has_colour()
    for line in lay_out(rows, screen_size()[0]):
        click.echo(paint(line, colour=colour), color=colour)
