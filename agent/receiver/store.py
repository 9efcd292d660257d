"""What the receiver asks of a place that keeps transcripts.

Everything is scoped by `owner`, the owner of the token that asks: two owners never see each other's sessions, even
under the same session id. Many processes may share one store, so nothing that matters lives in the process.
Calls block; the app makes them in worker threads. A store that can't do its work raises MachineError; a guard that
doesn't hold is an outcome.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal, NamedTuple, Protocol

import msgspec

from agent.core.session import Head, StreamId
from agent.core.wire import Meta, StreamHead

Scope = Literal["read", "write"]


class Guard(NamedTuple):
    """What a writer believes to be the head of a stream. `generation` names a new history when the stream is empty."""

    last_uuid: str | None
    entry_count: int
    generation: str


class Stored(NamedTuple):
    """Durable. `head` is what the stream ends with now."""

    head: Head


class Moved(NamedTuple):
    """Nothing was stored: the stream ends elsewhere than the writer believed."""

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
    """One generation as it was when it was opened."""

    @property
    def head(self) -> Head: ...

    @property
    def last_compaction(self) -> int:
        """Ordinal of the last compaction's boundary, 0 without one."""

    def runs(self, after: int, limit: int) -> Iterator[Run | LongEntry]:
        """At most `limit` entries behind ordinal `after`, in order, in runs of about 1 MiB. No lock and no
        transaction is held between two of them, so a slow reader hinders nobody."""


class SessionRow(msgspec.Struct, frozen=True):
    """One session in a list. Times are seconds since 1970; counts are sums over the current generations."""

    session_id: str
    streams: int
    entries: int
    size_bytes: int
    created_at_s: float
    changed_at_s: float
    meta: Meta


class SessionPage(msgspec.Struct, frozen=True):
    """`next_cursor` is None on the last page; opaque otherwise."""

    sessions: list[SessionRow]
    next_cursor: str | None = None


class TokenRow(msgspec.Struct, frozen=True):
    """What is kept of a token, besides its hash. `last_used_at_s` is coarse (an hour)."""

    name: str
    owner: str
    scope: Scope
    created_at_s: float
    last_used_at_s: float | None = None
    revoked_at_s: float | None = None


class TokenKeeper(Protocol):
    """Where tokens are known by their SHA-256."""

    def create_token(self, name: str, owner: str, scope: Scope, token_sha256: bytes) -> None:
        """UsageError when a token of that name is in use."""

    def list_tokens(self) -> list[TokenRow]: ...

    def revoke_token(self, name: str) -> bool:
        """False when no token of that name is in use."""

    def find_token(self, token_sha256: bytes) -> tuple[bytes, TokenRow] | None:
        """The hash as stored, and its row, when such a token is in use. Notes the use."""


class Store(TokenKeeper, Protocol):
    def append(self, owner: str, stream: StreamId, guard: Guard, batch_id: str, body: BinaryIO) -> Stored | Moved:
        """All lines of `body` (whole lines, at least one) behind the head, or none of them.

        Repeating the last applied batch of the generation is harmless: `Stored` again, with the head of now."""

    def put(
        self, owner: str, session_id: str, last_uuid: str | None, entry_uuid: str, body: BinaryIO
    ) -> Stored | Moved:
        """One entry (one whole line) behind `last_uuid` of the main stream's current generation. `Moved` also when
        the head is that very entry."""

    def head(self, owner: str, stream: StreamId) -> Head:
        """The current generation's head; `EMPTY_HEAD` for a stream nobody wrote."""

    def streams(self, owner: str, session_id: str) -> list[StreamHead] | None:
        """Every generation of every stream; None for an unknown session."""

    def read(self, owner: str, stream: StreamId, generation: str | None = None) -> Reading | None:
        """A generation (the current one when None is asked for); None when it is unknown."""

    def has_session(self, owner: str, session_id: str) -> bool: ...

    def sessions(self, owner: str, cursor: str | None, limit: int) -> SessionPage:
        """Last changed first. UsageError for a cursor that is none."""

    def write_meta(self, owner: str, session_id: str, meta: Meta) -> None:
        """Last write wins; a session that is not there yet begins with its facts."""

    def read_meta(self, owner: str, session_id: str) -> Meta | None: ...

    def probe(self) -> None:
        """Writes something durable, or raises MachineError."""

    def close(self) -> None: ...


EMPTY_HEAD = Head(chain_hash="0" * 64)
"""h0: no entries, no generation."""
