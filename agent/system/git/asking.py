"""What git itself says of its configuration. Nothing but `git config --list` is run, which starts no hook, no pager and
no other program; it is told where the repository is, so one of somebody else is read as any other."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping

from agent.system.git.config import Unreadable, Value, parse_listing

WAIT_S = 5.0
_MOST_BYTES = 4 << 20
_PASSED_ON = ("PATH", "XDG_CONFIG_HOME", "SYSTEMROOT", "PROGRAMDATA", "LD_LIBRARY_PATH")
_TRACES = ("GIT_TRACE", "GIT_TRACE2", "GIT_TRACE2_EVENT", "GIT_TRACE2_PERF")
"""Nothing is written there, whatever the user's settings say; those of a repository can't ask for it."""

_APPLE_STUB = "/usr/bin/git"
"""Without Apple's developer tools it asks on the screen whether to install them."""

_APPLE_PLACES = (
    "/Library/Developer/CommandLineTools/usr/bin/git",
    "/Applications/Xcode.app/Contents/Developer/usr/bin/git",
)


def find_git(environment: Mapping[str, str]) -> str:
    """The program's path; empty without one."""
    found = shutil.which("git", path=environment.get("PATH"))
    if found == _APPLE_STUB and sys.platform == "darwin":
        found = next((one for one in _APPLE_PLACES if os.path.exists(one)), None)
    return found or ""


def ask_git(program: str, repository: str, environment: Mapping[str, str], home: str) -> list[Value]:
    """All settings that hold for a repository: of the system, the user, the environment, and of files that others
    include under conditions that hold. Raises Unreadable when git fails, takes longer than 5 s or says too much."""
    passed = {
        name: value for name, value in environment.items() if name in _PASSED_ON or name.startswith("GIT_CONFIG_")
    }
    command = [program, "--no-pager", f"--git-dir={repository}", "config", "--includes", "--list", "-z"]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home if os.path.isdir(home) else None,
            env={**passed, **dict.fromkeys(_TRACES, "0"), "HOME": home},
        )
    except OSError as exc:
        raise Unreadable from exc
    with process:
        deadline = threading.Timer(WAIT_S, process.kill)
        deadline.start()
        try:
            data = process.stdout.read(_MOST_BYTES + 1) if process.stdout else b""
            if len(data) > _MOST_BYTES:
                process.kill()
        finally:
            deadline.cancel()
    if process.returncode != 0 or len(data) > _MOST_BYTES:
        raise Unreadable
    return parse_listing(data)
