"""What `login` takes over from `agnes`, a tool that some had before: which sessions are private, and what it was still
to send. Its own files are only read."""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import click

from agent.cli.config import environment, load_settings
from agent.core import agnes
from agent.core.privacy.rules import Rule, parse_rule
from agent.errors import DiskError, PrivacyListError
from agent.system.files.reading import read_text
from agent.system.paths import Paths
from agent.system.state.privacy_list import PrivacyList
from agent.system.state.spool import Spool

_SHOWN = 3


class Left(NamedTuple):
    """What it left: session id → the file that says that it is private; path of a transcript → session id, of what it
    was still to send."""

    private: Mapping[str, Path]
    queued: Mapping[str, str]


def take_over(paths: Paths, *, may_ask: bool) -> None:
    """Makes private here what is private there; on a terminal somebody may say no. What it was still to send becomes
    hints of ours, which a full look would find as well. Raises DiskError when one of its files can't be read: nobody
    knows then what is private."""
    left = find_left(environment(), os.path.expanduser("~"), _projects(paths))
    rules, unfit = _rules(left.private)
    known = PrivacyList(paths.private_list, load_settings(paths).privacy)
    fresh = [rule for rule in rules if rule not in known.find(rules)]
    if fresh:
        _make_private(paths, known, fresh, left, may_ask=may_ask)
    for session in unfit[:_SHOWN]:
        click.echo(f"! agnes keeps {session!a} private, which is no session id", err=True)
    hints = {path: session for path, session in left.queued.items() if session not in left.private}
    there = {path: session for path, session in hints.items() if os.path.lexists(path)}
    if there:
        paths.spool.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        Spool(str(paths.spool)).requeue(there)
        click.echo(f"agnes had {_plural(len(there), 'transcript')} still to send: looked at first", err=True)


def find_left(given: Mapping[str, str], home: str, projects: Iterable[str]) -> Left:
    """What lies in the workspaces of this user. Raises DiskError."""
    private: dict[str, Path] = {}
    queued: dict[str, str] = {}
    for workspace in dict.fromkeys(_workspaces(given, home, projects)):
        folder = Path(workspace, agnes.FOLDER)
        for name, parse in ((agnes.PRIVATE, agnes.parse_private), (agnes.SKIPPED, agnes.parse_skipped)):
            for session in parse(_read(folder / name)):
                private.setdefault(session, folder / name)
        for pattern in agnes.QUEUES:
            for found in sorted(glob.glob(os.path.join(glob.escape(str(folder)), pattern))):
                queued |= agnes.parse_queue(_read(Path(found)))
    return Left(private, queued)


def _workspaces(given: Mapping[str, str], home: str, projects: Iterable[str]) -> Iterator[str]:
    """Where its files may lie: the workspace of its settings; else, as earlier versions had it, any folder in which a
    session began, the home, and the folder that we are in."""
    settings = given.get("AGNES_CONFIG_DIR") or os.path.join(home, ".config", "agnes")
    if root := agnes.parse_workspace(_read(Path(settings, agnes.SETTINGS))):
        yield os.path.normpath(os.path.join(home, root.replace("~", home, 1) if root.startswith("~") else root))
    yield from (os.path.normpath(one) for one in projects if os.path.isabs(one))
    yield home
    yield os.getcwd()


def _read(path: Path) -> str:
    if not os.path.lexists(path):
        return ""
    if not path.is_file():
        raise DiskError(f"{path} is no file, so nobody knows what agnes keeps private", hint=f"ls -l {path}")
    return read_text(path) or ""


def _projects(paths: Paths) -> list[str]:
    """The folders in which sessions of Claude Code began, as a look at a few of each project tells; it knows no other
    coding agent."""
    from agent.delivery.discovery.roots import find_roots
    from agent.sessions.transfer.places import read_folders

    roots = [one for one in find_roots(load_settings(paths), environment()) if one.provider.name == "claude"]
    return [project for root in roots for project in read_folders(root, "").values()]


def _rules(sessions: Iterable[str]) -> tuple[list[Rule], list[str]]:
    """The rule for each session, and what can't be one."""
    rules, unfit = [], []
    for session in sessions:
        try:
            rules.append(parse_rule("session", session))
        except PrivacyListError:
            unfit.append(session)
    return rules, unfit


def _make_private(paths: Paths, known: PrivacyList, fresh: list[Rule], left: Left, *, may_ask: bool) -> None:
    from agent.cli.private import had_list, tell_agent

    files = dict.fromkeys(str(left.private[rule.value]) for rule in fresh)
    some = ", ".join(rule.value for rule in fresh[:_SHOWN]) + (", …" if len(fresh) > _SHOWN else "")
    click.echo(
        f"agnes keeps {_plural(len(fresh), 'session')} private that {known.path} does not name: {some}", err=True
    )
    click.echo(f"  ({', '.join(files)})", err=True)
    if may_ask and not click.confirm("keep them private here too?", default=True, err=True):
        click.echo("not taken over; transcriptd private add --session ID makes one private", err=True)
        return
    known.add(fresh, create=not had_list(paths))
    tell_agent(paths)
    click.echo(f"{known.path}: {_plural(len(fresh), 'rule')} added", err=True)


def _plural(number: int, what: str) -> str:
    from agent.cli.output import plural

    return plural(number, what)
