"""Tokens in the SQLite file, by their SHA-256."""

from contextlib import suppress
from typing import Any

import msgspec

from agent.errors import DiskError, UsageError
from agent.receiver.database import Database
from agent.receiver.store import Scope, TokenRow

_USE_NOTED_S = 3600.0
"""How coarse `last_used_at_s` is: a write for each request would halve the speed of everything."""

_CREDENTIAL = "name, owner, scope, created_at_s, last_used_at_s, revoked_at_s, reads"


class TokenTable(Database):
    """`agent.receiver.store.TokenKeeper`."""

    def create_token(
        self, name: str, owner: str, scope: Scope, token_sha256: bytes, reads: tuple[str, ...] = ()
    ) -> None:
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM tokens WHERE name = ? AND revoked_at_s IS NULL", (name,)).fetchone():
                raise UsageError(
                    f"a token named {name} is in use",
                    hint=f"transcriptd receiver token revoke {name}, or another name",
                )
            db.execute(
                "INSERT INTO tokens (name, owner, scope, sha256, created_at_s, reads) VALUES (?, ?, ?, ?, ?, ?)",
                (name, owner, scope, token_sha256, self._now_s(), msgspec.json.encode(reads).decode()),
            )

    def list_tokens(self) -> list[TokenRow]:
        with self.reader() as db:
            rows = db.execute(f"SELECT {_CREDENTIAL} FROM tokens ORDER BY created_at_s, id").fetchall()  # noqa: S608
        return [_token(row) for row in rows]

    def revoke_token(self, name: str) -> bool:
        with self._transaction() as db:
            done = db.execute(
                "UPDATE tokens SET revoked_at_s = ? WHERE name = ? AND revoked_at_s IS NULL",
                (self._now_s(), name),
            )
            return done.rowcount > 0

    def find_token(self, token_sha256: bytes) -> tuple[bytes, TokenRow] | None:
        query = f"SELECT id, sha256, {_CREDENTIAL} FROM tokens WHERE sha256 = ? AND revoked_at_s IS NULL"  # noqa: S608
        with self.reader() as db:
            row = db.execute(query, (token_sha256,)).fetchone()
        if row is None:
            return None
        token, now_s = _token(row[2:]), self._now_s()
        if token.last_used_at_s is None or now_s - token.last_used_at_s >= _USE_NOTED_S:
            with suppress(DiskError), self._transaction() as db:  # a full disk must not keep readers out
                db.execute("UPDATE tokens SET last_used_at_s = ? WHERE id = ?", (now_s, row[0]))
        return row[1], token


def _token(row: tuple[Any, ...]) -> TokenRow:
    *most, reads = row
    return msgspec.structs.replace(TokenRow(*most), reads=tuple(msgspec.json.decode(reads)))
