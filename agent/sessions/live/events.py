"""The last happenings, numbered, for any number of listeners at their own pace. Nobody is waited for: who is slower
than the ring is told to refresh.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from agent.core.sessions.events import SCHEMA, EventKind, Happening, to_json
from agent.delivery.state.journal import Store
from agent.errors import DiskError
from agent.system.state.state_db import Changes

RING = 5_000

_RUN = 10_000_000
"""Numbers set aside for one run. The next one begins behind them, so that a number is not given twice, whatever became
of the process."""

_NEXT_SEQ = "events_next_seq"


class Ring:
    """`epoch` names this run: a client that knows another one missed something. Any thread may call it."""

    def __init__(self, epoch: str, now_s: Callable[[], float], *, first_seq: int = 1, size: int = RING) -> None:
        self.epoch = epoch
        self._now_s = now_s
        self._size = size
        self._first_seq = first_seq
        self._next_seq = first_seq
        self._slots: list[Happening | None] = [None] * size
        self._lock = threading.Lock()
        self._wakes: dict[object, Callable[[], None]] = {}

    @property
    def last_seq(self) -> int:
        """0 when there never was one."""
        return self._next_seq - 1

    @property
    def oldest_seq(self) -> int:
        """Of what is still there; that of the next one when nothing is."""
        return max(self._first_seq, self._next_seq - self._size)

    def tell(self, happening: Happening) -> None:
        """Gives it its number. Waits for nobody."""
        seq = self._next_seq
        numbered = msgspec.structs.replace(happening, seq=seq)
        with self._lock:
            self._slots[seq % self._size] = numbered
            self._next_seq = seq + 1
            wakes = tuple(self._wakes.values())
        for wake in wakes:
            wake()

    def read(self, from_seq: int, most: int) -> Sequence[Happening] | None:
        """Up to `most` from there on; None when some of them are gone."""
        with self._lock:
            if from_seq < self.oldest_seq:
                return None
            upto = min(self._next_seq, from_seq + most)
            return [one for seq in range(from_seq, upto) if (one := self._slots[seq % self._size]) is not None]

    def list_all(self) -> Sequence[Happening]:
        with self._lock:
            seqs = range(self.oldest_seq, self._next_seq)
            return [one for seq in seqs if (one := self._slots[seq % self._size]) is not None]

    def misses(self, after_seq: int, epoch: str) -> bool:
        """Whether whoever knows all up to there can't be told what came since. 0 asks for all that there is."""
        if epoch and epoch != self.epoch:
            return True
        return after_seq != 0 and not self.oldest_seq - 1 <= after_seq <= self.last_seq

    def follow(self, after_seq: int | None, epoch: str) -> "Following":
        """From the next one on, or from behind `after_seq`."""
        if after_seq is None:
            return Following(self, self._next_seq, refresh=bool(epoch) and epoch != self.epoch)
        if self.misses(after_seq, epoch):
            return Following(self, self._next_seq, refresh=True)
        return Following(self, max(after_seq + 1, self.oldest_seq), refresh=False)

    def describe(self) -> Mapping[str, Any]:
        return {"schema": SCHEMA, "epoch": self.epoch, "seq": self.last_seq, "oldest_seq": self.oldest_seq}

    def refresh(self) -> Happening:
        return Happening(EventKind.REFRESH, self._now_s(), seq=self.last_seq, epoch=self.epoch)

    def listen(self, who: object, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakes[who] = wake

    def forget(self, who: object) -> None:
        with self._lock:
            self._wakes.pop(who, None)


class Following:
    """One subscriber's place in the ring; the control socket's `Feed`."""

    def __init__(self, ring: Ring, next_seq: int, *, refresh: bool) -> None:
        self._ring = ring
        self._next_seq = next_seq
        self.refresh = refresh
        """It is told to refresh before anything else."""

    def listen(self, wake: Callable[[], None]) -> None:
        self._ring.listen(self, wake)

    def take(self, most: int) -> Sequence[Any]:
        found = None if self.refresh else self._ring.read(self._next_seq, most)
        if found is None:
            told = self._ring.refresh()
            self.refresh, self._next_seq = False, told.seq + 1
            return [to_json(told)]
        self._next_seq += len(found)
        return [to_json(one) for one in found]

    def close(self) -> None:
        self._ring.forget(self)


def open_ring(store: Store, epoch: str, now_s: Callable[[], float]) -> Ring:
    """Its numbers begin behind all that were given before, as far as the store remembers."""
    known = store.settled(_NEXT_SEQ)
    first_seq = int(known) if known.isascii() and known.isdigit() else 1
    with contextlib.suppress(DiskError):  # the epoch tells the runs apart as well
        store.commit(Changes(settled=[(_NEXT_SEQ, str(first_seq + _RUN))]))
    return Ring(epoch, now_s, first_seq=first_seq)
