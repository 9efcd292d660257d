"""What anybody may do to a receiver before a token was shown: heads, slow heads, connections; by raw sockets, against
`transcriptd receiver serve`."""

import os
import re
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.core.wire import INGRESS, session_path
from agent.receiver.connections import HEAD_BYTES, HEADERS, URL_BYTES
from agent.receiver.server import make_room
from tests.receiver.harness import TIMEOUT_S, WRITER, Receiver, fresh_head, fresh_stream

posix = pytest.mark.skipif(os.name != "posix", reason="modes and umask")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SOON_S = 0.5
"""The head's time in tests that wait for its end."""


@contextmanager
def dialled(receiver: Receiver) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=TIMEOUT_S) as made:
        yield made


def to_the_end(connection: socket.socket) -> bytes:
    """All that comes until the other side ends it, be it by a reset."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def one_answer(connection: socket.socket) -> bytes:
    """One answer with a length, and no byte more."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(1)
        assert part, "the connection ended instead"
        data += part
    length = re.search(rb"content-length: (\d+)", data, re.IGNORECASE)
    left = int(length[1]) if length else 0
    while left and (part := connection.recv(left)):
        data, left = data + part, left - len(part)
    return data


def asking(path: str = "/healthz", *lines: str, token: str | None = None) -> bytes:
    shown = [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: here", *shown, *lines, "", ""]).encode()


KNOWN = asking(f"{INGRESS}/capabilities", token=WRITER)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


# ---- heads ----


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (asking("/healthz?" + "x" * (URL_BYTES - 20)), 200),
        (asking("/healthz?" + "x" * URL_BYTES), 414),
        (b"GET /" + b"x" * (2 << 20), 414),  # one that does not end
        (asking("/healthz", *(f"X-{n}: y" for n in range(HEADERS - 1))), 200),
        (asking("/healthz", *(f"X-{n}: y" for n in range(HEADERS))), 431),
        (asking("/healthz", *(f"X-{n}: y" for n in range(100_000))), 431),
        (asking("/healthz", "X: " + "y" * (HEAD_BYTES - 100)), 200),
        (asking("/healthz", "X: " + "y" * HEAD_BYTES), 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * (2 << 20), 431),
        (b"GET / HTTP/1.1\r\n" + b"y" * (2 << 20), 431),
        (b"GET / HTTP/1.1\r\nX: y\r\n " + b"y" * (2 << 20), 400),  # a folded line
        (b"PUT /x HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"PUT /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),  # TLS
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
    ],
    ids=lambda value: f"{len(value)}-{value[:20]!r}" if isinstance(value, bytes) else str(value),
)
def test_a_head_has_bounds(receiver: Receiver, head: bytes, expected: int) -> None:
    with dialled(receiver) as connection:
        with suppress(ConnectionError):  # it is refused before all of it is sent
            connection.sendall(head)
        answer = one_answer(connection)
        assert status(answer) == expected, answer[:300]
        if expected != 200:
            assert b"application/problem+json" in answer
            assert to_the_end(connection) == b""
    with receiver.client() as client:
        assert client.append(fresh_stream(), fresh_head(), b"x\n").status == 200


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_head_has_the_same_bounds_in_pieces(receiver: Receiver, size: int) -> None:
    wide = asking("/healthz?" + "x" * 500, "X: " + "y" * 500)
    long = asking("/healthz", *(f"X-{n}: y" for n in range(HEADERS)))
    for head, expected in ((wide, 200), (long, 431)):
        with dialled(receiver) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(head), size):
                try:
                    connection.sendall(head[start : start + size])
                except ConnectionError:
                    break
            assert status(one_answer(connection)) == expected


def test_the_longest_names_fit(receiver: Receiver) -> None:
    """Every byte of session, path and subpath percent-encoded."""
    with receiver.client() as client:
        session, path = "ü" * 128, "/".join(["ü" * 120] * 4)
        put = client.ask("PUT", session_path(session, f"/files/{quote(path)}"), b"x", Content_Digest="sha-256=:x:")
        assert put.status == 400
        assert "Content-Digest" in put.json()["detail"]
        asked = client.ask("GET", session_path(session, "/entries", subpath="/".join(["ü" * 120] * 4), after=10**17))
        assert asked.status == 404


def test_trailers_have_bounds(receiver: Receiver) -> None:
    """They come behind a chunked body, so nobody has seen them when the answer is made."""
    path = session_path(fresh_stream().session_id)
    head = f"PUT {path} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    with dialled(receiver) as connection:
        connection.sendall(head.encode())
        assert status(one_answer(connection)) == 401
        connection.sendall(b"1\r\nx\r\n0\r\n")
        try:
            for number in range(100_000):
                connection.sendall(b"X-%d: y\r\n" % number)
        except ConnectionError:
            return
        assert status(to_the_end(connection)) == 431


@linux
def test_what_strangers_send_is_not_kept(data: Path) -> None:
    """Heads without end, requests without waiting for answers, bodies that nobody asked for: from many at once."""
    with Receiver(data) as receiver, ExitStack() as stack:
        with receiver.client() as client:
            client.append(fresh_stream(), fresh_head(), b"x\n")
        before = resident_kib(receiver)
        flood = (
            b"GET /" + b"x" * (1 << 20),
            b"GET / HTTP/1.1\r\nX: " + b"y" * (1 << 20),
            b"GET / HTTP/1.1\r\n\r\n" * 60_000,
            b"PUT /v1/x HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n" + b"z" * (1 << 20),
        )
        for number in range(40):
            connection = stack.enter_context(dialled(receiver))
            connection.settimeout(0.2)
            with suppress(OSError):  # refused, or nobody reads it
                connection.sendall(flood[number % len(flood)])
        with receiver.client() as client:
            assert client.append(fresh_stream(), fresh_head(), b"x\n").status == 200
        grown = resident_kib(receiver) - before
    assert grown < 40 << 10, f"{grown} KiB more than before"
    assert receiver.log == ""


def resident_kib(receiver: Receiver) -> int:
    text = Path(f"/proc/{receiver.process.pid}/status").read_text(encoding="ascii")
    return int(text.split("VmHWM:")[1].split()[0])


# ---- time ----


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", 0),
        (b"\r\n", 0),
        (b"GET /", 408),
        (b"GET / HTTP/1.1\r\nHost: here\r\n", 408),
        (asking() + b"GET /", 408),
        (asking() + b"\r\n", 0),
        (KNOWN + b"GET / HTTP/1.1\r\nX", 408),
    ],
    ids=repr,
)
def test_a_slow_head_ends(data: Path, sent: bytes, expected: int) -> None:
    """Also when a byte comes now and then: the time is the whole head's."""
    with Receiver(data, "--head-timeout", str(SOON_S)) as receiver, dialled(receiver) as connection:
        begun = time.monotonic()
        connection.sendall(sent)
        if b"\r\n\r\n" in sent:
            assert status(one_answer(connection)) == 200
        connection.settimeout(SOON_S / 10)
        answer = b""
        drip = iter(b"\r\n" * 1000 if not expected else b"x" * 1000)
        while time.monotonic() - begun < TIMEOUT_S:
            try:
                part = connection.recv(4096)
            except TimeoutError:
                try:
                    connection.sendall(bytes([next(drip)]))
                except ConnectionError:
                    break
                continue
            except ConnectionError:
                break
            answer += part
            if not part:
                break
        took = time.monotonic() - begun
        assert status(answer) == expected
        assert SOON_S * 0.9 <= took < TIMEOUT_S / 2
        assert receiver.stop() == 0
        assert receiver.log == ""


def test_a_slow_body_is_no_slow_head(data: Path) -> None:
    """Who has shown a token may take longer than a head: a laptop on a train."""
    body = b'{"uuid":"a"}'
    head = f"PUT {session_path('s')} HTTP/1.1\r\nAuthorization: Bearer {WRITER}\r\nContent-Length: {len(body)}\r\n\r\n"
    with Receiver(data, "--head-timeout", "0.1") as receiver, dialled(receiver) as connection:
        connection.sendall(head.encode())
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(TIMEOUT_S)
        connection.sendall(body)
        assert status(one_answer(connection)) == 201


# ---- how many ----


def test_strangers_make_room_for_each_other(data: Path) -> None:
    """Connections that only are there, and those that ask for a page again and again, keep nobody out."""
    with Receiver(data, "--max-connections", "4") as receiver, ExitStack() as stack:
        known = [stack.enter_context(dialled(receiver)) for _ in range(3)]
        for connection in known:
            connection.sendall(KNOWN)
            assert status(one_answer(connection)) == 200
        strangers = []
        for number in range(200):
            strangers.append(stack.enter_context(dialled(receiver)))
            if number % 2:
                with suppress(ConnectionError):
                    strangers[-1].sendall(asking())
        newcomer = stack.enter_context(dialled(receiver))
        newcomer.sendall(KNOWN)
        assert status(one_answer(newcomer)) == 200
        for connection in known:
            connection.sendall(KNOWN)
            assert status(one_answer(connection)) == 200
        strangers[0].settimeout(TIMEOUT_S)
        assert to_the_end(strangers[0]) == b""


def test_when_all_places_are_taken_that_is_said_and_the_others_go_on(data: Path) -> None:
    with Receiver(data, "--max-connections", "2") as receiver, ExitStack() as stack:
        known = [stack.enter_context(dialled(receiver)) for _ in range(2)]
        for connection in known:
            connection.sendall(KNOWN)
            assert status(one_answer(connection)) == 200
        with dialled(receiver) as surplus:
            surplus.sendall(KNOWN)
            answer = to_the_end(surplus)
            assert status(answer) == 503
            assert b"retry-after" in answer.lower()
        for connection in known:
            connection.sendall(KNOWN)
            assert status(one_answer(connection)) == 200
        known[0].close()
        for _ in range(1000):
            with dialled(receiver) as again:
                again.sendall(KNOWN)
                if status(one_answer(again)) == 200:
                    break
        else:
            pytest.fail("the place of a connection that ended stays taken")


@posix
def test_files_are_enough_for_the_connections() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, before[1]))
        assert make_room(1000) == 1000
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# ---- folders ----


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777], ids=oct)
def test_what_it_makes_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    data = tmp_path / "a" / "b" / "data"
    before = os.umask(umask)
    try:
        started = Receiver(data)
    finally:
        os.umask(before)
    with started as receiver, receiver.client() as client:
        assert client.append(fresh_stream(), fresh_head(), b"x\n").status == 200
        digest = "sha-256=:LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=:"  # of b"x"
        assert client.ask("PUT", session_path("s", "/files/f"), b"x", Content_Digest=digest).status == 201
        client.ask("PUT", session_path("s", "/files/g"), b"part", Content_Digest=digest, Content_Range="bytes 0-3/9")
        seen = {path: path.stat().st_mode for path in [tmp_path / "a", *(tmp_path / "a").rglob("*")]}
    assert len(seen) >= 8
    wrong = {
        path: oct(mode) for path, mode in seen.items() if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)
    }
    assert not wrong
