"""Which git remotes a folder belongs to, read from git's own files: running git in somebody's checkout may run what
its configuration names.

All checkouts that a folder lies in count, so a submodule or a clone inside another one has the remotes of both. Read
are `remote.*.url`, `remote.*.pushurl`, `url.*.insteadOf` there and in the user's own configuration, and which hosts the
user's configuration of ssh gives other names: rather one too many. Not read: configuration that another file includes
(a checkout whose own file includes one can't be told), remotes that only stand on a command line.
"""

import glob
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar

from agent.core.privacy import normalise_remote

_MOST_BYTES = 1 << 20
_MOST_CACHED = 10_000
_SECTION = re.compile(r'\[\s*([A-Za-z0-9.-]+)\s*(?:"((?:[^"\\\n]|\\.)*)")?\s*\]')
_SSH_LINE = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*)")
_MOST_INCLUDES = 16
_T = TypeVar("_T")
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9-]*)[ \t]*")


class _Unreadable(Exception):
    """What is there can't be told."""


class _Ssh(NamedTuple):
    """`names`: patterns of hosts, and how such a host is really called. `includes`: patterns of further files."""

    names: tuple[tuple[tuple[str, ...], str], ...]
    includes: tuple[str, ...]


class _Config(NamedTuple):
    """`instead`: beginning of an address → what stands for it."""

    urls: tuple[str, ...]
    instead: tuple[tuple[str, str], ...]
    includes: bool


_NOTHING = _Config((), (), False)


class GitRemotes:
    """The remotes of checkouts, each file read again when it changed. For any thread."""

    def __init__(self, environment: Mapping[str, str], home: str) -> None:
        folder = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
        own = environment.get("GIT_CONFIG_GLOBAL")
        self._global = [own] if own else [os.path.join(home, ".gitconfig"), os.path.join(folder, "git", "config")]
        self._home = home
        self._cache: dict[str, tuple[tuple[int, int, int, int], Any]] = {}
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
        except (_Unreadable, OSError, ValueError):
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
        common = _common_folder(repository)
        places = [os.path.join(common, "config")]
        places += [os.path.join(place, "config.worktree") for place in {common, repository}]
        configs = [self._read(place, _parse_config) or _NOTHING for place in places]
        if any(one.includes for one in configs):
            raise _Unreadable
        instead = [pair for one in configs for pair in one.instead]
        for path in self._global:
            instead += (self._read(path, _parse_config) or _NOTHING).instead
        urls = {url for one in configs for url in one.urls}
        urls |= {base + url[len(short) :] for url in urls for short, base in instead if url.startswith(short)}
        # Relative ones, as in submodules, begin at the checkout.
        urls |= {os.path.normpath(os.path.join(os.path.dirname(common), url)) for url in urls if url.startswith(".")}
        found = {normalise_remote(url) for url in urls}
        found |= {other for url in urls if _goes_by_ssh(url) for other in self._other_names(normalise_remote(url))}
        return {one for one in found if one}

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
        config: _Ssh | None = self._read(path, _parse_ssh)
        if config is None:
            return []
        if not depth:
            raise _Unreadable
        found = list(config.names)
        for pattern in config.includes:
            whole = os.path.join(self._home, ".ssh", re.sub(r"^~(?=/)", lambda _: self._home, pattern))
            for included in sorted(glob.glob(whole)):
                found += self._ssh_names(included, depth - 1)
        return found

    def _read(self, path: str, parse: Callable[[str], _T]) -> _T | None:
        """What `parse` makes of a file; None without it."""
        try:
            seen = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        signature = (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        with self._mutex:
            known = self._cache.get(path)
        if known is not None and known[0] == signature:
            cached: _T = known[1]
            return cached
        config = parse(_read_text(path))
        with self._mutex:
            if len(self._cache) >= _MOST_CACHED:
                self._cache.clear()
            self._cache[path] = (signature, config)
        return config


def _repository(place: str) -> str | None:
    """The repository at `place`: the folder itself, or where a `.git` file leads. Something else is None."""
    if os.path.basename(place) == ".git" and os.path.isfile(place):
        kind, _, path = _read_text(place).strip().partition(":")
        place = os.path.normpath(os.path.join(os.path.dirname(place), path.strip()))
        if kind != "gitdir" or not os.path.isdir(place):
            raise _Unreadable
        return place
    if not _exists(os.path.join(place, "HEAD")):
        return None
    parts = ("objects", "commondir", "config")
    return place if any(_exists(os.path.join(place, part)) for part in parts) else None


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
    if not os.path.isfile(path):
        raise _Unreadable
    with open(path, "rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise _Unreadable
    return data.decode(errors="surrogateescape").removeprefix("\ufeff")


def _parse_config(text: str) -> _Config:
    """What git reads, as far as it matters here. Raises `_Unreadable` for what git would not take."""
    urls: list[str] = []
    instead: list[tuple[str, str]] = []
    includes = False
    section, subsection, at = "", "", 0
    text = text.replace("\r\n", "\n")
    while at < len(text):
        if text[at] in " \t\n":
            at += 1
        elif text[at] in "#;":
            at = _end_of_line(text, at)
        elif text[at] == "[":
            found = _SECTION.match(text, at)
            if found is None:
                raise _Unreadable
            section, subsection, at = found[1].lower(), re.sub(r"\\(.)", r"\1", found[2] or ""), found.end()
            includes |= section in ("include", "includeif")
        else:
            found = _KEY.match(text, at)
            if found is None or not section:
                raise _Unreadable
            key, value, at = found[1].lower(), "", found.end()
            if text[at : at + 1] == "=":
                value, at = _read_value(text, at + 1)
            whole = section.partition(".")[0]
            if whole == "remote" and key in ("url", "pushurl"):
                urls.append(value)
            elif whole == "url" and key in ("insteadof", "pushinsteadof"):
                instead.append((value, subsection))
    return _Config(tuple(urls), tuple(instead), includes)


def _goes_by_ssh(url: str) -> bool:
    scheme, is_url, _ = url.partition("://")
    return scheme in ("ssh", "git+ssh", "ssh+git") if is_url else re.match(r"[^/.~][^/]*:", url) is not None


def _means(patterns: tuple[str, ...], host: str) -> bool:
    """Whether a host is one of the patterns of ssh's configuration, of which those with a ! take hosts out."""
    if any(one.startswith("!") and fnmatchcase(host, one[1:]) for one in patterns):
        return False
    return any(fnmatchcase(host, one) for one in patterns)


def _parse_ssh(text: str) -> _Ssh:
    """Names of hosts wherever they stand; what depends on more than the host's name counts as if it held."""
    names: list[tuple[tuple[str, ...], str]] = []
    includes: list[str] = []
    patterns: tuple[str, ...] = ("*",)
    for line in text.splitlines():
        found = _SSH_LINE.match(line)
        if found is None:
            continue
        key, words = found[1].lower(), found[2].replace('"', "").split()
        if key == "host":
            patterns = tuple(word.casefold() for word in words)
        elif key == "match":
            lists = [words[at + 1] for at, word in enumerate(words[:-1]) if word.lower() in ("host", "originalhost")]
            patterns = tuple(word.casefold() for one in lists for word in one.split(",")) or ("*",)
        elif key == "hostname":
            names += [(patterns, word.casefold()) for word in words[:1]]
        elif key == "include":
            includes += words
    return _Ssh(tuple(names), tuple(includes))


def _read_value(text: str, at: int) -> tuple[str, int]:
    """A value from behind its `=`, and where its line ends."""
    value, quoted, kept = [], False, 0
    while at < len(text) and text[at] != "\n":
        ch = text[at]
        if ch == "\\":
            following = text[at + 1 : at + 2]
            if following not in ("\\", '"', "n", "t", "b", "\n"):
                raise _Unreadable
            if following != "\n":
                value.append({"n": "\n", "t": "\t", "b": "\b"}.get(following, following))
                kept = len(value)
            at += 2
            continue
        if ch == '"':
            quoted, kept = not quoted, len(value)
        elif ch in "#;" and not quoted:
            at = _end_of_line(text, at)
            break
        elif quoted or value or ch not in " \t":
            value.append(ch)
            if quoted or ch not in " \t":
                kept = len(value)
        at += 1
    if quoted:
        raise _Unreadable
    return "".join(value[:kept]), at


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
