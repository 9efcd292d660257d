"""`transcriptd pull`: a session from a server to this machine, so that its coding agent goes on with it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from agent.cli.completing import complete_destination
from agent.cli.config import environment, load_with_destination, remembered
from agent.errors import NotRunning, UsageError
from agent.system.paths import Paths, default_paths, make_private_folder

if TYPE_CHECKING:
    from agent.core.settings import Destination, Settings
    from agent.core.wire import SessionRow
    from agent.sessions.transfer.fetching import Offer, Source
    from agent.sessions.transfer.pulling import Here, Report, Wish

_SHOWN = 5
_TABLE_ROWS = 50


@click.command()
@click.argument("session", required=False)
@click.option("--project", metavar="DIR", help="Continue it in DIR, where its own folder is not on this machine.")
@click.option(
    "--destination",
    metavar="NAME",
    help="The server, where the settings name several.",
    shell_complete=complete_destination,
)
@click.option("--generation", metavar="UUID", help="An older history of its transcript that the server keeps.")
@click.option("--owner", metavar="NAME", help="Whose session it is, where the token may read those of others.")
@click.option("--list", "listing", is_flag=True, help="Show what the server has and this machine has not.")
@click.option("--dry-run", is_flag=True, help="Say what would be placed where, and fetch nothing of it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def pull(
    *,
    session: str | None,
    project: str | None,
    destination: str | None,
    generation: str | None,
    owner: str | None,
    listing: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring a session from the server to this machine, so that its coding agent can continue it.

    SESSION is an id, the beginning of one, or words of its title. Nothing that is here is written over.
    """
    if listing == (session is not None):
        raise UsageError("name a session, or --list", hint="transcriptd pull --list")
    from agent.sessions.transfer.pulling import Wish

    paths = default_paths(environment())
    settings = load_with_destination(paths)
    one = choose_destination(settings, destination)
    with open_source(paths, one) as source:
        if listing:
            _list(source, settings, owner, as_json)
            return
        offer = _find(source, one, session or "", owner, generation)
        folder = _existing_folder(project) if project else ""
        report = pull_here(source, offer, paths, settings, Wish(one.name, folder, dry_run))
    _show(report, offer, one, dry_run=dry_run, as_json=as_json)


def choose_destination(settings: "Settings", name: str | None) -> "Destination":
    """Raises UsageError when the settings name several and nobody said which."""
    known = {one.name: one for one in settings.destinations}
    if name is None and len(known) > 1:
        names = ", ".join(known)
        raise UsageError(f"the settings name {len(known)} servers: {names}", hint=f"--destination {next(iter(known))}")
    found = known.get(name) if name is not None else next(iter(known.values()))
    if found is None:
        raise UsageError(f"the settings name no server {name!a}", hint="transcriptd config show")
    if found.protocol == "upload":
        raise UsageError(f"{found.name} only takes files and gives none back")
    return found


@contextmanager
def open_source(paths: Paths, one: "Destination") -> "Iterator[Source]":
    from agent.system.remote import Remote
    from agent.system.tokens.sources import open_tokens

    tokens = open_tokens([one], paths.instance, environment())
    remote = Remote(one.url, lambda: tokens.token(one.name))
    try:
        yield remote
    finally:
        remote.close()


def _existing_folder(project: str) -> str:
    folder = os.path.realpath(os.path.expanduser(project))
    if not os.path.isdir(folder):
        raise UsageError(f"{project} is no folder", hint="--project DIR, which has to be there")
    return folder


# ---- which one ----


def _find(source: "Source", one: "Destination", word: str, owner: str | None, generation: str | None) -> "Offer":
    from agent.core.wire import capabilities_request, parse_capabilities
    from agent.errors import RemoteProtocolError
    from agent.sessions.transfer.fetching import Offer, find_offer, raise_for

    raw = source.send(capabilities_request())
    offered = parse_capabilities(raw)
    if offered is None:
        raise_for(raw)
        raise RemoteProtocolError("something answers at this address, but not a transcript server")
    if offered.bulk is None or one.protocol == "ingress":
        if generation or owner:
            raise UsageError("this server knows no generations and no owners")
        return Offer(word, None, bulk=False)
    session_id, owner = _resolve(source, word, owner) if offered.sessions else (word, owner)
    return find_offer(source, session_id, owner, generation)


def _resolve(source: "Source", word: str, owner: str | None) -> tuple[str, str | None]:
    """A session of the server by what somebody calls it. One's own goes before that of others."""
    from agent.sessions.transfer.fetching import list_sessions

    rows = list(list_sessions(source, owner or "*"))
    wanted = word.casefold()
    ways = (
        [row for row in rows if row.session_id == word],
        [row for row in rows if word and row.session_id.startswith(word)],
        [row for row in rows if wanted and wanted in row.meta.title.casefold()],
    )
    found = next((way for way in ways if way), [])
    mine = [row for row in found if row.owner == ""] or found
    if len(mine) == 1:
        return mine[0].session_id, mine[0].owner or None
    if len(mine) > 1:
        same = {row.session_id for row in mine}
        names = sorted({row.owner for row in mine} if len(same) == 1 else same)[:_SHOWN]
        what = "owners" if len(same) == 1 else "sessions"
        hint = "say whose: --owner " if len(same) == 1 else "say more of its id: "
        raise UsageError(f"{len(mine)} {what} have {word[:80]!a} there", hint=hint + ", ".join(map(ascii, names)))
    return word, owner  # the server says what became of it: unknown, or deleted


# ---- this machine ----


def pull_here(source: "Source", offer: "Offer", paths: Paths, settings: "Settings", wish: "Wish") -> "Report":
    from agent.sessions.transfer.pulling import pull

    here = _look_around(paths, settings, wish.destination, offer.session_id)
    if wish.dry_run:
        return pull(source, offer, here, wish)
    with _telling(paths) as (tell, untell):
        return pull(source, offer, here._replace(tell=tell, untell=untell), wish)


def _look_around(paths: Paths, settings: "Settings", destination: str, session_id: str) -> "Here":
    from agent.cli.rehearsing import read_remembered, read_rules
    from agent.core.transcripts.session import StreamId
    from agent.delivery.discovery.roots import find_roots
    from agent.delivery.inventory.survey import find_streams, followed_files, transcripts_of
    from agent.delivery.privacy.permits import Guard
    from agent.delivery.privacy.redacting import open_redactor
    from agent.delivery.privacy.rulebook import FixedRules
    from agent.sessions.transfer.pulling import Here
    from agent.system.files import reading as files
    from agent.system.git import GitRemotes

    roots = find_roots(settings, environment())
    known, had_list = read_remembered(paths)
    found = find_streams(roots, lambda: followed_files(known.tracks.values())).files
    rules = read_rules(paths, settings, had_list=had_list)
    guard = Guard(FixedRules(rules, GitRemotes(environment(), os.path.expanduser("~"))), files)
    guard.take_in(guard.rules(), transcripts_of(found))
    stones: dict[StreamId, dict[int, int]] = {}
    with remembered(paths) as store:
        for name, stream, ordinal, entry in store.tombstones() if store else ():
            if name == destination and entry.status and stream.session_id == session_id:
                stones.setdefault(stream, {})[ordinal] = entry.status
    cursors = {
        key.stream: row.cursor
        for key, row in known.tracks.items()
        if key.destination == destination and key.session_id == session_id
    }
    redactor = open_redactor(settings.privacy, paths)
    return Here(roots, found.get(session_id, []), guard, redactor, lambda *_: None, lambda *_: None, cursors, stones)


@contextmanager
def _telling(paths: Paths) -> "Iterator[tuple[Any, Any]]":
    """Who keeps the agent's state: it itself, or this command under its lock, so that none begins meanwhile."""
    from agent.daemon.control.pulled import Caller, Notebook
    from agent.system.control_socket import ControlClient

    try:
        client = ControlClient(paths.socket)
    except NotRunning:
        from agent.system.machine.lock import DaemonLock
        from agent.system.state.state_db import open_state

        make_private_folder(paths.state)
        lock = DaemonLock(paths.lock)
        lock.acquire()
        try:
            store = open_state(paths.database, "state.damaged-by-pull.db")
            try:
                notebook = Notebook(store)
                yield notebook.tell, notebook.untell
            finally:
                store.close()
        finally:
            lock.release()
        return
    with client:
        caller = Caller(client.call)
        yield caller.tell, caller.untell


# ---- what people see ----


def _show(report: "Report", offer: "Offer", one: "Destination", *, dry_run: bool, as_json: bool) -> None:
    from agent.cli.output import clean, plural, print_json, size_words

    placed = [row for row in report.files if row.outcome != "equal"]
    if as_json:
        rows = [
            {
                "subpath": row.stream.subpath,
                "path": row.path,
                "outcome": row.outcome,
                "entries": row.entries,
                "bytes": row.size,
                "generation": row.generation,
            }
            for row in report.files
        ]
        print_json(
            {
                "schema": 1,
                "session": report.session_id,
                "provider": report.provider,
                "destination": one.name,
                "owner": offer.owner,
                "project": report.project,
                "verified": offer.bulk and not dry_run,
                "dry_run": dry_run,
                "files": rows,
                "notes": list(report.notes),
            }
        )
        return
    name = clean(report.session_id)
    if not placed:
        click.echo(f"{name} is here already: {plural(len(report.files), 'file')}, equal to what {one.name} has")
    elif dry_run:
        click.echo(f"{name} would be placed here, from {one.name}:")
    else:
        entries, size = sum(row.entries for row in placed), sum(row.size for row in placed)
        proof = "proven by chain hash" if offer.bulk else "not proven"
        what = f"{plural(len(placed), 'file')}, {entries:,} entries, {size_words(size)}"
        click.echo(f"{name} is here, from {one.name}: {what}, {proof}")
    for row in placed[:_TABLE_ROWS]:
        click.echo(f"  {clean(row.path)}")
    if len(placed) > _TABLE_ROWS:
        click.echo(f"  and {len(placed) - _TABLE_ROWS:,} more")
    for note in report.notes:
        click.echo(f"! {clean(note)}")
    if placed and not dry_run and (command := _continue_command(report)):
        click.echo(f"to continue it: {command}")


_COMMANDS = {
    "claude": "claude --resume {0}",
    "codex": "codex resume {0}",
    "gemini": "gemini --resume {0}",
    "copilot": "copilot --resume {0}",
}
"""Coding agent → what continues a session."""


def _continue_command(report: "Report") -> str:
    import shlex

    command = _COMMANDS.get(report.provider, "").format(shlex.quote(report.session_id))
    return f"cd {shlex.quote(report.project)} && {command}" if command and report.project else command


def _list(source: "Source", settings: "Settings", owner: str | None, as_json: bool) -> None:
    from agent.cli.output import age_words, clean, console, make_table, plural, print_json
    from agent.delivery.discovery.roots import find_roots
    from agent.delivery.inventory.survey import find_sessions
    from agent.sessions.transfer.fetching import list_sessions

    here = set(find_sessions(find_roots(settings, environment())))
    rows = [row for row in list_sessions(source, owner or "*") if row.session_id not in here]
    if as_json:
        print_json({"schema": 1, "sessions": [_fields(row) for row in rows], "here": len(here)})
        return
    if not rows:
        click.echo("this machine has all that the server has")
        return
    columns = [("session", "left"), ("title", "fold"), ("project", "left"), ("host", "left"), ("entries", "right")]
    columns += [("changed", "right")]
    others = any(row.owner for row in rows)
    columns += [("owner", "left")] if others else []
    table = [
        (
            clean(row.session_id, 36),
            clean(row.meta.title, 60),
            clean(row.meta.project.replace("\\", "/").rstrip("/").rpartition("/")[2], 24),
            clean(row.meta.host, 20),
            f"{row.entries:,}",
            age_words(row.changed_at_s),
            *([clean(row.owner, 20)] if others else []),
        )
        for row in rows[:_TABLE_ROWS]
    ]
    console().print(make_table(columns, table))
    if len(rows) > _TABLE_ROWS:
        click.echo(f"{plural(len(rows) - _TABLE_ROWS, 'more session')}: --json has all")


def _fields(row: "SessionRow") -> dict[str, Any]:
    return {
        "session": row.session_id,
        "title": row.meta.title,
        "provider": row.meta.provider,
        "project": row.meta.project,
        "host": row.meta.host,
        "owner": row.owner,
        "entries": row.entries,
        "bytes": row.size_bytes,
        "streams": row.streams,
        "changed_at_s": row.changed_at_s,
    }
