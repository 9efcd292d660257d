"""Commands in a home where somebody left something: none hangs, none writes through it, each says what it found."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.paths import paths_below
from tests.e2e.processes import PROGRAM, Receiver, agent, command, end, environment, read_until, receiver, write_config
from tests.system.planted import PLANTS, Stage, names_of
from tests.system.privileges import IS_ROOT, NOBODY, needs_posix, needs_root

pytestmark = [pytest.mark.e2e, needs_posix]
FILES = names_of(paths_below(Path("/home-of-nobody")))
PATIENCE_S = 60


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "receiver") as made:
        yield made


@pytest.fixture
def stage(tmp_path: Path, server: Receiver) -> Stage:
    made = Stage(tmp_path)
    write_config(made.home, server.url, tmp_path / "projects", '[log]\nfile = "always"\n')
    (tmp_path / "projects" / "p").mkdir(parents=True)
    line = {"type": "user", "uuid": "u", "cwd": "/w", "message": {"content": "hello"}}
    (tmp_path / "projects" / "p" / "aaaa1111.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    return made


@pytest.mark.parametrize(("number", "name"), list(enumerate(FILES)), ids=FILES)
def test_run_says_what_stands_there_and_ends(tmp_path: Path, number: int, name: str) -> None:
    """Or takes a database aside, and stops when it is told. Each file with the next kind of plant."""
    stage = Stage(tmp_path)
    write_config(stage.home, "http://127.0.0.1:9", tmp_path / "projects")
    kind = list(PLANTS)[number % len(PLANTS)]
    stage.plant(kind, stage.home / name)
    with agent(stage.home) as process:
        if name.startswith(("state/state.db", "state/index.db")) and kind != "others":
            read_until(process, "transcriptd is running")
            assert end(process) == 0
        else:
            said, _ = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 1, said
            assert str(stage.home / name) in said
            assert "mv " in said or "remove it, or: sudo chown" in said
            assert "Traceback" not in said
    stage.assert_untouched()


COMMANDS = (
    ("status",),
    ("status", "--json"),
    ("doctor",),
    ("logs",),
    ("audit",),
    ("events",),
    ("sessions", "list"),
    ("sessions", "verify"),
    ("sessions", "patch", "aaaa1111", "--label", "x"),
    ("sessions", "cleanup", "--dry-run"),
    ("private", "list"),
    ("private", "add", "--session", "bbbb"),
    ("push",),
    ("pause",),
    ("capture",),
    ("config", "check"),
)


@pytest.mark.parametrize("kind", ["pipe", "link", "dangling", "folder"])
def test_no_command_hangs_or_reaches_out(stage: Stage, kind: str) -> None:
    """With the same thing in the place of every file of ours, and of the socket."""
    for path in (*stage.paths.own_files(), stage.paths.socket):
        stage.plant(kind, path)
    running = [
        subprocess.Popen(
            [*PROGRAM, *arguments],
            env=environment(stage.home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for arguments in COMMANDS
    ]
    for arguments, process in zip(COMMANDS, running, strict=True):
        try:
            said, _ = process.communicate(timeout=PATIENCE_S * 2)
        except subprocess.TimeoutExpired:
            end(process, signal.SIGKILL)
            pytest.fail(f"{arguments} hangs")
        assert "defect" not in said, (arguments, said)
        assert "Traceback" not in said, (arguments, said)
    stage.assert_untouched()


def test_everything_that_a_daemon_makes_is_in_the_list(stage: Stage) -> None:
    """So that what is checked before it begins is all that there is."""
    with agent(stage.home) as process:
        read_until(process, "transcriptd is running")
        for arguments in (("push",), ("sessions", "patch", "aaaa1111", "--label", "x"), ("private", "list")):
            assert command(stage.home, *arguments).returncode == 0
        command(stage.home, "sessions", "backfill")
        command(stage.home, "private", "add", "bbbb2222")
        paths = stage.paths
        made = {
            one
            for folder in (paths.state, paths.logs, paths.config.parent)
            for one in folder.rglob("*")
            if not one.is_dir() and paths.kept not in one.parents
        }
        assert end(process) == 0
    assert made - set(paths.own_files()) <= {paths.config, paths.private_list, paths.socket}
    assert len(made) > 6


@needs_root
def test_nobody_elses_socket_is_asked(stage: Stage) -> None:
    """A command in a folder where another user listens tells it nothing."""
    heard = stage.target.parent.with_name("heard")
    program = (
        "import os, socket, sys\n"
        f"s = socket.socket(socket.AF_UNIX); s.bind({str(stage.paths.socket)!r}); s.listen(5); s.settimeout(60)\n"
        f"heard = open({str(heard)!r}, 'wb', buffering=0)\n"
        f"os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
        "s2 = socket.socket(socket.AF_UNIX)\n"
        "s.listen(5)\n"
        "print('listening', flush=True)\n"
        "while True:\n"
        "    c, _ = s.accept(); c.settimeout(60); heard.write(c.recv(10))\n"
    )
    assert IS_ROOT
    other = subprocess.Popen([PROGRAM[0], "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        read_until(other, "listening")
        for arguments in (("status",), ("push",), ("sessions", "list")):
            done = command(stage.home, *arguments)
            assert done.returncode != 0, done.stdout
            assert f"user {NOBODY} listens at" in done.stderr
        assert heard.read_bytes() == b""
    finally:
        end(other, signal.SIGKILL)
        os.unlink(stage.paths.socket)
