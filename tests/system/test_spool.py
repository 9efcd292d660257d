"""The spool on a real disk: nothing is lost between those who append and the one who takes over."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import DiskError
from agent.system.paths import default_paths
from agent.system.state import spool as spool_module
from agent.system.state.spool import Spool, _Held, spool_path
from tests.conftest import REPOSITORY
from tests.system.privileges import needs_posix, open_folder, unprivileged


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path / "spool"))


def taken(spool: Spool) -> dict[str, str]:
    found: dict[str, str] = {}
    for snapshot in spool.snapshots():
        found |= spool.read(snapshot)
        spool.drop(snapshot)
    return found


@contextlib.contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: what comes before that is written, as on a disk that gets full."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


# --- where it is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [{}, {"TRANSCRIPTD_HOME": "td"}, {"TRANSCRIPTD_HOME": "~/td"}, {"XDG_STATE_HOME": "/x/y"}, {"XDG_STATE_HOME": "y"}],
    ids=str,
)
def test_hook_and_agent_look_for_it_in_one_place(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TRANSCRIPTD_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name)
        if name in environment:
            monkeypatch.setenv(name, environment[name])
    assert spool_path(os.environ) == str(default_paths(os.environ).spool)


# --- append and take over -------------------------------------------------------------------------------------------


def test_what_was_appended_is_taken_once(spool: Spool) -> None:
    assert spool.snapshots() == []
    spool.append("s", "/a")
    spool.append("s", "/a")
    spool.append("", "/b")
    assert taken(spool) == {"/a": "s", "/b": ""}
    assert taken(spool) == {}


def test_lines_that_are_put_back_are_taken_again(spool: Spool) -> None:
    spool.append("t", "/new")
    spool.requeue({"/a": "s", "/b": ""})
    assert taken(spool) == {"/new": "t", "/a": "s", "/b": ""}


@needs_posix
def test_it_is_the_users_alone(spool: Spool) -> None:
    spool.append("s", "/a")
    assert Path(spool.path).stat().st_mode & 0o777 == 0o600


def test_a_snapshot_that_a_crash_left_comes_first(spool: Spool) -> None:
    spool.append("old", "/a")
    (left,) = spool.snapshots()
    spool.append("new", "/b")
    first, second = spool.snapshots()
    assert first == left
    assert (spool.read(first), spool.read(second)) == ({"/a": "old"}, {"/b": "new"})
    assert str(os.getpid()) in Path(second).name
    assert spool.waiting() == 2


def test_a_snapshot_that_is_taken_up_while_they_are_counted_hides_no_other(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for session in ("old", "middle", "new"):
        spool.append(session, f"/{session}")
        taken = spool.snapshots()
    scandir = os.scandir

    @contextlib.contextmanager
    def slow(folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            listed = list(entries)
        Path(taken[1]).unlink()
        yield iter(listed)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", slow)
        assert spool.waiting() == 2


def test_a_torn_end_takes_no_line_along(spool: Spool) -> None:
    Path(spool.path).write_bytes(b"s\t/whole\ns\t/to")
    spool.append("t", "/next")
    found = taken(spool)
    assert (found["/whole"], found["/next"]) == ("s", "t")


def test_a_link_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    if not hasattr(os, "O_NOFOLLOW"):
        pytest.skip("this system does not know how")
    other = tmp_path / "other"
    other.write_bytes(b"")
    Path(spool.path).symlink_to(other)
    with pytest.raises(DiskError):
        spool.append("s", "/a")
    assert other.read_bytes() == b""


def test_its_signature_tells_of_each_line(spool: Spool) -> None:
    seen = [spool.signature()]
    for number in range(3):
        spool.append("s", f"/{number}")
        seen.append(spool.signature())
    assert seen[0] is None
    assert len(set(seen)) == 4
    taken(spool)
    assert spool.signature() is None


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_a_full_spool_is_rid_of_duplicates_and_then_refuses(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MOST_BYTES", 1_000)
    for _ in range(100):
        spool.append("s", "/again")
    assert os.path.getsize(spool.path) <= 1_000
    for number in range(200):
        spool.append("s", f"/{number:04}")
    assert os.path.getsize(spool.path) <= 1_000
    found = taken(spool)
    assert list(found)[:3] == ["/again", "/0000", "/0001"], "what was there first stays"
    assert 80 < len(found) < 130
    spool.append("s", "/now there is room")
    assert taken(spool) == {"/now there is room": "s"}
    assert {path.name for path in Path(spool.path).parent.iterdir()} == {"spool.lock"}


# --- a disk that refuses --------------------------------------------------------------------------------------------


@needs_posix
@pytest.mark.parametrize("room", [0, 1, 5, 11])
def test_a_disk_that_gets_full_within_a_line_keeps_those_before(spool: Spool, room: int) -> None:
    spool.append("s", "/a")
    size = os.path.getsize(spool.path)
    with at_most(size + room), pytest.raises(DiskError):
        spool.append("t", "/123456789")
    assert os.path.getsize(spool.path) == size
    spool.append("t", "/b")
    assert taken(spool) == {"/a": "s", "/b": "t"}


@needs_posix
def test_a_folder_that_may_not_be_written_is_a_disk_error() -> None:
    with open_folder() as folder:
        spool = Spool(str(folder / "spool"))
        spool.append("s", "/a")
        folder.chmod(0o555)
        with unprivileged():
            for act in (lambda: spool.append("s", "/b"), spool.snapshots):
                with pytest.raises(DiskError):
                    act()
        folder.chmod(0o755)
        assert taken(spool) == {"/a": "s"}


def test_a_folder_that_is_missing_is_a_disk_error_to_append_and_nothing_to_take(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "gone" / "spool"))
    assert (spool.snapshots(), spool.waiting(), spool.signature()) == ([], 0, None)
    with pytest.raises(DiskError):
        spool.append("s", "/a")


# --- the lock -------------------------------------------------------------------------------------------------------


def test_nobody_waits_long_for_the_lock_and_a_dead_holder_holds_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append("s", "/a")
    monkeypatch.setattr(spool_module, "WAIT_S", 0.05)
    code = (
        "import sys; from agent.system.state.spool import _Held\n"
        "with _Held(sys.argv[1]):\n print('held', flush=True)\n sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, f"{spool.path}.lock"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for act in (lambda: spool.requeue({"/b": "s"}), spool.snapshots):
            with pytest.raises(DiskError, match="held by another process"):
                act()
        holder.kill()
    assert taken(spool) == {"/a": "s"}


@pytest.mark.parametrize("ended_at_s", [None, 5.0])
def test_a_hook_that_does_not_get_the_lock_leaves_its_lines_beside(
    ended_at_s: float | None, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "WAIT_S", 0.05)
    spool.append("s", "/a")
    before = spool.aside_signature()
    with _Held(f"{spool.path}.lock"):
        for number in range(3):
            spool.append(str(number), f"/{number}", ended_at_s)
            assert spool.waiting() == number + 2
        assert spool.aside_signature() != before
        beside = spool.snapshots()
        assert len(beside) == 3, "what is beside is taken up while nobody gets the spool itself"
        assert spool.read(beside[1]) == {"/1": "1"}
        assert spool.read_ends(beside[1]) == ({} if ended_at_s is None else {"1": 5.0})
        for one in beside:
            spool.drop(one)
        with pytest.raises(DiskError, match="held by another process"):
            spool.snapshots()
        monkeypatch.setattr(spool_module, "MOST_ASIDE", 2)
        spool.append("x", "/x")
        spool.append("y", "/y")
        with pytest.raises(DiskError, match="held by another process"):
            spool.append("z", "/z")
    assert taken(spool) == {"/x": "x", "/y": "y", "/a": "s"}
    assert [one.name for one in Path(spool.path).parent.iterdir() if ".new" in one.name] == []


def test_what_is_put_back_is_known_apart_from_what_hooks_added(spool: Spool) -> None:
    first = spool.requeue({"/a": "s"})
    assert first == spool.signature()
    second = spool.requeue({"/b": "s"}, first)
    assert second == spool.signature() != first
    spool.append("s", "/c")
    assert spool.requeue({"/d": "s"}, second) is None
    assert taken(spool) == {"/a": "s", "/b": "s", "/c": "s", "/d": "s"}


def test_threads_that_append_while_one_takes_over_lose_nothing(spool: Spool) -> None:
    def append(writer: int) -> None:
        for number in range(200):
            spool.append(str(writer), f"/{writer}/{number}")

    writers = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for one in writers:
        one.start()
    found: dict[str, str] = {}
    while any(one.is_alive() for one in writers):
        found |= taken(spool)
    found |= taken(spool)
    assert found == {f"/{writer}/{number}": str(writer) for writer in range(4) for number in range(200)}
