"""Gemini CLI: which files are transcripts of what, what stands beside them, and what their lines say."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from agent.core.transcripts.session import Facts, StreamId
from agent.core.transcripts.transcript import split_lines
from agent.providers import PROVIDERS, gemini

SID = "0cfd5ac8-05ae-4bf8-8445-49b558d47dd4"
HEADER = {"sessionId": SID, "projectHash": "f00", "startTime": "2026-11-20T23:32:26.787Z", "kind": "main"}
MAIN = "demo/chats/session-2026-11-20T23-32-0cfd5ac8.jsonl"


def unread() -> list[bytes]:
    raise AssertionError("the name tells it; the file must not be opened")


def lines(*values: Any) -> Callable[[], list[bytes]]:
    return lambda: [one if isinstance(one, bytes) else json.dumps(one).encode() for one in values]


def joined(*values: Any) -> bytes:
    return b"".join(line + b"\n" for line in lines(*values)())


def classify(path: str, first_lines: Callable[[], list[bytes]] = unread) -> StreamId | None:
    return gemini.classify(tuple(path.split("/")), first_lines)


def test_it_is_a_known_provider_under_its_name() -> None:
    assert PROVIDERS["gemini"] is gemini


def test_its_own_variable_stands_for_the_home_folder() -> None:
    assert gemini.roots({}, "/home/ada") == ["/home/ada/.gemini/tmp"]
    assert gemini.roots({"GEMINI_CLI_HOME": "/g"}, "/home/ada") == ["/g/.gemini/tmp"]
    assert gemini.settings_file({"GEMINI_CLI_HOME": "/g"}, "/home/ada") == "/g/.gemini/settings.json"


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        (None, 30.0),
        ({}, 30.0),
        ({"enabled": False, "maxAge": "7d"}, None),
        ({"enabled": True, "maxAge": "7d"}, 7.0),
        ({"maxAge": "48h"}, 2.0),
        ({"maxAge": "2w"}, 14.0),
        ({"maxAge": "3m", "maxCount": 9}, 90.0),
        ({"maxCount": 50}, None),
        ({"maxAge": "soon"}, 30.0),
        ({"maxAge": 7}, 30.0),
        ({"maxAge": "0d"}, 30.0),
        ("yes", 30.0),
    ],
)
def test_what_it_deletes_by_age_is_in_its_settings(rules: object, days: float | None) -> None:
    text = None if rules is None else json.dumps({"general": {"sessionRetention": rules}})
    assert gemini.parse_retention_days(text) == days


def test_settings_that_do_not_read_as_json_are_its_default() -> None:
    assert [gemini.parse_retention_days(text) for text in ("// x\n{", "[]", "[" * 100_000)] == [30.0] * 3


# --- which ----------------------------------------------------------------------------------------------------------


def test_the_header_names_the_session() -> None:
    assert classify(MAIN, lines(HEADER)) == StreamId(SID, "")
    assert classify(MAIN, lines(b"torn", {"$set": {}}, HEADER)) == StreamId(SID, "")


def test_a_header_that_names_none_can_not_be_told_yet() -> None:
    odd: tuple[Any, ...] = ("", ".", "..", "a/b", "a\0", "x" * 200, "-a", 7, None, [SID])
    for first in ({"$set": {"sessionId": SID}}, {"sessionId": SID}, *(HEADER | {"sessionId": one} for one in odd)):
        assert classify(MAIN, lines(first)) is None
    assert classify(MAIN, lines()) is None


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        (f"demo/chats/{SID}/helper-1.jsonl", StreamId(SID, "subagents/helper-1")),
        (f"demo/tool-outputs/session-{SID}/a.txt", StreamId(SID, "files/tool-outputs/a.txt")),
        (f"demo/tool-outputs/session-{SID}/deep/a.txt", StreamId(SID, "files/tool-outputs/deep/a.txt")),
        ("demo/tool-outputs/a.txt", None),
        ("demo/tool-outputs/session-/a.txt", None),
        (f"demo/logs/session-{SID}.jsonl", None),
        ("demo/chats/session-2026-11-20T23-32-0cfd5ac8.json", None),
        ("demo/chats/notes.jsonl", None),
        ("demo/chats/.hidden/x.jsonl", None),
        (f"demo/chats/{SID}/..jsonl", None),
        ("demo/.project_root", None),
        ("demo/checkpoints/x.json", None),
        ("x.jsonl", None),
    ],
)
def test_the_path_tells_the_others(path: str, stream: StreamId | None) -> None:
    assert classify(path) == stream


def test_the_folder_stands_beside() -> None:
    assert gemini.beside(tuple(MAIN.split("/"))) == ("demo", ".project_root")
    assert gemini.beside(("x",)) is None
    assert gemini.lines_name_project is False


@pytest.mark.parametrize(
    ("data", "folder"),
    [
        (b"/srv/a b", "/srv/a b"),
        (b"/srv/a\n", "/srv/a"),
        (b"C:\\work\r\n", "C:\\work"),
        (b"\\\\host\\share", "\\\\host\\share"),
        (b"demo", ""),
        (b"", ""),
        (b"/\xff", ""),
    ],
)
def test_only_a_path_is_a_folder(data: bytes, folder: str) -> None:
    assert gemini.read_beside(data) == folder


# --- what lines say -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (joined(HEADER, {"type": "user", "content": [{"text": "say\nhello"}]}), Facts(prompt="say hello")),
        (joined({"type": "user", "content": "plain"}), Facts(prompt="plain")),
        (
            joined({"type": "user", "content": "<context>"}, {"type": "user", "content": "it"}),
            Facts(prompt="it"),
        ),
        (joined({"type": "gemini", "content": "it"}), Facts()),
        (joined({"type": "user", "content": [{"functionResponse": {}}, 7]}), Facts()),
        (joined({"$set": {"messages": [{"type": "user", "content": "context"}]}}), Facts()),
    ],
)
def test_the_first_thing_somebody_wrote_is_the_prompt(data: bytes, facts: Facts) -> None:
    assert gemini.read_facts(data, (), Facts()) == facts


def test_a_summary_is_its_title_wherever_it_stands() -> None:
    marked = b'{"$set":{"summary":"Fix the tests","lastUpdated":"x"}}'
    assert marked.startswith(gemini.telling)
    assert gemini.read_facts(b"", (marked,), Facts("/p", "old", "p")) == Facts("/p", "Fix the tests", "p")
    assert gemini.read_facts(b"", (b'{"$set":{"summary":7}}',), Facts(title="old")) == Facts(title="old")


def test_directories_are_folders_it_works_in_but_not_where_it_began() -> None:
    assert gemini.folders_in(b'{"directories":["/a","/b"],"x":["/c"]}') == ("/a", "/b")


def test_ids_that_all_sessions_share_make_no_copies() -> None:
    data = b'{"id":"d04923d38bb0f6017037e74183378ef4"}\n{"id":"' + SID.encode() + b'"}\n{"id":"run_shell_command__1_0"}'
    assert gemini.entry_ids_in(data) == [SID.encode()]


# --- where it belongs -----------------------------------------------------------------------------------------------


def test_every_real_file_has_its_place_again(corpus: Path) -> None:
    root = corpus / "gemini" / "tmp"
    folders: Mapping[str, str] = {"other": "/o", "demo-proj-v1": "/srv/demo"}
    found = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".project_root"]
    assert len(found) == 9
    for path in found:
        parts = path.relative_to(root).parts
        first = split_lines(path.read_bytes())[:5]
        stream = gemini.classify(parts, lambda first=first: first)  # type: ignore[misc]
        assert stream is not None
        assert gemini.place(stream, "/srv/demo", first, folders) == parts


@pytest.mark.parametrize(
    ("project", "folders", "folder"),
    [
        ("/srv/My Demo.v2", {}, "my-demo-v2"),
        ("/srv/--Ünï--/", {}, "n"),
        ("C:\\work\\Tide", {}, "tide"),
        ("/", {}, "project"),
        ("/srv/???", {}, "project"),
        ("/srv/tide", {"tide": "/other/tide", "tide-1": ""}, "tide-2"),
        ("/srv/tide", {"tide-7": "/srv/tide", "tide": "/other/tide"}, "tide-7"),
        ("/srv/tide", {"b": "/srv/tide", "a": "/srv/tide"}, "b"),
        ("/srv/tide", {sha256(b"/srv/tide").hexdigest(): ""}, sha256(b"/srv/tide").hexdigest()),
        ("/srv/tide", {sha256(b"/srv/tide").hexdigest(): "", "tide": "/srv/tide"}, "tide"),
    ],
)
def test_a_project_has_the_folder_in_which_it_looks(project: str, folders: Mapping[str, str], folder: str) -> None:
    """That of the list or the file in it, that of an older version, or the name that it would make and that is free."""
    placed = gemini.place(StreamId(SID, ""), project, lines(HEADER)(), folders)
    assert placed == (folder, "chats", "session-2026-11-20T23-32-0cfd5ac8.jsonl")
    assert gemini.place(StreamId(SID, "subagents/h"), project, (), folders) == (folder, "chats", SID, "h.jsonl")
    assert gemini.read_beside(gemini.render_beside(project) or b"") == project


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"projects":{"/srv/a":"a","/srv/b":"b-1"}}', {"/srv/a": "a", "/srv/b": "b-1"}),
        (b'{"projects":{"/srv/a":"../../x","/srv/b":7,"/srv/c":".."}}', {}),
        (b'{"projects":[]}', {}),
        (b"[]", {}),
        (b"", {}),
        (b"\xff{", {}),
    ],
)
def test_its_list_of_projects_names_folders_and_nothing_else(data: bytes, found: Mapping[str, str]) -> None:
    assert gemini.read_registry(data) == found


@pytest.mark.parametrize(
    ("stream", "project", "first"),
    [
        (StreamId(SID, ""), "", HEADER),
        (StreamId(SID, ""), "/p", HEADER | {"startTime": "../.."}),
        (StreamId(SID, ""), "/p", HEADER | {"sessionId": "another"}),
        (StreamId("../x", ""), "/p", HEADER),
        (StreamId(SID, "subagents/../../x"), "/p", HEADER),
        (StreamId(SID, "files/tool-outputs/../x"), "/p", HEADER),
        (StreamId(SID, "files/other/x"), "/p", HEADER),
        (StreamId(SID, "subagents/a/b"), "/p", HEADER),
    ],
)
def test_what_can_not_be_told_has_no_place(stream: StreamId, project: str, first: dict[str, str]) -> None:
    assert gemini.place(stream, project, lines(first)(), {}) is None
