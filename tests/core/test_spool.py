"""Lines of the capture spool: whatever a name on disk holds, and whatever a crash made of the file."""

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.core.spool import parse_ends, parse_lines, render_end, render_ends, render_line, render_lines

ids = st.text(st.characters(exclude_categories=("C", "Z")), max_size=40)
names = st.binary(min_size=1, max_size=60).map(os.fsdecode)
NOT_IN_A_LINE = set("\0\t\n\r")


@given(st.dictionaries(names.filter(lambda name: not NOT_IN_A_LINE & set(name)), ids, max_size=8))
@example({"": "only-the-session"})
@example({"/home/ada/ä\udcff.jsonl": "s"})
def test_what_is_written_is_read(hints: dict[str, str]) -> None:
    hints = {path: session_id for path, session_id in hints.items() if path or session_id}
    assert parse_lines(render_lines(hints)) == hints
    assert render_lines(hints).count(b"\n") == len(hints)


@given(st.text(), st.text())
def test_no_name_can_break_the_format(session_id: str, path: str) -> None:
    line = render_line(session_id, path)
    assert not line or (line.count(b"\n"), line.count(b"\t"), line[-1:]) == (1, 1, b"\n")
    assert parse_lines(line + b"s\t/next\n")["/next"] == "s"


@pytest.mark.parametrize("path", ["/a\nb", "/a\tb", "/a\0b", "/a\rb", "/half a pair \ud800", "/" + "x" * 40_000])
def test_a_path_that_fits_into_no_line_is_refused(path: str) -> None:
    assert render_line("s", path) == b""


@pytest.mark.parametrize("session_id", ["a\tb", "a\nb", "\0", "\x1b[31m"])
def test_a_session_id_that_is_none_is_left_out(session_id: str) -> None:
    assert render_line(session_id, "/p.jsonl") == b"\t/p.jsonl\n"


def test_nothing_to_say_is_no_line() -> None:
    assert render_line("", "") == b""
    assert render_line("s", "") == b"s\t\n"


def test_a_line_without_a_tab_is_a_path() -> None:
    assert parse_lines(b"/old.jsonl\ns\t/new.jsonl\n") == {"/old.jsonl": "", "/new.jsonl": "s"}


def test_duplicates_are_one_and_a_known_session_wins() -> None:
    assert parse_lines(b"s\t/a\n/b\n/a\ns\t/a\nt\t/b\n") == {"/a": "s", "/b": "t"}


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 4096,
        b"to\0rn",
        b"s\tto\trn",
        b"\n\n\n",
        b"\r",
        b"\t",
        b"s\t/torn/pa",
        b"\xff\xfe\x00\x80",
        b"\x80\x81\t\xfe",
    ],
)
def test_damage_costs_nothing_but_itself(damage: bytes) -> None:
    hints = parse_lines(b"s\t/before\n" + damage + b"\nt\t/after\n")
    assert (hints["/before"], hints["/after"]) == ("s", "t")
    assert len(hints) <= 3


@given(st.binary(max_size=300))
def test_any_bytes_are_read_and_can_be_put_back(damage: bytes) -> None:
    hints = parse_lines(damage + b"\ns\t/after\n")
    assert hints["/after"] == "s"
    again = parse_lines(render_lines(hints))
    assert again.keys() == {path for path in hints if render_line(hints[path], path)}


def test_blocks_of_nul_before_a_line_and_line_ends_of_windows_are_overlooked() -> None:
    assert parse_lines(b"\0\0\0s\t/a\r\n\0\0/b\r\n") == {"/a": "s", "/b": ""}


@given(st.dictionaries(ids.filter(bool), st.floats(0, 4e9), max_size=8), st.binary(max_size=40))
def test_ends_are_read_beside_lines_of_any_kind(ends: dict[str, float], damage: bytes) -> None:
    data = render_line("s", "/p") + render_ends(ends) + damage + b"\ns\t/next\n"
    assert parse_ends(data).items() >= {one: pytest.approx(at_s, abs=0.001) for one, at_s in ends.items()}.items()
    assert parse_lines(data)["/p"] == "s"
    assert parse_lines(data)["/next"] == "s"


def test_an_end_is_no_line_for_readers_of_before() -> None:
    """They split at the first tab, and leave out a path with another one."""
    assert parse_lines(render_end("s", 5.0)) == {}
    assert parse_ends(b"s\t/p\n/old\n") == {}


@pytest.mark.parametrize(
    "line", [b"\t\tend 5", b"s\t/p\tend 5", b"s\t\tend x", b"s\t\tend 5.5.5", b"s\t\tend " + b"9" * 400, b"s\t\tend -1"]
)
def test_what_is_no_end_ends_nothing(line: bytes) -> None:
    assert parse_ends(line + b"\nt\t\tend 7\n") == {"t": 7.0}
    assert render_end("", 5.0) == render_end("a\tb", 5.0) == b""
