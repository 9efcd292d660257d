"""What all tests stand on: children that can be ended, comparisons that end, and a time after which a test fails."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.comparing import LARGE, brief_about_large, measure
from tests.conftest import REPOSITORY

SIGNALS = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"]

FAILING = """
import threading

def test_a_hangs():
    threading.Event().wait()

def test_b_compares():
    words = [f"w{n} " for n in range(400_000)]
    assert "".join(words) == "".join(reversed(words))

def test_c():
    pass
"""

SKIPPING = """
import pytest

def test_a():
    pytest.skip("the moon is missing")

@pytest.mark.skipif(True, reason="root reads everything")
def test_b():
    pass

@pytest.mark.skipif(True, reason="no moon")
def test_c():
    pass
"""

MADE: dict[str, Callable[[list[str]], object]] = {
    "text": "".join,
    "bytes": lambda words: "".join(words).encode(),
    "list": list,
    "set": set,
    "table": lambda words: dict(enumerate(words)),
}


def pytest_child(*arguments: str, ignoring: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """pytest in a process of its own, on CI, started with signals ignored as `nohup` and a shell's `&` do."""
    code = "import os, signal, sys\n"
    code += "".join(f"signal.signal(signal.{one}, signal.SIG_IGN)\n" for one in ignoring)
    code += "os.execv(sys.executable, [sys.executable, '-m', 'pytest', *sys.argv[1:]])"
    own = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", f"--rootdir={REPOSITORY}", "-c", "pyproject.toml"]
    command = [sys.executable, "-c", code, *own, *arguments]
    environment = {**os.environ, "CI": "true"}
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", SIGNALS)
def test_a_child_takes_the_signals_that_end_it(name: str) -> None:
    code = f"import signal; print(signal.getsignal(signal.{name}) is signal.SIG_IGN)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_so_it_does_in_a_run_that_ignores_them() -> None:
    nodeid = "tests/test_harness.py::test_a_child_takes_the_signals_that_end_it"
    done = pytest_child(nodeid, ignoring=SIGNALS)
    assert done.returncode == 0, done.stdout[-2_000:]


def test_what_hangs_fails_what_is_large_is_not_compared_and_the_next_test_is_run(tmp_path: Path) -> None:
    (tmp_path / "test_failing.py").write_text(FAILING)
    done = pytest_child("-p", "tests.conftest", "-o", "timeout=2", str(tmp_path / "test_failing.py"))
    assert done.returncode == 1, done.stdout[-2_000:]
    assert "2 failed, 1 passed" in done.stdout
    assert "Timeout (>2" in done.stdout
    assert "sha256" in done.stdout
    assert len(done.stdout) < 20_000


@pytest.mark.parametrize(("ci", "ending"), [("1", "1 failed, 1 skipped, 1 error"), ("", "3 skipped")])
def test_on_ci_a_test_that_is_skipped_for_something_missing_fails(
    ci: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSCRIPTD_CI", ci)
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    done = pytest_child("-p", "tests.conftest", str(tmp_path / "test_skipping.py"))
    assert ending in done.stdout, done.stdout[-2_000:]


def test_every_test_has_a_time_after_which_it_fails(pytestconfig: pytest.Config) -> None:
    assert 0 < float(pytestconfig.getini("timeout")) <= 900


def plain(op: str, left: object, right: object) -> Iterator[str]:
    """Stands for pytest's own explanation."""
    yield "theirs"


def explain(left: object, right: object) -> list[str]:
    return list(brief_about_large(plain)("==", left, right))


@pytest.mark.parametrize("kind", MADE)
def test_large_values_are_told_apart_by_length_and_hash(kind: str) -> None:
    words = [f"w{number} \n" for number in range(20_000)]
    others = [*words[:10_000], "another", *words[10_000:]]
    lines = explain(MADE[kind](words), MADE[kind](others))
    assert len(lines) == 2
    assert all(len(one) < 300 for one in lines)
    assert lines[0].count("sha256") == 2
    assert "w1" not in "".join(lines)


def test_the_hash_is_that_of_the_bytes() -> None:
    data = b"x" * (LARGE + 1)
    assert hashlib.sha256(data).hexdigest()[:16] in explain(data, b"")[0]


def test_small_values_are_explained_as_ever() -> None:
    assert explain("a", "b") == ["theirs"]
    assert explain("a" * LARGE, ["b"]) == ["theirs"]
    assert explain("a" * (LARGE + 1), "b") != ["theirs"]


@pytest.mark.parametrize(
    "value",
    [["x" * 9_000] * 2, {"a": ["x" * 9_000], "b": {"c": "x" * 9_000}}, [1] * 4_000, [[]] * 20_000],
    ids=["list", "table", "numbers", "lists"],
)
def test_what_is_nested_is_measured_whole(value: object) -> None:
    assert measure(value) > LARGE
