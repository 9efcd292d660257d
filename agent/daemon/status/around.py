"""What is around the engine and belongs in `status`: folders that are watched or missing, threads that stand still,
what waits in memory for a disk."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.core.settings import Settings
from agent.core.status import Open, describe_lost_home, describe_unfollowed
from agent.daemon.status.report import News, Surroundings
from agent.daemon.status.vitals import describe_stuck
from agent.delivery.base.heartbeats import Stuck
from agent.delivery.discovery.roots import find_lost_homes
from agent.delivery.discovery.scanner import Root, Scanner
from agent.delivery.discovery.spooling import Spooling
from agent.errors import DiskError
from agent.providers import PROVIDERS
from agent.sessions.live.runs import LiveRuns
from agent.system.files.reading import read_text
from agent.system.files.watcher import Watcher
from agent.system.state.state_db import StateDb
from agent.system.tokens import TokenSource


class Around(NamedTuple):
    """`roots`: in the order of the settings. `find_stuck`: threads that give no sign of life and should."""

    settings: Settings
    environment: Mapping[str, str]
    since_s: float
    now_s: Callable[[], float]
    roots: Sequence[Root]
    scanner: Scanner
    watcher: Watcher
    store: StateDb
    spooling: Spooling
    live: LiveRuns
    tokens: TokenSource
    find_stuck: Callable[[], list[Stuck]]

    def look(self, news: News) -> Surroundings:
        """Any thread may."""
        watcher = self.watcher
        watched = watcher.watched
        return Surroundings(
            os.getpid(),
            self.since_s,
            tuple(root.path for root in self.roots if root.path in watched),
            tuple(watcher.refused),
            len(self.scanner.unreadable),
            (*news.problems, *self._problems()),
            self.now_s(),
            _find_retention_s(self.environment),
            {one.name: self.tokens.source(one.name) for one in self.settings.destinations},
            news.restarts,
            {root.path: root.provider.title for root in self.roots if root.path not in watcher.missing},
            lost_rules=news.lost,
            open={Open.UNFOLLOWED: len(self.scanner.unfollowed) + self.scanner.unfollowed_more},
        )

    def _problems(self) -> Iterator[tuple[str, str]]:
        """Each with the next command to type, if one helps."""
        yield from ((why, "") for why in list(self.scanner.unreadable.values()))
        yield from ((f"{root}: {why}", "") for root, why in list(self.watcher.refused.items()))
        yield from describe_unfollowed(list(self.scanner.unfollowed.items()), self.scanner.unfollowed_more)
        yield from describe_unfollowed(list(self.scanner.aside.items()))
        if self.store.note:
            yield self.store.note, self.store.hint
        yield from self.spooling.problems()
        if self.live.trouble:
            yield self.live.trouble, ""
        yield from ((describe_stuck(one), "transcriptd logs") for one in self.find_stuck())
        lost = find_lost_homes(self.settings, self.environment)
        yield from (describe_lost_home(*one) for one in lost)
        if not lost:
            yield from ((f"{root} is not there yet", "") for root in self._missed_roots())

    def _missed_roots(self) -> list[str]:
        """Folders that should be there: those that the settings name, else the first where there is none at all."""
        missing, watch = self.watcher.missing, self.settings.watch
        named = [one.path for one in self.roots if one.path in missing and watch.folders(one.provider.name)]
        is_none_there = all(one.path in missing for one in self.roots)
        return named or [one.path for one in self.roots[:1] if is_none_there]


def _find_retention_s(environment: Mapping[str, str]) -> dict[str, float]:
    """Provider → seconds after its last change until the coding agent deletes a transcript."""
    found = {}
    for name, provider in PROVIDERS.items():
        path = provider.settings_file(environment, os.path.expanduser("~"))
        try:
            text = read_text(Path(path)) if path else None
        except DiskError:
            text = None  # its default is believed; a file that can't be read is no news to those who own it
        days = provider.parse_retention_days(text)
        if days is not None:
            found[name] = days * 86_400
    return found
