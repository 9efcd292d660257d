"""The daemon's side of the index: tells a process of its own what changed, starts it when there is something to tell,
and gives up nothing but time when it fails. Remembers no sessions, only what was not told yet, within bounds.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import agent
from agent.core.transcripts.session import Gone, Observation
from agent.delivery.discovery.scanner import Root
from agent.system.notify import child_environment

log = logging.getLogger(__name__)

COALESCE_S = 1.0
"""A file that grows line by line is looked at once a second."""

MOST_PENDING = 256
"""Of more files, a look at everything costs less than their names."""

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 60.0, 3600.0
STOP_S = 2.0


class Progress(NamedTuple):
    """`busy`: something was asked that is not done. Bytes of what is being read. `unread`: transcripts that could not
    be read."""

    busy: bool
    done: int
    total: int
    failed: bool
    unread: int = 0


Start = Callable[[], "subprocess.Popen[bytes]"]


def start_child() -> "subprocess.Popen[bytes]":
    # `-m` looks in the current folder first, and users have folders named agent: ours is the one beside this file.
    home_of_package = Path(agent.__file__).resolve().parent.parent
    return subprocess.Popen(
        [sys.executable, "-m", "agent.sessions.index.index_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=home_of_package,
        env=child_environment(os.environ),
    )


class IndexKeeper:
    """`observed` and `vanished` from any thread; nothing happens before `start`."""

    def __init__(
        self,
        state: Path,
        roots: Sequence[Root],
        *,
        start: Start = start_child,
        coalesce_s: float = COALESCE_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._begin = {"state": str(state), "roots": [[root.provider.name, root.path] for root in roots]}
        self._start = start
        self._coalesce_s = coalesce_s
        self._monotonic_s = monotonic_s
        self._changed = threading.Condition()
        self._files: dict[str, list[Any]] = {}
        self._gone: dict[str, list[Any]] = {}
        self._all = False
        self._force: set[str] = set()
        self._child: subprocess.Popen[bytes] | None = None
        self._asked = self._did = 0
        self._read = (0, 0)
        self._unread = 0
        self._backoff_s = 0.0
        self._not_before_s = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
        child = self._child
        if child is not None:
            _end(child)

    def observed(self, observations: Iterable[Observation]) -> None:
        with self._changed:
            for one in observations:
                if len(self._files) >= MOST_PENDING:
                    self._want_all()
                    break
                self._gone.pop(one.path, None)
                self._files[one.path] = [list(one.stream), *one[1:]]
            self._changed.notify_all()

    def vanished(self, gone: Iterable[Gone]) -> None:
        with self._changed:
            for one in gone:
                if len(self._gone) >= MOST_PENDING:
                    self._want_all()
                    break
                self._files.pop(one.path, None)
                self._gone[one.path] = list(one.stream)
            self._changed.notify_all()

    def ask_all(self, force: Iterable[str] = ()) -> None:
        """A look at everything; of `force`, all is read anew."""
        with self._changed:
            self._force.update(force)
            self._want_all()
            self._not_before_s = 0.0
            self._changed.notify_all()

    def progress(self) -> Progress:
        with self._changed:
            busy = self._did < self._asked or self._has_something()
            return Progress(busy, *self._read, bool(self._backoff_s), self._unread)

    # --- its thread -------------------------------------------------------------------------------------------

    def _want_all(self) -> None:
        self._all = True
        self._files.clear()
        self._gone.clear()

    def _has_something(self) -> bool:
        return bool(self._all or self._force or self._files or self._gone)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and not self._has_something():
                    self._changed.wait()
                pause_s = max(self._coalesce_s, self._not_before_s - self._monotonic_s())
                until_s = self._monotonic_s() + pause_s
                while not self._stopping and (left_s := until_s - self._monotonic_s()) > 0:
                    self._changed.wait(left_s)
                if self._stopping:
                    return
                wish = self._take()
            self._tell(wish)

    def _take(self) -> dict[str, Any]:
        self._asked += 1
        wish: dict[str, Any] = {"n": self._asked}
        if self._force:
            wish["force"] = sorted(self._force)
        elif self._all:
            wish["all"] = True
        else:
            wish["files"], wish["gone"] = list(self._files.values()), list(self._gone.values())
        self._all = False
        self._force.clear()
        self._files.clear()
        self._gone.clear()
        return wish

    def _tell(self, wish: Mapping[str, Any]) -> None:
        try:
            child = self._child
            if child is None:
                child = self._child = self._start()
                threading.Thread(target=self._hear, args=(child,), name="index answers", daemon=True).start()
                self._write(child, self._begin)
            self._write(child, wish)
        except OSError:
            if self._child is None:
                self._failed("it can't be started")
            # One that went away is noticed by who hears it, and asked for everything again.

    @staticmethod
    def _write(child: "subprocess.Popen[bytes]", said: Mapping[str, Any]) -> None:
        assert child.stdin is not None  # noqa: S101 - it was asked for
        child.stdin.write(json.dumps(said).encode() + b"\n")
        child.stdin.flush()

    def _hear(self, child: "subprocess.Popen[bytes]") -> None:
        assert child.stdout is not None  # noqa: S101 - it was asked for
        for line in child.stdout:
            self._take_answer(json.loads(line))
        status = child.wait()
        with self._changed:
            self._child = None
            child.stdout.close()
            if self._stopping:
                return
            is_open = self._did < self._asked
            self._did = self._asked
            if is_open:
                self._want_all()
                self._changed.notify_all()
        if status != 0:
            self._failed(f"it ended with {status}")

    def _take_answer(self, said: Mapping[str, Any]) -> None:
        with self._changed:
            if "did" in said:
                self._did = int(said["did"])
                self._unread = int(said["unread"])
                self._read = (0, 0)
                self._backoff_s = 0.0
            elif "total" in said:
                self._read = (int(said["done"]), int(said["total"]))

    def _failed(self, why: str) -> None:
        with self._changed:
            is_first = not self._backoff_s
            self._backoff_s = min(self._backoff_s * 2 or FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
            self._not_before_s = self._monotonic_s() + self._backoff_s
            self._want_all()
            self._changed.notify_all()
        log.log(
            logging.WARNING if is_first else logging.DEBUG,
            "the index of sessions is not kept up to date: %s; another try follows in %.0f s",
            why,
            self._backoff_s,
        )


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Its stdin ends, and so does it."""
    try:
        if child.stdin is not None:
            child.stdin.close()
    except OSError:
        pass  # it went away first
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
