"""A burst: so many files at once that the system drops its notices of them."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from tests.faults.fork_server import ForkServer

FOLDERS = 300
PATIENCE_S = 1_200.0
"""Some disks make hundreds of thousands of files in seconds, others in minutes."""

_MAKER = """
import os, sys
root, folders, files = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(folders):
    os.makedirs(f"{root}/p{number}", exist_ok=True)
for number in range(files):
    path = f"{root}/p{number % folders}/s{number}.jsonl"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, b'{"uuid":"u"}\\n')
    os.close(file)
"""


class Burst(NamedTuple):
    """`known`: files that the daemon had seen at the end; `found_s`: after the last was made."""

    known: int
    made_s: float
    found_s: float
    peak_kib: float


def run_burst(folder: Path, files: int) -> Burst:
    """Before a daemon in a process of its own, with real notices and a server that is away."""
    projects, told = folder / "projects", folder / "told"
    projects.mkdir()
    with ForkServer(folder / "logs") as forks:
        child = forks.start(
            "tests.faults.jobs:watch",
            home=str(folder / "home"),
            projects=str(projects),
            files=files,
            told=str(told),
            patience_s=PATIENCE_S,
        )
        wait_until_there(told)
        began_s = time.monotonic()
        subprocess.run([sys.executable, "-c", _MAKER, projects, str(FOLDERS), str(files)], check=True)
        made_s = time.monotonic()
        status = forks.wait(child, within_s=PATIENCE_S + 60)
    assert status == 0, child.said()
    known, found_s, peak_kib = (float(word) for word in told.read_text(encoding="ascii").split())
    return Burst(int(known), made_s - began_s, found_s - made_s, peak_kib)


def wait_until_there(path: Path) -> None:
    deadline, never = time.monotonic() + 120, threading.Event()  # a machine may be busy
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} does not come"
        never.wait(0.01)
