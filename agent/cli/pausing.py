"""`transcriptd pause` and `resume`: hold everything back for a while, without stopping the agent."""

import time
from typing import Any

import click

from agent.cli.config import environment, remembered
from agent.core.delivery.lifecycle import PauseReason
from agent.core.durations import parse_duration_s
from agent.errors import DiskError, NotRunning
from agent.system.control_socket import ControlClient
from agent.system.paths import Paths, default_paths

_HINTS = {
    PauseReason.BY_YOU: "transcriptd resume",
    PauseReason.METERED: "on_metered = true below [push] in config.toml sends there too",
    PauseReason.LOW_BATTERY: "plug it in, or lower on_battery_below below [push] in config.toml",
}


@click.command()
@click.option("--for", "duration", metavar="TIME", help="How long: 90s, 30min, 1h, 2d. Without it: until `resume`.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def pause(duration: str | None, as_json: bool) -> None:
    """Send nothing for a while. What is under way comes to its end; watching goes on, and nothing gets lost.

    A pause lasts across restarts. What becomes private is deleted on the server meanwhile all the same.
    """
    for_s = None if duration is None else parse_duration_s(duration)
    paths = default_paths(environment())
    found = _ask(paths, "agent.pause", **({} if for_s is None else {"for_s": for_s}))
    if found is None:
        found = _note(paths, for_s, is_paused=True)
    _tell(found, as_json)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def resume(as_json: bool) -> None:
    """End the pause that `transcriptd pause` began."""
    paths = default_paths(environment())
    found = _ask(paths, "agent.resume")
    if found is None:
        found = _note(paths, None, is_paused=False)
    _tell(found, as_json)


def describe_pause(why: str, until_s: float | None) -> str:
    if why != PauseReason.BY_YOU:
        return f"paused: {why}"
    if until_s is None:
        return "paused until you resume it"
    day = "" if until_s - time.time() < 86_400 / 2 else "%Y-%m-%d "
    return f"paused until {time.strftime(f'{day}%H:%M', time.localtime(until_s))}"


def hint_for(why: str) -> str:
    return _HINTS.get(PauseReason(why), "")


def _ask(paths: Paths, method: str, **params: Any) -> dict[str, Any] | None:
    """What the running agent says; None without one."""
    try:
        client = ControlClient(paths.socket)
    except NotRunning:
        return None
    with client:
        answer: dict[str, Any] = client.call(method, **params)
        return {**answer, "running": True}


def _note(paths: Paths, for_s: float | None, *, is_paused: bool) -> dict[str, Any]:
    """Into the state, where the next start finds it. Nobody else may be at work there."""
    from agent.delivery.state.pausing import PAUSED, render_pause
    from agent.system.machine.lock import DaemonLock
    from agent.system.machine.process import kept_private
    from agent.system.paths import make_private_folder
    from agent.system.state.state_db import Changes, open_state

    now_s = time.time()
    text = render_pause(now_s, for_s) if is_paused else ""
    make_private_folder(paths.state)
    lock = DaemonLock(paths.lock)
    lock.acquire()
    try:
        with kept_private():
            state = open_state(paths.database, f"state.damaged-{int(now_s)}.db")
            try:
                state.commit(Changes(settled=[(PAUSED, text)]))
            finally:
                state.close()
        with remembered(paths) as written:
            if written is None or written.settled(PAUSED) != text:
                raise DiskError(f"{paths.database} can't be written, so nothing is remembered")
    finally:
        lock.release()
    until_s = now_s + for_s if is_paused and for_s is not None else None
    return {"paused": PauseReason.BY_YOU.value if is_paused else "", "paused_until_s": until_s, "running": False}


def _tell(found: dict[str, Any], as_json: bool) -> None:
    from agent.cli.output import print_json

    if as_json:
        print_json({"schema": 1, **found})
        return
    why, until_s = found["paused"], found["paused_until_s"]
    hint = hint_for(why) if why else ""
    click.echo(f"transcriptd is {describe_pause(why, until_s)} ({hint})" if hint else "transcriptd is not paused")
    if not found["running"]:
        click.echo("no agent is running; this holds when one starts")
