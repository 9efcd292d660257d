"""One daemon a home: a file lock that the system releases when its holder dies."""

import contextlib
import os
from pathlib import Path

import filelock

from agent.errors import AlreadyRunning, DiskError
from agent.system.files.own_files import check_own, make_own, read_own

_PID_BYTES = 32


def read_holder(path: Path) -> int | None:
    """The process that holds the lock at `path`, or held it when it was killed; None where nobody said so."""
    try:
        return int(read_own(_pid_path(path), _PID_BYTES))
    except (OSError, DiskError, ValueError):
        return None


def is_alive(pid: int) -> bool:
    """Whether there may be a process of that number: a crash leaves one behind that is nobody's, or another's."""
    if os.name != "posix" or pid <= 0:
        return pid > 0
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _pid_path(path: Path) -> Path:
    return path.with_suffix(".pid")


class DaemonLock:
    """Held from `acquire` to `release`. The file beside it names the holder's process id, for people."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = filelock.FileLock(path, mode=0o600)

    def acquire(self) -> None:
        """Raises AlreadyRunning when another process holds it, DiskError when the file can't be made or is not ours.
        A full disk has no room for the process id, and must not keep the daemon from running."""
        try:
            check_own(self._path)
            self._lock.acquire(timeout=0)
        except filelock.Timeout as exc:
            raise AlreadyRunning(f"another transcriptd{self._holder()} is at work", hint="transcriptd status") from exc
        except OSError as exc:
            raise DiskError(f"{self._path} can't be locked: {exc.strerror}") from exc
        with contextlib.suppress(OSError), open(make_own(self._pid_path()), "wb") as file:
            file.write(b"%d\n" % os.getpid())

    def release(self) -> None:
        """Never fails: what stays behind on a disk that takes no changes is stale and known to be."""
        with contextlib.suppress(OSError):
            self._pid_path().unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._lock.release()

    def _pid_path(self) -> Path:
        return _pid_path(self._path)

    def _holder(self) -> str:
        pid = read_holder(self._path)
        return "" if pid is None or not is_alive(pid) else f" (process {pid})"
