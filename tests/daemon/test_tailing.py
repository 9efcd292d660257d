"""What is added to the files of a session that somebody follows, whatever becomes of the files."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agent.core.transcripts.session import StreamId
from agent.providers import PROVIDERS
from agent.sessions.read import tailing
from agent.sessions.read.tailing import Place, Tail, find_last_lines, find_line_start, read_last_events
from agent.system.files import reading as files
from agent.system.files.reading import open_file

CLAUDE = PROVIDERS["claude"]


def line(words: str) -> bytes:
    return json.dumps({"type": "user", "uuid": words[:40], "message": {"content": words}}).encode() + b"\n"


def follow(path: Path, offset: int | None = None, **bounds: int) -> Tail:
    tail = Tail("s", CLAUDE, files, "epoch", **bounds)
    tail.begin({"": Place(str(path), offset)})
    return tail


def look(tail: Tail) -> list[Any]:
    """All that there is to read; texts of messages, and kinds of what is none."""
    seq = tail.last_seq + 1
    while tail.look(""):
        pass
    found = tail.read(seq, 10_000)
    assert found is not None
    assert [one["seq"] for one in found] == list(range(seq, seq + len(found)))
    return [one["event"]["text"] if one["kind"] == "message" else one["kind"] for one in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "s.jsonl"
    made.write_bytes(line("before"))
    return made


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_whole_lines_come_once_and_in_order(path: Path) -> None:
    tail = follow(path)
    assert look(tail) == []
    append(path, line("one") + line("two") + line("three")[:10])
    assert look(tail) == ["one", "two"]
    assert look(tail) == []
    append(path, line("three")[10:])
    assert look(tail) == ["three"]
    assert tail.offsets() == {"": path.stat().st_size}


def test_from_an_offset_all_behind_it_comes(path: Path) -> None:
    append(path, line("one"))
    assert look(follow(path, 0)) == ["before", "one"]
    assert look(follow(path, len(line("before")) + 3)) == ["one"], "an offset within a line counts as its beginning"


def test_a_last_line_without_its_end_comes_when_it_is_whole(path: Path) -> None:
    append(path, line("torn")[:-5])
    tail = follow(path)
    assert look(tail) == []
    append(path, line("torn")[-5:])
    assert look(tail) == ["torn"]


def cut(path: Path) -> None:
    path.write_bytes(line("b"))


def replace_by_other(path: Path) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(line("another") * 20)
    os.replace(fresh, path)


@pytest.mark.parametrize("rewrite", [cut, replace_by_other])
def test_a_rewritten_file_is_said_to_be_one_and_followed_from_its_end(
    path: Path, rewrite: Callable[[Path], None]
) -> None:
    append(path, line("one"))
    tail = follow(path)
    rewrite(path)
    assert look(tail) == ["rewritten"]
    append(path, line("after"))
    assert look(tail) == ["after"]


def test_a_file_replaced_by_its_copy_is_gone_on_with(path: Path) -> None:
    """As Copilot does after a torn tail."""
    append(path, b'{"torn')
    tail = follow(path)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(line("before") + line("after"))
    os.replace(fresh, path)
    assert look(tail) == ["after"]


def test_a_file_that_goes_away_and_comes_back_is_waited_for(path: Path) -> None:
    tail = follow(path)
    away = path.rename(path.with_suffix(".away"))
    assert look(tail) == []
    away.rename(path)
    append(path, line("back"))
    assert look(tail) == ["back"]


def test_a_file_that_is_not_there_yet_is_followed_from_its_beginning(tmp_path: Path) -> None:
    tail = follow(tmp_path / "later.jsonl")
    (tmp_path / "later.jsonl").write_bytes(line("first"))
    assert look(tail) == ["first"]


def test_a_line_without_end_is_not_read_again_and_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "LONGEST_BYTES", 1 << 20)
    tail = follow(path)
    read = 0
    real = files.TranscriptFile.read_at

    def read_at(self: Any, offset: int, count: int) -> bytes:
        nonlocal read
        data = real(self, offset, count)
        read += len(data)
        return data

    monkeypatch.setattr(files.TranscriptFile, "read_at", read_at)
    for _ in range(64):
        append(path, b"x" * (64 << 10))
        assert look(tail) == []
    assert read < 2 * (64 * (64 << 10)), "each byte once, and the marker"
    append(path, b"\n" + line("after"))
    seq = tail.last_seq + 1
    look(tail)
    warning, after = tail.read(seq, 10) or ()
    assert (warning["event"]["kind"], warning["event"]["text"]) == ("parse.warning", "too_long")
    assert after["event"]["text"] == "after"


def test_a_great_text_is_cut_and_says_so(path: Path) -> None:
    tail = follow(path)
    append(path, line("y" * 200_000))
    tail.look("")
    ((one),) = tail.read(1, 1) or ()
    assert len(one["event"]["text"]) == 64 << 10
    assert one["event"]["cut"] is True


def test_what_is_kept_has_a_bound_in_number_and_in_size(path: Path) -> None:
    tail = follow(path, most_events=10)
    append(path, b"".join(line(f"{number}") for number in range(50)))
    tail.look("")
    assert (tail.oldest_seq, tail.last_seq) == (41, 50)
    assert tail.read(40, 1) is None
    assert tail.read(51, 1) == []
    small = follow(path, 0, most_bytes=2_000)
    small.look("")
    assert small.last_seq == 51
    assert 40 < small.oldest_seq < 51


@given(st.lists(st.integers(1, 60), max_size=12), st.integers(0, 6))
@hypothesis_settings(max_examples=60, deadline=None)
def test_however_the_bytes_come_each_line_comes_once(tmp_path_factory: Any, sizes: list[int], extra: int) -> None:
    path = tmp_path_factory.mktemp("any") / "s.jsonl"
    data = b"".join(line(f"{number}") for number in range(8)) + line("torn")[:extra]
    path.write_bytes(b"")
    tail = follow(path)
    seen: list[Any] = []
    at = 0
    for size in [*sizes, len(data)]:
        append(path, data[at : at + size])
        at += size
        seen += look(tail)
    assert seen == [f"{number}" for number in range(8)]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 9, 10, 11])
@pytest.mark.parametrize("end", [b"", b"torn", b'{"x":1'])
def test_the_last_lines_are_found_from_behind(tmp_path: Path, count: int, end: bytes) -> None:
    lines = [line(f"{number} " + "z" * 30_000) for number in range(10)]
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"".join(lines) + end)
    with open_file(str(path)) as file:
        assert find_line_start(file, file.size()) == sum(map(len, lines))
        if count:
            assert find_last_lines(file, count, 8 << 20) == sum(map(len, lines[: max(0, 10 - count)]))
        events = list(read_last_events(CLAUDE.reader(main_stream()), file, count))
    assert [one.text[0] for one, _ in events] == [f"{number}" for number in range(max(0, 10 - count), 10)]


def main_stream() -> StreamId:
    return StreamId("s", "")


def test_no_more_than_a_bound_is_read_for_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"".join(line(f"{number}") for number in range(5_000)))
    with open_file(str(path)) as file:
        start = find_last_lines(file, 4_000, 100_000)
        assert file.size() - start < 300_000
        assert file.read_at(start - 1, 1) == b"\n"
