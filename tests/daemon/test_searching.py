"""Search in files: what is found where, what is not, and what it costs nobody."""

import json
from pathlib import Path

import pytest

from agent.core.sessions.search_terms import Matcher, parse_terms
from agent.core.transcripts.session import StreamId
from agent.providers import PROVIDERS
from agent.sessions.search.searching import Found, Target, search
from tests.daemon.test_indexing import line


def look(words: str, *paths: Path, limit: int = 0, each: int = 0, role: str = "") -> Found:
    targets = [Target(StreamId(path.stem, ""), "claude", str(path)) for path in paths]
    return search(Matcher(parse_terms([words])), targets, PROVIDERS, limit=limit, each=each, role=role)


def tool(text: str, number: int) -> bytes:
    block = {
        "type": "tool_use",
        "id": f"t{number}",
        "name": "Bash",
        "input": {"command": text, "deep": [{"a": "leaf"}]},
    }
    return line("assistant", "", number, message={"role": "assistant", "content": [block]})


def test_each_find_names_its_line_and_who_said_it(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_bytes(
        line("user", "the needle", 1) + line("assistant", "hay", 2) + tool("grep Needle x", 3) + b"torn needle"
    )
    found = look("needle", path).hits
    assert [(one.line, one.role, one.text[one.begin : one.end]) for one in found] == [
        (1, "user", "needle"),
        (3, "tool", "Needle"),
    ]
    assert [one.line for one in look("needle", path, role="tool").hits] == [3]
    assert [one.line for one in look("leaf", path).hits] == [3]
    assert look("needle", path, role="assistant").hits == []


@pytest.mark.parametrize(
    "text", ["über\nfund", 'say "fund" now', "tab\tfund", "\u2028fund", "C:\\fund", "a/fund/b", "𝄞fund"]
)
def test_a_word_behind_an_escape_is_found(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.jsonl"
    path.write_bytes(line("user", text, 1))
    assert len(look("fund", path).hits) == 1


def test_a_word_beyond_ascii_is_found_however_it_is_spelt(tmp_path: Path) -> None:
    for number, escaped in enumerate((True, False)):
        path = tmp_path / f"{number}.jsonl"
        said = {"type": "user", "uuid": "u", "message": {"role": "user", "content": "die ÜBERSICHT 𝄞"}}
        path.write_bytes(json.dumps(said, ensure_ascii=escaped).encode() + b"\n")
        assert len(look("übersicht", path).hits) == len(look("𝄞", path).hits) == 1


def test_keys_and_ids_of_the_format_are_no_finds(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_bytes(line("user", "hello", 1) * 50)
    for word in ("uuid", "message", "role", "assistant", "sessionId", "00000001"):
        assert look(word, path).hits == [], word


def test_enough_is_enough_and_that_there_may_be_more_is_told(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jsonl" for number in range(30)]
    for path in paths:
        path.write_bytes(line("user", "needle", 1) * 5)
    found = look("needle", *paths, limit=7, each=3)
    assert [(one.stream.session_id, one.line) for one in found.hits] == [
        *[("0", n) for n in (1, 2, 3)],
        *[("1", n) for n in (1, 2, 3)],
        ("2", 1),
    ]
    assert not found.is_whole
    assert found.files == 3, "the others were not waited for"
    assert len(look("needle", *paths).hits) == 150
    assert look("needle", *paths).is_whole
    assert look("absent", *paths, limit=7, each=3).is_whole


def test_finds_stand_across_pieces_and_behind_a_line_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    with path.open("wb") as file:
        for number in range(3):
            file.write(line("user", "x" * 1_500_000 + " needle", number))
        file.write(b'{"type":"user","message":{"role":"user","content":"' + b"needle " * (6 << 20) + b'"}}\n')
        file.write(line("user", "needle", 9))
    assert [one.line for one in look("needle", path).hits] == [1, 2, 3, 5]


def test_a_file_that_went_away_is_named_and_the_others_are_searched(tmp_path: Path) -> None:
    path = tmp_path / "there.jsonl"
    path.write_bytes(line("user", "needle", 1))
    found = look("needle", tmp_path / "gone.jsonl", path)
    assert [one.stream.session_id for one in found.hits] == ["there"]
    assert list(found.unread) == [str(tmp_path / "gone.jsonl")]


def test_what_a_tool_said_beside_the_transcript_is_searched_too(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"first\nsecond needle without an end")
    target = Target(StreamId("s", "files/tool-results/out.txt"), "claude", str(path))
    found = search(Matcher(parse_terms(["needle"])), [target], PROVIDERS, limit=0, each=0).hits
    assert [(one.line, one.role, one.kind) for one in found] == [(2, "tool", "side.file")]
