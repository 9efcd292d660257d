"""What the commands of `sessions` stand before: the index as new as it gets, what was set by hand, what is private."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from agent.cli.sessions.known import find_synced
from agent.core.settings import Settings
from agent.errors import AgentError, NotRunning
from agent.sessions.search.session_rows import Look
from agent.system.control_socket import ControlClient
from agent.system.paths import Paths
from agent.system.state.annotations import Annotations
from agent.system.state.index_db import IndexDb, open_index_readonly

if TYPE_CHECKING:
    from agent.sessions.index.indexing import Indexer

_PATIENCE_S = 1.0
"""Who waits so long is told what for."""


@contextmanager
def opened_look(settings: Settings, paths: Paths, environment: Mapping[str, str]) -> Iterator[Look]:
    """Without a daemon the index is brought up to date first. Where there is none, what the agent knows has to do."""
    index = open_shelf(settings, paths, environment)
    annotations = Annotations(paths.annotations)
    try:
        kept = annotations.read()
        if annotations.note:
            print(f"! {annotations.note}", file=sys.stderr)  # noqa: T201 - a note beside the answer
        synced = partial(find_synced, paths)
        yield Look(index, kept, synced, find_privacy(settings, paths, environment), time.time())
    finally:
        if index is not None:
            index.close()


def open_shelf(settings: Settings, paths: Paths, environment: Mapping[str, str]) -> IndexDb | None:
    if not settings.index.enabled:
        return None
    if not is_running(paths):
        refresh(settings, paths, environment)
    return open_index_readonly(paths.index)


def is_running(paths: Paths) -> bool:
    try:
        with ControlClient(paths.socket, timeout_s=2.0):
            return True
    except NotRunning:
        return False


def refresh(
    settings: Settings, paths: Paths, environment: Mapping[str, str], *, force: tuple[str, ...] = ()
) -> "Indexer | None":
    """By this process; None when another one is at it. A disk that takes no index is no reason to show nothing."""
    from agent.delivery.discovery.roots import find_roots
    from agent.sessions.index.index_upkeep import bring_up_to_date

    try:
        roots = find_roots(settings, environment)
        return bring_up_to_date(paths, roots, force=force, progress=Telling("indexing"))
    except AgentError as exc:
        print(f"! the index of sessions is not up to date: {exc.message}", file=sys.stderr)  # noqa: T201 - as above
        return None


class Telling:
    """Progress in bytes, on stderr, once it takes long."""

    def __init__(self, what: str, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._monotonic_s = monotonic_s
        self._next_s = monotonic_s() + _PATIENCE_S

    def __call__(self, done: int, total: int) -> None:
        from agent.cli.output import size_words

        if self._monotonic_s() < self._next_s or done >= total:
            return
        self._next_s = self._monotonic_s() + _PATIENCE_S
        words = f"{self._what}: {size_words(done)} of {size_words(total)}"
        ends = "\r" if sys.stderr.isatty() else "\n"
        print(words, end=ends, file=sys.stderr, flush=True)  # noqa: T201 - beside the answer


def find_privacy(settings: Settings, paths: Paths, environment: Mapping[str, str]) -> Callable[[str, str], bool]:
    """Whether a session of that project stays on this machine, by the rules as they stand; looked at when asked."""
    import os

    if settings.privacy.share == "all" and not os.path.lexists(paths.private_list):
        return lambda _session, _project: False

    from agent.system.state.privacy_list import PrivacyList

    rules = PrivacyList(paths.private_list, settings.privacy).read()
    if not (rules.sessions or rules.projects or rules.remotes or rules.unreadable) and rules.share == "all":
        return lambda _session, _project: False

    from agent.delivery.privacy.subjects import subject_of
    from agent.system.git import GitRemotes

    git = GitRemotes(environment, os.path.expanduser("~"))
    return lambda session, project: rules.decide(subject_of(rules, git, session, project)).private
