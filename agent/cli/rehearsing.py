"""`transcriptd push --dry-run`: what would leave, what would not and why, and every byte of it. Nothing is sent."""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from agent.cli.config import environment, load_settings, remembered
from agent.core.delivery.lifecycle import State
from agent.core.settings import Destination, Settings
from agent.delivery.inventory.rehearsal import MARK, Plan, Rehearsal, Remembered, plan_sessions
from agent.errors import UsageError
from agent.system.paths import Paths

if TYPE_CHECKING:
    from agent.core.privacy.rules import Grounds, PrivateRules
    from agent.core.redaction.redactor import Redactor
    from agent.delivery.privacy.permits import Guard
    from agent.delivery.push.asking import Sender
    from agent.delivery.push.pusher import Pusher
    from agent.system.state.state_db import StateDb, TrackRow

_SHOWN_WITHHELD = 20
"""Rows for people of what stays here; scripts get all."""

_HIGHLIGHT, _PLAIN = b"\x1b[7m", b"\x1b[27m"
"""Reverse video on and off."""


class Preview(NamedTuple):
    """All that is looked at before anything leaves."""

    settings: Settings
    known: Remembered
    plans: list[tuple[Destination, list[Plan]]]
    guard: "Guard"
    unreadable: int
    unfollowed: int


def prepare_preview(paths: Paths, beginnings: Sequence[str] = ()) -> Preview:
    """Looks at everything on this disk, or at the sessions whose ids begin so. Makes and sends nothing."""
    from agent.delivery.discovery.roots import find_roots
    from agent.delivery.inventory.survey import followed_files, survey_sessions, transcripts_of
    from agent.delivery.privacy.kept_sharing import narrowed
    from agent.delivery.privacy.permits import Guard
    from agent.delivery.privacy.rulebook import FixedRules
    from agent.system.files import reading as files
    from agent.system.git import GitRemotes

    settings, _, _ = narrowed(paths.known_sharing, load_settings(paths))
    known, had_list = read_remembered(paths)
    rules = read_rules(paths, settings, had_list=had_list)
    git = GitRemotes(environment(), os.path.expanduser("~"))
    roots, followed = find_roots(settings, environment()), lambda: followed_files(known.tracks.values())
    found = survey_sessions(roots, known.facts, rules, git, followed, grounds=known.grounds)
    guard = Guard(FixedRules(rules, git), files)
    guard.take_in(guard.rules(), transcripts_of({one.session_id: one.files for one in found.sessions}))
    sessions = [one for one in found.sessions if not beginnings or one.session_id.startswith(tuple(beginnings))]
    if beginnings and not sessions:
        raise UsageError(f"no session here begins with {beginnings[0]!a}", hint="transcriptd push --dry-run")
    destinations = [_with_home(one) for one in settings.destinations] or [Destination("")]
    plans = [(one, plan_sessions(settings, one, sessions, known)) for one in destinations]
    return Preview(settings, known, plans, guard, len(found.unreadable), found.unfollowed)


def read_rules(paths: Paths, settings: Settings, *, had_list: bool) -> "PrivateRules":
    from agent.delivery.privacy.losses import hold_lost
    from agent.delivery.privacy.rulebook import close_missing
    from agent.system.state.privacy_list import PrivacyList

    private_list = PrivacyList(paths.private_list, settings.privacy)
    hold_lost(private_list, paths)
    return close_missing(private_list, private_list.read()) if had_list else private_list.read()


def read_remembered(paths: Paths) -> tuple[Remembered, bool]:
    """What the agent remembers, and whether it has seen a private list: one that is missing since is gone."""
    from agent.delivery.privacy.rulebook import HAS_LIST
    from agent.delivery.state.tasks import TrackKey

    with remembered(paths) as store:
        if store is None:
            return Remembered(), False
        tracks = {TrackKey(row.destination, *row.stream): row for row in store.tracks()}
        began = store.settled("began_at_s")
        facts, metas, grounds = dict(store.sessions()), frozenset(store.metas()), read_grounds(store, tracks.values())
        known = Remembered(tracks, facts, metas, float(began) if began else None, grounds)
        return known, store.settled(HAS_LIST) != ""


def read_grounds(store: "StateDb", rows: "Iterable[TrackRow]") -> dict[str, "Grounds"]:
    """Session → for what it is or was private."""
    from agent.core.privacy.rules import NO_GROUNDS

    found = dict(store.grounds())
    for row in rows:
        if row.state == State.PRIVATE and row.reason:
            session = row.stream.session_id
            found[session] = found.get(session, NO_GROUNDS)._replace(why=row.reason)
    return found


def _with_home(one: Destination) -> Destination:
    from dataclasses import replace

    return replace(one, projects=tuple(map(os.path.expanduser, one.projects)))


# ---- the list ----


def list_leaving(paths: Paths, beginnings: Sequence[str], as_json: bool) -> None:
    from agent.cli.output import clean, console, make_table, plural, print_json, size_words

    preview = prepare_preview(paths, beginnings)
    rows = list(_rows(preview))
    stays = [
        {"session": plan.session.session_id, "project": plan.session.project, "why": plan.why_not, "destination": name}
        for name, plan in ((one.name, plan) for one, plans in preview.plans for plan in plans)
        if plan.why_not
    ]
    total = sum(row["bytes"] for row in rows)
    if as_json:
        print_json({"schema": 1, "transcripts": rows, "bytes": total, "withheld": stays})
        return
    several = len(preview.plans) > 1
    if rows:
        columns = [("session", "left"), ("transcript", "fold"), ("to send", "right"), ("", "left")]
        table = [
            [clean(row["session"]), clean(row["subpath"]) or "main", size_words(row["bytes"]), _how(row, several)]
            for row in rows
        ]
        console().print(make_table(columns, table))
    if stays:
        columns = [("stays here", "left"), ("project", "left"), ("why", "fold")]
        table = [[clean(row["session"]), _short(row["project"]), clean(row["why"])] for row in stays[:_SHOWN_WITHHELD]]
        console().print(make_table(columns, table))
        if len(stays) > _SHOWN_WITHHELD:
            click.echo(f"{plural(len(stays) - _SHOWN_WITHHELD, 'more session')} stay here: --json")
    if preview.settings.privacy.hold_s:
        click.echo(f"a new session is first sent {preview.settings.privacy.hold_s:g} s after it was seen")
    if preview.unreadable:
        click.echo(f"! {plural(preview.unreadable, 'file or folder')} can't be read: transcriptd status", err=True)
    if preview.unfollowed:
        what = "1 file that may be a transcript is" if preview.unfollowed == 1 else f"{preview.unfollowed:,} files are"
        click.echo(f"! {what} not followed: transcriptd doctor", err=True)
    click.echo(f"{plural(len(rows), 'transcript')}, {size_words(total)} to send; nothing was sent")


def _rows(preview: Preview) -> Iterator[dict[str, Any]]:
    found = [
        (stream.file.path, one.name, stream)
        for one, plans in preview.plans
        for plan in plans
        for stream in plan.streams
    ]
    for path, name, stream in sorted(found, key=lambda row: row[:2]):
        yield {
            "session": stream.file.stream.session_id,
            "subpath": stream.file.stream.subpath,
            "path": path,
            "bytes": stream.left,
            "new": stream.cursor.offset == 0,
            "destination": name,
        }


def _how(row: dict[str, Any], several: bool) -> str:
    from agent.cli.output import clean

    how = "new" if row["new"] else "grown"
    return f"{how}, to {clean(row['destination'], 16)}" if several else how


def _short(project: str) -> str:
    from agent.cli.output import clean

    return clean(project.replace("\\", "/").rstrip("/").rpartition("/")[2], 24)


# ---- the bytes ----


def show_leaving(paths: Paths, beginnings: Sequence[str]) -> None:
    """Every byte on stdout; what it belongs to, and what was replaced, on stderr."""
    from agent.cli.output import clean, plural, size_words
    from agent.delivery.privacy.redacting import open_redactor

    preview = prepare_preview(paths, beginnings)
    redactor = open_redactor(load_settings(paths).privacy, paths)
    make_pusher = partial(_make_pusher, preview.guard, redactor)
    out = _Output()
    sent = marks = 0
    for one, plans in preview.plans:
        rehearsal = Rehearsal(one, make_pusher, preview.known, out, host=platform.node())
        for plan in plans:
            name = f"{clean(plan.session.session_id)}" + (f" to {clean(one.name)}" if len(preview.plans) > 1 else "")
            if plan.why_not:
                click.echo(f"# {name}: stays here: {clean(plan.why_not)}", err=True)
            for leaving in rehearsal.run(plan):
                out.end()
                said = [size_words(leaving.bytes)]
                said += [f"{leaving.entries:,} entr{'y' if leaving.entries == 1 else 'ies'}"] if leaving.entries else []
                said += [f"{plural(leaving.marks, 'secret')} replaced"] if leaving.marks else []
                said += [clean(leaving.trouble)] if leaving.trouble else []
                click.echo(f"# {name}, {clean(leaving.what)}: {', '.join(said)}", err=True)
                sent, marks = sent + leaving.bytes, marks + leaving.marks
    replaced = f", {plural(marks, 'secret')} replaced" if marks else ""
    click.echo(f"# {size_words(sent)} would leave{replaced}; nothing was sent", err=True)


def _make_pusher(guard: "Guard", redactor: "Redactor", senders: Mapping[str, "Sender"]) -> "Pusher":
    """As the daemon's: whatever changes bytes there has to be handed in here, too."""
    from agent.delivery.push.pusher import Pusher
    from agent.providers import PROVIDERS

    return Pusher(senders, PROVIDERS, time.time, guard=guard, redactor=redactor)


class _Output:
    """Bytes to stdout as they are. On a terminal what stands for a secret is highlighted, and what a terminal would
    obey is written out."""

    def __init__(self) -> None:
        self._write: Callable[[bytes], object] = sys.stdout.buffer.write
        self._for_people = self._is_terminal()
        self._rest = b""

    @staticmethod
    def _is_terminal() -> bool:
        return sys.stdout.isatty()

    def __call__(self, data: bytes) -> None:
        if not self._for_people:
            self._write(data)
            return
        lines, newline, self._rest = (self._rest + data).rpartition(b"\n")
        self._write(_for_terminal(lines + newline))

    def end(self) -> None:
        if self._rest:
            self._write(_for_terminal(self._rest) + b"\n")
        self._rest = b""
        sys.stdout.flush()


def _for_terminal(data: bytes) -> bytes:
    text = data.decode("utf-8", "backslashreplace")
    shown = "".join(ch if ch.isprintable() or ch == "\n" else ch.encode("unicode_escape").decode() for ch in text)
    return MARK.sub(lambda found: _HIGHLIGHT + found[0] + _PLAIN, shown.encode())
