"""Many seeds on all cores: children that run stories and tell how it went, a line each time."""

import logging
import os
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.simulation.story import Story

REPOSITORY = Path(__file__).resolve().parents[2]
STEP = 50
"""Seeds of a child between two signs of life."""


class Failed(NamedTuple):
    seed: int
    why: str

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.why}\n  again, step by step: python -m tests.simulation {self.seed}"


@contextmanager
def quiet() -> Iterator[None]:
    """The daemon's log says what goes wrong with the wire, which is all the time here."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def try_seed(seed: int) -> str:
    """Why the story of a seed ends badly; empty when it does not."""
    story = None
    try:
        with quiet():
            story = Story(seed)
            story.run()
    except AssertionError as exc:
        return str(exc) or _where(exc)
    except Exception as exc:  # noqa: BLE001 - whatever a defect raises is what the seed found
        return _where(exc)
    return ""


def _where(exc: BaseException) -> str:
    last = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{type(exc).__name__}: {exc} ({os.path.basename(last.filename)}:{last.lineno})"


def tell(first: int, stop: int, step: int) -> None:
    """What a child does: `failed SEED WHY` for each bad end, `done N` every so often."""
    done = 0
    for seed in range(first, stop, step):
        why = try_seed(seed)
        if why:
            _say(f"failed {seed} {' '.join(why.split())}")
        done += 1
        if done == STEP:
            _say(f"done {done}")
            done = 0
    _say(f"done {done}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run_seeds(
    first: int, count: int, *, workers: int, heard: Callable[[int, list[Failed]], bool] = lambda done, failed: True
) -> tuple[int, list[Failed]]:
    """How many of the seeds from `first` on were tried, and those that ended badly. `heard(done, failed)` is told as
    it goes, and says whether to go on."""
    children = [_start(first + number, first + count, workers) for number in range(workers)]
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    readers = [threading.Thread(target=_read, args=(child, lines)) for child in children]
    for reader in readers:
        reader.start()
    done, failed, running = 0, list[Failed](), workers
    try:
        while running:
            line = lines.get()
            if line is None:
                running -= 1
                continue
            word, _, rest = line.partition(" ")
            if word == "done":
                done += int(rest)
            else:
                seed, _, why = rest.partition(" ")
                failed.append(Failed(int(seed), why))
            if not heard(done, failed):
                break
    finally:
        for child in children:
            child.terminate()
        for reader in readers:
            reader.join()
        for child in children:
            child.wait()
    return done, sorted(failed)


def _start(first: int, stop: int, step: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.simulation", "tell", str(first), str(stop), str(step)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def _read(child: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            lines.put(line.rstrip("\n"))
    lines.put(None)
