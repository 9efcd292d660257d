"""The way to a server, and all that can go wrong on it."""

import random
from collections.abc import Callable
from hashlib import sha256
from typing import Protocol
from urllib.parse import unquote

from agent.core.transcripts.session import StreamId, is_side_file
from agent.core.wire import RawReply, Request
from agent.errors import Unreachable
from tests.fakes import body_bytes
from tests.simulation.server import decode, parse_target

FAULTS = ("lost", "lost answer", "late", "twice", "status", "portal", "twice later", "cut answer")
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which the agent comes back by itself."""

HARSH = tuple(status for status in range(400, 600) if status not in (*PASSING, 409))
"""Statuses that may stop a stream or a destination until somebody says `retry`."""

RETRY_AFTER = ("3", "0", "7200", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 2100 23:59:59 GMT", "1e9")


class Server(Protocol):
    def send(self, request: Request) -> RawReply: ...


class Crash(BaseException):
    """The process ends here, whatever it was doing."""


class Wire:
    """Carries requests to a server, and with chance does what networks do. A late request arrives after the client
    has given it up, in any order with those that follow; it may also arrive twice.

    `trouble`: how often something goes wrong, 0 to 1. `harsh`: statuses that stop things are among it. `between` is
    called where the world may go on meanwhile; it may raise `Crash`.
    """

    def __init__(
        self,
        server: Server,
        rng: random.Random,
        log: Callable[[str], None],
        between: Callable[[], None] = lambda: None,
        leaves: Callable[[Request], None] = lambda _: None,
    ) -> None:
        """`leaves` is called with each request before anything happens to it."""
        self.server = server
        self._rng = rng
        self._log = log
        self._between = between
        self._leaves = leaves
        self._late: list[Request] = []
        self._on_way: set[StreamId] = set()
        self.sent = 0
        """How many requests were sent."""
        self.trouble = 0.0
        self.harsh = False
        self.is_cut = False
        self.is_locked = False
        """Whether the server takes no token."""
        self.stopped = False
        """Whether an answer was given that somebody has to say `retry` after."""
        self.fell_back = False
        """Whether a bulk server may have looked like one of the base protocol for a while."""
        self.refused: set[tuple[str, int]] = set()
        """SHA-256 and status of entries that were refused when they travelled alone: these may become tombstones."""
        self.deleted: set[StreamId] = set()
        """Streams that a 410 was given for, since the last start of the agent and ever."""
        self.told_deleted: set[StreamId] = set()
        self.ever_deleted: set[str] = set()
        """Sessions that somebody asked the server to delete."""
        self.overtaken: set[StreamId] = set()
        """Side files of which an older content came late, behind a newer one: the last write wins, whoever wrote it."""
        self._newest: dict[StreamId, str] = {}

    def user_wants_back(self, session_id: str) -> None:
        """A server that offers nothing to undo a deletion with gets it as it is."""
        self.told_deleted = {one for one in self.told_deleted if one.session_id != session_id}

    def send(self, request: Request) -> RawReply:
        self.sent += 1
        self._leaves(request)
        if request.method == "DELETE" and (target := parse_target(request.path)):
            self.ever_deleted.add(target.session)
        stream = _written_stream(request)
        if stream is None:
            answer = self._send(request)
            if answer.status == 410 and (target := parse_target(request.path)):
                self.deleted.add(target.stream)
            if request.path.endswith("/restore") and answer.status == 204:
                self.told_deleted = {one for one in self.told_deleted if f"/{one.session_id}/" not in request.path}
            return answer
        assert stream not in self._on_way, f"two requests in flight for {stream}"
        assert stream not in self.told_deleted, f"{stream} was deleted on the server, and is sent again"
        self._on_way.add(stream)
        try:
            answer = self._send(request)
        finally:
            self._on_way.discard(stream)
        self._note(stream, request, answer.status)
        return answer

    def _send(self, request: Request) -> RawReply:
        self._between()
        self._deliver_late()
        fault = self._draw_fault()
        if fault is None:
            answer = self._arrive(request)
            self._log(f"{request.method} {request.path} {answer.status}")
        else:
            self._log(f"{request.method} {request.path} {fault}")
            answer = self._break(request, fault)
        self._between()
        if 400 <= answer.status < 500 and answer.status not in (408, 409, 425, 429):
            self.stopped = True
        return answer

    def _arrive(self, request: Request, *, late: bool = False) -> RawReply:
        answer = self.server.send(request)
        stream = _written_stream(request)
        if stream is not None and is_side_file(stream.subpath) and request.method == "PUT" and answer.status < 300:
            digest = request.headers["Content-Digest"]
            if not late:
                self._newest[stream] = digest
                self.overtaken.discard(stream)
            elif self._newest.get(stream, digest) != digest:
                self.overtaken.add(stream)
        return answer

    def _draw_fault(self) -> str | None:
        if self.is_cut:
            return "lost"
        if self.is_locked:
            return "locked"
        if self.trouble == 0 or self._rng.random() >= self.trouble:
            return None
        if self.harsh and self._rng.random() < 0.2:
            return "harsh"
        return self._rng.choice(FAULTS)

    def _break(self, request: Request, fault: str) -> RawReply:
        match fault:
            case "lost answer":
                self._arrive(request)
            case "late":
                self._late.append(_frozen(request))
            case "twice later":
                self._late.append(_frozen(request))
                return self._arrive(request)
            case "twice":
                self._arrive(request)
                return self._arrive(request)
            case "cut answer":
                answer = self._arrive(request)
                return answer._replace(body=answer.body[: len(answer.body) // 2])
            case "status":
                headers = {"retry-after": self._rng.choice(RETRY_AFTER)} if self._rng.random() < 0.3 else {}
                return RawReply(self._rng.choice(PASSING), headers, b"{}")
            case "harsh":
                self.fell_back = self.fell_back or request.path.endswith("/capabilities")
                return RawReply(self._rng.choice(HARSH), {}, b"{}")
            case "locked":
                return RawReply(401, {}, b"{}")
            case "portal":
                return RawReply(self._rng.choice((200, 302)), {"content-type": "text/html"}, b"<html>log in</html>")
        raise Unreachable("test: no answer")

    def send_late(self, request: Request) -> None:
        """The request is under way when its sender ends."""
        self._late.append(_frozen(request))

    def _deliver_late(self) -> None:
        while self._late and self._rng.random() < 0.5:
            self._arrive(self._late.pop(self._rng.randrange(len(self._late))), late=True)

    def deliver_all_late(self) -> None:
        while self._late:
            self._arrive(self._late.pop(), late=True)

    def _note(self, stream: StreamId, request: Request, status: int) -> None:
        if status == 410:
            self.deleted.add(stream)
            self.told_deleted.add(stream)
        elif status in (400, 413, 422) and "/generations" not in request.path and not is_side_file(stream.subpath):
            body = decode(body_bytes(request), request.headers.get("Content-Encoding"))
            line = body.removesuffix(b"\n")
            if b"\n" not in line:
                self.refused.add((sha256(line).hexdigest(), status))


def _written_stream(request: Request) -> StreamId | None:
    """The stream that a request adds entries to, or a history; or the side file that it brings or asks for."""
    target = parse_target(request.path)
    if target is not None and request.method in ("PUT", "HEAD") and is_side_file(target.tail):
        return StreamId(target.session, unquote(target.tail))
    if target is not None and (request.method, target.tail) in {
        ("PUT", ""),
        ("POST", "entries"),
        ("POST", "generations"),
    }:
        return target.stream
    return None


def _frozen(request: Request) -> Request:
    """What was on the way, whatever becomes of the file."""
    return Request(request.method, request.path, dict(request.headers), body_bytes(request))
