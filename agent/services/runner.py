"""The one door to the programs that manage services: handed in everywhere, so that tests answer for them."""

import locale
import os
import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.errors import ServiceError

TIMEOUT_S = 180.0
"""`systemctl start` waits for READY, which a unit of ours has to say within 120 s."""

NOT_FOUND = 127
TIMED_OUT = 124
"""As shells and `timeout` say it."""


class Ran(NamedTuple):
    """`status`: the exit status; negative for a signal, 127 where there is no such program, 124 when it took too
    long."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What it said, on one line: where its own words are the best there are."""
        return " ".join((self.err.strip() or self.out.strip()).split())


Runner = Callable[[Sequence[str]], Ran]


def run_command(command: Sequence[str], timeout_s: float = TIMEOUT_S) -> Ran:
    """Runs a program to its end, with no stdin and no shell, in the C locale. Never raises."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "", "SYSTEMD_URLIFY": "0"},
        )
    except subprocess.TimeoutExpired:
        return Ran(TIMED_OUT, "", f"no end within {timeout_s:.0f} s")
    except (OSError, ValueError) as exc:
        missing = isinstance(exc, FileNotFoundError)
        return Ran(NOT_FOUND, "", f"{command[0]}: {'not found' if missing else exc}")
    return Ran(done.returncode, decode_output(done.stdout), decode_output(done.stderr))


def decode_output(raw: bytes) -> str:
    """UTF-16 where it says so (as `schtasks` may), else UTF-8, else what the system's own programs write."""
    if raw[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode(locale.getpreferredencoding(do_setlocale=False), errors="replace")


def spawn_detached(command: tuple[str, ...]) -> None:
    """Starts a program that outlives this one and has no window. Raises ServiceError."""
    flags = getattr(subprocess, "DETACHED_PROCESS", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    quiet = subprocess.DEVNULL
    try:
        subprocess.Popen(
            command, stdin=quiet, stdout=quiet, stderr=quiet, creationflags=flags, start_new_session=os.name == "posix"
        )
    except OSError as exc:
        raise ServiceError(f"{command[0]} can't be started: {exc.strerror}") from exc
