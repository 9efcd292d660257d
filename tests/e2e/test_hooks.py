"""The way of a hook's line through real processes: from Claude Code's settings to the server."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.e2e.processes import agent, command, end, last_json, read_until, receiver, write_config

SOON_S = 20.0
"""A running agent takes a line up within a second; the rest is for machines with much else to do."""


def run_hooks(settings: Path, session: str, transcript: Path) -> None:
    """What Claude Code does when a session begins and ends."""
    payload = json.dumps({"session_id": session, "transcript_path": str(transcript)})
    for groups in json.loads(settings.read_bytes())["hooks"].values():
        shell = ["sh", "-c", groups[0]["hooks"][0]["command"]]
        done = subprocess.run(shell, cwd=REPOSITORY, input=payload, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_running_agent_follows_a_hook_by_any_name_and_never_out(tmp_path: Path) -> None:
    """The next full look is an hour away, and a link gives no notice of what is behind it."""
    home, projects, settings = tmp_path / "home", tmp_path / "projects", tmp_path / "settings.json"
    (projects / "real").mkdir(parents=True)
    (projects / "p").symlink_to("real")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "u.jsonl").write_bytes(b'{"uuid":"CANARY"}\n')
    transcript, spool = projects / "p" / "s.jsonl", home / "state" / "spool"
    assert command(home, "hook", "install", "--settings", str(settings)).returncode == 0
    with receiver(tmp_path / "data") as server:
        write_config(home, server.url, projects, "scan_interval_s = 3600\n[push]\ninterval_s = 3600\n")
        with agent(home) as working:
            read_until(working, "transcriptd is running")
            assert command(home, "push").returncode == 0
            transcript.write_bytes(b'{"uuid":"a"}\n')
            run_hooks(settings, "s", transcript)
            wait_for(lambda: not spool.exists())
            wait_for(lambda: last_json(command(home, "status", "--json"))["counts"]["entries"] == 1)
            assert server.entries("s") == transcript.read_bytes()
            (projects / "out").symlink_to(tmp_path / "far")
            run_hooks(settings, "u", projects / "out" / "u.jsonl")
            wait_for(lambda: not spool.exists())
            wait_for(lambda: last_json(command(home, "status", "--json"))["problems"] != [])
            ((what, _),) = last_json(command(home, "status", "--json"))["problems"]
            assert what == f"{projects}/out is not followed: it leads out of the watched folders"
            (projects / "out").unlink()
            command(home, "push")
            elsewhere = tmp_path / "elsewhere" / "p" / "t.jsonl"
            elsewhere.parent.mkdir(parents=True)
            elsewhere.touch()
            run_hooks(settings, "t", elsewhere)
            wait_for(lambda: not spool.exists())
            ((what, hint),) = last_json(command(home, "status", "--json"))["problems"]
            assert f"outside the watched folders: {elsewhere}" in what
            assert f"'{elsewhere.parent.parent}'" in hint
            assert end(working) == 0


def test_hooks_that_ran_while_no_agent_did_are_taken_up_at_its_start(tmp_path: Path) -> None:
    home, projects, settings = tmp_path / "home", tmp_path / "projects", tmp_path / "settings.json"
    transcript = projects / "p" / "s.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.write_bytes(b'{"uuid":"a"}\n')
    assert command(home, "hook", "install", "--settings", str(settings)).returncode == 0
    run_hooks(settings, "s", transcript)
    spool = home / "state" / "spool"
    assert spool.exists()
    with receiver(tmp_path / "data") as server:
        write_config(home, server.url, projects)
        assert command(home, "push").returncode == 0
        assert server.entries("s") == transcript.read_bytes()
    assert not spool.exists()
