"""The hook's side: it notes what it is told, it is quick, and whatever happens it fails nobody."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.system.state.spool import Spool
from tests.conftest import REPOSITORY
from tests.system.privileges import needs_posix

COMMAND = (sys.executable, "-m", "agent", "capture")
PATH = "/home/ada/.claude/projects/-home-ada-tide/28cccd80.jsonl"
PAYLOAD = json.dumps({"session_id": "28cccd80", "transcript_path": PATH, "hook_event_name": "SessionStart"}).encode()
SECRET = "messaging-token-of-the-hook"
ENDS_S = 20.0
"""A hook ends by itself after two seconds at most; this is for a machine with much else to do."""


def capture(
    stdin: bytes = PAYLOAD, *more: str, env: Mapping[str, str] | None = None, python: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Runs the hook; it must say nothing and end with 0."""
    done = subprocess.run(
        [sys.executable, *python, *COMMAND[1:], *more],
        cwd=REPOSITORY,
        env={**os.environ, "CLAUDE_CODE_MESSAGING": SECRET, **(env or {})},
        input=stdin,
        capture_output=True,
        timeout=ENDS_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"")
    assert python or done.stderr == b""
    return done


@pytest.fixture
def spool(home: Path) -> Spool:
    """That of this test's home, which no agent has ever used."""
    return Spool(str(home / "td" / "state" / "spool"))


def noted(spool: Spool) -> dict[str, str]:
    found: dict[str, str] = {}
    for snapshot in spool.snapshots():
        found |= spool.read(snapshot)
    return found


# --- what it is told ------------------------------------------------------------------------------------------------


def test_it_notes_the_transcript_of_its_session(spool: Spool) -> None:
    capture()
    assert noted(spool) == {PATH: "28cccd80"}
    folder = Path(spool.path).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not any(SECRET.encode() in one.read_bytes() for one in folder.iterdir())


def test_every_hook_of_a_real_session_is_understood(corpus: Path, spool: Spool) -> None:
    expected: dict[str, str] = {}
    for file in sorted((corpus / "hooks").glob("*.json")):
        said = json.loads(file.read_bytes())
        for key in ("transcript_path", "agent_transcript_path"):
            if key in said:
                expected[said[key]] = said["session_id"]
        capture(file.read_bytes())
    assert len(expected) > 4
    assert noted(spool) == expected


def test_a_subagents_transcript_is_noted_too(spool: Spool) -> None:
    capture(
        json.dumps({"session_id": "s", "transcript_path": "/s.jsonl", "agent_transcript_path": "/a.jsonl"}).encode()
    )
    assert noted(spool) == {"/s.jsonl": "s", "/a.jsonl": "s"}


SAYS_NOTHING = {
    "nothing": b"",
    "torn": b"{",
    "a list": b"[]",
    "null": b"null",
    "no text": b"\xff\xfe",
    "empty": b"{}",
    "a number": b'{"transcript_path": 7}',
    "too deep": b"[" * 200_000,
    "too long": b'{"a": "' + b"x" * 9_000_000,
}


@pytest.mark.parametrize("stdin", SAYS_NOTHING.values(), ids=SAYS_NOTHING)
def test_what_says_nothing_leaves_the_session_that_the_environment_names(stdin: bytes, spool: Spool) -> None:
    capture(stdin, env={"CLAUDE_CODE_SESSION_ID": "from-outside"})
    assert noted(spool) == {"": "from-outside"}
    capture(stdin)
    assert spool.signature() is None, "and nothing without one"


def test_a_large_payload_is_read_to_its_end(spool: Spool) -> None:
    capture(json.dumps({"last_assistant_message": "x" * 3_000_000, "transcript_path": PATH}).encode())
    assert noted(spool) == {PATH: ""}


@pytest.mark.parametrize("path", ["/a\nb.jsonl", "/a\tb.jsonl", "/a\0.jsonl", "/\ud800.jsonl"])
def test_a_path_that_would_break_the_spool_is_left_to_a_full_look(path: str, spool: Spool) -> None:
    capture(json.dumps({"session_id": "s", "transcript_path": path}).encode())
    assert noted(spool) == {}


def test_a_name_that_is_no_text_arrives(spool: Spool) -> None:
    capture(json.dumps({"session_id": "s", "transcript_path": "/\udcff.jsonl"}).encode())
    assert noted(spool) == {"/\udcff.jsonl": "s"}


def test_the_spool_can_be_named(spool: Spool, tmp_path: Path) -> None:
    capture(PAYLOAD, "--spool", str(tmp_path / "new" / "spool"))
    assert noted(Spool(str(tmp_path / "new" / "spool"))) == {PATH: "28cccd80"}
    assert spool.signature() is None


# --- it fails nobody ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [("--nothing",), ("surplus", "words"), ("--spool",)], ids=" ".join)
def test_arguments_that_it_does_not_know_do_not_stop_it(more: tuple[str, ...], spool: Spool) -> None:
    capture(PAYLOAD, *more)
    assert noted(spool) == {PATH: "28cccd80"}


@pytest.mark.parametrize("place", ["/proc/spool", "/dev/full/spool", "/dev/null", ""])
def test_a_place_that_takes_nothing_is_overlooked(place: str) -> None:
    capture(PAYLOAD, "--spool", place)


def test_a_state_folder_that_can_t_be_one_is_overlooked(home: Path, spool: Spool) -> None:
    (home / "td").write_bytes(b"a file")
    capture()
    (home / "td").unlink()
    Path(spool.path).mkdir(parents=True)
    capture()
    assert list(Path(spool.path).iterdir()) == []


def test_a_disk_that_is_full_is_overlooked(spool: Spool) -> None:
    spool_folder = Path(spool.path).parent
    spool_folder.mkdir(parents=True)
    spool.append("s", "/before")
    limited = 'ulimit -f 0; exec "$@"'  # no file of its can grow
    done = subprocess.run(
        ["sh", "-c", limited, "sh", *COMMAND],
        cwd=REPOSITORY,
        input=PAYLOAD,
        capture_output=True,
        timeout=ENDS_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert noted(spool) == {"/before": "s"}


def test_it_does_not_wait_long_for_the_lock(spool: Spool) -> None:
    Path(spool.path).parent.mkdir(parents=True)
    with open(f"{spool.path}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        began_s = time.monotonic()
        capture()
        assert time.monotonic() - began_s < ENDS_S / 2
        assert spool.waiting() == 1
    assert noted(spool) == {PATH: "28cccd80"}


@pytest.mark.parametrize("said", [b"", PAYLOAD])
def test_a_stdin_that_never_ends_is_not_waited_for(said: bytes, spool: Spool) -> None:
    with subprocess.Popen(
        COMMAND,
        cwd=REPOSITORY,
        env={**os.environ, "CLAUDE_CODE_SESSION_ID": "28cccd80"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(said)
        process.stdin.flush()
        assert process.wait(ENDS_S) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert noted(spool) == {PATH if said else "": "28cccd80"}


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-", "</dev/null >/dev/full 2>/dev/full"])
def test_closed_and_full_streams_are_overlooked(closed: str, spool: Spool) -> None:
    env = {**os.environ, "CLAUDE_CODE_SESSION_ID": "s"}
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *COMMAND], cwd=REPOSITORY, env=env, timeout=ENDS_S, check=False
    )
    assert done.returncode == 0
    assert noted(spool) == {"": "s"}


def test_fifty_hooks_at_once_lose_nothing(spool: Spool) -> None:
    running = []
    for number in range(50):
        process = subprocess.Popen(
            COMMAND, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({"session_id": f"s{number}", "transcript_path": f"/p/{number}.jsonl"}).encode())
        process.stdin.close()
        running.append(process)
    found: dict[str, str] = {}
    for number, process in enumerate(running):
        assert process.wait(3 * ENDS_S) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
        process.stdout.close()
        if number % 10 == 0:
            found |= noted(spool)  # somebody takes over in between
    found |= noted(spool)
    assert found == {f"/p/{number}.jsonl": f"s{number}" for number in range(50)}


@needs_posix
def test_hooks_lose_nothing_and_end_soon_while_one_stands_still_with_the_lock(spool: Spool) -> None:
    """As a holder does that a busy machine does not let go on, or a slow disk."""
    Path(spool.path).parent.mkdir(parents=True)
    code = (
        "import sys; from agent.system.state.spool import _Held\nwith _Held(sys.argv[1]):\n print(flush=True)\n input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, f"{spool.path}.lock"],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "\n"
        holder.send_signal(signal.SIGSTOP)
        for number in range(5):
            capture(json.dumps({"session_id": f"s{number}", "transcript_path": f"/p/{number}.jsonl"}).encode())
        assert spool.waiting() == 5, "all ended, and nobody got the lock"
        holder.kill()
    assert noted(spool) == {f"/p/{number}.jsonl": f"s{number}" for number in range(5)}


# --- it is quick ----------------------------------------------------------------------------------------------------

ALLOWED = {
    "agent", "agent.__main__", "agent.cli", "agent.cli.capture", "agent.cli.main", "agent.core", "agent.core.spool",
    "agent.errors", "agent.system", "agent.system.files",
    "agent.system.files.own_files", "agent.system.state",
    "agent.system.state.spool",
}  # fmt: skip
TOO_SLOW = {"click", "msgspec", "filelock", "platformdirs", "pathlib", "typing", "dataclasses", "logging", "inspect"}


def test_it_imports_next_to_nothing(spool: Spool) -> None:
    said = capture(PAYLOAD, python=("-X", "importtime")).stderr.decode()
    imported = {line.rpartition("|")[2].strip() for line in said.splitlines()}
    before = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "agent.errors"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    python_itself = {line.rpartition("|")[2].strip() for line in before.stderr.splitlines()}
    ours = imported - python_itself
    assert {name for name in ours if name.partition(".")[0] == "agent"} | ALLOWED == ALLOWED
    assert not ours & TOO_SLOW
    assert len(ours) < 45, sorted(ours)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_somebody_who_asks_is_told_what_it_is(flag: str) -> None:
    done = subprocess.run([*COMMAND, flag], cwd=REPOSITORY, capture_output=True, text=True, timeout=ENDS_S, check=True)
    assert done.stdout.startswith("Usage: transcriptd capture [OPTIONS]")
    assert "hook install" in done.stdout


@pytest.mark.parametrize("name", ["SessionStart", "SessionEnd", "Stop", "PreCompact", "PreToolUse", "SubagentStop"])
def test_only_the_end_of_a_session_is_noted_as_one(spool: Spool, corpus: Path, name: str) -> None:
    payload = (corpus / "hooks" / f"{name}.json").read_bytes()
    session_id = json.loads(payload)["session_id"]
    before_s = time.time()
    capture(payload)
    (snapshot,) = spool.snapshots()
    ends = spool.read_ends(snapshot)
    assert list(ends) == ([session_id] if name == "SessionEnd" else [])
    assert all(before_s - 1 < at_s < time.time() + 1 for at_s in ends.values())
    assert set(spool.read(snapshot).values()) == {session_id}
