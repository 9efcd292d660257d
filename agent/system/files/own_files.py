"""The one door to files of ours: opened as if anybody could have put something in their place.

Who may write to a folder of ours, or could before it was ours alone, can leave a pipe there that nobody writes to, a
link to what is not ours, a device, or a file that others may change later. So nothing here follows a link or waits, and
what is no regular file of this user is refused by name. Every module of this room may use it.

It imports next to nothing: hooks come through here too.
"""

import errno
import os
import stat

from agent.errors import NotOurs

TYPE_CHECKING = False  # as type checkers know it; importing `typing` takes as long as all of a hook's work
if TYPE_CHECKING:
    import filelock

_Path = str | os.PathLike[str]

_SAFE = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

_NOT_A_FILE = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR, errno.EOPNOTSUPP, errno.ENODEV})
"""What systems say of a link, of a pipe that nobody reads, a folder, a socket and a device without a driver."""

_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_own(path: _Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """A descriptor. Raises NotOurs, and OSError as `os.open` does."""
    check_own(path)  # opening a device may already do something
    try:
        descriptor = os.open(path, flags | _SAFE, mode)
    except OSError as exc:
        if exc.errno in _NOT_A_FILE:
            check_own(path)  # with its kind, if it is still there
            raise NotOurs(f"{os.fspath(path)} is no file", hint=_hint(path)) from exc
        raise
    try:
        _check(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_own(path: _Path, most_bytes: int = -1) -> bytes:
    """All of a file, or its first bytes. Raises as `open_own`."""
    with open(open_own(path), "rb") as file:
        return file.read(most_bytes)


def make_own(path: _Path, mode: int = 0o600) -> int:
    """A descriptor of a new file, in the place of whatever had its name: that is removed, not written to. OSError as
    the system says, also when a folder has the name."""
    try:  # noqa: SIM105 - contextlib is dear to hooks
        os.unlink(path)
    except FileNotFoundError:
        pass
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, mode)


def check_own(path: _Path) -> None:
    """Raises NotOurs when something else than a file of ours is there; nothing is fine. For libraries that open files
    by themselves."""
    try:
        seen = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # whoever opens it is told why
    _check(path, seen)


def check_own_folder(path: _Path) -> None:
    """Raises NotOurs when something else than a folder of ours is there; nothing is fine. It may be reached by a link
    that is ours: people move their folders to other disks."""
    try:
        link = os.lstat(path)
        if stat.S_ISLNK(link.st_mode):
            _check_owner(path, link, "link")
        seen = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    if not stat.S_ISDIR(seen.st_mode):
        raise NotOurs(f"{os.fspath(path)} is {_kind(seen)}, where a folder of ours belongs", hint=_hint(path))
    _check_owner(path, seen, "folder")


def lock_own(path: _Path, timeout_s: float = -1) -> "filelock.BaseFileLock":
    """A lock on a file of ours, not held yet. Raises NotOurs."""
    import filelock  # whoever only reads need not load it

    check_own(path)
    return filelock.FileLock(path, timeout=timeout_s, mode=0o600)


def read_regular(path: _Path) -> bytes:
    """A file of somebody's, links followed: settings may be kept elsewhere. OSError as the system says, and also for
    what is no regular file, instead of waiting for it."""
    descriptor = os.open(path, os.O_RDONLY | (_SAFE & ~getattr(os, "O_NOFOLLOW", 0)))
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            raise OSError(errno.EINVAL, f"it is {_kind(seen)}", os.fspath(path))
    except BaseException:
        os.close(descriptor)
        raise
    with open(descriptor, "rb") as file:
        return file.read()


def _check(path: _Path, seen: os.stat_result) -> None:
    if not stat.S_ISREG(seen.st_mode):
        raise NotOurs(f"{os.fspath(path)} is {_kind(seen)}, where a file of ours belongs", hint=_hint(path))
    _check_owner(path, seen, "file")


def _check_owner(path: _Path, seen: os.stat_result, kind: str) -> None:
    if os.name == "posix" and seen.st_uid not in (0, os.geteuid()):
        raise NotOurs(
            f"{kind} {os.fspath(path)} belongs to user {seen.st_uid}, not to {os.geteuid()}", hint=_hint(path)
        )


def _kind(seen: os.stat_result) -> str:
    return next((name for is_kind, name in _KINDS if is_kind(seen.st_mode)), "a file")


def _hint(path: _Path) -> str:
    from shlex import quote

    name = os.fspath(path)
    return f"look who put it there, then: mv {quote(name)} {quote(name + '.not-ours')}"
