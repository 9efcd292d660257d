"""`transcriptd sessions`: what there is, and the proof that the server has it."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
import msgspec

from agent.cli.completing import complete_session
from agent.cli.config import environment, load_with_destination, remembered
from agent.core.session import Facts, StreamId
from agent.core.status import StreamLine
from agent.errors import NotRunning, UsageError
from agent.system.control_socket import ControlClient
from agent.system.paths import Paths, default_paths

if TYPE_CHECKING:
    from agent.core.identity import Cursor
    from agent.core.redaction import Redactor
    from agent.core.settings import Destination
    from agent.daemon.verifier import Verdict

_DIFFERS = 1
_NOT_THERE = ("gone", "private")
"""States of what is not here any more, and of what shall not be there."""


@click.group()
def sessions() -> None:
    """List sessions, and prove that the server has them."""


@sessions.command("list")
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


def read_sessions(paths: Paths) -> tuple[list[StreamLine], Mapping[str, Facts]]:
    """From the running daemon, else from the state."""
    try:
        with ControlClient(paths.socket) as client:
            answer = client.call("sessions.list")
        facts = {session: Facts(*fields) for session, fields in answer["facts"].items()}
        return msgspec.convert(answer["streams"], list[StreamLine]), facts
    except NotRunning:
        from agent.daemon.report import list_remembered

        with remembered(paths) as store:
            return (list_remembered(store.tracks()), dict(store.sessions())) if store else ([], {})


@sessions.command()
@click.argument("session", shell_complete=complete_session, nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def verify(session: tuple[str, ...], as_json: bool) -> None:
    """Compare every transcript with the server's copy: counts and chain hashes of both sides.

    SESSION is an id or its beginning; without one all are compared. Exit status 1 when something differs.
    """
    from agent.cli.output import clean, console, make_table, plural, print_json

    paths = default_paths(environment())
    settings = load_with_destination(paths)
    lines, _ = read_sessions(paths)
    chosen = [line for line in lines if not session or any(line.session_id.startswith(one) for one in session)]
    if session and not chosen:
        raise UsageError(f"no session here begins with {session[0]!r}", hint="transcriptd sessions list")
    from agent.daemon.redacting import open_redactor

    redactor = open_redactor(settings.privacy, paths)
    verdicts: list[tuple[str, Verdict]] = []
    unread: list[str] = []
    for destination in settings.destinations:
        if destination.protocol == "upload":
            click.echo(f"! {clean(destination.name)} only takes files; what it holds can't be compared", err=True)
            continue
        mine = [line for line in chosen if line.destination == destination.name and line.state not in _NOT_THERE]
        found, failed = _verify_at(destination, mine, paths, redactor)
        verdicts += [(destination.name, one) for one in found]
        unread += failed
    bad = [(name, one) for name, one in verdicts if one.outcome != "equal"]
    if as_json:
        rows = [{"destination": name, **one.stream._asdict(), **_fields(one)} for name, one in verdicts]
        print_json({"schema": 1, "equal": not bad and not unread, "streams": rows, "unread": unread})
    else:
        for why in unread:
            click.echo(f"! {clean(why)}")
        if bad:
            columns = [("session", "left"), ("transcript", "fold"), ("here", "right"), ("there", "right"), ("", "left")]
            table = [
                (*_names(one.stream), f"{one.entries:,}", f"{one.on_server:,}", str(one.outcome)) for _, one in bad
            ]
            console().print(make_table(columns, table))
        entries = sum(one.entries for _, one in verdicts)
        proof = ", ".join(sorted({one.proof for _, one in verdicts})) or "nothing to compare"
        older = sum(max(0, one.generations - 1) for _, one in verdicts)
        kept = f"; {plural(older, 'older generation')} kept there" if older else ""
        click.echo(
            f"{len(verdicts) - len(bad):,} of {len(verdicts):,} transcripts equal, {entries:,} entries ({proof}){kept}"
        )
    if bad or unread:
        sys.exit(_DIFFERS)


def _names(stream: StreamId) -> tuple[str, str]:
    from agent.cli.output import clean

    return clean(stream.session_id), clean(stream.subpath) or "main"


def _fields(one: "Verdict") -> dict[str, Any]:
    names = ("outcome", "entries", "on_server", "proof", "generations")
    return {name: getattr(one, name) for name in names}


def _verify_at(
    destination: "Destination", lines: list[StreamLine], paths: Paths, redactor: "Redactor"
) -> tuple[list["Verdict"], list[str]]:
    from agent.daemon.verifier import Subject, verify_streams
    from agent.system.remote import Remote
    from agent.system.tokens.sources import open_tokens

    tokens = open_tokens([destination], paths.instance, environment())
    remote = Remote(destination.url, lambda: tokens.token(destination.name))
    stones: dict[StreamId, dict[int, int]] = {}
    known: dict[StreamId, Cursor] = {}
    with remembered(paths) as store:
        for row in store.tracks() if store else ():
            if row.destination == destination.name:
                known[row.stream] = row.cursor
        for name, stream, ordinal, status in store.tombstones() if store else ():
            if name == destination.name and status:
                stones.setdefault(stream, {})[ordinal] = status
    try:
        subjects = [
            Subject(stream, line.path, line.generation, known.get(stream))
            for line in lines
            for stream in [StreamId(line.session_id, line.subpath)]
        ]
        return verify_streams(remote, subjects, stones, redactor)
    finally:
        remote.close()
