"""What the kernel says of a process that steps back."""

import json
import os
import platform
import subprocess
import sys

import pytest

from agent.system.machine.priority import NICE, lower_priority
from tests.conftest import REPOSITORY

_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}

CHILD = """
import ctypes, json, os, sys, threading
from agent.system.machine.priority import lower_priority
if len(sys.argv) > 2:
    os.nice(int(sys.argv[2]))
lower_priority()
libc = ctypes.CDLL(None)
seen = []
def look():
    tid = threading.get_native_id()
    seen.append([os.getpriority(os.PRIO_PROCESS, tid), libc.syscall(int(sys.argv[1]), 1, tid)])
look()
thread = threading.Thread(target=look)
thread.start()
thread.join()
print(json.dumps(seen))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in _IOPRIO_GET, reason="asks the kernel by a number"
)
@pytest.mark.parametrize(("before", "after"), [(0, NICE), (15, 15)])
def test_processor_and_disk_serve_others_first_in_every_thread(before: int, after: int) -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    if here:
        pytest.skip(f"these tests run at nice {here}")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(_IOPRIO_GET[platform.machine()]), str(before)],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert json.loads(done.stdout) == [[after, 2 << 13 | 7]] * 2


def test_a_system_that_knows_no_such_thing_costs_nothing() -> None:
    lower_priority("plan9")
    if sys.platform == "linux":
        lower_priority("win32")  # there is no kernel32 here
