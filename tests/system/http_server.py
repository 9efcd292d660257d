"""Real servers on loopback that answer exactly what a test says, down to the byte."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Seen:
    """One request as it came. `connection` counts from 0; header names are lower case."""

    connection: int
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Server:
    url: str
    port: int
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the test is over; what waits on it ends then."""

    def one(self) -> Seen:
        (only,) = self.seen
        return only


Answer = Callable[[socket.socket, Seen], bool]
"""Writes an answer; True keeps the connection for another request."""


def plain(status: str = "200 OK", body: bytes = b"{}", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def sends(data: bytes, *, keep: bool = True) -> Answer:
    def answer(connection: socket.socket, _: Seen) -> bool:
        connection.sendall(data)
        return keep

    return answer


def resets(data: bytes = b"") -> Answer:
    """Sends `data`, then breaks the connection with RST instead of ending it."""

    def answer(connection: socket.socket, _: Seen) -> bool:
        if data:
            connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return answer


@contextlib.contextmanager
def serving(answer: Answer, *, tls: ssl.SSLContext | None = None, reads_body: bool = True) -> Iterator[Server]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Server(f"{'https' if tls else 'http'}://127.0.0.1:{port}", port)
    open_now: set[socket.socket] = set()
    threads = []

    def serve(connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(20)
            wrapped = tls.wrap_socket(connection, server_side=True) if tls else connection
            with wrapped, wrapped.makefile("rb", buffering=0) as reader:
                while (request := _read_head(reader, number)) is not None:
                    server.seen.append(request)
                    if reads_body:
                        request.body = _read_whole(reader, int(request.headers.get("content-length", "0")))
                    if not answer(wrapped, request):
                        return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_now.add(connection)
            thread = threading.Thread(target=serve, args=(connection, server.connections))
            server.connections += 1
            threads.append(thread)
            thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield server
    finally:
        server.ended.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for one in open_now:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def _read_whole(reader: socket.SocketIO, count: int) -> bytes:
    parts = []
    while count and (data := reader.read(min(count, 1 << 20))):
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def _read_head(reader: socket.SocketIO, number: int) -> Seen | None:
    """Byte by byte, so that a body stays in the socket for whoever wants to read it slowly."""
    first = reader.readline(65_536).decode("latin-1").split()
    if len(first) != 3:
        return None
    headers = {}
    while (line := reader.readline(65_536).decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Seen(number, first[0], first[1], headers)
