"""Who is sent next, and how much is under way. Live streams go before the backlog, destinations take turns."""

from collections.abc import Callable

from agent.core.delivery.lifecycle import Condition
from agent.core.transcripts.session import is_side_file
from agent.delivery.state.gates import Gates
from agent.delivery.state.tasks import (
    DeleteTask,
    FileTask,
    MetaSent,
    MetaTask,
    Outcome,
    Probed,
    ProbeTask,
    Pushed,
    PushTask,
    RealignTask,
    SessionDeleted,
    Task,
    TrackKey,
    UploadTask,
    destination_of,
)
from agent.delivery.state.tracks import DestinationState

BATCH_BYTES = 1 << 20
"""How much of a file one request carries: large enough that a request costs little, small enough for a fair turn."""

BUDGET_BYTES = 16 << 20
"""Bytes of transcripts in memory at once, over all destinations. A batch counts twice: as read, and compressed."""

_MOST_IN_FLIGHT = BUDGET_BYTES // (2 * BATCH_BYTES)


class Outbox:
    """`take(key, destination)` gives the task that sends a stream, or None when there is nothing to send after all;
    `tell(destination, session_id, provider)` the one that sends a session's facts."""

    def __init__(
        self,
        gates: Gates,
        most: int,
        dispatch: Callable[[Task], None],
        monotonic_s: Callable[[], float],
        *,
        take: Callable[[TrackKey, DestinationState], Task | None],
        tell: Callable[[DestinationState, str, str], Task | None],
    ) -> None:
        self._gates = gates
        self._most = most
        self._dispatch = dispatch
        self._monotonic_s = monotonic_s
        self._take = take
        self._tell = tell
        self._turn = 0
        self._began: dict[TrackKey, tuple[float, int]] = {}
        self.in_flight = 0

    def send(self, task: Task) -> None:
        self._count(destination_of(task), _is_file(task), 1)
        if isinstance(task, PushTask):
            self._began[task.key] = (self._monotonic_s(), task.cursor.offset)
        self._dispatch(task)

    def came_back(self, outcome: Outcome) -> None:
        """Counts it, and lets the destination have more or less at once, as it went."""
        self._count(destination_of(outcome), _is_file(outcome), -1)
        if isinstance(outcome, (Probed, MetaSent, SessionDeleted)):
            return
        began = self._began.pop(outcome.key, None)
        if began is not None and isinstance(outcome, Pushed):
            one = self._gates[outcome.key.destination]
            is_full = outcome.cursor.offset - began[1] >= BATCH_BYTES // 2
            took_s = self._monotonic_s() - began[0] if is_full else None
            one.window = one.window.after_success(took_s, self._most)

    def hand_out(self, *, only_deletions: bool = False) -> None:
        """One task a destination in turn, until none takes another."""
        takers = list(self._gates)
        self._turn += 1
        first = self._turn % len(takers) if takers else 0
        takers = takers[first:] + takers[:first]
        while takers:
            takers = [one for one in takers if self._hand_one(one, only_deletions=only_deletions)]

    def _hand_one(self, one: DestinationState, *, only_deletions: bool) -> bool:
        """False when nothing more can be handed out here now."""
        if one.condition is not Condition.RUNNING:
            return False
        # After an outage one stream goes ahead; its success lets the others follow.
        most = 1 if one.attempts else min(self._most, int(one.window.size))
        if one.in_flight >= most or (self.in_flight >= _MOST_IN_FLIGHT and one.in_flight):
            return False
        if one.deletes and one.deletions:
            self.send(DeleteTask(one.name, one.deletions.popitem()[0]))
            return True
        if only_deletions:
            return False
        free_for_live = one.in_flight == most - 1 > 0
        key = one.next_key(live_only=free_for_live)
        task = self._take(key, one) if key is not None else None
        if key is None and not free_for_live:
            return self._hand_side_matter(one)
        if task is not None:
            self.send(task)
        return key is not None

    def _hand_side_matter(self, one: DestinationState) -> bool:
        """Facts of sessions when all is quiet, and side files, one at a time."""
        if one.bulk and one.metas:
            task = self._tell(one, *one.metas.popitem())
            if task is not None:
                self.send(task)
            return True
        key = None if one.files_in_flight else one.next_file()
        task = self._take(key, one) if key is not None else None
        if task is not None:
            self.send(task)
        return key is not None

    def _count(self, name: str, is_file: bool, by: int) -> None:
        one = self._gates[name]
        one.in_flight += by
        one.files_in_flight += by * is_file
        self.in_flight += by


def _is_file(what: Task | Outcome) -> bool:
    if isinstance(what, (ProbeTask, Probed, MetaTask, MetaSent, DeleteTask, SessionDeleted)):
        return False
    if isinstance(what, (PushTask, RealignTask, UploadTask)):
        return False
    return isinstance(what, FileTask) or is_side_file(what.key.subpath)
