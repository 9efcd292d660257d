"""Which git remotes a folder belongs to, read from git's own files: running git in somebody's checkout may run what
its configuration names.

All checkouts that a folder lies in count, so a submodule or a clone inside another one has the remotes of both. Read
are `remote.*.url`, `remote.*.pushurl`, and `url.*.insteadOf` there and in the user's own configuration. Not read:
configuration that another file includes (a checkout whose own file includes one can't be told), names of hosts from
the configuration of ssh, remotes that only stand on a command line.
"""

import os
import re
import threading
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agent.core.privacy import normalise_remote

_MOST_BYTES = 1 << 20
_MOST_CACHED = 10_000
_SECTION = re.compile(r'\[\s*([A-Za-z0-9.-]+)\s*(?:"((?:[^"\\\n]|\\.)*)")?\s*\]')
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9-]*)[ \t]*")


class _Unreadable(Exception):
    """What is there can't be told."""


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
        self._cache: dict[str, tuple[tuple[int, int, int, int], _Config]] = {}
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
        configs = [self._read(os.path.join(common, "config"))]
        configs += [self._read(os.path.join(place, "config.worktree")) for place in {common, repository}]
        if any(one.includes for one in configs):
            raise _Unreadable
        instead = [pair for one in configs for pair in one.instead]
        instead += [pair for path in self._global for pair in self._read(path).instead]
        found = set()
        for url in (url for one in configs for url in one.urls):
            found.add(normalise_remote(url))
            found |= {normalise_remote(base + url[len(short) :]) for short, base in instead if url.startswith(short)}
            if url.startswith("."):  # relative to the checkout, as in submodules
                found.add(normalise_remote(os.path.normpath(os.path.join(os.path.dirname(common), url))))
        return {one for one in found if one}

    def _read(self, path: str) -> _Config:
        try:
            seen = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return _NOTHING
        signature = (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        with self._mutex:
            known = self._cache.get(path)
        if known is not None and known[0] == signature:
            return known[1]
        config = _parse_config(_read_text(path))
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
