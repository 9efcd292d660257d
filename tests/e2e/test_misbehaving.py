"""Servers that misbehave, before the real agent and the real receiver: as people have met them with other programs."""

import base64
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.wire import Request
from agent.system.remote import Remote
from tests.e2e.processes import TOKEN, Receiver, command, environment, last_json, receiver, write_config
from tests.faults.front import Front, Headers, fronting

LIMIT = 1 << 20
"""nginx takes no larger body unless told otherwise."""

PAGE = ((("content-type", "text/html"),), b"<html><h1>413 Request Entity Too Large</h1><hr>nginx</html>")
FOREIGN = json.dumps(
    {"last_uuid": "x", "entry_count": 1, "generation": "0b7f7d5e-8f2c-4f6e-9a43-1d2f3c4b5a69", "chain_hash": "00" * 32}
).encode()

Scripted = tuple[int, Headers, bytes] | None


class Desk:
    """A home whose server stands behind something that a test scripts."""

    def __init__(self, folder: Path, front: Front, server: Receiver) -> None:
        self.home, self.projects = folder / "home", folder / "projects"
        (self.projects / "p").mkdir(parents=True)
        self.front, self.server = front, server
        self.rng = random.Random(1)
        write_config(self.home, front.url, self.projects)

    def write(self, session: str, *sizes: int) -> bytes:
        lines = []
        for number, size in enumerate(sizes):
            text = base64.b64encode(self.rng.randbytes(size)).decode()
            lines.append({"type": "user", "cwd": "/w/p", "uuid": f"{session}-{number}", "message": {"content": text}})
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        (self.projects / "p" / f"{session}.jsonl").write_bytes(data)
        return data

    def json(self, *arguments: str) -> dict[str, object]:
        return last_json(command(self.home, *arguments, "--json"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with receiver(tmp_path / "data") as server, fronting() as front:
        behind = Remote(server.url, lambda: TOKEN)
        front.behind = behind
        try:
            yield Desk(tmp_path, front, server)
        finally:
            behind.close()


def test_what_a_proxy_found_too_large_is_named_everywhere_and_sent_on_retry(desk: Desk) -> None:
    """A picture above nginx's limit: other programs said nothing, and another machine never got it."""
    content = desk.write("s", 100, 2_200_000, 100)
    desk.front.script = lambda request: (413, *PAGE) if len(request.body or b"") > LIMIT else None
    pushed = command(desk.home, "push")
    assert (pushed.returncode, "1 rejected entry" in pushed.stdout) == (1, True), pushed.stdout
    assert "100 %" not in pushed.stdout
    assert desk.json("status")["open"] == {"rejected_entries": 1}
    assert "1 rejected entry" in command(desk.home, "doctor").stdout
    verified = command(desk.home, "sessions", "verify")
    assert (verified.returncode, "1 rejected entry" in verified.stdout) == (1, True), verified.stdout
    described = last_json(command(desk.home, "sessions", "describe", "s", "--json"))
    assert [one["rejected"] for file in described["files"] for one in file["servers"]] == [1]

    desk.front.script = lambda _: None
    assert command(desk.home, "push").returncode == 1, "a pass does not begin a new history by itself"
    again = command(desk.home, "retry")
    assert (again.returncode, "100 %" in again.stdout) == (0, True), again.stdout
    assert desk.server.entries("s") == content
    assert command(desk.home, "sessions", "verify").returncode == 0


def test_what_is_larger_than_the_server_says_to_take_is_final_until_it_takes_more(desk: Desk) -> None:
    content = desk.write("s", 100, 2_200_000, 100)
    size = max(map(len, content.splitlines()))

    def declare(most: int) -> None:
        offer = {"protocol": 1, "bulk": {}, "generations": True, "delete": True, "max_entry_bytes": most}
        answer = json.dumps(offer).encode()
        desk.front.script = lambda request: (200, (), answer) if request.path.endswith("/capabilities") else None

    declare(LIMIT)
    words = "1 entry is larger than its server takes: a note stands in its place there"
    words += f" ({size:,} of at most {LIMIT:,} bytes)"
    for name in ("push", "retry"):
        told = command(desk.home, name)
        assert told.returncode == 1
        assert words in " ".join(told.stdout.split()), told.stdout
        assert "100 %" not in told.stdout
        assert "transcriptd retry" not in told.stdout
    remembered = command(desk.home, "status")
    assert words in " ".join(remembered.stdout.split()), remembered.stdout
    assert desk.json("status")["open"] == {"too_large_entries": 1}
    assert "1 entry is larger than its server takes" in command(desk.home, "doctor").stdout
    verified = command(desk.home, "sessions", "verify")
    assert (verified.returncode, "1 entry is larger than its server takes" in verified.stdout) == (1, True)
    assert max(len(request.body or b"") for request in desk.front.requests) < LIMIT

    declare(size)
    again = command(desk.home, "retry")
    assert (again.returncode, "100 %" in again.stdout) == (0, True), again.stdout
    assert desk.server.entries("s") == content


def test_retry_ends_beside_a_server_that_only_knows_conflicts(desk: Desk) -> None:
    """One conflict that never clears made 47 million calls of another program in a day."""
    desk.write("s", 100, 100)
    desk.front.script = lambda request: (409, (), FOREIGN) if request.method == "POST" else None
    answers = [command(desk.home, name) for name in ("push", "retry")]
    assert [one.returncode for one in answers] == [75, 75]
    for one in answers:
        assert "the server's answers contradict each other" in one.stdout, one.stdout
    assert len(desk.front.requests) < 80


@pytest.mark.parametrize("status", [200, 500])
def test_a_session_that_a_server_chokes_on_holds_up_no_other(status: int, desk: Desk) -> None:
    """One file that fails stopped the whole of other programs' passes."""
    desk.write("a-bad-one", 100)
    contents = {f"s{number}": desk.write(f"s{number}", 100) for number in range(4)}

    def script(request: Request) -> Scripted:
        if request.method == "POST" and "a-bad-one" in request.path:
            return status, *PAGE
        return None

    desk.front.script = script
    pushed = command(desk.home, "push", "--json")
    found = last_json(pushed)
    assert pushed.returncode == 75
    assert found["open"] == {"unsent": 1}
    assert found["destinations"][0]["condition"] == "running"
    assert {session: desk.server.entries(session) for session in contents} == contents


def test_the_words_of_a_server_reach_who_reads_status_and_no_token_does(desk: Desk) -> None:
    desk.write("s", 100)
    words = json.dumps({"title": "Forbidden", "detail": f"quota is used up\x1b[2J, token {TOKEN}"}).encode()
    desk.front.script = lambda request: (403, (), words) if request.method == "POST" else None
    told = command(desk.home, "push").stdout
    assert "the server answers 403: quota is used up [2J, token …" in told
    assert TOKEN not in told
    assert "\x1b" not in told


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_certificates_that_is_not_there_is_named(name: str, desk: Desk, tmp_path: Path) -> None:
    desk.write("s", 100)
    write_config(desk.home, "https://127.0.0.1:9", desk.projects)
    missing = str(tmp_path / "corporation.pem")
    named = {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "", name: missing}
    pushed = command(desk.home, "push", env=environment(desk.home, **named))
    assert pushed.returncode == 69
    assert f"{name} names {missing}, which is not there" in pushed.stdout


def test_a_base_server_that_has_no_place_for_anything_has_0_per_cent(desk: Desk) -> None:
    """ "Everything synced", and nothing was there."""
    (desk.projects / "p" / "s.jsonl").write_bytes(b'{"type":"user","cwd":"/w/p"}\n' * 5)

    def script(request: Request) -> Scripted:
        return (404, (), b"{}") if request.path.endswith("/capabilities") else None

    desk.front.script = script
    pushed = command(desk.home, "push")
    assert (pushed.returncode, "0 entries, 0 %" in pushed.stdout) == (1, True), pushed.stdout
    verified = command(desk.home, "sessions", "verify")
    assert (verified.returncode, "5 entries have no place" in verified.stdout) == (1, True), verified.stdout
