"""A bulk server as docs/wire.md describes it, small enough to be seen to be right: lists in memory, and nothing clever.

`tests/contracts/test_model_server.py` holds it beside the real receiver. What real servers do besides (lose what they
had, refuse a session or an entry, be written to by somebody else) is asked of it by the methods at its end.
"""

import random
import uuid
import zlib
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b, sha256
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import zstandard

from agent.core.transcripts.session import FILES, Head, StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, derived_id, entry_uuid
from agent.core.wire import (
    INGRESS,
    JSON,
    NDJSON,
    PROBLEM,
    BulkOffer,
    Capabilities,
    Meta,
    RawReply,
    Request,
    StreamList,
    render_digest,
)
from agent.core.wire import StreamHead as Row
from tests.fakes import body_bytes

EMPTY_HEAD = Head(None, 0, None, EMPTY_CHAIN.hex())


class Target(msgspec.Struct, frozen=True):
    """What a path names: a session, what of it, and the query."""

    session: str
    tail: str
    query: dict[str, str]

    @property
    def stream(self) -> StreamId:
        return StreamId(self.session, self.query.get("subpath", ""))


@lru_cache(4096)
def parse_target(path: str) -> Target | None:
    """None for a path that names no session."""
    parts = urlsplit(path)
    prefix = f"{INGRESS}/session/"
    if not parts.path.startswith(prefix):
        return None
    session, _, tail = parts.path[len(prefix) :].partition("/")
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return Target(unquote(session), tail, query)


@dataclass
class Generation:
    """`chains[n]` is the chain hash behind n entries, `data` all of them with their newlines."""

    name: str
    lines: list[bytes] = field(default_factory=list)
    chains: list[bytes] = field(default_factory=lambda: [EMPTY_CHAIN])
    data: bytearray = field(default_factory=bytearray)
    last_uuid: str | None = None
    last_batch: str | None = None
    begun: tuple[str | None, int] = (None, 0)
    """Its parent, and how many entries it shares with that."""

    def head(self) -> Head:
        return Head(self.last_uuid, len(self.lines), self.name, self.chains[-1].hex())

    def extend(self, stream: StreamId, lines: Iterable[bytes], batch: str | None) -> None:
        for line in lines:
            self.lines.append(line)
            self.chains.append(blake2b(self.chains[-1] + line, digest_size=32).digest())
            self.data += line + b"\n"
        self.last_uuid = _entry_id(stream, len(self.lines), self.lines[-1]) if self.lines else None
        self.last_batch = batch

    def head_at(self, stream: StreamId, count: int) -> Head:
        """What the head was behind `count` entries."""
        last = _entry_id(stream, count, self.lines[count - 1]) if count else None
        return Head(last, count, self.name, self.chains[count].hex())


@dataclass
class Stream:
    generations: dict[str, Generation] = field(default_factory=dict)
    current: Generation | None = None

    def head(self) -> Head:
        return self.current.head() if self.current else EMPTY_HEAD

    def begin(self, made: Generation) -> Generation:
        self.generations[made.name] = self.current = made
        return made


@dataclass
class Session:
    streams: dict[str, Stream] = field(default_factory=dict)
    meta: Meta = field(default_factory=Meta)
    files: dict[str, bytes] = field(default_factory=dict)
    """By their subpath."""


class _NewGeneration(msgspec.Struct):
    generation: str
    parent: str | None = None
    shared_entries: int = 0


class ModelServer:
    """`refuse(session, lines)` gives the status for a body of those entries, or None. `changed(stream, generation)`
    is called behind every append. `bulk` may be set to None: a server of the base protocol alone. `tells_head` False
    leaves out `x-last-uuid`, as some of those do."""

    def __init__(
        self,
        *,
        bulk: BulkOffer | None = None,
        max_entry_bytes: int = 256 << 20,
        generations: bool = True,
        refuse: Callable[[str, list[bytes]], int | None] = lambda session, lines: None,
        changed: Callable[[StreamId, Generation], None] = lambda stream, generation: None,
        took_file: Callable[[StreamId, bytes], None] = lambda stream, data: None,
    ) -> None:
        self.sessions: dict[str, Session] = {}
        self.deleted: set[str] = set()
        """Sessions of which nothing is told or taken until they are restored."""
        self.bulk: BulkOffer | None = bulk or BulkOffer(8 << 20, 10_000, ("zstd", "gzip"))
        self.generations = generations
        self.max_entry_bytes = max_entry_bytes
        self.refuse = refuse
        self.changed = changed
        self.took_file = took_file
        self.files = False
        """Whether it takes side files."""
        self.breaks_off = False
        """Whether the next one comes half."""
        self._unfinished: dict[str, bytes] = {}
        """Digest → what came of a side file that broke off."""
        self.has_lost = False
        """Whether it was ever set back."""
        self.contradicts = False
        """Whether it answers each append with 409, wherever it goes on."""
        self.tells_head = True
        self.tells_heads_within = True
        """Whether it tells what a head was behind fewer entries."""
        self.entries_put: set[StreamId] = set()
        """Streams that got entries one by one."""
        rng = random.Random(0)
        self.new_uuid: Callable[[], str] = lambda: str(uuid.UUID(int=rng.getrandbits(128), version=4))
        """Names the generation that a first entry begins on its own."""

    def send(self, request: Request) -> RawReply:
        if request.path == f"{INGRESS}/capabilities" and request.method == "GET":
            if self.bulk is None:
                return _problem(404)
            offer = Capabilities(bulk=self.bulk, generations=self.generations, files=self.files, delete=True)
            return _json(200, offer)
        target = parse_target(request.path)
        if target is None:
            return _problem(404)
        if self.bulk is None and target.tail:
            return _problem(404)
        is_file = self.files and target.tail.startswith(FILES)
        answer = _ANSWERS.get((request.method, FILES if is_file else target.tail))
        if answer is None:
            return _problem(404)
        if target.session in self.deleted and request.method in ("GET", "HEAD"):
            return _problem(410)
        return answer(self, target, request)

    # --- base protocol ----------------------------------------------------------------------------------------

    def put_entry(self, target: Target, request: Request) -> RawReply:
        line = body_bytes(request)
        if len(line) > self.max_entry_bytes:
            return _problem(413)
        if b"\n" in line or not _is_object(line):
            return _problem(400)
        found = entry_uuid(line)
        if found is None:
            return _problem(422)
        if (status := self.refuse(target.session, [line])) is not None:
            return _problem(status)
        if target.session in self.deleted:
            return _problem(410)
        stream_id = StreamId(target.session, "")
        head = self.head(stream_id)
        if self.contradicts or head.last_uuid != request.headers.get("Last-Uuid") or head.last_uuid == found:
            return _problem(409, {"x-last-uuid": head.last_uuid} if head.last_uuid and self.tells_head else {})
        stream = self._stream(stream_id)
        current = stream.current or stream.begin(Generation(self.new_uuid()))
        current.extend(stream_id, [line], None)
        self.entries_put.add(stream_id)
        self.changed(stream_id, current)
        return _json(201, current.head(), {"x-last-uuid": found})

    def get_loglines(self, target: Target, _request: Request) -> RawReply:
        if target.session not in self.sessions:
            return _problem(404)
        current = self._find(StreamId(target.session, "")).current
        shown = [line for line in current.lines if _is_object(line)] if current else []
        return RawReply(200, {"content-type": JSON}, b'{"loglines":[' + b",".join(shown) + b"]}")

    # --- bulk extension ---------------------------------------------------------------------------------------

    def append(self, target: Target, request: Request) -> RawReply:
        lines = self._lines_of(request)
        if isinstance(lines, int):
            return _problem(lines)
        if (status := self.refuse(target.session, lines)) is not None:
            return _problem(status)
        if target.session in self.deleted:
            return _problem(410)
        if self.contradicts:
            return _json(409, self.head(target.stream))
        name, batch = request.headers["Generation"], request.headers["Batch-Id"]
        guard = (request.headers.get("Last-Uuid"), int(request.headers["Entry-Count"]))
        stream = self._find(target.stream)
        named = stream.generations.get(name)
        if named is None:
            if stream.current is not None or guard != (None, 0):
                return _json(409, stream.head())
            named = self._stream(target.stream).begin(Generation(name))
        elif guard != (named.last_uuid, len(named.lines)):
            return _json(200 if named.last_batch == batch else 409, named.head())
        named.extend(target.stream, lines, batch)
        self.changed(target.stream, named)
        return _json(200, named.head())

    def _lines_of(self, request: Request) -> list[bytes] | int:
        """The lines of a body, or the status for one that is not allowed."""
        assert self.bulk is not None
        try:
            data = decode(body_bytes(request), request.headers.get("Content-Encoding"))
        except (zlib.error, zstandard.ZstdError):
            return 400
        one_line = data.find(b"\n") in (-1, len(data) - 1)
        if len(data) > (self.max_entry_bytes + 1 if one_line else self.bulk.max_bytes):
            return 413
        if data.count(b"\n") > self.bulk.max_entries:
            return 413
        return data[:-1].split(b"\n") if data.endswith(b"\n") else 400

    def get_head(self, target: Target, _request: Request) -> RawReply:
        stream, name, count = self._find(target.stream), target.query.get("generation"), target.query.get("entry_count")
        named = stream.generations.get(name) if name else stream.current
        if named is None:
            return _problem(404) if name or count is not None else _json(200, EMPTY_HEAD)
        if count is not None and self.tells_heads_within:
            if int(count) > len(named.lines):
                return _problem(404)
            return _json(200, named.head_at(target.stream, int(count)))
        return _json(200, named.head())

    def post_generation(self, target: Target, request: Request) -> RawReply:
        if not self.generations:
            return _problem(404)
        asked = msgspec.json.decode(body_bytes(request), type=_NewGeneration)
        if asked.parent is None and asked.shared_entries:
            return _problem(400)
        if target.session in self.deleted:
            return _problem(410)
        stream = self._find(target.stream)
        known = stream.generations.get(asked.generation)
        begun = (asked.parent, asked.shared_entries)
        if known is not None:
            return _json(201 if known.begun == begun else 409, known.head())
        parent = stream.generations.get(asked.parent) if asked.parent else None
        if asked.parent is None and stream.current is None:
            parent = Generation("")
        if parent is None or len(parent.lines) < asked.shared_entries:
            return _json(409, stream.head())
        made = Generation(asked.generation, begun=begun)
        made.extend(target.stream, parent.lines[: asked.shared_entries], None)
        return _json(201, self._stream(target.stream).begin(made).head())

    def get_streams(self, target: Target, _request: Request) -> RawReply:
        session = self.sessions.get(target.session)
        if session is None:
            return _problem(404)
        rows = [
            Row(subpath, one.head(), one is stream.current, *one.begun)
            for subpath, stream in sorted(session.streams.items())
            for one in stream.generations.values()
        ]
        return _json(200, StreamList(tuple(rows)))

    def get_entries(self, target: Target, _request: Request) -> RawReply:
        stream = self._find(target.stream)
        name = target.query.get("generation")
        found = stream.generations.get(name) if name else stream.current
        if found is None:
            return _problem(404)
        after = int(target.query.get("after", 0))
        lines = found.lines[after : after + int(target.query.get("limit", len(found.lines)))]
        return RawReply(200, {"content-type": NDJSON}, b"".join(line + b"\n" for line in lines))

    def put_meta(self, target: Target, request: Request) -> RawReply:
        if target.session in self.deleted:
            return _problem(410)
        self._session(target.session).meta = msgspec.json.decode(body_bytes(request), type=Meta)
        return RawReply(204, {}, b"")

    def get_meta(self, target: Target, _request: Request) -> RawReply:
        session = self.sessions.get(target.session)
        return _problem(404) if session is None else _json(200, session.meta)

    def delete(self, target: Target, _request: Request) -> RawReply:
        self.sessions.pop(target.session, None)
        self.deleted.add(target.session)
        return RawReply(204, {}, b"")

    def restore(self, target: Target, _request: Request) -> RawReply:
        self.deleted.discard(target.session)
        return RawReply(204, {}, b"")

    # --- side files -------------------------------------------------------------------------------------------

    def put_file(self, target: Target, request: Request) -> RawReply:
        if (status := self.refuse(target.session, [])) is not None:
            return _problem(status)
        if target.session in self.deleted:
            return _problem(410)
        told = request.headers["Content-Digest"]
        kept = self._unfinished.pop(told, b"") if "Content-Range" in request.headers else b""
        first = request.headers.get("Content-Range", "bytes 0-").removeprefix("bytes ").partition("-")[0]
        if first.isdigit() and int(first) != len(kept):
            self._unfinished[told] = kept
            return _problem(409, {"upload-offset": str(len(kept))})
        data = kept + body_bytes(request)
        if self.breaks_off:
            self.breaks_off, self._unfinished[told] = False, data[: len(data) // 2]
            return _problem(503)
        if render_digest(sha256(data).digest()) != told:
            return _problem(422)
        stream = StreamId(target.session, unquote(target.tail))
        self._session(target.session).files[stream.subpath] = data
        self.took_file(stream, data)
        return RawReply(201, {}, b"")

    def head_file(self, target: Target, request: Request) -> RawReply:
        kept = {"upload-offset": str(len(self._unfinished.get(request.headers["Content-Digest"], b"")))}
        data = self.files_of(target.session).get(unquote(target.tail))
        if data is None:
            return RawReply(404, kept, b"")
        there = {"content-digest": render_digest(sha256(data).digest()), "content-length": str(len(data))}
        return RawReply(200, kept | there, b"")

    def files_of(self, session_id: str) -> dict[str, bytes]:
        """Subpath → content."""
        session = self.sessions.get(session_id)
        return session.files if session else {}

    # --- what is there ----------------------------------------------------------------------------------------

    def _find(self, stream: StreamId) -> Stream:
        """The stream, or an empty one that nobody keeps."""
        session = self.sessions.get(stream.session_id)
        found = session.streams.get(stream.subpath) if session else None
        return found or Stream()

    def _session(self, session_id: str) -> Session:
        return self.sessions.setdefault(session_id, Session())

    def _stream(self, stream: StreamId) -> Stream:
        return self._session(stream.session_id).streams.setdefault(stream.subpath, Stream())

    def head(self, stream: StreamId) -> Head:
        return self._find(stream).head()

    def current(self, stream: StreamId) -> Generation | None:
        return self._find(stream).current

    def generation(self, stream: StreamId, name: str) -> Generation | None:
        return self._find(stream).generations.get(name)

    def generations_of(self, stream: StreamId) -> list[Generation]:
        return list(self._find(stream).generations.values())

    def names(self, stream: StreamId) -> list[str]:
        """Of its generations, oldest first."""
        return list(self._find(stream).generations)

    # --- what servers do besides ------------------------------------------------------------------------------

    def copy(self) -> dict[str, Session]:
        """A backup of all it holds."""
        return deepcopy(self.sessions)

    def set_back(self, backup: dict[str, Session]) -> None:
        """It broke, and was brought back from an older backup."""
        self.sessions = deepcopy(backup)
        self.has_lost = True

    def write_as_another(self, stream: StreamId, lines: list[bytes]) -> None:
        """Another agent goes on with the stream."""
        found = self._stream(stream)
        current = found.current or found.begin(Generation(self.new_uuid()))
        current.extend(stream, lines, None)


_ANSWERS: dict[tuple[str, str], Callable[[ModelServer, Target, Request], RawReply]] = {
    ("PUT", ""): ModelServer.put_entry,
    ("GET", ""): ModelServer.get_loglines,
    ("DELETE", ""): ModelServer.delete,
    ("POST", "restore"): ModelServer.restore,
    ("POST", "entries"): ModelServer.append,
    ("GET", "entries"): ModelServer.get_entries,
    ("POST", "generations"): ModelServer.post_generation,
    ("GET", "head"): ModelServer.get_head,
    ("GET", "streams"): ModelServer.get_streams,
    ("PUT", "meta"): ModelServer.put_meta,
    ("GET", "meta"): ModelServer.get_meta,
    ("PUT", FILES): ModelServer.put_file,
    ("HEAD", FILES): ModelServer.head_file,
}


def _entry_id(stream: StreamId, ordinal: int, line: bytes) -> str:
    return entry_uuid(line) or derived_id(*stream, ordinal, sha256(line).hexdigest())


def _is_object(line: bytes) -> bool:
    if not line.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def decode(body: bytes, encoding: str | None) -> bytes:
    match encoding:
        case "gzip":
            return zlib.decompress(body, 31)
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return body


def _json(status: int, value: object, headers: dict[str, str] | None = None) -> RawReply:
    return RawReply(status, {"content-type": JSON, **(headers or {})}, msgspec.json.encode(value))


def _problem(status: int, headers: dict[str, str] | None = None) -> RawReply:
    return RawReply(status, {"content-type": PROBLEM, **(headers or {})}, b'{"title":"no","status":%d}' % status)
