"""Paths that somebody said to look at, each once: known files before others, which may come by the thousand."""

from collections.abc import Callable

FLOOD = 4096
"""So many hints since the last full look are a flood. A system that drops notices has first queued more (Linux:
16,384), so whatever was dropped, a flood was heard; and a full look costs less than so many looks at one path."""

FLOOD_S = 5.0
"""Between full looks while a flood lasts."""


class Hints:
    """`is_known` says whether a path was seen before: somebody at work is not kept waiting by an unpacked archive."""

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self._is_known = is_known
        self._known: dict[str, None] = {}
        self._others: dict[str, None] = {}
        self._heard = 0
        self._heard_before = 0
        self._flood_until_s = float("-inf")

    def __len__(self) -> int:
        return len(self._known) + len(self._others)

    def add(self, path: str) -> None:
        self._heard += 1
        if self._heard >= FLOOD:
            self._others.clear()
        if self._is_known(path):
            self._known[path] = None
        elif self._heard < FLOOD:
            self._others[path] = None

    def pop(self, most: int) -> list[str]:
        """All known ones, and of the others so many that there are at most `most`."""
        found, self._known = list(self._known), {}
        for path in list(self._others)[: max(0, most - len(found))]:
            del self._others[path]
            found.append(path)
        return found

    def want_full_look(self, now_s: float) -> bool:
        """True when there was a flood, and it is over or has lasted; to be asked after each round. `now_s`: monotonic.
        What is heard from then on may be of what the look has passed by already, and counts anew."""
        has_risen, self._heard_before = self._heard != self._heard_before, self._heard
        if self._heard < FLOOD or (has_risen and now_s < self._flood_until_s):
            return False
        self._heard = self._heard_before = 0
        self._flood_until_s = now_s + FLOOD_S
        return True
