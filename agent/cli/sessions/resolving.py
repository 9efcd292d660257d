"""`transcriptd sessions resolve`: which session somebody means."""

from typing import TYPE_CHECKING

import click

from agent.cli.config import environment, load_settings
from agent.errors import UsageError
from agent.system.paths import default_paths

if TYPE_CHECKING:
    from agent.sessions.search.session_rows import Look

_SHOWN = 5


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all that may be meant, for scripts.")
def resolve(words: tuple[str, ...], as_json: bool) -> None:
    """Print the id of the session that WORDS mean: its id, the beginning of it, a label, words of a title, or latest.

    Exit status 2 when there is none, or more than one.
    """
    from agent.cli.output import clean, print_json
    from agent.cli.sessions.shelf import opened_look
    from agent.sessions.search import session_rows

    paths = default_paths(environment())
    with opened_look(load_settings(paths), paths, environment()) as look:
        if as_json:
            print_json({"schema": 1, "sessions": session_rows.resolve(look, " ".join(words), 100)})
            return
        click.echo(clean(resolve_one(look, " ".join(words))))


def resolve_one(look: "Look", words: str) -> str:
    """The id of the only session that is meant. Raises UsageError."""
    from agent.sessions.search import session_rows

    found = [one["session"] for one in session_rows.resolve(look, words, 1000)]
    check_one(words, found)
    return str(found[0])


def check_one(words: str, ids: list[str]) -> None:
    """Raises UsageError for none, or for several, with the beginnings of their ids in the hint."""
    if len(ids) == 1:
        return
    shown = words[:64]
    what = f"no session here is called {shown!r}" if not ids else f"{shown!r} may be {len(ids):,} sessions"
    more = ", …" if len(ids) > _SHOWN else ""
    hint = "transcriptd sessions list" if not ids else f"say more of it: {', '.join(sorted(ids)[:_SHOWN])}{more}"
    raise UsageError(what, hint=hint)
