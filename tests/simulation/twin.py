"""The model of a server and the real receiver, asked the same: each answer of one must be that of the other."""

import msgspec

from agent.core.transcripts.session import FILES, Head
from agent.core.wire import RawReply, Request, parse_loglines, parse_streams
from tests.fakes import AsgiServer, body_bytes
from tests.simulation.server import ModelServer


class Twin:
    """Answers as the model does."""

    def __init__(self, model: ModelServer, real: AsgiServer) -> None:
        self.model = model
        self.real = real
        self.asked = 0

    def send(self, request: Request) -> RawReply:
        frozen = Request(request.method, request.path, dict(request.headers), body_bytes(request) or None)
        there = self.real.send(frozen)
        if there.status == 201 and there.body:
            name = msgspec.json.decode(there.body, type=Head).generation
            self.model.new_uuid = lambda: str(name)
        here = self.model.send(frozen)
        told, expected = _told(frozen, here), _told(frozen, there)
        assert told == expected, f"{frozen.method} {frozen.path}: {told} instead of {expected}"
        self.asked += 1
        return here


def _told(request: Request, reply: RawReply) -> tuple[int, object]:
    """What an answer says, however it is written."""
    tail = request.path.partition("?")[0].rpartition("/")[2]
    if f"/{FILES}" in request.path:
        return (201 if reply.status == 204 else reply.status), reply.headers.get(
            "content-digest"
        )  # 204: it has that elsewhere
    if reply.status >= 400 and reply.status != 409:
        return reply.status, None
    if tail == "capabilities":
        return reply.status, None
    if tail == "streams":
        return reply.status, sorted(parse_streams(reply) or [], key=msgspec.json.encode)
    if tail == "entries" and request.method == "GET":
        return reply.status, reply.body
    if request.method == "GET" and tail not in ("head", "meta"):
        return reply.status, parse_loglines(reply)
    if request.method == "PUT" and reply.status == 409:
        return reply.status, reply.headers.get("x-last-uuid")
    return reply.status, msgspec.json.decode(reply.body) if reply.body else None
