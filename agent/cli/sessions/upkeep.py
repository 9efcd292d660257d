"""`transcriptd sessions cleanup` and `backfill`: what the index forgets, and what it reads anew."""

import time
from typing import TYPE_CHECKING

import click

from agent.cli.config import environment, load_settings
from agent.cli.sessions.known import find_synced
from agent.errors import DiskError, NotRunning, UsageError
from agent.system.paths import Paths, default_paths

if TYPE_CHECKING:
    from agent.core.settings import Settings

_LOOK_S = 0.2


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say which.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def cleanup(dry_run: bool, as_json: bool) -> None:
    """Forget sessions whose files are gone and that a server has as a whole.

    Only what is noted of them here is forgotten, not what servers have. Sessions of which something was never sent
    stay known.
    """
    from functools import partial

    from agent.cli.output import clean, plural, print_json, size_words
    from agent.cli.sessions.shelf import open_shelf
    from agent.sessions.index.session_cleanup import clean_up

    paths = default_paths(environment())
    settings = load_settings(paths)
    index = open_shelf(settings, paths, environment())
    if index is None:
        raise UsageError("there is no index of sessions", hint="transcriptd sessions backfill")
    with index:
        found = clean_up(paths, index, partial(find_synced, paths), dry_run=dry_run)
    if as_json:
        print_json(found)
        return
    for one in found["forgotten"]:
        click.echo(f"{clean(one['session'])}  {size_words(one['bytes'])}  {clean(one['title'], 60)}")
    words = "would be forgotten" if dry_run else "forgotten"
    click.echo(f"{plural(len(found['forgotten']), 'session')} {words}")
    if found["unsent"]:
        click.echo(f"{plural(len(found['unsent']), 'session')} kept: no server is known to have all of them")


@click.command()
@click.argument("provider", nargs=-1)
@click.option("--force", is_flag=True, help="Read anew what was read before, too.")
@click.option("--clear", is_flag=True, help="Remove the index, with all that it says of sessions.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def backfill(provider: tuple[str, ...], force: bool, clear: bool, as_json: bool) -> None:
    """Read all transcripts into the index of sessions; what was read before is left out.

    A running agent does so by itself. What is interrupted goes on where it stopped.
    """
    from agent.cli.output import print_json
    from agent.cli.sessions.shelf import is_running
    from agent.providers import PROVIDERS

    paths = default_paths(environment())
    settings = load_settings(paths)
    unknown = [one for one in provider if one not in PROVIDERS]
    if unknown:
        raise UsageError(f"{unknown[0][:32]!r} is no provider", hint=f"known are {', '.join(PROVIDERS)}")
    if clear:
        _clear(paths)
        return
    if not settings.index.enabled:
        raise UsageError("the settings switch the index off", hint="enabled = true below [index]")
    forced = (provider or tuple(PROVIDERS)) if force else ()
    began_s = time.monotonic()
    unread = _by_agent(paths, forced) if is_running(paths) else _by_ourselves(settings, paths, forced)
    from agent.system.state.index_db import open_index_readonly

    index = open_index_readonly(paths.index)
    if index is None:
        raise DiskError(f"the index {paths.index} can't be made", hint="transcriptd doctor")
    with index:
        row = index.ask("select count(*) as sessions, sum(lines) as lines, sum(bytes) as bytes from sessions")[0]
    done = {"sessions": row["sessions"], "lines": row["lines"] or 0, "bytes": row["bytes"] or 0}
    if as_json:
        print_json({"schema": 1, **done, "unread": unread})
        return
    from agent.cli.output import plural, size_words

    size = size_words(done["bytes"])
    took = f"{time.monotonic() - began_s:.1f} s"
    click.echo(f"{plural(done['sessions'], 'session')}, {plural(done['lines'], 'line')}, {size} in the index ({took})")
    if unread:
        click.echo(f"! {plural(unread, 'transcript')} could not be read", err=True)


def _clear(paths: Paths) -> None:
    from agent.cli.sessions.shelf import is_running
    from agent.sessions.index.index_upkeep import clear_index

    if not clear_index(paths):
        hint = "transcriptd service stop" if is_running(paths) else ""
        raise UsageError("another process is at the index", hint=hint)
    click.echo(f"{paths.index} is removed")
    if is_running(paths):
        click.echo("the running agent makes it again; to switch it off: enabled = false below [index]")


def _by_ourselves(settings: "Settings", paths: Paths, force: tuple[str, ...]) -> int:
    from agent.cli.sessions.shelf import Telling
    from agent.delivery.discovery.roots import find_roots
    from agent.sessions.index.index_upkeep import bring_up_to_date

    done = bring_up_to_date(paths, find_roots(settings, environment()), force=force, progress=Telling("indexing"))
    if done is None:
        raise UsageError("another process is at the index", hint="transcriptd sessions list")
    return len(done.failed)


def _by_agent(paths: Paths, force: tuple[str, ...]) -> int:
    """Asks the running agent, and waits for it."""
    from agent.cli.sessions.shelf import Telling
    from agent.system.control_socket import ControlClient

    telling = Telling("indexing")
    with ControlClient(paths.socket) as client:
        answer = client.call("sessions.backfill", force=list(force))
        while answer["busy"]:
            if answer["failed"]:
                raise NotRunning("the agent can't keep the index", hint="transcriptd logs")
            time.sleep(_LOOK_S)
            answer = client.call("sessions.backfill", start=False)
            telling(answer["done"], answer["total"])
    return int(answer["unread"])
