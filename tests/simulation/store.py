"""The agent's state store in memory, over a medium that outlives it and may be treated badly.

`Medium` stands for the file on disk: it keeps every commit, so that it can lose the last ones as a lying drive or an
old backup would. `tests/contracts/test_state_store.py` holds the store beside the real database.
"""

import random
from collections.abc import Iterator
from typing import Any

from agent.core.privacy.rules import Grounds
from agent.core.transcripts.session import Facts, RejectedRow, StreamId
from agent.errors import DiskError
from agent.system.state.state_db import AuditRow, Changes, TrackRow

_DAMAGED = "state was damaged and begun anew; the old one is aside"
_IN_MEMORY = "state is kept in memory only: it can't be written"
_FULL = "the state can't be written: database or disk is full"


class Medium:
    """`commits` is all that was ever written, oldest first; the first `synced` of them are on the disk for good."""

    def __init__(self) -> None:
        self.commits: list[Changes | tuple[str, str]] = []
        self.synced = 0
        self.is_damaged = False
        self.is_full = False
        """Nothing can be written while this is true, and what is opened lives in memory."""
        self.lies = False
        """The drive says that a commit is on the disk before it is."""

    def open(self) -> "FakeStore":
        """What `open_state` gives: always a store, in the worst case a new one."""
        if self.is_full:
            return FakeStore(Medium(), note=_IN_MEMORY, home=self)
        note = ""
        if self.is_damaged:
            self.commits.clear()
            self.synced, self.is_damaged, note = 0, False, _DAMAGED
        return FakeStore(self, note=note)

    def write(self, change: Changes | tuple[str, str]) -> None:
        if self.is_full:
            raise DiskError(_FULL)
        self.commits.append(change)
        if not self.lies:
            self.synced = len(self.commits)

    def cut_power(self, rng: random.Random) -> str:
        """What was not on the disk is gone, at least some of it; a write that was torn damages all."""
        unsynced = len(self.commits) - self.synced
        if not unsynced:
            return "nothing lost"
        if rng.random() < 0.3:
            self.is_damaged = True
            return "torn"
        kept = rng.randrange(unsynced)
        del self.commits[self.synced + kept :]
        self.synced = len(self.commits)
        return f"{unsynced - kept} commits lost"

    def roll_back(self, rng: random.Random) -> str:
        """Somebody brings an older copy of the state back."""
        kept = rng.randrange(len(self.commits) + 1)
        del self.commits[kept:]
        self.synced = kept
        return f"to commit {kept}"


class FakeStore:
    """`agent.delivery.state.journal.Store` over a medium. Rows come in the order of their keys."""

    def __init__(self, medium: Medium, *, note: str = "", home: Medium | None = None) -> None:
        """`home`: where it belongs, while it lives elsewhere."""
        self.note = note
        self._medium = medium
        self._home = home
        self._tracks: dict[tuple[str, StreamId], TrackRow] = {}
        self._tombstones: dict[tuple[str, StreamId, int], RejectedRow] = {}
        self._sessions: dict[str, Facts] = {}
        self._metas: dict[tuple[str, str], str] = {}
        self._settled: dict[str, str] = {}
        self._grounds: dict[str, Grounds] = {}
        self._audit: list[AuditRow] = []
        for change in medium.commits:
            self._apply(change)

    def close(self) -> None:
        """The medium stays."""

    def commit(self, changes: Changes) -> None:
        kept = Changes._make(tuple(rows) for rows in changes)
        self._medium.write(kept)
        self._apply(kept)

    def settle(self, key: str, value: str) -> str:
        if key not in self._settled:
            self._medium.write((key, value))
            self._settled[key] = value
        return self._settled[key]

    def settled(self, key: str) -> str:
        return self._settled.get(key, "")

    def prune_audit(self, before_s: float, most: int) -> None:
        if self._medium.is_full:
            raise DiskError(_FULL)
        self._audit = [row for row in self._audit if row.at_s >= before_s][-most:]

    def mend(self) -> bool:
        """Goes home when there is room again, with all that is known here."""
        if self._home is None or self._home.is_full:
            return self._home is None
        for change in self._medium.commits:
            self._home.write(change)
        self._medium, self._home, self.note = self._home, None, ""
        return True

    def _apply(self, change: Any) -> None:
        if not isinstance(change, Changes):
            self._settled.setdefault(*change)
            return
        self._tracks.update(((row.destination, row.stream), row) for row in change.tracks)
        self._tombstones.update((row[:3], row) for row in change.tombstones)
        self._sessions.update(change.sessions)
        self._metas.update(((destination, session), digest) for destination, session, digest in change.metas)
        self._audit.extend(change.audit)
        self._settled.update(change.settled)
        self._grounds.update(change.grounds)

    def tracks(self) -> Iterator[TrackRow]:
        return (self._tracks[key] for key in sorted(self._tracks))

    def tombstones(self) -> Iterator[RejectedRow]:
        return (self._tombstones[key] for key in sorted(self._tombstones))

    def sessions(self) -> Iterator[tuple[str, Facts]]:
        return ((session, self._sessions[session]) for session in sorted(self._sessions))

    def metas(self) -> Iterator[tuple[str, str, str]]:
        return ((*key, self._metas[key]) for key in sorted(self._metas))

    def grounds(self) -> Iterator[tuple[str, Grounds]]:
        return ((session, self._grounds[session]) for session in sorted(self._grounds))

    def audit(self) -> Iterator[AuditRow]:
        return iter(self._audit)
