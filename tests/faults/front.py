"""A real HTTP server on loopback before a server without a network: what a script answers goes out byte by byte, all
else is passed on."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from agent.core.wire import RawReply, Request

Headers = Sequence[tuple[str, str]]
Script = Callable[[Request], "tuple[int, Headers, bytes] | None"]
"""An answer, headers as often as they are named; None passes the request on."""


class Behind(Protocol):
    def send(self, request: Request) -> RawReply: ...


class Front:
    """`behind` and `script` may be changed at any time between requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.behind: Behind | None = None
        self.script: Script = lambda _: None
        self.requests: list[Request] = []
        self._lock = threading.Lock()

    def answer(self, request: Request) -> tuple[int, Headers, bytes]:
        with self._lock:
            self.requests.append(request)
            scripted = self.script(request)
            if scripted is not None:
                return scripted
            assert self.behind is not None
            found = self.behind.send(request)
            return found.status, list(found.headers.items()), found.body


@contextmanager
def fronting() -> Iterator[Front]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            status, headers, answer = front.answer(Request(self.command, self.path, dict(self.headers), body))
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST = do_DELETE = serve  # noqa: N815 - as the library looks for them

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: a test says itself what it wants to be read."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    front = Front(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
