"""What every test stands on: a home of its own, no way to the world, and the tools it asked for.

The first lines run before anything of the agent is imported, so that not even a constant computed at import
can hold a path of the person who runs the tests.
"""

import atexit
import ipaddress
import itertools
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from _pytest.assertion import util

from tests.comparing import brief_about_large
from tests.reliability import MakeTally, Tally

# How long something takes on a busy machine is no property of it.
hypothesis.settings.register_profile("transcriptd", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=10)
hypothesis.settings.load_profile("transcriptd")

REPOSITORY = Path(__file__).resolve().parent.parent

CORPUS = REPOSITORY / "tests" / "corpus" / "2026-11"
NEWER_CORPUS = CORPUS.with_name("2026-12")
CORPORA = (CORPUS, NEWER_CORPUS)

# Short names: a Unix socket's path may have 104 bytes on macOS, and its temporary folders take half of them.
SCRATCH = Path(tempfile.mkdtemp(prefix="td-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
_homes = (SCRATCH / str(number) for number in itertools.count())

# A session bus leads to the keyring of the person who runs the tests. So does keyring's own choice of a
# backend on macOS and Windows: it fails here, and tests of real keyrings say themselves which one they mean.
FORGOTTEN = ("TRANSCRIPTD_TOKEN", "DBUS_SESSION_BUS_ADDRESS")


def _make_home(home: Path) -> dict[str, str]:
    """A fresh home on disk, and the environment that points everything to it."""
    runtime = home / "run"
    runtime.mkdir(parents=True, mode=0o700)
    return {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "APPDATA": str(home / "AppData" / "Roaming"),
        "LOCALAPPDATA": str(home / "AppData" / "Local"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "XDG_STATE_HOME": str(home / ".local" / "state"),
        "XDG_RUNTIME_DIR": str(runtime),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "CODEX_HOME": str(home / ".codex"),
        "TRANSCRIPTD_HOME": str(home / "td"),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    }


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: at any time some test waits for a process, a disk or a second."""
    return (os.cpu_count() or 1) + 1


# `nohup` and a shell's `&` have these ignored, and so would be every child that a test wants to end with them.
for _signal in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):
    if hasattr(signal, _signal) and signal.getsignal(getattr(signal, _signal)) is signal.SIG_IGN:
        default = signal.default_int_handler if _signal == "SIGINT" else signal.SIG_DFL
        signal.signal(getattr(signal, _signal), default)

# Where CI is set, pytest works out the whole difference of what is not equal: of megabytes, that takes hours.
util.assertrepr_compare = brief_about_large(util.assertrepr_compare)

for _name in FORGOTTEN:
    os.environ.pop(_name, None)
os.environ.update(_make_home(next(_homes)))


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home folder for this test alone; the environment points to it."""
    folder = next(_homes)
    for name in FORGOTTEN:
        monkeypatch.delenv(name, raising=False)
    for name, value in _make_home(folder).items():
        monkeypatch.setenv(name, value)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class ReachedOut(AssertionError):
    """A test tried to leave this machine. No OSError: code that handles dead networks must not hide it."""


def _is_local(family: int, address: object) -> bool:
    if family not in {socket.AF_INET, socket.AF_INET6}:
        return True
    host = address[0] if isinstance(address, tuple) else address
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def _guard(connect: Callable[[socket.socket, Any], Any]) -> Callable[[socket.socket, Any], Any]:
    def guarded(self: socket.socket, address: Any, /) -> Any:
        if not _is_local(self.family, address):
            self.close()  # some clients only do so for an OSError, and a leak would drown the message
            raise ReachedOut(f"a test may only connect to loopback, not to {address!r}")
        return connect(self, address)

    return guarded


socket.socket.connect = _guard(socket.socket.connect)  # type: ignore[assignment, method-assign]
socket.socket.connect_ex = _guard(socket.socket.connect_ex)  # type: ignore[assignment, method-assign]


def require_tool(name: str) -> str:
    """The path of the program `name`; without it the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


SKIPPED_ON_CI = {"root reads everything"}
"""Why a test is skipped where `.ci/run` brought what is missing. For any other reason it fails there: nobody reads why
a test that was counted on did not run."""


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not os.environ.get("TRANSCRIPTD_CI") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if reason.removeprefix("Skipped: ") not in SKIPPED_ON_CI:
        report.outcome = "failed"
        report.longrepr = f"it may not be skipped on CI: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of transcripts that real coding agents wrote (tests/corpus/README.md)."""
    return CORPUS


@pytest.fixture(scope="session")
def newer_corpus() -> Path:
    """The same of the next month's versions of these agents."""
    return NEWER_CORPUS


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[MakeTally]:
    """Notes what an attack came to, for docs/reliability.md."""
    made: list[Tally] = []

    def make(promise: str, fault: str) -> Tally:
        made.append(Tally(promise, fault, request.node.nodeid.partition("[")[0]))
        return made[-1]

    yield make
    for one in made:
        one.close()
