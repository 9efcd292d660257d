"""Stand-ins for outside things, where the real one can't be steered: time, and servers that misbehave on purpose."""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from agent.core.privacy.rules import NO_GROUNDS, Grounds
from agent.core.wire import INGRESS, LongBody, RawReply, Request
from agent.delivery.privacy.permits import SHARED, RulesNow, Verdict
from agent.errors import Unreachable
from agent.receiver.app import build_app
from agent.receiver.blobs import Blobs
from agent.receiver.bodies import Limits
from agent.receiver.sqlite import SqliteStore


class FakeClock:
    """Wall and monotonic time that move only when told to."""

    def __init__(self, now_s: float = 1_767_600_000.0) -> None:
        self.wall_s = now_s
        self.mono_s = 1000.0

    def now_s(self) -> float:
        return self.wall_s

    def monotonic_s(self) -> float:
        return self.mono_s

    def advance(self, seconds: float) -> None:
        self.wall_s += seconds
        self.mono_s += seconds


def body_bytes(request: Request) -> bytes:
    if isinstance(request.body, LongBody):
        data = b"".join(request.body.pieces())
        assert len(data) == request.body.size
        return data
    return request.body or b""


def _body_size(request: Request) -> int:
    return request.body.size if isinstance(request.body, LongBody) else len(request.body or b"")


class AsgiServer:
    """Any ASGI application as a `Sender`, without a network between."""

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._token = token
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def send(self, request: Request) -> RawReply:
        return self._loop.run_until_complete(self._call(request, body_bytes(request), breaks=False))

    def send_part(self, request: Request, size: int) -> None:
        """As a connection that breaks after so many bytes of the body. What the server would have answered is lost."""
        self._loop.run_until_complete(self._call(request, body_bytes(request)[:size], breaks=True))

    async def _call(self, request: Request, body: bytes, *, breaks: bool) -> RawReply:
        parts = urlsplit(request.path)
        headers = {"host": "test", "authorization": f"Bearer {self._token}", "content-length": str(_body_size(request))}
        headers |= {name.lower(): value for name, value in request.headers.items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        sent: list[dict[str, Any]] = []
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked and breaks:
                return {"type": "http.disconnect"}
            if asked:
                await asyncio.Event().wait()  # the client stays; whoever listens for its going is cancelled
            asked = True
            return {"type": "http.request", "body": body, "more_body": breaks}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start = sent[0]
        answer = b"".join(message.get("body", b"") for message in sent[1:])
        return RawReply(start["status"], {k.decode().lower(): v.decode() for k, v in start["headers"]}, answer)


@contextmanager
def receiver_without_network(folder: Path, limits: Limits | None = None) -> Iterator[AsgiServer]:
    """The real receiver over a real store in `folder`."""
    token = "tsd_of_a_test"
    store = SqliteStore(folder / "receiver.sqlite3")
    server = AsgiServer(build_app(store, blobs=Blobs(folder / "files"), limits=limits, extra_token=token), token)
    try:
        yield server
    finally:
        server.close()
        store.close()


class StrictBaseServer:
    """Speaks the base protocol and nothing else, to the letter: one entry a PUT, its predecessor named or refused.

    `tells_head` False leaves out `x-last-uuid`, as some servers do.
    """

    def __init__(self, *, tells_head: bool = True) -> None:
        self.sessions: dict[str, list[bytes]] = {}
        self.tells_head = tells_head
        self.requests: list[Request] = []

    def send(self, request: Request) -> RawReply:
        self.requests.append(request)
        path = urlsplit(request.path).path
        prefix = f"{INGRESS}/session/"
        if not path.startswith(prefix) or "/" in path[len(prefix) :]:
            return RawReply(404, {"content-type": "application/json"}, b"{}")
        session = unquote(path[len(prefix) :])
        if request.method == "GET":
            if session not in self.sessions:
                return RawReply(404, {}, b"")
            lines = [json.loads(line) for line in self.sessions[session]]
            return RawReply(200, {}, json.dumps({"loglines": lines}).encode())
        if request.method != "PUT":
            return RawReply(405, {}, b"")
        return self._put(session, request)

    def _put(self, session: str, request: Request) -> RawReply:
        line = body_bytes(request)
        stored = self.sessions.get(session, [])
        last = self.last_uuid(session)
        if request.headers.get("Last-Uuid") != last:
            headers = {"x-last-uuid": last} if self.tells_head and last else {}
            return RawReply(409, headers, b"{}")
        assert json.loads(line)["uuid"]
        self.sessions[session] = [*stored, line]
        return RawReply(201, {"content-type": "application/json"}, b"{}")

    def last_uuid(self, session: str) -> str | None:
        stored = self.sessions.get(session)
        return str(json.loads(stored[-1])["uuid"]) if stored else None


class ScriptedServer:
    """Lets a function answer in a server's place; None passes the request on."""

    def __init__(self, behind: Any, script: Callable[[Request], RawReply | None]) -> None:
        self.behind = behind
        self.script = script
        self.requests: list[Request] = []

    def send(self, request: Request) -> RawReply:
        self.requests.append(request)
        answer = self.script(request)
        if answer is None:
            answered: RawReply = self.behind.send(request)
            return answered
        return answer


def reply(status: int, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> RawReply:
    return RawReply(status, dict(headers or {}), body)


def no_answer() -> RawReply:
    raise Unreachable("test can't be reached: no connection")


class FakeRules:
    """A private list in memory: sessions, folders, and whether it can be read."""

    def __init__(self, *sessions: str, folders: Iterable[str] = (), blind: str = "") -> None:
        self.sessions = set(sessions)
        self.folders = set(folders)
        self.blind = blind

    def now(self) -> RulesNow:
        digest = repr((sorted(self.sessions), sorted(self.folders), self.blind))
        return RulesNow(digest, frozenset(self.sessions), "\n".join(sorted(self.folders)), self.blind)

    def judge(
        self, rules: RulesNow, session_id: str, project: str, folders: frozenset[str], grounds: Grounds = NO_GROUNDS
    ) -> Verdict:
        private = frozenset(filter(None, rules.folders.split("\n")))
        if rules.blind:
            return Verdict(rules.blind, certain=False)
        if session_id in rules.sessions or folders & private:
            return Verdict("it is on the list")
        if private and not project:
            return Verdict("its project is not known yet", certain=False)
        return SHARED
