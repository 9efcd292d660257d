"""The files that service managers read: whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path

from agent.errors import DiskError

_MODE = 0o644
"""launchd takes no file that others may write; nothing in them is secret."""


def read_file(path: Path) -> bytes | None:
    """None when it is not there. Raises DiskError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise DiskError(f"{path} can't be read: {exc.strerror}") from exc


def write_file(path: Path, content: bytes) -> None:
    """Makes or replaces it, and the folders it lies in; on disk when it returns. A crash leaves the old or the new one.
    Raises DiskError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(file, "wb") as writing:
                writing.write(content)
                writing.flush()
                os.fsync(writing.fileno())
            os.chmod(fresh, _MODE)
            os.replace(fresh, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
    except OSError as exc:
        raise DiskError(f"{path} can't be written: {exc.strerror}") from exc


def remove_file(path: Path) -> bool:
    """Whether it was there. Raises DiskError."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise DiskError(f"{path} can't be removed: {exc.strerror}") from exc
    return True


def remove_empty_folders(folder: Path, *, up_to: Path) -> None:
    """`folder` and those around it, below `up_to`, for as long as nothing is in them. Never fails."""
    with contextlib.suppress(OSError):
        while folder != up_to and up_to in folder.parents:
            folder.rmdir()
            folder = folder.parent
