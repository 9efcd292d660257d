"""Which runs are on, and which ended lately: a small file, so that a run is told complete once whatever becomes of the
process. Ids and times, never a word of a transcript."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import DiskError

if TYPE_CHECKING:
    from agent.core.runs import Run

_MOST_BYTES = 4 << 20


class RunsFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> "list[Run]":
        """Those of the life before; none where the file is not there or is none of ours."""
        import msgspec

        from agent.core.runs import Run

        try:
            with open(self._path, "rb") as file:
                found: list[Run] = msgspec.json.decode(file.read(_MOST_BYTES), type=list[Run])
        except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return []
        return found

    def write(self, runs: "Sequence[Run]") -> None:
        """Atomic, and on the disk when it returns. Raises DiskError."""
        import msgspec

        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.encode(list(runs)))
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self._path)
        except OSError as exc:
            raise DiskError(f"{self._path} can't be written: {exc.strerror or 'input/output error'}") from exc
