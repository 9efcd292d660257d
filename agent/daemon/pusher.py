"""Does one thing: a task in, an outcome out. Knows files and the network; decides no state and keeps none."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeVar

from agent.core.identity import (
    MARKER_WINDOW_BYTES,
    START,
    Cursor,
    find_base_places,
    find_head,
    marker_of,
)
from agent.core.session import Facts, Head, Provider
from agent.core.transcript import (
    describe_line,
    entry_uuid,
    extend_chain,
    extend_chain_by_pieces,
    measure_run,
    split_lines,
    tombstone_line,
    walk_entries,
    whole_lines_bytes,
)
from agent.core.wire import (
    Accepted,
    Capabilities,
    Conflict,
    LongBody,
    NeedsLogin,
    RawReply,
    Reply,
    Request,
    Unavailable,
    append_request,
    capabilities_request,
    decide_append_reply,
    decide_put_reply,
    head_request,
    loglines_request,
    meta_request,
    parse_capabilities,
    parse_head,
    parse_loglines,
    put_entry_request,
)
from agent.daemon.tasks import (
    MetaSent,
    MetaTask,
    Outcome,
    Probed,
    ProbeTask,
    Pushed,
    PushTask,
    Realigned,
    RealignFailed,
    RealignTask,
    Rewritten,
    Task,
    Unreadable,
)
from agent.daemon.world import Files, OpenFile
from agent.errors import DiskError, FileVanished, Unauthorized, Unreachable
from agent.system import files as real_files

_T = TypeVar("_T")

LOGLINES_LIMIT_BYTES = 256 << 20
"""A base server tells its head only with the whole session around it."""


class Sender(Protocol):
    """`system.remote.Remote`, or a test's wire."""

    def send(self, request: Request) -> RawReply: ...


class _Batch(NamedTuple):
    """Whole lines to send at once, after tombstones took their places."""

    body: bytes | LongBody
    entries: int
    end: int
    chain: bytes
    marker: bytes


class Pusher:
    """For any number of threads. `is_stopping` is asked between the entries of a run."""

    def __init__(
        self,
        senders: Mapping[str, Sender],
        providers: Mapping[str, Provider],
        now_s: Callable[[], float],
        is_stopping: Callable[[], bool] = lambda: False,
        files: Files = real_files,
    ) -> None:
        self._files = files
        self._senders = senders
        self._providers = providers
        self._now_s = now_s
        self._is_stopping = is_stopping

    def run(self, task: Task) -> Outcome:
        if isinstance(task, ProbeTask):
            return self._probe(task)
        if isinstance(task, MetaTask):
            reply = self._ask(task.destination, meta_request(task.session_id, task.meta), _decide_meta_reply)
            return MetaSent(task.destination, task.session_id, task.provider, task.digest, reply)
        try:
            return self._push(task) if isinstance(task, PushTask) else self._realign(task)
        except FileVanished as exc:
            return Unreadable(task.key, exc.message, vanished=True)
        except DiskError as exc:
            return Unreadable(task.key, exc.message, vanished=False)

    # --- sending ----------------------------------------------------------------------------------------------

    def _push(self, task: PushTask) -> Outcome:
        cursor = task.cursor
        with self._files.open_file(task.path) as file:
            size, before = file.size(), _window_at(file, cursor.offset)
            if size < cursor.offset or marker_of(before) != cursor.marker:
                return Rewritten(task.key)
            data = file.read_at(cursor.offset, task.max_bytes)
            whole = whole_lines_bytes(data)
            if whole == 0 and len(data) >= task.max_bytes:
                return self._push_long(task, file, size)
            if whole == 0:
                return Pushed(task.key, cursor, Accepted(), more=False, facts=task.facts)
            send = self._send_batch if task.bulk else self._send_run
            cursor, reply, at_fault, facts = send(task, before, data)
            more = cursor.offset < task.cursor.offset + whole or len(data) >= task.max_bytes
            return Pushed(task.key, cursor, reply, more, facts, at_fault)

    def _send_batch(self, task: PushTask, before: bytes, data: bytes) -> tuple[Cursor, Reply, int, Facts]:
        cursor, provider = task.cursor, self._providers[task.provider]
        run = measure_run(cursor.chain, data, task.max_entries, provider.telling)
        body = data if run.size == len(data) else data[: run.size]
        batch = _Batch(body, run.entries, cursor.offset + run.size, run.chain, _marker_behind(before, body))
        if task.tombstones:
            first = cursor.entry_count + 1
            sent = [_as_sent(line, task.tombstones.get(first + at)) for at, line in enumerate(split_lines(body))]
            batch = batch._replace(body=b"\n".join(sent) + b"\n", chain=extend_chain(cursor.chain, sent))
        return *self._append(task, batch), provider.read_facts(body, run.marked, task.facts)

    def _append(self, task: PushTask, batch: _Batch) -> tuple[Cursor, Reply, int]:
        request = append_request(
            task.key.stream, task.cursor.head(), batch.body, chain_after=batch.chain, encoding=task.encoding
        )
        reply = self._ask(task.key.destination, request, decide_append_reply)
        if not isinstance(reply, Accepted):
            return task.cursor, reply, batch.entries
        head = reply.head or Head()
        cursor = Cursor(
            batch.end,
            task.cursor.entry_count + batch.entries,
            head.last_uuid,
            batch.chain,
            batch.marker,
            head.generation,
            task.cursor.sent_count + batch.entries,
        )
        if head.entry_count != cursor.entry_count or head.chain_hash not in (None, cursor.chain.hex()):
            return task.cursor, Conflict(head), batch.entries
        return cursor, reply, batch.entries

    def _push_long(self, task: PushTask, file: OpenFile, size: int) -> Outcome:
        """A line above `max_bytes`, streamed: read once to hash it, and once to send it."""
        start = task.cursor.offset
        newline = file.find_newline(start)
        if newline < 0:
            return Pushed(task.key, task.cursor, Accepted(), more=False, facts=task.facts)
        length = newline - start
        status = task.tombstones.get(task.cursor.entry_count + 1)
        more = newline + 1 < size
        if not task.bulk:
            cursor, reply = self._put_long(task, file, length, status)
            return Pushed(task.key, cursor, reply, more, task.facts, at_fault=1)
        if status is None:
            body: bytes | LongBody = LongBody(length + 1, lambda: file.pieces(start, length + 1))
            chain = extend_chain_by_pieces(task.cursor.chain, file.pieces(start, length))
        else:
            found_size, found, digest = describe_line(file.pieces(start, length))
            stone = tombstone_line(found_size, digest, found, status)
            body, chain = stone + b"\n", extend_chain(task.cursor.chain, [stone])
        batch = _Batch(body, 1, newline + 1, chain, _marker_at(file, newline + 1))
        cursor, reply, _ = self._append(task, batch)
        return Pushed(task.key, cursor, reply, more, task.facts, at_fault=1)

    def _put_long(self, task: PushTask, file: OpenFile, length: int, status: int | None) -> tuple[Cursor, Reply]:
        start, cursor = task.cursor.offset, task.cursor
        _, found, digest = describe_line(file.pieces(start, length))
        passed = cursor._replace(
            offset=start + length + 1,
            entry_count=cursor.entry_count + 1,
            marker=_marker_at(file, start + length + 1),
        )
        if found is None:
            return passed, Accepted()
        body: bytes | LongBody = LongBody(length, lambda: file.pieces(start, length))
        if status is not None:
            body = tombstone_line(length, digest, found, status)
        reply = self._put(task, cursor.last_uuid, body)
        if not isinstance(reply, Accepted):
            return cursor, reply
        return passed._replace(last_uuid=found, sent_count=cursor.sent_count + 1), reply

    def _send_run(self, task: PushTask, before: bytes, data: bytes) -> tuple[Cursor, Reply, int, Facts]:
        """One entry a request, as far as it goes. Entries without a uuid have no place on a base server."""
        offset, count, sent = task.cursor.offset, task.cursor.entry_count, task.cursor.sent_count
        last = task.cursor.last_uuid
        answer: Reply = Accepted()
        for line in split_lines(data[: whole_lines_bytes(data)]):
            found = entry_uuid(line)
            if found is not None:
                body = _as_sent(line, task.tombstones.get(count + 1))
                answer = self._put(task, last, body)
                if not isinstance(answer, Accepted):
                    break
                last, sent = found, sent + 1
            offset, count = offset + len(line) + 1, count + 1
            if self._is_stopping():
                break
        if offset == task.cursor.offset:
            return task.cursor, answer, 1, task.facts
        marker = _marker_behind(before, data[: offset - task.cursor.offset])
        cursor = Cursor(offset, count, last, task.cursor.chain, marker, task.cursor.generation, sent)
        # Facts of a session are not told to a base server; `sessions list` shows them all the same.
        return cursor, answer, 1, self._providers[task.provider].read_facts(data, (), task.facts)

    def _put(self, task: PushTask, last: str | None, body: bytes | LongBody) -> Reply:
        request = put_entry_request(task.key.session_id, last, body)
        return self._ask(task.key.destination, request, decide_put_reply)

    # --- asking -----------------------------------------------------------------------------------------------

    def _ask(self, destination: str, request: Request, decide: Callable[[RawReply, float], Reply]) -> Reply:
        try:
            return decide(self._senders[destination].send(request), self._now_s())
        except Unauthorized:
            return NeedsLogin()
        except Unreachable as exc:
            return Unavailable(exc.message, everybody=True)

    def _probe(self, task: ProbeTask) -> Probed:
        found: list[Capabilities] = []

        def decide(raw: RawReply, now_s: float) -> Reply:
            offered = parse_capabilities(raw)
            if offered is None:
                return decide_append_reply(raw, now_s)
            found.append(offered)
            return Accepted()

        reply = self._ask(task.destination, capabilities_request(), decide)
        return Probed(task.destination, found[0] if found else None, reply)

    # --- finding the server's head in the file ----------------------------------------------------------------

    def _realign(self, task: RealignTask) -> Outcome:
        found = self._realign_bulk(task) if task.bulk else self._realign_base(task)
        if isinstance(found, (Realigned, RealignFailed)):
            return found
        return RealignFailed(task.key, found)

    def _realign_bulk(self, task: RealignTask) -> Realigned | Reply:
        head = task.head
        if head is None:
            heads: list[Head] = []
            reply = self._ask(task.key.destination, head_request(task.key.stream), _collect(heads, _read_head))
            if not heads:
                return reply
            head = heads[0]
        if head.entry_count == 0:
            return Realigned(task.key, START._replace(generation=head.generation))
        with self._files.open_lines(task.path) as source:
            mark = find_head(walk_entries(source, *task.key.stream, tombstones=task.tombstones), head)
        if mark is None:
            return Realigned(task.key, None)
        with self._files.open_file(task.path) as file:
            marker = _marker_at(file, mark.end)
        cursor = Cursor(mark.end, mark.ordinal, head.last_uuid, mark.chain, marker, head.generation, mark.ordinal)
        return Realigned(task.key, cursor)

    def _realign_base(self, task: RealignTask) -> Realigned | Reply:
        last = task.head.last_uuid if task.head else None
        stored: list[str | None] | None = None
        if last is None:
            asked = self._loglines(task)
            if not isinstance(asked, list):
                return asked
            stored = asked
            if not stored:
                return Realigned(task.key, START)
            last = next((one for one in reversed(stored) if one is not None), None)
            if last is None:
                return Realigned(task.key, None)
        with self._files.open_lines(task.path) as source:
            places = find_base_places(walk_entries(source, *task.key.stream), last)
        if len(places.places) > 1 and stored is None:
            asked = self._loglines(task)
            stored = asked if isinstance(asked, list) else None
        mark = places.choose(task.cursor.offset, len(stored) if stored is not None else None)
        if mark is None:
            if not self._is_unchanged(task):
                return Realigned(task.key, None)
            return Realigned(task.key, task.cursor._replace(last_uuid=last), foreign=True)
        rank = next(rank for rank, place in places.places if place is mark)
        with self._files.open_file(task.path) as file:
            marker = _marker_at(file, mark.end)
        cursor = START._replace(
            offset=mark.end, entry_count=mark.ordinal, last_uuid=last, marker=marker, sent_count=rank
        )
        return Realigned(task.key, cursor)

    def _is_unchanged(self, task: RealignTask) -> bool:
        """Whether what stands before the cursor is still what was sent."""
        with self._files.open_file(task.path) as file:
            return file.size() >= task.cursor.offset and _marker_at(file, task.cursor.offset) == task.cursor.marker

    def _loglines(self, task: RealignTask) -> list[str | None] | Reply:
        found: list[list[str | None]] = []
        request = loglines_request(task.key.session_id, max_reply_bytes=LOGLINES_LIMIT_BYTES)
        reply = self._ask(task.key.destination, request, _collect(found, parse_loglines))
        return found[0] if found else reply


def _collect(into: list[_T], parse: Callable[[RawReply], _T | None]) -> Callable[[RawReply, float], Reply]:
    """A `decide` that puts what `parse` finds into a list, and gives a verdict on everything else."""

    def decide(raw: RawReply, now_s: float) -> Reply:
        value = parse(raw)
        if value is None:
            return decide_append_reply(raw._replace(body=b""), now_s)
        into.append(value)
        return Accepted()

    return decide


def _read_head(raw: RawReply) -> Head | None:
    if raw.status == 404:
        return Head()
    return parse_head(raw.body) if raw.status == 200 else None


def _decide_meta_reply(raw: RawReply, now_s: float) -> Reply:
    if raw.status in (200, 201, 204):
        return Accepted()
    return decide_put_reply(raw, now_s)


def _as_sent(line: bytes, status: int | None) -> bytes:
    if status is None:
        return line
    size, found, digest = describe_line([line])
    return tombstone_line(size, digest, found, status)


def _window_at(file: OpenFile, offset: int) -> bytes:
    """What a marker is made of: the bytes before `offset`."""
    window = min(offset, MARKER_WINDOW_BYTES)
    return file.read_at(offset - window, window)


def _marker_at(file: OpenFile, offset: int) -> bytes:
    return marker_of(_window_at(file, offset))


def _marker_behind(before: bytes, sent: bytes) -> bytes:
    """The marker behind what was sent, from what was read for that: the file may be another one by now."""
    return marker_of(sent if len(sent) >= MARKER_WINDOW_BYTES else before + sent)
