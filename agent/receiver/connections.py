"""Connections before and after a token was shown: what their heads may be, how long they may take, how many there are.

uvicorn parses HTTP and runs the application; it bounds neither a head nor its time, and its `limit_concurrency`
answers 503 to those who are in as well. What it lacks is here.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from agent.core.wire import PROBLEM
from agent.receiver.problems import render_problem

URL_BYTES = 12 << 10
"""Above what the longest names take with every byte percent-encoded: 3 × (256 + 1024 + 1024), and a cursor."""

HEAD_BYTES = 32 << 10
"""All header lines of a request together. A browser sends a page on localhost the cookies of every other one there."""

HEADERS = 100
_PIPELINED = 16
"""Requests that wait behind the one that is answered. Each takes a hundred times the memory that it came in."""

_NEWCOMERS = 32
"""Places for those who have not shown a token yet, even when all others are taken."""

_DRAIN_S = 75.0
"""How long an answered request may take to send the rest of a body that nobody reads."""

_STALL_S = 300.0
"""How long a client may take nothing of an answer that waits for it."""

_LINGER_S = 2.0
"""How long a refused client gets to read why: closing while it still sends would throw the answer away."""

_SHOWN = "token_shown"


@dataclass(frozen=True, slots=True)
class Bounds:
    """`connections`: how many that showed a token there may be. `head_s`: how long a request's head may take, from a
    connection's beginning or the head's first byte."""

    connections: int = 1000
    head_s: float = 20.0


def admit(request: Request) -> bool:
    """Tells the connection of `request` that a token in use was shown on it; False when there is no place for it."""
    shown: Callable[[], bool] | None = request.scope.get("state", {}).get(_SHOWN)
    return shown is None or shown()


class Door:
    """Who is connected. Strangers have shown no token; they make room for each other, the longest there first, so
    nobody can hold all places by only connecting."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._strangers: dict[Connection, None] = {}
        self._known: set[Connection] = set()

    def enter(self, connection: "Connection") -> None:
        self._strangers[connection] = None
        if len(self._strangers) + len(self._known) > self.bounds.connections + _NEWCOMERS:
            next(iter(self._strangers)).abort()

    def leave(self, connection: "Connection") -> None:
        self._strangers.pop(connection, None)
        self._known.discard(connection)

    def know(self, connection: "Connection") -> bool:
        if connection in self._strangers and len(self._known) < self.bounds.connections:
            del self._strangers[connection]
            self._known.add(connection)
        return connection in self._known


class BoundedConfig(uvicorn.Config):
    def __init__(self, app: ASGIApp, bounds: Bounds, **options: Any) -> None:
        # What strangers send must not fill a log: below an error uvicorn writes a line for whatever is not HTTP.
        super().__init__(app, http=Connection, ws="none", log_config=None, log_level="error", **options)
        self.door = Door(bounds)


class _TooMuchError(Exception):
    """Ends the parser's run over what came; never leaves this module."""


class Connection(HttpToolsProtocol):
    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(config, BoundedConfig)  # noqa: S101 - it names this class
        self._door = config.door
        self._head_s = config.door.bounds.head_s
        self._over = False
        self._began = self._in_head = False
        self._idle = True
        self._unparsed_bytes = self._head_bytes = self._head_lines = 0
        self._refusal: tuple[int, str] | None = None
        self._due: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    # --- its life ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # whatever waits for the client is seen to wait
        self._expect(self._head_s)
        self._door.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.leave(self)
        self._expect(None)
        self.resume_writing()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Ends it at once, whatever waits."""
        self._over = True
        self.transport.abort()

    def _refuse(self, status: int, detail: str) -> None:
        """Answers, and reads nothing any more. An answer that is under way is cut short."""
        self._over = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
            return
        answer = render_problem(status, detail)
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {PROBLEM}\r\nConnection: close\r\n"
        head = f"{head}Content-Length: {len(answer.body)}\r\n\r\n"
        self.transport.write(head.encode() + bytes(answer.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._expect(_LINGER_S)

    def _expect(self, within_s: float | None) -> None:
        """Gives the client so long for what it owes; None: it owes nothing."""
        if self._due is not None:
            self._due.cancel()
        self._due = self.loop.call_later(within_s, self._late) if within_s is not None else None

    def _late(self) -> None:
        self._due = None
        if self._over:
            self.transport.abort()
        elif self.cycle is not None and not self.cycle.response_complete:
            self._expect(self._head_s)  # it sent ahead, and now waits for us
        elif self._in_head:
            self._refuse(408, f"the head of a request comes within {self._head_s:g} s")
        else:
            self.transport.abort()

    # --- what comes -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._began = False
        super().data_received(data)
        if self._over:
            return
        if self._in_head and not self._began:
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > URL_BYTES + HEAD_BYTES + HEADERS * len(": \r\n"):  # one line that does not end
                self._refuse(*_HEAD_TOO_LARGE)
        elif self._idle and self._due is None:  # nothing that is part of a request
            self._expect(self._head_s)

    def send_400_response(self, msg: str) -> None:
        self._refuse(*(self._refusal or (400, "this is not HTTP")))

    def _check(self, within: bool, refusal: tuple[int, str]) -> None:
        if not within:
            self._refusal = refusal
            raise _TooMuchError

    def on_message_begin(self) -> None:
        self._began = self._in_head = True
        self._idle = False
        self._unparsed_bytes = self._head_bytes = self._head_lines = 0
        self._check(len(self.pipeline) < _PIPELINED, (400, f"at most {_PIPELINED} requests ahead of their answers"))
        self._expect(self._head_s)
        super().on_message_begin()
        self.scope["state"][_SHOWN] = lambda: self._door.know(self)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._check(len(self.url) <= URL_BYTES, _URL_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Also for the trailers of a chunked body, which nothing reads."""
        self._head_lines += 1
        self._head_bytes += len(name) + len(value)
        self._check(self._head_lines <= HEADERS and self._head_bytes <= HEAD_BYTES, _HEAD_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._expect(None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._idle = True
        self._expect(self.timeout_keep_alive if self.cycle.response_complete else None)
        super().on_message_complete()

    # --- what leaves ------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        last = not self.pipeline
        super().on_response_complete()
        if last and not self._idle and not self._in_head and not self.transport.is_closing():
            self._expect(_DRAIN_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(_STALL_S, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


_URL_TOO_LONG = (414, f"at most {URL_BYTES} bytes of path and query")
_HEAD_TOO_LARGE = (431, f"at most {HEADERS} headers, and {HEAD_BYTES} bytes of them")
