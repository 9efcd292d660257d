"""The engine on a thread of its own. What it is told and asked stands in one queue, in the order in which it came."""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from agent.delivery.base.heartbeats import Heartbeats
from agent.delivery.engine.engine import Engine
from agent.delivery.state.inputs import Input, ScanEnded
from agent.errors import NotRunning
from agent.system.logs import where
from agent.system.machine.process import give_back_memory

log = logging.getLogger(__name__)

T = TypeVar("T")

WHO = "engine"

WORK_S = 300.0
"""It may be silent for so long over one event, with a disk that hardly takes a write."""


class _Question(NamedTuple):
    ask: Callable[[Engine], Any]
    answer: "Future[Any]"


class _Stop(NamedTuple):
    pass


class EngineThread:
    """`tell` and `ask` are for any thread. `scans`: full looks at the disk that the engine has taken in."""

    def __init__(self, beats: Heartbeats, monotonic_s: Callable[[], float], is_stopping: Callable[[], bool]) -> None:
        """While `is_stopping()` no question is taken: nobody is to wait for an answer then."""
        self.scans = 0
        self.failed = threading.Event()
        """Set when it died of a defect."""
        self._beats = beats
        self._monotonic_s = monotonic_s
        self._inbox: queue.SimpleQueue[Input | _Question | _Stop] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_stopping = is_stopping

    def start(self, engine: Engine, begun: Callable[[], object]) -> None:
        """`begun` is called there once the engine has taken up what was stored. Raises RuntimeError when the system
        gives no thread."""
        thread = threading.Thread(target=self._run, args=(engine, begun), name=WHO, daemon=True)
        thread.start()
        self._thread = thread

    def tell(self, event: Input) -> None:
        """What is asked afterwards finds it done."""
        self._inbox.put(event)

    def ask(self, question: Callable[[Engine], T], timeout_s: float) -> T:
        """What `question` gives when it is asked there. It must only read. Raises NotRunning without an answer."""
        if self.failed.is_set() or self._is_stopping():
            raise NotRunning("transcriptd is stopping", hint="transcriptd status")
        answer: Future[T] = Future()
        self._inbox.put(_Question(question, answer))
        try:
            return answer.result(timeout_s)
        except TimeoutError as exc:
            raise NotRunning("the engine does not answer", hint="transcriptd status") from exc

    def stop(self, timeout_s: float) -> bool:
        """After all that it was told. False when it is at work still."""
        self._inbox.put(_Stop())
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self, engine: Engine, begun: Callable[[], object]) -> None:
        self._beats.work(WORK_S)
        try:
            engine.start()
            begun()
            while True:
                event = self._next(engine)
                if isinstance(event, _Stop):
                    break
                if event is not None:
                    self._handle(engine, event)
                engine.tick()
            engine.finish()
        except Exception as exc:  # noqa: BLE001 - a defect: say where, without the values, and let the service restart
            log.critical("the engine stopped: %s", where(exc))
            self.failed.set()
        finally:
            self._beats.leave()

    def _next(self, engine: Engine) -> Input | _Question | _Stop | None:
        """None when a time has come instead."""
        deadline = engine.next_deadline_s()
        wait_s = None if deadline is None else max(0.0, deadline - self._monotonic_s())
        self._beats.wait(WHO)
        try:
            return self._inbox.get(timeout=wait_s)
        except queue.Empty:
            return None
        finally:
            self._beats.work(WORK_S, WHO)

    def _handle(self, engine: Engine, event: Input | _Question) -> None:
        if isinstance(event, _Question):
            try:
                event.answer.set_result(event.ask(engine))
            except Exception as exc:  # noqa: BLE001 - it belongs to the one who asked
                event.answer.set_exception(exc)
            return
        if isinstance(event, ScanEnded):
            self.scans += 1
            give_back_memory()
        engine.handle(event)
