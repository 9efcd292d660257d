"""Which runs are on, and which ended lately: a small file, so that a run is told complete once whatever becomes of the
process. A line for each change, and anew when most lines say what later ones say otherwise. Ids and times, never a word
of a transcript."""

import contextlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import DiskError
from agent.system.files.own_files import make_own, open_own

if TYPE_CHECKING:
    from agent.core.sessions.runs import Run

_MOST_LINE_BYTES = 64 << 10

_SLACK_LINES = 256


class RunsFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: int | None = None
        """How many it holds; None where it has to be written anew before a line may follow."""

    def read(self) -> "list[Run]":
        """Those of the life before, each as its last line says; what is none of our lines is passed over."""
        import msgspec

        from agent.core.sessions.runs import Run

        found: dict[str, Run] = {}
        decoder = msgspec.json.Decoder(Run)
        with contextlib.suppress(OSError, DiskError), open(open_own(self._path), "rb") as file:
            for line in iter(lambda: file.readline(_MOST_LINE_BYTES), b""):
                with contextlib.suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                    run = decoder.decode(line)
                    found[run.id] = run
        return list(found.values())

    def note(self, changed: "Sequence[Run]", known: "Collection[Run]") -> None:
        """`known`: all that are to be remembered, as they are now. On the disk when it returns. Raises DiskError."""
        lines = None if self._lines is None else self._lines + len(changed)
        try:
            if lines is None or lines > 2 * len(known) + _SLACK_LINES:
                lines = len(known)
                self._lines = None
                self._write(known)
            else:
                self._lines = None
                _put(open_own(self._path, os.O_WRONLY | os.O_APPEND), changed)
        except OSError as exc:
            raise DiskError(f"{self._path} can't be written: {exc.strerror or 'input/output error'}") from exc
        self._lines = lines

    def _write(self, runs: "Collection[Run]") -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        _put(make_own(fresh), runs)
        os.replace(fresh, self._path)


def _put(descriptor: int, runs: "Collection[Run]") -> None:
    import msgspec

    with open(descriptor, "wb") as file:
        file.write(msgspec.json.Encoder().encode_lines(list(runs)))
        file.flush()
        os.fsync(file.fileno())
