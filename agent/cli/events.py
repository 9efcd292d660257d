"""`transcriptd events`: what happens, as it happens."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from agent.cli.config import environment
from agent.core.sessions.events import SCHEMA, EventKind
from agent.errors import NotRunning
from agent.system.control_socket import ControlClient
from agent.system.paths import Paths, default_paths

RETRY_S = 1.0
"""Between two looks whether a daemon that went away is back."""

_REFRESH = EventKind.REFRESH.value


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Stay, and show what happens as it happens.")
@click.option("--after", "after_seq", type=click.IntRange(0), metavar="SEQ", help="Only what has a larger number.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def events(follow: bool, after_seq: int | None, as_json: bool) -> None:
    """What happened lately: sessions that start, arrive and end, and how the agent stands with its servers.

    The running agent keeps the last 5,000 happenings. Exit status 3 when none runs.
    """
    paths = default_paths(environment())
    show = _show_json if as_json else _show
    try:
        if follow:
            for one in follow_events(paths, after_seq, wait=time.sleep, gone=_say_gone):
                show(one)
        else:
            for one in list_events(paths, after_seq):
                show(one)
    except BrokenPipeError:
        # Whoever read the output has enough. Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return


def list_events(paths: Paths, after_seq: int | None) -> list[Mapping[str, Any]]:
    """Those that the ring still has; a refresh first when some are missing."""
    with ControlClient(paths.socket) as client:
        client.hello()
        answer = client.call("events.list", after_seq=after_seq or 0)
        if not answer["refresh"]:
            return list(answer["events"])
        missed = {"seq": answer["seq"], "at_s": time.time(), "kind": _REFRESH, "epoch": answer["epoch"]}
        return [missed, *client.call("events.list", after_seq=0)["events"]]


def follow_events(
    paths: Paths, after_seq: int | None, *, wait: Callable[[float], None], gone: Callable[[str], None]
) -> Iterator[Mapping[str, Any]]:
    """Without end, over restarts of the daemon. Raises NotRunning when there is none to begin with."""
    epoch = ""
    place = 0 if after_seq is None else after_seq
    is_lost = False
    while True:
        try:
            with ControlClient(paths.socket) as client:
                newest = client.hello()
                found = client.subscribe(after_seq=place, epoch=epoch)
                epoch, is_lost = str(newest["epoch"]), False
                for one in found:
                    place = one["seq"]
                    yield one
        except NotRunning as exc:
            if not epoch:
                raise
            if not is_lost:
                gone(exc.message)
            is_lost = True
        wait(RETRY_S)


def _say_gone(why: str) -> None:
    click.echo(f"transcriptd: {why}; waiting for it", err=True)


def _show_json(one: Mapping[str, Any]) -> None:
    click.echo(json.dumps({"schema": SCHEMA, **one}))


def _show(one: Mapping[str, Any]) -> None:
    click.echo(render_event(one))


def render_event(one: Mapping[str, Any]) -> str:
    """One line for people: number, time, what, and of which session or server."""
    from agent.cli.output import clean, size_words

    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["at_s"]))
    if one["kind"] == _REFRESH:
        words = "what came before is no longer known; ask again: transcriptd status"
    elif one["kind"] == EventKind.AGENT_CONDITION:
        words = " ".join(filter(None, (one.get("destination", ""), one.get("condition", "").replace("_", " "))))
        words += f": {one['why']}" if one.get("why") else ""
    else:
        project = os.path.basename(one.get("project", "").rstrip("/\\"))
        words = "/".join(filter(None, (project, one.get("session_id", "")[:8])))
        words += f"  {size_words(one['bytes'])}" if one.get("bytes") else ""
        words += "  (from before)" if one.get("history") else ""
    return f"{one['seq']:>8}  {at}  {one['kind']:<16} {clean(words)}"
