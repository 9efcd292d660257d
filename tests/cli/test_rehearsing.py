"""`push --dry-run`: what it says would leave is what leaves, byte for byte, and nothing else does."""

import itertools
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.cli.config import environment
from agent.core.wire import RawReply, Request
from agent.daemon.process import supervisor
from agent.system.machine.network import WayOut
from agent.system.paths import default_paths
from tests.cli.running import run
from tests.fakes import AsgiServer, body_bytes, receiver_without_network

ONE = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"
TWO = "77777777-90ab-4cde-8f01-23456789abcd"
SECRET = "99999999-90ab-4cde-8f01-23456789abcd"


class Recording:
    """The real receiver, as a remote that writes down what it is sent."""

    def __init__(self, behind: AsgiServer) -> None:
        self._behind = behind
        self._lock = threading.Lock()
        self.bodies: list[tuple[str, bytes]] = []

    def send(self, request: Request) -> RawReply:
        with self._lock:
            if data := body_bytes(request):
                assert "Content-Encoding" not in request.headers, "loopback"
                self.bodies.append((request.path, data))
            return self._behind.send(request)

    def close(self) -> None:
        """Belongs to the fixture."""

    def reset(self) -> None:
        """There are no connections."""

    def of(self, session: str) -> bytes:
        return b"".join(self._of_each(session))

    def got(self, session: str, shown: bytes) -> bool:
        """Whether `shown` is what came of the session. Its transcripts, facts and side files are independent: each in
        its own order, in any order among them."""
        return any(b"".join(one) == shown for one in itertools.permutations(self._of_each(session)))

    def _of_each(self, session: str) -> list[bytes]:
        came: dict[str, bytes] = {}
        for path, data in self.bodies:
            if session in path:
                came[path] = came.get(path, b"") + data
        return list(came.values())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """What every command of this test sends to."""
    with receiver_without_network(tmp_path) as behind:
        recording = Recording(behind)
        monkeypatch.setattr(supervisor, "_remote", lambda *_: recording)
        no_way = partial(supervisor.Daemon, way_out=lambda: WayOut("", ""))
        monkeypatch.setattr(supervisor, "Daemon", no_way)
        monkeypatch.setenv("TRANSCRIPTD_TOKEN", "tsd_of_a_test")
        config = default_paths(environment()).config
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text('[[destination]]\nurl = "http://127.0.0.1:9"\n', encoding="utf-8")
        yield recording


def line(number: int, cwd: str, text: str = "hello") -> bytes:
    fields = {"type": "user", "uuid": f"u{number}", "cwd": cwd, "message": {"role": "user", "content": text}}
    return json.dumps(fields).encode() + b"\n"


@pytest.fixture
def projects(home: Path) -> Path:
    """A session with a subagent, side files and a line longer than a batch; a plain one; one in a private folder."""
    folder = home / ".claude" / "projects" / "p"
    (folder / ONE / "subagents").mkdir(parents=True)
    (folder / ONE / "tool-results").mkdir()
    (folder / f"{ONE}.jsonl").write_bytes(
        line(1, "/w/open") + line(2, "/w/open", "x" * 1_500_000) + b'{"type":"summary","summary":"A title"}\n'
    )
    (folder / ONE / "subagents" / "agent-1.jsonl").write_bytes(line(3, "/w/open"))
    (folder / ONE / "tool-results" / "big.txt").write_bytes(b"\0\xff" * 60_000)
    (folder / f"{TWO}.jsonl").write_bytes(b"".join(line(number, "/w/open") for number in range(100, 120)))
    (folder / f"{SECRET}.jsonl").write_bytes(line(201, "/w/open") + line(202, "/w/secret/x", "CANARY"))
    return folder


def shown(*arguments: str) -> tuple[bytes, str]:
    done = run("push", "--dry-run", "--show", *arguments)
    assert done.status == 0, done.err
    return done.raw, done.err


def test_what_is_shown_is_what_arrives(server: Recording, projects: Path) -> None:
    run("private", "add", "--project", "/w/secret")
    before = {session: shown(session) for session in (ONE, TWO, SECRET)}
    everything, _ = shown()
    assert server.bodies == [], "nothing was sent"
    assert run("push").status == 0
    for session, (data, _) in before.items():
        assert server.got(session, data), (len(data), len(server.of(session)))
    assert before[ONE][0].count(b"\n") == 4, "entries; the facts have no line end, and the side file none"
    assert before[SECRET][0] == b""
    assert "stays here: it is on the private list: project /w/secret\n" in before[SECRET][1]
    assert b"CANARY" not in everything + b"".join(data for _, data in server.bodies)
    assert len(everything) == sum(len(data) for data, _ in before.values())


def test_what_has_grown_is_shown_from_where_it_was(server: Recording, projects: Path) -> None:
    run("push")
    server.bodies.clear()
    assert shown() == (b"", "# 0 B would leave; nothing was sent\n")
    with (projects / f"{TWO}.jsonl").open("ab") as file:
        file.write(line(99, "/w/open", "more"))
    data, said = shown()
    assert data == line(99, "/w/open", "more")
    assert f"# {TWO}, main: {len(data)} B, 1 entry\n" in said
    run("push")
    assert server.of(TWO) == data


def test_marks_are_counted_and_nothing_obeys_a_terminal(
    server: Recording, projects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (projects / f"{TWO}.jsonl").write_bytes(line(1, "/w/open", "key [redacted:aws-key:0a1b2c3d] \x1b[2J"))
    data, said = shown(TWO)
    assert "1 secret replaced" in said
    assert data.endswith(b"}")  # the facts
    monkeypatch.setattr("agent.cli.rehearsing._Output._is_terminal", staticmethod(lambda: True))
    data, _ = shown(TWO)
    assert b"\x1b[7m[redacted:aws-key:0a1b2c3d]\x1b[27m" in data
    assert data.count(b"\x1b") == 2 * data.count(b"\x1b[7m")


def test_reasons_are_given_for_what_stays(server: Recording, projects: Path) -> None:
    config = default_paths(environment()).config
    url = 'url = "http://127.0.0.1:9"\n'
    run("private", "add", "--session", SECRET)
    for text, why in (
        (f'[[destination]]\n{url}projects = ["/elsewhere"]\n', "default takes other projects"),
        (
            f"[push]\nbacklog = false\n[[destination]]\n{url}",
            "it was there before the first start, and backlog = false",
        ),
        (
            f'[privacy]\nshare = "listed"\n[[destination]]\n{url}',
            'its project is not one of shared_projects, and share = "listed"',
        ),
    ):
        config.write_text(text, encoding="utf-8")
        found = run("push", "--dry-run", "--json").json()
        assert found["transcripts"] == []
        reasons = {row["session"]: row["why"] for row in found["withheld"]}
        listed = f"it is on the private list: session {SECRET}"
        assert reasons == {ONE: why, TWO: why, SECRET: listed}
        assert why in run("push", "--dry-run").out
    assert server.bodies == []


def test_a_list_that_is_gone_keeps_everything_here(server: Recording, projects: Path) -> None:
    run("push")
    default_paths(environment()).private_list.unlink()
    (projects / "new.jsonl").write_bytes(line(1, "/w/open"))
    found = run("push", "--dry-run", "--json").json()
    assert found["transcripts"] == []
    assert all("the private list is gone" in row["why"] for row in found["withheld"])
    server.bodies.clear()
    run("push")
    assert server.bodies == []


def test_a_copy_of_a_private_session_is_told_as_such(server: Recording, projects: Path) -> None:
    copy = projects / f"{ONE.replace('0f', '1f')}.jsonl"
    copy.write_bytes((projects / f"{TWO}.jsonl").read_bytes() + line(77, "/w/open"))
    run("private", "add", "--session", TWO)
    found = run("push", "--dry-run", "--json").json()
    assert {row["session"] for row in found["withheld"]} == {TWO, copy.stem}
    assert shown(copy.stem)[0] == b""


def test_two_servers_are_told_apart(server: Recording, projects: Path) -> None:
    default_paths(environment()).config.write_text(
        '[[destination]]\nname = "a"\nurl = "http://127.0.0.1:9"\nprojects = ["/w/secret"]\n'
        '[[destination]]\nname = "b"\nurl = "http://127.0.0.1:9"\nprotocol = "ingress"\n',
        encoding="utf-8",
    )
    found = run("push", "--dry-run", "--json").json()
    assert {row["destination"] for row in found["transcripts"]} == {"b"}
    assert {row["subpath"] for row in found["transcripts"]} == {""}
    assert "new, to b" in run("push", "--dry-run").out
    data, said = shown(ONE)
    assert f"# {ONE} to a: stays here: a takes other projects\n" in said
    assert data.count(b'"uuid"') == 2


@pytest.mark.parametrize("arguments", [("--show",), (ONE,), ("--dry-run", "nowhere")])
def test_what_makes_no_sense_is_refused(server: Recording, projects: Path, arguments: tuple[str, ...]) -> None:
    done = run("push", *arguments)
    assert (done.status, done.out) == (2, "")
    assert server.bodies == []
