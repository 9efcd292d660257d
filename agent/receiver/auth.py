"""Who is asking: bearer tokens, of which only the SHA-256 is ever kept.

A token has 256 bits from the system's generator, so a plain hash is enough; there is nothing to guess or to stretch.
"""

import hmac
import secrets
from hashlib import sha256
from typing import NamedTuple

from agent.receiver.store import EVERYBODY, Scope, TokenKeeper

PREFIX = "tsd_"
"""So that secret scanners and people recognise one."""

RUN_OWNER = "local"
_TOKEN_BYTES = 32
_SCHEME = "bearer "


class Caller(NamedTuple):
    """`reads`: owners whose sessions it may read beside its own; see `store.TokenRow`."""

    owner: str
    scope: Scope
    reads: tuple[str, ...] = ()

    def may_read(self, owner: str) -> bool:
        return owner == self.owner or owner in self.reads or (EVERYBODY in self.reads and owner != EVERYBODY)

    def readable(self) -> tuple[str, ...]:
        """Every owner whose sessions it may read."""
        return (self.owner, *self.reads)


def make_token() -> str:
    return PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def hash_token(token: str) -> bytes:
    return sha256(token.encode()).digest()


def parse_bearer(header: str | None) -> bytes | None:
    """The SHA-256 of the token in an Authorization header (RFC 6750); None when there is no such token in it."""
    if header is None or header[: len(_SCHEME)].lower() != _SCHEME:
        return None
    token = header[len(_SCHEME) :].strip()
    return hash_token(token) if token else None


class Auth:
    """Tokens of the store, and those of this run, which only memory knows."""

    def __init__(self, tokens: TokenKeeper) -> None:
        self._tokens = tokens
        self._run: list[tuple[bytes, Caller]] = []

    def accept(self, token: str, scope: Scope, *, owner: str = RUN_OWNER) -> None:
        """Lets a token in until the process ends."""
        self._run.append((hash_token(token), Caller(owner, scope)))

    def find_run_caller(self, token_sha256: bytes) -> Caller | None:
        found = None
        for known, caller in self._run:
            if hmac.compare_digest(known, token_sha256):
                found = caller
        return found

    def find_caller(self, token_sha256: bytes) -> Caller | None:
        """Asks the store, so it blocks; a revoked token is refused from the next request on."""
        found = self._tokens.find_token(token_sha256)
        if found is None or not hmac.compare_digest(found[0], token_sha256):
            return None
        return Caller(found[1].owner, found[1].scope, found[1].reads)
