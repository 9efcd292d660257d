"""What a process lets out of itself: modes of new files, core files, and its memory for debuggers."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.cli.main import COMMANDS
from agent.system.machine.process import kept_private, setting
from tests.system.privileges import needs_posix
from tests.waiting import wait_for


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
        "from agent.system.machine.process import kept_private\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))\n"
        "look = lambda: print(resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
        "with kept_private(): look()\n"
        "look()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["0", "4096"]


@needs_posix
@pytest.mark.timeout(30)
def test_a_signal_that_comes_while_its_event_is_about_to_be_waited_for_is_heard() -> None:
    event = threading.Event()
    before = signal.signal(signal.SIGUSR1, setting(event))
    try:
        with event._cond:  # type: ignore[attr-defined]  # as `wait` holds it
            signal.raise_signal(signal.SIGUSR1)
        assert event.wait(20)
    finally:
        signal.signal(signal.SIGUSR1, before)


PROBE = """
import ctypes, resource, sys
import agent.cli.main
resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))
def look():
    print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
agent.cli.main.main = look
agent.cli.main.start()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "capture"])
def test_no_command_leaves_a_picture_of_its_memory(command: str) -> None:
    """Asked where the command would begin."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, command], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["0", "0"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("receiver", "serve", "--port", "0", "--token-stdin"), "receiver ready"),
        (("login", "http://127.0.0.1:9", "--token-stdin"), ""),
        (("-m", "agent.system.tokens.child"), ""),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else "",
)
def test_who_waits_for_a_token_leaves_none_either(arguments: tuple[str, ...], said: str) -> None:
    """As the kernel sees the process that reads it: killed by a signal that makes core files, it makes none."""
    program = arguments if arguments[0] == "-m" else ("-m", "agent", *arguments)
    allowed = ("/bin/sh", "-c", 'ulimit -S -c 8 && exec "$@"', "sh", sys.executable, *program)
    process = subprocess.Popen(allowed, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        if said:
            process.stdin.write("tsd_a-token-of-nobody\n")
            process.stdin.flush()
            assert said in process.stdout.readline()
        limits = Path(f"/proc/{process.pid}/limits")
        wait_for(lambda: "Max core file size        0 " in limits.read_text(encoding="ascii"), "the limit", 60)
    finally:
        process.kill()
        process.communicate(timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl")
def test_its_memory_is_nobody_elses_meanwhile() -> None:
    """The kernel gives what /proc shows of such a process to root, and pipes no core of it to anybody."""
    script = (
        "import ctypes\n"
        "from agent.system.machine.process import kept_private\n"
        "look = lambda: print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
        "with kept_private(): look()\n"
        "look()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["0", "1"]
