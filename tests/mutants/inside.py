"""Runs tests within a copy of the repository, and makes sure that it is the copy which is tested.

python -m tests.mutants.inside COPY     a line {"tests": [node ids], "log": path, "limit_s": n} for each run on stdin,
                                        its exit status on stdout: pytest's, 70 where another `agent` was imported,
                                        below 0 the signal that ended it (-14: not done in time)

Every run is a fork that imports `agent` and `tests` anew; what others wrote is imported before, once for all.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

NOT_THE_COPY = 70
"""Unlike any exit status of pytest: what was imported is not what was changed."""

_OF_OTHERS = (
    "pytest",
    "apscheduler.schedulers.background",
    "filelock",
    "hypothesis.stateful",
    "keyring",
    "msgspec",
    "re2",
    "requests",
    "rich.console",
    "sqlite3",
    "starlette.applications",
    "uvicorn",
    "watchdog.observers",
)


def run(copy: Path, nodeids: Sequence[str]) -> int:
    import pytest

    import agent
    import tests

    for package in (agent, tests):
        if not Path(package.__file__ or "").resolve().is_relative_to(copy):
            sys.stdout.write(f"{package.__name__} was imported from {package.__file__}, not from {copy}\n")
            return NOT_THE_COPY
    quiet = [
        "-q",
        "-rfE",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        "-p",
        "pytest_timeout",
        "-o",
        "timeout=0",
        f"--basetemp={copy}-tmp",
    ]
    return int(pytest.main([*quiet, *nodeids]))


def serve(copy: Path) -> None:
    for name in _OF_OTHERS:
        import_module(name)
    for line in sys.stdin:
        wanted = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _be_child(copy, wanted)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _be_child(copy: Path, wanted: dict[str, Any]) -> None:
    signal.alarm(wanted["limit_s"])
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    status = 1
    try:
        status = run(copy, wanted["tests"])
    except BaseException:  # noqa: BLE001 - a fork must never go on as if it were its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(Path(sys.argv[1]).resolve())
