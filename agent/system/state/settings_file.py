"""The settings file of another program, as text: changed as a whole or not at all, with a copy of what was there.

Links are followed, so that a file kept elsewhere (in a repository of settings, say) is the one that changes. Mode and
owner stay as they are.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from agent.errors import DiskError, SettingsError
from agent.system.files.own_files import read_regular

_COPY = ".before-transcriptd"


class SettingsFile:
    """The file at `path`, links followed. An empty text stands for no file."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        self.copy = self.path.with_name(self.path.name + _COPY)

    def read(self) -> str:
        """Raises SettingsError when it is not UTF-8, DiskError when it can't be read or its folder is not there."""
        if not self.path.parent.is_dir():
            raise DiskError(
                f"folder {self.path.parent} is not there", hint="start Claude Code once, or name --settings"
            )
        return _read(self.path) or ""

    def read_copy(self) -> str | None:
        """What was there before the last change that was copied; None when nobody knows."""
        return _read(self.copy)

    def write_copy(self, text: str) -> None:
        _replace(self.copy, text, like=self.path)

    def write(self, text: str, *, instead_of: str) -> None:
        """Raises DiskError, also when somebody else changed the file since `instead_of` was read."""
        _replace(self.path, text, like=self.path, instead_of=instead_of)


def write_text(path: Path, text: str) -> None:
    """Makes or replaces a small file of its own, and the folder it lies in. Raises DiskError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DiskError(f"folder {path.parent} can't be made: {exc.strerror}") from exc
    _replace(path, text, like=path)


def remove_file(path: Path) -> None:
    """Removes it; whether it is there or not. Raises DiskError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise DiskError(f"{path} can't be removed: {exc.strerror}") from exc


def _read(path: Path) -> str | None:
    try:
        return read_regular(path).decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{path} is not UTF-8", hint="nothing was changed") from exc
    except OSError as exc:
        raise DiskError(f"{path} can't be read: {exc.strerror}") from exc


def _replace(path: Path, text: str, *, like: Path, instead_of: str | None = None) -> None:
    """On disk when it returns. A crash leaves the old or the new, and never a part."""
    try:
        file, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600: it may hold secrets
        try:
            with os.fdopen(file, "wb") as writing:
                writing.write(text.encode())
                _take_after(writing.fileno(), like)
                writing.flush()
                os.fsync(writing.fileno())
            if instead_of is not None and (_read(path) or "") != instead_of:
                raise DiskError(f"{path} was changed by somebody else meanwhile", hint="run the command again")
            if text or instead_of is None:
                os.replace(fresh, path)
            else:
                path.unlink()
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
        _sync_folder(path.parent)
    except OSError as exc:
        raise DiskError(f"{path} can't be written: {exc.strerror}") from exc


def _take_after(file: int, like: Path) -> None:
    """Gives an open file mode and owner of another one, if that is there."""
    try:
        seen = like.stat()
    except FileNotFoundError:
        return
    if os.name == "posix":
        mine = os.fstat(file)
        if (mine.st_uid, mine.st_gid) != (seen.st_uid, seen.st_gid):
            os.fchown(file, seen.st_uid, seen.st_gid)
        os.fchmod(file, seen.st_mode & 0o7777)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
