"""The commands that look, send and prove: with no daemon, with what one left behind, and with a real receiver."""

import json
import shutil
import time
from pathlib import Path

import pytest

from agent import __version__
from agent.cli.config import environment
from agent.core.transcripts.identity import START
from agent.core.transcripts.session import Facts, StreamId
from agent.system.paths import default_paths
from agent.system.state.state_db import Changes, TrackRow, open_state
from tests.cli.running import run, spawn
from tests.conftest import REPOSITORY

SAMPLE = REPOSITORY / "agent" / "cli" / "sample" / "projects"
NASTY = "\x1b]0;owned\x07[/red]\u202e"


def remember(*rows: TrackRow, facts: Facts = Facts()) -> None:  # noqa: B008 - a value that never changes
    """What a daemon that ended has left in its state."""
    db = open_state(default_paths(environment()).database, "aside")
    assert db.note == ""
    db.commit(Changes(tracks=rows, sessions=[(row.stream.session_id, facts) for row in rows]))
    db.close()


def track(
    session: str, *, state: str = "synced", reason: str = "", size: int = 100, sent: int = 100, begun: int = 0
) -> TrackRow:
    cursor = START._replace(offset=sent, entry_count=4, sent_count=4)
    path = f"/p/{session}.jsonl"
    row = TrackRow("default", StreamId(session, ""), "claude", path, size, 10**18, state, reason, 0, cursor)
    return row._replace(generations=begun)


def write_transcripts(home: Path) -> None:
    project = home / ".claude" / "projects" / "p"
    project.mkdir(parents=True)
    (project / "one.jsonl").write_bytes(b'{"uuid":"a"}\n' * 10)
    (project / "one" / "subagents").mkdir(parents=True)
    (project / "one" / "subagents" / "agent-1.jsonl").write_bytes(b'{"uuid":"b"}\n')


def write_settings(home: Path, url: str = "http://127.0.0.1:9") -> None:
    (home / "td").mkdir(exist_ok=True)
    (home / "td" / "config.toml").write_text(f'[[destination]]\nurl = "{url}"\n', encoding="utf-8")


# --- status ---------------------------------------------------------------------------------------------------------


def test_status_answers_before_anything_ever_ran(home: Path) -> None:
    done = run("status")
    assert (done.status, done.err) == (3, "")
    assert "transcriptd is not running" in done.out
    assert not (home / "td").exists(), "looking makes nothing"


def test_status_as_json_has_its_version_and_shape(home: Path) -> None:
    write_settings(home)
    remember(track("one"), track("two", state="waiting", sent=40))
    found = run("status", "--json").json()
    assert (found["schema"], found["version"], found["running"], found["pid"]) == (1, __version__, False, None)
    assert found["counts"]["states"] == {"synced": 1, "waiting": 1}
    assert (found["counts"]["bytes"], found["counts"]["sent_bytes"]) == (200, 140)
    assert [one["url"] for one in found["destinations"]] == ["http://127.0.0.1:9"]


def test_status_shows_what_was_refused_and_nothing_that_a_terminal_obeys(home: Path) -> None:
    remember(track("one", state="refused", reason=f"{NASTY} can't be read"), track("two"))
    done = run("status")
    assert done.status == 3
    assert "as of its last run" in done.out
    assert "1 not sent" in done.out
    assert not {"\x1b", "\x07", "\u202e"} & set(done.out)


@pytest.mark.parametrize(
    ("begun", "words"), [(1, "1 new generation; what the server had"), (3, "3 new generations; what the server had")]
)
def test_status_counts_what_was_rewritten(begun: int, words: str, home: Path) -> None:
    remember(track("one", begun=begun), track("two"))
    shown = run("status").out
    assert "rewritten" in shown
    assert words in shown
    assert run("status", "--json").json()["counts"]["generations"] == begun


def test_status_says_nothing_of_rewriting_when_nothing_was(home: Path) -> None:
    remember(track("one"))
    assert "rewritten" not in run("status").out


def test_status_of_a_state_that_can_not_be_read_is_that_of_none(home: Path) -> None:
    (home / "td" / "state").mkdir(parents=True)
    (home / "td" / "state" / "state.db").write_bytes(b"no database" * 500)
    assert run("status", "--json").json()["counts"]["streams"] == 0


def test_a_pause_is_told_also_when_nobody_is_at_work(home: Path) -> None:
    write_settings(home)
    remember(track("one"))
    assert run("status", "--json").json()["paused"] == ""
    assert run("pause", "--for", "1h").status == 0
    found = run("status", "--json").json()
    assert found["paused"] == "by you"
    assert 0 < found["paused_until_s"] - time.time() <= 3600
    assert "transcriptd resume" in run("status").out


# --- sessions -------------------------------------------------------------------------------------------------------


def test_sessions_without_any_say_so(home: Path) -> None:
    done = run("sessions", "list")
    assert (done.status, done.err) == (0, "")
    assert "no sessions yet" in done.out
    assert run("sessions", "list", "--json").json() == {"schema": 1, "sessions": [], "total": 0}


def test_sessions_are_listed_with_their_facts_also_nasty_ones(home: Path) -> None:
    remember(track("0123456789ab"), track("fedcba987654", state="due"), facts=Facts("/home/ada/tide", NASTY, "prompt"))
    found = run("sessions", "list", "--json").json()
    assert (found["schema"], found["total"]) == (1, 2)
    assert {row["session"]: row["state"] for row in found["sessions"]} == {
        "0123456789ab": "synced",
        "fedcba987654": "due",
    }
    assert {row["title"] for row in found["sessions"]} == {NASTY}
    shown = run("sessions", "list")
    assert shown.status == 0
    assert "[/red]" in shown.out
    assert not {"\x1b", "\x07", "\u202e"} & set(shown.out)
    assert len(run("sessions", "list", "--json", "--limit", "1").json()["sessions"]) == 1


def test_verify_needs_a_destination_and_a_session_that_exists(home: Path) -> None:
    assert run("sessions", "verify").status == 78
    write_settings(home)
    done = run("sessions", "verify", "nothing")
    assert (done.status, done.out) == (2, "")
    assert "no session here is called 'nothing'" in done.err


def test_verify_against_nobody_says_what_it_could_not_read(home: Path) -> None:
    write_settings(home)
    remember(track("one"))
    done = run("sessions", "verify", "--json")
    assert done.status != 0
    assert "Traceback" not in done.err


# --- push -----------------------------------------------------------------------------------------------------------


def test_a_dry_run_lists_what_would_be_sent_and_makes_nothing(home: Path) -> None:
    write_transcripts(home)
    found = run("push", "--dry-run", "--json").json()
    assert (found["schema"], found["bytes"]) == (1, 143)
    assert [(row["session"], row["subpath"], row["bytes"], row["new"]) for row in found["transcripts"]] == [
        ("one", "", 130, True),
        ("one", "subagents/agent-1", 13, True),
    ]
    shown = run("push", "--dry-run")
    assert shown.status == 0
    assert "2 transcripts, 143 B to send; nothing was sent" in shown.out
    assert not (home / "td").exists()


def test_a_dry_run_knows_what_was_sent(home: Path) -> None:
    write_transcripts(home)
    remember(track("one", sent=100))
    found = run("push", "--dry-run", "--json").json()
    assert [(row["bytes"], row["new"]) for row in found["transcripts"]] == [(30, False), (13, True)]


def test_a_dry_run_of_nothing_is_nothing(home: Path) -> None:
    done = run("push", "--dry-run")
    assert (done.status, done.out) == (0, "0 transcripts, 0 B to send; nothing was sent\n")


def test_a_dry_run_shows_every_name_there_can_be(home: Path) -> None:
    folder = home / ".claude" / "projects" / b"caf\xe9 \x1b[31m".decode(errors="surrogateescape")
    try:
        folder.mkdir(parents=True)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (folder / "[red].jsonl").write_bytes(b"{}\n")
    found = run("push", "--dry-run", "--json").json()
    assert [row["session"] for row in found["transcripts"]] == ["[red]"]
    shown = run("push", "--dry-run")
    assert (shown.status, "\x1b" in shown.out) == (0, False)
    assert "[red]" in shown.out


# --- try ------------------------------------------------------------------------------------------------------------


def test_try_sends_the_sample_to_a_receiver_and_proves_it(home: Path) -> None:
    done = spawn("try", "--once", "--json")
    assert done.status == 0, done.err
    found = done.json()
    assert (found["schema"], found["synced"], found["problems"]) == (1, True, [])
    assert found["streams"] == found["verified"] == len(list(SAMPLE.rglob("*.jsonl"))) > 0
    assert found["sessions"] == len(list(SAMPLE.glob("*/*.jsonl")))
    assert found["receiver"].startswith("http://127.0.0.1:")
    assert "Traceback" not in done.err
    assert not (home / "td" / "state").exists(), "apart from a real installation"


def test_try_takes_a_folder_with_odd_names_and_proves_it(home: Path, tmp_path: Path) -> None:
    write_transcripts(home)
    folder = tmp_path / "[red] ünïcode"
    shutil.copytree(home / ".claude" / "projects", folder)
    (folder / "p" / "[bold].jsonl").write_bytes(b'{"uuid":"c"}\n{"torn')
    done = spawn("try", "--once", "--json", "--dir", str(folder))
    assert done.status == 0, done.err
    found = done.json()
    assert (found["streams"], found["entries"], found["bytes"]) == (3, 12, 156)
    assert "[red]" in done.err


def test_try_of_a_project_whose_name_is_not_utf8(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / b"caf\xe9".decode(errors="surrogateescape")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (folder / "s.jsonl").write_bytes(b'{"uuid":"c"}\n')
    done = spawn("try", "--once", "--json", "--dir", str(tmp_path))
    assert done.status == 0, done.err
    assert json.loads(done.out)["verified"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--json",), "--json goes with --once"), (("--once", "--dir", "{}"), "holds no transcripts")],
    ids=["json alone", "empty folder"],
)
def test_try_refuses_what_makes_no_sense_before_it_starts_anything(
    tmp_path: Path, home: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = run("try", *(one.format(tmp_path) for one in arguments))
    assert (done.status, done.out) == (2, "")
    assert words in done.err
