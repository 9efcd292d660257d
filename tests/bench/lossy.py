"""How much of its speed a client keeps on a line that loses one request in ten."""

import http.client
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.bench.agents import run_pass
from tests.bench.figures import Figure, at_least, median_ratio, spread
from tests.bench.workshop import Workshop

SHARE = 0.1
"""Of requests, by chance: closed before the server has them, closed before its answer is back, or answered with 503."""

_FAULTS = ("reset", "lost answer", "503")


class _Line(ThreadingHTTPServer):
    """Stands before a server and passes requests on, each connection with one of its own behind it."""

    daemon_threads = True

    def __init__(self, behind: str, share: float) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.behind = urlsplit(behind).netloc
        self.share = share
        self.lost = 0
        self._rng, self._lock = random.Random(5), threading.Lock()

    def draw_fault(self) -> str:
        with self._lock:
            if self._rng.random() >= self.share:
                return ""
            self.lost += 1
            return self._rng.choice(_FAULTS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error here."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Line

    def setup(self) -> None:
        super().setup()
        self._behind = http.client.HTTPConnection(self.server.behind, timeout=60)

    def finish(self) -> None:
        self._behind.close()
        super().finish()

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.draw_fault() if "/session/" in self.path else ""
        if fault == "reset":
            self.close_connection = True
            return
        if fault == "503":
            self._answer(503, {}, b"")
            return
        self._behind.request(self.command, self.path, body, dict(self.headers))
        answer = self._behind.getresponse()
        data = answer.read()
        if fault:
            self.close_connection = True
            return
        self._answer(answer.status, dict(answer.headers), data)

    do_GET = do_PUT = do_POST = _pass_on  # noqa: N815 - names that the library looks for

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """The bench says what it has to say itself."""


@contextmanager
def _line(behind: str, share: float) -> Iterator[_Line]:
    line = _Line(behind, share)
    thread = threading.Thread(target=line.serve_forever, daemon=True)
    thread.start()
    try:
        yield line
    finally:
        line.shutdown()
        line.server_close()
        thread.join(10)


def measure(shop: Workshop) -> list[Figure]:
    corpus = shop.backlog_tenth()
    figures = []
    for name, protocol in (("base", "ingress"), ("bulk", "auto")):
        well, ill, lost = list[float](), list[float](), 0
        for number in range(shop.rounds):
            for share, took in ((0.0, well), (SHARE, ill)):
                data = shop.fresh("data")
                with shop.our_server(data) as server, _line(server.url, share) as line:
                    url = f"http://127.0.0.1:{line.server_address[1]}"
                    took.append(run_pass(shop, shop.home(), url, corpus.root, protocol=protocol).seconds)
                    lost += line.lost
            shop.say(f"lossy {name} {number + 1}/{shop.rounds}: {well[-1]:.2f} s without, {ill[-1]:.2f} s with faults")
        note = f"{spread(ill, 's')} with {lost:,} faults, {spread(well, 's')} without; our own receiver"
        what = f"{name} protocol: speed at {SHARE:.0%} lost requests over none"
        figures.append(Figure(what, median_ratio(well, ill), "x", at_least(0.5), note))
    return figures
