"""The key of the hashes in marks: random, kept beside the settings, so that it survives a lost state."""

import contextlib
import os
from pathlib import Path

from agent.errors import DiskError
from agent.system.files.own_files import make_own, read_own

KEY_BYTES = 32


def read_or_make_key(*places: Path) -> bytes:
    """The key from the first place that has one; else a new one, kept in the first place that takes it. Where none
    does, it lasts as long as this process: marks of equal secrets then differ after the next start. Raises DiskError
    where one is there and can't be read, since another would make all that was sent look changed."""
    for place in places:
        key = _read(place)
        if key is not None:
            return key
    key = os.urandom(KEY_BYTES)
    for place in places:
        with contextlib.suppress(OSError):
            return _keep(place, key)
    return key


def _read(place: Path) -> bytes | None:
    try:
        key = bytes.fromhex(read_own(place).decode("ascii").strip())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as exc:
        raise DiskError(f"the redaction key {place} can't be read") from exc
    if len(key) != KEY_BYTES:
        raise DiskError(f"the redaction key {place} has {len(key)} bytes instead of {KEY_BYTES}")
    return key


def _keep(place: Path, key: bytes) -> bytes:
    """Written whole under a name of its own first: what is there is never half a key. Whoever is first keeps it."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = place.with_name(f"{place.name}.{os.getpid()}")
    handle = make_own(draft)
    try:
        with open(handle, "wb") as file:
            file.write(key.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, place)
        except FileExistsError:
            return _read(place) or key
        except OSError:  # a file system without links
            os.replace(draft, place)
            return key
        return key
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
