"""Copies of the repository, one for each worker, in which mutants are made and the tests that know them are run."""

import compileall
import os
import py_compile
import queue
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

from tests.mutants.table import Mutant

WORKERS = 2
TIMEOUT_S = 90.0
"""Tests of a mutant take seconds. One that makes a test run without end is no use: choose another test, or mutant."""

_COPIED = ("agent", "tests", "pyproject.toml")
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
            f"{mutant.file} holds the text of this mutant {found} times, not once: let tests/mutants/table.py follow"
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
    """Runs are made in the background from the first `order` on, `WORKERS` at a time."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self._repository = repository
        self._folder = folder
        self._pool = ThreadPoolExecutor(WORKERS, "mutant")
        self._copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(WORKERS):
            self._copies.put(folder / f"copy{number}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def order(self, mutant: Mutant) -> Future[Run]:
        return self._pool.submit(self._run, mutant, mutant.caught_by)

    def order_unchanged(self, mutants: Iterable[Mutant]) -> Future[Run]:
        """All tests that are to catch one of `mutants`, each once, on the code as it is."""
        tests = sorted({test for one in mutants for test in one.caught_by})
        return self._pool.submit(self._run, None, tests)

    def _run(self, mutant: Mutant | None, tests: Sequence[str]) -> Run:
        copy = self._copies.get()
        try:
            if not copy.exists():
                self._make(copy)
            if mutant is None:
                return _run_tests(copy, tests)
            path = copy / mutant.file
            source = path.read_text(encoding="utf-8")
            path.write_text(mutated(source, mutant), encoding="utf-8")
            try:
                return _run_tests(copy, tests)
            finally:
                path.write_text(source, encoding="utf-8")
        finally:
            self._copies.put(copy)

    def _make(self, copy: Path) -> None:
        copy.mkdir(parents=True)
        for name in _COPIED:
            if (source := self._repository / name).is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        # By time and size, a mutant made within the second would pass for what was compiled before it.
        by_content = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(copy / "agent", quiet=1, invalidation_mode=by_content)


def _run_tests(copy: Path, tests: Sequence[str]) -> Run:
    command = [sys.executable, "-m", "tests.mutants.inside", str(copy), *tests]
    # Without plugins a run takes half of its time, and its order is always the same.
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("TRANSCRIPTD_RELIABILITY", None)  # a mutant's losses are none of the agent's
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Run(None, frozenset(), "")
    words = [line.split() for line in done.stdout.splitlines()]
    failed = frozenset(one[1] for one in words if len(one) > 1 and one[0] == "FAILED")
    return Run(done.returncode, failed, done.stdout[-4000:] + done.stderr[-2000:])
