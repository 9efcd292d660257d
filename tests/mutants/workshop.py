"""A copy of the repository, in which mutants are made and the tests that know them are run."""

import compileall
import json
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from tests.mutants.mutant import Mutant

TIMEOUT_S = 90
"""Tests of a mutant take seconds. One that makes a test run without end is no use: choose another test, or mutant."""

_COPIED = ("agent", "tests", "pyproject.toml")
_OUTSIDE = ("PYTEST_", "TRANSCRIPTD_RELIABILITY")
_FAILED = 1
"""The exit status of pytest for tests that failed; 2 and above are errors of collection, of use, or no tests."""


class Run(NamedTuple):
    """`status`: see `tests.mutants.inside`; None when time was up. `failed`: ids of the tests that failed."""

    status: int | None
    failed: frozenset[str]
    output: str


def mutated(source: str, mutant: Mutant) -> str:
    """`source` with the mutant in it. Raises ValueError where the table does not fit the code."""
    found = source.count(mutant.text)
    if found != 1:
        raise ValueError(
            f"{mutant.file} holds the text of this mutant {found} times, not once: let its table follow"
            f" the code\n{mutant.text}"
        )
    changed = source.replace(mutant.text, mutant.becomes)
    try:
        compile(changed, mutant.file, "exec")
    except SyntaxError as exc:
        raise ValueError(f"{mutant.file} is no Python any more with this mutant: {exc}") from exc
    return changed


def complaint(mutant: Mutant, run: Run) -> str:
    """What is wrong about a mutant's run; empty when every test that should catch it did."""
    if run.status is None:
        return f"not done after {TIMEOUT_S} s"
    if run.status != _FAILED:
        return f"exit status {run.status}, where tests that fail give {_FAILED}"
    missed = [test for test in mutant.caught_by if not any(_is_of(one, test) for one in run.failed)]
    return "not caught by " + ", ".join(missed) if missed else ""


def _is_of(failed: str, test: str) -> bool:
    return failed == test or failed.startswith(f"{test}[")


class Workshop:
    """One run at a time; the copy is made for the first one."""

    def __init__(self, repository: Path, copy: Path) -> None:
        self._repository = repository
        self._copy = copy
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._server is not None:
            self._server.__exit__(None, None, None)  # ends at the end of its input
            shutil.rmtree(f"{self._copy}-tmp", ignore_errors=True)

    def run(self, mutant: Mutant) -> Run:
        """The tests that are to catch it, with the mutant in the code."""
        self._make_once()
        path = self._copy / mutant.file
        source = path.read_text(encoding="utf-8")
        path.write_text(mutated(source, mutant), encoding="utf-8")
        try:
            return self._run_tests(mutant.caught_by)
        finally:
            path.write_text(source, encoding="utf-8")

    def run_unchanged(self, tests: Sequence[str]) -> Run:
        """The tests on the code as it is."""
        return self._run_tests(tests, len(tests) * TIMEOUT_S)

    def _make_once(self) -> None:
        copy = self._copy
        if copy.exists():
            return
        copy.mkdir(parents=True)
        for name in _COPIED:
            if (source := self._repository / name).is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        # By time and size, a mutant made within the second would pass for what was compiled before it.
        by_content = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(copy / "agent", quiet=1, invalidation_mode=by_content)
        # Without plugins a run takes half of its time, and its order is always the same.
        # A mutant's losses are none of the agent's, and the run outside is none of its business.
        ours = {name: value for name, value in os.environ.items() if not name.startswith(_OUTSIDE)}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.inside", str(copy)],
            cwd=copy,
            env={**ours, "PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _run_tests(self, tests: Sequence[str], limit_s: int = TIMEOUT_S) -> Run:
        self._make_once()
        server = self._server
        assert server is not None
        assert server.stdin is not None
        assert server.stdout is not None
        log = self._copy.with_suffix(".log")
        server.stdin.write(json.dumps({"tests": list(tests), "log": str(log), "limit_s": limit_s}) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        if status < 0:
            return Run(None, frozenset(), "")
        output = log.read_text(encoding="utf-8", errors="replace")
        words = [line.split() for line in output.splitlines()]
        failed = frozenset(one[1] for one in words if len(one) > 1 and one[0] == "FAILED")
        return Run(status, failed, output[-4000:])
