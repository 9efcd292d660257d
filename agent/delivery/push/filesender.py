"""Sends whole files: side files to servers with the bulk extension, transcripts to servers that take nothing else."""

import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from agent.core.delivery.projects import matches_project
from agent.core.redaction.redactor import Redactor
from agent.core.transcripts.identity import START, Cursor
from agent.core.transcripts.objects import is_object_in_pieces
from agent.core.transcripts.session import FILES, Facts, Provider, StreamId
from agent.core.transcripts.transcript import EntryMark, walk_entries
from agent.core.wire import (
    Accepted,
    FileState,
    LongBody,
    Reply,
    decide_file_reply,
    decide_upload_reply,
    file_head_request,
    file_request,
    parse_file_state,
    upload_request,
)
from agent.delivery.base.reading import first_facts, marker_at, without_secrets
from agent.delivery.base.world import Files, OpenFile
from agent.delivery.push.asking import Asker
from agent.delivery.state.tasks import FileTask, Pushed, UploadTask, Withheld

_SMALL_BYTES = 64 << 10
"""A file up to this size is sent without asking first whether it is there."""


def upload_name(stream: StreamId) -> str:
    """What a transcript is called at a server that keeps files by name."""
    return ".".join([stream.session_id, *filter(None, stream.subpath.split("/")), "jsonl"])


class CleanFile(NamedTuple):
    """A whole file as it travels. `pieces(offset)`: what follows that many bytes of it, read and redacted anew.
    `redacted`: kind → how many secrets were replaced."""

    size: int
    sha256: bytes
    pieces: Callable[[int], Iterator[bytes]]
    redacted: Mapping[str, int]


def measure_file(read: Callable[[], Iterator[bytes]], redactor: Redactor) -> CleanFile:
    """`read` gives the file's pieces from its beginning. Raises DiskError, RedactionTimeout."""
    size, digest, counts = 0, hashlib.sha256(), Counter[str]()
    for piece in redactor.redact_file(read(), counts):
        size += len(piece)
        digest.update(piece)

    def pieces(offset: int) -> Iterator[bytes]:
        for piece in redactor.redact_file(read()):
            if offset < len(piece):
                yield piece[offset:]
            offset = max(0, offset - len(piece))

    return CleanFile(size, digest.digest(), pieces, counts)


class FileSender:
    """`pause(seconds)` waits, for files that may not use all of the line."""

    def __init__(
        self,
        asker: Asker,
        providers: Mapping[str, Provider],
        files: Files,
        pause: Callable[[float], None],
        redactor: Redactor,
    ) -> None:
        self._redactor = redactor
        self._asker = asker
        self._providers = providers
        self._files = files
        self._pause = pause

    # --- side files -------------------------------------------------------------------------------------------

    def send_file(self, task: FileTask) -> Pushed:
        """Raises DiskError."""
        with self._files.open_file(task.path) as file:
            size = file.size()
            clean = measure_file(lambda: file.pieces(0, size), self._redactor)
            sent = START._replace(offset=size, marker=clean.sha256[:16])
            reply = self._send_file(task, clean)
        cursor = sent if isinstance(reply, Accepted) else START
        judged = task.leave.granted.epoch
        return Pushed(task.key, cursor, reply, more=False, facts=Facts(), judged=judged, redacted=clean.redacted)

    def _send_file(self, task: FileTask, clean: CleanFile) -> Reply:
        size, sha256 = clean.size, clean.sha256
        session, path, permit = task.key.session_id, task.key.subpath.removeprefix(FILES), task.leave.granted
        state: FileState | Reply = FileState(there=False, offset=0)
        if size > _SMALL_BYTES:
            asked = file_head_request(session, path, sha256)
            state = self._asker.fetch(
                task.key.destination, asked, lambda raw: parse_file_state(raw, sha256, size), permit
            )
        if not isinstance(state, FileState):
            return state
        if state.there:
            return Accepted()
        offset, left = state.offset, size - state.offset
        body = LongBody(left, lambda: self._slowly(clean.pieces(offset), task.bytes_per_s))
        return self._asker.ask(
            task.key.destination, file_request(session, path, sha256, offset, body), decide_file_reply, permit
        )

    def _slowly(self, pieces: Iterator[bytes], bytes_per_s: float) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            self._pause(len(piece) / bytes_per_s)

    # --- transcripts as files ---------------------------------------------------------------------------------

    def upload(self, task: UploadTask) -> Pushed | Withheld:
        """Raises DiskError."""
        with self._files.open_file(task.path) as file:
            facts = first_facts(self._providers[task.provider], file, task.leave.facts)
            if task.projects and not matches_project(facts.project, task.projects):
                return Withheld(task.key, without_secrets(facts, self._redactor))
            facts = without_secrets(facts, self._redactor)
            cursor = self._measure(task, file)
            if cursor.entry_count == 0 or (cursor.offset, cursor.file_chain) == _sent(task):
                return Pushed(task.key, cursor, Accepted(), more=False, facts=facts)
            task.leave.granted.look(task.path, 0, cursor.offset)
            reply = self._upload(task, file, cursor)
        cursor = cursor if isinstance(reply, Accepted) else task.cursor
        return Pushed(task.key, cursor, reply, more=False, facts=facts, judged=task.leave.granted.epoch)

    def _measure(self, task: UploadTask, file: OpenFile) -> Cursor:
        cursor = START
        with self._files.open_lines(task.path) as source:
            for mark in walk_entries(source, *task.key.stream, with_tail=True, cleaner=self._redactor):
                if not mark.ends_line and not _is_to_go(task, file, mark):
                    break
                cursor = Cursor(
                    mark.end, mark.ordinal, mark.entry_id, mark.chain, b"", None, mark.ordinal, mark.raw_chain
                )
        return cursor._replace(marker=marker_at(file, cursor.offset))

    def _upload(self, task: UploadTask, file: OpenFile, cursor: Cursor) -> Reply:
        def pieces() -> Iterator[bytes]:
            return self._redactor.redact_stream(file.pieces(0, cursor.offset))

        name = upload_name(task.key.stream)
        # Made twice: a length has to be told first, and nothing that large is held.
        if task.gzip:
            name += ".gz"
            body = LongBody(sum(map(len, _compressed(pieces()))), lambda: _compressed(pieces()))
        else:
            body = LongBody(sum(map(len, pieces())) if cursor.raw_chain else cursor.offset, pieces)
        request = upload_request(name, f"transcriptd-{cursor.chain.hex()}", body)
        return self._asker.ask(task.key.destination, request, decide_upload_reply, task.leave.granted)


def _sent(task: UploadTask) -> tuple[int, bytes]:
    return task.cursor.offset, task.cursor.file_chain


def _is_to_go(task: UploadTask, file: OpenFile, tail: EntryMark) -> bool:
    """Whether a last line without a newline is part of what is sent: it was, or it has been quiet and reads as an
    entry."""
    if (tail.end, tail.file_chain) == _sent(task):
        return True
    return task.tail and is_object_in_pieces(file.pieces(tail.start, tail.end - tail.start))


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """As gzip; the same input gives the same bytes."""
    packer = zlib.compressobj(1, wbits=31)
    for piece in pieces:
        packed = packer.compress(piece)
        if packed:
            yield packed
    yield packer.flush()
