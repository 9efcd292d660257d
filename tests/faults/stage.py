"""A receiver that can be killed and comes back, and what it holds against what lies on disk."""

import threading
import time
from pathlib import Path
from typing import NamedTuple, Self

from agent.core.transcripts.session import Head, StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, extend_chain, split_lines
from agent.core.wire import (
    Capabilities,
    RawReply,
    capabilities_request,
    head_request,
    parse_capabilities,
    session_path,
)
from tests.faults.fork_server import Child, ForkServer
from tests.faults.jobs import TOKEN
from tests.faults.scribe import addressable_lines, find_streams, whole_lines
from tests.receiver.harness import Client, head_of
from tests.reliability import Tally

READY_S = 20.0


class Stage:
    """One receiver process, child of a fork server, over one database."""

    def __init__(self, forks: ForkServer, data: Path) -> None:
        self.forks = forks
        self._data = data
        self._child: Child | None = None
        self.port = 0
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._child = self.forks.start("tests.faults.jobs:serve", data=str(self._data), port=self.port)
        deadline = time.monotonic() + READY_S
        never = threading.Event()
        while "receiver ready at" not in (said := self._child.said()):
            assert time.monotonic() < deadline, said
            never.wait(0.002)
        self.port = int(said.split("receiver ready at ")[1].split()[0].rpartition(":")[2])

    def kill(self) -> None:
        if self._child is not None:
            self.forks.kill(self._child)
            self._child = None

    def restart(self) -> None:
        self.kill()
        self.start()

    # --- what it holds --------------------------------------------------------------------------------------------

    def client(self) -> Client:
        return Client(self.port, TOKEN)

    def capabilities(self) -> Capabilities:
        with self.client() as client:
            answer = client.send(capabilities_request())
        found = parse_capabilities(RawReply(*answer))
        assert found is not None
        return found

    def head(self, stream: StreamId, generation: str | None) -> Head:
        with self.client() as client:
            return head_of(client.send(head_request(stream, generation)))


class Difference(NamedTuple):
    stream: StreamId
    expected: list[bytes]
    stored: list[bytes]

    def __str__(self) -> str:
        return f"{self.stream}: {len(self.expected)} lines here, {len(self.stored)} there"


def compare(stage: Stage, projects: Path, tally: Tally, *, base: bool = False, tried: int = 1) -> list[Difference]:
    """Notes what was tried, with the lines lost and repeated over all streams, and gives the streams that differ."""
    expected_all: list[bytes] = []
    stored_all: list[bytes] = []
    different = []
    with stage.client() as client:
        for stream, path in find_streams(projects).items():
            expected = _expected(stream, path, base=base)
            if not expected and not base:
                continue  # a rewrite killed half-way leaves nothing to send, so nobody asks what the server has
            answer = client.ask("GET", session_path(stream.session_id, "/entries", subpath=stream.subpath))
            stored = split_lines(answer.body) if answer.status == 200 else []
            chain = answer.headers.get("chain-hash", EMPTY_CHAIN.hex())
            if stored != expected or chain != extend_chain(EMPTY_CHAIN, expected).hex():
                different.append(Difference(stream, expected, stored))
                expected_all += expected
                stored_all += stored
    found = Tally("", "", "")
    found.note_lines(expected_all, stored_all)
    tally.note(tried, lost=found.lost, duplicated=found.duplicated)
    return different


def _expected(stream: StreamId, path: Path, *, base: bool) -> list[bytes]:
    if not base:
        return whole_lines(path)
    return [] if stream.subpath else addressable_lines(path)
