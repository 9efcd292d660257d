"""What a process lets out of itself: modes of new files, core files, and its memory for debuggers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.system.process import kept_private
from tests.system.privileges import needs_posix


@needs_posix
def test_what_is_made_meanwhile_is_the_owners_alone_and_the_umask_comes_back(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with kept_private():
            (tmp_path / "made").touch()
        (tmp_path / "after").touch()
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("made", "after")]
    assert modes == [0o600, 0o666]


@needs_posix
def test_a_process_that_dies_meanwhile_leaves_no_core_file() -> None:
    """Asked in a process of its own, which also tells how it stands behind the block."""
    script = (
        "import resource\n"
        "from agent.system.process import kept_private\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))\n"
        "look = lambda: print(resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
        "with kept_private(): look()\n"
        "look()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["0", "4096"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl")
def test_its_memory_is_nobody_elses_meanwhile() -> None:
    """The kernel gives what /proc shows of such a process to root, and pipes no core of it to anybody."""
    script = (
        "import ctypes\n"
        "from agent.system.process import kept_private\n"
        "look = lambda: print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
        "with kept_private(): look()\n"
        "look()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["0", "1"]
