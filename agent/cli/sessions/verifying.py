"""`transcriptd sessions verify`: the proof that servers have what is here."""

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from agent.cli.completing import complete_session
from agent.cli.config import environment, load_with_destination, remembered
from agent.cli.sessions.known import read_sessions
from agent.core.status import (
    Open,
    StreamLine,
    count_open,
    describe_open,
    describe_unfollowed,
    forbids_synced,
    is_undecided,
)
from agent.core.transcripts.session import PROJECT_UNKNOWN, StreamId
from agent.errors import UsageError
from agent.system.paths import Paths, default_paths

if TYPE_CHECKING:
    from agent.core.redaction.redactor import Redactor
    from agent.core.settings import Destination, Settings
    from agent.core.transcripts.identity import Cursor
    from agent.delivery.push.verifier import Verdict

_DIFFERS = 1
_NOT_THERE = ("gone", "private")
"""States of what is not here any more, and of what shall not be there."""

_UNPROVEN = frozenset({Open.NO_PLACE, Open.NO_PLACE_ENTRIES, Open.REJECTED_ENTRIES, Open.TOO_LARGE_ENTRIES})
"""What is not there though counts and hashes of what is there agree."""


@click.command()
@click.argument("session", shell_complete=complete_session, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Compare all of them, and tell what only servers have.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def verify(session: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Compare every transcript with the server's copy: counts and chain hashes of both sides.

    SESSION is an id, its beginning, or what else names a session; without one all are compared. Exit status 1 when
    something differs, is missing there (rejected entries, and those without a place there, too), can't be read or is
    not followed; what only a server has is no difference.
    """
    if session and everything:
        raise UsageError("--all means every session, so none is named")
    from agent.cli.output import clean

    paths = default_paths(environment())
    settings = load_with_destination(paths)
    lines, _ = read_sessions(paths)
    chosen = _choose(lines, session, settings, paths)
    from agent.delivery.privacy.redacting import open_redactor

    redactor = open_redactor(settings.privacy, paths)
    verdicts: list[tuple[str, Verdict]] = []
    unread = [
        f"{path} stays here: {PROJECT_UNKNOWN}" for path in sorted({one.path for one in chosen if is_undecided(one)})
    ]
    elsewhere: list[dict[str, Any]] = []
    for destination in settings.destinations:
        if destination.protocol == "upload":
            click.echo(f"! {clean(destination.name)} only takes files; what it holds can't be compared", err=True)
            continue
        mine = [line for line in chosen if line.destination == destination.name and line.state not in _NOT_THERE]
        found, failed = _verify_at(destination, mine, paths, redactor)
        verdicts += [(destination.name, one) for one in found]
        unread += failed
        elsewhere += _only_there(destination, lines, paths) if everything else []
    is_open = {kind: number for kind, number in count_open(chosen).items() if kind in _UNPROVEN}
    unfollowed, more, aside = ({}, 0, {}) if session else _find_unfollowed(settings)
    compared = _Compared(verdicts, unread, is_open, unfollowed, more, aside, elsewhere)
    (_tell_json if as_json else _tell)(compared)
    if not compared.equal:
        sys.exit(_DIFFERS)


class _Compared(NamedTuple):
    """What came of it. `verdicts`: destination and what was found there. `unread`: what could not be compared, in
    words. The rest as `_find_unfollowed` and `_only_there` give it."""

    verdicts: "list[tuple[str, Verdict]]"
    unread: list[str]
    open: dict[str, int]
    unfollowed: dict[str, str]
    more: int
    aside: dict[str, str]
    elsewhere: list[dict[str, Any]]

    @property
    def bad(self) -> "list[Verdict]":
        return [one for _, one in self.verdicts if one.outcome != "equal"]

    @property
    def equal(self) -> bool:
        return not (self.bad or self.unread or self.unfollowed or self.more or forbids_synced(self.open))


def _tell_json(compared: _Compared) -> None:
    from agent.cli.output import print_json

    print_json(
        {
            "schema": 1,
            "equal": compared.equal,
            "open": compared.open,
            "streams": [
                {"destination": name, **one.stream._asdict(), **_fields(one)} for name, one in compared.verdicts
            ],
            "unread": compared.unread,
            "unfollowed": [{"path": path, "why": why} for path, why in compared.unfollowed.items()],
            "unfollowed_more": compared.more,
            "aside": [{"path": path, "why": why} for path, why in compared.aside.items()],
            "only_there": compared.elsewhere,
        }
    )


def _tell(compared: _Compared) -> None:
    from agent.cli.output import clean, console, make_table, plural

    named = describe_open(compared.open) + describe_unfollowed(list(compared.unfollowed.items()), compared.more)
    named += describe_unfollowed(list(compared.aside.items()))
    for why in [*compared.unread, *(what for what, _ in named)]:
        click.echo(f"! {clean(why)}")
    bad = compared.bad
    if bad:
        columns = [("session", "left"), ("transcript", "fold"), ("here", "right"), ("there", "right"), ("", "left")]
        table = [(*_names(one.stream), f"{one.entries:,}", f"{one.on_server:,}", _outcome(one)) for one in bad]
        console().print(make_table(columns, table))
    for row in compared.elsewhere:
        click.echo(f"only on {clean(row['destination'])}: {clean(row['session'])}  {clean(row['title'], 60)}".rstrip())
    all_of_them = [one for _, one in compared.verdicts]
    entries = sum(one.entries for one in all_of_them)
    proof = ", ".join(sorted({one.proof for one in all_of_them})) or "nothing to compare"
    older = sum(max(0, one.generations - 1) for one in all_of_them)
    kept = f"; {plural(older, 'older generation')} kept there" if older else ""
    equal = f"{len(all_of_them) - len(bad):,} of {len(all_of_them):,} transcripts equal"
    click.echo(f"{equal}, {entries:,} entries ({proof}){kept}")


def _choose(lines: list[StreamLine], session: tuple[str, ...], settings: "Settings", paths: Paths) -> list[StreamLine]:
    """Raises UsageError when somebody names what is not here."""
    if not session:
        return lines
    from agent.cli.sessions.choosing import choose_session

    chosen: set[str] = set()
    for word in session:
        found = {line.session_id for line in lines if line.session_id.startswith(word)}
        chosen |= found or {choose_session(word, settings, paths, environment()).session_id}
    return [line for line in lines if line.session_id in chosen]


def _find_unfollowed(settings: "Settings") -> tuple[dict[str, str], int, dict[str, str]]:
    """What may be a transcript, and was compared with nothing since it is not followed; and what is none and is named
    all the same."""
    from agent.delivery.discovery.roots import find_roots
    from agent.delivery.inventory.survey import find_files

    found = find_files(find_roots(settings, environment()))
    return found.unfollowed, found.unfollowed_more, found.aside


def _outcome(one: "Verdict") -> str:
    return f"{one.outcome} from line {one.differs_at:,} on" if one.differs_at else str(one.outcome)


def _only_there(destination: "Destination", lines: list[StreamLine], paths: Paths) -> "list[dict[str, Any]]":
    """Sessions that the server has and this machine has not; none where it has no list of them."""
    from agent.sessions.transfer.fetching import list_sessions
    from agent.system.remote import Remote
    from agent.system.tokens.sources import open_tokens

    here = {line.session_id for line in lines if line.state != "gone"}
    tokens = open_tokens([destination], paths.instance, environment())
    remote = Remote(destination.url, lambda: tokens.token(destination.name))
    try:
        rows = [row for row in list_sessions(remote, None) if row.session_id not in here]
    except UsageError as exc:
        click.echo(f"! {destination.name}: {exc.message}", err=True)
        return []
    finally:
        remote.close()
    fields = ("entries", "changed_at_s")
    return [
        {"destination": destination.name, "session": row.session_id, "title": row.meta.title}
        | {name: getattr(row, name) for name in fields}
        for row in rows
    ]


def _names(stream: StreamId) -> tuple[str, str]:
    from agent.cli.output import clean

    return clean(stream.session_id), clean(stream.subpath) or "main"


def _fields(one: "Verdict") -> "dict[str, Any]":
    names = ("outcome", "entries", "on_server", "proof", "generations", "differs_at")
    return {name: getattr(one, name) for name in names}


def _verify_at(
    destination: "Destination", lines: list[StreamLine], paths: Paths, redactor: "Redactor"
) -> tuple[list["Verdict"], list[str]]:
    from agent.delivery.push.verifier import Subject, verify_streams
    from agent.system.remote import Remote
    from agent.system.tokens.sources import open_tokens

    tokens = open_tokens([destination], paths.instance, environment())
    remote = Remote(destination.url, lambda: tokens.token(destination.name))
    stones: dict[StreamId, dict[int, int]] = {}
    known: dict[StreamId, Cursor] = {}
    with remembered(paths) as store:
        for row in store.tracks() if store else ():
            if row.destination == destination.name:
                known[row.stream] = row.cursor
        for name, stream, ordinal, entry in store.tombstones() if store else ():
            if name == destination.name and entry.status:
                stones.setdefault(stream, {})[ordinal] = entry.status
    try:
        subjects = [
            Subject(stream, line.path, line.generation, known.get(stream))
            for line in lines
            for stream in [StreamId(line.session_id, line.subpath)]
        ]
        return verify_streams(remote, subjects, stones, redactor)
    finally:
        remote.close()
