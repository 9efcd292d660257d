"""A figure, what it should be, and the table of them."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Target(NamedTuple):
    bound: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def words(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {_number(self.bound)}"


class Figure(NamedTuple):
    """`note`: how it was measured, or what else was seen. Without a target it is there for information."""

    name: str
    value: float
    unit: str
    target: Target | None = None
    note: str = ""

    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "met" if self.target.is_met(self.value) else "missed"


def at_most(bound: float) -> Target:
    return Target(bound)


def at_least(bound: float) -> Target:
    return Target(bound, at_least=True)


def median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of round-by-round ratios: what slows the machine for a while slows both sides."""
    return statistics.median(one / other for one, other in zip(over, under, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float], unit: str) -> str:
    """Every round's figure, for a note."""
    return " / ".join(_number(value) for value in values) + f" {unit}"


def print_table(figures: Sequence[Figure], facts: Sequence[str]) -> None:
    console = Console(width=150, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("what", "left"), ("figure", "right"), ("", "left"), ("target", "left"), ("", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # the literal is widened
    table.add_column("how")
    for one in figures:
        verdict = one.verdict()
        table.add_row(
            one.name,
            _number(one.value),
            one.unit,
            one.target.words() if one.target else "",
            Text(verdict, style={"met": "green", "missed": "bold red"}.get(verdict, "")),
            Text(one.note, style="dim"),
        )
    console.print(table)
    for fact in facts:
        console.print(fact, style="dim")


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 or value == 0 else f"{value:.1e}"
