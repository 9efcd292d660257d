"""What would be shared, shown and asked before anything is sent: by `login`, on a terminal."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from agent.cli.config import change_settings, environment, load_settings
from agent.cli.rehearsing import read_remembered, read_rules
from agent.core.privacy.rules import render_folder
from agent.core.settings import Destination, Privacy, Settings
from agent.core.settings_text import set_section
from agent.errors import UsageError
from agent.system.paths import Paths

if TYPE_CHECKING:
    from rich.table import Table

    from agent.delivery.inventory.survey import SessionHere

_SHOWN = 40
"""Projects in the table; the rest is summed up."""

_LISTED = "listed"


@dataclass(slots=True)
class ProjectHere:
    """The sessions that began in one folder, empty where that is not known. `private`: how many of them stay here
    whatever is answered. Of the others: bytes, and the wall time of the oldest. `agents`: whose sessions they are."""

    project: str
    sessions: int = 0
    private: int = 0
    bytes: int = 0
    oldest_s: float = float("inf")
    agents: tuple[str, ...] = ()

    @property
    def shared(self) -> int:
        return self.sessions - self.private


def ask_consent(paths: Paths, destination: Destination) -> Settings:
    """Shows what lies here, asks what of it may go there, and writes the answers into the settings; gives those that
    are in force then. Nothing is asked for a server that has something already. Without a terminal nothing is asked or
    written, and it is said what holds. Nothing is changed when somebody gives up."""
    settings = load_settings(paths)
    known, _ = read_remembered(paths)
    if any(key.destination == destination.name and row.cursor.offset for key, row in known.tracks.items()):
        return settings
    if not is_terminal():
        click.echo(f"shared: {_words(settings)}; to look first: transcriptd push --dry-run", err=True)
        return settings
    projects = find_projects(paths, settings)
    _show(projects)
    share, shared_projects = _ask_share(settings.privacy, [one.project for one in projects[:_SHOWN]])
    chosen = [one for one in projects if share != _LISTED or _is_chosen(one.project, shared_projects)]
    backlog = _ask_history(chosen, default=settings.push.backlog)
    settings = change_settings(paths, lambda text: _write_answers(text, share, shared_projects, backlog=backlog))
    click.echo(f"shared with {destination.url}: {_words(settings)}")
    click.echo("to see every byte before it leaves: transcriptd push --dry-run --show")
    click.echo("to keep more here: transcriptd private add")
    return settings


def is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def find_projects(paths: Paths, settings: Settings) -> list[ProjectHere]:
    """What lies on this machine, project by project, the one with the most to share first."""
    from agent.delivery.discovery.roots import find_roots
    from agent.delivery.inventory.survey import survey_sessions
    from agent.system.git import GitRemotes

    known, had_list = read_remembered(paths)
    # What the answers are going to decide decides nothing yet.
    rules = read_rules(paths, settings, had_list=had_list)._replace(share="all").sealed()
    git = GitRemotes(environment(), os.path.expanduser("~"))
    roots = find_roots(settings, environment())
    return group_sessions(survey_sessions(roots, known.facts, rules, git, grounds=known.grounds).sessions)


def group_sessions(sessions: Sequence["SessionHere"]) -> list[ProjectHere]:
    from agent.providers import PROVIDERS

    found: dict[str, ProjectHere] = {}
    for one in sessions:
        row = found.setdefault(one.project, ProjectHere(one.project))
        row.sessions += 1
        row.agents = tuple(sorted({*row.agents, *(PROVIDERS[file.provider].title for file in one.files)}))
        if one.verdict.private:
            row.private += 1
            continue
        row.bytes += one.bytes
        row.oldest_s = min(row.oldest_s, one.oldest_s)
    return sorted(found.values(), key=lambda row: (-row.bytes, row.project))


# ---- what is shown ----


def _show(projects: Sequence[ProjectHere]) -> None:
    from agent.cli.output import console, plural, size_words

    if not projects:
        click.echo("there are no sessions on this machine yet")
        return
    click.echo("sessions of coding agents on this machine:")
    console().print(render_projects(projects, time.time()))
    if len(projects) > _SHOWN:
        rest = projects[_SHOWN:]
        sessions = sum(one.sessions for one in rest)
        size = size_words(sum(one.bytes for one in rest))
        click.echo(f"and {plural(len(rest), 'more project')}: {plural(sessions, 'session')}, {size}")
    private = sum(one.private for one in projects)
    click.echo(_sum(projects) + (f"; {private:,} private" if private else ""))


def render_projects(projects: Sequence[ProjectHere], now_s: float) -> "Table":
    from agent.cli.output import age_words, clean, make_table, size_words

    columns = [("", "right"), ("project", "fold"), ("sessions", "right"), ("size", "right"), ("oldest", "right")]
    columns += [("stay here", "right")]
    with_agents = len({name for one in projects for name in one.agents}) > 1
    columns += [("agent", "fold")] if with_agents else []
    table = [
        (
            f"{number}",
            clean(one.project) or "(not known)",
            f"{one.shared:,}" if one.shared else "",
            size_words(one.bytes) if one.shared else "",
            age_words(one.oldest_s, now_s) if one.shared else "",
            f"{one.private:,} private" if one.private else "",
            *([", ".join(one.agents)] if with_agents else []),
        )
        for number, one in enumerate(projects[:_SHOWN], 1)
    ]
    return make_table(columns, table)


def _sum(projects: Sequence[ProjectHere]) -> str:
    from agent.cli.output import plural, size_words

    count = sum(one.shared for one in projects)
    return f"{plural(count, 'session')}, {size_words(sum(one.bytes for one in projects))}"


def _words(settings: Settings) -> str:
    privacy = settings.privacy
    what = "all projects"
    if privacy.share == _LISTED:
        what = "only " + (", ".join(privacy.shared_projects) or "projects that are listed, and none is")
    when = "history too" if settings.push.backlog else "from the agent's first start on"
    return f"{what}, {when}"


# ---- what is asked ----


def _ask_share(now: Privacy, projects: list[str]) -> tuple[str, tuple[str, ...]]:
    share = click.prompt(
        "share all projects, also those to come, or only those you list?",
        type=click.Choice(["all", _LISTED]),
        default=now.share,
    )
    if share != _LISTED:
        return share, now.shared_projects
    default = ", ".join(now.shared_projects) or None
    while True:
        text = click.prompt("which? numbers of the table or folders, with commas between", default=default)
        try:
            return share, parse_choice(text, projects)
        except UsageError as exc:
            click.echo(exc.message)


def parse_choice(text: str, projects: Sequence[str]) -> tuple[str, ...]:
    """Patterns for `shared_projects`: of the numbered projects, and of folders as they are written. Raises
    UsageError."""
    found: dict[str, None] = {}
    for word in filter(None, (one.strip() for one in text.split(","))):
        if word.isascii() and word.isdigit():
            if not 1 <= int(word) <= len(projects):
                raise UsageError(f"{word} is no number of the table, expected 1 to {len(projects)}")
            project = projects[int(word) - 1]
            if not project:
                raise UsageError(f"the folder of {word} is not known, so it can't be listed")
            found[render_folder(project)] = None
        elif word[0] in "/~*" or os.path.isabs(word):
            found[word] = None
        else:
            raise UsageError(f"{word!a} is neither a number nor a folder that begins with / or ~")
    if not found:
        raise UsageError("nothing is named")
    return tuple(found)


def _is_chosen(project: str, patterns: Sequence[str]) -> bool:
    from agent.core.delivery.projects import matches_project

    return matches_project(project, [os.path.expanduser(one) for one in patterns])


def _ask_history(projects: Sequence[ProjectHere], *, default: bool) -> bool:
    if not any(one.shared for one in projects):
        return default
    return click.confirm(f"send also what is there already ({_sum(projects)})?", default=default)


def _write_answers(text: str, share: str, shared_projects: Sequence[str], *, backlog: bool) -> str:
    text = set_section(text, "push", {"backlog": backlog})
    listed = list(shared_projects) or None
    return set_section(text, "privacy", {"share": share, "shared_projects": listed})
