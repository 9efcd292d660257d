"""How we speak: sizes, times, tables. Colour only on a terminal that wants it (rich honours NO_COLOR)."""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

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


def age_words(at_s: float, now_s: float | None = None) -> str:
    """How long ago, in one unit."""
    age = max(0.0, (time.time() if now_s is None else now_s) - at_s)
    for limit, length, unit in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h")):
        if age < limit:
            return f"{age / length:.0f} {unit} ago"
    return f"{age / 86_400:.0f} days ago"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clean(text: str, width: int = 0) -> str:
    """Text of a transcript, fit for a terminal: no control characters, one line, at most `width` wide (0: any)."""
    shown = "".join(ch if ch.isprintable() else " " for ch in text)
    return shown if not width or len(shown) <= width else shown[: width - 1] + "…"


def state_text(state: str) -> Text:
    word, colour = STATE_WORDS.get(state, (state, ""))
    return Text(word, style=colour)


def make_table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str | Text]]) -> Table:
    """`columns`: heading and justification ("left", "right", "fold" for a left one that gives way)."""
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


def console(*, stderr: bool = False) -> Console:
    """For people. Without a terminal it is as wide as it gets; what scripts read is JSON."""
    # Titles and folders are text: what looks like markup in them is shown, and neither obeyed nor an error.
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal or made.width > _WIDEST:
        made = Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=_WIDEST)
    return made
