"""A real receiver process, and a client that speaks to it over one connection."""

import http.client
import json
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from agent.core.transcripts.session import Head, StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, extend_chain, split_lines
from agent.core.wire import Request, append_request, session_path

COMMAND = (sys.executable, "-c", "from agent.cli.receiver import receiver; receiver(prog_name='receiver')")
WRITER = "writer-of-this-run"
READER = "reader-of-this-run"
TIMEOUT_S = 30


class Answer(NamedTuple):
    """Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    def __init__(self, port: int, token: str | None = WRITER) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self._token = token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str | None) -> Answer:
        """Underscores in header names stand for dashes; None leaves a header out."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(Request(method, path, {n: v for n, v in named.items() if v is not None}), body)

    def send(self, request: Request, body: bytes | Iterable[bytes] | None = None) -> Answer:
        headers = dict(request.headers)
        if self._token is not None:
            headers.setdefault("Authorization", f"Bearer {self._token}")
        whole = body if body is not None else request.body
        self._connection.request(request.method, request.path, body=whole, headers=headers)  # type: ignore[arg-type]
        reply = self._connection.getresponse()
        names = {name.lower(): value for name, value in reply.getheaders()}
        return Answer(reply.status, names, reply.read())

    def append(self, stream: StreamId, head: Head, body: bytes, *, encoding: str | None = None) -> Answer:
        chain = bytes.fromhex(head.chain_hash) if head.chain_hash else EMPTY_CHAIN
        after = extend_chain(chain, split_lines(body))
        return self.send(append_request(stream, head, body, chain_after=after, encoding=encoding))

    def entries(self, stream: StreamId, **query: str | int | None) -> Answer:
        path = session_path(stream.session_id, "/entries", subpath=stream.subpath, **query)
        return self.ask("GET", path)


class Receiver:
    """`receiver serve` in a process of its own, on a free port. Ends with its stdin."""

    def __init__(self, data: Path, *arguments: str, stdin: str = f"{WRITER}\n{READER}\n") -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", "--data", str(data), "--token-stdin", "--until-eof", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(stdin)
        self.process.stdin.flush()
        self.ready = self.process.stdout.readline()
        self.port = int(self.ready.rpartition(":")[2] or 0)
        self.log = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def client(self, token: str | None = WRITER) -> Client:
        return Client(self.port, token)

    def stop(self) -> int:
        """Closes its stdin, waits, and gives the exit status; `log` is what it said on stderr."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            _, log = self.process.communicate(timeout=TIMEOUT_S)
            self.log += log
        return self.process.wait(TIMEOUT_S)

    def kill(self) -> None:
        self.process.kill()
        self.stop()


def fresh_stream(subpath: str = "") -> StreamId:
    return StreamId(str(uuid.uuid4()), subpath)


def fresh_head() -> Head:
    """What a writer believes of a stream that nobody wrote."""
    return Head(generation=str(uuid.uuid4()))


def head_of(answer: Answer) -> Head:
    return Head(**answer.json())


def line_of(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"
