"""`transcriptd sessions delete`, `compaction`, `compact` and `reset`: what changes a transcript. The old
one is kept."""

import sys
from typing import TYPE_CHECKING

import click

from agent.cli.completing import complete_session
from agent.cli.config import environment, load_settings
from agent.errors import NotRunning, UsageError
from agent.system.control_socket import ControlClient
from agent.system.paths import Paths, default_paths

if TYPE_CHECKING:
    from agent.core.settings import Settings
    from agent.sessions.transfer.changing import Changed, Subject
    from agent.sessions.transfer.deleting import Told

_SESSION = click.argument("session", shell_complete=complete_session)
_YES = click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")


def _choose(session: str) -> "tuple[Subject, Settings, Paths]":
    from agent.cli.sessions.choosing import choose_session
    from agent.cli.sessions.known import read_sessions
    from agent.core.delivery.lifecycle import UNSENT
    from agent.sessions.transfer.changing import Subject

    paths = default_paths(environment())
    settings = load_settings(paths)
    chosen = choose_session(session, settings, paths, environment())
    lines = [line for line in read_sessions(paths)[0] if line.session_id == chosen.session_id]
    unsent = any(line.state in UNSENT for line in lines)
    return Subject(chosen.session_id, chosen.provider, chosen.files, unsent), settings, paths


def _ask(what: str, *, yes: bool) -> None:
    """Raises UsageError where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what}: nobody is here to be asked", hint="--yes")
    click.confirm(f"{what}?", abort=True, err=True)


def _tell_change(changed: "Changed", words: str, *, as_json: bool, paths: Paths) -> None:
    from agent.cli.output import clean, print_json

    _poke(paths)
    if as_json:
        print_json({"schema": 1, **changed._asdict()})
        return
    click.echo(words)
    if changed.path:
        click.echo(f"  transcript: {clean(changed.path)}")
    if changed.archive:
        click.echo(f"  the old one: {clean(changed.archive)}")


def _poke(paths: Paths) -> None:
    """A running agent looks at once; another one finds it when it begins."""
    try:
        with ControlClient(paths.socket) as client:
            client.call("agent.push")
    except NotRunning:
        return


@click.command()
@_SESSION
@click.option("--keep", required=True, type=click.IntRange(1), help="How many of its last lines stay, at least.")
@_YES
@_JSON
def compact(session: str, keep: int, *, yes: bool, as_json: bool) -> None:
    """Keep the last lines of a session, from the last place on where a conversation may begin. The old transcript is
    kept beside it, and stays readable on the server."""
    from agent.sessions.transfer import changing

    subject, _, paths = _choose(session)
    _ask(f"cut off what is in front of the last {keep:,} lines of {subject.session_id}", yes=yes)
    done = changing.compact(subject, keep)
    words = f"{done.session_id} keeps {done.kept:,} of {done.total:,} lines"
    _tell_change(done, words, as_json=as_json, paths=paths)


@click.command()
@_SESSION
@_YES
@_JSON
def reset(session: str, *, yes: bool, as_json: bool) -> None:
    """Empty the conversation of a session; only its name stays. The old transcript is kept beside it."""
    from agent.sessions.transfer import changing

    subject, _, paths = _choose(session)
    _ask(f"empty the conversation of {subject.session_id}", yes=yes)
    done = changing.reset(subject)
    _tell_change(done, f"{done.session_id} begins anew", as_json=as_json, paths=paths)


@click.command()
@_SESSION
@click.option("--transcript", is_flag=True, help="Also the files of its coding agent, of which copies are kept.")
@_YES
@_JSON
def delete(session: str, *, transcript: bool, yes: bool, as_json: bool) -> None:
    """Delete a session on every server that offers it; it is not sent again until `transcriptd restore`.

    The transcript itself stays, unless --transcript takes it out of its coding agent's sight, too. Exit status 69 when
    a server could not be reached: the files are then as they were.
    """
    from agent.cli.output import clean, print_json
    from agent.sessions.transfer.changing import refuse_live, take_away
    from agent.sessions.transfer.deleting import DELETED, NOT_OFFERED

    subject, settings, paths = _choose(session)
    if transcript:
        refuse_live(subject, None, unsent_too=False)
    _ask(f"delete {subject.session_id} on {_names(settings)}" + (" and here" if transcript else ""), yes=yes)
    told = _delete_there(subject, settings, paths)
    failed = [one for one in told if one.outcome not in (DELETED, NOT_OFFERED)]
    archives = [one.archive for one in take_away(subject)] if transcript and not failed else []
    _poke(paths)
    if as_json:
        servers = [one._asdict() for one in told]
        print_json({"schema": 1, "session": subject.session_id, "servers": servers, "archives": archives})
    else:
        for one in told:
            click.echo(f"{clean(one.destination)}: {clean(one.outcome)}")
        for archive in archives:
            click.echo(f"  kept: {clean(archive)}")
    if failed:
        sys.exit(69)


def _names(settings: "Settings") -> str:
    from agent.cli.output import clean

    return ", ".join(clean(one.name) for one in settings.destinations) or "no server"


def _delete_there(subject: "Subject", settings: "Settings", paths: Paths) -> "list[Told]":
    from agent.sessions.transfer.deleting import Told

    try:
        with ControlClient(paths.socket) as client:
            answer = client.call("sessions.delete", session=subject.session_id)
            return [Told(one["destination"], one["outcome"]) for one in answer["servers"]]
    except NotRunning:
        return _delete_from_here(subject.session_id, settings, paths)


def _delete_from_here(session_id: str, settings: "Settings", paths: Paths) -> "list[Told]":
    from agent.sessions.transfer.deleting import DELETED, delete_there, note_deleted
    from agent.system.machine.lock import DaemonLock
    from agent.system.paths import make_private_folder
    from agent.system.remote import Remote
    from agent.system.state.state_db import open_state
    from agent.system.tokens.sources import open_tokens

    tokens = open_tokens(settings.destinations, paths.instance, environment())
    remotes = {
        one.name: Remote(one.url, lambda name=one.name: tokens.token(name))  # type: ignore[misc]
        for one in settings.destinations
        if one.protocol != "upload"
    }
    make_private_folder(paths.state)
    lock = DaemonLock(paths.lock)
    lock.acquire()
    try:
        told = delete_there(remotes, session_id)
        store = open_state(paths.database, "state.damaged-by-delete.db")
        try:
            note_deleted(store, session_id, frozenset(one.destination for one in told if one.outcome == DELETED))
        finally:
            store.close()
        return told
    finally:
        lock.release()
        for remote in remotes.values():
            remote.close()


# ---- compaction ----


@click.group()
def compaction() -> None:
    """Checkpoints: where a coding agent compacted what was said. CHECKPOINT is a number, `latest` or a uuid."""


@compaction.command("list")
@_SESSION
@_JSON
def list_(session: str, *, as_json: bool) -> None:
    """The checkpoints of a session."""
    from agent.cli.output import clean, console, make_table, print_json
    from agent.sessions.transfer.changing import list_checkpoints

    subject, _, _ = _choose(session)
    found = list_checkpoints(subject)
    if as_json:
        print_json({"schema": 1, "session": subject.session_id, "checkpoints": [one._asdict() for one in found]})
        return
    if not found:
        click.echo("this session was never compacted")
        return
    columns = [
        ("", "right"),
        ("uuid", "left"),
        ("when", "left"),
        ("by", "left"),
        ("lines", "right"),
        ("tokens", "right"),
    ]
    table = [
        (
            f"{one.number}",
            clean(one.uuid, 8),
            clean(one.at, 24),
            clean(one.trigger, 12),
            f"{one.line - 1:,}",
            "" if one.tokens is None else f"{one.tokens:,}",
        )
        for one in found
    ]
    console().print(make_table(columns, table))


@compaction.command()
@_SESSION
@click.argument("checkpoint")
@_JSON
def get(session: str, checkpoint: str, *, as_json: bool) -> None:
    """One checkpoint, and the summary that was made of all before it."""
    from agent.cli.output import clean, print_json
    from agent.sessions.transfer.changing import get_checkpoint

    subject, _, _ = _choose(session)
    found, summary = get_checkpoint(subject, checkpoint)
    if as_json:
        print_json({"schema": 1, "session": subject.session_id, **found._asdict(), "summary": summary})
        return
    click.echo(
        f"checkpoint {found.number}: {found.line - 1:,} lines before it, {clean(found.at)} {clean(found.trigger)}"
    )
    for line in summary.splitlines():
        click.echo(clean(line))


@compaction.command()
@_SESSION
@click.argument("checkpoint")
@_JSON
def branch(session: str, checkpoint: str, *, as_json: bool) -> None:
    """A new session that begins with what was said up to the checkpoint. The old one is not touched."""
    from agent.sessions.transfer import changing

    subject, _, paths = _choose(session)
    done = changing.branch(subject, checkpoint)
    _tell_change(done, f"{done.session_id} is a branch of {done.kept:,} lines", as_json=as_json, paths=paths)


@compaction.command()
@_SESSION
@click.argument("checkpoint")
@_YES
@_JSON
def restore(session: str, checkpoint: str, *, yes: bool, as_json: bool) -> None:
    """Go back to what the session was before a compaction. The old transcript is kept beside it."""
    from agent.sessions.transfer import changing

    subject, _, paths = _choose(session)
    _ask(f"take {subject.session_id} back to checkpoint {checkpoint}", yes=yes)
    done = changing.restore(subject, checkpoint)
    _tell_change(done, f"{done.session_id} is back at {done.kept:,} lines", as_json=as_json, paths=paths)
