"""How the agent's lives ended: one small file that tells a start after a crash from one after a stop."""

import json
import logging
import os
from pathlib import Path
from typing import NamedTuple

from agent.errors import DiskError
from agent.system.files.own_files import make_own, read_own

log = logging.getLogger(__name__)

SPAN_S = 3600.0
"""Ends that nobody wished are counted for so long."""

_MOST = 100


class Life(NamedTuple):
    """`since_s`: wall time at which the last one began, 0 once it ended as wished. `unclean`: when ends that nobody
    wished were found, wall time, oldest first. `log`: where it wrote its log, a word of `logs.Sink`; `unit`: whose
    journal."""

    since_s: float = 0.0
    unclean: tuple[float, ...] = ()
    log: str = ""
    unit: str = ""


class Lives:
    """Never fails: what can't be read or written is as if nothing had happened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Life:
        try:
            found = json.loads(read_own(self._path))
            unclean = tuple(float(one) for one in found["unclean"])
            return Life(float(found["since_s"]), unclean, str(found["log"]), str(found["unit"]))
        except (OSError, DiskError, ValueError, TypeError, KeyError, RecursionError):
            return Life()

    def begin(self, now_s: float, log_sink: str = "", unit: str = "") -> bool:
        """True when the one before ended without being told to."""
        before = self.read()
        unclean = (*before.unclean, now_s) if before.since_s else before.unclean
        kept = tuple(one for one in unclean if now_s - SPAN_S < one <= now_s)[-_MOST:]
        self._write(Life(now_s, kept, log_sink, unit))
        return before.since_s != 0.0

    def end(self) -> None:
        self._write(self.read()._replace(since_s=0.0))

    def count_unclean(self, now_s: float) -> int:
        """Within the last hour. A clock that was set back forgets none."""
        return sum(now_s - one < SPAN_S for one in self.read().unclean)

    def _write(self, life: Life) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            with open(make_own(fresh), "w", encoding="ascii") as file:
                json.dump(life._asdict(), file)
            os.replace(fresh, self._path)
        except OSError as exc:
            log.debug("%s can't be written: %s", self._path, exc.strerror)
