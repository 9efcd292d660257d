"""What `login` takes over from an installation of `agnes`."""

import json
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agent.cli.agnes import find_left, take_over
from agent.cli.config import environment
from agent.core import agnes
from agent.errors import DiskError
from agent.system.paths import default_paths
from agent.system.state.spool import Spool
from tests.cli.running import run
from tests.cli.test_login import GOOD, bulk_server
from tests.system.privileges import needs_posix

ONE, TWO, THREE = (f"{digit * 8}-90ab-4cde-8f01-23456789abcd" for digit in "123")
QUEUED = "44444444-90ab-4cde-8f01-23456789abcd"


@pytest.fixture
def transcript(home: Path) -> Path:
    return write_session(home, QUEUED, home / "w" / "project")


def write_session(home: Path, session: str, folder: Path) -> Path:
    path = home / ".claude" / "projects" / "p" / f"{session}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "user", "uuid": session, "cwd": str(folder)}) + "\n")
    return path


def leave(workspace: Path, **files: str) -> Path:
    """Its files in a workspace; any other name is a snapshot's."""
    names = {"private": agnes.PRIVATE, "skipped": agnes.SKIPPED, "queue": agnes.QUEUES[0]}
    folder = workspace / ".claude"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / names.get(name, f"agnes-sessions.snapshot.{name}.txt")).write_text(text)
    return workspace


def skipped(session: str) -> str:
    return f"2026-11-01T10:00:00Z\t{session}\t/p/{session}.jsonl\n"


def rules() -> list[str]:
    path = default_paths(environment()).private_list
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def hints() -> dict[str, str]:
    spool = Spool(str(default_paths(environment()).spool))
    return {path: session for one in spool.snapshots() for path, session in spool.read(one).items()}


WHERE = {
    "of its settings": lambda home: home / "data",
    "where a session began": lambda home: home / "w" / "project",
    "at home": lambda home: home,
}


@pytest.mark.parametrize("where", list(WHERE))
def test_what_is_private_there_is_private_here_before_anything_may_be_sent(
    where: str, home: Path, transcript: Path
) -> None:
    """A login without a terminal takes all: it is for the owner to free them."""
    workspace = WHERE[where](home)
    leave(workspace, private=f"{ONE}\n\n{TWO}\n", skipped=skipped(TWO) + "torn\n" + skipped(THREE))
    if workspace == home / "data":
        settings = home / ".config" / "agnes"
        settings.mkdir(parents=True)
        (settings / "config.yaml").write_text(f'server: https://h.example\nworkspace_root: "{workspace}"  # mine\n')
    token = home / "token"
    token.write_text(GOOD)
    token.chmod(0o600)
    with bulk_server() as server:
        done = run("login", server.url, "--token-file", str(token))
        assert done.status == 0, done.err
        assert rules() == [f"session {one}" for one in (ONE, TWO, THREE)]
        assert "agnes keeps 3 sessions private" in done.err
        again = run("login", server.url, "--token-file", str(token))
    assert (again.status, "agnes" in again.err) == (0, False)
    assert rules() == [f"session {one}" for one in (ONE, TWO, THREE)]


@pytest.mark.parametrize(("answer", "taken"), [("y\n", True), ("\n", True), ("n\n", False)])
def test_a_terminal_is_asked(answer: str, taken: bool, home: Path) -> None:
    leave(home, skipped=skipped(ONE))

    @click.command()
    def command() -> None:
        take_over(default_paths(environment()), may_ask=True)

    done = CliRunner().invoke(command, input=answer)
    assert done.exit_code == 0, done.output
    assert "keep them private here too? [Y/n]" in done.output
    assert rules() == ([f"session {ONE}"] if taken else [])


def test_its_queue_and_snapshots_become_hints_of_ours(home: Path, transcript: Path) -> None:
    mine, old = write_session(home, ONE, home), write_session(home, TWO, home)
    stamped = write_session(home, THREE, home)
    queue = f"{QUEUED}\t{transcript}\n{ONE}\t{mine}\n{QUEUED}\t{transcript}\n{TWO}\t{home}/gone.jsonl\n\n"
    snapshot = f"{old}\n{THREE}\t{stamped}\t2026-11-01T10:00:00Z\n"
    leave(home, private=f"{ONE}\n", queue=queue, **{"77.abcdef01": snapshot})
    before = {path: path.read_bytes() for path in (home / ".claude").glob("agnes*")}
    take_over(default_paths(environment()), may_ask=False)
    assert hints() == {str(transcript): QUEUED, str(old): "", str(stamped): THREE}
    assert {path: path.read_bytes() for path in (home / ".claude").glob("agnes*")} == before, "they are only read"


@needs_posix
@pytest.mark.parametrize("what", ["bytes", "a pipe", "a folder"])
def test_where_its_list_can_not_be_read_nobody_logs_in(what: str, home: Path) -> None:
    path = leave(home) / ".claude" / agnes.SKIPPED
    if what == "bytes":
        path.write_bytes(b"\xff\xfe")
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(DiskError, match="agnes-sessions-private-skipped"):
        find_left({}, str(home), [])
    assert rules() == []


def test_what_is_no_session_id_is_told_and_left_out(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave(home, private=f"{ONE}\n{TWO[:12]}\n# x\n")
    take_over(default_paths(environment()), may_ask=False)
    assert rules() == [f"session {ONE}"]
    assert repr(TWO[:12]) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        ("workspace_root: /w/x\n", "/w/x"),
        ("a: 1\nworkspace_root:   '/w/a # b'\nz: 2", "/w/a # b"),
        ("workspace_root: /w/a b # mine\n", "/w/a b"),
        ("  workspace_root: /nested\n", ""),
        ("workspace_root:\nserver: x", ""),
        ("", ""),
    ],
)
def test_its_settings_name_the_workspace(settings: str, folder: str) -> None:
    assert agnes.parse_workspace(settings) == folder
