"""Takes up what hooks noted in the spool, and hands it to the scanner. Hints, as change notices are: a look at the disk
decides, and a full look finds what no hook named."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.delivery.discovery.scanner import Root
from agent.errors import DiskError
from agent.system.state.spool import Signature, Spool

log = logging.getLogger(__name__)

TRIES = 8
"""How often a transcript that is not there is looked for: after 1, 2, 4, … s, so for four minutes. Claude Code names
the file before it writes it, and never writes some."""

RETRY_S = 10.0
"""After a failure of the disk."""

_HOOKED = "claude"
"""The coding agent that calls our hooks."""

_FOLDERS = 20
"""Folders that should perhaps be watched, and are remembered one by one."""

_ENDING = ".jsonl"


class Looker(Protocol):
    """`delivery.discovery.scanner.Scanner`, as far as it is needed here."""

    def look(self, path: str) -> None: ...


class _Missing(NamedTuple):
    tries: int
    due_s: float


class Spooling:
    """For the scanner's thread. `scan()`: a hook named a session and no file, so a full look has to find it.
    `requeued(session_id)`: a transcript was put back, to be looked for again. `over(session_id, at_s)`: a hook says
    that the session ended at that wall time. All other times are monotonic."""

    def __init__(
        self,
        spool: Spool,
        roots: Sequence[Root],
        scanner: Looker,
        *,
        scan: Callable[[], None],
        requeued: Callable[[str], None],
        monotonic_s: Callable[[], float],
        over: Callable[[str, float], None] = lambda _session_id, _at_s: None,
    ) -> None:
        self._spool = spool
        self._roots = roots
        self._scanner = scanner
        self._scan = scan
        self._requeued = requeued
        self._over = over
        self._monotonic_s = monotonic_s
        self._left: Signature | None = None
        """The spool as we left it: only our own lines, to be tried again when they are due."""
        self._aside = 0
        self._due_s = 0.0
        self._missing: dict[str, _Missing] = {}
        self._outside: dict[str, str] = {}
        """Folder → a transcript in it that a hook named, and that exists in none of the watched folders."""
        self._times_outside = 0
        self.trouble = ""

    def poll(self) -> None:
        """Takes up what is new or due; costs a look at two files when nothing is. Snapshots come first: a crash's, and
        those of hooks that did not get the lock."""
        now_s = self._monotonic_s()
        signature, aside = self._spool.signature(), self._spool.aside_signature()
        if now_s < self._due_s and signature in (None, self._left) and aside == self._aside:
            return
        self._aside = aside  # before it is taken up: what comes meanwhile is new
        try:
            self._take(now_s)
            self.trouble = ""
        except DiskError as exc:
            if not self.trouble:
                log.warning("%s; what hooks name has to wait for a full look", exc.message)
            self.trouble = exc.message
            self._due_s = now_s + RETRY_S

    def problems(self) -> list[tuple[str, str]]:
        """For `status`: what is wrong, and what to do."""
        found = [(self.trouble, "")] if self.trouble else []
        outside = list(self._outside.items())  # another thread asks, and the list may grow meanwhile
        if outside:
            times = f" ({self._times_outside:,} times so far)" if self._times_outside > 1 else ""
            own = [root.path for root in self._roots if root.provider.name == _HOOKED]
            wanted = ", ".join(f"'{folder}'" for folder in [*own, *dict(outside)])
            what = f"a hook named a transcript outside the watched folders: {outside[0][1]}{times}"
            found.append((what, f"in the settings file: [watch] {_HOOKED} = [{wanted}]"))
        return found

    def _take(self, now_s: float) -> None:
        still_missing: dict[str, _Missing] = {}
        left: Signature | None = None
        for snapshot in self._spool.snapshots():
            back = self._handle(self._spool.read(snapshot), still_missing, now_s)
            if back:
                left = self._spool.requeue(back, left)
            for session_id, at_s in self._spool.read_ends(snapshot).items():
                self._over(session_id, at_s)  # behind its last lines
            self._spool.drop(snapshot)
        self._missing = still_missing
        self._left = left
        self._due_s = min((one.due_s for one in still_missing.values()), default=float("inf"))

    def _handle(self, hints: Mapping[str, str], missing: dict[str, _Missing], now_s: float) -> dict[str, str]:
        """Looks at all; gives those that are to be put back. `missing` takes when to look for them again."""
        back = {}
        for path, session_id in hints.items():
            if not path:
                self._scan()
            elif os.path.lexists(path):
                self._look(path)
            elif (again := self._try_again(path, missing.get(path), now_s)) is not None:
                if path not in self._missing and path not in missing:
                    self._requeued(session_id or os.path.basename(path).removesuffix(_ENDING))
                missing[path] = again
                back[path] = session_id
        return back

    def _try_again(self, path: str, just_now: _Missing | None, now_s: float) -> _Missing | None:
        """When to look for it next; None to let it go."""
        before = just_now or self._missing.get(path, _Missing(0, now_s))
        if before.due_s > now_s:
            return before
        if before.tries >= TRIES:
            log.debug("a transcript that a hook named never came")
            return None
        return _Missing(before.tries + 1, now_s + 2.0**before.tries)

    def _look(self, path: str) -> None:
        known = self._as_watched(path)
        if known is not None:
            self._scanner.look(known)
        elif os.path.isabs(path) and path.endswith(_ENDING):
            self._times_outside += 1
            if len(self._outside) < _FOLDERS:
                self._outside.setdefault(os.path.dirname(os.path.dirname(path)), path)

    def _as_watched(self, path: str) -> str | None:
        """The name by which a scan would find the file: roots are real folders, and hooks may come by a link. None for
        what lies in no root."""
        path = os.path.normpath(path)
        if any(root.holds(path) for root in self._roots):
            return path
        above, below = os.path.split(path)
        while below and above != os.path.dirname(above):
            real = os.path.realpath(above)
            if any(root.path == real for root in self._roots):
                return os.path.join(real, path[len(above) :].lstrip(os.sep))
            above, below = os.path.split(above)
        real = os.path.realpath(path)
        return real if any(root.holds(real) for root in self._roots) else None
