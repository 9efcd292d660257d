"""`transcriptd status`: is it working? Answers also when no daemon runs."""

import time
from typing import TYPE_CHECKING, Any

import click
import msgspec

from agent.cli.config import environment, load_settings, remembered
from agent.core.status import Status
from agent.errors import NotRunning
from agent.system.control_socket import ControlClient
from agent.system.paths import Paths, default_paths, find_open_files
from agent.system.tokens import token_in

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

WATCH_S = 1.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
@click.option("--watch", is_flag=True, help="Stay, and show changes as they happen.")
def status(as_json: bool, watch: bool) -> None:
    """Is it working? What is synced, what waits, and why."""
    paths = default_paths(environment())
    if watch:
        _watch(paths, as_json)
        return
    found = read_status(paths)
    if as_json:
        from agent.cli.output import print_json

        print_json(found)
        return
    from agent.cli.output import console

    console().print(render_status(found))


def read_status(paths: Paths) -> Status:
    """From the running daemon, else from what the state remembers."""
    found = _read_status(paths)
    return msgspec.structs.replace(found, problems=[*found.problems, *find_open_files(paths)])


def _read_status(paths: Paths) -> Status:
    try:
        with ControlClient(paths.socket) as client:
            return parse_status(client.call("agent.status"))
    except NotRunning:
        from agent.daemon.report import report_remembered

        with remembered(paths) as store:
            rows = store.tracks() if store else ()
            return report_remembered(load_settings(paths), rows, token_given=token_in(environment()) is not None)


def parse_status(answer: Any) -> Status:
    return msgspec.convert(answer, Status)


def _watch(paths: Paths, as_json: bool) -> None:
    from rich.live import Live

    from agent.cli.output import console, print_json

    try:
        if as_json:
            while True:
                print_json(read_status(paths))
                time.sleep(WATCH_S)
        with Live(render_status(read_status(paths)), console=console(), auto_refresh=False) as live:
            while True:
                time.sleep(WATCH_S)
                live.update(render_status(read_status(paths)), refresh=True)
    except KeyboardInterrupt:
        return


def render_status(found: Status, *, heading: str = "") -> "Group":
    """For people. `heading` takes the place of who is at work since when."""
    from rich.console import Group
    from rich.text import Text

    from agent.cli.output import STATE_WORDS, clean, make_table, plural, size_words

    counts = found.counts
    if heading:
        head = Text(heading, style="bold")
    elif found.running:
        head = Text.assemble(
            ("transcriptd is running", "bold green"), f" · version {found.version} · process {found.pid}"
        )
        head.append(f" · since {time.strftime('%Y-%m-%d %H:%M', time.localtime(found.since_s))}")
    elif counts.streams:
        head = Text.assemble(("transcriptd is not running", "bold yellow"), " · as of its last run:")
    else:
        head = Text.assemble(("transcriptd is not running", "bold yellow"), " and has sent nothing here yet")
    rows: list[tuple[str, Text]] = []
    for one in found.destinations:
        colour = {"running": "green", "not_running": "dim"}.get(one.condition, "yellow")
        line = Text.assemble(one.url, "  ", (one.condition.replace("_", " "), colour))
        line.append(f" ({one.protocol})" if one.protocol else "", "dim")
        line.append(f"  {clean(one.why)}" if one.why else "")
        if one.retry_at_s is not None:
            line.append(f", next try {_clock(one.retry_at_s)}")
        rows.append((one.name, line))
    rows += _list_tokens(found)
    total = f"{plural(counts.sessions, 'session')} in {plural(counts.streams, 'transcript')}"
    total += f" and {plural(counts.files, 'side file')}" if counts.files else ""
    rows.append(("on disk", Text(f"{total}, {size_words(counts.bytes)}")))
    share = 100 * counts.sent_bytes / counts.bytes if counts.bytes else 100.0
    share_words = f"{share:.0f} %" if share in (0, 100) else f"{min(max(share, 0.1), 99.9):.1f} %"
    rows.append(("on server", Text(f"{plural(counts.entries, 'entry').replace('entrys', 'entries')}, {share_words}")))
    words: dict[tuple[str, str], int] = {}
    for state, number in counts.states.items():
        word = STATE_WORDS.get(state, (state, ""))
        words[word] = words.get(word, 0) + number
    states = Text("  ").join(
        Text.assemble((f"{number:,} ", "bold"), (word, colour)) for (word, colour), number in words.items()
    )
    rows.append(("transcripts", states if words else Text("none yet")))
    rows += _list_remarks(found)
    rows += [("watching", Text(clean(folder))) for folder in found.watching]
    rows += [("polling", Text(clean(folder))) for folder in found.polling]
    parts: list[Any] = [head, make_table([("", "left"), ("", "left")], [(Text(k, "dim"), v) for k, v in rows])]
    parts[1].show_header = False
    for what, hint in found.problems:
        parts.append(Text.assemble(("! ", "bold yellow"), clean(what), (f"  → {hint}" if hint else "", "dim")))
    return Group(*parts)


def _list_tokens(found: Status) -> "list[tuple[str, Text]]":
    """Where tokens come from, in one row."""
    from rich.text import Text

    places = {one.name: one.token for one in found.destinations if one.token not in ("", "given")}
    words = set(places.values())
    if len(words) > 1:
        words = {", ".join(f"{name}: {place}" for name, place in places.items())}
    return [("token", Text(one)) for one in words]


def _list_remarks(found: Status) -> "list[tuple[str, Text]]":
    """Rows for what is not the rule."""
    from rich.text import Text

    from agent.cli.output import age_words, clean, plural

    counts = found.counts
    rows: list[tuple[str, Text]] = []
    if found.oldest_unsent_s is not None:
        rows.append(("oldest wait", Text(f"changed {age_words(found.oldest_unsent_s)}")))
    if counts.not_addressable:
        words_left = f"{counts.not_addressable:,} entries have no uuid; this server has no place for them"
        rows.append(("left out", Text(words_left)))
    if counts.generations:
        words_new = f"{plural(counts.generations, 'new generation')}; what the server had before stays readable there"
        rows.append(("rewritten", Text(words_new)))
    if counts.held:
        rows.append(("held", Text(f"{counts.held:,} stay deliverable if their coding agent deletes them")))
    for why, number in found.withheld.items():
        rows.append(("stays here", Text(f"{plural(number, 'session')}: {clean(why)}")))
    if found.to_delete:
        rows.append(
            ("to delete", Text(f"{plural(found.to_delete, 'private session')} on the server, as soon as may be"))
        )
    if found.held_back:
        rows.append(("held back", Text(f"{found.held_back:,} from before the first start (backlog = false)")))
    return rows


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))
