"""A copy of the repository, in which mutants are made and the tests that know them are run."""

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mutants.mutant import Mutant

TIMEOUT_S = 90.0
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
        return f"not done after {TIMEOUT_S:g} s"
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

    def run(self, mutant: Mutant) -> Run:
        """The tests that are to catch it, with the mutant in the code."""
        self._make_once()
        path = self._copy / mutant.file
        source = path.read_text(encoding="utf-8")
        path.write_text(mutated(source, mutant), encoding="utf-8")
        try:
            return _run_tests(self._copy, mutant.caught_by)
        finally:
            path.write_text(source, encoding="utf-8")

    def run_unchanged(self, tests: Sequence[str]) -> Run:
        """The tests on the code as it is."""
        self._make_once()
        return _run_tests(self._copy, tests, len(tests) * TIMEOUT_S)

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


def _run_tests(copy: Path, tests: Sequence[str], timeout_s: float = TIMEOUT_S) -> Run:
    command = [sys.executable, "-m", "tests.mutants.inside", str(copy), *tests]
    # Without plugins a run takes half of its time, and its order is always the same.
    # A mutant's losses are none of the agent's, and the run outside is none of its business.
    ours = {name: value for name, value in os.environ.items() if not name.startswith(_OUTSIDE)}
    environment = {**ours, "PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Run(None, frozenset(), "")
    words = [line.split() for line in done.stdout.splitlines()]
    failed = frozenset(one[1] for one in words if len(one) > 1 and one[0] == "FAILED")
    return Run(done.returncode, failed, done.stdout[-4000:] + done.stderr[-2000:])
