"""What the agent remembers of the rules of privacy that it saw last, in small files of the state folder."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from agent.errors import DiskError
from agent.system.files.own_files import read_own

_T = TypeVar("_T")
_MOST_BYTES = 8 << 20


def read_known(path: Path, kind: type[_T]) -> _T | None:
    """None where there is none, or none that can be read: then what is there now is what is known. Raises NotOurs."""
    try:
        return msgspec.json.decode(read_own(path, _MOST_BYTES), type=kind)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None


def write_known(path: Path, known: object) -> None:
    """A crash leaves the old or the new. Raises DiskError."""
    try:
        data = msgspec.json.encode(known)
        file, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(file, "wb") as writing:
                writing.write(data)
                writing.flush()
                os.fsync(writing.fileno())
            os.replace(fresh, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
    except OSError as exc:
        raise DiskError(f"{path} can't be written: {exc.strerror}") from exc
