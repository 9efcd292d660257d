"""Where the log goes, and that nothing which happens to it stops anybody."""

import io
import logging
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.logs import (
    FILES,
    LogFile,
    Priorities,
    Sink,
    choose_sinks,
    find_log_files,
    find_unit,
    follow,
    is_journal,
    read_last,
)
from tests.system.privileges import needs_posix, open_folder, unprivileged


@pytest.fixture
def pipe() -> Iterator[io.TextIOWrapper]:
    reader, writer = os.pipe()
    with open(reader, encoding="utf-8"), open(writer, "w", encoding="utf-8") as stream:
        yield stream


def journal_of(stream: io.TextIOWrapper) -> dict[str, str]:
    seen = os.fstat(stream.fileno())
    return {"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"}


def emit(handler: logging.Handler, words: str, level: int = logging.INFO) -> None:
    handler.handle(logging.LogRecord("test", level, __file__, 1, words, None, None))


def test_the_journal_is_known_by_device_and_inode(pipe: io.TextIOWrapper) -> None:
    assert is_journal(journal_of(pipe), pipe)
    assert not is_journal({"JOURNAL_STREAM": "1:2"}, pipe), "inherited, and meant for another"
    assert not is_journal({}, pipe)
    assert not is_journal(journal_of(pipe), None)


def test_files_take_the_log_where_nobody_else_does(pipe: io.TextIOWrapper, tmp_path: Path) -> None:
    assert choose_sinks("auto", {}, pipe) == (Sink.STREAM,)
    assert choose_sinks("auto", journal_of(pipe), pipe) == (Sink.JOURNAL,)
    assert choose_sinks("always", journal_of(pipe), pipe) == (Sink.JOURNAL, Sink.FILE)
    assert choose_sinks("auto", {}, None) == (Sink.FILE,)
    assert choose_sinks("never", {}, None) == ()
    with (tmp_path / "err").open("w") as stream:
        assert choose_sinks("auto", {}, stream) == (Sink.FILE,)
        assert choose_sinks("always", {}, stream) == (Sink.FILE,)
        assert choose_sinks("never", {}, stream) == (Sink.STREAM,)
    assert choose_sinks("auto", {}, stream) == (Sink.FILE,), "closed"


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2), (25, 6)],
)
def test_every_line_has_the_priority_that_the_journal_knows(level: int, priority: int) -> None:
    record = logging.LogRecord("test", level, __file__, 1, "one\ntwo", None, None)
    assert Priorities(logging.Formatter("%(message)s")).format(record) == f"<{priority}>one\n<{priority}>two"


def test_log_files_turn_over_and_stay_few(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    handler = LogFile(folder, file_bytes=200)
    for number in range(300):
        emit(handler, f"line {number:04}")
    handler.close()
    files = find_log_files(folder)
    assert len(files) == FILES
    assert all(path.stat().st_size <= 200 for path in files)
    assert read_last(folder, 3) == ["line 0297", "line 0298", "line 0299"]
    everything = read_last(folder, 10_000)
    assert everything == sorted(everything)
    assert read_last(folder, 0) == []


@needs_posix
def test_log_files_are_their_owners(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o755)
    (folder / "transcriptd.log").touch(mode=0o644)
    before = os.umask(0)
    try:
        handler = LogFile(folder, file_bytes=20)
        for _ in range(3):
            emit(handler, "more than fits there")
        handler.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in find_log_files(folder)} == {0o600}


@needs_posix
def test_a_folder_that_takes_nothing_costs_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with open_folder() as folder:
        folder.chmod(0o555)
        with unprivileged():
            handler = LogFile(folder)
            emit(handler, "lost")
        folder.chmod(0o777)
        with unprivileged():
            emit(handler, "kept")
            handler.close()
            assert read_last(folder, 10) == ["kept"]
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "transcriptd.log").symlink_to("/dev/full")
    handler = LogFile(tmp_path)
    emit(handler, "lost")
    (tmp_path / "transcriptd.log").unlink()
    emit(handler, "kept")
    handler.close()
    assert read_last(tmp_path, 10) == ["kept"]
    assert capsys.readouterr().err == ""


def test_following_goes_on_across_turns(tmp_path: Path) -> None:
    handler = LogFile(tmp_path, file_bytes=100)
    emit(handler, "before")
    steps = iter(range(30))

    def wait() -> bool:
        number = next(steps, None)
        if number is not None:
            emit(handler, f"line {number:04}")
        return number is not None

    assert list(follow(tmp_path, wait)) == [f"line {number:04}" for number in range(30)]
    assert len(find_log_files(tmp_path)) > 1
    handler.close()


def test_following_begins_before_there_is_a_file(tmp_path: Path) -> None:
    steps = iter(["", "half a line", ", and the rest\n"])

    def wait() -> bool:
        words = next(steps, None)
        if words:
            with (tmp_path / "transcriptd.log").open("a", encoding="utf-8") as file:
                file.write(words)
        return words is not None

    assert list(follow(tmp_path, wait)) == ["half a line, and the rest"]


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/transcriptd.service\n",
            "--user-unit=transcriptd.service",
        ),
        ("0::/system.slice/transcriptd.service\n", "--unit=transcriptd.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn.scope\n", ""),
        ("0::/init.scope\n", ""),
        ("", ""),
    ],
)
def test_the_unit_is_found_in_the_kernels_words(cgroup: str, unit: str) -> None:
    assert find_unit(cgroup) == unit


def test_no_stderr_at_all_is_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert choose_sinks("auto", {}, sys.stderr) == (Sink.FILE,)
