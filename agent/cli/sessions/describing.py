"""`transcriptd sessions describe`: all that is known of one session."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from agent.cli.completing import complete_session
from agent.cli.config import environment, load_settings
from agent.system.paths import default_paths

_TOOLS = 12


@click.command()
@click.argument("session", shell_complete=complete_session)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def describe(session: str, as_json: bool) -> None:
    """All that is known of a session: what was said and spent, its files and how far they are synced, its lineage.

    SESSION is an id, the beginning of one, a label, words of a title, or latest.
    """
    from agent.cli.output import clean, print_json
    from agent.cli.sessions.resolving import resolve_one
    from agent.cli.sessions.shelf import opened_look
    from agent.sessions.search.session_rows import describe_session, short_ids

    paths = default_paths(environment())
    with opened_look(load_settings(paths), paths, environment()) as look:
        found = describe_session(look, resolve_one(look, session))
        names = {} if as_json else short_ids(look, (one["session"] for one in found["lineage"]))
    if as_json:
        print_json(found)
        return
    for name, words in _lines(found, names):
        click.echo(f"{name:<13} {clean(words)}" if name or words else "")


def _lines(found: dict[str, Any], names: dict[str, str]) -> Iterator[tuple[str, str]]:
    from agent.cli.output import plural, size_words

    yield "session", found["session"]
    yield "title", found["title"] or "(none)"
    for name in ("label", "provider", "project", "model"):
        if found.get(name):
            yield name, found[name]
    marks = [found["life"], *(["private"] if found["private"] else []), *(["archived"] if found["archived"] else [])]
    yield "state", ", ".join(marks)
    if found.get("started_at_s"):
        yield "began", time_words(found["started_at_s"])
    yield "changed", time_words(found["changed_at_s"])
    if "tokens" in found:
        tokens = found["tokens"]
        cached = f"{tokens['cache_read']:,} read from the cache, {tokens['cache_creation']:,} written to it"
        cost = "" if found["cost_usd"] is None else f"; {found['cost_usd']:,.2f} USD"
        yield "tokens", f"{tokens['input']:,} in, {tokens['output']:,} out; {cached}{cost}"
        yield "messages", f"{found['messages']:,} in {plural(found['lines'], 'line')}"
    tools = [f"{one['tool'] or one['kind']} {one['calls']:,}" for one in found["tools"][:_TOOLS]]
    if tools:
        yield "tools", ", ".join(tools) + (", …" if len(found["tools"]) > _TOOLS else "")
    for key, value in found.get("values", {}).items():
        yield "value", f"{key} = {json.dumps(value)}"
    yield "files", f"{len(found['files']):,}, {size_words(found['bytes'])}"
    for one in found["files"]:
        yield "", f"{one['subpath'] or 'main'}: {one['path']}, {size_words(max(0, one['bytes']))}"
        for server in one["servers"]:
            why = f" ({server['reason']})" if server["reason"] else ""
            sent = (
                f"{size_words(server['sent_bytes'])}, {plural(server['entries'], 'entry').replace('entrys', 'entries')}"
            )
            rejected = f", {plural(server['rejected'], 'rejected')}" if server.get("rejected") else ""
            yield "", f"  {server['destination']}: {server['state']}{why}, {sent} sent{rejected}"
    if found["lineage"]:
        yield "conversation", plural(len(found["lineage"]), "session")
        yield from (("", line) for line in _tree(found["lineage"], names, found["session"]))


def _tree(related: list[dict[str, Any]], names: dict[str, str], session: str) -> Iterator[str]:
    """Parents above their children; what has a parent that is not there stands at the left."""
    ids = {one["session"] for one in related}
    children: dict[str, list[dict[str, Any]]] = {}
    for one in related:
        children.setdefault(one["parent"] if one["parent"] in ids else "", []).append(one)
    waiting = [(one, 0) for one in reversed(children.get("", []))]
    while waiting:
        one, depth = waiting.pop()
        shared = f", {one['shared_entries']:,} entries shared" if one["shared_entries"] else ""
        how = f" ({one['link']}{shared})" if one["link"] else ""
        mark = " ← this one" if one["session"] == session else ""
        yield f"{'  ' * min(depth, 8)}{names[one['session']]}{how} {one['title'][:60]}{mark}"
        waiting += [(child, depth + 1) for child in reversed(children.get(one["session"], []))]


def time_words(at_s: float) -> str:
    """On this machine's clock; what is no time as its number."""
    try:
        return datetime.fromtimestamp(at_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{at_s:.0f} s"
