"""Tokens in files: one that only its owner may read, or a credential that systemd hands to a service."""

import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from agent.errors import TokenNotReadable

_MOST_BYTES = 16_384
CREDENTIALS = "CREDENTIALS_DIRECTORY"


class Signature(NamedTuple):
    """Tells one content of a file from the next, as far as the system does."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def read_token_file(path: str) -> str | None:
    """The token in `path`; None when the file is not there or empty. Raises TokenNotReadable, also when others than
    its owner may read or change it (Windows does not tell)."""
    path = os.path.expanduser(path)
    if not path:
        raise TokenNotReadable('token_file is not set, which token = "file" needs', hint="transcriptd config path")
    return _read(path, by_its_owner=True)


def credential_path(name: str, environment: Mapping[str, str]) -> str:
    """Where systemd puts a credential of this service. Raises TokenNotReadable outside of one."""
    folder = environment.get(CREDENTIALS, "")
    if not folder:
        raise TokenNotReadable(
            f"no service manager hands out credentials here ({CREDENTIALS} is not set)",
            hint=f"LoadCredential={name}:FILE in the unit, or: systemd-creds",
        )
    if not name or name in (".", "..") or "/" in name:
        raise TokenNotReadable("credential is no name of a credential", hint="transcriptd config path")
    return os.path.join(folder, name)


def read_credential(name: str, environment: Mapping[str, str]) -> str | None:
    """The same for a credential; the service manager sees to who may read it."""
    return _read(credential_path(name, environment), by_its_owner=False)


def read_signature(path: str) -> Signature | None:
    """None when nothing is there, or can't be looked at."""
    try:
        seen = os.stat(os.path.expanduser(path))
    except OSError:
        return None
    return Signature(seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _read(path: str, *, by_its_owner: bool) -> str | None:
    try:
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer must not hang us
        try:
            seen = os.fstat(opened)
            if not stat.S_ISREG(seen.st_mode):
                raise TokenNotReadable(f"token file {path} is no file")
            if by_its_owner and os.name == "posix":
                _check_owner(path, seen)
            data = os.read(opened, _MOST_BYTES + 1)
        finally:
            os.close(opened)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise TokenNotReadable(f"token file {path} can't be read: {exc.strerror}") from exc
    if len(data) > _MOST_BYTES:
        raise TokenNotReadable(f"token file {path} holds more than the {_MOST_BYTES} bytes that a token may have")
    text = data.decode("ascii", errors="replace").strip()
    if len(text.split()) > 1:
        raise TokenNotReadable(f"token file {path} holds more than one word, expected the token and nothing else")
    return text or None


def _check_owner(path: str, seen: os.stat_result) -> None:
    """Of the file that is open, so that nobody can exchange it between the look and the reading."""
    if seen.st_uid != os.getuid():
        raise TokenNotReadable(f"token file {path} belongs to user {seen.st_uid}, not to {os.getuid()}")
    mode = stat.S_IMODE(seen.st_mode)
    if mode & 0o077:
        raise TokenNotReadable(
            f"token file {path} is open to others (mode {mode:04o}, at most 0600)", hint=f"chmod 600 {path}"
        )
