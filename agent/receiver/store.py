"""What the receiver asks of a place that keeps transcripts.

Everything is scoped by `owner`, the owner of the token that asks: two owners never see each other's sessions, even
under the same session id. Many processes may share one store, so nothing that matters lives in the process.
Calls block; the app makes them in worker threads. A store that can't do its work raises MachineError; a guard that
doesn't hold is an outcome. Whatever is asked of a session that was deleted, or written to it, raises SessionDeleted.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal, NamedTuple, Protocol

import msgspec

from agent.core.transcripts.session import Head, StreamId
from agent.core.wire import Meta, NewGeneration, SessionPage, StreamHead

Scope = Literal["read", "write"]


class Guard(NamedTuple):
    """What a writer believes to be the head of the generation it names; of a new one when nobody wrote the stream."""

    last_uuid: str | None
    entry_count: int
    generation: str


class Stored(msgspec.Struct, frozen=True):
    """Durable. `head` is that of the generation which was written, as of now. No tuple: it would be equal to what was
    `Moved` to the same head."""

    head: Head


class Moved(msgspec.Struct, frozen=True):
    """Nothing was stored: the writer believed something else. `head` is that of the generation it named, where there
    is one of that name, else the current one's."""

    head: Head


class Run(NamedTuple):
    """Short entries in a row as they arrived, each with its newline. `first` is the ordinal of the first one."""

    first: int
    entries: int
    data: bytes


class LongEntry(NamedTuple):
    """An entry above `LONG_LINE_BYTES`: it only comes in pieces, without its newline. `is_object` says whether it
    is one JSON object."""

    ordinal: int
    size: int
    is_object: bool
    pieces: Callable[[], Iterator[bytes]]


class Reading(Protocol):
    """One generation as it was when it was opened, from its first entry on, whoever has it."""

    @property
    def head(self) -> Head: ...

    @property
    def last_compaction(self) -> int:
        """Ordinal of the last compaction's boundary, 0 without one."""

    def runs(self, after: int, limit: int) -> Iterator[Run | LongEntry]:
        """At most `limit` entries behind ordinal `after`, in order, in runs of about 1 MiB. No lock and no
        transaction is held between two of them, so a slow reader hinders nobody."""


EVERYBODY = "*"
"""In the place of an owner: all of them."""


class TokenRow(msgspec.Struct, frozen=True):
    """What is kept of a token, besides its hash. `last_used_at_s` is coarse (an hour). `reads`: owners whose sessions
    it may read as well; `EVERYBODY` for all."""

    name: str
    owner: str
    scope: Scope
    created_at_s: float
    last_used_at_s: float | None = None
    revoked_at_s: float | None = None
    reads: tuple[str, ...] = ()


class TokenKeeper(Protocol):
    """Where tokens are known by their SHA-256."""

    def create_token(
        self, name: str, owner: str, scope: Scope, token_sha256: bytes, reads: tuple[str, ...] = ()
    ) -> None:
        """UsageError when a token of that name is in use."""

    def list_tokens(self) -> list[TokenRow]: ...

    def revoke_token(self, name: str) -> bool:
        """False when no token of that name is in use."""

    def find_token(self, token_sha256: bytes) -> tuple[bytes, TokenRow] | None:
        """The hash as stored, and its row, when such a token is in use. Notes the use."""


class Content(NamedTuple):
    """The bytes of a side file, by what is known of them."""

    sha256: bytes
    size: int


class KeptFile(NamedTuple):
    """What a path of a session names. `changed_at_s`: since when."""

    path: str
    content: Content
    changed_at_s: float


class Named(NamedTuple):
    """Durable: the path names the content now. `before` is the SHA-256 of another one that it named until then."""

    before: bytes | None


class FileKeeper(Protocol):
    """Which side files there are. Their bytes are `agent.receiver.blobs`'s; the calls that take a function run it while
    no other process names or releases a content."""

    def name_file(
        self, owner: str, session_id: str, path: str, content: Content, place: Callable[[], bool]
    ) -> Named | None:
        """Lets `path` name `content` if `place` says that its bytes are there, durably; None if it says no. The last
        write wins; a session that is not there yet begins with its file."""

    def release_content(self, sha256: bytes, remove: Callable[[], None]) -> None:
        """Runs `remove` unless a file of anybody names that content."""

    def find_file(self, owner: str, session_id: str, path: str) -> KeptFile | None: ...

    def find_content(self, owner: str, sha256: bytes) -> Content | None:
        """A content that a file of this owner names. Nobody gets at a content by knowing its digest."""

    def list_files(self, owner: str, session_id: str) -> list[KeptFile] | None:
        """By path; None for an unknown session."""

    def named_contents(self) -> set[bytes]:
        """The SHA-256 of every content that a file of anybody names."""


class Store(TokenKeeper, FileKeeper, Protocol):
    def append(self, owner: str, stream: StreamId, guard: Guard, batch_id: str, body: BinaryIO) -> Stored | Moved:
        """All lines of `body` (whole lines, at least one) behind the head of the generation that `guard` names, be it
        the current one or not; or none of them. The first append of a stream that has no generation names one.

        Repeating the last applied batch of the generation is harmless: `Stored` again, with the head of now."""

    def begin_generation(self, owner: str, stream: StreamId, new: NewGeneration) -> Stored | Moved:
        """Begins a history that shares the first entries of its parent, and makes it the current one. The parent stays
        readable and may grow. Without a parent it begins a stream that has no generation.

        Repeating it is harmless: `Stored`, with the head of now. `Moved` when a generation of that name began
        otherwise, and when the parent is unknown or shorter than what is to be shared."""

    def put(
        self, owner: str, session_id: str, last_uuid: str | None, entry_uuid: str, body: BinaryIO
    ) -> Stored | Moved:
        """One entry (one whole line) behind `last_uuid` of the main stream's current generation. `Moved` also when
        the head is that very entry."""

    def head(self, owner: str, stream: StreamId) -> Head:
        """The current generation's head; `EMPTY_HEAD` for a stream nobody wrote."""

    def head_at(self, owner: str, stream: StreamId, generation: str | None, entries: int | None) -> Head | None:
        """The head of a generation (the current one when None is asked for) as it was behind `entries` entries, or as
        it is (None); None when the generation is unknown or shorter. Fast: a writer asks for many places."""

    def streams(self, owner: str, session_id: str) -> list[StreamHead] | None:
        """Every generation of every stream; None for an unknown session."""

    def read(self, owner: str, stream: StreamId, generation: str | None = None) -> Reading | None:
        """A generation (the current one when None is asked for); None when it is unknown."""

    def has_session(self, owner: str, session_id: str) -> bool: ...

    def sessions(self, owners: tuple[str, ...], cursor: str | None, limit: int) -> SessionPage:
        """Of these owners, or of `EVERYBODY`, each row with its owner; last changed first. UsageError for a cursor that
        is none."""

    def write_meta(self, owner: str, session_id: str, meta: Meta) -> None:
        """Last write wins; a session that is not there yet begins with its facts."""

    def read_meta(self, owner: str, session_id: str) -> Meta | None: ...

    def delete_session(self, owner: str, session_id: str) -> set[bytes]:
        """Durably deletes a session, whether it is known or not: nothing of it is there any more, and nothing is taken,
        until it is restored. What is appended at the same moment is deleted with it, or refused. Gives the SHA-256 of
        each content that its files named. What is left of it on the disk is `clear_remains`'s."""

    def restore_session(self, owner: str, session_id: str) -> None:
        """Ends a deletion: the session is unknown, and may be written from its beginning. Harmless without one."""

    def clear_remains(self) -> None:
        """Takes what deletions left off the disk. Raises DiskError while that can't be; then it is to be called again,
        or waits for the next start."""

    def probe(self) -> None:
        """Writes something durable, or raises MachineError."""

    def close(self) -> None: ...


EMPTY_HEAD = Head(chain_hash="0" * 64)
"""h0: no entries, no generation."""
