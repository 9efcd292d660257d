"""Settings by which more would leave than before hold for a while as they were: `core.privacy.lost_rules` says why."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from agent.core.privacy.lost_rules import (
    HOLD_S,
    KnownSharing,
    Sharing,
    describe_lost,
    find_widened,
    keep_narrow,
    sharing_of,
)
from agent.core.settings import Settings
from agent.errors import DiskError
from agent.system.state.known_rules import read_known, write_known

log = logging.getLogger(__name__)

ACCEPT = "transcriptd config accept"

WRITE_S = 60.0
"""So often it is written for how long they still hold."""


class KeptSharing:
    """For one thread. `path`: where what held last is remembered, over restarts; `source`: of the settings' file."""

    def __init__(self, path: Path, source: str, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._path, self._source = path, source
        self._monotonic_s = monotonic_s
        self._known: KnownSharing | None = None
        self._since_s = 0.0
        self._read: Settings | None = None
        self.lost: list[str] = []

    def take(self, settings: Settings) -> Settings:
        """The settings that are in force when the file says `settings`."""
        known, now = read_known(self._path, KnownSharing), sharing_of(settings)
        self.lost = find_widened(known.sharing, settings) if known is not None else []
        self._since_s = self._monotonic_s()
        if known is None or not self.lost:
            self._remember(KnownSharing(now))
            return settings
        is_same = self._read in (None, settings)
        left_s = known.left_s if known.left_s and is_same else HOLD_S
        if not known.left_s:
            log.warning("%s", describe_lost(self._source, self.lost, left_s, "")[0][0])
        self._read = settings
        self._remember(KnownSharing(known.sharing, left_s))
        return keep_narrow(known.sharing, settings)

    def is_over(self) -> bool:
        """What was lost holds no more: the settings are to be taken anew."""
        if not self.lost or self._known is None or self._read is None:
            return False
        left_s = self._left_s()
        if left_s > 0:
            if self._monotonic_s() - self._since_s >= WRITE_S:
                self._since_s = self._monotonic_s()
                self._remember(KnownSharing(self._known.sharing, left_s))
            return False
        self._remember(KnownSharing(sharing_of(self._read)))
        return True

    def problems(self) -> list[tuple[str, str]]:
        return describe_lost(self._source, self.lost, self._left_s(), ACCEPT)

    def _left_s(self) -> float:
        return self._known.left_s - (self._monotonic_s() - self._since_s) if self._known is not None else 0.0

    def _remember(self, known: KnownSharing) -> None:
        if known == self._known:
            return
        self._known = known
        try:
            write_known(self._path, known)
        except DiskError as exc:
            log.warning("%s; what the settings say of sharing is remembered until the next start only", exc.message)


def narrowed(path: Path, settings: Settings) -> tuple[Settings, list[str], float]:
    """For commands: the settings that an agent would obey, what is lost of those before, and for how many seconds it
    holds. Writes nothing."""
    known = read_known(path, KnownSharing)
    lost = find_widened(known.sharing, settings) if known is not None else []
    if known is None or not lost:
        return settings, [], 0.0
    return keep_narrow(known.sharing, settings), lost, known.left_s or HOLD_S


def accept(path: Path, before: Sharing | None, settings: Settings) -> None:
    """Its owner says that these settings are meant. `before`: what the file said until then, if somebody has to have
    meant that, too; None: whatever it said. Raises DiskError."""
    known = read_known(path, KnownSharing)
    if before is None or (known is not None and known.sharing == before):
        write_known(path, KnownSharing(sharing_of(settings)))
