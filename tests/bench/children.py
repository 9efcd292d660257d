"""Other processes that take part. Each ends with us, however we end: its stdin is our pipe."""

import contextlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
_END_S = 20.0


class ChildFailed(Exception):
    """A process said something else than what it should, or nothing."""


class Child:
    """A program that is told lines and answers with lines. `err` takes its stderr; None lets it through."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], err: Path | None = None) -> None:
        self.name = " ".join(Path(command[0]).name if at == 0 else word for at, word in enumerate(command[:4]))
        with contextlib.ExitStack() as stack:
            stderr = stack.enter_context(err.open("ab")) if err else None
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                cwd=REPOSITORY,
                text=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, line: str) -> None:
        if self._process.stdin is None:
            raise ChildFailed(f"{self.name} has no stdin")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise ChildFailed(f"{self.name} ended with status {self._process.wait(_END_S)} instead of answering")
        return line.strip()

    def hear_json(self) -> Any:
        return msgspec.json.decode(self.hear())

    def end(self, *, ask: bool = False) -> None:
        """Closes its stdin (`ask`: and asks by SIGTERM), then waits; one that stays is killed."""
        if ask:
            self._process.terminate()
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
