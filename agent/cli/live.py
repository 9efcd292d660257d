"""The live view of `try`: which sessions are growing, and that the server follows."""

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from agent.cli.output import age_words, clean, console, make_table, plural, size_words, state_text
from agent.core.status import StreamLine
from agent.core.transcripts.session import Facts
from agent.daemon.status.report import list_streams

if TYPE_CHECKING:
    from agent.daemon.process.supervisor import Daemon

_REFRESH_S = 0.25
_ROWS = 12


class _Seen(NamedTuple):
    lines: list[StreamLine]
    facts: Mapping[str, Facts]


def show_live(daemon: "Daemon", stop: threading.Event) -> None:
    """Until `stop` is set. Without a terminal: a line for each session whenever it has grown."""
    out = console()
    if not out.is_terminal:
        _tell_changes(daemon, stop)
        return
    with Live(_render(_look(daemon)), console=out, auto_refresh=False) as live:
        while not stop.wait(_REFRESH_S):
            live.update(_render(_look(daemon)), refresh=True)


def _look(daemon: "Daemon") -> _Seen:
    return daemon.ask(lambda engine: _Seen(list_streams(engine), dict(engine.facts.known)))


def _render(seen: _Seen) -> Group:
    synced = sum(line.state == "synced" for line in seen.lines)
    entries = sum(line.entries for line in seen.lines)
    size = sum(max(line.size, 0) for line in seen.lines)
    head = Text.assemble(
        (f"{synced:,} of {plural(len(seen.lines), 'transcript')} synced", "bold green" if seen.lines else "bold"),
        f"  {entries:,} entries, {size_words(size)}",
    )
    latest = sorted(seen.lines, key=lambda line: -line.mtime_s)[:_ROWS]
    rows = [
        (
            clean(_project(seen.facts, line), 24),
            clean(_title(seen.facts, line), 60),
            clean(line.subpath.rpartition("/")[2], 24),
            f"{line.entries:,}",
            size_words(max(line.size, 0)),
            age_words(line.mtime_s),
            state_text(line.state),
        )
        for line in latest
    ]
    columns = [("project", "left"), ("session", "fold"), ("subagent", "left"), ("entries", "right"), ("size", "right")]
    columns += [("changed", "right"), ("", "left")]
    foot = Text("Ctrl-C ends; nothing leaves this machine", style="dim")
    return Group(head, make_table(columns, rows), foot)


def _tell_changes(daemon: "Daemon", stop: threading.Event) -> None:
    known = {(line.session_id, line.subpath): line.entries for line in _look(daemon).lines}
    click.echo(f"{plural(len(known), 'transcript')} on the server; watching for changes")
    while not stop.wait(_REFRESH_S):
        seen = _look(daemon)
        for line in seen.lines:
            key = (line.session_id, line.subpath)
            more = line.entries - known.get(key, 0)
            if more > 0:
                known[key] = line.entries
                name = clean(_project(seen.facts, line) or line.session_id[:8], 24)
                click.echo(f"{time.strftime('%H:%M:%S')}  {name}  +{more} entries, {line.entries:,} on the server")


def _project(facts: Mapping[str, Facts], line: StreamLine) -> str:
    project = facts.get(line.session_id, Facts()).project
    return project.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _title(facts: Mapping[str, Facts], line: StreamLine) -> str:
    about = facts.get(line.session_id, Facts())
    return about.shown_title() or line.session_id
