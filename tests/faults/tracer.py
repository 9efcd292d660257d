"""strace on a child of the fork server: what it asks of the system, and which of that fails."""

import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conftest import require_tool
from tests.faults.fork_server import Child, ForkServer, Hangs

HUNG = -999
"""In the place of an exit status: it did not end by itself."""

_CALL = re.compile(r"^(\d+) +(\w+)\(", re.MULTILINE)


class Fault(NamedTuple):
    """The `k`-th `call` of each thread goes wrong, or all from then on. `how` is what strace injects:
    `error=ENOSPC`, `retval=0`, `signal=KILL`."""

    call: str
    k: int
    how: str
    sticky: bool

    def __str__(self) -> str:
        return f"{self.call} {self.k}{'+' if self.sticky else ''} {self.how}"

    def option(self) -> str:
        return f"inject={self.call}:{self.how}:when={self.k}{'+' if self.sticky else ''}"


class Trace(NamedTuple):
    """How a child ended, what it asked for, and what it said."""

    status: int
    calls: str
    said: str

    def most_calls(self) -> Counter[str]:
        """Of each system call, how many the busiest thread made."""
        most: Counter[str] = Counter()
        for (_, name), count in Counter(_CALL.findall(self.calls)).items():
            most[name] = max(most[name], count)
        return most


def run_traced(
    forks: ForkServer, child: Child, calls: Sequence[str], paths: Sequence[Path], fault: Fault | None = None
) -> Trace:
    """Lets a held child go under strace. Only `calls` count, and with `paths` only those that concern one of them."""
    output = child.log.with_suffix(".strace")
    with attached(child, calls, paths, fault, output):
        forks.release(child)
        status = wait(forks, child)
    trace = Trace(status, output.read_text(errors="replace"), child.said())
    output.unlink()
    child.log.unlink()
    return trace


def wait(forks: ForkServer, child: Child) -> int:
    try:
        return forks.wait(child)
    except Hangs:
        return HUNG


class attached:  # noqa: N801 - reads as what it is: `with attached(child, …):`
    """strace at work on a child; the faults end with the block, whether the child has ended or not."""

    def __init__(
        self, child: Child, calls: Sequence[str], paths: Sequence[Path], fault: Fault | None, output: Path
    ) -> None:
        command = [
            require_tool("strace"),
            "-f",
            "-o",
            str(output),
            "-e",
            "trace=" + ",".join(f"?{one}" for one in calls),
        ]
        for path in paths:
            command += ["-P", str(path)]
        if fault is not None:
            command += ["-e", fault.option()]
        self._command = [*command, "-p", str(child.pid)]
        self._told = output.with_suffix(".told")

    def __enter__(self) -> None:
        with self._told.open("wb") as told:  # not a pipe: nobody reads on, and a line for each new thread would fill it
            self._process = subprocess.Popen(self._command, stderr=told)
        deadline, never = time.monotonic() + 30, threading.Event()
        while "attached" not in (said := self._told.read_text(errors="replace")):
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            never.wait(0.001)

    def __exit__(self, *_exc: object) -> None:
        """Also twice."""
        self._process.terminate()
        self._process.wait(10)
        self._told.unlink(missing_ok=True)
