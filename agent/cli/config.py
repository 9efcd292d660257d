"""`transcriptd config`, and how every command finds its settings."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from agent.core.settings import EXAMPLE_TEXT, Settings, mask_settings, parse_settings, render_settings
from agent.errors import NotRunning, SettingsError
from agent.system.files.reading import read_text
from agent.system.paths import Paths, default_paths

if TYPE_CHECKING:
    from agent.system.state.state_db import StateDb


def load_settings(paths: Paths) -> Settings:
    """The settings of this user; the defaults without a file. Raises SettingsError."""
    text = read_text(paths.config)
    return Settings() if text is None else parse_settings(text, str(paths.config))


def load_with_destination(paths: Paths) -> Settings:
    """The same, for commands that need a server."""
    settings = load_settings(paths)
    if not settings.destinations:
        raise SettingsError(
            f"{paths.config} names no server to send to",
            hint="transcriptd login URL; to look around first: transcriptd try",
        )
    return settings


def change_settings(paths: Paths, edit: Callable[[str], str]) -> Settings:
    """Writes what `edit` makes of the settings' text, and gives the settings that are in force then. Raises
    SettingsError before anything is written if they would not be fine, DiskError if somebody else wrote meanwhile."""
    from agent.system.paths import make_private_folder
    from agent.system.state.settings_file import SettingsFile

    make_private_folder(paths.config.parent)
    file = SettingsFile(paths.config)
    before = file.read()
    after = edit(before)
    settings = parse_settings(after, str(paths.config))
    if after != before:
        file.write(after, instead_of=before)
        _accept(paths, before, settings)
    return settings


def _accept(paths: Paths, before: str, settings: Settings) -> None:
    """What a command of ours writes is its owner's word; what somebody else lost before is not."""
    from agent.core.privacy.lost_rules import sharing_of
    from agent.delivery.privacy.kept_sharing import accept

    try:
        accept(paths.known_sharing, sharing_of(parse_settings(before, str(paths.config))), settings)
    except SettingsError:
        return  # nobody can say what it was; what held last goes on to hold


@contextmanager
def remembered(paths: Paths) -> Iterator["StateDb | None"]:
    """The state, to be read beside a daemon or without one; None when there is none that can be read."""
    from agent.system.state.state_db import open_state_readonly

    store = open_state_readonly(paths.database)
    try:
        yield store
    finally:
        if store is not None:
            store.close()


def environment() -> Mapping[str, str]:
    return os.environ


@click.group()
def config() -> None:
    """Find, show and check the settings."""


@config.command()
def path() -> None:
    """Print where the settings file is."""
    click.echo(default_paths(environment()).config)


@config.command()
@click.option("--reveal", is_flag=True, help="Also the expressions of privacy.patterns, which may hold secrets.")
def show(reveal: bool) -> None:
    """Print every setting as it is in force, defaults included."""
    paths = default_paths(environment())
    settings = load_settings(paths)
    masked = settings if reveal else mask_settings(settings)
    exists = paths.config.exists()
    click.echo(f"# {paths.config}" + ("" if exists else " (not there; these are the defaults)"))
    click.echo(render_settings(masked), nl=False)
    if masked != settings:
        click.echo("# privacy.patterns is masked: --reveal shows it")
    if not exists:
        click.echo("\n# to begin with:\n" + "".join(f"# {line}\n" for line in EXAMPLE_TEXT.splitlines()), nl=False)


@config.command("accept")
def accept_() -> None:
    """Take the settings as they stand, also where they share more than before.

    Settings that are gone from the file (share = "listed", projects, patterns) hold on for ten minutes, since a file
    may have been cut short. This ends it.
    """
    from agent.delivery.privacy.kept_sharing import accept, narrowed
    from agent.system.control_socket import ControlClient

    paths = default_paths(environment())
    settings = load_settings(paths)
    _, lost, _ = narrowed(paths.known_sharing, settings)
    if not lost:
        click.echo("nothing is held: the settings are in force as they stand")
        return
    accept(paths.known_sharing, None, settings)
    try:
        with ControlClient(paths.socket) as client:
            client.call("agent.reload")
    except NotRunning:
        pass
    click.echo(f"{paths.config} is in force as it stands; gone: {', '.join(lost)}")


@config.command()
def check() -> None:
    """Check the settings file and the private list; exit status 78 when one of them is wrong."""
    from agent.system.state.privacy_list import PrivacyList

    paths = default_paths(environment())
    settings = load_settings(paths)
    PrivacyList(paths.private_list, settings.privacy).rules()
    names = ", ".join(one.name for one in settings.destinations) or "none yet"
    click.echo(f"{paths.config} is fine; destinations: {names}")
