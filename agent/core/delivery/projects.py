"""Which projects a destination takes."""

import posixpath
from collections.abc import Iterable
from fnmatch import fnmatchcase


def matches_project(project: str, patterns: Iterable[str]) -> bool:
    """Whether the folder `project` is one of `patterns`, or lies below one. A pattern is a path that may hold `*`, `?`
    and `[…]`, which also match slashes. A session that names no project matches none."""
    if not project:
        return False
    folders = [project]
    while (parent := posixpath.dirname(folders[-1])) not in ("", folders[-1]):
        folders.append(parent)
    return any(fnmatchcase(folder, pattern.rstrip("/") or "/") for pattern in patterns for folder in folders)
