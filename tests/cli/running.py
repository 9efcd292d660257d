"""The command line as a person meets it: arguments in; output and exit status out."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from click.testing import CliRunner

from agent.cli.main import main
from tests.conftest import REPOSITORY


@dataclass
class Done:
    status: int
    out: str
    err: str
    raw: bytes = b""

    def json(self) -> Any:
        assert self.status == 0 or self.out, self.err
        assert self.out.count("\n") == 1, "scripts read one line"
        return json.loads(self.out)


def run(*arguments: str, stdin: str = "", program: str = "transcriptd") -> Done:
    """`transcriptd ARGUMENTS` in this process: the same `main`, with its way of telling failures."""
    status = 0
    named = mock.patch.object(sys, "argv", [program, *arguments])
    with _log_as_before(), named, CliRunner().isolation(input=stdin) as streams:
        try:
            main()
        except SystemExit as exc:
            status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        out, err = streams[0].getvalue(), streams[1].getvalue()
    return Done(status, out.decode(errors="replace"), err.decode(), out)


def spawn(*arguments: str, python: tuple[str, ...] = (), more: Mapping[str, str] | None = None) -> Done:
    """The same in a process of its own."""
    done = subprocess.run(
        [sys.executable, *python, "-m", "agent", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **(more or {})},
        capture_output=True,
        encoding=(more or {}).get("PYTHONIOENCODING", "utf-8"),
        errors="backslashreplace",
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def _log_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
