"""A wire that misbehaves: it stands before a server, passes requests on, and does to some of them what networks, boxes
in between and broken servers do. Real sockets, every byte as written here."""

import contextlib
import gzip
import itertools
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from agent.core.wire import RawReply, Request
from tests.faults.front import Front
from tests.system.http_server import Seen, Server, serving

PORTAL = b"<html><title>Welcome to the hotel</title>please log in</html>"


class Case(NamedTuple):
    """One request that something is done to. `answer()` has the server take it, and gives the bytes of what it says."""

    connection: socket.socket
    seen: Seen
    answer: Callable[[], bytes]
    ended: threading.Event
    """Set when the test is over; who waits for nothing waits for that."""


Mischief = Callable[[Case], bool]
"""True keeps the connection for another request."""


class Wire:
    """`mischief` happens to the next `times` requests that `matches` finds."""

    def __init__(self) -> None:
        self.front = Front("")
        """What answers where nothing is done to a request."""
        self.mischief: Mischief | None = None
        self.matches: Callable[[Request], bool] = lambda _: True
        self.times = 0
        self.done = 0
        self._ended = threading.Event()

    def serve(self, connection: socket.socket, seen: Seen) -> bool:
        head = Request(seen.method, seen.target, seen.headers)
        mischief = None
        if self.mischief is not None and self.done < self.times and self.matches(head):
            self.done += 1
            mischief = self.mischief
        case = Case(connection, seen, lambda: self._pass_on(connection, seen), self._ended)
        if mischief is not None:
            return mischief(case)
        connection.sendall(case.answer())
        return True

    def _pass_on(self, connection: socket.socket, seen: Seen) -> bytes:
        seen.body += read_body(connection, int(seen.headers.get("content-length", "0")) - len(seen.body))
        headers = {name.title(): value for name, value in seen.headers.items()}
        answer = self.front.answer(Request(seen.method, seen.target, headers, seen.body))
        return render(RawReply(answer[0], dict(answer[1]), answer[2]))

    @contextlib.contextmanager
    def open(self) -> Iterator["Wire"]:
        server: Server
        with serving(self.serve, reads_body=False) as server:
            self.front.url, self._ended = server.url, server.ended
            yield self


def read_body(connection: socket.socket, count: int) -> bytes:
    parts = []
    while count > 0 and (data := connection.recv(min(count, 1 << 16))):
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def render(reply: RawReply, *more: str) -> bytes:
    """The bytes of an answer; Content-Length is that of its body unless `more` has one."""
    named = [f"{name}: {value}" for name, value in reply.headers.items() if name != "content-length"]
    if not any(one.lower().startswith("content-length") for one in more):
        named.append(f"Content-Length: {len(reply.body)}")
    return "\r\n".join([f"HTTP/1.1 {reply.status} Made Up", *named, *more, "", ""]).encode() + reply.body


# --- what may happen --------------------------------------------------------------------------------------------------


def _reset(connection: socket.socket) -> bool:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def reset_before_request(case: Case) -> bool:
    return _reset(case.connection)


def reset_in_request(case: Case) -> bool:
    read_body(case.connection, int(case.seen.headers.get("content-length", "0")) // 2)
    return _reset(case.connection)


def reset_before_answer(case: Case) -> bool:
    """The server has taken it, and nobody learns of that."""
    case.answer()
    return _reset(case.connection)


def reset_in_answer(case: Case) -> bool:
    answer = case.answer()
    case.connection.sendall(answer[: len(answer) * 2 // 3])
    return _reset(case.connection)


def ends_before_answer(case: Case) -> bool:
    case.answer()
    return False


def ends_in_head(case: Case) -> bool:
    case.connection.sendall(case.answer()[:20])
    return False


def black_hole(case: Case) -> bool:
    case.ended.wait(20)
    return False


def black_hole_after_request(case: Case) -> bool:
    case.answer()
    case.ended.wait(20)
    return False


def slices(case: Case) -> bool:
    """One byte at a time; slow, and right."""
    case.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in case.answer():
        case.connection.sendall(bytes([byte]))
    return True


def drips(case: Case) -> bool:
    """A byte now and then, each in time, and all of them never."""
    for byte in case.answer():
        if case.ended.wait(0.05):
            break
        case.connection.sendall(bytes([byte]))
    return False


def says(*data: bytes, keep: bool = False, first: bool = False) -> Mischief:
    """These bytes instead of the server's answer; with `first` the server takes the request all the same."""

    def mischief(case: Case) -> bool:
        if first:
            case.answer()
        else:
            read_body(case.connection, int(case.seen.headers.get("content-length", "0")))
        for piece in data:
            case.connection.sendall(piece)
        return keep

    return mischief


def says_endlessly(pieces: Callable[[], Iterable[bytes]]) -> Mischief:
    def mischief(case: Case) -> bool:
        case.answer()
        for piece in pieces():
            if case.ended.is_set():
                break
            case.connection.sendall(piece)
        return False

    return mischief


def changes(change: Callable[[bytes, bytes], bytes], *, keep: bool = False) -> Mischief:
    """The server's answer after `change(head, body)`."""

    def mischief(case: Case) -> bool:
        head, _, body = case.answer().partition(b"\r\n\r\n")
        case.connection.sendall(change(head, body))
        return keep

    return mischief


def page(status: int, body: bytes, *more: str, kind: str = "text/html") -> bytes:
    return render(RawReply(status, {"content-type": kind}, body), *more)


def told(value: object) -> bytes:
    return page(200, json.dumps(value).encode(), kind="application/json")


def _other_length(by: int) -> Callable[[bytes, bytes], bytes]:
    def change(head: bytes, body: bytes) -> bytes:
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
        lines.append(f"Content-Length: {max(0, len(body) + by)}".encode())
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    return change


def _compressed(make: Callable[[bytes], bytes], encoding: str = "gzip") -> Callable[[bytes, bytes], bytes]:
    def change(head: bytes, body: bytes) -> bytes:
        packed = make(body)
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
        lines += [f"Content-Length: {len(packed)}".encode(), f"Content-Encoding: {encoding}".encode()]
        return b"\r\n".join(lines) + b"\r\n\r\n" + packed

    return change


BOMB = gzip.compress(bytes(64 << 20))

MISCHIEF: dict[str, Mischief] = {
    "reset before the request": reset_before_request,
    "reset in the request": reset_in_request,
    "reset before the answer": reset_before_answer,
    "reset in the answer": reset_in_answer,
    "end before the answer": ends_before_answer,
    "end in the answer's head": ends_in_head,
    "black hole": black_hole,
    "black hole after the request": black_hole_after_request,
    "slicer": slices,
    "slow drip": drips,
    "captive portal": says(page(200, PORTAL), keep=True),
    "captive portal that redirects": says(page(302, b"", "Location: http://127.0.0.1:9/login"), keep=True),
    "captive portal that wants a login": says(page(511, PORTAL), keep=True),
    "length too long": changes(_other_length(+7)),
    "length too short": changes(_other_length(-7), keep=True),
    "length of nothing": changes(_other_length(-(1 << 30)), keep=True),
    "length that is none": says(page(200, b"{}", "Content-Length: many")),
    "two lengths": says(page(200, b"{}", "Content-Length: 2", "Content-Length: 7")),
    "chunks that are none": says(page(200, b"zz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked")),
    "gzip, right": changes(_compressed(gzip.compress), keep=True),
    "gzip, cut": changes(_compressed(lambda body: gzip.compress(body)[:-9])),
    "gzip, garbage": changes(_compressed(lambda body: b"\x1f\x8b" + body)),
    "gzip, bomb": changes(_compressed(lambda _: BOMB)),
    "an encoding that nobody knows": changes(_compressed(lambda body: body[::-1], "rot13")),
    "wrong type: list": says(told([1, 2]), keep=True),
    "wrong type: null": says(told(None), keep=True),
    "wrong type: numbers as text": says(
        told({"entry_count": "3", "protocol": "1", "streams": "", "loglines": 3}), keep=True
    ),
    "wrong type: other fields": says(told({"entry_count": None, "protocol": None, "streams": [{}]}), keep=True),
    "wrong type: negative and huge": says(told({"entry_count": -(10**30), "protocol": 10**30}), keep=True),
    "wrong type: deep": says(page(200, b'{"protocol":' + b"[" * 100_000, kind="application/json"), keep=True),
    "wrong type: not UTF-8": says(page(200, b'{"entry_count":1,"x":"\xff\xfe"}', kind="application/json"), keep=True),
    "no content": says(b"HTTP/1.1 204 No Content\r\n\r\n", keep=True),
    "partial content": says(page(206, b"{}"), keep=True),
    "garbage before the status line": changes(lambda head, body: b"\x00\xffgarbage\r\n" + head + b"\r\n\r\n" + body),
    "garbage alone": says(b"\x16\x03\x01\x02\x00" * 500),
    "a status that is none": says(b"HTTP/1.1 2OO OK\r\nContent-Length: 2\r\n\r\n{}"),
    "a status of six digits": says(b"HTTP/1.1 200200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    "another protocol": says(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "answered twice": changes(lambda head, body: (head + b"\r\n\r\n" + body) * 2, keep=True),
    "some 1xx first": changes(lambda head, body: b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + head + b"\r\n\r\n" + body),
    "1xx without end": says_endlessly(lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)),
    "a header of a megabyte": says(b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 20) + b"\r\nContent-Length: 2\r\n\r\n{}"),
    "ten thousand headers": says(b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 10_000 + b"Content-Length: 2\r\n\r\n{}"),
    "headers without end": says_endlessly(
        lambda: itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X: y\r\n" * 99))
    ),
    "a body without end": says_endlessly(
        lambda: itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n{"], itertools.repeat(b" " * 65_536))
    ),
}
