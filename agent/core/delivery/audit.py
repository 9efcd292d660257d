"""What the audit log tells of: things that people may ask about later."""

from collections.abc import Mapping
from enum import StrEnum


class AuditKind(StrEnum):
    UPLOADED = "uploaded"
    """A transcript is complete at its server, as far as it goes by then."""
    ADOPTED = "adopted"
    """The server held what this agent did not send, and its word was taken for where to go on."""
    REALIGNED = "realigned"
    """The server stood elsewhere than remembered; the content proved where."""
    REDACTED = "redacted"
    """Secrets were replaced in what was sent; the detail says how many of which kind."""
    REWRITTEN = "rewritten"
    """The file no longer holds what was sent of it."""
    NEW_GENERATION = "new_generation"
    """File and server differ, so the file travels anew; what the server had stays readable."""
    REFUSED = "refused"
    """The server, or we, won't take a transcript any further."""
    TOMBSTONED = "tombstoned"
    """The server refuses one entry; its size and hash travel in its place."""
    PRIVATE_SKIPPED = "private_skipped"
    REQUEUED = "requeued"
    """Put back to be tried again: somebody asked for it, or a hook named a transcript whose file is not there."""
    RECOVERED = "recovered"
    """What a failure had kept back went through in the end."""
    DELETED = "deleted"
    """A private session was deleted on the server."""
    DELETED_ON_SERVER = "deleted_on_server"
    KEPT = "kept"
    """A file is held in the state folder, so that it can be delivered even when it is deleted."""
    LET_GO = "let_go"
    """A kept file is needed no longer."""
    LOST = "lost"
    """A file went away before all of it was sent, and the rest is not held; the detail says how many bytes."""


def counts_words(counts: Mapping[str, int]) -> str:
    """The most frequent first: "3 github-token, 1 jwt"."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))
