"""Paths that somebody said to look at, each once: known files before others, which may come by the thousand."""

from collections.abc import Callable


class Hints:
    """`is_known` says whether a path was seen before: somebody at work is not kept waiting by an unpacked archive."""

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self._is_known = is_known
        self._known: dict[str, None] = {}
        self._others: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._known) + len(self._others)

    def add(self, path: str) -> None:
        (self._known if self._is_known(path) else self._others)[path] = None

    def pop(self, most: int) -> list[str]:
        """All known ones, and of the others so many that there are at most `most`."""
        found, self._known = list(self._known), {}
        for path in list(self._others)[: max(0, most - len(found))]:
            del self._others[path]
            found.append(path)
        return found
