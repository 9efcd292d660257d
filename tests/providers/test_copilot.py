"""Copilot CLI: which files belong to a session, what stands beside its transcript, and what its lines say."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.core.transcripts.session import Facts, StreamId
from agent.providers import PROVIDERS, copilot

SID = "96a2f4d4-0790-440f-82c7-843f036c4eae"


def unread() -> list[bytes]:
    raise AssertionError("the name tells it; the file must not be opened")


def joined(*values: Any) -> bytes:
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in values)


def test_it_is_a_known_provider_under_its_name() -> None:
    assert PROVIDERS["copilot"] is copilot


def test_its_own_variable_wins_over_the_home_folder() -> None:
    assert copilot.roots({}, "/home/ada") == ["/home/ada/.copilot/session-state"]
    assert copilot.roots({"COPILOT_HOME": "/c"}, "/home/ada") == ["/c/session-state"]


def test_it_deletes_nothing_by_itself() -> None:
    assert copilot.settings_file({}, "/h") is None
    assert copilot.parse_retention_days(None) is None


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        (f"{SID}/events.jsonl", StreamId(SID, "")),
        ("my-session/events.jsonl", StreamId("my-session", "")),
        (f"{SID}.jsonl", StreamId(SID, "")),
        (f"{SID}/workspace.yaml", StreamId(SID, "files/workspace.yaml")),
        (f"{SID}/plan.md", StreamId(SID, "files/plan.md")),
        (f"{SID}/checkpoints/index.md", StreamId(SID, "files/checkpoints/index.md")),
        (f"{SID}/files/deep/x.png", StreamId(SID, "files/files/deep/x.png")),
        *((f"{SID}/{name}", None) for name in ("inuse.7028.hold", "session.db", "events.jsonl.bak", "events.jsonl~")),
        *((f"{SID}/{name}", None) for name in ("events.jsonl.tmp", "events-1.jsonl", "deep/events.jsonl")),
        (f"{SID}/rewind-file-snapshots/index.json", None),
        ("other.jsonl", None),
        ("events.jsonl", None),
        ("-x/events.jsonl", None),
        ("a b/events.jsonl", None),
        (f"{SID}.json", None),
    ],
)
def test_the_path_tells_what_it_is(path: str, stream: StreamId | None) -> None:
    assert copilot.classify(tuple(path.split("/")), unread) == stream


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("id: x\ncwd: /srv/a b\ngit_root: /srv\n", "/srv/a b"),
        ('cwd: "/srv/\\u00fc \\"q\\""\r\n', '/srv/ü "q"'),
        ("cwd: '/srv/it''s'\n", "/srv/it's"),
        ("cwd: /srv/a # where\n", "/srv/a"),
        ("cwd: C:\\work\n", "C:\\work"),
        ('cwd: "torn\n', ""),
        ("cwd: |\n  /srv\n", ""),
        ("cwd: relative\n", ""),
        (" cwd: /nested\n", ""),
        ("summary: cwd: /quoted\n", ""),
        ("", ""),
    ],
)
def test_the_workspace_says_where_it_works(text: str, folder: str) -> None:
    assert copilot.read_beside(text.encode()) == folder
    assert copilot.beside((SID, "events.jsonl")) == (SID, "workspace.yaml")
    assert copilot.beside((f"{SID}.jsonl",)) is None


START = {"type": "session.start", "data": {"context": {"cwd": "/srv/a", "gitRoot": "/srv"}}}
SAID = {"type": "user.message", "data": {"content": "say\nhello"}}


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (joined(START, SAID), Facts("/srv/a", prompt="say hello")),
        (joined(b"torn", START), Facts("/srv/a")),
        (joined({"type": "hook.start", "data": {"context": {"cwd": "/x"}}}, SAID), Facts(prompt="say hello")),
        (joined({"type": "session.start", "data": [1]}, {"type": "user.message", "data": {"content": 7}}), Facts()),
        (b"", Facts()),
    ],
)
def test_project_and_prompt_stand_in_the_first_lines(data: bytes, facts: Facts) -> None:
    assert copilot.read_facts(data, (), Facts()) == facts


def test_folders_and_ids_of_a_passage() -> None:
    data = joined(START | {"id": SID}, {"data": {"toolCallId": SID, "id": "call_1"}})
    assert copilot.folders_in(data) == ("/srv/a", "/srv")
    assert copilot.entry_ids_in(data) == [SID.encode()]


def test_every_real_file_has_its_place_again(corpus: Path) -> None:
    root = corpus / "copilot" / "session-state"
    taken = 0
    for path in sorted(one for one in root.rglob("*") if one.is_file()):
        parts = path.relative_to(root).parts
        stream = copilot.classify(parts, unread)
        if stream is not None:
            taken += 1
            assert copilot.place(stream, "/p", (), {}) == parts
        if path.name == "events.jsonl":
            facts = copilot.read_facts(path.read_bytes(), (), Facts())
            assert facts.project == "/home/dev/home-copilot/work/demo proj.v1"
            assert facts.prompt
    assert taken == 24


@pytest.mark.parametrize(
    "stream",
    [
        StreamId("..", ""),
        StreamId("a/b", ""),
        StreamId(SID, "files/../x"),
        StreamId(SID, "files/checkpoints/../../x"),
        StreamId(SID, "files/session.db"),
        StreamId(SID, "subagents/x"),
        StreamId(SID, "files/checkpoints/"),
    ],
)
def test_what_can_not_be_told_has_no_place(stream: StreamId) -> None:
    assert copilot.place(stream, "/p", (), {}) is None
