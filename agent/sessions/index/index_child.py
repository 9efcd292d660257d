"""The process that keeps the index while a daemon runs: `python -m agent.sessions.index.index_child`, asked over stdin.

The first line names the index and the folders; then each asks for one thing, and `{"did": n}` answers it:

    {"n": 1, "all": true}                         look at everything
    {"n": 2, "force": ["claude"]}                 and read all of these providers anew
    {"n": 3, "files": […], "gone": […]}           look at these files; these are not there any more

It ends by itself when nothing was asked for a minute, and at once when stdin ends, because its daemon did.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from agent.core.transcripts.session import Observation, StreamId
from agent.delivery.discovery.scanner import Root
from agent.delivery.inventory.survey import read_followed
from agent.errors import AgentError
from agent.providers import PROVIDERS
from agent.sessions.index.index_upkeep import held_index
from agent.sessions.index.indexing import Indexer
from agent.system.machine.priority import lower_priority
from agent.system.machine.process import kept_private
from agent.system.paths import Paths

IDLE_S = 60.0
LOCK_S = 60.0
_TELL_S = 0.5

BUSY, FAILED = 75, 1
"""Exit statuses: another process holds the index; it can't be written."""


def main() -> int:
    lower_priority()
    with kept_private():
        asked: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        begin = json.loads(sys.stdin.readline())
        threading.Thread(target=_listen, args=(sys.stdin, asked.put, os._exit), daemon=True).start()
        roots = [Root(PROVIDERS[name], path) for name, path in begin["roots"] if name in PROVIDERS]
        state = Path(begin["state"])
        paths = Paths(state, state, state)
        try:
            return serve(paths, roots, asked, _tell, idle_s=begin.get("idle_s", IDLE_S))
        except AgentError as exc:
            _tell({"failed": exc.message})
            return FAILED


def serve(
    paths: Paths,
    roots: list[Root],
    asked: "queue.SimpleQueue[dict[str, Any]]",
    tell: Callable[[Mapping[str, Any]], None],
    *,
    idle_s: float,
) -> int:
    """Until nothing was asked for `idle_s`: the exit status. Raises DiskError."""
    with held_index(paths, wait_s=LOCK_S) as db:
        if db is None:
            return BUSY
        indexer = Indexer(db, roots, followed=partial(read_followed, paths))
        while True:
            try:
                wish = asked.get(timeout=idle_s)
            except queue.Empty:
                indexer.finish()
                return 0
            _do(indexer, wish, tell)
            tell({"did": wish["n"], "unread": len(indexer.failed)})
            indexer.failed.clear()


def _do(indexer: Indexer, wish: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]) -> None:
    if wish.get("all") or wish.get("force"):
        told_s = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal told_s
            now_s = time.monotonic()
            if now_s - told_s >= _TELL_S:
                told_s = now_s
                tell({"done": done, "total": total})

        indexer.look_at_all(progress, force=wish.get("force"))
        indexer.link()
        return
    indexer.look_at(decode_observation(one) for one in wish.get("files", ()))
    indexer.lose(StreamId(*one) for one in wish.get("gone", ()))


def decode_observation(row: list[Any]) -> Observation:
    """As `index_keeper` writes it."""
    return Observation(StreamId(*row[0]), *row[1:])


def _listen(stdin: TextIO, put: Callable[[dict[str, Any]], None], leave: Callable[[int], Any]) -> None:
    for line in stdin:
        put(json.loads(line))
    leave(0)  # whoever asked is gone; what is not written yet is read again


def _tell(said: Mapping[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
