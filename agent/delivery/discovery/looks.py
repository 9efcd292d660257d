"""The scanner's thread: what it is asked to look at, one after the other, and what it looks at between."""

import contextlib
import logging
import queue
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from agent.delivery.base.heartbeats import Heartbeats
from agent.delivery.discovery.hints import Hints
from agent.delivery.discovery.scanner import Scanner
from agent.system.logs import where

log = logging.getLogger(__name__)

SPOOL_S = 1.0
"""How often the spool is looked at when nothing else happens: two calls of `stat`, in a thread that waits
anyway. That takes less than half the time of a job of the scheduler (0.1 ms a second), and needs no change notices."""

SCAN_S = 300.0
"""One folder or one piece of a file may take so long."""

_HINTS_AT_ONCE = 32
"""New files looked at before those that are known get their turn again."""

Look = Callable[[], None]


class Looks:
    """`put` from any thread: something to do, a path that may have changed, or None to end."""

    def __init__(self, beats: Heartbeats) -> None:
        self._beats = beats
        self._queue: queue.SimpleQueue[Look | str | None] = queue.SimpleQueue()
        self.put = self._queue.put

    def run(
        self,
        scanner: Scanner,
        monotonic_s: Callable[[], float],
        is_stopping: Callable[[], bool],
        *,
        scan: Look,
        between: Sequence[Look],
    ) -> None:
        """`scan`: a full look, when there are too many hints; `between`: what has its turn after each look."""
        hints = Hints(scanner.knows)
        while not is_stopping():
            for look in self._next(wait=not hints):
                if look is None:
                    return
                if isinstance(look, str):
                    hints.add(look)
                else:
                    self._do(look)
            for path in hints.pop(_HINTS_AT_ONCE):
                self._do(partial(scanner.look, path))
            if hints.want_full_look(monotonic_s()):
                self._do(scan)
            for look in between:
                self._do(look)

    def _next(self, *, wait: bool) -> Iterator[Look | str | None]:
        """Everything that was asked for; waits for the first of it, not longer than the spool may."""
        self._beats.wait()
        with contextlib.suppress(queue.Empty):
            look = self._queue.get(wait, SPOOL_S)
            self._beats.work(SCAN_S)
            yield look
            while True:
                yield self._queue.get_nowait()

    def _do(self, look: Look) -> None:
        self._beats.work(SCAN_S)
        try:
            look()
        except Exception as exc:  # noqa: BLE001 - a defect must not make us blind
            log.error("a defect in the scanner: %s", where(exc))  # noqa: TRY400 - a traceback may quote a transcript
