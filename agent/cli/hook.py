"""`transcriptd hook`: Claude Code tells us which transcripts it writes. And `capture`, which it runs for that."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click

from agent.cli.config import environment
from agent.core.hooks import (
    EVENTS,
    Edited,
    are_disabled,
    find_hooks,
    install_hooks,
    program_of,
    render_command,
    uninstall_hooks,
)
from agent.core.slash_command import FILE_NAME, is_private_command, render_private_command
from agent.errors import MachineError, SettingsError
from agent.system.files.reading import read_text
from agent.system.paths import default_paths
from agent.system.state.settings_file import SettingsFile, remove_file, write_text
from agent.system.state.spool import Spool, spool_path

_INCOMPLETE = 1
"""Exit status of `status` when a hook is missing, turned off, or runs a program that is not there."""

_INSTALL = "transcriptd hook install"

_settings = click.option(
    "--settings",
    "named",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Claude Code's settings; else $CLAUDE_CONFIG_DIR/settings.json or ~/.claude/settings.json.",
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")


class Examined(NamedTuple):
    """`commands`: event → what runs there. `wrong`: what is missing or can't work, and the next command."""

    settings: Path
    commands: dict[str, str]
    wrong: list[tuple[str, str]]


def examine_hooks(settings: Path) -> Examined:
    """Our hooks in Claude Code's settings, links followed. Raises SettingsError for what is no settings file."""
    path = Path(os.path.realpath(settings))
    text = read_text(path) or ""
    commands = {one.event: one.command for one in find_hooks(text, str(path))} if text else {}
    wrong = [(f"{event} has no hook", _INSTALL) for event in EVENTS if event not in commands]
    programs = sorted({program_of(command) for command in commands.values()})
    wrong += [(f"{one} is not there", _INSTALL) for one in programs if not os.access(one, os.X_OK)]
    if text and are_disabled(text, str(path)):
        wrong.append(("disableAllHooks is set in these settings", ""))
    return Examined(path, commands, wrong)


@click.group()
def hook() -> None:
    """Let Claude Code tell which transcripts it writes, when a session begins and when it ends.

    Nothing depends on it: transcripts in the watched folders are found without hooks. They help where no change notices
    come, and tell of transcripts that lie elsewhere.
    """


@hook.command()
@_settings
@click.option("--private-command", is_flag=True, help="Also give Claude Code a command /private, for its sessions.")
@_json
def install(named: Path | None, private_command: bool, as_json: bool) -> None:
    """Add the hooks to Claude Code's settings; all else in that file stays as it is."""
    file = SettingsFile(_settings_path(named))
    text = file.read()
    edited = install_hooks(text, _command(), str(file.path))
    if edited.done:
        if not (text and find_hooks(text)) or file.read_copy() is None:
            file.write_copy(text)
        file.write(edited.text, instead_of=text)
    slash = _install_slash_command(_settings_path(named)) if private_command else ""
    _tell(file, edited, "the hooks are there already", as_json, slash)


@hook.command()
@_settings
@_json
def uninstall(named: Path | None, as_json: bool) -> None:
    """Take out what `install` put in, and nothing else."""
    file = SettingsFile(_settings_path(named))
    text = file.read()
    edited = uninstall_hooks(text, file.read_copy(), str(file.path)) if text else Edited("", ())
    if edited.done:
        file.write_copy(text)
        file.write(edited.text, instead_of=text)
    _tell(file, edited, "there are no hooks of transcriptd", as_json, _remove_slash_command(_settings_path(named)))


@hook.command()
@_settings
@_json
def status(named: Path | None, as_json: bool) -> None:
    """Are the hooks there, and can they work? Exit status 1 when not."""
    file = SettingsFile(_settings_path(named))
    file.read()  # says what is wrong with the file, or that its folder is not there
    found = examine_hooks(file.path)
    wrong = [f"{what}: {fix}" if fix else what for what, fix in found.wrong]
    waiting = Spool(str(default_paths(environment()).spool)).waiting()
    if as_json:
        _print({"settings": str(file.path), "hooks": found.commands, "wrong": wrong, "waiting": waiting})
    else:
        click.echo(f"{file.path}:")
        for event, command in found.commands.items():
            click.echo(f"  {event}: {command}")
        for what in wrong:
            click.echo(f"! {what}")
        click.echo(f"named by hooks and not taken up yet: {waiting}")
    if wrong:
        sys.exit(_INCOMPLETE)


@click.command()
@click.option("--spool", metavar="FILE", help="The spool to add to; else that of this user.")
def capture(spool: str | None) -> None:
    """Take a hook's JSON from stdin and note the transcript that it names, for the agent to look at.

    `transcriptd hook install` makes Claude Code run this. It says nothing and never fails.
    """
    from agent.cli.capture import capture as note

    note(["--spool", spool] if spool else [])


def _settings_path(named: Path | None) -> Path:
    if named is not None:
        return named.expanduser()
    from agent.providers import claude

    folder = next(iter(claude.named_homes(environment())), "~/.claude")
    return Path(folder).expanduser() / "settings.json"


def _command() -> str:
    """What a hook has to run, whatever its environment and folder are."""
    here = str(default_paths(environment()).spool)
    plain = {name: value for name, value in environment().items() if name != "TRANSCRIPTD_HOME"}
    found_alone = spool_path(plain) == here
    return render_command(_program(), "" if found_alone else here, windows=os.name == "nt")


def _program() -> str:
    """The command that was typed, not what it leads to: a new version keeps the one and moves the other."""
    typed, ending = os.path.abspath(sys.argv[0]), ".exe" if os.name == "nt" else ""
    beside = os.path.join(os.path.dirname(sys.executable), "transcriptd")
    for path in (typed, beside, shutil.which("transcriptd") or ""):
        whole = path.removesuffix(ending) + ending
        if os.path.basename(whole) == f"transcriptd{ending}" and os.access(whole, os.X_OK):
            return whole
    raise MachineError(
        "the command transcriptd is not found here, so no hook can run it", hint="install it, say by pipx"
    )


def _slash_command_path(settings: Path) -> Path:
    return settings.with_name("commands") / FILE_NAME


def _install_slash_command(settings: Path) -> str:
    """What was done, for people. Raises SettingsError when somebody else's command has that name."""
    path = _slash_command_path(settings)
    there = read_text(path)
    here, found_alone = _home()
    wanted = render_private_command(_program(), "" if found_alone else here, windows=os.name == "nt")
    if there == wanted:
        return f"{path}: the command is there already"
    if there is not None and not is_private_command(there):
        raise SettingsError(
            f"{path} is not ours", hint="nothing was changed; rename it, or go without --private-command"
        )
    write_text(path, wanted)
    return f"{path}: " + ("added" if there is None else "changed")


def _remove_slash_command(settings: Path) -> str:
    path = _slash_command_path(settings)
    there = read_text(path)
    if there is None:
        return ""
    if not is_private_command(there):
        return f"{path}: left as it is; somebody changed it" if "transcriptd" in there else ""
    remove_file(path)
    return f"{path}: removed"


def _home() -> tuple[str, bool]:
    """TRANSCRIPTD_HOME, and whether this home is found without it."""
    plain = {name: value for name, value in environment().items() if name != "TRANSCRIPTD_HOME"}
    named = environment().get("TRANSCRIPTD_HOME", "")
    home = os.path.abspath(os.path.expanduser(named)) if named else ""
    return home, not named or default_paths(plain) == default_paths(environment())


def _tell(file: SettingsFile, edited: Edited, nothing: str, as_json: bool, slash: str) -> None:
    """`slash`: what became of the command /private."""
    if as_json:
        copy = str(file.copy) if edited.done else None
        fields = {"settings": str(file.path), "changed": bool(edited.done), "done": edited.done, "copy": copy}
        _print({**fields, **({"private_command": slash} if slash else {})})
        return
    if edited.done:
        click.echo(f"{file.path}:")
        for what in edited.done:
            click.echo(f"  {what}")
        click.echo(f"as it was before: {file.copy}")
    else:
        click.echo(f"{file.path}: {nothing}")
    if slash:
        click.echo(slash)


def _print(fields: dict[str, Any]) -> None:
    from agent.cli.output import print_json

    print_json({"schema": 1, **fields})
