"""One daemon a home, also when the last one was killed."""

import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import AlreadyRunning, DiskError
from agent.system.machine.lock import DaemonLock
from tests.conftest import REPOSITORY
from tests.system.privileges import needs_posix, open_folder, unprivileged

HOLDER = """
import sys
from pathlib import Path
from agent.system.machine.lock import DaemonLock
lock = DaemonLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock; a line on its stdin makes it let go."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "daemon.lock"


def test_a_second_process_is_told_who_is_at_work(path: Path) -> None:
    with holder(path) as process:
        with pytest.raises(AlreadyRunning) as caught:
            DaemonLock(path).acquire()
        assert str(caught.value) == f"another transcriptd (process {process.pid}) is at work"
        assert caught.value.hint == "transcriptd status"
        assert caught.value.exit_status == 75
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "released\n"
        lock = DaemonLock(path)
        lock.acquire()
        lock.release()


def test_a_killed_holder_leaves_nothing_behind_that_blocks(path: Path) -> None:
    with holder(path) as process:
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        process.wait()
        assert path.with_suffix(".pid").exists(), "its word is stale, and must not count"
        lock = DaemonLock(path)
        lock.acquire()
        lock.release()


def test_a_second_lock_of_the_same_process_is_a_second_daemon(path: Path) -> None:
    one, two = DaemonLock(path), DaemonLock(path)
    one.acquire()
    with pytest.raises(AlreadyRunning):
        two.acquire()
    one.release()
    two.acquire()
    two.release()


@pytest.mark.parametrize("word", ["", "not a number\n", "\xff", "12 34\n"])
def test_a_garbled_process_id_costs_its_mention_only(path: Path, word: str) -> None:
    lock = DaemonLock(path)
    lock.acquire()
    path.with_suffix(".pid").write_text(word, encoding="latin-1")
    with pytest.raises(AlreadyRunning, match=r"^another transcriptd is at work$"):
        DaemonLock(path).acquire()
    path.with_suffix(".pid").unlink()
    with pytest.raises(AlreadyRunning, match=r"^another transcriptd is at work$"):
        DaemonLock(path).acquire()
    lock.release()


@needs_posix
def test_a_process_id_that_is_nobodys_is_not_told(path: Path) -> None:
    lock = DaemonLock(path)
    lock.acquire()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    path.with_suffix(".pid").write_text(f"{gone.pid}\n", encoding="ascii")
    with pytest.raises(AlreadyRunning, match=r"^another transcriptd is at work$"):
        DaemonLock(path).acquire()
    lock.release()


@needs_posix
def test_lock_and_process_id_are_the_owners(path: Path) -> None:
    lock = DaemonLock(path)
    lock.acquire()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lock.release()
    assert not path.with_suffix(".pid").exists()


@needs_posix
def test_a_folder_that_may_not_be_written_is_a_disk_error() -> None:
    with open_folder() as folder:
        folder.chmod(0o555)
        with unprivileged(), pytest.raises(DiskError, match=r"daemon\.lock can't be locked"):
            DaemonLock(folder / "daemon.lock").acquire()


def test_a_process_id_that_can_not_be_written_costs_its_mention_only(path: Path) -> None:
    path.with_suffix(".pid").mkdir()
    lock = DaemonLock(path)
    lock.acquire()
    with pytest.raises(AlreadyRunning, match=r"^another transcriptd is at work$"):
        DaemonLock(path).acquire()
    lock.release()
    again = DaemonLock(path)
    again.acquire()
    again.release()
