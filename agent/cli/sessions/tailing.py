"""`transcriptd sessions tail`: the end of a session, and what is added to it."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from agent.cli.completing import complete_session
from agent.cli.config import environment, load_settings
from agent.errors import NotRunning, UsageError
from agent.system.paths import Paths, default_paths

if TYPE_CHECKING:
    from agent.cli.sessions.choosing import Chosen
    from agent.cli.sessions.rendering import Options
    from agent.core.sessions.normalised import Event
    from agent.core.settings import Settings
    from agent.sessions.read.tailing import Tail

POLL_S = 0.3
"""Between two looks at the files while no agent runs."""

KNOCK_S = 2.0
"""Between two looks whether an agent runs, and where the files are."""

QUIET_S = 300.0

MOST_LINES = 100_000

MOST_BYTES = 64 << 20
"""Of a file that are looked through for its last events."""

_LINES_AN_EVENT = 8
"""Of the lines that a coding agent writes, so many are shown as one: most are notes of its own."""

_UNSEEN_WIDTH = 140
"""Of lines that go to no terminal."""

_ALL = 1 << 60


class Shown(NamedTuple):
    """One thing to show. `raw`: the line itself, where lines are wanted."""

    subpath: str
    event: "Event | None" = None
    raw: bytes = b""


@click.command()
@click.argument("session", shell_complete=complete_session)
@click.option("-n", "--lines", type=click.IntRange(0, MOST_LINES), default=20, help="How many events; 20 without it.")
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@click.option("--all", "notes", is_flag=True, help="Also what the agent notes of itself: turns, modes, tokens.")
@click.option("--subagents", is_flag=True, help="With what its subagents do.")
@click.option("--json", "as_json", is_flag=True, help="Every event, one JSON object a line, for scripts.")
@click.option("--raw", is_flag=True, help="The lines as the coding agent wrote them.")
def tail(
    session: str, *, lines: int, is_followed: bool, notes: bool, subagents: bool, as_json: bool, raw: bool
) -> None:
    """The last events of SESSION; with -f also what comes, as it comes.

    SESSION is an id or its beginning, words of its title, or latest. Without a running agent its files are looked at.
    """
    from agent.cli.output import screen_size
    from agent.cli.sessions.choosing import choose_session
    from agent.cli.sessions.rendering import Options, render_event

    if as_json and raw:
        raise UsageError("--json and --raw are two ways to show lines: choose one")
    paths, around = default_paths(environment()), environment()
    settings = load_settings(paths)
    options = Options(screen_size()[0] or _UNSEEN_WIDTH, notes)
    try:
        chosen = choose_session(session, settings, paths, around)
        show = _show_raw if raw else (_show_json if as_json else _Showing(options).show)
        following = Following(chosen, paths, settings, around, subagents=subagents, raw=raw)
        is_plain = not (raw or as_json)
        for one in following.last(lines, lambda event: not is_plain or bool(render_event(event, options))):
            show(one)
        if is_followed:
            for one in following.follow():
                show(one)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return


class Following:
    """One session's files, and how far they were shown. `say` tells what is no event; `wait` takes seconds."""

    def __init__(
        self,
        chosen: "Chosen",
        paths: Paths,
        settings: "Settings",
        around: Mapping[str, str],
        *,
        subagents: bool = False,
        raw: bool = False,
        wait: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] | None = None,
    ) -> None:
        from agent.core.transcripts.session import is_conversation, is_side_file

        self._chosen = chosen
        self._paths = paths
        self._settings = settings
        self._around = around
        self._subagents = subagents
        self._raw = raw
        self._wait = wait
        self._say = say or _say
        self._files = {
            one.stream.subpath: one.path
            for one in chosen.files
            if not is_side_file(one.stream.subpath) and (subagents or is_conversation(one.stream.subpath))
        }
        self._offsets: dict[str, int] = {}
        self._runs: list[str] = []
        """Those that it heard of, and whose end is still to be told; the oldest first."""
        self._has_said_quiet = False

    # --- what is there ----------------------------------------------------------------------------------------

    def last(self, count: int, is_wanted: "Callable[[Event], bool]" = lambda _: True) -> list[Shown]:
        """The last of all files that are wanted, in the order of their times where several are shown."""
        found: list[tuple[float, int, Shown]] = []
        for subpath, path in self._files.items():
            before = 0.0
            for number, one in enumerate(self._read_last(subpath, path, count, is_wanted)):
                at_s = one.event.at_s if one.event is not None else None
                before = max(before, at_s or before)
                found.append((before, number, one))
        if len(self._files) > 1:
            found.sort(key=lambda one: one[0])
        return [one for _, _, one in found[len(found) - min(count, len(found)) :]]

    def _read_last(
        self, subpath: str, path: str, count: int, is_wanted: "Callable[[Event], bool]"
    ) -> "Sequence[Shown]":
        from agent.sessions.read.tailing import find_last_lines, find_line_start
        from agent.system.files.reading import open_file

        with open_file(path) as file:
            end = find_line_start(file, file.size())
            self._offsets[subpath] = end
            start = find_last_lines(file, count * _LINES_AN_EVENT, MOST_BYTES) if count else end
        shown = self._read(subpath, path, start, end)
        return deque((one for one in shown if one.event is None or is_wanted(one.event)), maxlen=count)

    def _read(self, subpath: str, path: str, start: int, end: int) -> "Iterator[Shown]":
        """What stands between two places where lines begin."""
        from agent.core.transcripts.session import StreamId
        from agent.providers import PROVIDERS
        from agent.sessions.read.readout import read_events, read_lines
        from agent.system.files.reading import open_file

        if end <= start:
            return
        with open_file(path) as file:
            if self._raw:
                for line in read_lines(file, start, end):
                    yield Shown(subpath, raw=line.data)
                return
            stream = StreamId(self._chosen.session_id, subpath)
            for event in read_events(PROVIDERS[self._chosen.provider], file, stream, from_offset=start, to_offset=end):
                yield Shown(subpath, event)

    # --- what comes -------------------------------------------------------------------------------------------

    def follow(self) -> Iterator[Shown]:
        """Without end: what the agent tells, and what stands in the files while none runs."""
        while True:
            yield from self._follow_agent()
            yield from self._look_until(KNOCK_S)

    def _follow_agent(self) -> Iterator[Shown]:
        """Until it goes away, or does not know the session."""
        from agent.system.control_socket import ControlClient

        try:
            with ControlClient(self._paths.socket) as client:
                answer, events = client.follow(
                    "messages.subscribe",
                    session=self._chosen.session_id,
                    subagents=self._subagents,
                    run=self._runs[0] if self._runs else None,
                )
                if answer["session_id"] != self._chosen.session_id:
                    return
                yield from self._catch_up(answer["offsets"])
                self._say_state(answer["run"])
                for one in events:
                    if one["kind"] == "refresh":
                        return
                    yield from self._take(one)
        except (NotRunning, UsageError):
            return

    def _catch_up(self, offsets: Mapping[str, int]) -> Iterator[Shown]:
        """From where we are to where the agent begins to tell."""
        for subpath, offset in offsets.items():
            path = self._files.get(subpath)
            if path is None:
                self._find_files()
                path = self._files.get(subpath)
            if path is not None:
                yield from self._read(subpath, path, self._offsets.get(subpath, 0), offset)
            self._offsets[subpath] = offset

    def _take(self, one: Mapping[str, Any]) -> Iterator[Shown]:
        subpath, offset = str(one.get("subpath", "")), one.get("offset", 0)
        if one["kind"] == "message":
            before = self._offsets.get(subpath, 0)
            if self._raw:
                yield from self._catch_up({subpath: max(offset, before)})
            else:
                from agent.core.sessions.normalised import Event

                self._offsets[subpath] = max(offset, before)
                yield Shown(subpath, _event(one["event"], Event))
        elif one["kind"] == "rewritten":
            self._offsets[subpath] = offset
            self._say("the transcript was rewritten; going on from its end")
        elif one["kind"] == "run.began":
            self._know(str(one["run"]))
        elif one["kind"] == "complete":
            self._runs = [run for run in self._runs if run != one["run"]]
            self._say(f"the session ended ({_WHY.get(str(one.get('why')), 'over')}); waiting whether it goes on")

    def _know(self, run: str) -> None:
        if run not in self._runs:
            self._runs.append(run)

    def _say_state(self, run: Mapping[str, Any] | None) -> None:
        if run is not None and run["state"] == "running":
            self._know(str(run["id"]))
        elif not self._has_said_quiet:
            self._has_said_quiet = True
            self._say("nobody works in this session now; waiting whether it goes on")

    # --- without an agent -------------------------------------------------------------------------------------

    def _look_until(self, span_s: float) -> Iterator[Shown]:
        if not self._runs and not self._has_said_quiet and self._quiet_s() > QUIET_S:
            self._say_state(None)
        tails = self._open_tail()
        for _ in range(max(1, round(span_s / POLL_S))):
            self._wait(POLL_S)
            yield from self._look(tails)
        self._find_files()

    def _open_tail(self) -> "Tail":
        from agent.providers import PROVIDERS
        from agent.sessions.read.tailing import Place, Tail
        from agent.system.files import reading as files

        made = Tail(
            self._chosen.session_id, PROVIDERS[self._chosen.provider], files, "", most_bytes=_ALL, most_events=_ALL
        )
        made.begin({subpath: Place(path, self._offsets.get(subpath, 0)) for subpath, path in self._files.items()})
        return made

    def _look(self, tails: "Tail") -> Iterator[Shown]:
        """What is new in the files since the last look."""
        for subpath in self._files:
            has_more = True
            while has_more:
                has_more = tails.look(subpath)
                for one in tails.take_all():
                    yield from self._take(one)

    def _find_files(self) -> None:
        """Where they are now: a transcript moves with its project, and subagents begin."""
        from agent.cli.sessions.choosing import choose_session
        from agent.core.transcripts.session import is_conversation, is_side_file

        try:
            chosen = choose_session(self._chosen.session_id, self._settings, self._paths, self._around)
        except UsageError:
            return  # between two names; the next look finds it
        for one in chosen.files:
            subpath = one.stream.subpath
            if not is_side_file(subpath) and (self._subagents or is_conversation(subpath)):
                self._files[subpath] = one.path

    def _quiet_s(self) -> float:
        newest = max((one.mtime_ns for one in self._chosen.files), default=0)
        return time.time() - newest / 1e9


_WHY = {"hook": "it was closed", "line": "it says so", "quiet": "nobody wrote for five minutes"}


def _event(value: Mapping[str, Any], kind: "type[Event]") -> "Event":
    import msgspec

    found: Event = msgspec.convert({key: one for key, one in value.items() if key != "cut"}, kind)
    return found


def _say(words: str) -> None:
    click.echo(f"transcriptd: {words}", err=True)


def _show_raw(one: Shown) -> None:
    sys.stdout.buffer.write(one.raw + b"\n")
    sys.stdout.buffer.flush()


def _show_json(one: Shown) -> None:
    import json

    import msgspec

    from agent.core.sessions.normalised import SCHEMA

    click.echo(json.dumps({"schema": SCHEMA, **msgspec.to_builtins(one.event)}))


class _Showing:
    """Events for people. Where they are of several transcripts, a line says of which."""

    def __init__(self, options: "Options") -> None:
        from agent.cli.output import has_colour
        from agent.cli.sessions.rendering import Rendering

        self._rendering = Rendering(options)
        self._colour = has_colour()
        self._subpath = ""

    def show(self, one: Shown) -> None:
        from agent.cli.layout import Span, paint
        from agent.cli.sessions.rendering import safe_line

        lines = list(self._rendering.lines(one.event)) if one.event is not None else []
        if lines and one.subpath != self._subpath:
            self._subpath = one.subpath
            lines.insert(0, [Span(safe_line(one.subpath, 100) or "main transcript", "bold")])
        for line in lines:
            click.echo(paint(line, colour=self._colour))
