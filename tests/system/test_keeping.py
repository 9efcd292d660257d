"""Kept transcripts: what was on disk stays readable under our name, and the file itself is never touched."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import DiskError, FileVanished
from agent.system.files.keeping import Differs, Kept, KeptFiles
from tests.system.privileges import needs_posix, needs_root, open_folder, unprivileged

LIMIT = 64 << 20
MIB = 1 << 20


@pytest.fixture
def kept(tmp_path: Path) -> KeptFiles:
    return KeptFiles(tmp_path / "state" / "kept")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another device than the state's."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or os.stat(shared).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("this machine has no second file system to write to")
    folder = Path(tempfile.mkdtemp(prefix="td-", dir=shared))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without links, as FAT on Linux says it."""
    refuse_links(monkeypatch, errno.EPERM)


def refuse_links(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def keep(kept: KeptFiles, source: str, name: str = "s.jsonl", limit: int = LIMIT) -> Kept:
    done = kept.keep(source, name, room_bytes=limit)
    assert isinstance(done, Kept)
    return done


def content(kept: KeptFiles, name: str = "s.jsonl") -> bytes:
    return kept.path_of(name).read_bytes()


def names_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# --- links --------------------------------------------------------------------------------------------------------


def test_what_is_kept_outlives_the_file_and_grows_with_it(tmp_path: Path, kept: KeptFiles) -> None:
    source = write(tmp_path / "s.jsonl", b"one\n")
    done = keep(kept, source, "p/s.jsonl")
    seen = os.stat(source)
    assert done == Kept(str(kept.path_of("p/s.jsonl")), True, 4, seen.st_dev, seen.st_ino, seen.st_mtime_ns)
    with open(source, "ab") as more:
        more.write(b"two\n")
    os.unlink(source)
    assert content(kept, "p/s.jsonl") == b"one\ntwo\n"


def test_keeping_again_changes_nothing(tmp_path: Path, kept: KeptFiles) -> None:
    source = write(tmp_path / "s.jsonl", b"one\n")
    first = keep(kept, source)
    again = keep(kept, source)
    assert again == first
    assert os.stat(source).st_nlink == 2


@needs_posix
def test_mode_and_times_of_the_file_stay(tmp_path: Path, kept: KeptFiles) -> None:
    source = write(tmp_path / "s.jsonl", b"one\n")
    os.chmod(source, 0o640)
    os.utime(source, ns=(1_000, 2_000))
    before = os.stat(source)
    keep(kept, source)
    keep(kept, source)
    kept.let_go("s.jsonl")
    after = os.stat(source)
    assert (after.st_mode, after.st_mtime_ns, after.st_atime_ns) == (before.st_mode, 2_000, 1_000)
    assert after.st_nlink == 1


@needs_posix
def test_folders_are_ours_alone(tmp_path: Path, kept: KeptFiles) -> None:
    before = os.umask(0)
    try:
        keep(kept, write(tmp_path / "s.jsonl", b"one\n"), "a/b/s.jsonl")
    finally:
        os.umask(before)
    root = tmp_path / "state" / "kept"
    for folder in (root, root / "a", root / "a" / "b"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_that_was_replaced_by_a_longer_one_is_linked_anew(tmp_path: Path, kept: KeptFiles) -> None:
    """Some agents rewrite their file beside it and rename it: what it held is all there, and more."""
    source = write(tmp_path / "s.jsonl", b"one\n")
    before = keep(kept, source)
    os.replace(write(tmp_path / "new", b"one\ntwo\n"), source)
    after = keep(kept, source)
    assert after.linked
    assert after.inode == os.stat(source).st_ino != before.inode
    assert content(kept) == b"one\ntwo\n"
    assert names_below(tmp_path / "state") == ["kept", "kept/s.jsonl"]


@pytest.mark.parametrize("new", [b"", b"on", b"ONE\ntwo\n", b"x" * (2 * MIB)], ids=["empty", "cut", "other", "long"])
def test_what_was_rewritten_does_not_take_the_place_of_what_is_kept(
    tmp_path: Path, kept: KeptFiles, new: bytes
) -> None:
    source = write(tmp_path / "s.jsonl", b"one\n")
    keep(kept, source)
    os.replace(write(tmp_path / "new", new), source)
    assert kept.keep(source, "s.jsonl", room_bytes=LIMIT) == Differs(str(kept.path_of("s.jsonl")), 4)
    assert content(kept) == b"one\n"
    assert names_below(tmp_path / "state") == ["kept", "kept/s.jsonl"]
    assert keep(kept, source, "s.2.jsonl").linked


def test_a_difference_deep_in_a_large_file_is_found(tmp_path: Path, kept: KeptFiles) -> None:
    data = os.urandom(3 * MIB)
    source = write(tmp_path / "s.jsonl", data)
    keep(kept, source)
    os.replace(write(tmp_path / "new", data[:-1] + bytes([data[-1] ^ 1]) + b"more"), source)
    assert isinstance(kept.keep(source, "s.jsonl", room_bytes=LIMIT), Differs)
    os.replace(write(tmp_path / "new", data + b"more"), source)
    assert keep(kept, source).size == 3 * MIB + 4


# --- what is no file ------------------------------------------------------------------------------------------------


def test_a_file_that_is_gone_has_vanished(tmp_path: Path, kept: KeptFiles) -> None:
    for source in (tmp_path / "missing", Path(write(tmp_path / "file", b"")) / "below"):
        with pytest.raises(FileVanished, match="is no longer there"):
            keep(kept, str(source), "a/s.jsonl")
    assert not (tmp_path / "state").exists()


@needs_posix
def test_a_symbolic_link_is_not_kept_wherever_it_points(tmp_path: Path, kept: KeptFiles) -> None:
    secret = Path(write(tmp_path / "secret", b"not a transcript"))
    for points_to in (secret, tmp_path, tmp_path / "nowhere"):
        source = tmp_path / "s.jsonl"
        source.symlink_to(points_to)
        with pytest.raises(DiskError, match="it is a symbolic link"):
            keep(kept, str(source))
        source.unlink()
    assert secret.stat().st_nlink == 1


@needs_posix
@pytest.mark.parametrize("linking", [True, False])
def test_a_link_that_takes_the_files_place_at_the_last_moment_is_not_followed(
    tmp_path: Path, kept: KeptFiles, monkeypatch: pytest.MonkeyPatch, linking: bool
) -> None:
    """Between the look and the act somebody swaps the file for a symbolic link."""
    secret = Path(write(tmp_path / "secret", b"not a transcript"))
    source = Path(write(tmp_path / "s.jsonl", b"one\n"))
    link = os.link

    def swap_first(*args: Any, **named: Any) -> None:
        source.unlink()
        source.symlink_to(secret)
        if not linking:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(*args, **named)

    monkeypatch.setattr(os, "link", swap_first)
    with pytest.raises(DiskError):
        keep(kept, str(source))
    assert secret.stat().st_nlink == 1
    assert names_below(tmp_path / "state") == ["kept"]


@needs_posix
def test_what_is_no_regular_file_is_not_kept(tmp_path: Path, kept: KeptFiles) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", tmp_path):
        with pytest.raises(DiskError, match="it is no regular file"):
            keep(kept, str(source))


@pytest.mark.parametrize("name", ["", "/", "..", "../s", "a/../../s", "/etc/s", "a//s", "a/./s", "a/", "\0", ".part-x"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, kept: KeptFiles, name: str) -> None:
    source = write(tmp_path / "s.jsonl", b"one\n")
    for act in (lambda: keep(kept, source, name), lambda: kept.let_go(name)):
        with pytest.raises(DiskError):
            act()
    assert os.stat(source).st_nlink == 1


def test_a_name_may_be_as_long_as_the_system_lets_it(tmp_path: Path, kept: KeptFiles) -> None:
    source = write(tmp_path / "s.jsonl", b"one\n")
    assert keep(kept, source, "a" * 255).linked
    with pytest.raises(DiskError, match="File name too long"):
        keep(kept, source, "a" * 256)


# --- copies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 4, 3 * MIB + 17])
def test_on_another_device_a_copy_is_made(kept: KeptFiles, elsewhere: Path, size: int) -> None:
    data = os.urandom(size)
    source = write(elsewhere / "s.jsonl", data)
    os.utime(source, ns=(1_000, 2_000))
    done = keep(kept, source, "p/s.jsonl")
    assert (done.linked, done.size, done.copied_bytes) == (False, size, size)
    os.unlink(source)
    assert content(kept, "p/s.jsonl") == data
    seen = os.stat(done.path)
    assert (stat.S_IMODE(seen.st_mode), seen.st_mtime_ns, seen.st_ino) == (0o600, 2_000, done.inode)


def test_a_copy_is_on_disk_before_it_has_its_name(
    tmp_path: Path, kept: KeptFiles, no_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noting(what: str, real: Callable[..., None]) -> Callable[..., None]:
        def note(*arguments: Any, **named: Any) -> None:
            done.append(what)
            real(*arguments, **named)

        return note

    for what in ("fsync", "replace"):
        monkeypatch.setattr(os, what, noting(what, getattr(os, what)))
    source = write(tmp_path / "s.jsonl", b"one\n")
    keep(kept, source)
    assert done == ["fsync", "replace", "fsync"], "the bytes, their name, and the folder that has it"
    write(tmp_path / "s.jsonl", b"one\ntwo\n")
    keep(kept, source)
    assert done[3:] == ["fsync"]


def test_a_copy_gets_what_was_added_and_no_more(kept: KeptFiles, elsewhere: Path) -> None:
    source = write(elsewhere / "s.jsonl", b"one\n" * MIB)
    first = keep(kept, source)
    assert keep(kept, source).copied_bytes == 0
    with open(source, "ab") as more:
        more.write(b"two\n")
    again = keep(kept, source)
    assert (again.copied_bytes, again.inode, again.size) == (4, first.inode, 4 * MIB + 4)
    assert content(kept) == Path(source).read_bytes()
    assert os.stat(again.path).st_mtime_ns == os.stat(source).st_mtime_ns


def test_a_copy_of_what_was_rewritten_stays_as_it_is(kept: KeptFiles, elsewhere: Path) -> None:
    source = write(elsewhere / "s.jsonl", b"one\n")
    keep(kept, source)
    write(elsewhere / "s.jsonl", b"other\n")
    assert isinstance(kept.keep(source, "s.jsonl", room_bytes=LIMIT), Differs)
    assert content(kept) == b"one\n"


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_however_a_link_is_refused_a_copy_takes_its_place(
    tmp_path: Path, kept: KeptFiles, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse_links(monkeypatch, number)
    source = write(tmp_path / "s.jsonl", b"one\n")
    assert not keep(kept, source).linked
    assert os.stat(source).st_nlink == 1
    assert content(kept) == b"one\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_is_in_trouble_gets_no_copy_on_top(
    tmp_path: Path, kept: KeptFiles, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse_links(monkeypatch, number)
    source = write(tmp_path / "s.jsonl", b"one\n")
    with pytest.raises(DiskError, match="can't be retained: "):
        keep(kept, source, "a/s.jsonl")
    assert names_below(tmp_path / "state") == ["kept"]


def test_a_copy_above_the_limit_is_not_made(tmp_path: Path, kept: KeptFiles, no_links: None) -> None:
    source = write(tmp_path / "s.jsonl", b"123456789\n")
    with pytest.raises(DiskError) as caught:
        keep(kept, source, "a/s.jsonl", limit=9)
    assert caught.value.message == (
        f"{source} can't be retained: no link is made (operation not permitted), "
        "and a copy takes 10 bytes more, with 9 left for copies"
    )
    assert names_below(tmp_path / "state") == ["kept"]
    assert keep(kept, source, limit=10).size == 10
    with open(source, "ab") as more:
        more.write(b"!")
    with pytest.raises(DiskError, match="takes 1 bytes more, with 0 left for copies"):
        keep(kept, source, limit=0)
    assert content(kept) == b"123456789\n"
    assert keep(kept, source, limit=1).size == 11, "what a copy takes already is no cost of making it longer"


@pytest.mark.parametrize("begun", [0, 3], ids=["a new copy", "a longer copy"])
def test_a_file_that_is_rewritten_while_it_is_copied_is_not_kept_in_two_versions(
    kept: KeptFiles, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, begun: int
) -> None:
    source = Path(write(elsewhere / "s.jsonl", b"o" * begun * MIB))
    if begun:
        keep(kept, str(source))
    with source.open("ab") as more:
        more.write(b"n" * 3 * MIB)
    before, real = names_below(elsewhere), os.utime

    def rewrite_first(*args: Any, **named: Any) -> None:
        """Behind what was read, when the copy is nearly done."""
        with source.open("r+b") as file:
            file.write(b"x" * source.stat().st_size)
        real(*args, **named)

    monkeypatch.setattr(os, "utime", rewrite_first)
    with pytest.raises(DiskError, match="it was rewritten while it was copied"):
        keep(kept, str(source))
    assert names_below(elsewhere) == before
    kept_sizes = [one.size for one in kept.list_kept()]
    assert kept_sizes == ([begun * MIB] if begun else [])


def test_what_others_still_use_is_not_written_to(
    tmp_path: Path, kept: KeptFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kept file has another name: it moved, and is alive there. A stale copy is made anew then, not extended."""
    source = Path(write(tmp_path / "s.jsonl", b"one\n"))
    keep(kept, str(source))
    moved = source.rename(tmp_path / "moved.jsonl")
    write(source, b"one\ntwo\n")
    refuse_links(monkeypatch, errno.EMLINK)
    assert keep(kept, str(source)).copied_bytes == 8
    assert moved.read_bytes() == b"one\n"
    assert content(kept) == b"one\ntwo\n"


@needs_posix
@pytest.mark.parametrize("held", [b"", b"one\n"])
def test_a_disk_that_fills_up_while_copying_leaves_what_was_kept(
    tmp_path: Path, kept: KeptFiles, no_links: None, monkeypatch: pytest.MonkeyPatch, held: bytes
) -> None:
    source = tmp_path / "s.jsonl"
    if held:
        keep(kept, write(source, held))
    write(source, b"one\ntwo\n")

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(DiskError, match="No space left") as caught:
            keep(kept, str(source))
    assert caught.value.retry
    assert [one.name for one in kept.list_kept()] == (["s.jsonl"] if held else [])
    assert not held or content(kept).startswith(held)
    assert keep(kept, str(source)).size == 8
    assert content(kept) == b"one\ntwo\n"
    assert names_below(tmp_path / "state") == ["kept", "kept/s.jsonl"]


@needs_posix
@needs_root
def test_somebody_elses_file_is_copied_where_the_system_forbids_links_to_it() -> None:
    protected = Path("/proc/sys/fs/protected_hardlinks")
    if not protected.exists() or protected.read_text().strip() != "1":
        pytest.skip("this system allows links to files of others")
    with open_folder() as folder:
        source = write(folder / "s.jsonl", b"one\n")
        os.chmod(source, 0o644)
        with unprivileged():
            done = keep(KeptFiles(folder / "state"), source)
            assert not done.linked
            assert Path(done.path).read_bytes() == b"one\n"
            shutil.rmtree(folder / "state")


# --- letting go -----------------------------------------------------------------------------------------------------


def test_letting_go_removes_the_name_and_empty_folders_but_not_the_file(tmp_path: Path, kept: KeptFiles) -> None:
    source = write(tmp_path / "s.jsonl", b"one\n")
    for name in ("a/b/one", "a/b/two", "a/three"):
        keep(kept, source, name)
    root = tmp_path / "state" / "kept"
    kept.let_go("a/b/one")
    assert names_below(root) == ["a", "a/b", "a/b/two", "a/three"]
    kept.let_go("a/b/two")
    assert names_below(root) == ["a", "a/three"]
    kept.let_go("a/three")
    assert names_below(root) == []
    assert root.is_dir()
    assert Path(source).read_bytes() == b"one\n"


def test_letting_go_of_nothing_is_harmless(kept: KeptFiles) -> None:
    kept.let_go("a/b")
    kept.let_go("a")


@needs_posix
def test_what_can_not_be_let_go_says_so() -> None:
    with open_folder() as folder, unprivileged():
        source = write(folder / "s.jsonl", b"one\n")
        kept = KeptFiles(folder / "state")
        keep(kept, source)
        os.chmod(folder / "state", 0o500)
        with pytest.raises(DiskError, match="can't be removed: Permission denied"):
            kept.let_go("s.jsonl")
        with pytest.raises(DiskError, match="can't be retained: Permission denied"):
            keep(kept, source, "other")


def test_folders_are_made_and_pruned_by_many_threads_at_once(tmp_path: Path, kept: KeptFiles) -> None:
    source = write(tmp_path / "s.jsonl", b"one\n")
    trouble: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(200):
                keep(kept, source, f"a/b/{number}")
                kept.let_go(f"a/b/{number}")
        except BaseException as exc:  # noqa: BLE001 - reported below, whatever it is
            trouble.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []
    assert list(kept.list_kept()) == []
    assert os.stat(source).st_nlink == 1


# --- listing ------------------------------------------------------------------------------------------------------


def test_the_listing_tells_what_has_no_other_name_left(tmp_path: Path, kept: KeptFiles) -> None:
    assert list(kept.list_kept()) == []
    sources = [write(tmp_path / f"{number}.jsonl", b"x" * number) for number in range(3)]
    for number, source in enumerate(sources):
        keep(kept, source, f"p/{number}.jsonl" if number else "0.jsonl")
    os.unlink(sources[1])
    held = sorted(kept.list_kept())
    assert [(one.name, one.size, one.links) for one in held] == [
        ("0.jsonl", 0, 2),
        ("p/1.jsonl", 1, 1),
        ("p/2.jsonl", 2, 2),
    ]
    for one in held:
        seen = os.stat(one.path)
        assert (one.device, one.inode, one.mtime_ns) == (seen.st_dev, seen.st_ino, seen.st_mtime_ns)


DIES = """\
import os, sys
from pathlib import Path
from agent.system.files.keeping import KeptFiles
os.replace = lambda *_: os._exit(9)
KeptFiles(Path(sys.argv[1])).keep(sys.argv[2], "a/s.jsonl", room_bytes=0)
"""


def test_what_a_crash_left_unfinished_is_not_kept_and_can_be_dropped(tmp_path: Path, kept: KeptFiles) -> None:
    source = write(tmp_path / "s.jsonl", b"one\n")

    ended = subprocess.run([sys.executable, "-c", DIES, str(tmp_path / "state" / "kept"), source], check=False)
    assert ended.returncode == 9
    root = tmp_path / "state" / "kept"
    assert len(names_below(root)) == 2
    assert list(kept.list_kept()) == []
    assert kept.drop_unfinished() == 1
    assert names_below(root) == []
    assert kept.drop_unfinished() == 0
    assert keep(kept, source, "a/s.jsonl").size == 4


def test_a_folder_that_can_not_be_read_is_an_error_and_not_an_empty_list(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="can't be read"):
        list(KeptFiles(Path(write(tmp_path / "file", b""))).list_kept())
