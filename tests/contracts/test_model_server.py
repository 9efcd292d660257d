"""The model of a server beside the real receiver: whatever is asked of both, both say the same."""

import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.transcripts.session import Head, StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN
from agent.core.wire import (
    BulkOffer,
    Capabilities,
    Meta,
    Request,
    append_request,
    capabilities_request,
    delete_request,
    generation_request,
    head_request,
    loglines_request,
    meta_request,
    parse_capabilities,
    put_entry_request,
    restore_request,
    session_path,
    streams_request,
)
from agent.receiver.bodies import Limits
from tests.fakes import AsgiServer, receiver_without_network
from tests.simulation.server import ModelServer
from tests.simulation.transcripts import Writer
from tests.simulation.twin import Twin

LIMITS = Limits(max_bytes=2000, max_entries=6, max_entry_bytes=3000)
STREAMS = (StreamId("s", ""), StreamId("s", "subagents/agent-a"), StreamId("t", ""))
STEPS = 60


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Twin]:
    with receiver_without_network(tmp_path, LIMITS) as real:
        if not _offer(real).generations:
            pytest.skip("this receiver has no generations yet")
        offer = BulkOffer(LIMITS.max_bytes, LIMITS.max_entries, ("zstd", "gzip"))
        yield Twin(ModelServer(bulk=offer, max_entry_bytes=LIMITS.max_entry_bytes), real)


def _offer(real: AsgiServer) -> Capabilities:
    found = parse_capabilities(real.send(capabilities_request()))
    assert found is not None
    return found


class Client:
    """Asks for something that makes sense, or nearly."""

    def __init__(self, seed: int, model: ModelServer) -> None:
        self._rng = random.Random(seed)
        self._model = model
        self._writer = Writer(self._rng, unique=False, long=True)
        self._names = [self._uuid() for _ in range(3)]
        self._sent: list[Request] = []

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def next_request(self) -> Request:
        rng, stream = self._rng, self._rng.choice(STREAMS)
        made = rng.choice(
            (
                self._append,
                self._append,
                self._append,
                self._append,
                self._generation,
                self._put,
                self._look,
                self._again,
                self._delete_or_restore,
            )
        )(stream)
        self._sent.append(made)
        return made

    def _head(self, stream: StreamId) -> Head:
        """That of some generation, and sometimes not quite."""
        names = list(self._model.names(stream)) or [self._rng.choice(self._names)]
        name = self._rng.choice(names)
        known = self._model.generation(stream, name)
        head = known.head() if known else Head(None, 0, name, EMPTY_CHAIN.hex())
        match self._rng.randrange(12):
            case 0:
                return Head("wrong", head.entry_count, head.generation)
            case 1:
                return Head(head.last_uuid, head.entry_count + 1, head.generation)
            case 2:
                return Head(head.last_uuid, head.entry_count, self._rng.choice(self._names))
            case 3:
                return Head(None, 0, self._rng.choice(self._names))
        return head

    def _append(self, stream: StreamId) -> Request:
        rng = self._rng
        body = self._writer.lines(stream.session_id, rng.randrange(1, 9))
        if rng.random() < 0.1:
            body = rng.choice((body[:-1], b"", b"\n\n\n"))
        made = append_request(
            stream,
            self._head(stream),
            body,
            chain_after=rng.randbytes(32),
            encoding=rng.choice((None, None, "zstd", "gzip")),
        )
        if rng.random() < 0.05:
            return Request(made.method, made.path, {**made.headers, "Content-Encoding": "gzip"}, b"no gzip")
        return made

    def _generation(self, stream: StreamId) -> Request:
        parent = self._rng.choice([*self._model.names(stream), self._rng.choice(self._names), None])
        shared = self._rng.randrange(8) if parent else self._rng.choice((0, 0, 1))
        return generation_request(stream, self._rng.choice((*self._names, self._uuid())), parent, shared)

    def _put(self, stream: StreamId) -> Request:
        line = self._writer.lines(stream.session_id, 1)[:-1]
        last = self._model.head(stream._replace(subpath="")).last_uuid
        if self._rng.random() < 0.2:
            last = self._rng.choice((None, "wrong"))
        if self._rng.random() < 0.1:
            line = b'{"uuid":"%s"}' % (last or "x").encode()  # an entry that is the head already
        return put_entry_request(stream.session_id, last, line)

    def _delete_or_restore(self, stream: StreamId) -> Request:
        """Rarely, and mostly ended soon: a deleted session has little to tell."""
        if self._rng.random() < 0.3:
            return delete_request(stream.session_id)
        return restore_request(self._rng.choice((*sorted(self._model.deleted), stream.session_id)))

    def _look(self, stream: StreamId) -> Request:
        rng = self._rng
        name = rng.choice((None, *self._names, *self._model.names(stream)))
        return rng.choice(
            (
                head_request(stream),
                head_request(stream, name, rng.choice((None, 0, 1, 3, 99))),
                streams_request(stream.session_id),
                loglines_request(stream.session_id, max_reply_bytes=1 << 20),
                meta_request(stream.session_id, Meta("claude", "/p", f"title {rng.randrange(9)}")),
                Request("GET", session_path(stream.session_id, "/meta")),
                Request(
                    "GET",
                    session_path(
                        stream.session_id,
                        "/entries",
                        subpath=stream.subpath,
                        generation=name,
                        after=rng.randrange(4),
                        limit=rng.randrange(1, 9),
                    ),
                ),
            )
        )

    def _again(self, stream: StreamId) -> Request:
        """What arrives twice, or late."""
        return self._rng.choice(self._sent[-6:]) if self._sent else self._append(stream)


@pytest.mark.parametrize("seed", range(60))
def test_both_say_the_same(seed: int, twin: Twin) -> None:
    client = Client(seed, twin.model)
    for _ in range(STEPS):
        twin.send(client.next_request())
    for stream in STREAMS:
        twin.send(streams_request(stream.session_id))
        for name in twin.model.names(stream):
            path = session_path(stream.session_id, "/entries", subpath=stream.subpath, generation=name)
            twin.send(Request("GET", path))


def test_unknown_sessions_are_told_alike(twin: Twin) -> None:
    for request in (
        streams_request("nobody"),
        loglines_request("nobody", max_reply_bytes=1 << 20),
        head_request(StreamId("nobody", "")),
        head_request(StreamId("nobody", ""), str(uuid.uuid4())),
        Request("GET", session_path("nobody", "/meta")),
        Request("GET", session_path("nobody", "/entries")),
        Request("GET", session_path("nobody", "/elsewhere")),
    ):
        twin.send(request)
