"""What `service uninstall --purge` removes: what is ours, by name. What is anybody else's stays, and so does a
transcript that is nowhere else."""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from agent.core.settings import Settings, TokenIn
from agent.errors import DiskError
from agent.system.paths import Paths

_STATE = (
    "state.db*",
    "state.*-*.db*",
    "index.*",
    "annotations.*",
    "daemon.*",
    "lives.json*",
    "runs.jsonl*",
    "control.sock*",
    "spool*",
    "redaction.key",
    "kept",
)
_LOGS = ("*.log", "*.log.*")
"""On macOS and Windows the state's folder holds the settings, and a receiver's data too: so names, not folders."""


@dataclass(frozen=True, slots=True)
class Purge:
    """`remove`: files and folders. `tokens`: destinations whose token is in a keyring. `only_copies`: transcripts that
    are held and have no other name on this disk. `left`: what stays, in words."""

    remove: list[Path]
    tokens: list[str]
    only_copies: list[Path]
    left: list[str]


def plan_purge(paths: Paths, settings: Settings | None) -> Purge:
    """Looks, and changes nothing. `settings`: None when they can't be read."""
    only_copies = [path for path, seen in _files_below(paths.kept) if seen.st_nlink == 1]
    found = [one for one in (paths.config, paths.private_list, *paths.own_files()) if os.path.lexists(one)]
    found += [one for one in _named(paths.state, _STATE) if not (only_copies and one == paths.kept)]
    if paths.socket.parent != paths.state and paths.socket.exists():
        found.append(paths.socket)
    found += _named(paths.logs, _LOGS)
    destinations = settings.destinations if settings is not None else ()
    left = ["what servers have", "the transcripts of your coding agents", "hooks (transcriptd hook uninstall)"]
    if only_copies:
        left.append(f"{paths.kept}: transcripts that are nowhere else ({len(only_copies)})")
    left += [f"{one.token_file}: your token of {one.name}" for one in destinations if one.token == TokenIn.FILE]
    if settings is None:
        left.append("tokens in the keyring: the settings, which name them, can't be read")
    tokens = [one.name for one in destinations if one.token == TokenIn.KEYRING]
    return Purge([*dict.fromkeys(found)], tokens, only_copies, left)


def remove_planned(plan: Purge, paths: Paths) -> None:
    """Removes what was planned, and folders that are empty then. Raises DiskError."""
    for path in plan.remove:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as exc:
            raise DiskError(f"{path} can't be removed: {exc.strerror}") from exc
    for folder in dict.fromkeys((paths.logs, paths.state, paths.config.parent)):
        _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # not there, or somebody else's things are in it


def _named(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    try:
        there = sorted(folder.iterdir())
    except OSError:
        return []
    return [one for one in there if any(fnmatchcase(one.name, pattern) for pattern in patterns)]


def _files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """In one look each: an agent at work may let go of any."""
    for path in sorted(Path(base) / name for base, _, names in os.walk(folder) for name in names):
        with contextlib.suppress(FileNotFoundError):
            seen = path.lstat()
            if stat.S_ISREG(seen.st_mode):
                yield path, seen
