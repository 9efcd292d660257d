"""The threads that do what the engine hands out: each takes a task from a queue and puts its outcome into the inbox."""

import logging
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from agent.core.wire import Unavailable
from agent.delivery.base.heartbeats import Heartbeats
from agent.delivery.state.tasks import (
    Compared,
    CompareTask,
    DeleteTask,
    DiskOutcome,
    DiskTask,
    MetaSent,
    MetaTask,
    NotHeld,
    Outcome,
    Probed,
    ProbeTask,
    Reviewed,
    ReviewTask,
    SessionDeleted,
    Task,
    Unreadable,
)
from agent.system.logs import where

log = logging.getLogger(__name__)

PUSH_S = 300.0
"""A pusher may be silent for so long: the longest answer that is waited for takes 180 s, and there are names to look up
and keyrings to wait for. Bytes that move, on the line or from the disk, are signs of life."""

KEEP_S = 900.0
"""To copy one file where no link can be made."""


class Threads:
    """Threads of one daemon. One that ends though nobody stopped it is told to `beats`."""

    def __init__(self, beats: Heartbeats, is_stopping: Callable[[], bool]) -> None:
        self._beats = beats
        self._is_stopping = is_stopping
        self._threads: list[threading.Thread] = []

    def start(self, name: str, run: Callable[[], None]) -> None:
        """Raises RuntimeError when the system gives no more."""
        thread = threading.Thread(target=partial(self._run, name, run), name=name, daemon=True)
        self._beats.wait(name)
        thread.start()
        self._threads.append(thread)

    def join(self, left_s: Callable[[], float]) -> None:
        """Waits for those that are there; `left_s()`: for how long still."""
        for thread in self._threads:
            thread.join(max(0.0, left_s()))

    def _run(self, name: str, run: Callable[[], None]) -> None:
        try:
            run()
        finally:
            (self._beats.leave if self._is_stopping() else self._beats.lose)(name)


def run_pusher(
    tasks: "queue.SimpleQueue[Task | None]",
    do: Callable[[Task], Outcome],
    done: Callable[[Outcome], None],
    beats: Heartbeats,
    is_stopping: Callable[[], bool],
) -> None:
    """Until it takes a None."""

    def run(task: Task) -> None:
        done(_try(do, task))

    _run_tasks(tasks, run, beats, PUSH_S, is_stopping)


def run_keeper(
    tasks: "queue.SimpleQueue[DiskTask | None]",
    do: Callable[[DiskTask], DiskOutcome],
    done: Callable[[DiskOutcome], None],
    beats: Heartbeats,
    is_stopping: Callable[[], bool],
) -> None:
    """Until it takes a None."""

    def run(task: DiskTask) -> None:
        done(_try_to_keep(do, task))

    _run_tasks(tasks, run, beats, KEEP_S, is_stopping)


def _run_tasks(
    tasks: "queue.SimpleQueue[Any]",
    run: Callable[[Any], None],
    beats: Heartbeats,
    most_s: float,
    is_stopping: Callable[[], bool],
) -> None:
    while (task := tasks.get()) is not None:
        if is_stopping():
            return
        beats.work(most_s)
        run(task)
        beats.wait()


def _try(do: Callable[[Task], Outcome], task: Task) -> Outcome:
    try:
        return do(task)
    except Exception as exc:  # noqa: BLE001 - a defect must cost one try of one stream, not a worker
        log.error("a defect in a push: %s", where(exc))  # noqa: TRY400 - a traceback may quote a transcript
    why = Unavailable("a defect in transcriptd, see its log", everybody=True)
    match task:
        case ProbeTask():
            return Probed(task.destination, None, why)
        case MetaTask():
            return MetaSent(task.destination, task.session_id, task.provider, task.digest, why)
        case DeleteTask():
            return SessionDeleted(task.destination, task.session_id, why)
        case _:
            return Unreadable(task.key, task.path, why.why, vanished=False)


def _try_to_keep(do: Callable[[DiskTask], DiskOutcome], task: DiskTask) -> DiskOutcome:
    why = "a defect in transcriptd, see its log"
    try:
        return do(task)
    except Exception as exc:  # noqa: BLE001 - a defect must cost one file its second name, not all
        log.error("a defect in keeping files: %s", where(exc))  # noqa: TRY400 - a traceback may quote a transcript
        if isinstance(task, ReviewTask):
            return Reviewed(task.number, task.session_id, why, certain=False, under="", unread=True)
        if isinstance(task, CompareTask):
            return Compared(task.stream, task.path, None, task.stream, "", None, None, why)
        return NotHeld(task.stream, why)
