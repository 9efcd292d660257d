"""What several checks of `doctor` need to know, found out once, by whichever asks first."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from agent.core.settings import Destination, Settings
from agent.errors import AgentError, NotRunning
from agent.system.paths import Paths

if TYPE_CHECKING:
    from agent.core.status import Status
    from agent.core.transcripts.session import Provider

T = TypeVar("T")

_SOCKET_S = 3.0
"""An agent that is well answers in milliseconds."""


class Once(Generic[T]):
    """The value of `find`, or the AgentError that it raised, for all who ask."""

    def __init__(self, find: Callable[[], T]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._found: list[T] = []
        self._error: AgentError | None = None

    def __call__(self) -> T:
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._found:
                try:
                    self._found.append(self._find())
                except AgentError as exc:
                    self._error = exc
                    raise
            return self._found[0]


class Tree(NamedTuple):
    """What lies below a folder of a coding agent. `trouble`: why it, or a part of it, can't be read; `denied`: the
    system forbids it. `named`: the settings name the folder. `switched_off`: they say not to follow the agent.
    `documents`: sessions of older versions that are left alone. `unreadable`: why parts of it can't be read.
    `unfollowed`: files that may be transcripts and are not followed, each with the reason, and how many more; `aside`:
    links that lead out and the like that are none."""

    provider: str
    title: str
    path: str
    there: bool
    transcripts: int = 0
    sessions: int = 0
    folders: int = 0
    trouble: str = ""
    denied: bool = False
    named: bool = False
    switched_off: bool = False
    documents: int = 0
    unreadable: Sequence[str] = ()
    unfollowed: Mapping[str, str] = {}
    unfollowed_more: int = 0
    aside: Mapping[str, str] = {}


class Scene:
    """One look at this machine. All members are cheap until they are asked for."""

    def __init__(self, paths: Paths, environment: Mapping[str, str], now_s: Callable[[], float] = time.time) -> None:
        self.paths = paths
        self.environment = environment
        self.now_s = now_s
        self.settings = Once(self._settings)
        self.hello = Once(self._hello)
        self.status = Once(self._status)
        self.trees = Once(self._trees)

    def settings_or_defaults(self) -> Settings:
        """For checks that have something to say either way; the check of the settings tells what is wrong with them."""
        try:
            return self.settings()
        except AgentError:
            return Settings()

    def destinations(self) -> tuple[Destination, ...]:
        return self.settings_or_defaults().destinations

    def is_running(self) -> bool:
        try:
            self.hello()
        except AgentError:
            return False
        return True

    def status_or_none(self) -> "Status | None":
        """None also where the settings can't be read, without which there is none to tell."""
        try:
            return self.status()
        except AgentError:
            return None

    def _settings(self) -> Settings:
        from agent.cli.config import load_settings

        return load_settings(self.paths)

    def _hello(self) -> dict[str, Any]:
        from agent.system.control_socket import ControlClient

        with ControlClient(self.paths.socket, timeout_s=_SOCKET_S) as client:
            found = client.call("agent.hello")
        if not isinstance(found, dict):
            raise NotRunning("what answers at the control socket is no transcriptd")
        return found

    def _status(self) -> "Status":
        from agent.cli.status import read_status

        return read_status(self.paths)

    def _trees(self) -> list[Tree]:
        from agent.providers import PROVIDERS, watched_folders

        watch, home = self.settings_or_defaults().watch, os.path.expanduser("~")
        found = []
        folders = {
            os.path.realpath(os.path.expanduser(folder)): provider
            for provider, folder in watched_folders(watch, self.environment, home)
        }
        for folder, provider in folders.items():
            tree = look_at_tree(provider, folder, folders)
            found.append(tree._replace(named=bool(watch.folders(provider.name))))
        off = [one for name, one in PROVIDERS.items() if name not in watch.agents]
        return found + [Tree(one.name, one.title, "", there=False, switched_off=True) for one in off]


def look_at_tree(provider: "Provider", root: str, watched: Mapping[str, "Provider"]) -> Tree:
    """Counts what is there; a part that can't be read is told and left out. `watched`: all folders that are."""
    from agent.core.transcripts.session import is_side_file
    from agent.delivery.discovery.scanner import Root
    from agent.delivery.inventory.survey import find_files
    from agent.errors import DiskError
    from agent.system.files.reading import is_missing, list_folder

    if is_missing(root):
        return Tree(provider.name, provider.title, root, there=False)
    folders = documents = 0
    trouble, denied, waiting = "", False, [root]
    seen: set[tuple[int, int]] = set()  # a link may lead back to where it stands
    while waiting:
        folder = waiting.pop()
        folders += 1
        try:
            found = list_folder(folder)
        except DiskError as exc:
            trouble = trouble or exc.message
            denied = denied or isinstance(exc.__cause__, PermissionError)
            continue
        fresh = [one for one in found if one.is_folder and (one.device, one.inode) not in seen]
        seen.update((one.device, one.inode) for one in fresh)
        waiting += [one.path for one in fresh]
        below = ["/".join(os.path.relpath(one.path, root).split(os.sep)) for one in found if one.name.endswith(".json")]
        documents += sum(any(fnmatchcase(one, pattern) for pattern in provider.documents) for one in below)
    there = find_files([Root(provider, root)], [Root(other, folder) for folder, other in watched.items()])
    transcripts = sum(not is_side_file(one.stream.subpath) for files in there.files.values() for one in files)
    return Tree(
        provider.name,
        provider.title,
        root,
        True,
        transcripts,
        len(there.files),
        folders,
        trouble,
        denied,
        documents=documents,
        unreadable=tuple(there.unreadable.values()),
        unfollowed=there.unfollowed,
        unfollowed_more=there.unfollowed_more,
        aside=there.aside,
    )
