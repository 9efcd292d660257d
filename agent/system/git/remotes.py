"""Which git remotes a folder belongs to.

All checkouts that a folder lies in count, so a submodule or a clone inside another one has the remotes of both. Read
are git's own files: `remote.*`, addresses that stand in `branch.*` or in `.git/remotes` and `.git/branches`, what
`url.*.insteadOf` makes of them; of the repository, the user, the system and the environment, with all files that these
include, whether or not their condition holds; and which hosts the user's configuration of ssh gives other names. Where
git is installed it is asked as well, since it alone knows where its makers put its configuration. Rather one remote too
many: what can't be read can't be told. Not read: remotes that only stand on a command line, and what the environment of
a shell gave that is not ours.
"""

import glob
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar

from agent.core.privacy.rules import normalise_remote
from agent.system.git.asking import ask_git, find_git
from agent.system.git.config import (
    Addresses,
    SshNames,
    Unreadable,
    find_addresses,
    parse_branch_file,
    parse_config,
    parse_given,
    parse_remote_file,
    parse_ssh,
)

_MOST_BYTES = 1 << 20
_MOST_CACHED = 10_000
_MOST_INCLUDES = 16
_MOST_LISTED = 1000
_T = TypeVar("_T")
_Signature = tuple[int, int, int, int] | None

_SYSTEM = (
    "/etc/gitconfig",
    "/usr/local/etc/gitconfig",
    "/opt/homebrew/etc/gitconfig",
    "C:\\Program Files\\Git\\etc\\gitconfig",
)
"""Where git's makers put it; git knows best which one holds."""

_AGAIN_S = 60.0
"""After git failed it is not asked again so soon, unless a file changed."""


class _Told(NamedTuple):
    """`urls` is None where git failed. `seen`: every file that was looked for → what it was like."""

    urls: frozenset[str] | None
    seen: dict[str, _Signature]
    at_s: float


class GitRemotes:
    """The remotes of checkouts, told anew when a file changed. For any thread. `program`: git, looked for in the
    environment's PATH; empty where it is not to be asked."""

    def __init__(self, environment: Mapping[str, str], home: str, program: str | None = None) -> None:
        folder = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
        own = environment.get("GIT_CONFIG_GLOBAL")
        self._global = [own] if own else [os.path.join(home, ".gitconfig"), os.path.join(folder, "git", "config")]
        system = environment.get("GIT_CONFIG_SYSTEM")
        is_without = environment.get("GIT_CONFIG_NOSYSTEM", "").lower() in ("1", "true", "yes", "on")
        self._global += () if is_without else (system,) if system else _SYSTEM
        self._environment = environment
        self._home = home
        self._program = program
        self._cache: dict[str, tuple[_Signature, Any]] = {}
        self._told: dict[str, _Told] = {}
        self._mutex = threading.Lock()

    def of(self, folders: Iterable[str]) -> frozenset[str] | None:
        """All remotes of the checkouts that these folders lie in, normalised; empty without a checkout. None when that
        can't be told of one of them: it is gone, or something can't be read or is no configuration."""
        found: set[str] = set()
        try:
            for folder in folders:
                if not os.path.isdir(folder):
                    return None
                for spelling in {os.path.normpath(folder), os.path.realpath(folder)}:
                    found |= self._around(spelling)
        except (Unreadable, OSError, ValueError):
            return None
        return frozenset(found)

    def _around(self, folder: str) -> set[str]:
        found: set[str] = set()
        while True:
            for place in (os.path.join(folder, ".git"), folder):
                if (repository := _repository(place)) is not None:
                    found |= self._remotes(repository)
            parent = os.path.dirname(folder)
            if parent == folder:
                return found
            folder = parent

    def _remotes(self, repository: str) -> set[str]:
        urls = self._urls(repository)
        found = {normalise_remote(url) for url in urls}
        found |= {other for url in urls if _goes_by_ssh(url) for other in self._other_names(normalise_remote(url))}
        return {one for one in found if one}

    def _urls(self, repository: str) -> frozenset[str]:
        """Every address of a repository, as written and as git rewrites it."""
        with self._mutex:
            told = self._told.get(repository)
        if told is None or not self._holds(told):
            told = self._look_up(repository)
            with self._mutex:
                if len(self._told) >= _MOST_CACHED:
                    self._told.clear()
                self._told[repository] = told
        if told.urls is None:
            raise Unreadable
        return told.urls

    @staticmethod
    def _holds(told: _Told) -> bool:
        if told.urls is None and time.monotonic() >= told.at_s + _AGAIN_S:
            return False
        return all(_signature(path) == before for path, before in told.seen.items())

    def _look_up(self, repository: str) -> _Told:
        seen: dict[str, _Signature] = {}
        at_s = time.monotonic()
        common = _common_folder(repository)
        places = [os.path.join(common, "config")]
        places += sorted({os.path.join(place, "config.worktree") for place in (common, repository)})
        found = [self._addresses(place, seen, _MOST_INCLUDES) for place in places + self._global]
        given = find_addresses(parse_given(self._environment))
        found += [given, *(self._addresses(path, seen, _MOST_INCLUDES, by="") for path in given.includes)]
        urls = {url for one in found[: len(places)] for url in one.urls} | set(given.urls)
        urls |= self._older_files(common, seen)
        if self._program is None:
            self._program = find_git(self._environment)
        if self._program:
            try:
                asked = find_addresses(ask_git(self._program, repository, self._environment, self._home))
            except Unreadable:
                return _Told(None, seen, at_s)
            found.append(asked)
            urls |= set(asked.urls)
        elif self._environment.get("GIT_CONFIG_PARAMETERS"):
            raise Unreadable
        instead = [pair for one in found for pair in one.instead]
        urls |= {base + url[len(short) :] for url in urls for short, base in instead if url.startswith(short)}
        urls |= {self._home + url[1:] for url in urls if url.startswith("~/")}
        # Relative ones, as in submodules, begin at the checkout.
        urls |= {os.path.normpath(os.path.join(os.path.dirname(common), url)) for url in urls if url.startswith(".")}
        return _Told(frozenset(urls), seen, at_s)

    def _addresses(self, path: str, seen: dict[str, _Signature], depth: int, by: str | None = None) -> Addresses:
        """What a file says together with all that it includes. `by`: the file that includes it, empty for none."""
        if by is not None:
            path = self._included(path, by)
        found: Addresses | None = self._read(path, lambda text: find_addresses(parse_config(text)), seen)
        if found is None:
            return Addresses((), (), ())
        if found.includes and not depth:
            raise Unreadable
        below = [self._addresses(one, seen, depth - 1, by=path) for one in found.includes]
        return Addresses(
            found.urls + tuple(url for one in below for url in one.urls),
            found.instead + tuple(pair for one in below for pair in one.instead),
            (),
        )

    def _included(self, path: str, by: str) -> str:
        if path.startswith("~/"):
            return os.path.join(self._home, path[2:])
        if path.startswith(("~", "%(")) or not (by or os.path.isabs(path)):
            raise Unreadable  # somebody's home, or where git was installed
        return os.path.join(os.path.dirname(by), path)

    def _older_files(self, common: str, seen: dict[str, _Signature]) -> set[str]:
        found: set[str] = set()
        for folder, parse in (("remotes", parse_remote_file), ("branches", parse_branch_file)):
            place = os.path.join(common, folder)
            seen[place] = _signature(place)
            if seen[place] is not None and os.path.isdir(place):
                names = os.listdir(place)
                if len(names) > _MOST_LISTED:
                    raise Unreadable
                for name in names:
                    found |= set(self._read(os.path.join(place, name), parse, seen) or ())
        return found

    def _other_names(self, remote: str) -> set[str]:
        """The same remote with its host as the user's configuration of ssh calls it."""
        host, slash, path = remote.partition("/")
        names = self._ssh_names(os.path.join(self._home, ".ssh", "config"), _MOST_INCLUDES)
        return {
            normalise_remote(name.replace("%h", host) + slash + path)
            for patterns, name in names
            if _means(patterns, host)
        }

    def _ssh_names(self, path: str, depth: int) -> list[tuple[tuple[str, ...], str]]:
        config: SshNames | None = self._read(path, parse_ssh)
        if config is None:
            return []
        if not depth:
            raise Unreadable
        found = list(config.names)
        for pattern in config.includes:
            whole = os.path.join(self._home, ".ssh", re.sub(r"^~(?=/)", lambda _: self._home, pattern))
            for included in sorted(glob.glob(whole)):
                found += self._ssh_names(included, depth - 1)
        return found

    def _read(self, path: str, parse: Callable[[str], _T], seen: dict[str, _Signature] | None = None) -> _T | None:
        """What `parse` makes of a file; None without it."""
        signature = _signature(path)
        if seen is not None:
            seen[path] = signature
        if signature is None:
            return None
        with self._mutex:
            known = self._cache.get(path)
        if known is not None and known[0] == signature:
            cached: _T = known[1]
            return cached
        made = parse(_read_text(path))
        with self._mutex:
            if len(self._cache) >= _MOST_CACHED:
                self._cache.clear()
            self._cache[path] = (signature, made)
        return made


def _signature(path: str) -> _Signature:
    """What changes with a file; None without one. Raises OSError when the system does not want to say."""
    try:
        seen = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _repository(place: str) -> str | None:
    """The repository at `place`: the folder itself, or where a `.git` file leads. Something else is None. Raises
    Unreadable for a `.git` that says nothing: it was damaged, or is hidden from us."""
    is_named_so = os.path.basename(place) == ".git"
    if is_named_so and os.path.isfile(place):
        kind, _, path = _read_text(place).strip().partition(":")
        place = os.path.normpath(os.path.join(os.path.dirname(place), path.strip()))
        if kind != "gitdir" or not os.path.isdir(place):
            raise Unreadable
        return place
    parts = [part for part in ("HEAD", "objects", "commondir", "config") if _exists(os.path.join(place, part))]
    if is_named_so and (parts or _exists(place)):
        if "HEAD" not in parts and "config" not in parts:
            raise Unreadable
        if "config" in parts and os.stat(os.path.join(place, "config")).st_size == 0:
            raise Unreadable  # as a power cut leaves it; git itself writes no empty one
        return place
    return place if "HEAD" in parts and len(parts) > 1 else None


def _exists(path: str) -> bool:
    """Whether something is there. Raises OSError when the system does not want to say."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _common_folder(repository: str) -> str:
    path = os.path.join(repository, "commondir")
    if not os.path.exists(path):
        return repository
    return os.path.normpath(os.path.join(repository, _read_text(path).strip()))


def _read_text(path: str) -> str:
    """Raises Unreadable for what is no file or too long."""
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Unreadable
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise Unreadable
    return data.decode(errors="surrogateescape").removeprefix("\ufeff")


def _goes_by_ssh(url: str) -> bool:
    scheme, is_url, _ = url.partition("://")
    return scheme in ("ssh", "git+ssh", "ssh+git") if is_url else re.match(r"[^/.~][^/]*:", url) is not None


def _means(patterns: tuple[str, ...], host: str) -> bool:
    """Whether a host is one of the patterns of ssh's configuration, of which those with a ! take hosts out."""
    if any(one.startswith("!") and fnmatchcase(host, one[1:]) for one in patterns):
        return False
    return any(fnmatchcase(host, one) for one in patterns)
