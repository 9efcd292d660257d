"""Does one thing: a task in, an outcome out. Knows files and the network; decides no state and keeps none."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from agent.core.identity import Cursor, marker_of
from agent.core.projects import matches_project
from agent.core.session import Facts, Head, Provider
from agent.core.transcript import (
    EMPTY_CHAIN,
    describe_line,
    entry_uuid,
    extend_chain,
    extend_chain_by_pieces,
    is_object,
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
    Unavailable,
    append_request,
    capabilities_request,
    decide_append_reply,
    decide_put_reply,
    decide_upload_reply,
    health_request,
    meta_request,
    parse_capabilities,
    parse_health,
    put_entry_request,
)
from agent.daemon.asking import Asker, Sender
from agent.daemon.filesender import FileSender
from agent.daemon.reading import first_facts, marker_at, marker_behind, window_at
from agent.daemon.realigner import Realigner
from agent.daemon.tasks import (
    FileTask,
    MetaSent,
    MetaTask,
    Outcome,
    Probed,
    ProbeTask,
    Pushed,
    PushTask,
    RealignTask,
    Rewritten,
    Task,
    Unreadable,
    UploadTask,
    Withheld,
)
from agent.daemon.world import Files, OpenFile
from agent.errors import DiskError, FileVanished
from agent.system import files as real_files


class _Batch(NamedTuple):
    """Whole lines to send at once, after tombstones took their places. `end`: offset behind them in the file."""

    body: bytes | LongBody
    entries: int
    end: int
    chain: bytes
    marker: bytes


class _Sent(NamedTuple):
    """How far it went, the last answer, and how many entries that was about."""

    cursor: Cursor
    reply: Reply
    at_fault: int
    facts: Facts


class _Lines(NamedTuple):
    """Whole lines at a cursor, and what stands before them. `tail`: the file has no newline behind the last one."""

    before: bytes
    data: bytes
    tail: bool


class Pusher:
    """For any number of threads. `is_stopping` is asked between the entries of a run."""

    def __init__(
        self,
        senders: Mapping[str, Sender],
        providers: Mapping[str, Provider],
        now_s: Callable[[], float],
        is_stopping: Callable[[], bool] = lambda: False,
        *,
        files: Files = real_files,
        pause: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._files = files
        self._asker = Asker(senders, now_s)
        self._realigner = Realigner(self._asker, files)
        self._file_sender = FileSender(self._asker, providers, files, pause)
        self._providers = providers
        self._is_stopping = is_stopping

    def run(self, task: Task) -> Outcome:
        if isinstance(task, ProbeTask):
            return self._probe(task)
        if isinstance(task, MetaTask):
            reply = self._asker.ask(task.destination, meta_request(task.session_id, task.meta), _decide_meta_reply)
            return MetaSent(task.destination, task.session_id, task.provider, task.digest, reply)
        try:
            match task:
                case PushTask():
                    return self._push(task)
                case RealignTask():
                    return self._realigner.realign(task)
                case FileTask():
                    return self._file_sender.send_file(task)
                case UploadTask():
                    return self._file_sender.upload(task)
        except FileVanished as exc:
            return Unreadable(task.key, exc.message, vanished=True)
        except DiskError as exc:
            return Unreadable(task.key, exc.message, vanished=False)

    def _probe(self, task: ProbeTask) -> Probed:
        if task.upload:
            gzip: list[bool] = []

            def decide(raw: RawReply, now_s: float) -> Reply:
                """Servers need not have this page."""
                gzip.append(parse_health(raw))
                reply = decide_upload_reply(raw, now_s)
                return reply if isinstance(reply, (NeedsLogin, Unavailable)) else Accepted()

            reply = self._asker.ask(task.destination, health_request(), decide)
            return Probed(task.destination, Capabilities(), reply, gzip=any(gzip))
        answer = self._asker.fetch(task.destination, capabilities_request(), parse_capabilities)
        if isinstance(answer, Capabilities):
            return Probed(task.destination, answer, Accepted())
        return Probed(task.destination, None, answer)

    # --- sending ----------------------------------------------------------------------------------------------

    def _push(self, task: PushTask) -> Outcome:
        with self._files.open_file(task.path) as file:
            size, before = file.size(), window_at(file, task.cursor.offset)
            if size < task.cursor.offset or marker_of(before) != task.cursor.marker:
                return Rewritten(task.key)
            if task.projects:
                facts = first_facts(self._providers[task.provider], file, task.facts)
                if not matches_project(facts.project, task.projects):
                    return Withheld(task.key, facts)
            if task.check and not self._is_as_sent(task):
                return Rewritten(task.key)
            if before and not before.endswith(b"\n"):
                newline = file.read_at(task.cursor.offset, 1)
                if newline not in (b"", b"\n"):
                    return Rewritten(task.key)  # glued to what travelled as an entry
                task = task._replace(cursor=_behind_newline(task.cursor, before, newline))
                before += newline
            data = file.read_at(task.cursor.offset, task.max_bytes)
            whole = whole_lines_bytes(data)
            if whole == 0 and len(data) >= task.max_bytes:
                return self._push_long(task, file, size)
            if whole == 0 and not (task.tail and is_object(data)):
                return Pushed(task.key, task.cursor, Accepted(), more=False, facts=task.facts)
            lines = _Lines(before, data if whole else data + b"\n", tail=whole == 0)
            sent = self._send_batch(task, lines) if task.bulk else self._send_run(task, lines)
            more = sent.cursor.offset < task.cursor.offset + whole or len(data) >= task.max_bytes
            return Pushed(task.key, sent.cursor, sent.reply, more, sent.facts, sent.at_fault)

    def _is_as_sent(self, task: PushTask) -> bool:
        """Whether every byte before the cursor is what was sent: a look at all that a marker can't see."""
        if task.cursor.entry_count == 0 or task.cursor.chain == EMPTY_CHAIN:
            return True
        with self._files.open_lines(task.path) as source:
            for mark in walk_entries(source, *task.key.stream, tombstones=task.tombstones, with_tail=True):
                if mark.ordinal == task.cursor.entry_count:
                    return mark.chain == task.cursor.chain
        return False

    def _send_batch(self, task: PushTask, lines: _Lines) -> _Sent:
        cursor, provider = task.cursor, self._providers[task.provider]
        run = measure_run(cursor.chain, lines.data, task.max_entries, provider.telling)
        body = lines.data if run.size == len(lines.data) else lines.data[: run.size]
        read = body[:-1] if lines.tail else body
        batch = _Batch(body, run.entries, cursor.offset + len(read), run.chain, marker_behind(lines.before, read))
        if task.tombstones:
            first = cursor.entry_count + 1
            sent = [_as_sent(line, task.tombstones.get(first + at)) for at, line in enumerate(split_lines(body))]
            batch = batch._replace(body=b"\n".join(sent) + b"\n", chain=extend_chain(cursor.chain, sent))
        return self._append(task, batch)._replace(facts=provider.read_facts(body, run.marked, task.facts))

    def _append(self, task: PushTask, batch: _Batch) -> _Sent:
        request = append_request(
            task.key.stream, task.cursor.head(), batch.body, chain_after=batch.chain, encoding=task.encoding
        )
        reply = self._asker.ask(task.key.destination, request, decide_append_reply)
        if not isinstance(reply, Accepted):
            return _Sent(task.cursor, reply, batch.entries, task.facts)
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
            return _Sent(task.cursor, Conflict(head), batch.entries, task.facts)
        return _Sent(cursor, reply, batch.entries, task.facts)

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
        sent = self._append(task, _Batch(body, 1, newline + 1, chain, marker_at(file, newline + 1)))
        return Pushed(task.key, sent.cursor, sent.reply, more, task.facts, at_fault=1)

    def _put_long(self, task: PushTask, file: OpenFile, length: int, status: int | None) -> tuple[Cursor, Reply]:
        start, cursor = task.cursor.offset, task.cursor
        _, found, digest = describe_line(file.pieces(start, length))
        stone = tombstone_line(length, digest, found, status) if status is not None else None
        if stone is None:
            chain = extend_chain_by_pieces(cursor.chain, file.pieces(start, length))
        else:
            chain = extend_chain(cursor.chain, [stone])
        passed = cursor._replace(
            offset=start + length + 1,
            entry_count=cursor.entry_count + 1,
            chain=chain,
            marker=marker_at(file, start + length + 1),
        )
        if found is None:
            return passed, Accepted()
        reply = self._put(task, cursor.last_uuid, stone or LongBody(length, lambda: file.pieces(start, length)))
        if not isinstance(reply, Accepted):
            return cursor, reply
        return passed._replace(last_uuid=found, sent_count=cursor.sent_count + 1), reply

    def _send_run(self, task: PushTask, lines: _Lines) -> _Sent:
        """One entry a request, as far as it goes. Entries without a uuid have no place on a base server."""
        at, cursor = 0, task.cursor
        answer: Reply = Accepted()
        for line in split_lines(lines.data[: whole_lines_bytes(lines.data)]):
            body, found = _as_sent(line, task.tombstones.get(cursor.entry_count + 1)), entry_uuid(line)
            if found is not None:
                answer = self._put(task, cursor.last_uuid, body)
                if not isinstance(answer, Accepted):
                    break
                cursor = cursor._replace(last_uuid=found, sent_count=cursor.sent_count + 1)
            at += len(line) + 1
            cursor = cursor._replace(entry_count=cursor.entry_count + 1, chain=extend_chain(cursor.chain, [body]))
            if self._is_stopping():
                break
        if at == 0:
            return _Sent(task.cursor, answer, 1, task.facts)
        read = lines.data[: at - lines.tail]
        cursor = cursor._replace(offset=cursor.offset + len(read), marker=marker_behind(lines.before, read))
        # Facts of a session are not told to a base server; `sessions list` shows them all the same.
        return _Sent(cursor, answer, 1, self._providers[task.provider].read_facts(lines.data, (), task.facts))

    def _put(self, task: PushTask, last: str | None, body: bytes | LongBody) -> Reply:
        request = put_entry_request(task.key.session_id, last, body)
        return self._asker.ask(task.key.destination, request, decide_put_reply)


def _decide_meta_reply(raw: RawReply, now_s: float) -> Reply:
    if raw.status in (200, 201, 204):
        return Accepted()
    return decide_put_reply(raw, now_s)


def _as_sent(line: bytes, status: int | None) -> bytes:
    if status is None:
        return line
    size, found, digest = describe_line([line])
    return tombstone_line(size, digest, found, status)


def _behind_newline(cursor: Cursor, before: bytes, newline: bytes) -> Cursor:
    """A last line that travelled without a newline may get one later: that is no new entry."""
    return cursor._replace(offset=cursor.offset + len(newline), marker=marker_behind(before, newline))
