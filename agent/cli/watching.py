"""`status --watch`: the same screen, drawn again in its place whenever something may have changed."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from agent.cli.layout import Line, Row, Span, cells, crop, lay_out, paint
from agent.cli.output import has_colour, plural, print_json, print_rows, screen_size
from agent.cli.screens import status_rows
from agent.core.status import SCHEMA, Status
from agent.errors import AgentError
from agent.system.machine.process import setting

WATCH_S = 1.0

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[H", "\x1b[?25h\x1b[?1049l"
"""The terminal's second screen, without a cursor; what stood on the first one is there again afterwards."""
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"
"""Around a picture: terminals that know it show all of it at once. Others see one short write."""
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


def watch_status(read: Callable[[], Status], find_start: Callable[[Status], str], *, as_json: bool) -> None:
    """Until Ctrl-C. `find_start`: what to type so that an agent runs. Without a terminal, or as JSON, one after the
    other."""

    def look() -> list[Row]:
        return _look(read, find_start)

    try:
        if as_json:
            _repeat(lambda: print_json(_read_or_why(read)))
        elif not sys.stdout.isatty():
            _repeat(lambda: _print(look()))
        else:
            _draw(look)
    except KeyboardInterrupt:
        return


def _repeat(show: Callable[[], None]) -> None:
    while True:
        show()
        sys.stdout.flush()
        time.sleep(WATCH_S)


def _print(rows: Sequence[Row]) -> None:
    print_rows(rows)
    click.echo()


def _read_or_why(read: Callable[[], Status]) -> Status | dict[str, object]:
    try:
        return read()
    except AgentError as exc:
        return {"schema": SCHEMA, "error": exc.code, "message": exc.message, "hint": exc.hint}


def _look(read: Callable[[], Status], find_start: Callable[[Status], str]) -> list[Row]:
    """What can't be read now (settings that are being edited, an agent that stops just now) may be readable soon."""
    try:
        found = read()
        return status_rows(found, time.time(), start=find_start(found))
    except AgentError as exc:
        return [Row(None, (Span("! ", "bold yellow"), Span(exc.message)), exc.hint)]


def _draw(look: Callable[[], list[Row]]) -> None:
    _obey_sequences()
    rows: list[Row] = []
    with _second_screen(), _resized() as resized:
        try:
            while True:
                rows = look()
                deadline = time.monotonic() + WATCH_S
                _write(picture(rows, *screen_size(), colour=has_colour()))
                while resized.wait(max(0.0, deadline - time.monotonic())):
                    resized.clear()
                    _write(picture(rows, *screen_size(), colour=has_colour()))
        finally:
            _write(_LEAVE)
            print_rows(rows)


def picture(rows: Sequence[Row], width: int, height: int, *, colour: bool) -> str:
    """What makes a terminal of that size show the rows, over what it shows now: each line is written over the one
    before, and only what is left of that is cleared, so that nothing is ever blank in between."""
    lines = lay_out(rows, width)
    foot: list[Line] = [[Span("Ctrl-C ends", "dim")]]
    room = max(1, height - 1)
    if len(lines) > room:
        lines = lay_out(_warnings_first(rows), width)
        foot = [[Span(f"{plural(len(lines) - room, 'more line')} · Ctrl-C ends", "dim")]]
        lines = lines[:room]
    shown = [_over(crop(line, width), width, colour=colour) for line in [*lines, *foot][:height]]
    return _BEGIN + _HOME + "\r\n".join(shown) + _REST + _END


def _warnings_first(rows: Sequence[Row]) -> list[Row]:
    """For a terminal that has no room for all of them: what it is, what somebody has to do, and the rest."""
    first, *rest = rows or [Row(None, ())]
    return [first, *sorted(rest, key=lambda row: not row.hint)]


def _over(line: Line, width: int, *, colour: bool) -> str:
    """A line over another one. One that fills its width leaves nothing of that, and clearing would take its last cell:
    there the cursor still stands."""
    painted = paint(line, colour=colour)
    return painted if sum(cells(span.text) for span in line) >= width else painted + _REST_OF_LINE


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@contextmanager
def _second_screen() -> Iterator[None]:
    _write(_ENTER)
    before = signal.signal(signal.SIGTERM, _interrupt)  # or the terminal would be left without its cursor
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _resized() -> Iterator[threading.Event]:
    """An event that is set when the terminal has another size; on Windows the next picture notices."""
    event = threading.Event()
    if not hasattr(signal, "SIGWINCH"):
        yield event
        return
    before = signal.signal(signal.SIGWINCH, setting(event))
    try:
        yield event
    finally:
        signal.signal(signal.SIGWINCH, before)


def _obey_sequences() -> None:
    """Makes the console of Windows obey sequences (ENABLE_VIRTUAL_TERMINAL_PROCESSING); others do."""
    if os.name == "nt":
        import ctypes

        kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
        kernel.SetConsoleMode(kernel.GetStdHandle(-11), 7)
