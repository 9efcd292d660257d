"""`transcriptd try` on real transcripts of every version at hand."""

import hashlib
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CORPUS
from tests.e2e.processes import command, environment, last_json
from tests.system.privileges import needs_posix


@pytest.mark.parametrize(
    "version",
    ["1.0.100-print", "2.0.30-print", "2.0.30-torn", "2.1.197-print", "2.1.329-print", "2.1.329-tui-scripted"],
)
def test_every_line_of_a_corpus_is_on_the_server_and_proven(version: str, corpus: Path, tmp_path: Path) -> None:
    projects = corpus / "claude" / version / "projects"
    files = sorted(projects.rglob("*.jsonl"))
    whole = [path.read_bytes()[: path.read_bytes().rfind(b"\n") + 1] for path in files]
    answer = command(tmp_path, "try", "--once", "--json", "--dir", str(projects))
    found = last_json(answer)
    assert answer.returncode == 0, answer.stderr
    assert found["synced"] is True
    assert found["schema"] == 1
    beside = [path for path in projects.rglob("*") if path.is_file() and path.suffix != ".jsonl"]
    assert (found["streams"], found["files"]) == (len(files), len(beside))
    assert found["verified"] == len(files) + len(beside)
    assert found["entries"] == sum(data.count(b"\n") for data in whole)
    assert found["bytes"] == sum(map(len, whole))


def test_all_agents_of_a_home_are_tried_together_and_proven(corpus: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(corpus / "codex", home / ".codex")
    shutil.copytree(corpus / "gemini", home / ".gemini")
    shutil.copytree(corpus / "copilot", home / ".copilot")
    shutil.copytree(corpus / "claude" / "2.1.329-tui-scripted", home / ".claude")
    own = {"CLAUDE_CONFIG_DIR": "", "CODEX_HOME": "", "GEMINI_CLI_HOME": "", "COPILOT_HOME": ""}
    env = environment(tmp_path / "state", HOME=str(home), **own)
    answer = command(tmp_path, "try", "--once", "--json", env=env)
    found = last_json(answer)
    assert answer.returncode == 0, answer.stderr
    transcripts = sum(1 for _ in home.rglob("*.jsonl"))
    side_files = 1 + 16 + 5  # Gemini, Copilot, Claude Code
    assert (found["streams"], found["files"], found["synced"]) == (transcripts, side_files, True)
    assert found["verified"] == transcripts + side_files
    assert [f"{one} CLI: " in answer.stderr for one in ("Codex", "Gemini", "Copilot")] == [True] * 3


@needs_posix
def test_what_a_link_leads_out_to_is_named_and_gets_nowhere(tmp_path: Path) -> None:
    session = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"
    projects, home, outside = tmp_path / "projects", tmp_path / "home", tmp_path / "outside"
    results = projects / "p" / session / "tool-results"
    results.mkdir(parents=True)
    (results / "own.txt").write_bytes(b"own\n")
    (projects / "p" / f"{session}.jsonl").write_bytes(b'{"uuid":"u"}\n')
    (outside / "memory").mkdir(parents=True)
    (outside / "x.txt").write_bytes(b"CANARY\n")
    (outside / "memory" / "notes.md").write_bytes(b"CANARY\n")
    (projects / "p" / "memory").symlink_to(outside / "memory")
    (results / "again.txt").symlink_to("own.txt")
    answer = command(home, "try", "--once", "--json", "--dir", str(projects))
    found = last_json(answer)
    assert (answer.returncode, found["streams"], found["files"]) == (0, 1, 1), answer.stderr
    out = "is not followed: it leads out of the watched folders"
    assert found["problems"] == [f"{projects}/p/memory {out}"], "it is none, and only named"
    (results / "x.txt").symlink_to(outside / "x.txt")
    (projects / "linked").symlink_to(outside)
    answer = command(home, "try", "--once", "--json", "--dir", str(projects))
    found = last_json(answer)
    assert (answer.returncode, found["synced"], found["verified"]) == (1, False, 2)
    named = {f"{path} {out}" for path in (projects / "linked", results / "x.txt", projects / "p" / "memory")}
    assert named <= set(found["problems"])
    everything = [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]
    assert everything
    assert not [path for path in everything if b"CANARY" in path.read_bytes()]


def test_what_is_private_is_tried_on_nothing(tmp_path: Path) -> None:
    """The list of the real installation holds here too."""
    projects, home = tmp_path / "projects", tmp_path / "home"
    (projects / "p").mkdir(parents=True)
    (projects / "p" / "open.jsonl").write_bytes(b'{"uuid":"u","cwd":"/w/open"}\n')
    (projects / "p" / "mine.jsonl").write_bytes(b'{"uuid":"u","cwd":"/w/[client]/secret-1"}\n')
    assert command(home, "private", "add", "--project", "/w/[client]/secret-*").returncode == 0
    answer = command(home, "try", "--once", "--json", "--dir", str(projects))
    found = last_json(answer)
    assert answer.returncode == 0, answer.stderr
    assert (found["sessions"], found["private"], found["entries"]) == (1, 1, 1)
    stored = b"".join(path.read_bytes() for path in home.rglob("receiver*/**/*") if path.is_file())
    assert b"open" in stored
    assert b"mine" not in stored
    (home / "private.list").write_text("projekt /w\n")
    broken = command(home, "try", "--once", "--dir", str(projects))
    assert (broken.returncode, "projekt" in broken.stderr) == (78, True)


def test_a_second_try_sends_nothing_and_agrees(tmp_path: Path) -> None:
    projects = tmp_path / "projects"
    (projects / "p").mkdir(parents=True)
    (projects / "p" / "s.jsonl").write_bytes(b'{"uuid":"u"}\n{"type":"mode"}\n')
    first = last_json(command(tmp_path / "home", "try", "--once", "--json", "--dir", str(projects)))
    digest = hashlib.sha256((projects / "p" / "s.jsonl").read_bytes()).hexdigest()
    second = last_json(command(tmp_path / "home", "try", "--once", "--json", "--dir", str(projects)))
    assert first["entries"] == second["entries"] == 2
    assert second["synced"]
    assert hashlib.sha256((projects / "p" / "s.jsonl").read_bytes()).hexdigest() == digest


def test_a_rewritten_transcript_is_synced_in_a_generation_of_its_own(tmp_path: Path) -> None:
    projects = tmp_path / "projects"
    (projects / "p").mkdir(parents=True)
    path = projects / "p" / "s.jsonl"
    path.write_bytes(b'{"uuid":"u1"}\n{"uuid":"u2"}\n')
    assert command(tmp_path / "home", "try", "--once", "--dir", str(projects)).returncode == 0
    path.write_bytes(b'{"uuid":"x1"}\n{"uuid":"x2"}\n{"uuid":"x3"}\n')
    answer = command(tmp_path / "home", "try", "--once", "--json", "--dir", str(projects))
    assert answer.returncode == 0
    assert (last_json(answer)["synced"], last_json(answer)["entries"]) == (True, 3)


def test_a_difference_is_not_called_synced(tmp_path: Path) -> None:
    projects = tmp_path / "projects"
    (projects / "p").mkdir(parents=True)
    (projects / "p" / "s.jsonl").write_bytes(b'{"uuid":"u1"}\n{"uuid":"u2"}\n')
    assert command(tmp_path / "home", "try", "--once", "--dir", str(projects)).returncode == 0
    (database,) = (tmp_path / "home" / "transcriptd-try" / "receiver").glob("*.sqlite3")
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("update generations set chain = zeroblob(32)")
    answer = command(tmp_path / "home", "try", "--once", "--json", "--dir", str(projects))
    assert answer.returncode == 1
    assert last_json(answer)["synced"] is False


def test_a_folder_of_the_users_that_is_named_agent_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "__init__.py").write_text("raise SystemExit('not this one')\n", encoding="utf-8")
    program = ["transcriptd"] if sys.platform == "win32" else [str(Path(sys.executable).with_name("transcriptd"))]
    answer = subprocess.run(
        [*program, "try", "--once", "--json"],
        cwd=tmp_path,
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


# --- what others had trouble with -----------------------------------------------------------------------------------


def try_case(name: str, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    """On a copy of `tests/corpus/cases/NAME`."""
    folder = tmp_path / "case"
    shutil.copytree(CORPUS.with_name("cases") / name, folder, dirs_exist_ok=True)
    answer = command(tmp_path / "home", "try", "--once", "--json", "--dir", str(next(folder.iterdir())))
    return answer.returncode, last_json(answer)


def test_a_thread_that_goes_on_in_another_file_is_sent_with_it(tmp_path: Path) -> None:
    status, found = try_case("codex-segments", tmp_path)
    assert (status, found["sessions"], found["streams"], found["entries"]) == (0, 1, 2, 6)
    assert (found["synced"], found["verified"], found["problems"]) == (True, 2, [])


def test_packed_threads_are_sent_as_far_as_they_are_whole_and_the_others_are_named(tmp_path: Path) -> None:
    status, found = try_case("codex-packed", tmp_path)
    assert (status, found["synced"]) == (1, False)
    assert found["sessions"] == 4
    named = [one for one in found["problems"] if "not whole" in one or "damaged" in one]
    assert len(named) == 1
    assert "777775.jsonl.zst is packed and not whole" in named[0]


def test_a_folder_with_nothing_but_damage_is_looked_into_as_well(tmp_path: Path) -> None:
    sessions = tmp_path / "codex" / "sessions" / "2026" / "11" / "01"
    sessions.mkdir(parents=True)
    session = "01a03d4c-831d-7490-bd4b-755dff239291"
    (sessions / f"rollout-2026-11-01T10-00-00-{session}.jsonl").write_bytes(b'{"type":"session_meta"}\n')
    archived = tmp_path / "codex" / "archived_sessions" / f"rollout-2026-11-01T10-00-00-{session[:-1]}2.jsonl.zst"
    archived.parent.mkdir()
    archived.write_bytes(b"no zstd")
    answer = command(tmp_path / "home", "try", "--once", "--json", "--dir", str(tmp_path / "codex"))
    assert (answer.returncode, last_json(answer)["entries"]) == (1, 1)
    assert any(str(archived) in one for one in last_json(answer)["problems"])


@pytest.mark.parametrize("name", ["stray.jsonl", "p/agent-1.jsonl", "p/s.jsonl.zst"])
def test_a_file_that_nobody_follows_is_named_and_the_rest_not_called_synced(name: str, tmp_path: Path) -> None:
    projects = tmp_path / "projects"
    (projects / "p").mkdir(parents=True)
    (projects / "p" / "s.jsonl").write_bytes(b'{"uuid":"u"}\n')
    (projects / name).write_bytes(b'{"uuid":"v"')
    answer = command(tmp_path / "home", "try", "--once", "--json", "--dir", str(projects))
    found = last_json(answer)
    assert (answer.returncode, found["synced"], found["verified"]) == (1, False, 1)
    (problem,) = found["problems"]
    assert problem.startswith(f"{projects / name} is not followed: ")


def test_copies_that_other_programs_lay_beside_a_transcript_are_sessions_of_their_own(tmp_path: Path) -> None:
    projects = tmp_path / "projects"
    session = "44444444-4444-4444-8444-444444444444"
    names = [
        f"{session}.jsonl",
        f"{session} (Ada's conflicted copy 2026-11-01).jsonl",
        f"{session} (conflicted copy) #1 100% ü😀.jsonl",
        f"{session}.conflict.20261101T101010.jsonl",
        f"{session}.sync-conflict-20261101-101010-ABCDEFG.jsonl",
        f"~{session}.jsonl",
    ]
    (projects / "p").mkdir(parents=True)
    for number, name in enumerate(names):
        (projects / "p" / name).write_bytes(b'{"uuid":"u1"}\n' + b'{"uuid":"u%d"}\n' % (2 + number % 3))
    (projects / "p" / f".syncthing.{session}.jsonl.tmp").write_bytes(b'{"uuid":"u1"}\n')
    answer = command(tmp_path / "home", "try", "--once", "--json", "--dir", str(projects))
    found = last_json(answer)
    assert (answer.returncode, found["sessions"], found["entries"], found["problems"]) == (0, 6, 12, [])


def test_a_session_that_went_on_in_a_worktrees_folder_is_sent_to_its_end(tmp_path: Path) -> None:
    status, found = try_case("same-session-in-two-folders", tmp_path)
    assert (status, found["synced"], found["streams"], found["entries"], found["problems"]) == (0, True, 1, 4, [])


def test_a_session_that_gemini_copied_to_another_folder_is_sent_to_its_end(tmp_path: Path) -> None:
    status, found = try_case("gemini-same-id-twice", tmp_path)
    assert (status, found["synced"], found["streams"], found["entries"], found["problems"]) == (0, True, 1, 9, [])


def test_files_of_one_session_that_went_different_ways_are_both_verified(tmp_path: Path) -> None:
    session = "11111111-1111-4111-8111-111111111111"
    projects = tmp_path / "projects"
    for name in ("a", "b"):
        (projects / name).mkdir(parents=True)
        lines = b'{"uuid":"u1"}\n' + b'{"uuid":"%s"}\n' % name.encode()
        (projects / name / f"{session}.jsonl").write_bytes(lines)
    answer = command(tmp_path / "home", "try", "--once", "--json", "--dir", str(projects))
    found = last_json(answer)
    assert (answer.returncode, found["synced"], found["problems"]) == (0, True, [])
    assert (found["sessions"], found["streams"], found["verified"], found["entries"]) == (1, 2, 2, 4)
