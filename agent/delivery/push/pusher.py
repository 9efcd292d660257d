"""Does one thing: a task in, an outcome out. Knows files and the network; decides no state and keeps none."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain as joined
from typing import NamedTuple

from msgspec import structs

from agent.core.delivery.projects import matches_project
from agent.core.privacy.rules import Grounds
from agent.core.redaction.redactor import Redactor
from agent.core.transcripts.identity import MARKER_WINDOW_BYTES, Cursor, marker_of
from agent.core.transcripts.objects import is_object, is_object_in_pieces
from agent.core.transcripts.session import Facts, Head, Provider, Rejected
from agent.core.transcripts.transcript import (
    EMPTY_CHAIN,
    apart,
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
    BadEntry,
    Capabilities,
    Conflict,
    LongBody,
    NeedsLogin,
    RawReply,
    Reply,
    TooLarge,
    Unavailable,
    append_request,
    capabilities_request,
    decide_append_reply,
    decide_delete_reply,
    decide_put_reply,
    decide_restore_reply,
    decide_upload_reply,
    delete_request,
    health_request,
    meta_request,
    parse_capabilities,
    parse_health,
    put_entry_request,
    restore_request,
)
from agent.delivery.base.reading import first_facts, marker_at, marker_behind, window_at, without_secrets
from agent.delivery.base.world import Files, OpenFile
from agent.delivery.privacy.permits import WHOLE, Guard
from agent.delivery.push.asking import Asker, Sender
from agent.delivery.push.filesender import FileSender
from agent.delivery.push.realigner import Realigner
from agent.delivery.state.tasks import (
    DeleteTask,
    FileTask,
    KeptBack,
    Leave,
    MetaSent,
    MetaTask,
    Outcome,
    Probed,
    ProbeTask,
    Pushed,
    PushTask,
    RealignTask,
    Restored,
    RestoreTask,
    Rewritten,
    SessionDeleted,
    StreamTask,
    Task,
    Unreadable,
    UploadTask,
    Withheld,
)
from agent.errors import DiskError, FileVanished, NotShared, RedactionTimeout
from agent.system.files import reading as real_files


class _Batch(NamedTuple):
    """Whole lines to send at once. `end`: offset behind them in the file."""

    body: bytes | LongBody
    entries: int
    end: int
    chain: bytes
    marker: bytes
    raw_chain: bytes


class _Sent(NamedTuple):
    """How far it went, the last answer, and how many entries that was about. `tombstones`: see `Pushed`."""

    cursor: Cursor
    reply: Reply
    at_fault: int
    facts: Facts
    tombstones: Mapping[int, Rejected] = {}
    redacted: Mapping[str, int] = {}


class _Stretch(NamedTuple):
    """Where a long line stands. `behind`: the offset behind it and its newline, if it has one."""

    file: OpenFile
    start: int
    length: int
    behind: int


class _Lines(NamedTuple):
    """Whole lines at a cursor, and what stands before them. `tail`: the file has no newline behind the last one."""

    before: bytes
    data: bytes
    tail: bool


class Pusher:
    """For any number of threads. `is_stopping` is asked between the entries of a run. Nothing of a session leaves but
    with a permit of `guard` and through `redactor`; `start_redacting` is told when a task begins, which may use only so
    much time for that."""

    def __init__(
        self,
        senders: Mapping[str, Sender],
        providers: Mapping[str, Provider],
        now_s: Callable[[], float],
        is_stopping: Callable[[], bool] = lambda: False,
        *,
        files: Files = real_files,
        pause: Callable[[float], None] = lambda _: None,
        guard: Guard,
        redactor: Redactor,
        start_redacting: Callable[[], None] = lambda: None,
    ) -> None:
        self._files = files
        self._guard = guard
        self._asker = Asker(senders, now_s)
        self._redactor = redactor
        self._start_redacting = start_redacting
        self._realigner = Realigner(self._asker, files, redactor)
        self._file_sender = FileSender(self._asker, providers, files, pause, redactor)
        self._providers = providers
        self._is_stopping = is_stopping

    def run(self, task: Task) -> Outcome:
        self._start_redacting()
        if isinstance(task, ProbeTask):
            return self._probe(task)
        if isinstance(task, MetaTask):
            return self._tell(task)
        if isinstance(task, DeleteTask):
            # Of what is private nothing leaves, but the wish that it be forgotten.
            reply = self._asker.ask(task.destination, delete_request(task.session_id), decide_delete_reply, None)
            return SessionDeleted(task.destination, task.session_id, reply)
        try:
            return self._run_stream(task)
        except RedactionTimeout as exc:
            return Unreadable(task.key, task.path, exc.message, vanished=False)
        except NotShared as exc:
            grounds = Grounds(*exc.grounds)
            return KeptBack(task.key, exc.message, exc.certain, exc.under, exc.blind, exc.stale, exc.used, grounds)
        except FileVanished as exc:
            return Unreadable(task.key, task.path, exc.message, vanished=True)
        except DiskError as exc:
            return Unreadable(task.key, task.path, exc.message, vanished=False)

    def _run_stream(self, task: StreamTask) -> Outcome:
        match task:
            case PushTask():
                return self._push(task._replace(leave=self._permit(task, task.cursor.offset)))
            case RealignTask():
                return self._realigner.realign(task._replace(leave=self._permit(task, WHOLE)))
            case FileTask():
                return self._file_sender.send_file(task._replace(leave=self._permit(task, 0)))
            case UploadTask():
                return self._file_sender.upload(task._replace(leave=self._permit(task, 0)))
            case RestoreTask():
                return self._restore(task._replace(leave=self._permit(task, WHOLE)))

    def _permit(self, task: StreamTask, end: int) -> Leave:
        """A permit that has seen what left of the session before, and of the file up to `end`."""
        leave = task.leave
        permit = self._guard.permit(task.key.session_id, leave.facts, leave.provider, leave.grounds)
        if leave.main_path and leave.main_path != task.path:
            with contextlib.suppress(FileVanished):  # what is known of the session has to do
                permit.review(leave.main_path, WHOLE, leave.judged)
        for other in leave.others:
            with contextlib.suppress(FileVanished):
                permit.look(other, 0, WHOLE)  # nobody has judged it
        permit.review(task.path, end, leave.judged)
        return leave._replace(permit=permit)

    def _restore(self, task: RestoreTask) -> Restored:
        request = restore_request(task.key.session_id)
        return Restored(
            task.key, self._asker.ask(task.key.destination, request, decide_restore_reply, task.leave.granted)
        )

    def _tell(self, task: MetaTask) -> MetaSent:
        told = partial(MetaSent, task.destination, task.session_id, task.provider, task.digest)
        try:
            leave = task.leave
            permit = self._guard.permit(task.session_id, leave.facts, leave.provider, leave.grounds)
            if leave.main_path:
                permit.review(leave.main_path, WHOLE, leave.judged)
            clean = self._redactor.redact_text
            meta = structs.replace(task.meta, project=clean(task.meta.project), title=clean(task.meta.title))
            request = meta_request(task.session_id, meta)
            return told(self._asker.ask(task.destination, request, _decide_meta_reply, permit))
        except (NotShared, DiskError, RedactionTimeout) as exc:
            return told(Unavailable(exc.message), stale=isinstance(exc, NotShared) and exc.stale)

    def _probe(self, task: ProbeTask) -> Probed:
        if task.upload:
            gzip: list[bool] = []

            def decide(raw: RawReply, now_s: float) -> Reply:
                """Servers need not have this page."""
                gzip.append(parse_health(raw))
                reply = decide_upload_reply(raw, now_s)
                return reply if isinstance(reply, (NeedsLogin, Unavailable)) else Accepted()

            reply = self._asker.ask(task.destination, health_request(), decide, None)
            return Probed(task.destination, Capabilities(), reply, gzip=any(gzip))
        answer = self._asker.fetch(task.destination, capabilities_request(), parse_capabilities, None)
        if isinstance(answer, Capabilities):
            return Probed(task.destination, answer, Accepted())
        return Probed(task.destination, None, answer)

    # --- sending ----------------------------------------------------------------------------------------------

    def _push(self, task: PushTask) -> Outcome:
        with self._files.open_file(task.path) as file:
            size, before = file.size(), window_at(file, task.cursor.offset)
            if size < task.cursor.offset or marker_of(before) != task.cursor.marker:
                return self._rewritten(task)
            if task.projects:
                facts = first_facts(self._providers[task.provider], file, task.leave.facts)
                if not matches_project(facts.project, task.projects):
                    return Withheld(task.key, without_secrets(facts, self._redactor))
            if task.check and not self._is_as_sent(task):
                return self._rewritten(task)
            if before and not before.endswith(b"\n"):
                newline = file.read_at(task.cursor.offset, 1)
                if newline not in (b"", b"\n"):
                    return self._rewritten(task)  # glued to what travelled as an entry
                task = task._replace(cursor=_behind_newline(task.cursor, before, newline))
                before += newline
            data = file.read_at(task.cursor.offset, task.max_bytes)
            if window_at(file, task.cursor.offset) != before[-MARKER_WINDOW_BYTES:]:
                return self._rewritten(task)  # in place, between the two looks
            whole = whole_lines_bytes(data)
            if not self._goes_on_as_retained(task, data, None if whole else file):
                return self._rewritten(task)
            if whole == 0 and len(data) >= task.max_bytes:
                return self._push_long(task, file)
            if whole == 0 and not (task.tail and is_object(data)):
                return Pushed(task.key, task.cursor, Accepted(), more=False, facts=task.leave.facts)
            lines = _Lines(before, data if whole else data + b"\n", tail=whole == 0)
            task.leave.granted.see(lines.data)
            sent = self._send_batch(task, lines) if task.bulk else self._send_run(task, lines)
            more = sent.cursor.offset < task.cursor.offset + whole or len(data) >= task.max_bytes
            return _pushed(task, sent, more)

    def _rewritten(self, task: PushTask) -> Rewritten:
        if not task.retained or self._is_one_file(task):
            return Rewritten(task.key)
        with contextlib.suppress(DiskError), self._files.open_file(task.retained) as file:
            at = task.cursor.offset
            return Rewritten(task.key, older=file.size() != at or marker_at(file, at) != task.cursor.marker)
        return Rewritten(task.key)

    def _goes_on_as_retained(self, task: PushTask, data: bytes, file: OpenFile | None) -> bool:
        """Whether what follows the cursor is what is retained too, as far as that goes: `data`, and all behind it in
        `file` when a long line is to travel. Where what is retained can't be read it can't be delivered either, and
        nothing is won by waiting."""
        if not task.retained or self._is_one_file(task):
            return True
        with contextlib.suppress(DiskError), self._files.open_file(task.retained) as held:
            at = task.cursor.offset
            there = held.read_at(at, task.max_bytes)
            is_same = data.startswith(there)
            while is_same and file is not None and len(there) == task.max_bytes:
                at += len(there)
                there = held.read_at(at, task.max_bytes)
                is_same = file.read_at(at, len(there)) == there
            return is_same
        return True

    def _is_one_file(self, task: PushTask) -> bool:
        one, other = self._files.look_at(task.path), self._files.look_at(task.retained)
        return one is not None and other is not None and (one.device, one.inode) == (other.device, other.inode)

    def _is_as_sent(self, task: PushTask) -> bool:
        """Whether every byte before the cursor is what was sent: a look at all that a marker can't see."""
        if task.cursor.entry_count == 0 or task.cursor.chain == EMPTY_CHAIN:
            return True
        with self._files.open_lines(task.path) as source:
            walk = walk_entries(
                source, *task.key.stream, tombstones=task.tombstones, with_tail=True, cleaner=self._redactor
            )
            for mark in walk:
                if mark.ordinal == task.cursor.entry_count:
                    # Rules may have been others; a state from before there were any knows what was sent only.
                    same = mark.file_chain == task.cursor.file_chain
                    return same or (not task.cursor.raw_chain and mark.chain == task.cursor.chain)
        return False

    def _send_batch(self, task: PushTask, lines: _Lines) -> _Sent:
        cursor, provider = task.cursor, self._providers[task.provider]
        run = measure_run(cursor.file_chain, lines.data, task.max_entries, provider.telling)
        raw = lines.data if run.size == len(lines.data) else lines.data[: run.size]
        body, redacted = self._redactor.redact_lines(raw)
        chain = run.chain
        if body is not raw or cursor.raw_chain:
            chain = measure_run(cursor.chain, body, run.entries).chain
        read = raw[:-1] if lines.tail else raw
        marker = marker_behind(lines.before, read)
        batch = _Batch(body, run.entries, cursor.offset + len(read), chain, marker, apart(run.chain, chain))
        sent = self._append(task, batch)
        if (status := _refusal(sent)) is not None:
            sent = self._append_stone(task, batch, [body[:-1]], status)
        known = task.leave.facts.before(cursor.offset)
        facts = without_secrets(provider.read_facts(raw, run.marked, known), self._redactor)
        return sent._replace(facts=facts, redacted=redacted)

    def _append_stone(self, task: PushTask, batch: _Batch, line: Iterable[bytes], status: int) -> _Sent:
        """The one entry of `batch` was refused: another travels in its place, made of what was refused and of nothing
        that may have come there since. `line` in pieces."""
        stone, rejected = _tombstone(line, status, task)
        chain, raw_chain = extend_chain(task.cursor.chain, [stone]), batch.raw_chain or batch.chain
        sent = self._append(task, batch._replace(body=stone + b"\n", chain=chain, raw_chain=raw_chain))
        return sent._replace(tombstones={task.cursor.entry_count + 1: rejected})

    def _append(self, task: PushTask, batch: _Batch) -> _Sent:
        request = append_request(
            task.key.stream, task.cursor.head(), batch.body, chain_after=batch.chain, encoding=task.encoding
        )
        permit = task.leave.granted
        if _is_above(task.max_entry_bytes, batch.body, newline=1):
            return _Sent(task.cursor, TooLarge(), batch.entries, task.leave.facts)
        reply = self._asker.ask(task.key.destination, request, decide_append_reply, permit, repeatable=True)
        if not isinstance(reply, Accepted):
            return _Sent(task.cursor, reply, batch.entries, task.leave.facts)
        head = reply.head or Head()
        cursor = Cursor(
            batch.end,
            task.cursor.entry_count + batch.entries,
            head.last_uuid,
            batch.chain,
            batch.marker,
            head.generation,
            task.cursor.sent_count + batch.entries,
            batch.raw_chain,
        )
        if head.entry_count != cursor.entry_count or head.chain_hash not in (None, cursor.chain.hex()):
            return _Sent(task.cursor, Conflict(head), batch.entries, task.leave.facts)
        return _Sent(cursor, reply, batch.entries, task.leave.facts)

    def _push_long(self, task: PushTask, file: OpenFile) -> Outcome:
        """A line above `max_bytes`, streamed: read once to hash it, and once to send it; one without a newline once
        more, to see whether it is whole."""
        start, size = task.cursor.offset, file.size()
        newline = file.find_newline(start)
        end = newline if newline >= 0 else size
        if newline < 0 and not (task.tail and is_object_in_pieces(file.pieces(start, size - start))):
            return Pushed(task.key, task.cursor, Accepted(), more=False, facts=task.leave.facts)
        task.leave.granted.look(task.path, start, end)
        stretch = _Stretch(file, start, end - start, end + (newline >= 0))
        sent = (self._append_long if task.bulk else self._put_long)(task, stretch)
        return _pushed(task, sent, more=stretch.behind < size)

    def _append_long(self, task: PushTask, at: _Stretch) -> _Sent:
        line = _LongLine(at, self._redactor, task.cursor)
        body = LongBody(line.size + 1, lambda: joined(line.pieces(), [b"\n"]))
        batch = _Batch(body, 1, at.behind, line.chain, marker_at(at.file, at.behind), line.raw_chain)
        sent = self._append(task, batch)
        if (status := _refusal(sent)) is not None:
            sent = self._append_stone(task, batch, line.pieces(), status)
        return sent._replace(redacted=line.redacted)

    def _put_long(self, task: PushTask, at: _Stretch) -> _Sent:
        cursor = task.cursor
        line = _LongLine(at, self._redactor, cursor)
        _, found, _ = describe_line(line.pieces())
        marker, ordinal = marker_at(at.file, at.behind), cursor.entry_count + 1
        passed = cursor._replace(
            offset=at.behind, entry_count=ordinal, chain=line.chain, marker=marker, raw_chain=line.raw_chain
        )
        if found is None:
            return _Sent(passed, Accepted(), 1, task.leave.facts)
        sent = self._put(task, cursor.last_uuid, LongBody(line.size, line.pieces), found)
        stones: dict[int, Rejected] = {}
        if (status := _refusal(sent)) is not None:
            stone, rejected = _tombstone(line.pieces(), status, task)
            sent, stones = self._put(task, cursor.last_uuid, stone, found), {ordinal: rejected}
            passed = passed._replace(chain=extend_chain(cursor.chain, [stone]), raw_chain=passed.file_chain)
        if isinstance(sent.reply, Accepted):
            cursor = passed._replace(last_uuid=found, sent_count=cursor.sent_count + 1)
        return sent._replace(cursor=cursor, tombstones=stones, redacted=line.redacted)

    def _send_run(self, task: PushTask, lines: _Lines) -> _Sent:
        """One entry a request, as far as it goes. Entries without a uuid have no place on a base server."""
        at, cursor = 0, task.cursor
        sent, stones = _Sent(cursor, Accepted(), 1, task.leave.facts), dict[int, Rejected]()
        redacted = Counter[str]()
        for line in split_lines(lines.data[: whole_lines_bytes(lines.data)]):
            body, counts = self._redactor.redact_lines(line)
            found = entry_uuid(body)
            if found is not None:
                try:
                    sent = self._put(task, cursor.last_uuid, body, found)
                    if (status := _refusal(sent)) is not None:
                        body, stones[cursor.entry_count + 1] = _tombstone([body], status, task)
                        sent = self._put(task, cursor.last_uuid, body, found)
                except NotShared:
                    if at == 0:
                        raise
                    stones.pop(cursor.entry_count + 1, None)
                    break  # what went before is told; the rest is looked at anew
                if not isinstance(sent.reply, Accepted):
                    break
                cursor = cursor._replace(last_uuid=found, sent_count=cursor.sent_count + 1)
            at += len(line) + 1
            redacted.update(counts)
            cursor = _behind_entry(cursor, line, body)
            if self._is_stopping():
                break
        if at == 0:
            return sent._replace(tombstones=stones)
        read = lines.data[: at - lines.tail]
        cursor = cursor._replace(offset=cursor.offset + len(read), marker=marker_behind(lines.before, read))
        # Facts of a session are not told to a base server; `sessions list` shows them all the same.
        known = task.leave.facts.before(task.cursor.offset)
        facts = without_secrets(self._providers[task.provider].read_facts(lines.data, (), known), self._redactor)
        return sent._replace(cursor=cursor, facts=facts, tombstones=stones, redacted=redacted)

    def _put(self, task: PushTask, last: str | None, body: bytes | LongBody, uuid: str) -> _Sent:
        """One entry, that of `uuid`. Where only the answer to a first try was lost, the second one says so: the entry
        itself is the head now."""
        request, permit = put_entry_request(task.key.session_id, last, body), task.leave.granted
        if _is_above(task.max_entry_bytes, body):
            return _Sent(task.cursor, TooLarge(), 1, task.leave.facts)
        reply = self._asker.ask(task.key.destination, request, decide_put_reply, permit, repeatable=True)
        if isinstance(reply, Conflict) and reply.repeated and reply.head and last != uuid == reply.head.last_uuid:
            reply = Accepted()
        return _Sent(task.cursor, reply, 1, task.leave.facts)


def _pushed(task: PushTask, sent: _Sent, more: bool) -> Pushed:
    judged = task.leave.granted.epoch
    return Pushed(
        task.key, sent.cursor, sent.reply, more, sent.facts, sent.at_fault, sent.tombstones, judged, sent.redacted
    )


def _refusal(sent: _Sent) -> int | None:
    """The status that refused an entry which travelled alone."""
    if sent.at_fault != 1 or not isinstance(sent.reply, (TooLarge, BadEntry)):
        return None
    return sent.reply.status if isinstance(sent.reply, BadEntry) else 413


def _decide_meta_reply(raw: RawReply, now_s: float) -> Reply:
    if raw.status in (200, 201, 204):
        return Accepted()
    return decide_put_reply(raw, now_s)


def _is_above(most: int, body: bytes | LongBody, newline: int = 0) -> bool:
    """Whether an entry in there is larger than the server says to take, so that nothing would come of sending it.
    `newline`: bytes at the end that are none of it."""
    if isinstance(body, LongBody):
        return 0 < most < body.size - newline
    return 0 < most < len(body) - newline and any(len(line) > most for line in body.split(b"\n"))


def _tombstone(line: Iterable[bytes], status: int, task: PushTask) -> tuple[bytes, Rejected]:
    """What travels in place of a line, given in pieces, that was refused with `status`, and what is noted of it."""
    size, found, digest = describe_line(line)
    return tombstone_line(size, digest, found, status), Rejected(status, size, task.max_entry_bytes)


class _LongLine:
    """A line of a file that is too long to hold, as it travels: read and redacted once to measure it, and again each
    time that `pieces` are asked for."""

    def __init__(self, at: _Stretch, redactor: Redactor, before: Cursor) -> None:
        self._read = partial(at.file.pieces, at.start, at.length)
        self._redactor = redactor
        self.redacted: Counter[str] = Counter()
        self.size = 0
        raw_chain = extend_chain_by_pieces(before.file_chain, self._read())
        self.chain = extend_chain_by_pieces(before.chain, self._measured())
        self.raw_chain = apart(raw_chain, self.chain)

    def pieces(self) -> Iterator[bytes]:
        return self._redactor.redact_pieces(self._read())

    def _measured(self) -> Iterator[bytes]:
        for piece in self._redactor.redact_pieces(self._read(), self.redacted):
            self.size += len(piece)
            yield piece


def _behind_entry(cursor: Cursor, line: bytes, body: bytes) -> Cursor:
    """`cursor` behind one more line, for which `body` travelled."""
    chain = extend_chain(cursor.chain, [body])
    raw_chain = chain if body is line and not cursor.raw_chain else extend_chain(cursor.file_chain, [line])
    return cursor._replace(entry_count=cursor.entry_count + 1, chain=chain, raw_chain=apart(raw_chain, chain))


def _behind_newline(cursor: Cursor, before: bytes, newline: bytes) -> Cursor:
    """A last line that travelled without a newline may get one later: that is no new entry."""
    return cursor._replace(offset=cursor.offset + len(newline), marker=marker_behind(before, newline))
