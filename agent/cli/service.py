"""`transcriptd service`: started with the session and kept running, by what the system has for that."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from agent import __version__
from agent.cli.config import environment, load_settings
from agent.errors import AgentError, AlreadyRunning, NotRunning, ServiceRefused, SettingsError, UsageError
from agent.services import ServiceManager, ServiceSpec, ServiceState, World, make_spec, make_world, open_manager
from agent.services.spec import NAME, check_program
from agent.services.state import FOREIGN
from agent.system.paths import Paths, default_paths

_NOT_RUNNING = NotRunning.exit_status

_PLATFORMS: Mapping[str, str] = {"linux": "linux", "macos": "darwin", "windows": "win32", "winsw": "win32"}

_name = click.option("--name", default=NAME, show_default=True, help="Of the service, for a second one beside it.")
_program = click.option("--program", metavar="FILE", help="Start this program; else the transcriptd that is found.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")


@click.group()
def service() -> None:
    """Have the agent started with your session, and kept running.

    A user unit of systemd, a launch agent of macOS, or a task of Windows: always yours alone, never the machine's.
    """


@service.command()
@_name
@_program
@_json
def install(name: str, program: str | None, as_json: bool) -> None:
    """Install and start it, or bring it up to date.

    As often as you like: without anything to do it does nothing, and after an upgrade of transcriptd it starts the new
    version. The command, CLAUDE_CONFIG_DIR and its likes, and proxies are noted as they are now.
    """
    paths, world, manager = _open(name)
    _refuse_root(world)
    _check_settings(paths)
    spec, warnings = _make_spec(paths, name, program)
    if program:
        _check_named(program)
    else:
        check_program(spec.command, environment())
    before = manager.state(spec)
    running = _hello(paths)
    if running is not None and not before.active:
        process = f" (process {running['pid']})" if running.get("pid") else ""
        raise AlreadyRunning(f"an agent{process} is at work, and not as a service", hint="end it, then run this again")
    _check_home(before, name)
    outdated = running is not None and running.get("version") != __version__
    done = manager.install(spec, outdated=outdated)
    after = manager.state(spec)
    notes = [(words, "") for words in warnings] + _notes_on_tokens(paths) + manager.notes()
    if as_json:
        said = [{"words": words, "hint": hint} for words, hint in notes]
        _print({**_fields(after, name), "changed": bool(done), "done": done, "notes": said})
        return
    for line in done or [f"{after.file}: unchanged"]:
        click.echo(line)
    _show(after, brief=True)
    for words, hint in notes:
        click.echo(f"! {words}" + (f": {hint}" if hint else ""), err=True)


@service.command()
@_name
@click.option("--purge", is_flag=True, help="Also remove settings, state, logs, and tokens from the keyring.")
@click.option("--yes", is_flag=True, help="With --purge: don't ask.")
@_json
def uninstall(name: str, purge: bool, yes: bool, as_json: bool) -> None:
    """Stop and remove it: all that `install` made. Settings, state and logs stay, unless --purge says otherwise."""
    from agent.cli.purging import plan_purge

    paths, _, manager = _open(name)
    _check_home(manager.state(_make_spec(paths, name, None)[0]), name)
    plan = None
    if purge:
        plan = plan_purge(paths, _settings_or_none(paths))
        if not yes:
            _ask_purge(plan)
    done = manager.uninstall()
    if plan is not None:
        _check_nobody_is_at_work(paths)
        plan = plan_purge(paths, _settings_or_none(paths))  # what ended has tidied up, or left more
        done += _purge(plan, paths)
    if as_json:
        _print({"name": name, "kind": manager.kind, "changed": bool(done), "done": done})
        return
    for line in done or ["it is not installed"]:
        click.echo(line)
    if plan is None:
        click.echo(f"left: settings ({paths.config}), state ({paths.state}), logs ({paths.logs}), tokens")
        click.echo("  transcriptd service uninstall --purge removes them; transcriptd hook uninstall removes hooks")
    else:
        for words in plan.left:
            click.echo(f"left: {words}")


@service.command()
@_name
def start(name: str) -> None:
    """Start it, and wait until it answers."""
    _, world, manager = _open(name)
    _refuse_root(world)
    manager.start()
    click.echo("started")


@service.command()
@_name
def stop(name: str) -> None:
    """Stop it until the next login, or until `start`."""
    _, _, manager = _open(name)
    manager.stop()
    click.echo("stopped")


@service.command()
@_name
def restart(name: str) -> None:
    """Stop it if it runs, and start it."""
    _, world, manager = _open(name)
    _refuse_root(world)
    manager.restart()
    click.echo("restarted")


@service.command()
@_name
@_program
@_json
def status(name: str, program: str | None, as_json: bool) -> None:
    """Is it installed, enabled and running?

    And what does it start? Exit status 3 when it does not run.
    """
    paths, _, manager = _open(name)
    spec, _ = _make_spec(paths, name, program)
    found = manager.state(spec)
    if as_json:
        _print(_fields(found, name))
    else:
        _show(found)
    if not found.active:
        sys.exit(_NOT_RUNNING)


@service.command("print")
@_name
@_program
@click.option("--for", "platform", type=click.Choice([*_PLATFORMS]), help="What another system would get.")
def print_(name: str, program: str | None, platform: str | None) -> None:
    """Print the file, and change nothing."""
    paths, _, manager = _open(name, _PLATFORMS.get(platform or "", sys.platform))
    spec, warnings = _make_spec(paths, name, program)
    if platform == "winsw":
        from agent.services.windows import render_wrapper

        click.echo(render_wrapper(spec), nl=False)
    else:
        click.echo(manager.render(spec), nl=False)
    for words in warnings:
        click.echo(f"! {words}", err=True)


@service.command("run", hidden=True)
@click.option("--set", "variables", multiple=True, metavar="NAME=VALUE")
@click.pass_context
def run_(ctx: click.Context, variables: tuple[str, ...]) -> None:
    """What a task of Windows starts: `transcriptd run` in the environment that `install` captured."""
    from agent.cli.running import run
    from agent.services.spec import CAPTURED

    for one in variables:
        name, _, value = one.partition("=")
        if name not in CAPTURED:
            raise UsageError(f"--set takes {', '.join(CAPTURED)}, not {name}")
        os.environ[name] = value
    ctx.invoke(run)


# --- what stands in the way --------------------------------------------------------------------------------------


def _open(name: str, platform: str = sys.platform) -> tuple[Paths, World, ServiceManager]:
    paths = default_paths(environment())
    world = make_world(environment(), paths)
    return paths, world, open_manager(world, name, platform)


def _make_spec(paths: Paths, name: str, program: str | None) -> tuple[ServiceSpec, list[str]]:
    return make_spec(
        environment(), paths.logs, typed=sys.argv[0], executable=sys.executable, program=program or "", name=name
    )


def _refuse_root(world: World) -> None:
    if world.uid == 0:
        raise ServiceRefused(
            "this is root, and a service belongs to the user whose transcripts are kept",
            hint="run it as that user, without sudo",
        )


def _check_settings(paths: Paths) -> None:
    """A service without a server would end at once, with a status that nobody sees."""
    if not load_settings(paths).destinations:
        raise SettingsError(f"{paths.config} names no server to send to", hint="transcriptd login URL")


def _check_named(program: str) -> None:
    if not (os.path.isfile(program) and os.access(program, os.X_OK)):
        raise UsageError(f"{program} is not there, or can't be run")


def _check_home(found: ServiceState, name: str) -> None:
    """One of another home is not ours to change."""
    if found.installed and found.why.startswith(FOREIGN):
        raise UsageError(
            f"the service {name} is there, and {found.why}",
            hint=f"another one beside it: --name {name}-2; that one: set TRANSCRIPTD_HOME as it was",
        )


def _hello(paths: Paths) -> dict[str, Any] | None:
    """What the running agent says of itself; None when there is none."""
    from agent.system.control_socket import ControlClient

    try:
        with ControlClient(paths.socket) as client:
            found: dict[str, Any] = client.call("agent.hello")
            return found
    except AgentError:
        return None


def _notes_on_tokens(paths: Paths) -> list[tuple[str, str]]:
    from agent.core.settings import TokenIn

    words: Mapping[str, Callable[[str], tuple[str, str]]] = {
        TokenIn.ENVIRONMENT: lambda name: (
            f"the token of {name} is in the environment, and the service does not have it",
            "transcriptd login URL puts it where the service finds it",
        ),
        TokenIn.CREDENTIAL: lambda name: (
            f"the token of {name} is a credential, which a drop-in has to hand over (LoadCredential=)",
            "systemctl --user edit transcriptd",
        ),
    }
    return [words[one.token](one.name) for one in load_settings(paths).destinations if one.token in words]


# --- purge -------------------------------------------------------------------------------------------------------


def _settings_or_none(paths: Paths) -> Any:
    try:
        return load_settings(paths)
    except SettingsError:
        return None


def _ask_purge(plan: Any) -> None:
    from agent.cli import consent

    if not consent.is_terminal():
        raise UsageError("--purge asks before it removes anything, and here is nobody to ask", hint="--yes")
    click.echo("to be removed:")
    for path in plan.remove:
        click.echo(f"  {path}")
    for name in plan.tokens:
        click.echo(f"  the token of {name} in the keyring")
    for words in plan.left:
        click.echo(f"left: {words}")
    if not click.confirm("remove all of this?", default=False):
        raise UsageError("nothing was removed")


def _check_nobody_is_at_work(paths: Paths) -> None:
    """An agent that runs by hand would write it all anew."""
    from agent.system.machine.lock import DaemonLock

    if paths.lock.exists():
        lock = DaemonLock(paths.lock)
        lock.acquire()
        lock.release()


def _purge(plan: Any, paths: Paths) -> list[str]:
    """Tokens first: without the settings nobody would find them again."""
    from agent.cli.login import drop_token
    from agent.cli.purging import remove_planned

    dropped = [name for name in plan.tokens if drop_token(paths, name)]
    done = [f"the token of {name}: removed from the keyring" for name in dropped]
    remove_planned(plan, paths)
    return done + [f"{path}: removed" for path in plan.remove]


# --- how it is shown ---------------------------------------------------------------------------------------------


def _show(found: ServiceState, *, brief: bool = False) -> None:
    if not found.installed:
        click.echo("service  not installed: transcriptd service install")
        return
    enabled = "starts with the session" if found.enabled else "does not start with the session"
    click.echo(f"service  {found.kind}, {enabled}, {_running(found)}")
    if not brief:
        click.echo(f"file     {found.file}")
    click.echo(f"starts   {' '.join(found.command)}")
    if found.why:
        click.echo(f"! {found.why}" + (f": {found.hint}" if found.hint else ""))


def _running(found: ServiceState) -> str:
    if not found.active:
        return "not running"
    process = f" (process {found.pid})" if found.pid else ""
    if found.since_s is None:
        return f"running{process}"
    import time

    return f"running since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(found.since_s))}{process}"


def _fields(found: ServiceState, name: str) -> dict[str, Any]:
    return {"name": name, **found._asdict()}


def _print(fields: dict[str, Any]) -> None:
    from agent.cli.output import print_json

    print_json({"schema": 1, **fields})
