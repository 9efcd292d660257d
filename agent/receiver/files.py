"""The endpoints of side files: names in the store, bytes in the folder of blobs, and the way of one to the other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from agent.core.wire import JSON, FileList, SideFile, render_digest
from agent.errors import DiskError, DiskFull, SessionDeleted
from agent.receiver import parameters
from agent.receiver.blobs import Blobs, Elsewhere, Upload, Uploader
from agent.receiver.bodies import steps_of
from agent.receiver.parameters import Span
from agent.receiver.problems import bad_request
from agent.receiver.store import Content, FileKeeper, KeptFile

_T = TypeVar("_T")

_WORKERS = 4
"""Threads of their own: syncing gigabytes must not keep entries or readers waiting for one."""

_STEP_BYTES = 256 << 10
"""How much is written at once: as much is lost when the process dies."""

_PIECE_BYTES = 1 << 20
_HEADERS = {
    # Side files hold whatever a tool printed; no browser may take one for a page.
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class _Place(NamedTuple):
    """Which content is to be found where."""

    owner: str
    session_id: str
    path: str
    sha256: bytes

    def uploader(self) -> Uploader:
        return Uploader(self.owner, self.sha256, self.session_id)


class _Unusable(HTTPException):
    """Nothing of what came is worth keeping."""


class FileApi:
    """`max_bytes` bounds a file. Sweeps the folder of what an earlier run left."""

    def __init__(self, store: FileKeeper, blobs: Blobs, max_bytes: int) -> None:
        self._store = store
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._workers = ThreadPoolExecutor(_WORKERS, "files")
        for content in blobs.sweep(store.named_contents()):
            self._release(content)

    def close(self) -> None:
        self._workers.shutdown()

    async def _work(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work, *arguments)

    # --- in ---------------------------------------------------------------------------------------------------

    async def put_file(self, request: Request, owner: str) -> Response:
        place, span = self._parse_put(request, owner)
        if await self._work(self._name_known, place):
            return Response(status_code=204)
        upload = await self._work(self._begin, place, span, parameters.parse_content_length(request))
        try:
            await self._receive(request, upload, span)
            if span is None or span.stop == span.total:
                await self._work(self._finish, place, upload)
                return Response(status_code=201)
        except (_Unusable, DiskFull, SessionDeleted):
            self._blobs.drop(upload)
            raise
        except BaseException:
            self._leave(place, upload)
            raise
        self._leave(place, upload)
        return Response(status_code=202, headers={"Upload-Offset": str(upload.size)})

    def _parse_put(self, request: Request, owner: str) -> tuple[_Place, Span | None]:
        session_id, path = parameters.parse_session_id(request), parameters.parse_file_path(request)
        digest = parameters.parse_content_digest(request)
        if digest is None:
            raise bad_request("Content-Digest: sha-256=:BASE64: of the whole file (RFC 9530)")
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise bad_request("Content-Encoding: side files travel as they are")
        span, length = parameters.parse_content_range(request), parameters.parse_content_length(request)
        if span is not None and length not in (None, span.stop - span.first):
            raise bad_request("Content-Range: as many bytes as the body has")
        if (span.total if span is not None else length or 0) > self._max_bytes:
            raise self._too_large()
        return _Place(owner, session_id, path, digest), span

    def _too_large(self) -> HTTPException:
        return _Unusable(413, f"at most {self._max_bytes} bytes a file")

    def _name_known(self, place: _Place) -> bool:
        """Whether the owner has this content already; then the path names it, and no byte of it need be sent."""
        known = self._store.find_file(place.owner, place.session_id, place.path)
        content = self._store.find_content(place.owner, place.sha256)
        if content is None or not self._blobs.has(place.sha256):
            return False
        if known is not None and known.content == content:
            return True
        return self._name(place, content, lambda: self._blobs.has(place.sha256))

    def _begin(self, place: _Place, span: Span | None, length: int | None) -> Upload:
        if (length or 0) > self._blobs.room_bytes():
            raise DiskFull("the receiver's disk has no room for a side file")
        upload = self._blobs.begin(place.uploader(), span.first if span is not None else None)
        if isinstance(upload, Elsewhere):
            detail = f"Content-Range: begins elsewhere than behind the {upload.kept} bytes that are kept"
            raise HTTPException(409, detail, {"Upload-Offset": str(upload.kept)})
        return upload

    async def _receive(self, request: Request, upload: Upload, span: Span | None) -> None:
        stop = span.stop if span is not None else self._max_bytes
        async for step in steps_of(request, _STEP_BYTES):
            if upload.size + len(step) > stop:
                raise self._too_large() if span is None else _Unusable(400, "body: longer than Content-Range says")
            if not await self._work(upload.feed, step):
                raise _taken_over()
        if span is not None and upload.size != stop:
            raise bad_request("body: shorter than Content-Range says")

    def _leave(self, place: _Place, upload: Upload) -> None:
        """Keeps what came, unless its session was deleted meanwhile. Who deletes drops uploads behind that, so one of
        both sees the other."""
        try:
            self._store.find_file(place.owner, place.session_id, place.path)
        except SessionDeleted:
            self._blobs.drop(upload)
        except DiskError:  # nothing is known; the same question is asked of whoever goes on with it
            self._blobs.leave(place.uploader(), upload)
        else:
            self._blobs.leave(place.uploader(), upload)

    def _finish(self, place: _Place, upload: Upload) -> None:
        digest = upload.digest()
        if digest is not None and digest != place.sha256:
            raise _Unusable(422, "Content-Digest: the bytes that came have another one; nothing of them is kept")
        upload.sync()
        content = Content(place.sha256, upload.size)
        if not self._name(place, content, lambda: self._blobs.place(place.uploader(), upload)):
            raise _taken_over()

    def _name(self, place: _Place, content: Content, put: Callable[[], bool]) -> bool:
        named = self._store.name_file(place.owner, place.session_id, place.path, content, put)
        if named is None:
            return False
        if named.before is not None:
            self._release(named.before)
        return True

    def forget_session(self, owner: str, session_id: str, contents: Iterable[bytes]) -> None:
        """Keeps no byte of a session that was deleted, but for what another one names too. Blocks."""
        self._blobs.drop_session(owner, session_id)
        for content in contents:
            self._release(content)

    def _release(self, content: bytes) -> None:
        self._store.release_content(content, lambda: self._blobs.remove(content))

    # --- out --------------------------------------------------------------------------------------------------

    async def head_file(self, request: Request, owner: str) -> Response:
        session_id, path = parameters.parse_session_id(request), parameters.parse_file_path(request)
        digest = parameters.parse_content_digest(request)
        known, kept = await run_in_threadpool(self._look, owner, session_id, path, digest)
        headers = _HEADERS if kept is None else {**_HEADERS, "Upload-Offset": str(kept)}
        return Response(None, 200 if known else 404, {**headers, **(_facts(known) if known else {})})

    def _look(self, owner: str, session_id: str, path: str, digest: bytes | None) -> tuple[KeptFile | None, int | None]:
        known = self._store.find_file(owner, session_id, path)
        if known is not None and not self._blobs.has(known.content.sha256):
            known = None  # somebody took its bytes away; whoever has them may send them again
        return known, self._blobs.kept(Uploader(owner, digest)) if digest is not None else None

    async def get_file(self, request: Request, owner: str) -> Response:
        session_id, path = parameters.parse_session_id(request), parameters.parse_file_path(request)
        found = await run_in_threadpool(self._open, owner, session_id, path)
        if found is None:
            raise HTTPException(404, "no such file")
        known, file = found
        name = quote(path.rpartition("/")[2], safe="")
        headers = {**_HEADERS, **_facts(known), "Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        return StreamingResponse(_pieces(file), 200, headers, "text/plain; charset=utf-8")

    def _open(self, owner: str, session_id: str, path: str) -> tuple[KeptFile, BinaryIO] | None:
        for _ in range(2):  # the file may be replaced between the two looks, but hardly twice
            known = self._store.find_file(owner, session_id, path)
            if known is None:
                return None
            if (file := self._blobs.open(known.content.sha256)) is not None:
                return known, file
        raise DiskError("the receiver lacks the bytes of a side file that it knows")

    async def get_files(self, request: Request, owner: str) -> Response:
        found = await run_in_threadpool(self._store.list_files, owner, parameters.parse_session_id(request))
        if found is None:
            raise HTTPException(404, "no such session")
        rows = (
            SideFile(one.path, one.content.size, render_digest(one.content.sha256), one.changed_at_s) for one in found
        )
        return Response(msgspec.json.encode(FileList(tuple(rows))), 200, {"Cache-Control": "no-store"}, JSON)


def _row(known: KeptFile) -> SideFile:
    return SideFile(known.path, known.content.size, render_digest(known.content.sha256), known.changed_at_s)


def _facts(known: KeptFile) -> dict[str, str]:
    return {"Content-Digest": render_digest(known.content.sha256), "Content-Length": str(known.content.size)}


def _taken_over() -> HTTPException:
    return HTTPException(409, "another upload of this content went on in this one's place")


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    try:
        while piece := await run_in_threadpool(file.read, _PIECE_BYTES):
            yield piece
    finally:
        file.close()
