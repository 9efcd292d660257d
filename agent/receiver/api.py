"""The endpoints over a store: each takes a request and its caller's owner, and gives a response."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from agent.core.transcripts.session import Head, StreamId
from agent.core.wire import JSON, NDJSON, BulkOffer, Capabilities, Meta, StreamList
from agent.errors import UsageError
from agent.receiver import parameters, views
from agent.receiver.auth import Auth, Caller, parse_bearer
from agent.receiver.bodies import ENCODINGS, Intake, Limits, receive, receive_small
from agent.receiver.connections import admit
from agent.receiver.files import FileApi
from agent.receiver.openapi import describe_api
from agent.receiver.problems import bad_request
from agent.receiver.store import EVERYBODY, Moved, Reading, Scope, Store, Stored

Endpoint = Callable[[Request], Awaitable[Response]]
OwnedEndpoint = Callable[[Request, str], Awaitable[Response]]
_T = TypeVar("_T")

_WRITERS = 4
"""Threads that write. The store writes one batch at a time; the others decode meanwhile, and readers keep theirs."""

_META_BYTES = 64 << 10
_GENERATION_BYTES = 4096
_META_TEXT_CHARS = 4096
_EVENTS = 1000
_SESSIONS = 1000
_ALL = 10**18
_PROBE_S = 1.0
_PRIVATE = {"Cache-Control": "no-store"}


def render_json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, _PRIVATE, JSON)


class Api:
    def __init__(self, store: Store, auth: Auth, limits: Limits, files: FileApi | None) -> None:
        self._store = store
        self._files = files
        self._auth = auth
        self._limits = limits
        self._writers = ThreadPoolExecutor(_WRITERS, "write")
        self._probed_at_s = float("-inf")

    def close(self) -> None:
        self._writers.shutdown()

    def guarded(self, scope: Scope, endpoint: OwnedEndpoint) -> Endpoint:
        """The endpoint for those who may: 401 for strangers, 403 for readers who would write."""

        async def answer(request: Request) -> Response:
            caller = await self._admit(request)
            if scope == "write" and caller.scope != "write":
                raise HTTPException(403, "this token may only read")
            try:
                return await endpoint(request, _whose(request, caller, scope))
            except ClientDisconnect:
                return Response(status_code=400)  # nobody reads it, and nothing was kept

        return answer

    async def _admit(self, request: Request) -> Caller:
        caller = await self._caller(request)
        if caller is None:
            challenge = {"WWW-Authenticate": 'Bearer realm="transcriptd"'}
            raise HTTPException(401, "Authorization: Bearer and a token that is in use", challenge)
        if not admit(request):
            raise HTTPException(503, "every connection is taken", {"Retry-After": "5", "Connection": "close"})
        return caller

    async def _caller(self, request: Request) -> Caller | None:
        token_sha256 = parse_bearer(request.headers.get("authorization"))
        if token_sha256 is None:
            return None
        found = self._auth.find_run_caller(token_sha256)
        return found or await run_in_threadpool(self._auth.find_caller, token_sha256)

    async def _write(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writers, work)

    # --- base protocol ----------------------------------------------------------------------------------------

    async def put_entry(self, request: Request, owner: str) -> Response:
        session_id = parameters.parse_session_id(request)
        last_uuid = parameters.parse_last_uuid(request)
        with self._intake(request, lines=False) as intake:
            rest = await receive(request, intake)

            def work() -> Stored | Moved:
                intake.feed(rest)
                body, uuid = intake.entry()
                return self._store.put(owner, session_id, last_uuid, uuid, body)

            done = await self._write(work)
        headers = {"x-last-uuid": done.head.last_uuid} if done.head.last_uuid else None
        if isinstance(done, Moved):
            raise HTTPException(409, "the session ends with another entry than Last-Uuid says", headers)
        return Response(msgspec.json.encode(done.head), 201, headers, JSON)

    async def get_loglines(self, request: Request, owner: str) -> Response:
        stream = parameters.parse_stream(request)._replace(subpath="")
        compacted = parameters.parse_flag(request, "after_last_compact")
        reading = await run_in_threadpool(self._store.read, owner, stream)
        if reading is None:
            if not await run_in_threadpool(self._store.has_session, owner, stream.session_id):
                raise HTTPException(404, "no such session")
            return render_json({"loglines": []})
        after = max(0, reading.last_compaction - 1) if compacted else 0
        return _streamed(views.stream_loglines(reading, after), JSON)

    async def get_events(self, request: Request, owner: str) -> Response:
        stream = parameters.parse_stream(request)._replace(subpath="")
        limit = min(_EVENTS, parameters.parse_number(request, "limit", _EVENTS, least=1))
        generation, after = parameters.parse_events_cursor(request)
        reading = await self._reading(owner, stream, generation)
        return _streamed(views.stream_events(stream.session_id, reading, after, limit), JSON)

    # --- bulk extension ---------------------------------------------------------------------------------------

    async def get_capabilities(self, _request: Request, _owner: str) -> Response:
        offer = BulkOffer(self._limits.max_bytes, self._limits.max_entries, ENCODINGS)
        return render_json(
            Capabilities(
                bulk=offer,
                generations=True,
                files=self._files is not None,
                delete=True,
                sessions=True,
                max_entry_bytes=self._limits.max_entry_bytes,
            )
        )

    async def append(self, request: Request, owner: str) -> Response:
        stream = parameters.parse_stream(request)
        guard, batch_id = parameters.parse_guard(request)
        with self._intake(request, lines=True) as intake:
            rest = await receive(request, intake)

            def work() -> Stored | Moved:
                intake.feed(rest)
                return self._store.append(owner, stream, guard, batch_id, intake.batch())

            done = await self._write(work)
        return render_json(done.head, 200 if isinstance(done, Stored) else 409)

    async def post_generation(self, request: Request, owner: str) -> Response:
        stream = parameters.parse_stream(request)
        new = parameters.parse_new_generation(await receive_small(request, _GENERATION_BYTES))
        done = await self._write(lambda: self._store.begin_generation(owner, stream, new))
        return render_json(done.head, 201 if isinstance(done, Stored) else 409)

    def _intake(self, request: Request, *, lines: bool) -> Intake:
        return Intake(self._limits, request.headers.get("content-encoding"), lines=lines)

    async def get_head(self, request: Request, owner: str) -> Response:
        stream = parameters.parse_stream(request)
        generation, entries = parameters.parse_generation(request), parameters.parse_entry_count(request)
        if generation is None and entries is None:
            return render_json(await run_in_threadpool(self._store.head, owner, stream))
        head = await run_in_threadpool(self._store.head_at, owner, stream, generation, entries)
        if head is None:
            raise HTTPException(404, "no such generation, or it has fewer entries")
        return render_json(head)

    async def get_streams(self, request: Request, owner: str) -> Response:
        session_id = parameters.parse_session_id(request)
        found = await run_in_threadpool(self._store.streams, owner, session_id)
        if found is None:
            raise HTTPException(404, "no such session")
        return render_json(StreamList(tuple(found)))

    async def get_entries(self, request: Request, owner: str) -> Response:
        stream = parameters.parse_stream(request)
        generation = parameters.parse_generation(request)
        after = parameters.parse_number(request, "after", 0, least=0)
        limit = parameters.parse_number(request, "limit", _ALL, least=1)
        reading = await self._reading(owner, stream, generation)
        return _streamed(views.stream_ndjson(reading, after, limit), NDJSON, _head_headers(reading.head))

    async def _reading(self, owner: str, stream: StreamId, generation: str | None) -> Reading:
        reading = await run_in_threadpool(self._store.read, owner, stream, generation)
        if reading is None:
            raise HTTPException(404, "no such stream or generation")
        return reading

    async def put_meta(self, request: Request, owner: str) -> Response:
        session_id = parameters.parse_session_id(request)
        try:
            meta = msgspec.json.decode(await receive_small(request, _META_BYTES), type=Meta)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise bad_request(f"body: a JSON object with the texts {', '.join(Meta.__struct_fields__)}") from None
        if any(len(text) > _META_TEXT_CHARS for text in msgspec.structs.astuple(meta)):
            raise bad_request(f"body: at most {_META_TEXT_CHARS} characters a text")
        await self._write(lambda: self._store.write_meta(owner, session_id, meta))
        return Response(status_code=204)

    async def get_meta(self, request: Request, owner: str) -> Response:
        meta = await run_in_threadpool(self._store.read_meta, owner, parameters.parse_session_id(request))
        if meta is None:
            raise HTTPException(404, "no such session")
        return render_json(meta)

    async def delete_session(self, request: Request, owner: str) -> Response:
        session_id = parameters.parse_session_id(request)
        contents = await self._write(lambda: self._store.delete_session(owner, session_id))
        if self._files is not None:
            await run_in_threadpool(self._files.forget_session, owner, session_id, contents)
        await run_in_threadpool(self._store.clear_remains)
        return Response(status_code=204)

    async def restore_session(self, request: Request, owner: str) -> Response:
        session_id = parameters.parse_session_id(request)
        await self._write(lambda: self._store.restore_session(owner, session_id))
        return Response(status_code=204)

    # --- this server's own ------------------------------------------------------------------------------------

    async def get_sessions(self, request: Request) -> Response:
        """Whose sessions are told: the caller's, those of one owner, or of all whom the token may read (`*`)."""
        caller = await self._admit(request)
        asked = request.query_params.get("owner")
        owners = caller.readable() if asked == EVERYBODY else (_whose(request, caller, "read"),)
        limit = min(_SESSIONS, parameters.parse_number(request, "limit", 100, least=1))
        cursor = request.query_params.get("cursor") or None
        try:
            page = await run_in_threadpool(self._store.sessions, owners, cursor, limit)
        except UsageError as exc:
            raise bad_request(f"cursor: {exc.message}") from None
        rows = [msgspec.structs.replace(one, owner="") if one.owner == caller.owner else one for one in page.sessions]
        return render_json(msgspec.structs.replace(page, sessions=rows))

    async def get_openapi(self, _request: Request) -> Response:
        return Response(msgspec.json.encode(describe_api()), 200, None, JSON)

    async def get_health(self, _request: Request) -> Response:
        """Open to everybody, so a write a second is the most that it can be made to do."""
        now_s = time.monotonic()
        if now_s - self._probed_at_s >= _PROBE_S:
            await self._write(self._store.probe)
            self._probed_at_s = now_s
        return render_json({"status": "ok"})


def _whose(request: Request, caller: Caller, scope: Scope) -> str:
    """The owner whose sessions a request is about: the caller, or the one that it names. What the caller may not read
    looks as if it were not there."""
    asked = request.query_params.get("owner")
    if not asked or asked == caller.owner:
        return caller.owner
    if scope == "write":
        raise HTTPException(403, "what belongs to others may only be read")
    if not caller.may_read(asked):
        raise HTTPException(404, "no such session")
    return asked


def _head_headers(head: Head) -> dict[str, str]:
    named = {
        "Last-Uuid": head.last_uuid,
        "Entry-Count": str(head.entry_count),
        "Generation": head.generation,
        "Chain-Hash": head.chain_hash,
    }
    return {name: value for name, value in named.items() if value is not None}


def _streamed(pieces: Iterator[bytes], media_type: str, headers: dict[str, str] | None = None) -> Response:
    return StreamingResponse(pieces, 200, {**_PRIVATE, **(headers or {})}, media_type)
