"""The API described by hand as OpenAPI 3.1; a test holds it against the routes."""

from collections.abc import Mapping

import msgspec

from agent import __version__
from agent.core.transcripts.session import Head
from agent.core.wire import (
    CODE_SESSIONS,
    INGRESS,
    NDJSON,
    PROBLEM,
    Capabilities,
    FileList,
    Meta,
    NewGeneration,
    SessionPage,
    StreamList,
)

_Json = dict[str, object]
_SESSION = INGRESS + "/session/{session_id}"
_TEXT: _Json = {"type": "string"}
_UUID: _Json = {"type": "string", "format": "uuid"}
_COUNT: _Json = {"type": "integer", "minimum": 0}
_OBJECT: _Json = {"type": "object"}


def _in(place: str, name: str, schema: _Json, description: str, *, required: bool = False) -> _Json:
    return {"in": place, "name": name, "schema": schema, "description": description, "required": required}


_SESSION_ID = _in(
    "path", "session_id", _TEXT, "1 to 256 bytes of UTF-8, percent-encoded, a slash as %2F", required=True
)
_SUBPATH = _in("query", "subpath", _TEXT, "the stream below the session; left out for the main transcript")
_GENERATION = _in("query", "generation", _UUID, "left out for the current one")
_WHOSE = "whose sessions, when they are others' and the token may read them; left out for one's own"
_OWNER = _in("query", "owner", _TEXT, _WHOSE)
_LIMIT = _in("query", "limit", {"type": "integer", "minimum": 1}, "at most this many")
_CURSOR = _in("query", "cursor", _TEXT, "the next_cursor of the page before")
_LAST_UUID = _in("header", "Last-Uuid", _TEXT, "entry id of the head; left out while there is none")
_FILE_PATH = _in("path", "path", _TEXT, "relative, 1 to 1024 bytes of UTF-8; no segment empty, . or ..", required=True)
_DIGEST = "sha-256=:BASE64: of the whole file (RFC 9530)"
_RANGE = _in("header", "Content-Range", _TEXT, "the bytes that the body has, when an upload goes on; left out for all")
_ENCODING = _in("header", "Content-Encoding", {"enum": ["identity", "zstd", "gzip"]}, "how the body is packed")
_GUARD = (
    _LAST_UUID,
    _in("header", "Entry-Count", _COUNT, "how many entries the writer knows to be stored", required=True),
    _in("header", "Generation", _UUID, "the history this batch goes on with, or begins", required=True),
    _in("header", "Batch-Id", _UUID, "the same for a repeated batch", required=True),
    _ENCODING,
)


def _body(media: str, schema: _Json, description: str) -> _Json:
    return {"requestBody": {"required": True, "description": description, "content": {media: {"schema": schema}}}}


def _answer(description: str, media: str | None = None, schema: _Json | None = None) -> _Json:
    return {"description": description} | ({"content": {media: {"schema": schema}}} if media else {})


def _json(description: str, schema: _Json) -> _Json:
    return _answer(description, "application/json", schema)


def _named(name: str) -> _Json:
    return {"$ref": f"#/components/schemas/{name}"}


_PROBLEM_TEXTS = {
    400: "a header, a parameter or the body is not allowed; the detail names it",
    401: "the token is missing, unknown or revoked",
    403: "the token may only read",
    404: "not known to this token's owner",
    408: "no byte came for five minutes; what came of a side file is kept",
    409: "another entry than Last-Uuid is the head; x-last-uuid names it, unless there is none",
    410: "the session was deleted; restore lets it be sent again",
    413: "over a limit; the detail names it",
    422: "the entry has no usable uuid",
    507: "the disk is full",
    503: "can't be stored or read now; Retry-After says when to try again",
}


def _operation(
    summary: str, answers: Mapping[int, _Json], *problems: int, given: tuple[_Json, ...] = (), more: _Json | None = None
) -> _Json:
    refused = {
        status: _answer(_PROBLEM_TEXTS[status], PROBLEM, _named("Problem"))
        for status in problems
        if status not in answers
    }
    return {
        "summary": summary,
        "parameters": [*given, _OWNER] if problems[: len(_READ)] == _READ else list(given),
        "responses": {str(status): answer for status, answer in sorted({**refused, **answers}.items())},
        **(more or {}),
    }


_READ = (400, 401, 404, 410, 503)
_WRITE = (400, 401, 403, 408, 410, 413, 503)
_ORDER = (400, 401, 403, 503)
_LOGLINES: _Json = {"type": "object", "properties": {"loglines": {"type": "array", "items": _OBJECT}}}
_EVENTS: _Json = {
    "type": "object",
    "required": ["data", "next_cursor"],
    "properties": {
        "data": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "event_id": _TEXT,
                    "event_type": _TEXT,
                    "is_compaction": {"type": "boolean"},
                    "payload": {"type": ["object", "null"]},
                    "created_at": {"type": ["string", "null"]},
                },
            },
        },
        "next_cursor": {"type": ["string", "null"]},
    },
}
_OPEN: _Json = {"security": []}
_OFFSET: _Json = {"Upload-Offset": {"schema": _COUNT, "description": "bytes kept of an upload that is not whole yet"}}
_STORED: _Json = {"Content-Digest": {"schema": _TEXT}, "Content-Length": {"schema": _COUNT}}

_PATHS: Mapping[str, Mapping[str, _Json]] = {
    _SESSION: {
        "put": _operation(
            "Append one entry to the main transcript (base protocol)",
            {201: _json("stored; the head of now", _named("Head"))},
            *_WRITE,
            409,
            422,
            given=(_SESSION_ID, _LAST_UUID, _ENCODING),
            more=_body("application/json", _OBJECT, "one JSON object without a raw newline, with a uuid"),
        ),
        "get": _operation(
            "The main transcript's entries that are JSON objects (base protocol)",
            {200: _json("in order, streamed", _LOGLINES)},
            *_READ,
            given=(
                _SESSION_ID,
                _in(
                    "query",
                    "after_last_compact",
                    {"type": "boolean"},
                    "only from the last compaction's boundary on, the boundary included",
                ),
            ),
        ),
        "delete": _operation(
            "Delete a session with all that belongs to it; nothing of it is taken until it is restored",
            {204: _answer("gone, also when it was unknown or deleted before; 503: gone, but not off the disk")},
            *_ORDER,
            given=(_SESSION_ID,),
        ),
    },
    _SESSION + "/restore": {
        "post": _operation(
            "End a deletion: the session is unknown, and may be sent from its beginning",
            {204: _answer("ended, or there was none")},
            *_ORDER,
            given=(_SESSION_ID,),
        )
    },
    CODE_SESSIONS + "/{session_id}/teleport-events": {
        "get": _operation(
            "The main transcript as events, by pages",
            {200: _json("a page; next_cursor null ends it", _EVENTS)},
            *_READ,
            given=(_SESSION_ID, _LIMIT, _CURSOR),
        )
    },
    INGRESS + "/capabilities": {
        "get": _operation("What this server offers", {200: _json("the offer", _named("Capabilities"))}, 401, 503)
    },
    INGRESS + "/sessions": {
        "get": _operation(
            "Sessions, last changed first",
            {200: _json("a page; next_cursor null ends it", _named("SessionPage"))},
            400,
            401,
            404,
            503,
            given=(_LIMIT, _CURSOR, _in("query", "owner", _TEXT, _WHOSE + "; * for all that the token may read")),
        )
    },
    _SESSION + "/entries": {
        "post": _operation(
            "Append whole lines behind the head of a generation (bulk extension)",
            {
                200: _json("stored, all of it, durably; the head of now", _named("Head")),
                409: _json("nothing stored: the head is another one, this one", _named("Head")),
            },
            *_WRITE,
            given=(_SESSION_ID, _SUBPATH, *_GUARD),
            more=_body(NDJSON, _TEXT, "lines as they stand in the file, each with its newline"),
        ),
        "get": _operation(
            "The lines as they arrived",
            {
                200: _answer("streamed; the headers carry the head as it was when reading began", NDJSON, _TEXT)
                | {
                    "headers": {
                        "Last-Uuid": {"schema": _TEXT},
                        "Entry-Count": {"schema": _COUNT},
                        "Generation": {"schema": _UUID},
                        "Chain-Hash": {"schema": _TEXT},
                    }
                }
            },
            *_READ,
            given=(
                _SESSION_ID,
                _SUBPATH,
                _GENERATION,
                _in("query", "after", _COUNT, "ordinal behind which to begin"),
                _LIMIT,
            ),
        ),
    },
    _SESSION + "/generations": {
        "post": _operation(
            "Begin a history that shares its first entries with another one, and make it the current one",
            {
                201: _json("begun, or begun before in the same way; its head of now", _named("Head")),
                409: _json("can't be: the head of the generation of that name, or the current one's", _named("Head")),
            },
            *_WRITE,
            given=(_SESSION_ID, _SUBPATH),
            more=_body("application/json", _named("NewGeneration"), "parent null and 0 entries for an empty stream"),
        )
    },
    _SESSION + "/head": {
        "get": _operation(
            "The head of a stream; that of no entries for a stream nobody wrote",
            {200: _json("the head", _named("Head"))},
            *_READ,
            given=(
                _SESSION_ID,
                _SUBPATH,
                _GENERATION,
                _in("query", "entry_count", _COUNT, "the head as it was behind so many entries; left out for now"),
            ),
        )
    },
    _SESSION + "/streams": {
        "get": _operation(
            "Every stream of a session with every generation's head",
            {200: _json("the streams", _named("StreamList"))},
            *_READ,
            given=(_SESSION_ID,),
        )
    },
    _SESSION + "/meta": {
        "put": _operation(
            "Say what a session is; the last write wins",
            {204: _answer("kept")},
            *_WRITE,
            given=(_SESSION_ID,),
            more=_body("application/json", _named("Meta"), "at most 4096 characters a text"),
        ),
        "get": _operation("What a session is", {200: _json("the facts", _named("Meta"))}, *_READ, given=(_SESSION_ID,)),
    },
    _SESSION + "/files": {
        "get": _operation(
            "The side files of a session, by path",
            {200: _json("the files", _named("FileList"))},
            *_READ,
            given=(_SESSION_ID,),
        )
    },
    _SESSION + "/files/{path}": {
        "put": _operation(
            "Keep a side file; the last write wins",
            {
                201: _answer("kept, durably, and the digest is right"),
                202: _answer("kept so far; more is needed") | {"headers": _OFFSET},
                204: _answer("that content is there; the body was not read"),
                409: _answer("more or less is kept of it than before Content-Range", PROBLEM, _named("Problem"))
                | {"headers": _OFFSET},
                422: _answer("the digest is another one; nothing is kept", PROBLEM, _named("Problem")),
            },
            *_WRITE,
            507,
            given=(_SESSION_ID, _FILE_PATH, _in("header", "Content-Digest", _TEXT, _DIGEST, required=True), _RANGE),
            more=_body("application/octet-stream", _TEXT, "the bytes, as they are"),
        ),
        "get": _operation(
            "A side file, never to be shown as a page",
            {200: _answer("streamed", "text/plain", _TEXT) | {"headers": _STORED}},
            *_READ,
            given=(_SESSION_ID, _FILE_PATH),
        ),
        "head": _operation(
            "What the server has of a side file",
            {
                200: _answer("the path has a file, this one") | {"headers": {**_STORED, **_OFFSET}},
                404: _answer("the path has none") | {"headers": _OFFSET},
            },
            *_READ,
            given=(
                _SESSION_ID,
                _FILE_PATH,
                _in("header", "Content-Digest", _TEXT, _DIGEST + "; asks for Upload-Offset"),
            ),
        ),
    },
    "/openapi.json": {"get": _operation("This description", {200: _json("OpenAPI 3.1", _OBJECT)}, more=_OPEN)},
    "/healthz": {"get": _operation("Whether the server can write", {200: _json("it can", _OBJECT)}, 503, more=_OPEN)},
}

_PROBLEM_SCHEMA: _Json = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["title", "status"],
    "properties": {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT},
}


def describe_api() -> dict[str, object]:
    """The document. Schemas of bodies come from the very types that are encoded."""
    _, schemas = msgspec.json.schema_components(
        [Head, Meta, Capabilities, NewGeneration, StreamList, FileList, SessionPage],
        ref_template="#/components/schemas/{name}",
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "transcriptd receiver",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}],
        "paths": _PATHS,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {**schemas, "Problem": _PROBLEM_SCHEMA},
        },
    }
