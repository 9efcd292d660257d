"""What the engine wants remembered, gathered and written in batches. A write that fails is tried again; delivery never
waits for it, since whatever a crash forgets is asked of the server again."""

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from agent.core.delivery.audit import AuditKind
from agent.core.delivery.backoff import COOL_DOWN_CAP_S, COOL_DOWN_FIRST_S
from agent.core.privacy.rules import Grounds
from agent.core.transcripts.session import Facts, Rejected, RejectedRow
from agent.delivery.state.tasks import TrackKey
from agent.errors import DiskError
from agent.system.state.state_db import AuditRow, Changes, TrackRow

log = logging.getLogger(__name__)

FLUSH_S = 1.0
FLUSH_ROWS = 4096

AUDIT_KEPT_S = 90 * 86_400.0
AUDIT_ROWS = 100_000
_PRUNE_S = 86_400.0


class Store(Protocol):
    """`system.state.state_db.StateDb`, as far as the daemon needs it."""

    @property
    def note(self) -> str: ...

    def commit(self, changes: Changes) -> None: ...
    def tracks(self) -> Iterator[TrackRow]: ...
    def tombstones(self) -> Iterator[RejectedRow]: ...
    def sessions(self) -> Iterator[tuple[str, Facts]]: ...
    def metas(self) -> Iterator[tuple[str, str, str]]: ...
    def grounds(self) -> Iterator[tuple[str, Grounds]]: ...
    def settle(self, key: str, value: str) -> str: ...
    def settled(self, key: str) -> str: ...
    def prune_audit(self, before_s: float, most: int) -> None: ...
    def mend(self) -> bool: ...


class _Gathered(Protocol):
    def __len__(self) -> int: ...
    def clear(self) -> None: ...


class Journal:
    """`row(key)` gives the row of a stream as it is when it is written; streams change often and are written once."""

    def __init__(
        self,
        store: Store,
        row: Callable[[TrackKey], TrackRow],
        now_s: Callable[[], float],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._row = row
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._changed: set[TrackKey] = set()
        self._tombstones: list[RejectedRow] = []
        self._sessions: dict[str, Facts] = {}
        self._metas: list[tuple[str, str, str]] = []
        self._grounds: dict[str, Grounds] = {}
        self._audit: list[AuditRow] = []
        self._settled: dict[str, str] = {}
        self._written_at_s = monotonic_s()
        self._wait_s = FLUSH_S
        self._has_begun = False
        self._prune_at_s = self._mend_at_s = self._written_at_s
        self._mend_wait_s = 0.0
        """0 while the store is where it belongs."""
        self.trouble = ""
        """Why the store can't be written now; empty when it can."""
        self.on_audit: Callable[[TrackKey, AuditKind], None] = lambda _key, _kind: None

    def note_change(self, key: TrackKey) -> None:
        self._changed.add(key)

    def note_tombstone(self, key: TrackKey, ordinal: int, entry: Rejected) -> None:
        self._tombstones.append(RejectedRow(key.destination, key.stream, ordinal, entry))

    def note_session(self, session_id: str, facts: Facts) -> None:
        self._sessions[session_id] = facts.to_keep()

    def note_meta(self, destination: str, session_id: str, digest: str) -> None:
        self._metas.append((destination, session_id, digest))

    def note_grounds(self, session_id: str, grounds: Grounds) -> None:
        self._grounds[session_id] = grounds

    def note_settled(self, key: str, value: str) -> None:
        self._settled[key] = value

    def note_audit(self, key: TrackKey, kind: AuditKind, detail: str, path: str | None = None) -> None:
        """`path` None: that of the file which stands for the stream."""
        path = self._row(key).path if path is None else path
        self._audit.append(AuditRow(self._now_s(), key.destination, key.stream, kind, detail, path))
        self.on_audit(key, kind)

    def settle(self, key: str, value: str) -> str:
        """The store's value of `key`, which `value` becomes the first time; `value` while it can't be written."""
        try:
            return self._store.settle(key, value)
        except DiskError as exc:
            self.note_trouble(exc)
            return value

    def next_write_s(self) -> float | None:
        """Monotonic time at which there is something to write or to mend; None when there is nothing."""
        if not self._has_begun or (len(self._changed) >= FLUSH_ROWS and not self.trouble):
            return self._written_at_s
        times = [self._written_at_s + self._wait_s] if any(self._gathered()) else []
        times += [self._mend_at_s] if self._mend_wait_s else []
        return min(times, default=None)

    def write(self) -> None:
        """Also brings the store back to where it belongs, if it was driven from there, and forgets what is too old."""
        self._has_begun = True
        self._written_at_s = self._monotonic_s()
        if self._written_at_s >= self._mend_at_s:
            self._mend()
        try:
            if any(self._gathered()):
                self._commit()
            if self._written_at_s >= self._prune_at_s:
                self._store.prune_audit(self._now_s() - AUDIT_KEPT_S, AUDIT_ROWS)
                self._prune_at_s = self._written_at_s + _PRUNE_S
        except DiskError as exc:
            self.note_trouble(exc)
            self._wait_s = COOL_DOWN_FIRST_S
            return
        if self.trouble:
            log.info("state can be written again")
        self.trouble, self._wait_s = "", FLUSH_S

    def _commit(self) -> None:
        rows = [self._row(key) for key in self._changed]
        sessions = list(self._sessions.items())
        settled, grounds = list(self._settled.items()), list(self._grounds.items())
        self._store.commit(Changes(rows, self._tombstones, sessions, self._metas, self._audit, settled, grounds))
        for gathered in self._gathered():
            gathered.clear()

    def _mend(self) -> None:
        if self._store.mend():
            self._mend_wait_s = 0.0
            return
        self._mend_wait_s = min(max(2 * self._mend_wait_s, COOL_DOWN_FIRST_S), COOL_DOWN_CAP_S)
        self._mend_at_s = self._written_at_s + self._mend_wait_s

    def _gathered(self) -> "tuple[_Gathered, ...]":
        lists = (self._tombstones, self._metas, self._audit)
        return (self._changed, *lists, self._sessions, self._settled, self._grounds)

    def note_trouble(self, exc: DiskError) -> None:
        if not self.trouble:
            log.warning("%s; delivery goes on, progress is kept in memory", exc.message)
        self.trouble = exc.message
