"""One question to a server, and what its answer means."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from agent.core.session import Head
from agent.core.wire import (
    Accepted,
    LongBody,
    NeedsLogin,
    RawReply,
    Reply,
    Request,
    Unavailable,
    decide_append_reply,
    parse_head,
)
from agent.daemon.permits import Permit
from agent.errors import KeyringError, LocalProtocolError, TokenNotReadable, Unauthorized, Unreachable

_T = TypeVar("_T")


class Sender(Protocol):
    """`system.remote.Remote`, or a test's wire."""

    def send(self, request: Request) -> RawReply: ...


class Asker:
    """For any number of threads. `senders`: destination → the way to it; `now_s`: wall time, for Retry-After dates."""

    def __init__(self, senders: Mapping[str, Sender], now_s: Callable[[], float]) -> None:
        self._senders = senders
        self._now_s = now_s

    def ask(
        self,
        destination: str,
        request: Request,
        decide: Callable[[RawReply, float], Reply],
        permit: Permit | None,
    ) -> Reply:
        """`permit` None: for what concerns no session. Raises NotShared."""
        if permit is not None:
            request = _under(permit, request)
        elif request.body is not None:
            raise LocalProtocolError("something would leave without a permit")
        try:
            return decide(self._senders[destination].send(request), self._now_s())
        except (Unauthorized, TokenNotReadable) as exc:
            return NeedsLogin(exc.message, exc.hint)
        except KeyringError as exc:
            return NeedsLogin(exc.message, exc.hint, later=True)
        except Unreachable as exc:
            return Unavailable(exc.message, everybody=True)

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

        reply = self.ask(destination, request, decide, permit)
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
