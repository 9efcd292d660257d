"""What travels, and what it is written on: bodies, requests and answers as values, and their encodings."""

import base64
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import msgspec
import zstandard

from agent.core.transcripts.session import Count, Head, Uuid

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


# What the other end says is bounded where it is decoded: what does not fit is not this protocol.
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
_Seconds = Annotated[float, msgspec.Meta(ge=-1e11, le=1e11)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_Word = Annotated[str, msgspec.Meta(max_length=1024)]
_Encodings = Annotated[tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], msgspec.Meta(max_length=64)]


class BulkOffer(msgspec.Struct, frozen=True):
    max_bytes: _Positive = 4 << 20
    max_entries: _Positive = 10_000
    encodings: _Encodings = ()


class Capabilities(msgspec.Struct, frozen=True):
    """What a server offers. `bulk` None is the base protocol. `max_entry_bytes`: the largest entry that it takes in any
    way, without a newline; None where it says nothing of the kind."""

    protocol: Count = PROTOCOL_VERSION
    bulk: BulkOffer | None = None
    generations: bool = False
    files: bool = False
    delete: bool = False
    sessions: bool = False
    max_entry_bytes: _Positive | None = None


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

    subpath: _Word
    head: Head
    current: bool = True
    parent: Uuid | None = None
    shared_entries: Count = 0


class StreamList(msgspec.Struct, frozen=True):
    streams: tuple[StreamHead, ...] = ()


class NewGeneration(msgspec.Struct, frozen=True):
    """Body of `POST …/generations`: a history that begins with the first `shared_entries` of `parent`; with none of
    nobody's (None) when the stream holds nothing yet."""

    generation: str
    parent: str | None = None
    shared_entries: int = 0


class SideFile(msgspec.Struct, frozen=True):
    """One row of `GET …/files`. `digest` is written as in Content-Digest."""

    path: _Name
    size: Count
    digest: _Name
    changed_at_s: _Seconds


class FileList(msgspec.Struct, frozen=True):
    files: tuple[SideFile, ...] = ()


class SessionRow(msgspec.Struct, frozen=True):
    """One row of `GET …/sessions`. Times are seconds since 1970; counts are sums over the current generations. `owner`:
    whose it is, where that is not the owner of the token that asks."""

    session_id: _Name
    streams: Count
    entries: Count
    size_bytes: Count
    created_at_s: _Seconds
    changed_at_s: _Seconds
    meta: Meta
    owner: _Word = ""


class SessionPage(msgspec.Struct, frozen=True):
    """`next_cursor` is None on the last page; opaque otherwise."""

    sessions: list[SessionRow]
    next_cursor: _Name | None = None


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
