"""One question to a server, and what its answer means."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from msgspec import structs

from agent.core.transcripts.session import Head
from agent.core.wire import (
    Accepted,
    Conflict,
    LongBody,
    NeedsLogin,
    RawReply,
    Reply,
    Request,
    Unavailable,
    decide_append_reply,
    parse_head,
)
from agent.delivery.privacy.permits import Permit
from agent.errors import KeyringError, LocalProtocolError, TokenNotReadable, Unauthorized, Unreachable

_T = TypeVar("_T")

_BROKEN = frozenset({500, 502, 503, 504})
"""Answers after which the same request may well be taken a moment later."""

_CREDIT = 0.25
"""What an answer earns of another try at once. So a server that is away gets none, and one that fails often hardly more
requests than it answers (a retry budget, as gRPC and Finagle have it)."""

_MOST_CREDIT = 5.0

_QUICK_S = 5.0
"""A failure that took longer is not tried again at once: whoever waits for it has waited enough."""


class Sender(Protocol):
    """`system.remote.Remote`, or a test's wire."""

    def send(self, request: Request) -> RawReply: ...


class Asker:
    """For any number of threads. `senders`: destination → the way to it; `now_s`: wall time, for Retry-After dates."""

    def __init__(self, senders: Mapping[str, Sender], now_s: Callable[[], float]) -> None:
        self._senders = senders
        self._now_s = now_s
        self._credit = dict.fromkeys(senders, 0.0)
        self._lock = threading.Lock()

    def ask(
        self,
        destination: str,
        request: Request,
        decide: Callable[[RawReply, float], Reply],
        permit: Permit | None,
        *,
        repeatable: bool = False,
    ) -> Reply:
        """`permit` None: for what concerns no session. `repeatable`: the server takes it once however often it comes.
        So it is sent once more where a connection broke among requests that were answered, and a conflict says that it
        may be with itself. Raises NotShared."""
        began_s = self._now_s()
        reply = self._ask(destination, request, decide, permit)
        if not isinstance(reply, Unavailable):
            self._earn(destination)
            return reply
        if not repeatable or not reply.repeatable or self._now_s() - began_s > _QUICK_S or not self._spend(destination):
            return reply
        reply = self._ask(destination, request, decide, permit)
        return structs.replace(reply, repeated=True) if isinstance(reply, Conflict) else reply

    def _earn(self, destination: str) -> None:
        with self._lock:
            self._credit[destination] = min(self._credit[destination] + _CREDIT, _MOST_CREDIT)

    def _spend(self, destination: str) -> bool:
        with self._lock:
            has_credit = self._credit[destination] >= 1
            self._credit[destination] -= has_credit
        return has_credit

    def _ask(
        self,
        destination: str,
        request: Request,
        decide: Callable[[RawReply, float], Reply],
        permit: Permit | None,
    ) -> Reply:
        if permit is not None:
            request = _under(permit, request)
        elif request.body is not None:
            raise LocalProtocolError("something would leave without a permit")
        try:
            raw = self._senders[destination].send(request)
            reply = decide(raw, self._now_s())
            if isinstance(reply, Unavailable) and raw.status in _BROKEN and reply.retry_after_s is None:
                return structs.replace(reply, repeatable=True)
            return reply
        except (Unauthorized, TokenNotReadable) as exc:
            return NeedsLogin(exc.message, exc.hint)
        except KeyringError as exc:
            return NeedsLogin(exc.message, exc.hint, later=True)
        except Unreachable as exc:
            return Unavailable(exc.message, everybody=True, repeatable=True)

    def fetch(
        self,
        destination: str,
        request: Request,
        parse: Callable[[RawReply], _T | None],
        permit: Permit | None,
    ) -> _T | Reply:
        """What `parse` finds in the answer; where it finds nothing, what the answer means."""
        found: list[_T] = []

        def decide(raw: RawReply, now_s: float) -> Reply:
            value = parse(raw)
            if value is None:
                return decide_append_reply(raw._replace(body=b""), now_s)
            found.append(value)
            return Accepted()

        reply = self.ask(destination, request, decide, permit, repeatable=True)
        return found[0] if found else reply


def _under(permit: Permit, request: Request) -> Request:
    """`request`, if it may leave now; a long one goes on only as long as it may."""
    permit.check()
    permit.used = True
    body = request.body
    if not isinstance(body, LongBody):
        return request
    return replace(request, body=LongBody(body.size, lambda: permit.passing(body.pieces())))


def read_head(raw: RawReply) -> Head | None:
    """The head in an answer to a question for it; that of nothing when the server does not know the stream."""
    if raw.status == 404:
        return Head()
    return parse_head(raw.body) if raw.status == 200 else None
