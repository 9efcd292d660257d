"""The capture spool on disk: hooks append to it, the daemon takes it over. `core.spool` has its lines.

Who appends or takes over holds a lock on a file beside it. The spool is taken over by a rename to a snapshot of its
own, which is removed when its lines have been handled; a snapshot that a crash left is taken up before the spool. A
hook that does not get the lock at once leaves its lines as such a snapshot: on a busy machine or a slow disk a holder
may stand still for seconds, and neither the lines nor the coding agent must pay for that.

Hooks import this module: it must stay cheap. That is why the lock is the system's own call, which `filelock` makes
too: importing that library alone takes longer than a whole hook may.
"""

import errno
import os
import sys
import time
from collections.abc import Mapping

from agent.core.spool import parse_ends, parse_lines, render_end, render_ends, render_line, render_lines
from agent.errors import DiskError, FileVanished
from agent.system.files.own_files import make_own, open_own, read_own

MOST_BYTES = 4 << 20
"""Some 30,000 lines that nobody read."""

WAIT_S = 0.5
"""For the lock, where there is time. Its holders need microseconds, beside others who are at work."""

HOOK_WAIT_S = 0.1
"""The same for a hook, which then does without."""

MOST_ASIDE = 1000
"""Snapshots, beyond which a hook makes none."""

_POLL_S = 0.002
_ENDING = ".taken"
_OPEN = os.O_RDWR | os.O_CREAT


Signature = tuple[int, int, int]


def spool_path(environment: Mapping[str, str]) -> str:
    """Where the spool is: what `Paths.spool` says, by the rules of platformdirs, without what these two import."""
    if home := environment.get("TRANSCRIPTD_HOME"):
        return os.path.join(os.path.abspath(os.path.expanduser(home)), "state", "spool")
    if sys.platform == "win32":
        import platformdirs  # it has to ask the system

        return os.path.join(platformdirs.user_state_dir("transcriptd", appauthor=False), "spool")
    folder = environment.get("XDG_STATE_HOME", "")
    if not os.path.isabs(folder):
        folder = os.path.expanduser("~/Library/Application Support" if sys.platform == "darwin" else "~/.local/state")
    return os.path.join(folder, "transcriptd", "spool")


def _age_key(one: os.DirEntry[str]) -> int:
    """0 for what somebody took up since the folder was listed."""
    try:
        return one.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class Spool:
    """The spool at `path`. Every failure is a DiskError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock_path = f"{path}.lock"

    def append(self, session_id: str, path: str, ended_at_s: float | None = None) -> None:
        """One line, and one more when the session ended then. Refused when it can't be one, and when the spool is full
        even without its duplicates."""
        ended = b"" if ended_at_s is None else render_end(session_id, ended_at_s)
        data = render_line(session_id, path) + ended
        try:
            self._append(data, HOOK_WAIT_S)
        except _Busy:
            if len(self._left()) >= MOST_ASIDE:
                raise
            self._put_aside(data)

    def requeue(self, hints: Mapping[str, str], known: Signature | None = None) -> Signature | None:
        """Puts lines back, to be taken again. `hints`: path → session id. What the spool is then; None where it was
        another before than `known`, so that somebody else's lines stand in it, too."""
        before, after = self._append(render_lines(hints), WAIT_S)
        return after if before == known else None

    def snapshots(self) -> list[str]:
        """Takes the spool over, and names every snapshot there is: those that a crash left come first."""
        left = self._left()
        if not os.path.exists(self.path):
            return left
        try:
            with _Held(self._lock_path):
                try:
                    if not os.path.getsize(self.path):
                        return left
                    taken = self._snapshot_name()
                    os.replace(self.path, taken)
                except FileNotFoundError:
                    return left
                except OSError as exc:
                    raise _failed(self.path, exc) from exc
        except _Busy:
            if left:
                return left  # the spool comes next time
            raise
        return [*left, taken]

    def read(self, snapshot: str) -> dict[str, str]:
        """Path → session id of a snapshot's lines."""
        return parse_lines(self._read(snapshot))

    def read_ends(self, snapshot: str) -> dict[str, float]:
        """Session id → when it ended, wall time."""
        return parse_ends(self._read(snapshot))

    def _read(self, snapshot: str) -> bytes:
        try:
            return read_own(snapshot)
        except OSError as exc:
            raise _failed(snapshot, exc) from exc

    def drop(self, snapshot: str) -> None:
        """Removes a snapshot whose lines have been handled."""
        try:
            os.unlink(snapshot)
        except OSError as exc:
            raise _failed(snapshot, exc) from exc

    def signature(self) -> Signature | None:
        """Changes with each line in the spool itself; None when there is nothing to take over."""
        try:
            seen = os.stat(self.path)
        except OSError:
            return None
        return (seen.st_ino, seen.st_size, seen.st_mtime_ns) if seen.st_size else None

    def aside_signature(self) -> int:
        """Changes with each snapshot that a hook left."""
        try:
            return os.stat(self._lock_path).st_mtime_ns
        except OSError:
            return 0

    def waiting(self) -> int:
        """How many transcripts are named and not yet taken up."""
        found: dict[str, str] = {}
        for one in [*self._left(), self.path]:
            try:
                found |= self.read(one)
            except FileVanished:
                continue
        return len(found)

    def _left(self) -> list[str]:
        """The snapshots there are, the oldest first."""
        folder, name = os.path.split(self.path)
        try:
            with os.scandir(folder) as entries:
                found = [one for one in entries if one.name.startswith(f"{name}-") and one.name.endswith(_ENDING)]
                return [one.path for one in sorted(found, key=lambda one: (_age_key(one), one.name))]
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise _failed(folder, exc) from exc

    def _put_aside(self, data: bytes) -> None:
        """As a snapshot, there as a whole or not at all. The lock's file gets another time, which its readers see."""
        name = self._snapshot_name()
        fresh = f"{name}.new"
        try:
            with open(make_own(fresh), "wb") as file:
                file.write(data)
            os.replace(fresh, name)
            os.utime(self._lock_path)
        except OSError as exc:
            try:  # noqa: SIM105 - contextlib is dear to hooks
                os.unlink(fresh)
            except OSError:
                pass
            raise _failed(self.path, exc) from exc

    def _snapshot_name(self) -> str:
        return f"{self.path}-{os.getpid()}-{os.urandom(6).hex()}{_ENDING}"

    def _append(self, data: bytes, wait_s: float) -> tuple[Signature | None, Signature | None]:
        """What the spool was before, and what it is then."""
        if not data:
            return None, None
        with _Held(self._lock_path, wait_s):
            before = self.signature()
            try:
                if not self._has_room(len(data)):
                    return None, before
                file = open_own(self.path, _OPEN | os.O_APPEND)
                try:
                    _append_whole(file, data)
                finally:
                    os.close(file)
            except OSError as exc:
                raise _failed(self.path, exc) from exc
            return before, self.signature()

    def _has_room(self, count: int) -> bool:
        """Whether `count` bytes more may stand in the spool. One that is full is written anew without duplicates."""
        try:
            if os.path.getsize(self.path) + count <= MOST_BYTES:
                return True
        except FileNotFoundError:
            return True
        data = read_own(self.path)
        collapsed = render_lines(parse_lines(data)) + render_ends(parse_ends(data))
        if len(collapsed) + count > MOST_BYTES:
            return False
        fresh = f"{self.path}.new"  # one name is enough under the lock, and a crash leaves no second one
        with open(make_own(fresh), "wb") as file:
            file.write(collapsed)
        os.replace(fresh, self.path)
        return True


def _append_whole(file: int, data: bytes) -> None:
    """All of `data` or nothing, on lines of its own whatever a crash left before it."""
    size = os.lseek(file, 0, os.SEEK_END)
    if size:
        os.lseek(file, size - 1, os.SEEK_SET)
        if os.read(file, 1) != b"\n":
            data = b"\n" + data
    try:
        whole = os.write(file, data) == len(data)
    except OSError:
        os.ftruncate(file, size)
        raise
    if not whole:
        os.ftruncate(file, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Busy(DiskError):
    """Somebody else has the lock."""


class _Held:
    """The lock on a file, held for the block. The system releases it when its holder dies."""

    def __init__(self, path: str, wait_s: float = WAIT_S) -> None:
        self._path = path
        self._wait_s = wait_s
        self._file = -1

    def __enter__(self) -> None:
        try:
            self._file = open_own(self._path, _OPEN)
        except OSError as exc:
            raise _failed(self._path, exc) from exc
        deadline = time.monotonic() + self._wait_s
        try:
            while not _try_lock(self._file):
                if time.monotonic() > deadline:
                    raise _Busy(f"{self._path} is held by another process for more than {self._wait_s:g} s")
                time.sleep(_POLL_S)
        except OSError as exc:
            os.close(self._file)
            raise _failed(self._path, exc) from exc
        except BaseException:
            os.close(self._file)
            raise

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: int) -> bool:
        """Not run on Windows yet; `filelock` does it so. The lock ends with the descriptor."""
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # some file systems say so of a lock that is held
            return False
        return True


def _failed(path: str, exc: OSError) -> DiskError:
    if isinstance(exc, FileNotFoundError):
        return FileVanished(f"{path} is no longer there")
    return DiskError(f"{path} can't be used: {exc.strerror or 'input/output error'}")
