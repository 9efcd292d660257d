"""`transcriptd sessions show`, `get`, `preview`: what was said in a session, whichever agent wrote it."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from agent.cli.completing import complete_session
from agent.cli.config import environment, load_settings
from agent.core.transcripts.session import is_conversation, is_side_file
from agent.errors import UsageError
from agent.system.paths import Paths, default_paths

if TYPE_CHECKING:
    from agent.cli.sessions.choosing import Chosen
    from agent.cli.sessions.rendering import Options
    from agent.core.sessions.normalised import Event
    from agent.core.transcripts.session import Observation

_MOST_KEYS = 100
_PREVIEWED_CHARACTERS = 280


@click.command()
@click.argument("session", shell_complete=complete_session)
@click.option("--raw", is_flag=True, help="The transcript as its agent wrote it; byte for byte into a file or pipe.")
@click.option("--stream", default="", metavar="NAME", help="Another transcript of the session: subagents/agent-…")
@click.option("--subagents", is_flag=True, help="What its subagents said, too, after the main transcript.")
@click.option("--all", "notes", is_flag=True, help="Also what the agent notes of itself: turns, modes, tokens.")
@click.option("--full", is_flag=True, help="Nothing folded: results and arguments in their whole length.")
@click.option("--json", "as_json", is_flag=True, help="Every event, one JSON object a line, for scripts.")
@click.option("--no-pager", is_flag=True, help="Print, however long it is.")
def show(
    session: str, *, raw: bool, stream: str, subagents: bool, notes: bool, full: bool, as_json: bool, no_pager: bool
) -> None:
    """A session as a conversation: who said what, with which tools, and what it used.

    SESSION is an id or its beginning, words of its title, or latest.
    """
    from agent.cli.output import screen_size
    from agent.cli.sessions.paging import page
    from agent.cli.sessions.rendering import Options

    paths = default_paths(environment())
    chosen = _choose(session, paths)
    streams = _streams(chosen, stream, subagents=subagents)
    if raw:
        _show_raw(streams, pager=not no_pager)
    elif as_json:
        page(_json_lines(chosen, streams), environment(), pager=False)
    else:
        options = Options(screen_size()[0] or _UNSEEN_WIDTH, notes, full)
        page(_lines(chosen, streams, options, paths), environment(), pager=not no_pager)


_UNSEEN_WIDTH = 100
"""Of lines that go to no terminal."""


@click.command()
@click.argument("session", shell_complete=complete_session)
@click.option("-n", "count", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many messages.")
@click.option("--stream", default="", metavar="NAME", help="Another transcript of the session: subagents/agent-…")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def get(session: str, count: int, stream: str, as_json: bool) -> None:
    """The last messages of a session, read from the end of its transcript.

    SESSION is an id or its beginning, words of its title, or latest.
    """
    from agent.cli.output import has_colour, print_json, screen_size
    from agent.cli.sessions.paging import page

    chosen = _choose(session, default_paths(environment()))
    messages = _last_messages(chosen, _streams(chosen, stream), count)
    if as_json:
        print_json({"schema": 1, "session": chosen.session_id, "messages": [_fields(one) for one in messages]})
        return
    from agent.cli.layout import paint
    from agent.cli.sessions.rendering import Options, Rendering

    rendering, colour = Rendering(Options(screen_size()[0] or _UNSEEN_WIDTH)), has_colour()
    page((paint(line, colour=colour) for one in messages for line in rendering.lines(one)), environment(), pager=False)


@click.command()
@click.argument("session", shell_complete=complete_session, nargs=-1, required=True)
@click.option("--items", default=4, show_default=True, type=click.IntRange(1, 100), help="How many last messages.")
@click.option(
    "--characters",
    default=_PREVIEWED_CHARACTERS,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Of each message at most.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def preview(session: tuple[str, ...], items: int, characters: int, as_json: bool) -> None:
    """A glance at sessions: the last messages of each, cut short.

    Each SESSION is an id or its beginning, words of its title, or latest; at most 100 of them. One that is not there is
    told in its place.
    """
    from agent.cli.layout import paint
    from agent.cli.output import has_colour, print_json, screen_size
    from agent.cli.sessions.paging import page
    from agent.cli.sessions.rendering import Options

    if len(session) > _MOST_KEYS:
        raise UsageError(f"{len(session)} sessions are asked for; at most {_MOST_KEYS} at once")
    paths = default_paths(environment())
    looks = [_look(key, paths, items, characters) for key in session]
    if as_json:
        print_json({"schema": 1, "sessions": [look.fields() for look in looks]})
        return
    options, colour = Options(screen_size()[0] or _UNSEEN_WIDTH), has_colour()
    page((paint(line, colour=colour) for look in looks for line in look.lines(options)), environment(), pager=False)


def _choose(words: str, paths: Paths) -> "Chosen":
    from agent.cli.sessions.choosing import choose_session

    return choose_session(words, load_settings(paths), paths, environment())


def _streams(chosen: "Chosen", name: str, *, subagents: bool = False) -> "list[Observation]":
    """The main transcript and those in which it goes on, or the one that is named; then those of subagents, if they are
    wanted."""
    from agent.cli.output import clean

    found = [one for one in chosen.files if not is_side_file(one.stream.subpath)]
    if name:
        named = [one for one in found if one.stream.subpath == name]
        if not named:
            names = ", ".join(clean(one.stream.subpath, 80) for one in found[:8] if one.stream.subpath)
            raise UsageError(
                f"session {clean(chosen.session_id, 80)} has no transcript {clean(name, 80)}",
                hint=f"there are: {names}" if names else "",
            )
        return named
    if not found:
        raise UsageError(f"of session {clean(chosen.session_id, 80)} only side files lie here")
    spoken = [one for one in found if is_conversation(one.stream.subpath)] or found[:1]
    return [*spoken, *(one for one in found if one not in spoken)] if subagents else spoken


def _events(chosen: "Chosen", file: "Observation") -> "Iterator[Event]":
    from agent.providers import PROVIDERS
    from agent.sessions.read.readout import read_events
    from agent.system.files.reading import open_file

    with open_file(file.path) as opened:
        yield from read_events(PROVIDERS[chosen.provider], opened, file.stream)


def _lines(chosen: "Chosen", streams: "list[Observation]", options: "Options", paths: Paths) -> Iterator[str]:
    from agent.cli.layout import Span, paint
    from agent.cli.output import has_colour
    from agent.cli.sessions.rendering import Rendering, safe_line

    colour = has_colour()
    title = safe_line(chosen.facts.shown_title(), 100)
    head = [Span(safe_line(chosen.session_id, 80), "bold"), Span(f"  {chosen.provider}", "dim")]
    head += [Span(f"  {safe_line(chosen.facts.project, 100)}", "dim")] if chosen.facts.project else []
    head += [Span("  private", "magenta")] if _is_private(chosen.session_id, paths) else []
    yield paint(head, colour=colour)
    if title:
        yield paint([Span(title)], colour=colour)
    rendering = Rendering(options)
    for file in streams:
        if file.stream.subpath:
            yield ""
            yield paint([Span(safe_line(file.stream.subpath, 100), "bold")], colour=colour)
        for event in _events(chosen, file):
            for line in rendering.lines(event):
                yield paint(line, colour=colour)
    for line in rendering.closing():
        yield paint(line, colour=colour)


def _is_private(session_id: str, paths: Paths) -> bool:
    from agent.cli.sessions.known import read_sessions

    return any(one.session_id == session_id and one.state == "private" for one in read_sessions(paths)[0])


def _fields(event: "Event") -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(event)
    return found


def _json_lines(chosen: "Chosen", streams: "list[Observation]") -> Iterator[str]:
    """ASCII, so that no terminal obeys what stands in it."""
    for file in streams:
        for event in _events(chosen, file):
            yield json.dumps({"schema": 1, **_fields(event)})


def _show_raw(streams: "list[Observation]", *, pager: bool) -> None:
    import sys

    from agent.cli.sessions.paging import page, print_bytes
    from agent.cli.sessions.rendering import safe

    if sys.stdout.isatty():
        page((safe(line) for file in streams for line in _text_lines(file)), environment(), pager=pager)
    else:
        print_bytes(piece for file in streams for piece in _pieces(file))


def _pieces(file: "Observation") -> Iterator[bytes]:
    from agent.system.files.reading import open_file

    with open_file(file.path) as opened:
        yield from opened.pieces(0, opened.size())


def _text_lines(file: "Observation") -> Iterator[str]:
    """Lines for eyes, of which a piece of a long one is one, too."""
    from agent.system.files.reading import open_lines

    with open_lines(file.path) as opened:
        while line := opened.readline(_LONGEST_SHOWN_BYTES):
            yield line.decode(errors="replace").removesuffix("\n")


_LONGEST_SHOWN_BYTES = 1 << 16


def _last_messages(chosen: "Chosen", streams: "list[Observation]", count: int) -> "list[Event]":
    """The oldest first; where the last transcript has too few, the one before it is read, too."""
    found: list[Event] = []
    for file in reversed(streams):
        found = [*_last_of(chosen, file, count - len(found)), *found]
        if len(found) >= count:
            break
    return found


def _last_of(chosen: "Chosen", file: "Observation", count: int) -> "list[Event]":
    from agent.providers import PROVIDERS
    from agent.sessions.read.readout import read_last_messages
    from agent.system.files.reading import open_file

    with open_file(file.path) as opened:
        return read_last_messages(PROVIDERS[chosen.provider], opened, opened.size(), file.stream, count)


class _Look(NamedTuple):
    """`chosen` None: `trouble` says why."""

    key: str
    chosen: "Chosen | None"
    messages: "list[Event]"
    trouble: str = ""

    def fields(self) -> dict[str, Any]:
        if self.chosen is None:
            return {"key": self.key, "error": self.trouble}
        return {
            "key": self.key,
            "session": self.chosen.session_id,
            "provider": self.chosen.provider,
            "project": self.chosen.facts.project,
            "title": self.chosen.facts.shown_title(),
            "items": [_fields(one) for one in self.messages],
        }

    def lines(self, options: "Options") -> Iterator[Any]:
        from agent.cli.layout import Span
        from agent.cli.sessions.rendering import Rendering, safe_line

        if self.chosen is None:
            yield [Span(safe_line(self.key, 80), "bold"), Span(f"  {safe_line(self.trouble, 100)}", "red")]
            return
        title = safe_line(self.chosen.facts.shown_title(), 80)
        yield [Span(safe_line(self.chosen.session_id, 80), "bold"), Span(f"  {title}", "dim")]
        rendering = Rendering(options)
        for message in self.messages:
            yield from rendering.lines(message)


def _look(key: str, paths: Paths, items: int, characters: int) -> _Look:
    from agent.errors import AgentError

    try:
        chosen = _choose(key, paths)
        messages = _last_messages(chosen, _streams(chosen, ""), items)
    except AgentError as exc:
        return _Look(key, None, [], str(exc))
    return _Look(key, chosen, [_shortened(one, characters) for one in messages])


def _shortened(event: "Event", characters: int) -> "Event":
    from agent.core.sessions.normalised import Completeness

    if len(event.text) <= characters:
        return event
    text = f"{event.text[: characters - 1]}…"
    return msgspec.structs.replace(event, text=text, completeness=Completeness.PARTIAL)
