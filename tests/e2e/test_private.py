"""Private means private, with real processes: what login asks, and what becomes of a mark beside a running agent."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.e2e.processes import PROGRAM, READY_S, TOKEN, Receiver, agent, environment, receiver, write_config
from tests.reliability import MakeTally
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

OPEN = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"
SECRET = "99999999-90ab-4cde-8f01-23456789abcd"
CANARY = "CANARY-of-a-private-session"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "receiver") as made:
        yield made


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    folder = tmp_path / "projects"
    (folder / "p").mkdir(parents=True)
    for session, cwd, text in ((OPEN, "/w/open", "hello"), (SECRET, "/w/secret", CANARY)):
        write(folder, session, cwd, text)
    return folder


def write(projects: Path, session: str, cwd: str, text: str) -> None:
    number = time.monotonic_ns()
    fields = {"type": "user", "uuid": f"{session}-{number}", "cwd": cwd, "message": {"role": "user", "content": text}}
    with (projects / "p" / f"{session}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")


def do(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], env=environment(home), capture_output=True, text=True, timeout=READY_S, check=False
    )


def held(server: Receiver, session: str) -> bytes:
    """What the server gives out of a session; empty when it has none, or none any more."""
    try:
        return server.entries(session)
    except requests.HTTPError as exc:
        if exc.response.status_code not in (404, 410):
            raise
        return b""


def everything(folder: Path) -> bytes:
    """But the index, which holds titles for the user alone (docs/privacy.md)."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("index.db"))
    return b"".join(path.read_bytes() for path in files)


def test_a_mark_takes_a_session_back_and_its_end_sends_it_again(
    server: Receiver, projects: Path, tmp_path: Path, tally: MakeTally
) -> None:
    noted = tally("private means private", "marked and unmarked beside a running agent")
    home = tmp_path / "td"
    write_config(home, server.url, projects)
    with agent(home):
        wait_for(lambda: bool(held(server, OPEN)) and CANARY.encode() in held(server, SECRET))
        done = do(home, "private", "add", "--project", "/w/secret", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        found = json.loads(done.stdout)
        assert (found["sessions"], found["sent"], found["agent"]) == (1, 1, "told")
        wait_for(lambda: not held(server, SECRET))
        write(projects, SECRET, "/w/secret", CANARY)
        write(projects, OPEN, "/w/open", "on it goes")
        wait_for(lambda: b"on it goes" in held(server, OPEN))
        assert held(server, SECRET) == b""
        noted.note()
        assert do(home, "private", "remove", "--project", "/w/secret").returncode == 0
        wait_for(lambda: held(server, SECRET).count(CANARY.encode()) == 2)
        noted.note()


def test_what_was_private_from_the_beginning_never_leaves(
    server: Receiver, projects: Path, tmp_path: Path, tally: MakeTally
) -> None:
    noted = tally("private means private", "the list is broken, goes and comes back beside a running agent")
    home = tmp_path / "td"
    write_config(home, server.url, projects, '[log]\nlevel = "debug"\n')
    (home / "private.list").write_text("project /w/secret\n", encoding="utf-8")
    log = b""
    with agent(home) as process:
        wait_for(lambda: bool(held(server, OPEN)))
        for number, breakage in enumerate(("projct /w/secret\n", "project /w/secret\n\0", None)):
            if breakage is None:
                (home / "private.list").rename(home / "aside")
            else:
                (home / "private.list").write_text(breakage, encoding="utf-8")
            write(projects, SECRET, "/w/secret", CANARY)
            write(projects, OPEN, "/w/open", f"blind {number}")
            wait_for(lambda: b"private list" in do_status(home))
            assert f"blind {number}".encode() not in held(server, OPEN)
            (home / "aside").unlink(missing_ok=True)
            (home / "private.list").write_text("project /w/secret\n", encoding="utf-8")
            wait_for(lambda number=number: f"blind {number}".encode() in held(server, OPEN))  # type: ignore[misc]
            noted.note(lost=0)
        process.terminate()
        assert process.stdout
        log = process.stdout.read().encode()
    assert held(server, SECRET) == b""
    for where in (everything(server.data), everything(home), log):
        assert CANARY.encode() not in where


@pytest.mark.parametrize("what", ["the list", "the settings"])
def test_what_is_cut_short_by_others_than_its_owner_shares_no_more_than_before(
    server: Receiver, projects: Path, tmp_path: Path, tally: MakeTally, what: str
) -> None:
    home = tmp_path / "td"
    config = home / "config.toml"
    if what == "the list":
        write_config(home, server.url, projects)
        (home / "private.list").write_text("project /w/secret\n", encoding="utf-8")
        os.utime(home / "private.list", (1e9, 1e9))  # of a list that is being written, nothing is learned
    else:
        write_config(home, server.url, projects, '[privacy]\nshare = "listed"\nshared_projects = ["/w/open"]\n')

    def settle(text: str) -> None:
        """The agent has heard of it, and has gone on since."""
        wait_for(lambda: b"gone from" in do_status(home))
        write(projects, SECRET, "/w/secret", CANARY)
        write(projects, OPEN, "/w/open", text)
        wait_for(lambda: text.encode() in held(server, OPEN))
        assert held(server, SECRET) == b""

    with agent(home) as process:
        wait_for(lambda: bool(held(server, OPEN)))
        if what == "the list":
            (home / "private.list").write_bytes(b"")
        else:
            config.write_text(config.read_text(encoding="utf-8").partition("[privacy]")[0], encoding="utf-8")
            process.send_signal(signal.SIGHUP)
        settle("the first life")
    with agent(home):
        settle("the second life")
        command = ["private", "remove", "--project", "/w/secret"] if what == "the list" else ["config", "accept"]
        assert do(home, *command).returncode == 0
        wait_for(lambda: CANARY.encode() in held(server, SECRET))
        assert b"gone from" not in do_status(home)
    tally("private means private", "a list or settings cut short beside a running agent").note()


def do_status(home: Path) -> bytes:
    return do(home, "status", "--json").stdout.encode()


def type_at(home: Path, answers: list[tuple[str, str]], *arguments: str) -> tuple[int, str]:
    """A command on a terminal of its own: waits for words, then types an answer. Gives exit status and all it said."""
    main, other = pty.openpty()
    process = subprocess.Popen([*PROGRAM, *arguments], env=environment(home), stdin=other, stdout=other, stderr=other)
    os.close(other)
    said, at = "", 0
    try:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            ready, _, _ = select.select([main], [], [], 0.1)
            try:
                said += os.read(main, 65_536).decode(errors="replace") if ready else ""
            except OSError:  # the terminal's other end was closed
                break
            if answers and answers[0][0] in said[at:]:
                at = len(said)
                os.write(main, answers.pop(0)[1].encode())
            if not ready and process.poll() is not None:
                break
        return process.wait(READY_S), said
    finally:
        process.kill()
        process.wait()
        os.close(main)


@pytest.mark.skipif(os.name == "nt", reason="terminals of POSIX")
def test_login_asks_before_anything_is_sent(server: Receiver, projects: Path, tmp_path: Path) -> None:
    home = tmp_path / "td"
    home.mkdir()
    config = home / "config.toml"
    config.write_text(f'# mine\n[watch]\nclaude = ["{projects}"]\n', encoding="utf-8")
    command = ("login", server.url, "--environment")
    status, said = type_at(home, [("share all projects", "\x04")], *command)
    assert status != 0
    assert "/w/secret" in said
    assert CANARY not in said
    assert "[[destination]]" not in config.read_text(encoding="utf-8"), "nothing was agreed to"
    answers = [("share all projects", "listed\n"), ("which?", "/w/open\n"), ("already (1 session", "y\n")]
    status, said = type_at(home, answers, *command)
    assert (status, answers) == (0, []), said
    assert f"shared with {server.url}: only /w/open, history too" in said
    text = config.read_text(encoding="utf-8")
    assert text.startswith("# mine\n")
    assert 'shared_projects = ["/w/open"]' in text
    assert do(home, "push").returncode == 0
    assert held(server, OPEN)
    assert held(server, SECRET) == b""
    assert TOKEN not in said + text
