"""Each question and each order of the protocol, as a request to send."""

import uuid
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import msgspec

from agent.core.transcripts.session import Head, StreamId
from agent.core.wire.values import (
    CODE_SESSIONS,
    INGRESS,
    JSON,
    NDJSON,
    LongBody,
    Meta,
    Request,
    encode_body,
    render_digest,
)

_LONG_REPLY_BYTES = 64 << 20
"""A list of all that a session, or a server, has: 200 bytes a row."""

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


def streams_request(session_id: str, owner: str | None = None) -> Request:
    """`owner`: whose session, where it is not that of the token's owner; so with all that only reads."""
    return Request("GET", session_path(session_id, "/streams", owner=owner), max_reply_bytes=_LONG_REPLY_BYTES)


def entries_request(
    stream: StreamId, generation: str | None, after: int, limit: int, owner: str | None = None
) -> Request:
    """At most `limit` lines behind ordinal `after`. The answer is as long as they are: read it piece by piece."""
    asked = session_path(
        stream.session_id,
        "/entries",
        subpath=stream.subpath,
        generation=generation,
        after=after,
        limit=limit,
        owner=owner,
    )
    return Request("GET", asked)


def files_request(session_id: str, owner: str | None = None) -> Request:
    return Request("GET", session_path(session_id, "/files", owner=owner), max_reply_bytes=_LONG_REPLY_BYTES)


def fetch_file_request(session_id: str, path: str, owner: str | None = None) -> Request:
    return Request("GET", session_path(session_id, "/files/" + quote(path), owner=owner))


def fetch_meta_request(session_id: str, owner: str | None = None) -> Request:
    return Request("GET", session_path(session_id, "/meta", owner=owner))


def sessions_request(limit: int, cursor: str | None = None, owner: str | None = None) -> Request:
    """A page of the sessions there are, the one that changed last first. `owner`: whose; `*` for all that the token may
    read."""
    query = {"limit": limit, "cursor": cursor, "owner": owner}
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    return Request("GET", f"{INGRESS}/sessions?{asked}", max_reply_bytes=_LONG_REPLY_BYTES)


def events_request(session_id: str, limit: int, cursor: str | None, *, max_reply_bytes: int) -> Request:
    """A page of a session's main entries, as events."""
    query = {"limit": limit, "cursor": cursor}
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    path = f"{CODE_SESSIONS}/{quote(session_id, safe='')}/teleport-events?{asked}"
    return Request("GET", path, max_reply_bytes=max_reply_bytes)


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


def file_head_request(session_id: str, path: str, sha256: bytes, owner: str | None = None) -> Request:
    """What the server has at `path` of a session, and how much it kept of an upload of that digest that broke off."""
    headers = {"Content-Digest": render_digest(sha256)}
    return Request("HEAD", session_path(session_id, "/files/" + quote(path), owner=owner), headers)


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
