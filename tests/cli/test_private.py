"""`transcriptd private` as a person meets it: what is named, what it covers, and what becomes of it."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.cli.config import environment
from agent.core.privacy.lost_rules import KnownRules
from agent.core.privacy.rules import HEADER, REMOTE_UNKNOWN
from agent.core.status import StreamLine
from agent.core.transcripts.identity import START
from agent.core.transcripts.session import Facts, StreamId
from agent.delivery.privacy.rulebook import HAS_LIST
from agent.system.control_socket.server import ControlServer
from agent.system.paths import default_paths
from agent.system.state.known_rules import write_known
from agent.system.state.state_db import Changes, TrackRow, open_state
from tests.cli.running import run, spawn
from tests.conftest import require_tool

ONE = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"
TWO = "0f3c2b1e-aaaa-4cde-8f01-23456789abcd"
THREE = "77777777-90ab-4cde-8f01-23456789abcd"
GONE = "99999999-90ab-4cde-8f01-23456789abcd"


def write_session(home: Path, session: str, *folders: Path) -> None:
    path = home / ".claude" / "projects" / "p" / f"{session}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"type": "user", "uuid": f"{session}/{at}", "cwd": str(one)}) for at, one in enumerate(folders)]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def remember(session: str, project: Path, *, sent: int = 4) -> None:
    cursor = START._replace(offset=sent * 25, entry_count=sent, sent_count=sent)
    path = f"/p/{session}.jsonl"
    row = TrackRow("default", StreamId(session, ""), "claude", path, 100, 10**18, "synced", "", 0, cursor)
    db = open_state(default_paths(environment()).database, "aside")
    db.commit(Changes(tracks=[row], sessions=[(session, Facts(str(project)))]))
    db.close()


@pytest.fixture
def work(home: Path) -> Path:
    """Three sessions on this disk, one of them in two folders and sent; and one that is gone from it."""
    work = home / "work"
    for name in ("secret", "open", "C #1"):
        (work / name).mkdir(parents=True)
    write_session(home, ONE, work / "open", work / "secret" / "deep")
    write_session(home, TWO, work / "open")
    write_session(home, THREE, work / "C #1")
    remember(ONE, work / "open")
    remember(GONE, work / "secret")
    return work


@contextmanager
def agent(methods: Mapping[str, Any]) -> Iterator[None]:
    """A running agent, as far as these commands speak to it."""
    paths = default_paths(environment())
    paths.state.mkdir(parents=True, exist_ok=True)
    nothing: dict[str, Any] = {"streams": [], "facts": {}}
    server = ControlServer(paths.socket, {"sessions.list": lambda _: nothing, **methods})
    try:
        yield
    finally:
        server.close()


def rules() -> list[str]:
    text = default_paths(environment()).private_list.read_text(encoding="utf-8")
    assert text.startswith(HEADER)
    return text.removeprefix(HEADER).splitlines()


def test_a_folder_covers_every_session_that_worked_in_it(work: Path) -> None:
    done = run("private", "add", str(work / "secret"))
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[1:] == [
        f"  project {work / 'secret'}: added; covers 2 sessions in 2 folders",
        f"private: 2 sessions, {size_of(ONE, work)} B",
        "2 of them are on default; the agent deletes them there when it runs next, if that server offers deletion",
    ]
    assert rules() == [f"project {work / 'secret'}"]
    again = run("private", "add", "--project", str(work / "secret"), "--json").json()
    assert (again["added"], again["already"], again["sessions"], again["sent"]) == ([], rules(), 2, 2)
    assert again["agent"] == "not_running"


def size_of(session: str, work: Path) -> int:
    return (work.parent / ".claude" / "projects" / "p" / f"{session}.jsonl").stat().st_size


@pytest.mark.parametrize("name", ["C #1", "a[1]", "b*", "blank at its end "])
def test_a_folder_of_any_name_stands_for_itself(work: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / name).mkdir(exist_ok=True)
    write_session(work.parent, THREE, work / name)
    monkeypatch.chdir(work)
    done = run("private", "add", f"./{name}", "--json").json()
    assert (done["sessions"], done["sent"]) == (1, 0)
    assert run("private", "remove", f"./{name}", "--json").json()["removed"] == done["added"]
    assert rules() == []


def test_patterns_and_remotes_cover_what_they_say(work: Path) -> None:
    assert run("private", "add", f"{work}/s*", "--json").json()["sessions"] == 2
    for name in ("open", "secret"):
        git = [require_tool("git"), "-C", str(work / name)]
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "remote", "add", "origin", f"git@github.com:Acme/{name}.git"], check=True)
    (work / "secret" / "deep").mkdir()
    done = run("private", "add", "--remote", "https://github.com/acme/o*", "--json").json()
    # Of the sessions that are left here, GONE is known by its project alone.
    assert (done["added"], done["sessions"], done["sent"]) == (["remote https://github.com/acme/o*"], 2, 1)
    listed = run("private", "list", "--json").json()
    assert listed["rules"] == [
        {"rule": f"project {work}/s*", "line": 8, "sessions": 2, "held_s": None},
        {"rule": "remote https://github.com/acme/o*", "line": 9, "sessions": 1, "held_s": None},
    ]
    assert (listed["private"], listed["known"], listed["others"]) == (3, 4, {})


def test_each_rule_says_what_it_covers_and_how_it_is_read(work: Path, home: Path) -> None:
    """Also beside another one that covers the same."""
    client = work / "[client]"
    (client / "secret-1").mkdir(parents=True)
    (work / "there").mkdir()
    write_session(home, THREE, client / "secret-1")
    projects = {
        f"{client}/secret-*": "1 session in 1 folder",
        f"{client}": "1 session in 1 folder",
        f"{work}/{{open,secret}}": "3 sessions in 2 folders",
        f"{work}/**/open": "2 sessions in 1 folder",
        f"{work}/the*": "",
        f"{work}/nowhere": "",
        f"{work}/nowhere-*/x": "",
        f"{work}/secret.*": "",
    }
    done = run("private", "add", *(word for one in projects for word in ("--project", one)))
    out, said, rule = done.out.splitlines()[1:], dict[str, list[str]](), ""
    for line in out:
        if line.startswith("  project "):
            rule, _, covers = line.removeprefix("  project ").partition(": added")
            said[rule] = [covers.removeprefix("; covers ")]
        elif line.startswith("  ! "):
            said[rule].append(line[4:])
    written = {
        one.replace("[client]", "[[]client]") if one == str(client) else one: what for one, what in projects.items()
    }
    assert {one: what[0] for one, what in said.items()} == written
    nothing = "it covers no session and no folder that is here now; is it written as you meant it?"
    assert [one for one, what in said.items() if nothing in what] == [
        f"{work}/nowhere",
        f"{work}/nowhere-*/x",
        f"{work}/secret.*",
    ]
    assert any("[client] means one of these characters" in one for one in said[f"{client}/secret-*"])
    assert any("{open,secret} means any of these" in one for one in said[f"{work}/{{open,secret}}"])
    assert any(".* stands for itself" in one for one in said[f"{work}/secret.*"])
    found = run("private", "add", "--project", f"{work}/{{a,b}}", "--json").json()["matched"]
    assert [(one["sessions"], one["folders"], one["exists"]) for one in found.values()] == [(0, 0, False)]


def test_what_a_rule_can_not_be_applied_to_is_counted(work: Path) -> None:
    (work / "open").rmdir()
    done = run("private", "add", "--remote", "github.com/acme/*", "--json").json()
    why = REMOTE_UNKNOWN
    assert (done["sessions"], done["doubtful"]) == (0, {why: 2})
    words = run("private", "add", "--remote", "h.x/*").out
    assert f"! 2 more sessions: {why}; nothing of them leaves\n" in words
    assert "make the folder again, an empty one will do" in words
    assert f"2 more sessions: {why}\n" in run("private", "list").out
    for name in ("open", "secret/deep"):
        (work / name).mkdir()
    assert run("private", "list", "--json").json()["others"] == {}


def test_a_session_is_named_by_its_beginning(work: Path) -> None:
    done = run("private", "add", "777", "0f3c2b1e-9", "--json")
    assert done.json()["added"] == [f"session {THREE}", f"session {ONE}"]
    done = run("private", "add", "0f3c2b1e")
    assert done.status == 2
    assert "2 sessions begin with '0f3c2b1e'" in done.err
    for arguments in (["--session", "abc"], ["nothing-of-the-kind"], ["github.com/acme/*"], []):
        done = run("private", "add", *arguments)
        assert (done.status, done.out) == (2, ""), arguments
    assert run("private", "add", "--session", THREE.replace("7", "8")).status == 0, "it may be one that is to come"


def test_this_session_is_what_claude_code_says(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("private", "add", "--this")
    assert done.status == 2
    assert "CLAUDE_CODE_SESSION_ID is not set" in done.err
    monkeypatch.setenv("CLAUDE_CODE_SESSION_ID", ONE)
    assert run("private", "add", "--this", "--json").json() == {
        "schema": 1,
        "list": str(default_paths(environment()).private_list),
        "added": [f"session {ONE}"],
        "already": [],
        "agent": "not_running",
        "sessions": 1,
        "bytes": 100,
        "sent": 1,
        "doubtful": {},
        "copies": 0,
        "on": {"default": 1},
        "matched": {},
        "deletes": {},
    }
    assert run("private", "remove", "--this").out.endswith(f"session {ONE}: removed\n")


def test_copies_of_a_session_are_counted_with_it(work: Path, home: Path) -> None:
    folder = home / ".claude" / "projects" / "p"
    resumed = folder / f"{TWO}.jsonl"
    resumed.write_bytes((folder / f"{ONE}.jsonl").read_bytes() + resumed.read_bytes())
    remember(TWO, work / "open")
    said = run("private", "add", "--session", ONE, "--json").json()
    assert (said["sessions"], said["copies"], said["sent"]) == (2, 1, 2)
    assert said["bytes"] == 100 + resumed.stat().st_size
    run("private", "remove", "--session", ONE)
    words = run("private", "add", "--session", ONE).out
    assert "private: 2 sessions" in words
    assert "; 1 of them for entries that they share\n2 of them are on default" in words


def test_what_another_rule_covers_stays_private(work: Path) -> None:
    run("private", "add", ONE, str(work / "secret"))
    done = run("private", "remove", ONE)
    assert done.out.splitlines()[1:] == [
        f"  session {ONE}: removed",
        f"! {ONE} stays private: it is on the private list: project {work / 'secret'}",
    ]
    for word in (ONE, str(work / "open")):
        done = run("private", "remove", word)
        assert done.status == 2
        assert "no rule of the list says" in done.err
    assert rules() == [f"project {work / 'secret'}"]


def test_a_rule_by_hand_is_removed_by_what_it_names(work: Path, home: Path) -> None:
    path = default_paths(environment()).private_list
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# mine\nproject ~/src/secret/ # why\n\nremote git@H.example:x.git\nsession {THREE.upper()}\n")
    assert run("private", "remove", "~/src/secret", "--remote", "https://h.example/x", "777").status == 0
    assert path.read_text() == "# mine\n\n"


def test_the_list_is_shown_to_people(work: Path) -> None:
    assert run("private", "list").out.endswith("private.list: no rules\n0 of 4 sessions private\n")
    run("private", "add", str(work / "secret"))
    config = default_paths(environment()).config
    config.write_text(f'[privacy]\nshare = "listed"\nshared_projects = ["{work}/C*"]\n', encoding="utf-8")
    shown = run("private", "list").out
    assert f"project {work / 'secret'}" in shown
    assert f'share = "listed"; shared_projects: {work}/C*\n' in shown
    assert '1 more session: its project is not one of shared_projects, and share = "listed"\n' in shown
    assert shown.endswith("3 of 4 sessions private\n")


@pytest.mark.parametrize(
    "command",
    [
        ("private", "list"),
        ("private", "add", "--session", ONE),
        ("private", "remove", "--session", ONE),
        ("config", "check"),
    ],
)
def test_a_list_that_is_not_understood_ends_with_its_line(work: Path, command: tuple[str, ...]) -> None:
    path = default_paths(environment()).private_list
    path.write_text("# mine\nprivat ~/work\n")
    done = run(*command)
    assert (done.status, done.out) == (78, "")
    assert f"line 2 of {path}: 'privat' is no kind of rule" in done.err
    assert path.read_text() == "# mine\nprivat ~/work\n"


def test_a_list_that_is_gone_is_not_begun_anew(work: Path) -> None:
    db = open_state(default_paths(environment()).database, "aside")
    db.settle(HAS_LIST, "yes")
    db.close()
    for command in (("list",), ("add", "--session", ONE)):
        done = run("private", *command)
        assert (done.status, done.out) == (78, "")
        assert "the private list is gone" in done.err
        assert "make an empty file in its place" in done.err
    path = default_paths(environment()).private_list
    assert not path.exists(), "it would share what the old one kept"
    path.touch()
    assert run("private", "add", "--session", ONE).status == 0


def test_a_running_agent_is_told_at_once(work: Path) -> None:
    told: list[str] = []

    def changed(_: Mapping[str, Any]) -> dict[str, Any]:
        told.extend(rules())
        return {}

    with agent({"agent.privacy_changed": changed}):
        assert run("private", "add", "--session", ONE, "--json").json()["agent"] == "told"
        assert told == [f"session {ONE}"], "after the file"
    with agent({}):
        done = run("private", "remove", "--session", ONE)
        assert done.status == 0
        assert "does not know of private lists" in done.err


@pytest.mark.parametrize(
    ("deletes", "words"),
    [
        (True, "the agent deletes it there now"),
        (False, "that server can't delete, so it keeps what it has: ask whoever runs it"),
        (None, "the agent deletes it there now, if that server offers deletion"),
    ],
)
def test_what_becomes_of_a_sent_session_is_told_for_each_server(work: Path, deletes: bool | None, words: str) -> None:
    line = StreamLine("there", ONE, "", "/p", "synced", 100, 100, 4, 4, 1e9)
    rows = {"streams": [msgspec.to_builtins(line)], "facts": {}}
    status = {"destinations": [{"name": "there", "deletes": deletes}]}
    methods = {"agent.privacy_changed": dict, "sessions.list": lambda _: rows, "agent.status": lambda _: status}
    with agent(methods):
        done = run("private", "add", "--session", ONE)
        told = run("private", "add", "--session", ONE, "--json").json()
    assert f"it is on there; {words}\n" in done.out
    assert (told["on"], told["deletes"]) == ({"there": 1}, {"there": deletes})


def test_nothing_of_a_transcript_is_shown(work: Path) -> None:
    path = work.parent / ".claude" / "projects" / "p" / f"{ONE}.jsonl"
    line = {"type": "user", "cwd": str(work / "secret"), "message": {"content": "CANARY"}}
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    for command in (["add", str(work)], ["list"], ["list", "--json"], ["remove", str(work)]):
        done = run("private", *command)
        assert "CANARY" not in done.out + done.err


def test_what_is_gone_from_the_list_is_told_and_ends_by_its_owner_s_word(work: Path) -> None:
    """An agent saw two rules; since then somebody cut the list."""
    run("private", "add", str(work / "secret"))
    run("private", "add", "--session", TWO)
    paths = default_paths(environment())
    lines = tuple(rules())
    write_known(paths.known_rules, KnownRules(lines))
    paths.private_list.write_text("", encoding="utf-8")
    done = run("private", "list")
    assert "2 rules are gone from this list, and no command took them out" in done.err
    assert "they hold for 10 more minutes" in done.err
    assert "3 of 4 sessions private" in done.out
    found = run("private", "list", "--json").json()
    assert [(row["rule"], row["held_s"]) for row in found["rules"]] == [(line, 600) for line in lines]
    assert "2 rules are gone" in run("status").out
    assert "2 rules are gone" in run("doctor").out
    assert run("private", "remove", str(work / "secret")).status == 0
    assert run("private", "add", "--session", TWO).status == 0
    assert rules_by_hand() == [f"session {TWO}"]
    done = run("private", "list")
    assert (done.err, "1 of 4 sessions private" in done.out) == ("", True)


def rules_by_hand() -> list[str]:
    return default_paths(environment()).private_list.read_text(encoding="utf-8").splitlines()


def test_many_commands_at_once_lose_no_rule(work: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    ids = [f"{number:08}-90ab-4cde-8f01-23456789abcd" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda one: spawn("private", "add", "--session", one), ids))
    assert [one.status for one in done] == [0] * 6
    assert sorted(rules()) == [f"session {one}" for one in ids]
    assert os.stat(default_paths(environment()).private_list).st_mode & 0o777 == 0o600 or os.name != "posix"
