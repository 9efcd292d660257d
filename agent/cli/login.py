"""`transcriptd login` and `logout`: a server's token goes to where it is kept, and away from there."""

import os
import shlex
import sys
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import click

from agent.cli import consent
from agent.cli.agnes import take_over
from agent.cli.completing import complete_destination
from agent.cli.config import change_settings, environment, load_settings
from agent.cli.consent import ask_consent
from agent.core.settings import Destination, Settings, TokenIn, check_url
from agent.errors import (
    AgentError,
    KeyringError,
    KeyringMissing,
    NotRunning,
    SettingsError,
    Unauthorized,
    Unreachable,
    UsageError,
)
from agent.system.paths import Paths, default_paths
from agent.system.tokens import VARIABLE, Secret, token_in
from agent.system.tokens.backends import AUTO, BACKENDS, choose_backend
from agent.system.tokens.sources import describe_place, place_of

_MOST_TOKEN = 16_384


@click.command()
@click.argument("url")
@click.option("--name", help="What `status` calls this server; its host's name when there is another one already.")
@click.option("--token-stdin", is_flag=True, help="Read the token from stdin's first line instead of asking for it.")
@click.option("--backend", type=click.Choice([AUTO, *BACKENDS]), help="Which keyring; by default the system's own.")
@click.option("--token-file", type=click.Path(), help="No keyring: the token is in this file, which only you may read.")
@click.option("--credential", help="No keyring: the service gets the token from systemd, under this name.")
@click.option("--environment", "from_environment", is_flag=True, help=f"No keyring: the token is in {VARIABLE}.")
def login(
    *,
    url: str,
    name: str | None,
    token_stdin: bool,
    backend: str | None,
    token_file: str | None,
    credential: str | None,
    from_environment: bool,
) -> None:
    """Send transcripts to the server at URL, with a token that it accepts.

    The token is asked for, checked with the server, and kept in the keyring of this system. The settings get to know
    the server. A token that the server refuses is not kept, and nothing is changed.
    """
    elsewhere = [bool(token_file), bool(credential), from_environment]
    if sum(elsewhere) > 1 or (any(elsewhere) and (token_stdin or backend)):
        raise UsageError("a token is in one place: keyring, --token-file, --credential or --environment")
    paths = default_paths(environment())
    one = _choose_destination(load_settings(paths), url, name)
    if token_file:
        one = replace(one, token=TokenIn.FILE.value, token_file=os.path.abspath(os.path.expanduser(token_file)))
    elif credential:
        one = replace(one, token=TokenIn.CREDENTIAL.value, credential=credential)
    elif from_environment:
        one = replace(one, token=TokenIn.ENVIRONMENT.value)
    else:
        one = replace(one, token=TokenIn.KEYRING.value, keyring=choose_backend(backend or _backend_so_far(one)))
    token = _take_token(one, from_stdin=token_stdin)
    if token is None:
        click.echo(f"not checked: the credential {one.credential} is handed to the service only", err=True)
    else:
        check_token(one, token)
    if one.token == TokenIn.KEYRING:
        _check_keyring(paths, one)
    take_over(paths, may_ask=consent.is_terminal())
    # From here on a running agent may send.
    ask_consent(paths, one)
    if one.token == TokenIn.KEYRING and token is not None:
        _keyring(one).store(place_of(one, paths.instance), token)
    _write(paths, one)
    click.echo(f"{one.name}: {one.url}, token in {describe_place(one)}")
    _tell_agent(paths, one)


@click.command()
@click.argument("name", required=False, shell_complete=complete_destination)
def logout(name: str | None) -> None:
    """Remove the token of the server NAME from the keyring. Nothing is sent there any more; its settings stay."""
    paths = default_paths(environment())
    one = _find_destination(load_settings(paths), name)
    if one.token != TokenIn.KEYRING:
        raise UsageError(f"the token of {one.name} is in {describe_place(one)}, which is yours to remove")
    was_there = _keyring(one).drop(place_of(one, paths.instance))
    click.echo(f"{one.name}: logged out" if was_there else f"{one.name}: there was no token in {describe_place(one)}")
    _warn_of_variable()
    _poke(paths, one)


def drop_token(paths: Paths, name: str) -> bool:
    """Removes the token of the server `name` from its keyring; whether there was one. Raises KeyringError."""
    one = _find_destination(load_settings(paths), name)
    return bool(_keyring(one).drop(place_of(one, paths.instance)))


# --- which server ------------------------------------------------------------------------------------------------


def _choose_destination(settings: Settings, url: str, name: str | None) -> Destination:
    """The one of that name, else the one at that address, else a new one."""
    url = url.rstrip("/")
    known = {one.name: one for one in settings.destinations}
    there = next((one for one in settings.destinations if one.url.rstrip("/") == url), None)
    found = known.get(name) if name is not None else there
    if found is None:
        host = urlsplit(url).hostname or "" if "//" in url else ""
        found = Destination(url, name=name or ("default" if not known else host))
        if name is None and found.name in known:
            raise UsageError(f"there is another server named {found.name} already", hint="--name NAME")
    found = found if found.url.rstrip("/") == url else replace(found, url=url)
    try:
        check_url(found.url, insecure=found.insecure, where=url)
    except SettingsError as exc:
        raise UsageError(exc.message, hint=exc.hint) from exc
    return found


def _backend_so_far(one: Destination) -> str:
    return one.keyring if one.token == TokenIn.KEYRING else AUTO


def _find_destination(settings: Settings, name: str | None) -> Destination:
    names = [one.name for one in settings.destinations]
    for one in settings.destinations:
        if one.name == name or (name is None and len(names) == 1):
            return one
    words = ", ".join(names) or "none"
    raise UsageError(f"no server {name} in the settings" if name else "which server?", hint=f"NAME is one of: {words}")


# --- the token ---------------------------------------------------------------------------------------------------


def _take_token(one: Destination, *, from_stdin: bool) -> Secret | None:
    """None for a credential that only the service gets."""
    from agent.system.tokens.places import CREDENTIALS, read_credential, read_token_file

    hint = f"transcriptd login {one.url} --token-stdin"
    match one.token:
        case TokenIn.FILE:
            text = read_token_file(one.token_file)
            missing = f"token file {one.token_file} is not there, or empty"
            hint = f"put the token there first: (umask 077; cat > {shlex.quote(one.token_file)})"
        case TokenIn.CREDENTIAL:
            if not environment().get(CREDENTIALS):
                return None
            text = read_credential(one.credential, environment())
            missing = f"there is no credential {one.credential}"
            hint = f"LoadCredential={one.credential}:FILE in the service's unit"
        case TokenIn.ENVIRONMENT:
            text, missing = token_in(environment()), f"{VARIABLE} is not set"
            hint = f"set {VARIABLE} to a token of that server"
        case _ if from_stdin:
            text, missing = sys.stdin.readline(_MOST_TOKEN).strip(), "no token on stdin"
        case _ if is_terminal():
            text = click.prompt(f"token for {one.url}", hide_input=True, err=True).strip()
            missing = "no token"
        case _:
            raise UsageError("there is no terminal to ask for the token", hint=hint)
    if not text:
        raise UsageError(missing, hint=hint)
    return Secret(text)


def is_terminal() -> bool:
    return sys.stdin.isatty()


def check_token(one: Destination, token: Secret) -> None:
    """Raises Unauthorized when the server refuses it, Unreachable when nobody knows."""
    from agent.cli.asking import ask_server
    from agent.core.wire import NeedsLogin, Unavailable
    from agent.system.remote import Remote

    remote = Remote(one.url, lambda: token.text)
    try:
        reply = ask_server(one, remote).reply
    finally:
        remote.close()
    match reply:
        case NeedsLogin():
            raise Unauthorized(
                reply.why or f"{one.url} does not accept this token; nothing was changed",
                hint=f"transcriptd login {one.url}",
            )
        case Unavailable():
            raise Unreachable(f"{reply.why}; nothing was changed", hint=f"transcriptd login {one.url}")


def _keyring(one: Destination) -> Any:
    from agent.system.tokens.client import Keyring

    return Keyring(choose_backend(one.keyring))


def _check_keyring(paths: Paths, one: Destination) -> None:
    """Raises KeyringMissing before anything is asked or written. One that is locked is unlocked when it is needed."""
    try:
        _keyring(one).find(place_of(one, paths.instance))
    except KeyringMissing:
        raise
    except KeyringError:
        return


# --- what others get to know -------------------------------------------------------------------------------------


def _write(paths: Paths, one: Destination) -> None:
    from agent.core.settings_text import set_destination

    values = {
        "url": one.url,
        "token": one.token,
        "keyring": one.keyring if one.token == TokenIn.KEYRING else None,
        "token_file": one.token_file if one.token == TokenIn.FILE else None,
        "credential": one.credential if one.token == TokenIn.CREDENTIAL else None,
    }
    change_settings(paths, lambda text: set_destination(text, one.name, values))


def _tell_agent(paths: Paths, one: Destination) -> None:
    if one.token != TokenIn.ENVIRONMENT:
        _warn_of_variable()
    known = _poke(paths, one)
    if known is None:
        click.echo("no agent is running here; transcriptd service install starts it")
    elif _reload(paths) or any(all(getattr(one, key) == value for key, value in row.items()) for row in known):
        click.echo("the running agent goes on with it")
    else:
        click.echo("restart the running agent: it takes up the new settings when it starts")


def _reload(paths: Paths) -> bool:
    """Whether the running agent took up the settings as they are now."""
    from agent.system.control_socket import ControlClient

    try:
        with ControlClient(paths.socket, timeout_s=60.0) as client:
            client.call("agent.reload")
    except AgentError:  # one that is older, or that runs as a part of something else
        return False
    return True


def _poke(paths: Paths, one: Destination) -> list[dict[str, str]] | None:
    """Tells the running agent to look for the token again, and gives what it knows of where tokens are; None without
    one."""
    from agent.system.control_socket import ControlClient

    try:
        with ControlClient(paths.socket) as client:
            found: list[dict[str, str]] = client.call("agent.token_changed", destination=one.name)["destinations"]
            return found
    except NotRunning:
        return None


def _warn_of_variable() -> None:
    if token_in(environment()) is not None:
        click.echo(f"{VARIABLE} is set here: an agent that starts with it takes that one instead", err=True)
