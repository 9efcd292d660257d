"""Each question and each order of the protocol, as a request to send."""

import uuid
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import msgspec

from agent.core.session import Head, StreamId
from agent.core.wire.values import INGRESS, JSON, NDJSON, LongBody, Meta, Request, encode_body, render_digest

_BATCH_NAMESPACE = uuid.UUID("0d1f8f4e-6c52-5d0a-8a35-5a0b8f2f3c11")


def session_path(session_id: str, tail: str = "", **query: str | int | None) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{INGRESS}/session/{quote(session_id, safe='')}{tail}" + (f"?{urlencode(given)}" if given else "")


def put_entry_request(session_id: str, last_uuid: str | None, body: bytes | LongBody) -> Request:
    """One entry to a server that speaks the base protocol."""
    headers = {"Content-Type": JSON}
    if last_uuid is not None:
        headers["Last-Uuid"] = last_uuid
    return Request("PUT", session_path(session_id), headers, body)


def append_request(
    stream: StreamId, head: Head, body: bytes | LongBody, *, chain_after: bytes, encoding: str | None = None
) -> Request:
    """A batch of whole lines behind `head`. `encoding` is None or one of the offered; a `LongBody` travels as it
    is. The batch id follows from the content, so a repeated batch is recognised as the same."""
    name = f"{head.generation} {head.entry_count} {chain_after.hex()}"
    headers = {
        "Content-Type": NDJSON,
        "Entry-Count": str(head.entry_count),
        "Generation": head.generation or "",
        "Batch-Id": str(uuid.uuid5(_BATCH_NAMESPACE, name)),
    }
    if head.last_uuid is not None:
        headers["Last-Uuid"] = head.last_uuid
    if encoding is not None and isinstance(body, bytes):
        headers["Content-Encoding"] = encoding
        body = encode_body(body, encoding)
    return Request("POST", session_path(stream.session_id, "/entries", subpath=stream.subpath), headers, body)


def head_request(stream: StreamId, generation: str | None = None, entry_count: int | None = None) -> Request:
    """The current head; of `generation` when that is named; as it was behind `entry_count` entries of it."""
    asked = session_path(
        stream.session_id, "/head", subpath=stream.subpath, generation=generation, entry_count=entry_count
    )
    return Request("GET", asked)


def generation_request(stream: StreamId, generation: str, parent: str | None, shared_entries: int) -> Request:
    """Begins a new history of a stream. Its first `shared_entries` are those of `parent`."""
    body = msgspec.json.encode({"generation": generation, "parent": parent, "shared_entries": shared_entries})
    path = session_path(stream.session_id, "/generations", subpath=stream.subpath)
    return Request("POST", path, {"Content-Type": JSON}, body)


def streams_request(session_id: str) -> Request:
    return Request("GET", session_path(session_id, "/streams"), max_reply_bytes=64 << 20)


def loglines_request(session_id: str, *, max_reply_bytes: int) -> Request:
    return Request("GET", session_path(session_id), max_reply_bytes=max_reply_bytes)


def capabilities_request() -> Request:
    return Request("GET", f"{INGRESS}/capabilities")


def meta_request(session_id: str, meta: Meta) -> Request:
    return Request("PUT", session_path(session_id, "/meta"), {"Content-Type": JSON}, msgspec.json.encode(meta))


def delete_request(session_id: str) -> Request:
    """Takes all of a session off the server, which takes nothing of it again until it is restored."""
    return Request("DELETE", session_path(session_id))


def restore_request(session_id: str) -> Request:
    """Ends a deletion. What was deleted is not brought back: the session may be sent again."""
    return Request("POST", session_path(session_id, "/restore"))


def file_head_request(session_id: str, path: str, sha256: bytes) -> Request:
    """What the server has at `path` of a session, and how much it kept of an upload of that digest that broke off."""
    headers = {"Content-Digest": render_digest(sha256)}
    return Request("HEAD", session_path(session_id, "/files/" + quote(path)), headers)


def file_request(session_id: str, path: str, sha256: bytes, offset: int, body: LongBody) -> Request:
    """A side file, or its rest from `offset` on."""
    headers = {"Content-Digest": render_digest(sha256), "Content-Type": "application/octet-stream"}
    if offset:
        size = offset + body.size
        headers["Content-Range"] = f"bytes {offset}-{size - 1}/{size}" if body.size else f"bytes */{size}"
    return Request("PUT", session_path(session_id, "/files/" + quote(path)), headers, body)


def upload_request(name: str, boundary: str, body: LongBody) -> Request:
    """A whole file for servers that take nothing else, as the multipart field `file`."""
    begin = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quote(name)}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    end = f"\r\n--{boundary}--\r\n".encode()

    def pieces() -> Iterator[bytes]:
        yield begin
        yield from body.pieces()
        yield end

    whole = LongBody(len(begin) + body.size + len(end), pieces)
    return Request("POST", "", {"Content-Type": f"multipart/form-data; boundary={boundary}"}, whole)


def health_request() -> Request:
    return Request("GET", "/health")
