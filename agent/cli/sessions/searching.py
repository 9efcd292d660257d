"""`transcriptd sessions search`: words in all transcripts of this machine."""

import sys
from typing import TYPE_CHECKING, Any

import click

from agent.cli.config import environment, load_settings
from agent.cli.sessions.wishes import narrowing, read_wanted
from agent.system.paths import default_paths

if TYPE_CHECKING:
    pass

_ROLES = ("user", "assistant", "reasoning", "tool", "other")


@click.command()
@click.argument("words", nargs=-1, required=True)
@narrowing
@click.option("--role", default="", type=click.Choice(("", *_ROLES)), help="Who says it.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(0), help="How many finds; 0 for all.")
@click.option("--each", default=3, show_default=True, type=click.IntRange(0), help="Finds of one file; 0 for all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def search(words: tuple[str, ...], role: str, limit: int, each: int, as_json: bool, **narrowed: str) -> None:
    """Find messages in which all WORDS stand, the sessions that changed last first.

    Whole words, whatever their case. deplo* finds words that begin so, and "deploy script" the two together. Nothing
    leaves this machine; private sessions are looked through too.
    """
    from agent.cli.output import print_json
    from agent.cli.sessions.shelf import opened_look
    from agent.core.sessions.search_terms import Matcher, parse_terms
    from agent.sessions.search.session_rows import short_ids
    from agent.sessions.search.session_search import search_sessions

    matcher = Matcher(parse_terms(words))
    wanted = read_wanted(**narrowed)
    paths = default_paths(environment())
    settings = load_settings(paths)
    with opened_look(settings, paths, environment()) as look:
        found = search_sessions(
            look, matcher, wanted, settings, environment(), limit=limit, each=each, role=role, progress=_progress()
        )
        names = {} if as_json else short_ids(look, {one["session"] for one in found["hits"]})
    if as_json:
        print_json(found)
        return
    _print(found, names)


def _progress() -> Any:
    from agent.cli.sessions.shelf import Telling

    telling = Telling("looking through files")
    return lambda done, total: telling(done, total) if sys.stderr.isatty() else None


def _print(found: dict[str, Any], names: dict[str, str]) -> None:
    from rich.text import Text

    from agent.cli.output import age_words, clean, console, plural

    screen = console()
    last = ""
    for hit in found["hits"]:
        if hit["session"] != last:
            last = hit["session"]
            marks = " (private)" if hit["private"] else ""
            age = "" if not hit["changed_at_s"] else f"  {age_words(hit['changed_at_s'])}"
            head = f"{clean(names[last])}  {clean(hit['project'])}  {clean(hit['title'], 60)}{marks}{age}"
            screen.print(Text(head, style="bold"), soft_wrap=True)
        begin, end = hit["begin"], hit["end"]
        where = f"{hit['subpath']}:{hit['line']}" if hit["subpath"] else str(hit["line"])
        before, it, after = hit["text"][:begin], hit["text"][begin:end], hit["text"][end:]
        parts = (clean(before), (clean(it), "bold yellow"), clean(after))
        line = Text.assemble("  ", (f"{clean(where)} {hit['role']}: ", "dim"), *parts)
        screen.print(line, soft_wrap=True)
    for path, why in found["unread"].items():
        click.echo(f"! {clean(path)}: {clean(why)}", err=True)
    if not found["hits"]:
        click.echo(f"nothing found in {plural(found['files'], 'file')}")
    elif not found["whole"]:
        click.echo("there may be more: --limit 0 --each 0")
