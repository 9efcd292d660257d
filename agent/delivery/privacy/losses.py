"""Rules that are gone from the private list though nobody took them out by a command: `core.privacy.lost_rules` says
what becomes of them; here the list is followed, and what is known of it remembered."""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from agent.core.privacy.lost_rules import HOLD_S, KnownRules, describe_lost, follow_list
from agent.core.privacy.rules import PrivateRules
from agent.core.settings import Privacy
from agent.errors import DiskError
from agent.system.paths import Paths
from agent.system.state.known_rules import read_known, write_known
from agent.system.state.privacy_list import PrivacyList

log = logging.getLogger(__name__)

WRITE_S = 60.0
"""So often it is written how long lost rules still hold."""


class Losses:
    """Keeps rules in force that are gone from a list though nobody took them out by a command of ours. For any number
    of threads. `path`: where what is known is remembered, so that a restart forgets none."""

    def __init__(self, private_list: PrivacyList, path: Path, monotonic_s: Callable[[], float]) -> None:
        self._list = private_list
        self._path = path
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._known = read_known(path, KnownRules)
        self._own: tuple[str, ...] | None = None
        self._is_other = False
        self._number = 0
        self._looked_at_s = self._written_at_s = monotonic_s()
        self._trouble = ""

    def read(self) -> PrivateRules:
        with self._lock:
            seen = self._list.look()
            if seen.own is None:
                self._is_other = True  # whatever comes then
                return seen.rules
            if seen.number == self._number and self._known is not None and not self._known.lost:
                return seen.rules
            self._number = seen.number
            self._list.hold(self._follow(seen.own, is_settled=seen.is_settled))
            return self._list.read()

    def problems(self) -> list[tuple[str, str]]:
        with self._lock:
            lost = self._known.lost if self._known is not None else {}
            passed_s = self._monotonic_s() - self._looked_at_s
        return _describe(self._list, lost, passed_s)

    def count(self) -> int:
        with self._lock:
            return len(self._known.lost) if self._known is not None else 0

    def _follow(self, own: tuple[str, ...], *, is_settled: bool) -> tuple[str, ...]:
        """The lines that hold although the list has not got them. While somebody may be writing it, nothing is learned
        from it."""
        now_s = self._monotonic_s()
        passed_s, self._looked_at_s = now_s - self._looked_at_s, now_s
        before = self._known
        edit, removed = self._list.removed_since(before.edit if before is not None else 0)
        if before is None or not is_settled:
            known = before if before is not None else KnownRules()
            missing = tuple(line for line in known.rules if line not in own and line not in removed)
            if is_settled:
                self._write(KnownRules(own, {}, edit), now_s)
            return missing
        is_changed = self._is_other or (self._own is not None and own != self._own)
        self._is_other = False
        after = follow_list(before, own, removed, passed_s=passed_s, is_changed=is_changed)
        after = msgspec.structs.replace(after, edit=edit)
        self._own = own
        if set(after.lost) - set(before.lost):
            log.warning("%s", describe_lost(str(self._list.path), after.lost, HOLD_S, "")[0][0])
        is_other = (set(after.rules), set(after.lost), edit) != (set(before.rules), set(before.lost), before.edit)
        if is_other or now_s - self._written_at_s >= WRITE_S:
            self._write(after, now_s)
        self._known = after
        return tuple(after.lost)

    def _write(self, known: KnownRules, now_s: float) -> None:
        self._known, self._written_at_s = known, now_s
        try:
            write_known(self._path, known)
        except DiskError as exc:
            if exc.message != self._trouble:
                log.warning("%s; what the private list holds is remembered until the next start only", exc.message)
            self._trouble = exc.message
        else:
            self._trouble = ""


def hold_lost(private_list: PrivacyList, paths: Paths) -> dict[str, float]:
    """For commands: lets a list hold what an agent would hold, and gives it: line → seconds that are left."""
    known, own = read_known(paths.known_rules, KnownRules), private_list.look().own
    if known is None or own is None:
        return {}
    _, removed = private_list.removed_since(known.edit)
    lost = follow_list(known, own, removed, passed_s=0, is_changed=False).lost
    private_list.hold(lost)
    return dict(lost)


def find_lost(paths: Paths, privacy: Privacy) -> list[tuple[str, str]]:
    """The same in words, for `status` and `doctor` while no agent runs."""
    private_list = PrivacyList(paths.private_list, privacy)
    return _describe(private_list, hold_lost(private_list, paths), 0.0)


def _describe(private_list: PrivacyList, lost: Mapping[str, float], passed_s: float) -> list[tuple[str, str]]:
    left_s = min(lost.values(), default=0.0) - passed_s
    return describe_lost(str(private_list.path), lost, left_s, "transcriptd private list")
