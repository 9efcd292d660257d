"""Header and query values to what the store takes; whatever is not allowed is a 400 that names it."""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import Request

from agent.core.transcripts.session import StreamId
from agent.core.transcripts.transcript import usable_uuid
from agent.core.wire import NewGeneration, parse_digest
from agent.receiver.problems import bad_request
from agent.receiver.store import Guard

_SESSION_ID_BYTES = 256
_SUBPATH_BYTES = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_MOST = 10**18
_FILE_PATH_BYTES = 1024
_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18})")


def parse_session_id(request: Request) -> str:
    """From the path, where it stands percent-encoded, a slash in it too."""
    raw = unquote_to_bytes(request.path_params["session_id"])
    if not 1 <= len(raw) <= _SESSION_ID_BYTES:
        raise bad_request(f"session id: 1 to {_SESSION_ID_BYTES} bytes")
    return _parse_text("session id", raw)


def _parse_text(name: str, raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise bad_request(f"{name}: UTF-8, percent-encoded") from None
    if _CONTROL.search(text):
        raise bad_request(f"{name}: no control characters")
    return text


def parse_stream(request: Request) -> StreamId:
    subpath = request.query_params.get("subpath", "")
    try:
        raw = subpath.encode()
    except UnicodeEncodeError:
        raise bad_request("subpath: UTF-8, percent-encoded") from None
    if len(raw) > _SUBPATH_BYTES:
        raise bad_request(f"subpath: at most {_SUBPATH_BYTES} bytes")
    _parse_text("subpath", raw)
    if subpath:
        _check_segments("subpath", subpath)
    return StreamId(parse_session_id(request), subpath)


def _check_segments(name: str, path: str) -> None:
    if not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise bad_request(f"{name}: segments between slashes, none of them empty, '.' or '..'")


def parse_file_path(request: Request) -> str:
    """Of a side file: from the path, where it stands percent-encoded. A slash separates segments either way."""
    raw = unquote_to_bytes(request.path_params["path"])
    if not 1 <= len(raw) <= _FILE_PATH_BYTES:
        raise bad_request(f"file path: 1 to {_FILE_PATH_BYTES} bytes")
    path = _parse_text("file path", raw)
    _check_segments("file path", path)
    return path


def parse_content_digest(request: Request) -> bytes | None:
    """The SHA-256 of the content that a request is about; None when it names none."""
    value = request.headers.get("content-digest")
    if value is None:
        return None
    digest = parse_digest(value)
    if digest is None:
        raise bad_request("Content-Digest: sha-256=:BASE64: (RFC 9530)")
    return digest


class Span(NamedTuple):
    """Which bytes of a content a body has: those from `first` up to `stop` of `total`."""

    first: int
    stop: int
    total: int


def parse_content_range(request: Request) -> Span | None:
    """None without the header. `bytes */TOTAL` is the empty span at the end; so is `bytes TOTAL-(TOTAL-1)/TOTAL`, which
    is what comes of computing it."""
    value = request.headers.get("content-range")
    if value is None:
        return None
    match = _RANGE.fullmatch(value.strip())
    if match is None:
        raise bad_request("Content-Range: bytes FIRST-LAST/TOTAL, or bytes */TOTAL when no byte is left to send")
    total = int(match[3])
    span = Span(int(match[1]), int(match[2]) + 1, total) if match[1] else Span(total, total, total)
    if span.stop > total or not (span.first < span.stop or span.first == span.stop == total):
        raise bad_request("Content-Range: FIRST at most LAST, and LAST below TOTAL")
    return span


def parse_content_length(request: Request) -> int | None:
    value = request.headers.get("content-length", "")
    return int(value) if _NUMBER.fullmatch(value) else None


def parse_new_generation(body: bytes) -> NewGeneration:
    """The body of `POST …/generations`."""
    try:
        new = msgspec.json.decode(body, type=NewGeneration)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request('body: {"generation": UUID, "parent": UUID or null, "shared_entries": number}') from None
    if not all(_UUID.fullmatch(name) for name in (new.generation, new.parent) if name is not None):
        raise bad_request("generation, parent: a UUID, as 8-4-4-4-12 hexadecimal digits")
    if not 0 <= new.shared_entries < _MOST or (new.parent is None and new.shared_entries):
        raise bad_request("shared_entries: a whole number from 0, at most 18 digits; 0 without a parent")
    return new


def parse_last_uuid(request: Request) -> str | None:
    value = request.headers.get("last-uuid")
    if not value:
        return None
    if usable_uuid(value) is None:
        raise bad_request("Last-Uuid: 1 to 128 printable ASCII characters, or left out")
    return value


def parse_guard(request: Request) -> tuple[Guard, str]:
    """The guard of a batch, and the batch's id."""
    count = request.headers.get("entry-count", "")
    if not _NUMBER.fullmatch(count):
        raise bad_request("Entry-Count: a whole number from 0, at most 18 digits")
    guard = Guard(parse_last_uuid(request), int(count), _parse_uuid(request, "Generation"))
    return guard, _parse_uuid(request, "Batch-Id")


def _parse_uuid(request: Request, name: str) -> str:
    value = request.headers.get(name, "")
    if not _UUID.fullmatch(value):
        raise bad_request(f"{name}: a UUID, as 8-4-4-4-12 hexadecimal digits")
    return value


def parse_generation(request: Request) -> str | None:
    value = request.query_params.get("generation")
    if value and not _UUID.fullmatch(value):
        raise bad_request("generation: a UUID, or left out for the current one")
    return value or None


def parse_number(request: Request, name: str, default: int, *, least: int) -> int:
    value = request.query_params.get(name)
    if value is None:
        return default
    if not _NUMBER.fullmatch(value) or int(value) < least:
        raise bad_request(f"{name}: a whole number from {least}, at most 18 digits")
    return int(value)


def parse_entry_count(request: Request) -> int | None:
    return parse_number(request, "entry_count", 0, least=0) if "entry_count" in request.query_params else None


def parse_flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false")
    if value not in {"true", "false"}:
        raise bad_request(f"{name}: true or false")
    return value == "true"


def parse_events_cursor(request: Request) -> tuple[str | None, int]:
    """Generation and ordinal behind which the page begins."""
    value = request.query_params.get("cursor")
    if not value:
        return None, 0
    generation, _, ordinal = value.partition(".")
    if not _UUID.fullmatch(generation) or not _NUMBER.fullmatch(ordinal):
        raise bad_request("cursor: a next_cursor that this server gave")
    return generation, int(ordinal)
