"""Words of a transcript are looked for wherever the agent leaves anything: its state, its log, what commands print. It
delivers, is refused, halves batches, stumbles over defects, is killed and asked everything meanwhile."""

import io
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.cli.defects import set_up_log
from agent.core.settings import Destination, Settings, Watch
from agent.core.wire import Request
from agent.daemon.process.supervisor import Daemon
from agent.daemon.status.report import report
from agent.system.machine.network import WayOut
from agent.system.paths import paths_below
from agent.system.tokens import FixedToken
from tests.e2e.processes import PROGRAM, TOKEN, agent, command, end, environment, write_config
from tests.reliability import MakeTally
from tests.simulation.server import ModelServer
from tests.system.http_server import Answer, Seen, Server, plain, serving
from tests.system.privileges import needs_posix

CANARY = "canary-5f2e"
"""In every entry, in titles, prompts and side files."""

GOOD, BAD, FORBIDDEN, GONE = "good-session", "bad-session", "forbidden-session", "gone-session"
COMMANDS = (  # all but `sessions list`, which shows titles to whom it is asked by
    ("status",),
    ("status", "--json"),
    ("audit",),
    ("audit", "--json"),
    ("push",),
    ("push", "--dry-run"),
    ("push", "--dry-run", "--json"),
    ("retry",),
    ("restore", GONE),
    ("private", "add", GOOD),
    ("private", "list"),
    ("private", "remove", GOOD),
    ("sessions", "verify"),
    ("config", "show"),
    ("config", "check"),
    ("hook", "status"),
    ("doctor", "--json"),
)


def line(number: int, word: str = "") -> bytes:
    entry = {"type": "user", "uuid": f"u{number}", "cwd": "/p", "message": {"role": "user", "content": CANARY + word}}
    return json.dumps(entry).encode() + b"\n"


def write_session(folder: Path, session: str, *lines: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{session}.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def write_sessions(projects: Path) -> None:
    folder = projects / "p"
    titled = json.dumps({"type": "custom-title", "customTitle": f"title {CANARY}"}).encode() + b"\n"
    torn = b'{"type":"user","torn":"' + CANARY.encode() + b"\n"
    write_session(folder, GOOD, line(1), titled, torn, line(2))
    write_session(folder, BAD, line(3), line(4, " refuse me"), line(5), b"\xff" + CANARY.encode() + b"\n")
    write_session(folder, FORBIDDEN, line(6))
    write_session(folder, GONE, line(7))
    (folder / GOOD / "tool-results").mkdir(parents=True)
    (folder / GOOD / "tool-results" / "x.txt").write_text(CANARY * 9)


def picky() -> ModelServer:
    """A server that refuses one entry, one session, and has another one deleted."""

    def refuse(session: str, lines: list[bytes]) -> int | None:
        if session == FORBIDDEN:
            return 403
        return 422 if any(b"refuse me" in one for one in lines) else None

    made = ModelServer(refuse=refuse)
    made.deleted.add(GONE)
    return made


def over_http(model: ModelServer) -> Answer:
    """Answers of the model, with a body that quotes what was sent, as careless servers do."""
    lock = threading.Lock()

    def answer(connection: socket.socket, seen: Seen) -> bool:
        named = {name.title(): value for name, value in seen.headers.items()}
        with lock:
            reply = model.send(Request(seen.method, seen.target, named, seen.body or None))
        body = seen.body[:200] if reply.status in (403, 410, 422) else reply.body
        headers = [f"{name}: {value}" for name, value in reply.headers.items()]
        connection.sendall(plain(f"{reply.status} Said", body, *headers))
        return True

    return answer


@contextmanager
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def ask_everything(home: Path) -> dict[str, str]:
    """What each command prints, on both streams."""
    told = {}
    for words in COMMANDS:
        done = command(home, *words)
        assert "Traceback" not in done.stderr, words
        told[" ".join(words)] = done.stdout + done.stderr
    return told


INDEX = "index.db"
"""Holds titles, for the user alone, and nothing else of what was said (docs/privacy.md)."""


def places_with(words: str, told: dict[str, str], *folders: Path) -> list[str]:
    """Titles are looked for everywhere but in the index."""
    found = [name for name, text in told.items() if words in text]
    for folder in folders:
        found += [
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if path.is_file() and path.stat().st_nlink == 1 and words.encode() in path.read_bytes()
            if words != CANARY or not path.name.startswith(INDEX)
        ]
    return found


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(over_http(picky())) as running:
        yield running


def test_words_of_transcripts_and_tokens_stay_where_they_are(tmp_path: Path, server: Server, tally: MakeTally) -> None:
    home, projects = tmp_path / "home", tmp_path / "projects"
    write_sessions(projects)
    write_config(home, server.url, projects, '[log]\nlevel = "debug"\n')
    told: dict[str, str] = {}
    for number in range(2):  # killed once, so that what a crash leaves is looked at as well
        log = tmp_path / f"log-{number}"
        with log.open("w") as file:
            process = subprocess.Popen([*PROGRAM, "run"], env=environment(home), stdout=file, stderr=file)
            try:
                wait_until_told(home, process)
                told |= {f"{name} ({number})": text for name, text in ask_everything(home).items()}
            finally:
                end(process, signal.SIGKILL if number == 0 else signal.SIGTERM)
        told[f"log {number}"] = log.read_text()
    told |= ask_everything(home)
    assert "422" in told["audit --json"], "the attack came to refusals"
    assert any(CANARY.encode() in seen.body for seen in server.seen), "and to deliveries"
    titles = [seen.body for seen in server.seen if (seen.method, seen.target.rpartition("/")[2]) == ("PUT", "meta")]
    assert titles
    assert all(CANARY.encode() in body for body in titles), "a restart forgets titles, and takes none away"
    for promise, words in (("private means private", CANARY), ("tokens stay home", TOKEN)):
        found = places_with(words, told, home)
        tally(promise, "words looked for in state, log and every command's output").note(lost=len(found))
        assert found == []


def wait_until_told(home: Path, process: "subprocess.Popen[Any]") -> None:
    """Until the first full look's work is done."""
    for _ in range(600):
        assert process.poll() is None
        done = command(home, "status", "--json")
        states = json.loads(done.stdout)["counts"]["states"] if done.stdout else {}
        if states and not set(states) & {"settling", "due", "pushing", "pushing_stale"}:
            return
    raise AssertionError(states)


@needs_posix
def test_whatever_the_umask_all_that_the_agent_makes_is_its_users_alone(tmp_path: Path, server: Server) -> None:
    home, projects = tmp_path / "home", tmp_path / "projects"
    write_sessions(projects)
    write_config(home, server.url, projects)
    (home / "config.toml").chmod(0o600)
    (home / "state").mkdir(mode=0o755)
    (home / "state" / "spool").touch(0o644)
    with open_umask():
        with agent(home) as process:
            wait_until_told(home, process)
            ask_everything(home)
            assert open_below(home) == []
        ask_everything(home)
    assert open_below(home) == []


def open_below(home: Path) -> list[str]:
    """What others may read, change or enter; but for held transcripts, whose mode is that of their other name."""
    return [
        f"{stat.filemode(path.lstat().st_mode)} {path.relative_to(home)}"
        for path in home.rglob("*")
        if path.lstat().st_mode & 0o077 and not path.is_symlink() and (path.is_dir() or path.lstat().st_nlink == 1)
    ]


# --- defects ------------------------------------------------------------------------------------------------------

DEFECTS = (
    "agent.delivery.push.pusher.Pusher.run",
    "agent.delivery.discovery.scanner.Scanner.scan",
    "agent.delivery.engine.engine.Engine.handle",
)


@pytest.mark.parametrize("place", DEFECTS)
def test_a_defect_that_quotes_a_transcript_is_told_without_its_words(
    place: str, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, tally: MakeTally
) -> None:
    home, projects = tmp_path / "home", tmp_path / "projects"
    write_sessions(projects)
    log, failed = io.StringIO(), threading.Event()

    def stumble(*_: object, **__: object) -> None:
        failed.set()
        raise ValueError(CANARY)

    monkeypatch.setattr(place, stumble)
    settings = Settings((Destination(server.url),), watch=Watch(claude=(str(projects),)))
    with log_to(log):
        daemon = Daemon(settings, paths_below(home), FixedToken(TOKEN), {}, way_out=lambda: WayOut("10.0.0.2", None))
        daemon.start()
        try:
            assert failed.wait(30)
            if place.endswith("Engine.handle"):
                assert daemon.failed.wait(30)
                told = ""
            else:
                around = daemon.surroundings()
                told = repr(daemon.ask(lambda engine: report(engine, around)))
        finally:
            daemon.stop()
    assert "ValueError at test_canaries.py" in log.getvalue()
    found = places_with(CANARY, {"log": log.getvalue(), "status": told}, home)
    tally("private means private", "defects whose words are a transcript's").note(lost=len(found))
    assert found == []


@contextmanager
def log_to(stream: io.StringIO) -> Iterator[None]:
    """What a daemon logs at its most talkative."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, threading.excepthook, sys.unraisablehook
    set_up_log("debug", "%(levelname)s %(message)s", stream)
    try:
        yield
    finally:
        root.handlers[:], threading.excepthook, sys.unraisablehook = before[0], before[2], before[3]
        root.setLevel(before[1])
