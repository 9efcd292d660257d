"""Reading transcripts: whatever happens to a file meanwhile has a name."""

import io
import os
from pathlib import Path

import pytest

from agent.errors import DiskError, FileVanished
from agent.system.files.reading import LineSource, TranscriptFile, list_folder, look_at, read_text
from tests.system.privileges import needs_posix, open_folder, unprivileged

MIB = 1 << 20


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [(0, 0, b""), (0, 3, b"012"), (7, 3, b"789"), (7, 99, b"789"), (9, 1, b"9"), (10, 1, b""), (99, 5, b"")],
)
def test_a_piece_is_shorter_only_at_the_end(tmp_path: Path, offset: int, count: int, expected: bytes) -> None:
    with TranscriptFile(write(tmp_path / "t", b"0123456789")) as file:
        assert file.read_at(offset, count) == expected
        assert file.size() == 10


def test_a_read_that_the_system_cuts_short_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network file systems and signals give fewer bytes than asked."""

    class Miserly(io.FileIO):
        def read(self, count: int | None = -1, /) -> bytes:
            return super().read(min(count or 0, 3))

    path = write(tmp_path / "t", b"0123456789")
    with TranscriptFile(path) as file, Miserly(path) as miserly, monkeypatch.context() as patched:
        patched.setattr(file, "_file", miserly)
        assert file.read_at(1, 8) == b"12345678"
        assert file.read_at(8, 8) == b"89"


def test_a_read_that_ends_before_the_file_does_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look as if what was sent had been cut off."""

    class Silent(io.FileIO):
        def read(self, count: int | None = -1, /) -> bytes:
            return b""

        def readline(self, limit: int | None = -1, /) -> bytes:
            return b""

    path = write(tmp_path / "t", b"0123456789")
    with TranscriptFile(path) as file, LineSource(path) as lines, Silent(path) as silent:
        for one in (file, lines):
            monkeypatch.setattr(one, "_file", silent)
        with pytest.raises(DiskError, match="gives no more than 2 of its 10 bytes"):
            file.read_at(2, 8)
        with pytest.raises(DiskError, match="gives no more than 2 of its 10 bytes"):
            lines.readline(100)
        monkeypatch.undo()


@needs_posix
def test_what_may_not_be_looked_at_is_told_and_hides_nothing_else(tmp_path: Path) -> None:
    """A folder that may be listed but not entered tells names and nothing more."""
    with open_folder() as folder:
        (folder / "closed").mkdir()
        write(folder / "closed" / "t", b"x")
        (folder / "closed").chmod(0o444)
        with unprivileged():
            assert [(one.name, one.size) for one in list_folder(str(folder / "closed"))] == [("t", -1)]
        (folder / "closed").chmod(0o755)


def test_the_end_moves_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t"
    with TranscriptFile(write(path, b"ab")) as file:
        with path.open("ab") as more:
            more.write(b"cd")
        assert (file.size(), file.read_at(0, 99)) == (4, b"abcd")
        os.truncate(path, 1)
        assert (file.size(), file.read_at(0, 99)) == (1, b"a")


def test_pieces_are_at_most_a_mebibyte_and_add_up(tmp_path: Path) -> None:
    data = os.urandom(2 * MIB + 17)
    with TranscriptFile(write(tmp_path / "t", data + b"more")) as file:
        pieces = list(file.pieces(5, len(data) - 5))
    assert [len(one) for one in pieces] == [MIB, MIB, 12]
    assert b"".join(pieces) == data[5:]


def test_pieces_of_nothing_are_none(tmp_path: Path) -> None:
    with TranscriptFile(write(tmp_path / "t", b"abc")) as file:
        assert list(file.pieces(1, 0)) == []
        assert list(file.pieces(99, 0)) == []


def test_a_file_that_shrinks_while_it_is_read_is_an_error_and_not_a_shorter_answer(tmp_path: Path) -> None:
    path = tmp_path / "t"
    with TranscriptFile(write(path, bytes(MIB + 100))) as file:
        pieces = file.pieces(0, MIB + 100)
        assert len(next(pieces)) == MIB
        os.truncate(path, MIB)
        with pytest.raises(DiskError, match="became shorter while it was read") as caught:
            next(pieces)
    assert caught.value.retry


@pytest.mark.parametrize("at", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 5])
def test_a_newline_is_found_wherever_blocks_end(tmp_path: Path, at: int) -> None:
    with TranscriptFile(write(tmp_path / "t", b"x" * at + b"\nx\n" + b"x" * MIB)) as file:
        assert file.find_newline(0) == at
        assert file.find_newline(at) == at
        assert file.find_newline(at + 1) == at + 2
        assert file.find_newline(at + 3) == -1
        assert file.find_newline(10 * MIB) == -1


def test_lines_come_in_pieces_of_the_asked_size(tmp_path: Path) -> None:
    with LineSource(write(tmp_path / "t", b"abcdefg\nhi\n\nj")) as source:
        pieces = [source.readline(4) for _ in range(7)]
    assert pieces == [b"abcd", b"efg\n", b"hi\n", b"\n", b"j", b"", b""]


# --- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opener", [TranscriptFile, LineSource])
def test_a_file_that_is_gone_has_vanished(tmp_path: Path, opener: type[TranscriptFile] | type[LineSource]) -> None:
    for path in (tmp_path / "missing", Path(write(tmp_path / "file", b"")) / "below"):
        with pytest.raises(FileVanished, match="is no longer there"):
            opener(str(path))


@needs_posix
@pytest.mark.parametrize("opener", [TranscriptFile, LineSource])
def test_a_file_that_may_not_be_read_has_not_vanished(opener: type[TranscriptFile] | type[LineSource]) -> None:
    with open_folder() as folder:
        path = write(folder / "t", b"x")
        os.chmod(path, 0o000)
        with unprivileged(), pytest.raises(DiskError, match="can't be read: Permission denied") as caught:
            opener(path)
    assert not isinstance(caught.value, FileVanished)


@needs_posix
def test_a_folder_is_no_transcript(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="can't be read: Is a directory"):
        TranscriptFile(str(tmp_path))


@needs_posix
def test_an_error_while_reading_is_a_disk_error(tmp_path: Path) -> None:
    """A closed descriptor stands for a disk that fails: both are an OSError of the read itself."""
    with TranscriptFile(write(tmp_path / "t", b"abc")) as file:
        gone = os.open(tmp_path, os.O_RDONLY)
        os.dup2(gone, file._file.fileno())  # reading a folder gives EISDIR
        os.close(gone)
        with pytest.raises(DiskError, match="can't be read"):
            file.read_at(0, 3)
    with LineSource(write(tmp_path / "u", b"abc")) as source:
        gone = os.open(tmp_path, os.O_RDONLY)
        os.dup2(gone, source._file.fileno())
        os.close(gone)
        with pytest.raises(DiskError, match="can't be read"):
            source.readline(3)


# --- folders ------------------------------------------------------------------------------------------------------


def test_a_listing_has_files_and_folders_as_they_are(tmp_path: Path) -> None:
    write(tmp_path / "file", b"abc")
    (tmp_path / "folder").mkdir()
    found = {one.name: one for one in list_folder(str(tmp_path))}
    assert set(found) == {"file", "folder"}
    for name, one in found.items():
        assert one == look_at(str(tmp_path / name))
        assert one.path == str(tmp_path / name)
        assert one.is_folder == (name == "folder")
    seen = os.stat(tmp_path / "file")
    assert (found["file"].size, found["file"].mtime_ns, found["file"].inode) == (3, seen.st_mtime_ns, seen.st_ino)


@needs_posix
def test_a_listing_tells_links_and_oddities_and_follows_none(tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "itself").symlink_to("itself")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "linked").symlink_to("..")
    write(tmp_path / "file", b"x")
    (tmp_path / "link").symlink_to("broken")
    found = {one.name: (one.link, one.oddity, one.size) for one in list_folder(str(tmp_path))}
    nowhere = str(tmp_path / "nowhere")
    assert found == {
        "broken": (nowhere, "", -1),
        "itself": (str(tmp_path / "itself"), "", -1),
        "pipe": ("", "a pipe", 0),
        "linked": (str(tmp_path.parent), "", -1),
        "file": ("", "", 1),
        "link": (nowhere, "", -1),
    }
    assert {name: look_at(str(tmp_path / name)) for name in found} == {
        one.name: one for one in list_folder(str(tmp_path))
    }
    assert look_at(str(tmp_path / "missing")) is None


def test_a_listing_of_nothing_has_vanished(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", Path(write(tmp_path / "file", b""))):
        with pytest.raises(FileVanished):
            list_folder(str(path))


@needs_posix
def test_a_listing_that_is_not_allowed_says_so() -> None:
    with open_folder() as folder:
        (folder / "closed").mkdir(mode=0o000)
        with unprivileged(), pytest.raises(DiskError, match="Permission denied") as caught:
            list_folder(str(folder / "closed"))
    assert not isinstance(caught.value, FileVanished)


# --- small texts --------------------------------------------------------------------------------------------------


def test_a_text_is_read_or_missing(tmp_path: Path) -> None:
    assert read_text(tmp_path / "missing") is None
    write(tmp_path / "text", "ä\n".encode())
    assert read_text(tmp_path / "text") == "ä\n"


def test_a_text_that_can_not_be_read_says_why(tmp_path: Path) -> None:
    write(tmp_path / "latin", b"\xe4")
    with pytest.raises(DiskError, match="latin can't be read: not UTF-8"):
        read_text(tmp_path / "latin")
    if os.name == "posix":
        with pytest.raises(DiskError, match="it is a folder"):
            read_text(tmp_path)
