"""Text in a given width: labelled rows and remarks, broken between words and never inside one.

Pure, and without a library for terminals: `status` has a quarter of a second for everything. What is shown may come
from a transcript's folder or a server; whoever makes rows of it cleans it first (`output.clean`).
"""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """`style`: words of `STYLES`; empty for plain text."""

    text: str
    style: str = ""


class Row(NamedTuple):
    """`label`: stands before the text, in a column of all labels; None for text that takes the whole line. `hint`: the
    next command, of which no word is ever cut: somebody wants to copy it. `style`: of the label."""

    label: str | None
    spans: tuple[Span, ...]
    hint: str = ""
    style: str = "dim"


Line = list[Span]

STYLES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "magenta": "35",
    "cyan": "36",
}
GLUE = "\u00a0"
"""A blank at which no line is broken; it is shown as any other."""

_NARROW = 60
"""Below it labels stand above what is too long to stand beside them, so that addresses and paths have room."""

_GAP = 2
_INDENT = 2
_ARROW = "→ "


def lay_out(rows: Sequence[Row], width: int) -> list[Line]:
    """`width` in cells; 0 for no limit."""
    column = max((cells(row.label) for row in rows if row.label is not None), default=0) + _GAP
    lines: list[Line] = []
    for row in rows:
        if row.label is None:
            lines += _remark(row, width)
        elif width and width < _NARROW and column + sum(cells(span.text) for span in row.spans) > width:
            lines.append([Span(row.label, row.style)])
            lines += _indented(wrap(row.spans, width - _INDENT), _INDENT)
            lines += _hint(row, width)
        else:
            first, *more = wrap(row.spans, width - column if width else 0)
            lines.append([Span(row.label.ljust(column), row.style), *first])
            lines += [*_indented(more, column), *_hint(row, width)]
    return lines


def _hint(row: Row, width: int) -> list[Line]:
    if not row.hint:
        return []
    first, *more = wrap((Span(row.hint, "dim"),), width - _INDENT - len(_ARROW) if width else 0, whole=True)
    return [[Span(" " * _INDENT), Span(_ARROW, "dim"), *first], *_indented(more, _INDENT + len(_ARROW))]


def _remark(row: Row, width: int) -> list[Line]:
    first, *more = wrap(row.spans, width - _INDENT if width else 0)
    lines = [first, *_indented(more, _INDENT)]
    short = [Span(_ARROW + row.hint, "dim")]
    if row.hint and len(lines) == 1 and (not width or _length(first) + _GAP + _length(short) <= width):
        return [[*first, Span(" " * _GAP), *short]]
    return [*lines, *_hint(row, width)]


def _indented(lines: list[Line], by: int) -> list[Line]:
    return [[Span(" " * by), *line] for line in lines]


def wrap(spans: Sequence[Span], width: int, *, whole: bool = False) -> list[Line]:
    """At least one line. A word that is longer than a line is shown with an ellipsis in its middle, unless `whole`."""
    lines: list[Line] = [[]]
    used = 0
    for gap, text, style in _words(spans):
        word = text if whole else _elided(text, width)
        needed = cells(word)
        if width and used and used + gap + needed > width:
            lines.append([])
            used = 0
        if used:
            lines[-1].append(Span(" " * gap, style if gap else ""))
            used += gap
        lines[-1].append(Span(word, style))
        used += needed
    return [_joined(line) for line in lines]


def _words(spans: Sequence[Span]) -> Iterator[tuple[int, str, str]]:
    """Blanks before it, word, style. Spans that touch without a blank are words that touch."""
    gap = 0
    for text, style in spans:
        for number, word in enumerate(text.split(" ")):
            gap += number > 0
            if word:
                yield gap, word, style
                gap = 0


def _joined(line: Line) -> Line:
    joined: Line = []
    for span in line:
        if joined and joined[-1].style == span.style:
            joined[-1] = Span(joined[-1].text + span.text, span.style)
        elif span.text:
            joined.append(span)
    return [Span(text.replace(GLUE, " "), style) for text, style in joined]


def _elided(word: str, width: int) -> str:
    if not width or cells(word) <= width:
        return word
    head, tail = max(1, width // 2), max(0, width - width // 2 - 1)
    return f"{_cut(word, head)}…{_cut(word[::-1], tail)[::-1]}"


def _cut(text: str, width: int) -> str:
    end, used = 0, 0
    while end < len(text) and used + cells(text[end]) <= width:
        used += cells(text[end])
        end += 1
    return text[:end]


def cells(text: str) -> int:
    """How wide a terminal shows it."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(ch) else 2 if unicodedata.east_asian_width(ch) in "WF" else 1 for ch in text)


def _length(line: Line) -> int:
    return sum(cells(span.text) for span in line)


def crop(line: Line, width: int) -> Line:
    """What of a line stands on one line of a terminal."""
    cropped: Line = []
    for span in line:
        text = _cut(span.text, width)
        cropped.append(Span(text, span.style))
        width -= cells(text)
        if text != span.text:
            break
    return cropped


def paint(line: Line, *, colour: bool) -> str:
    """Text, with the sequences that terminals obey where `colour`."""
    if not colour:
        return "".join(span.text for span in line).rstrip()
    return "".join(_painted(span) for span in line)


def _painted(span: Span) -> str:
    codes = ";".join(STYLES[word] for word in span.style.split())
    return f"\x1b[{codes}m{span.text}\x1b[0m" if codes else span.text
