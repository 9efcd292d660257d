"""The commands that find sessions: without an agent, and with one that is at work."""

import json
import os
import time
from pathlib import Path

import pytest

from agent.cli.config import environment
from agent.system.paths import default_paths
from tests.cli.running import run
from tests.cli.test_commands import NASTY, remember, track
from tests.daemon.test_indexing import line, said


def write(home: Path, session: str, data: bytes, *, ago_s: float = 3600.0) -> Path:
    path = home / ".claude" / "projects" / "p" / f"{session}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - ago_s, time.time() - ago_s))
    return path


@pytest.fixture
def sessions(home: Path) -> Path:
    write(home, "aaaa1111", said(9))
    write(home, "aaaa2222", line("user", "a needle in here", 5001), ago_s=7200)
    write(home, "bbbb", line("user", f"{NASTY} other", 5003, cwd=f"/project/{NASTY}"), ago_s=1)
    return home


def ids(*options: str) -> list[str]:
    return [one["session"] for one in run("sessions", "list", "--json", *options).json()["sessions"]]


def test_list_shows_what_lies_here_before_any_agent_ran(sessions: Path) -> None:
    found = run("sessions", "list", "--json").json()
    assert (found["schema"], found["total"]) == (1, 3)
    one = found["sessions"][1]
    assert (one["session"], one["project"], one["title"], one["entries"]) == ("aaaa1111", "/project/demo", "word0", 9)
    assert (one["model"], one["messages"], one["life"], one["state"], one["private"]) == ("opus", 9, "quiet", "", False)
    assert one["tokens"]["input"] > 0
    shown = run("sessions", "list")
    assert shown.status == 0
    assert not {"\x1b", "\x07", "\u202e"} & set(shown.out)
    assert "live" in shown.out


def test_filters_narrow_and_sorts_sort(sessions: Path) -> None:
    assert ids() == ["bbbb", "aaaa1111", "aaaa2222"]
    assert ids("--sort", "messages")[0] == "aaaa1111"
    assert ids("--project", "demo") == ["aaaa1111", "aaaa2222"]
    assert ids("--state", "live") == ids("--since", "1min") == ["bbbb"]
    assert ids("--model", "OPUS") == ["aaaa1111"]
    assert ids("--provider", "codex") == []
    assert ids("--limit", "1") == ["bbbb"]
    for wrong in ("--since=yesterday-ish", "--provider=claud", "--state=syncd"):
        assert run("sessions", "list", wrong).status == 2
    assert run("sessions", "list", "--archived").out == "no such sessions\n"


def test_ids_are_shown_as_long_as_it_takes_to_tell_them_apart(home: Path) -> None:
    for session in ("01a1fb4c-6b9f", "01a1fb4c-70ce", "01a1fb4c-70cf", "79188635-1d9c"):
        write(home, session, said(1))
    shown = {line.split()[0] for line in run("sessions", "list", "--flat").out.splitlines()[1:]}
    assert shown == {"01a1fb4c-6", "01a1fb4c-70ce", "01a1fb4c-70cf", "79188635"}
    assert {run("sessions", "resolve", one).status for one in shown} == {0}
    assert "01a1fb4c-6  " in run("sessions", "search", "word0").out


def test_an_agents_memory_of_what_is_not_here_any_more_is_listed_too(sessions: Path) -> None:
    remember(track("aaaa1111", state="waiting"), track("elsewhere"))
    found = {one["session"]: one for one in run("sessions", "list", "--json").json()["sessions"]}
    assert found.keys() == {"aaaa1111", "aaaa2222", "bbbb", "elsewhere"}
    assert (found["aaaa1111"]["state"], found["elsewhere"]["state"]) == ("waiting", "synced")
    assert ids("--state", "waiting") == ["aaaa1111"]


def test_without_an_index_the_agents_memory_has_to_do(sessions: Path, home: Path) -> None:
    (home / "td").mkdir(exist_ok=True)
    (home / "td" / "config.toml").write_text("[index]\nenabled = false\n", encoding="utf-8")
    remember(track("known"))
    assert ids() == ["known"]
    assert not default_paths(environment()).index.exists()
    assert run("sessions", "stats").status == 2
    assert run("sessions", "backfill").status == 2
    hits = run("sessions", "search", "needle", "--json").json()["hits"]
    assert [one["session"] for one in hits] == ["aaaa2222"], "files are looked through all the same"


def test_describe_tells_all_and_shows_it_safely(sessions: Path) -> None:
    found = run("sessions", "describe", "aaaa1111", "--json").json()
    assert found["kinds"]["user.message"] == 3
    assert [one["subpath"] for one in found["files"]] == [""]
    assert found["files"][0]["read_bytes"] == found["files"][0]["bytes"] > 0
    shown = run("sessions", "describe", "bbbb")
    assert shown.status == 0
    assert not {"\x1b", "\x07", "\u202e"} & set(shown.out)
    assert run("sessions", "describe", "nobody").status == 2


def test_a_fork_is_shown_as_one_conversation_with_its_parent(home: Path) -> None:
    write(home, "first", said(9), ago_s=9000)
    write(home, "forked", said(6) + said(4, 100))
    assert ids() == ["forked"]
    assert sorted(ids("--flat")) == ["first", "forked"]
    assert run("sessions", "list", "--json").json()["sessions"][0]["members"] == 2
    lineage = run("sessions", "describe", "forked", "--json").json()["lineage"]
    assert [(one["session"], one["parent"], one["shared_entries"]) for one in lineage] == [
        ("first", "", 0),
        ("forked", "first", 6),
    ]
    assert "← this one" in run("sessions", "describe", "forked").out


def test_resolve_takes_the_first_way_that_finds_any(sessions: Path) -> None:
    def resolved(words: str) -> str:
        return run("sessions", "resolve", words).out.strip()

    assert resolved("aaaa2222") == resolved("aaaa22") == "aaaa2222"
    assert resolved("needle") == "aaaa2222"
    assert resolved("latest") == "bbbb"
    run("sessions", "patch", "aaaa1111", "--label", "The Needle")
    assert resolved("needle") == "aaaa1111", "a label goes before a title"
    several = run("sessions", "resolve", "aaaa")
    assert several.status == 2
    assert "aaaa1111, aaaa2222" in several.err
    assert run("sessions", "resolve", "nothing of the kind").status == 2


def test_search_marks_what_is_private_and_shows_no_terminal_sequences(sessions: Path, home: Path) -> None:
    run("private", "add", "--project", "/project/demo")
    found = run("sessions", "search", "needle", "--json").json()
    assert [(one["session"], one["private"], one["line"]) for one in found["hits"]] == [("aaaa2222", True, 1)]
    assert "(private)" in run("sessions", "search", "needle").out
    shown = run("sessions", "search", "other")
    assert "bbbb" in shown.out
    assert not {"\x1b", "\x07", "\u202e"} & set(shown.out)
    assert "nothing found" in run("sessions", "search", "absent").out
    assert run("sessions", "search", '""').status == 2
    assert run("sessions", "list", "--json", "--state", "private").json()["total"] == 2


def test_stats_sum_up_by_each_thing(sessions: Path) -> None:
    for by in ("day", "project", "model", "provider"):
        found = run("sessions", "stats", "--by", by, "--json").json()
        assert found["total"]["messages"] == 11
        shown = run("sessions", "stats", "--by", by)
        assert (shown.status, "█" in shown.out) == (0, True)
    assert run("sessions", "stats", "--project", "nowhere").out == "nothing was spent in these sessions\n"


@pytest.mark.parametrize("columns", [48, 60, 80, 140])
def test_no_number_is_cut_and_no_line_wrapped_on_a_narrow_terminal(
    sessions: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr("agent.cli.output.screen_size", lambda: (columns, 24))
    listed = run("sessions", "list", "--project", "demo").out
    assert max(map(len, listed.splitlines())) <= columns
    assert "aaaa1111" in listed
    assert "quiet" in listed
    table = run("sessions", "stats", "--by", "provider").out.split("\n\n")[0]
    assert max(len(one.rstrip()) for one in table.splitlines()) <= columns
    assert "…" not in table
    assert ("█" in table) is (columns >= 80)


def test_what_is_patched_is_kept_when_the_index_is_not(sessions: Path) -> None:
    done = run("sessions", "patch", "aaaa1111", "--label", "mine", "--archived", "--set", "plug.rating=5", "--json")
    assert done.json() == {
        "schema": 1,
        "session": "aaaa1111",
        "label": "mine",
        "archived": True,
        "values": {"plug.rating": 5},
    }
    assert run("sessions", "backfill", "--clear").status == 0
    assert not default_paths(environment()).index.exists()
    assert "aaaa1111" not in ids()
    assert ids("--archived") == ["aaaa1111"]
    assert "aaaa1111" in ids("--all")
    described = run("sessions", "describe", "mine", "--json").json()
    assert (described["title"], described["values"]) == ("mine", {"plug.rating": 5})
    run("sessions", "patch", "mine", "--no-archived", "--unset", "plug.rating")
    assert "aaaa1111" in ids()
    for wrong in ("--set=noequals", "--set=a.b={", "--set=nodot=1", f"--label={'x' * 999}"):
        assert run("sessions", "patch", "mine", wrong).status == 2


def test_private_goes_through_the_private_list(home: Path) -> None:
    session = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"
    write(home, session, said(2))
    assert run("sessions", "patch", session, "--private").status == 0
    assert session in default_paths(environment()).private_list.read_text(encoding="utf-8")
    assert run("sessions", "list", "--json").json()["sessions"][0]["private"] is True
    run("sessions", "patch", session, "--no-private")
    assert run("sessions", "list", "--json").json()["sessions"][0]["private"] is False


def test_only_what_a_server_has_is_forgotten(sessions: Path, home: Path) -> None:
    ids()
    for session in ("aaaa1111", "aaaa2222", "bbbb"):
        (home / ".claude" / "projects" / "p" / f"{session}.jsonl").unlink()
    remember(track("aaaa1111", state="gone"), track("aaaa2222", state="gone", sent=40))
    planned = run("sessions", "cleanup", "--dry-run", "--json").json()
    assert [one["session"] for one in planned["forgotten"]] == ["aaaa1111"]
    assert sorted(one["session"] for one in planned["unsent"]) == ["aaaa2222", "bbbb"]
    assert "bbbb" in ids(), "a dry run forgets nothing"
    assert "1 session forgotten" in run("sessions", "cleanup").out
    again = run("sessions", "cleanup", "--json").json()
    assert (again["forgotten"], len(again["unsent"])) == ([], 2)
    assert ("aaaa1111" in ids(), "aaaa2222" in ids()) == (False, True), "what the state remembers is not listed, either"
    assert run("sessions", "describe", "aaaa1111").status == 2
    write(home, "aaaa1111", said(9))
    assert "aaaa1111" in ids(), "its file came back"


def test_backfill_reads_what_is_new_and_by_force_all(sessions: Path) -> None:
    assert run("sessions", "backfill", "--json").json()["sessions"] == 3
    done = run("sessions", "backfill", "--force", "claude", "--json").json()
    assert (done["sessions"], done["lines"], done["unread"]) == (3, 11, 0)
    assert run("sessions", "backfill", "nobody").status == 2


def test_what_scripts_read_is_one_line_of_json(sessions: Path) -> None:
    for command in (("list",), ("describe", "latest"), ("search", "needle"), ("stats",), ("cleanup",)):
        assert json.loads(run("sessions", *command, "--json").out)["schema"] == 1
