"""`transcriptd sessions patch`: what people and plugins note of a session."""

import json
from typing import Any

import click

from agent.cli.completing import complete_session
from agent.cli.config import environment, load_settings
from agent.errors import UsageError
from agent.system.paths import default_paths


@click.command()
@click.argument("session", shell_complete=complete_session)
@click.option("--label", default=None, metavar="TEXT", help="A name of your own; empty: none.")
@click.option("--archived/--no-archived", default=None, help="Leave it out of lists, or not any more.")
@click.option("--private/--no-private", default=None, help="As `transcriptd private add` and `remove` do.")
@click.option("--set", "sets", multiple=True, metavar="NAMESPACE.KEY=JSON", help="A plugin's value.")
@click.option("--unset", "unsets", multiple=True, metavar="NAMESPACE.KEY", help="Take it away.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def patch(
    *,
    session: str,
    label: str | None,
    archived: bool | None,
    private: bool | None,
    sets: tuple[str, ...],
    unsets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Label or archive a session, make it private, or note a plugin's value.

    None of this is sent anywhere. It is kept apart from the index, and survives it.
    """
    from agent.cli.output import clean, print_json
    from agent.cli.sessions.resolving import resolve_one
    from agent.cli.sessions.shelf import opened_look
    from agent.sessions.index.session_patch import patch_session

    values = dict(map(_parse, sets))
    paths = default_paths(environment())
    settings = load_settings(paths)
    with opened_look(settings, paths, environment()) as look:
        session_id = resolve_one(look, session)
    found = patch_session(paths, session_id, label=label, archived=archived, values=values, without=unsets)
    if private is not None:
        found["private"] = _set_private(session_id, private=private)
    if as_json:
        print_json({"schema": 1, **found})
        return
    label_words = f"label {clean(found['label'])!r}" if found["label"] else "no label"
    words = [label_words, *(["archived"] if found["archived"] else [])]
    words += [f"{key} = {json.dumps(value)}" for key, value in found["values"].items()]
    click.echo(clean(f"{session_id}: {', '.join(words)}"))


def _parse(text: str) -> tuple[str, Any]:
    """Raises UsageError."""
    key, equals, value = text.partition("=")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        what = f"{key[:64]!r} is set to something that is no JSON" if equals else f"{text[:64]!r} has no ="
        raise UsageError(
            what, hint="sessions patch SESSION --set my-plugin.rating=5 --set my-plugin.list=[1]"
        ) from None


def _set_private(session_id: str, *, private: bool) -> bool:
    """By the private list, like the command for it."""
    from agent.cli.private import tell_agent
    from agent.core.privacy.rules import parse_rule
    from agent.system.state.privacy_list import PrivacyList

    paths = default_paths(environment())
    listed = PrivacyList(paths.private_list, load_settings(paths).privacy)
    rule = parse_rule("session", session_id)
    if private:
        from agent.cli.private import had_list

        listed.add([rule], create=not had_list(paths))
    else:
        listed.remove(listed.find([rule]))
    _, note = tell_agent(paths)
    if note:
        click.echo(f"! {note}", err=True)
    return private
