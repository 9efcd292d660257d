"""The protocol as values: requests to send, replies to read, for both ends. `docs/wire.md` is the contract in prose.

Nothing here sends: `system.remote` carries requests, `receiver.app` answers them.
"""

import base64
import re
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import zstandard

from agent.core.backoff import FIRST_S, parse_http_date, parse_retry_after
from agent.core.session import Head, StreamId

_T = TypeVar("_T")

INGRESS = "/v1/session_ingress"
CODE_SESSIONS = "/v1/code/sessions"
PROTOCOL_VERSION = 1

NDJSON = "application/x-ndjson"
JSON = "application/json"
PROBLEM = "application/problem+json"

MAX_REPLY_BYTES = 1 << 20
"""A head, a capability list or a problem is below 1 KB; what is far above that is not this protocol."""

_ZSTD_LEVEL = 1
"""580 MB/s to a quarter of the size; higher levels cost more than a line of text saves."""

_GZIP_LEVEL = 1
_BATCH_NAMESPACE = uuid.UUID("0d1f8f4e-6c52-5d0a-8a35-5a0b8f2f3c11")


class BulkOffer(msgspec.Struct, frozen=True):
    max_bytes: int = 4 << 20
    max_entries: int = 10_000
    encodings: tuple[str, ...] = ()


class Capabilities(msgspec.Struct, frozen=True):
    """What a server offers. `bulk` None is the base protocol."""

    protocol: int = PROTOCOL_VERSION
    bulk: BulkOffer | None = None
    generations: bool = False
    files: bool = False
    delete: bool = False


class Meta(msgspec.Struct, frozen=True):
    """Facts of a session, for people who look for it on the server."""

    provider: str = ""
    project: str = ""
    title: str = ""
    host: str = ""
    agent_version: str = ""


class StreamHead(msgspec.Struct, frozen=True):
    """One row of `GET …/streams`: a stream, one of its generations, and where that ends. The first `shared_entries`
    of it are those of the generation `parent`."""

    subpath: str
    head: Head
    current: bool = True
    parent: str | None = None
    shared_entries: int = 0


class NewGeneration(msgspec.Struct, frozen=True):
    """Body of `POST …/generations`: a history that begins with the first `shared_entries` of `parent`; with none of
    nobody's (None) when the stream holds nothing yet."""

    generation: str
    parent: str | None = None
    shared_entries: int = 0


class SideFile(msgspec.Struct, frozen=True):
    """One row of `GET …/files`. `digest` is written as in Content-Digest."""

    path: str
    size: int
    digest: str
    changed_at_s: float


class FileList(msgspec.Struct, frozen=True):
    files: tuple[SideFile, ...] = ()


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457."""

    title: str
    status: int
    detail: str = ""
    type: str = "about:blank"


class LongBody(NamedTuple):
    """A body that is not held in memory: its exact length, and its bytes as often as asked."""

    size: int
    pieces: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Request:
    """`path` begins with / and carries its query; `max_reply_bytes` bounds what is read of the answer."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | LongBody | None = None
    max_reply_bytes: int = MAX_REPLY_BYTES


class RawReply(NamedTuple):
    """An HTTP answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# --- requests -------------------------------------------------------------------------------------------------


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


class FileState(NamedTuple):
    """`there`: exactly this content. `offset`: bytes of it that need not be sent again."""

    there: bool
    offset: int


def parse_file_state(raw: RawReply, sha256: bytes, size: int) -> FileState | None:
    """What a server says it has of a file; None when it is no verdict."""
    if raw.status not in (200, 204, 404):
        return None
    kept = raw.headers.get("upload-offset", "")
    offset = int(kept) if kept.isascii() and kept.isdigit() and len(kept) < 20 else 0
    there = raw.status != 404 and parse_digest(raw.headers.get("content-digest", "")) == sha256
    return FileState(there, offset if offset <= size else 0)


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


def encode_body(data: bytes, encoding: str) -> bytes:
    """`data` under a Content-Encoding of this protocol: zstd or gzip."""
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(data)
    if encoding == "gzip":
        return zlib.compress(data, _GZIP_LEVEL, 31)
    raise ValueError(f"content encoding {encoding!r} is not one of zstd, gzip")


_DIGEST = re.compile(r"(?:^|,)[ \t]*sha-256=:([A-Za-z0-9+/]{43}=):[ \t]*(?=[,;]|$)")


def render_digest(sha256: bytes) -> str:
    """The value of a Content-Digest header (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def parse_digest(value: str) -> bytes | None:
    """The SHA-256 in a Content-Digest header, which may name other digests beside it; None without one."""
    found = _DIGEST.findall(value)
    return base64.b64decode(found[-1]) if found else None


# --- replies --------------------------------------------------------------------------------------------------
# No tuples: those are equal whatever they are called, and a test could not tell a deletion from a refusal.


class Accepted(msgspec.Struct, frozen=True):
    """Stored. `head` is what the server says it holds now; None from a base server."""

    head: Head | None = None


class Conflict(msgspec.Struct, frozen=True):
    """The server's head is another one. None: it did not say which."""

    head: Head | None


class NeedsLogin(msgspec.Struct, frozen=True):
    """401: the token is missing or no good."""


class Refused(msgspec.Struct, frozen=True):
    """This session is not wanted here, for good as far as anybody knows."""

    status: int


class Deleted(msgspec.Struct, frozen=True):
    """410: somebody deleted the session on the server."""


class TooLarge(msgspec.Struct, frozen=True):
    """413."""


class BadEntry(msgspec.Struct, frozen=True):
    """400 or 422: something in the body is not accepted."""

    status: int


class NoEndpoint(msgspec.Struct, frozen=True):
    """404, 405 or 501: nothing at this address takes the request."""

    status: int


class Unavailable(msgspec.Struct, frozen=True):
    """No verdict. `everybody` is true when no other session would fare better now. `retry_after_s` is the server's
    wish, None without one. `why` is for people."""

    why: str
    retry_after_s: float | None = None
    everybody: bool = False


Reply = Accepted | Conflict | NeedsLogin | Refused | Deleted | TooLarge | BadEntry | NoEndpoint | Unavailable

NOT_OURS = "something answers at this address, but not a transcript server"

_VERDICTS: dict[int, Reply] = {
    400: BadEntry(400),
    401: NeedsLogin(),
    404: NoEndpoint(404),
    405: NoEndpoint(405),
    410: Deleted(),
    413: TooLarge(),
    422: BadEntry(422),
    501: NoEndpoint(501),
}
_RETRIED = frozenset({408, 425, 429})
_FOR_EVERYBODY = frozenset({429, 502, 503, 504, 511})
"""Statuses that speak of the server or the way to it, not of one session. 511 is a captive portal's."""


def decide_put_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to one entry (base protocol) means. `now_s` is wall time, for Retry-After dates."""
    if raw.status in (200, 201):
        return Unavailable(NOT_OURS, everybody=True) if _is_page(raw) else Accepted()
    if raw.status == 409:
        last = raw.headers.get("x-last-uuid", "").strip()
        return Conflict(Head(last_uuid=last) if last else None)
    return _verdict(raw, now_s)


def decide_append_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to a batch (bulk extension) means."""
    if raw.status in (200, 409):
        head = parse_head(raw.body)
        if head is None:
            return Unavailable(NOT_OURS, everybody=True)
        return Accepted(head) if raw.status == 200 else Conflict(head)
    return _verdict(raw, now_s)


def decide_generation_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to a new generation means: as with a batch, but that something is made."""
    return decide_append_reply(raw._replace(status=200) if raw.status == 201 else raw, now_s)


def decide_file_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to a side file means."""
    if raw.status in (200, 201, 204):
        return Unavailable(NOT_OURS, everybody=True) if _is_page(raw) else Accepted()
    if raw.status in (400, 409, 422):
        return Unavailable(f"it changed while it was sent, or the server kept something else ({raw.status})")
    return _verdict(raw, now_s)


def decide_upload_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to a whole file means. What a server refuses, it refuses for this size of the file."""
    if 200 <= raw.status < 300:
        return Unavailable(NOT_OURS, everybody=True) if _is_page(raw) else Accepted()
    reply = _verdict(raw, now_s)
    if isinstance(reply, (Deleted, TooLarge, BadEntry)):
        return Refused(raw.status)
    return reply


def parse_health(raw: RawReply) -> bool:
    """Whether a server for whole files says that it takes compressed ones."""
    health = _parse(raw.body, _Health, required=b'"encodings"') if raw.status == 200 else None
    return health is not None and "gzip" in health.encodings


class _Health(msgspec.Struct):
    encodings: tuple[str, ...] = ()


def _verdict(raw: RawReply, now_s: float) -> Reply:
    status = raw.status
    if status < 400:
        return Unavailable(NOT_OURS, everybody=True)
    if status in _VERDICTS:
        return _VERDICTS[status]
    if status >= 500 or status in _RETRIED:
        # A date means the server's clock, and mostly comes with what that says; ours may be wrong.
        their_now_s = parse_http_date(raw.headers.get("date", ""))
        after = parse_retry_after(raw.headers.get("retry-after"), now_s if their_now_s is None else their_now_s)
        wish = after if after is not None and after >= FIRST_S else None  # "at once" would be without end
        return Unavailable(f"the server answers {status}", wish, everybody=status in _FOR_EVERYBODY)
    return Refused(status)


def _is_page(raw: RawReply) -> bool:
    return raw.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))


def parse_head(body: bytes) -> Head | None:
    """The head in a reply, or None when the body is something else."""
    return _parse(body, Head, required=b'"entry_count"')


def parse_capabilities(raw: RawReply) -> Capabilities | None:
    """What the server offers; the base protocol where it has no such page; None when the answer is no verdict (an
    outage, a portal)."""
    if raw.status in (404, 405, 501):
        return Capabilities()
    if raw.status != 200:
        return None
    return _parse(raw.body, Capabilities, required=b'"protocol"')


def parse_streams(raw: RawReply) -> list[StreamHead] | None:
    """The rows of `GET …/streams`; empty for a session the server does not know; None when it is no verdict."""
    if raw.status == 404:
        return []
    if raw.status != 200:
        return None
    listing = _parse(raw.body, StreamList, required=b'"streams"')
    return None if listing is None else list(listing.streams)


class StreamList(msgspec.Struct, frozen=True):
    streams: tuple[StreamHead, ...] = ()


def parse_loglines(raw: RawReply) -> list[str | None] | None:
    """The uuid (or None) of each entry that a base server holds, in order; None when the answer is no verdict."""
    if raw.status == 404:
        return []
    if raw.status != 200:
        return None
    listing = _parse(raw.body, _Loglines, required=b'"loglines"')
    return None if listing is None else [line.usable() for line in listing.loglines]


class _Logline(msgspec.Struct):
    uuid: Any = None

    def usable(self) -> str | None:
        return self.uuid if isinstance(self.uuid, str) else None


class _Loglines(msgspec.Struct):
    loglines: list[_Logline] = []


def _parse(body: bytes, kind: type[_T], *, required: bytes) -> _T | None:
    try:
        return msgspec.json.decode(body, type=kind) if required in body else None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
