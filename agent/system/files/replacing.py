"""A transcript replaced by a changed one: the old one is kept beside it first, and the new one takes its place in one
step, unless somebody wrote meanwhile. A crash leaves the old one, or the new one and the old one beside it.
"""

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterable

from agent.errors import DiskError, UsageError
from agent.system.files import no_links

ENDING = ".transcriptd-old"
"""No coding agent's transcripts end so, and no scanner takes one for a transcript."""


def archive_name(path: str, stamp: str) -> str:
    """`stamp`: when, in letters that may stand in a name."""
    return f"{path.removesuffix('.jsonl')}.{stamp}{ENDING}"


def keep_copy(path: str, archive: str) -> None:
    """Keeps what is there now under another name. Raises DiskError, UsageError for what is no file of its own."""
    _look(path)
    try:
        no_links.link_at(path, archive)
    except FileExistsError as exc:
        raise DiskError(f"{archive} is there already") from exc
    except OSError:
        _copy(path, archive)
    _sync_folder(os.path.dirname(path))


def replace_file(path: str, archive: str, pieces: Callable[[], Iterable[bytes]]) -> None:
    """Puts other content in the place of a file of which `archive` was made. Its mode stays. Raises UsageError when it
    was written to meanwhile: then it is as it was."""
    before, kept = _look(path), _look(archive)
    if (before.st_size, before.st_mtime_ns) != (kept.st_size, kept.st_mtime_ns):
        raise _busy(path)
    made = _write_beside(path, stat.S_IMODE(before.st_mode), pieces)
    try:
        if _state(_look(path)) != _state(before):
            raise _busy(path)
        os.replace(made, path)
    except OSError as exc:
        raise _failed(path, exc) from exc
    finally:
        with contextlib.suppress(OSError):
            os.unlink(made)
    if before.st_ino == kept.st_ino and _look(archive).st_size != before.st_size:
        with contextlib.suppress(OSError):
            os.replace(archive, path)  # a line came at the last moment, into what was the old one already
        raise _busy(path)
    _sync_folder(os.path.dirname(path))


def make_file(path: str, mode: int, pieces: Callable[[], Iterable[bytes]]) -> None:
    """A new file, whole or not at all. Raises DiskError, also when something is there."""
    made = _write_beside(path, mode, pieces)
    try:
        if os.path.lexists(path):
            raise DiskError(f"{path} is there already")
        os.rename(made, path)
    except OSError as exc:
        raise _failed(path, exc) from exc
    finally:
        with contextlib.suppress(OSError):
            os.unlink(made)
    _sync_folder(os.path.dirname(path))


def remove_file(path: str, archive: str) -> None:
    """Takes away a file of which `archive` was made. Raises UsageError when it was written to meanwhile."""
    if _look(path).st_size != _look(archive).st_size:
        raise _busy(path)
    try:
        os.unlink(path)
    except OSError as exc:
        raise _failed(path, exc) from exc
    _sync_folder(os.path.dirname(path))


def mode_of(path: str) -> int:
    return stat.S_IMODE(_look(path).st_mode)


def is_open(paths: Iterable[str]) -> bool:
    """Whether a process of this user has one of the files open, where the system can tell."""
    if not sys.platform.startswith("linux"):
        return False
    wanted = {os.path.realpath(path) for path in paths}
    own = str(os.getpid())
    for process in os.listdir("/proc"):
        if process.isdigit() and process != own:
            folder = f"/proc/{process}/fd"
            with contextlib.suppress(OSError):  # it is somebody else's, or has ended
                for name in os.listdir(folder):
                    with contextlib.suppress(OSError):
                        if os.readlink(f"{folder}/{name}") in wanted:
                            return True
    return False


def _look(path: str) -> os.stat_result:
    try:
        seen = os.lstat(path)
    except OSError as exc:
        raise _failed(path, exc) from exc
    if not stat.S_ISREG(seen.st_mode):
        raise UsageError(f"{path} is a link or no file, so it is left alone")
    return seen


def _state(seen: os.stat_result) -> tuple[int, int, int]:
    return seen.st_size, seen.st_mtime_ns, seen.st_ino


def _busy(path: str) -> UsageError:
    return UsageError(f"{path} is being written, so it was left as it is", hint="end its session first")


def _copy(path: str, archive: str) -> None:
    def pieces() -> Iterable[bytes]:
        with os.fdopen(no_links.open_at(path), "rb") as file:
            while piece := file.read(1 << 20):
                yield piece

    seen = _look(path)
    make_file(archive, stat.S_IMODE(seen.st_mode), pieces)
    with contextlib.suppress(OSError):
        os.utime(archive, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _write_beside(path: str, mode: int, pieces: Callable[[], Iterable[bytes]]) -> str:
    made = os.path.join(os.path.dirname(path), f".transcriptd-{secrets.token_hex(8)}{ENDING}")
    try:
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for piece in pieces():
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(made, mode)
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.unlink(made)
        raise _failed(path, exc) from exc
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(made)
        raise
    return made


def _sync_folder(folder: str) -> None:
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # what is in it is on the disk already
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _failed(path: str, exc: OSError) -> DiskError:
    return DiskError(f"{path} can't be changed: {exc.strerror or 'input/output error'}")
