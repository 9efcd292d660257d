"""A look at what lies here: projects, copies, and what can't be read, as the private list sees them."""

import json
import os
from pathlib import Path

import pytest

from agent.core.privacy.rules import parse_rules
from agent.core.transcripts.session import Facts
from agent.delivery.discovery.scanner import Root
from agent.delivery.inventory.survey import Survey, find_copies, find_sessions, survey_sessions
from agent.providers import PROVIDERS
from agent.system.git import GitRemotes
from tests.system.privileges import needs_posix, open_folder, unprivileged

MIB = 1 << 20


def line(uuid: str, cwd: str, padding: int = 0) -> bytes:
    return json.dumps({"type": "user", "uuid": uuid, "pad": "x" * padding, "cwd": cwd}).encode() + b"\n"


def write(root: Path, name: str, data: bytes) -> Path:
    path = root / "p" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def survey(root: Path, rules: str, known: dict[str, Facts] | None = None) -> Survey:
    return survey_sessions(
        [Root(PROVIDERS["claude"], str(root))], known or {}, parse_rules(rules), GitRemotes({}, str(root))
    )


def private(found: Survey) -> dict[str, str]:
    return {one.session_id: one.verdict.rule or one.verdict.why for one in found.sessions if one.verdict.private}


def test_sessions_are_put_together_from_their_files(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", line("1", "/w/a"))
    write(tmp_path, "a/subagents/agent-1.jsonl", line("2", "/w/b"))
    write(tmp_path, "a/tool-results/x.txt", b'"cwd":"/w/secret"')
    write(tmp_path, "b.jsonl", b"{}\n")
    for number, path in enumerate(sorted(one for one in tmp_path.rglob("*") if one.is_file())):
        os.utime(path, (1000 + number, 1000 + number))
    found = {one.session_id: one for one in survey(tmp_path, "").sessions}
    assert {session: one.project for session, one in found.items()} == {"a": "/w/a", "b": ""}
    assert [one.stream.subpath for one in found["a"].files] == ["", "files/tool-results/x.txt", "subagents/agent-1"]
    assert found["a"].bytes == sum(one.size for one in found["a"].files)
    assert found["a"].oldest_s < found["a"].newest_s
    assert sorted(find_sessions([Root(PROVIDERS["claude"], str(tmp_path))])) == ["a", "b"]
    # A side file is no transcript: what stands in it names no folder of the session.
    assert private(survey(tmp_path, "project /w/secret")) == {"b": "its project is not known yet"}
    assert private(survey(tmp_path, "project /w/b")) == {"a": "project /w/b", "b": "its project is not known yet"}


@pytest.mark.parametrize("shift", range(-30, 31, 6))
def test_a_folder_is_seen_wherever_it_stands_in_a_file(tmp_path: Path, shift: int) -> None:
    """Also across the border of two pieces."""
    begin = line("1", "/w/a")
    padding = MIB - len(begin) - len(line("2", "")) + shift
    write(tmp_path, "a.jsonl", begin + line("2", "/w/secret/deep/folder", padding) + line("3", "/w/a"))
    assert private(survey(tmp_path, "project /w/secret")) == {"a": "project /w/secret"}


def test_a_copy_of_a_private_session_is_private(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", line("1", "/w/a") + line("2", "/w/a"))
    write(tmp_path, "b.jsonl", line("2", "/w/b") + line("3", "/w/b"))
    write(tmp_path, "c.jsonl", line("3", "/w/c"))
    found = survey(tmp_path, "session a")
    assert private(found) == {"a": "session a", "b": "session a"}
    whys = {one.session_id: one.verdict.why for one in found.sessions}
    assert whys["b"] == "its entries stand in a private session, a"


def test_copies_are_found_also_across_pieces_and_not_in_what_is_older(tmp_path: Path) -> None:
    begun = '{"type":"user","uuid":"one","timestamp":"2026-05-02T10:00:00Z"}\n'
    write(tmp_path, "a.jsonl", begun.encode() + line("two", "/w"))
    far = write(tmp_path, "b.jsonl", line("other", "/w", MIB - 30) + line("two", "/w"))
    old = write(tmp_path, "c.jsonl", line("two", "/w"))
    write(tmp_path, "d.jsonl", line("three", "/w"))
    os.utime(old, (1_600_000_000, 1_600_000_000))
    roots = [Root(PROVIDERS["claude"], str(tmp_path))]
    assert find_copies(roots, {"a"}) == {"b": far.stat().st_size}
    assert find_copies(roots, {"d"}) == {}
    assert find_copies(roots, {"nobody"}) == {}


def test_what_is_remembered_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", line("1", "/w/a")).chmod(0)
    [one] = survey(tmp_path, "", {"a": Facts("/w/remembered")}).sessions
    assert one.project == "/w/remembered"


@needs_posix
def test_what_can_not_be_read_is_private_where_its_content_matters() -> None:
    with open_folder() as place, unprivileged():
        write(place, "a.jsonl", line("1", "/w/a")).chmod(0)
        known = {"a": Facts("/w/a")}
        found = survey(place, "project /w/secret", known)
        assert private(found) == {"a": "it can't be read"}
        assert not found.sessions[0].verdict.certain
        assert list(found.unreadable) == [str(place / "p" / "a.jsonl")]
        assert private(survey(place, "", known)) == {}
