"""The receiver as a process: its command line, its end, its memory, and what it holds when it is killed."""

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.transcripts.session import Head, StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, extend_chain, split_lines
from agent.core.wire import INGRESS, LongBody, append_request, head_request, session_path
from agent.receiver.server import bind
from tests.receiver.harness import COMMAND, READER, Receiver, fresh_head, fresh_stream, head_of, line_of

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and modes")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run(*arguments: str, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    where = ["--data", str(data)] if data else []
    return subprocess.run(
        [*COMMAND, *arguments, *where],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )


# ---- its end ----


def test_it_says_where_it_is_and_ends_with_stdin(data: Path) -> None:
    with Receiver(data) as receiver:
        assert receiver.ready == f"receiver ready at http://127.0.0.1:{receiver.port}\n"
        assert receiver.stop() == 0
        assert receiver.log == ""


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told(data: Path, number: signal.Signals) -> None:
    with Receiver(data) as receiver, receiver.client() as client:
        client.append(fresh_stream(), fresh_head(), b"x\n")  # a connection stays open
        receiver.process.send_signal(number)
        assert receiver.process.wait(10) == 0


def test_the_second_line_may_come_later(data: Path) -> None:
    with Receiver(data, stdin="only-writer\n") as receiver:
        with receiver.client("only-writer") as client:
            assert client.ask("GET", f"{INGRESS}/capabilities").status == 200
        with receiver.client(READER) as client:
            assert client.ask("GET", f"{INGRESS}/capabilities").status == 401
            assert receiver.process.stdin is not None
            receiver.process.stdin.write(READER + "\n")
            receiver.process.stdin.flush()
            answers = (client.ask("GET", f"{INGRESS}/capabilities").status for _ in range(10_000))
            assert 200 in answers


def test_without_a_token_on_stdin_it_does_not_start(data: Path) -> None:
    done = run("serve", "--port", "0", "--token-stdin", data=data)
    assert done.returncode != 0
    assert "no token on stdin" in done.stderr


def test_a_taken_port_is_said(data: Path) -> None:
    with closing(bind("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--port", str(port), data=data)
    assert done.returncode != 0
    assert f"can't listen on 127.0.0.1 port {port}" in done.stderr


def test_an_open_host_is_warned_of(data: Path) -> None:
    with Receiver(data, "--host", "0.0.0.0") as receiver:  # noqa: S104 - the warning is what is tested
        receiver.stop()
        assert "without TLS" in receiver.log


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with closing(bind("127.0.0.1", 0)) as listening:
        assert listening.proto == socket.IPPROTO_TCP


# ---- tokens ----


def test_token_commands(data: Path) -> None:
    made = json.loads(run("token", "create", "laptop", "--owner", "me", "--json", data=data).stdout)
    reader = run("token", "create", "screen", "--owner", "me", "--read-only", data=data).stdout.strip()
    assert made["token"].startswith("tsd_")
    assert run("token", "create", "laptop", data=data).returncode != 0
    with Receiver(data) as receiver:
        with receiver.client(made["token"]) as client:
            assert client.append(StreamId("s", ""), fresh_head(), b"x\n").status == 200
        with receiver.client(reader) as client:
            assert client.ask("GET", session_path("s", "/head")).json()["entry_count"] == 1
    assert run("token", "revoke", "laptop", data=data).returncode == 0
    assert run("token", "revoke", "laptop", data=data).returncode != 0
    listed = json.loads(run("token", "list", "--json", data=data).stdout)
    assert [(row["name"], row["scope"], row["revoked_at_s"] is None) for row in listed["tokens"]] == [
        ("laptop", "write", False),
        ("screen", "read", True),
    ]
    shown = run("token", "list", data=data).stdout
    assert "revoked" in shown
    assert made["token"] not in shown


@posix
def test_the_default_folder_is_the_owners_only(home: Path) -> None:
    run("token", "create", "laptop")
    folder = home / "td" / "receiver"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "receiver.sqlite3").stat().st_mode) == 0o600


def test_importing_the_commands_is_cheap() -> None:
    code = "import sys; before = set(sys.modules); import agent.cli.receiver; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"starlette", "uvicorn", "msgspec", "sqlite3", "asyncio", "platformdirs"} & set(loaded)


# ---- killed ----


@posix
def test_what_was_acknowledged_survives_a_kill(data: Path) -> None:
    """SIGKILL while four sessions are appended to: each stream is a whole number of batches, at least the
    acknowledged ones and at most the one in flight more."""
    streams = [fresh_stream() for _ in range(4)]
    acknowledged: dict[StreamId, int] = dict.fromkeys(streams, 0)
    enough = threading.Event()

    def batch(number: int) -> bytes:
        return b"".join(line_of(uuid=f"{number}-{n}", x="y" * 500) for n in range(300))

    def push(receiver: Receiver, stream: StreamId) -> None:
        head = fresh_head()
        with receiver.client() as client:
            try:
                while True:
                    answer = client.append(stream, head, batch(acknowledged[stream]))
                    assert answer.status == 200
                    head = head_of(answer)
                    acknowledged[stream] += 1
                    if sum(acknowledged.values()) > 60:
                        enough.set()
            except (OSError, http.client.HTTPException):
                return

    with Receiver(data) as receiver:
        threads = [threading.Thread(target=push, args=(receiver, stream)) for stream in streams]
        for thread in threads:
            thread.start()
        assert enough.wait(30)
        receiver.kill()
        for thread in threads:
            thread.join()
    with Receiver(data) as receiver, receiver.client() as client:
        for stream in streams:
            body = client.entries(stream).body
            kept = acknowledged[stream] if body.count(b"\n") == 300 * acknowledged[stream] else acknowledged[stream] + 1
            assert body == b"".join(batch(number) for number in range(kept))
            head = head_of(client.send(head_request(stream)))
            assert head.chain_hash == extend_chain(EMPTY_CHAIN, split_lines(body)).hex()
            assert client.append(stream, head, b"on\n").status == 200


# ---- memory ----


def peak_kib(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


@linux
def test_a_line_of_100_mb_passes_in_bounded_memory(data: Path) -> None:
    piece, count = b"0123456789abcdef" * 4096, 1600
    opening, end = b'{"type":"user","x":"', b'","uuid":"long"}'

    def pieces() -> Iterator[bytes]:
        yield opening
        for _ in range(count):
            yield piece
        yield end + b"\n"

    size = len(opening) + len(piece) * count + len(end) + 1
    stream = fresh_stream()
    request = append_request(stream, fresh_head(), LongBody(size, pieces), chain_after=bytes(32))
    headers = {**request.headers, "Content-Length": str(size)}
    with Receiver(data) as receiver, receiver.client() as client:
        client.append(fresh_stream(), fresh_head(), b"x\n")
        before = peak_kib(receiver.process.pid)
        answer = client.send(request.__class__("POST", request.path, headers), pieces())
        assert answer.status == 200
        assert answer.json()["last_uuid"] == "long"
        put = client.send(
            request.__class__("PUT", session_path("put"), {"Content-Length": str(size - 1)}),
            (piece.removesuffix(b"\n") for piece in pieces()),
        )
        assert put.status == 201
        for path in (
            session_path(stream.session_id, "/entries"),
            session_path(stream.session_id),
            f"/v1/code/sessions/{stream.session_id}/teleport-events",
        ):
            reply = client.ask("GET", path)
            assert reply.status == 200
            assert size - 1 <= len(reply.body) <= size + 300
        grown = peak_kib(receiver.process.pid) - before
    assert grown < 40 << 10, f"{grown} KiB more than before"


def test_no_temporary_file_stays(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with Receiver(data) as receiver, receiver.client() as client:
        assert client.append(fresh_stream(), fresh_head(), b"x" * (9 << 20) + b"\n").status == 200
        assert client.append(fresh_stream(), fresh_head(), (b"x" * 1999 + b"\n") * 4500).status == 413
        assert os.listdir(folder) == []


def test_a_base_head_is_a_bulk_head(data: Path) -> None:
    with Receiver(data) as receiver, receiver.client() as client:
        stream = fresh_stream()
        put = client.ask("PUT", session_path(stream.session_id), b'{"uuid":"a"}')
        head = Head(**put.json())
        assert client.append(stream, head, b'{"uuid":"b"}\n').json()["entry_count"] == 2
