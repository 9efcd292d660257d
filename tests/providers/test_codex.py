"""Codex CLI: which files are transcripts of what, and what their lines say about a session."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.core.transcripts.session import Facts, StreamId
from agent.core.transcripts.transcript import split_lines
from agent.providers import PROVIDERS, codex

SID = "01a1fb4c-6b9f-7401-9c9b-e6751cf647c1"
FILE = f"rollout-2026-11-20T23-30-51-{SID}.jsonl"


def unread() -> list[bytes]:
    raise AssertionError("the name tells it; the file must not be opened")


def lines(*values: Any) -> bytes:
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in values)


def test_it_is_a_known_provider_under_its_name() -> None:
    assert PROVIDERS["codex"] is codex


def test_its_own_variable_wins_over_the_home_folder() -> None:
    assert codex.roots({}, "/home/ada") == ["/home/ada/.codex/sessions", "/home/ada/.codex/archived_sessions"]
    assert codex.roots({"CODEX_HOME": "/c"}, "/home/ada") == ["/c/sessions", "/c/archived_sessions"]
    assert codex.roots({"CODEX_HOME": ""}, "/home/ada")[0] == "/home/ada/.codex/sessions"


def test_it_deletes_nothing_by_itself() -> None:
    assert codex.settings_file({}, "/h") is None
    assert codex.parse_retention_days(None) is None


@pytest.mark.parametrize("path", [f"2026/11/20/{FILE}", FILE, f"2026/11/20/{FILE}.zst", f"{FILE}.zst"])
def test_the_id_in_the_name_is_the_session_wherever_the_file_lies(path: str) -> None:
    assert codex.classify(tuple(path.split("/")), unread) == StreamId(SID, "")


ROLLOUT = "01a2308f-90bc-7801-af6f-2ad6332e9c25"


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.zst"])
@pytest.mark.parametrize("folder", ["2026/11/20/", ""])
def test_a_rollout_of_a_thread_is_a_stream_beside_it_and_has_its_name_again(folder: str, ending: str) -> None:
    name = f"rollout-2026-11-21T08-00-00-{SID}_{ROLLOUT}"
    stream = codex.classify(tuple(f"{folder}{name}{ending}".split("/")), unread)
    assert stream == StreamId(SID, f"rollouts/{ROLLOUT}")
    first = [b'{"timestamp":"2026-11-21T08:00:00.000Z","type":"session_meta"}']
    assert codex.place(stream, "", first, {}) == ("2026", "11", "21", f"{name}.jsonl")
    same = f"rollout-2026-11-21T08-00-00-{SID}_{SID}.jsonl"
    assert codex.classify((same,), unread) == StreamId(SID, ""), "it is the thread's own"


@pytest.mark.parametrize("subpath", ["rollouts/", "rollouts/x", f"rollouts/{SID}", f"rollouts/{ROLLOUT}/x", ROLLOUT])
def test_no_other_stream_of_a_thread_has_a_place(subpath: str) -> None:
    first = [b'{"timestamp":"2026-11-21T08:00:00.000Z","type":"session_meta"}']
    assert codex.place(StreamId(SID, subpath), "", first, {}) is None


@pytest.mark.parametrize(
    "path",
    [
        "2026/11/20/rollout-2026-11-20T23-30-51-..jsonl",
        f"2026/11/20/.{FILE}.tmp",
        f"2026/11/20/{FILE}.zst.tmp",
        f"2026/11/20/{FILE}.gz",
        f"{SID}.jsonl",
        f"rollout-2026-11-20T23-30-51-{SID}_.jsonl",
        f"rollout-2026-11-20T23-30-51-{SID}_x.jsonl",
        f"rollout-2026-11-20T23-30-51-{SID}_{SID}_{SID}.jsonl",
        f"rollout-2025-05-07-{SID}.json",
        f"rollout-2026-11-20T23-30-51-{SID.upper()}.jsonl",
        f"{FILE}\n",
        "session_index.jsonl",
    ],
)
def test_everything_else_is_left_alone(path: str) -> None:
    assert codex.classify(tuple(path.split("/")), unread) is None


# --- what lines say -------------------------------------------------------------------------------------------------

META = {"type": "session_meta", "payload": {"id": SID, "cwd": "/srv/a b"}}
OLD = {"type": "event_msg", "payload": {"type": "user_message", "message": "fix\n the\ttests"}}
ITEM = {"type": "UserMessage", "content": [{"type": "image"}, {"type": "text", "text": "say hello"}]}
NEW = {"type": "event_msg", "payload": {"type": "item_completed", "item": ITEM}}


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (lines(META, NEW), Facts("/srv/a b", prompt="say hello")),
        (lines(META, OLD), Facts("/srv/a b", prompt="fix the tests")),
        (lines(META, b"torn {", b"[]", b"1", b"\xff", NEW), Facts("/srv/a b", prompt="say hello")),
        (lines({"type": "turn_context", "payload": {"cwd": "/x"}}), Facts("/x")),
        (lines({"type": "session_meta", "payload": {"cwd": ["/x"]}}, {"type": "session_meta", "payload": 1}), Facts()),
        (lines({"type": "response_item", "payload": {"cwd": "/x"}}), Facts()),
        (lines(META)[:-1], Facts()),
        (b"[" * 60_000 + b"\n" + lines(META), Facts("/srv/a b")),
        (b"", Facts()),
    ],
)
def test_project_and_prompt_stand_in_the_first_lines(data: bytes, facts: Facts) -> None:
    assert codex.read_facts(data, (), Facts()) == facts


def test_what_is_known_stays() -> None:
    known = Facts("/first", prompt="first")
    assert codex.read_facts(lines(META, NEW), (), known) == known
    assert codex.read_facts(lines(META, NEW), (), Facts("/first")) == Facts("/first", prompt="say hello")


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        ('{"payload":{"cwd":"/a","x":[{"cwd" : "/b"}]}}', ("/a", "/b")),
        ('{"runtime_workspace_roots":["/a", "/b\\"c" ,"/d"],"cwd":"/a"}', ("/a", '/b"c', "/d")),
        ('{"cwd":"file:///srv/demo%20proj.v1"}', ("/srv/demo proj.v1",)),
        ('{"cwd":"/torn', ()),
        ('/x","cwd":"/after the tear"', ("/after the tear",)),
        ('{"cwd":"\\u00fc\\ud800"}', ("\\u00fc\\ud800",)),
        ('{"cwd":7,"cwd":null,"cwd":{"a":"/b"},"cwd":""}', ()),
    ],
)
def test_every_folder_that_a_passage_names_counts(text: str, folders: tuple[str, ...]) -> None:
    assert codex.folders_in(text.encode()) == folders


@pytest.mark.parametrize(
    "hostile",
    [
        b'"cwd":"' * 200_000,
        b'"runtime_workspace_roots":[' + b'"a" ' * 200_000,
        b'"runtime_workspace_roots":[' + b" " * 1_000_000,
        b'"cwd":"' + b"\\" * 1_000_001,
        b"[" * 1_000_000,
        b'"id":"' + b"a" * 1_000_000,
    ],
    ids=["keys", "lists", "blanks", "escapes", "nesting", "ids"],
)
def test_no_text_makes_the_search_try_again_and_again(hostile: bytes) -> None:
    assert len(codex.folders_in(hostile)) <= 1
    assert codex.entry_ids_in(hostile) == []


def test_a_fork_has_the_id_of_its_parent() -> None:
    parent = lines({"payload": {"id": SID}})
    fork = lines({"payload": {"id": "02" + SID[2:], "forked_from_id": SID}})
    assert set(codex.entry_ids_in(parent)) & set(codex.entry_ids_in(fork)) == {SID.encode()}
    assert codex.entry_ids_in(b'"id":"local","id":"gpt-5-codex","turn_id":"' + SID.encode() + b'"') == []


# --- where it belongs -----------------------------------------------------------------------------------------------


def test_every_real_file_has_its_place_again(corpus: Path) -> None:
    root = corpus / "codex" / "sessions"
    found = sorted(root.rglob("*.jsonl"))
    assert len(found) == 11
    for path in found:
        first = split_lines(path.read_bytes())[:20]
        parts = path.relative_to(root).parts
        stream = codex.classify(parts, list)
        assert stream is not None
        placed = codex.place(stream, "", first, {})
        assert placed is not None
        assert (placed[:3], codex.classify(placed, list)) == (parts[:3], stream)
        facts = codex.read_facts(b"".join(line + b"\n" for line in first), (), Facts())
        assert facts.project == "/home/dev/home-codex/work/demo proj.v1"


NOWHERE: dict[str, Callable[[], Any]] = {
    "no lines": lambda: codex.place(StreamId(SID, ""), "/p", [], {}),
    "no time": lambda: codex.place(StreamId(SID, ""), "/p", [b'{"payload":{"timestamp":"../../x"}}'], {}),
    "a name that leads elsewhere": lambda: codex.place(
        StreamId("../x", ""), "/p", [b'{"timestamp":"2026-11-20T23:30:51Z"}'], {}
    ),
    "a side file": lambda: codex.place(StreamId(SID, "files/x"), "/p", [b'{"timestamp":"2026-11-20T23:30:51Z"}'], {}),
}


@pytest.mark.parametrize("case", NOWHERE)
def test_what_can_not_be_told_has_no_place(case: str) -> None:
    assert NOWHERE[case]() is None
