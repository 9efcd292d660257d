"""What each answer means."""

import re
from typing import Any, NamedTuple, TypeVar

import msgspec

from agent.core.delivery.backoff import FIRST_S, parse_http_date, parse_retry_after
from agent.core.transcripts.session import Head
from agent.core.transcripts.transcript import usable_uuid
from agent.core.wire.values import (
    Capabilities,
    FileList,
    Meta,
    RawReply,
    SessionPage,
    SideFile,
    StreamHead,
    StreamList,
    parse_digest,
)

_T = TypeVar("_T")

# No tuples: those are equal whatever they are called, and a test could not tell a deletion from a refusal.


class Accepted(msgspec.Struct, frozen=True):
    """Stored. `head` is what the server says it holds now; None from a base server."""

    head: Head | None = None


class Conflict(msgspec.Struct, frozen=True):
    """The server's head is another one. None: it did not say which. `repeated`: the request was sent twice, and what
    the server holds may be what it brought the first time."""

    head: Head | None
    repeated: bool = False


class NeedsLogin(msgspec.Struct, frozen=True):
    """401: the token is missing or no good. Where nothing was asked because none could be had, `why` and `hint` say
    so; `later` then means that its owner need not log in, only unlock or wait for a keyring."""

    why: str = ""
    hint: str = ""
    later: bool = False


class Refused(msgspec.Struct, frozen=True):
    """This session is not wanted here, for good as far as anybody knows. `words`: the server's own (`error_words`)."""

    status: int
    words: str = ""


class Deleted(msgspec.Struct, frozen=True):
    """410: somebody deleted the session on the server."""


class TooLarge(msgspec.Struct, frozen=True):
    """413."""


class BadEntry(msgspec.Struct, frozen=True):
    """400 or 422: something in the body is not accepted."""

    status: int


class NoEndpoint(msgspec.Struct, frozen=True):
    """404, 405 or 501: nothing at this address takes the request."""

    status: int


class Unavailable(msgspec.Struct, frozen=True):
    """No verdict. `everybody` is true when no other session would fare better now. `retry_after_s` is the server's
    wish, None without one. `why` is for people. `repeatable`: a moment later all may be well."""

    why: str
    retry_after_s: float | None = None
    everybody: bool = False
    repeatable: bool = False


Reply = Accepted | Conflict | NeedsLogin | Refused | Deleted | TooLarge | BadEntry | NoEndpoint | Unavailable

NOT_OURS = "something answers at this address, but not a transcript server"

_VERDICTS: dict[int, Reply] = {
    400: BadEntry(400),
    401: NeedsLogin(),
    404: NoEndpoint(404),
    405: NoEndpoint(405),
    410: Deleted(),
    413: TooLarge(),
    422: BadEntry(422),
    501: NoEndpoint(501),
}
_RETRIED = frozenset({408, 425, 429})
_FOR_EVERYBODY = frozenset({429, 502, 503, 504, 511})
"""Statuses that speak of the server or the way to it, not of one session. 511 is a captive portal's."""


def decide_put_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to one entry (base protocol) means. `now_s` is wall time, for Retry-After dates."""
    if raw.status in (200, 201):
        return Unavailable(NOT_OURS, everybody=True) if _is_page(raw) else Accepted()
    if raw.status == 409:
        last = raw.headers.get("x-last-uuid", "").strip()
        return Conflict(Head(last_uuid=last) if usable_uuid(last) else None)
    return _verdict(raw, now_s)


def decide_append_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to a batch (bulk extension) means."""
    if raw.status in (200, 409):
        head = parse_head(raw.body)
        if head is None:
            return Unavailable(NOT_OURS, everybody=True)
        return Accepted(head) if raw.status == 200 else Conflict(head)
    return _verdict(raw, now_s)


def decide_generation_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to a new generation means: as with a batch, but that something is made."""
    return decide_append_reply(raw._replace(status=200) if raw.status == 201 else raw, now_s)


def decide_file_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to a side file means."""
    if raw.status in (200, 201, 204):
        return Unavailable(NOT_OURS, everybody=True) if _is_page(raw) else Accepted()
    if raw.status in (400, 409, 422):
        return Unavailable(f"it changed while it was sent, or the server kept something else ({raw.status})")
    return _verdict(raw, now_s)


def decide_upload_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to a whole file means. What a server refuses, it refuses for this size of the file."""
    if 200 <= raw.status < 300:
        return Unavailable(NOT_OURS, everybody=True) if _is_page(raw) else Accepted()
    reply = _verdict(raw, now_s)
    if isinstance(reply, (Deleted, TooLarge, BadEntry)):
        return Refused(raw.status)
    return reply


def decide_delete_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to a deletion means. A server that has nothing there (404), or deleted it before (410), holds none
    of it, which is what was asked for."""
    if raw.status in (200, 204, 404, 410):
        return Unavailable(NOT_OURS, everybody=True) if _is_page(raw) else Accepted()
    return _about_session(_verdict(raw, now_s), raw.status)


def decide_restore_reply(raw: RawReply, now_s: float) -> Reply:
    """What an answer to the end of a deletion means. Accepted: the session may be sent again, from its beginning."""
    if raw.status in (200, 201, 204):
        return Unavailable(NOT_OURS, everybody=True) if _is_page(raw) else Accepted()
    return _about_session(_verdict(raw, now_s), raw.status)


def _about_session(reply: Reply, status: int) -> Reply:
    """There is no body in which something could be wrong."""
    return Refused(status) if isinstance(reply, (TooLarge, BadEntry)) else reply


class FileState(NamedTuple):
    """`there`: exactly this content. `offset`: bytes of it that need not be sent again."""

    there: bool
    offset: int


def parse_file_state(raw: RawReply, sha256: bytes, size: int) -> FileState | None:
    """What a server says it has of a file; None when it is no verdict."""
    if raw.status not in (200, 204, 404):
        return None
    kept = raw.headers.get("upload-offset", "")
    offset = int(kept) if kept.isascii() and kept.isdigit() and len(kept) < 20 else 0
    there = raw.status != 404 and parse_digest(raw.headers.get("content-digest", "")) == sha256
    return FileState(there, offset if offset <= size else 0)


def parse_health(raw: RawReply) -> bool:
    """Whether a server for whole files says that it takes compressed ones."""
    health = _parse(raw.body, _Health, required=b'"encodings"') if raw.status == 200 else None
    return health is not None and "gzip" in health.encodings


class _Health(msgspec.Struct):
    encodings: tuple[str, ...] = ()


def _verdict(raw: RawReply, now_s: float) -> Reply:
    status = raw.status
    if status < 400:
        return Unavailable(NOT_OURS, everybody=True)
    if status in _VERDICTS:
        return _VERDICTS[status]
    if status >= 500 or status in _RETRIED:
        # A date means the server's clock, and mostly comes with what that says; ours may be wrong.
        their_now_s = parse_http_date(raw.headers.get("date", ""))
        after = parse_retry_after(raw.headers.get("retry-after"), now_s if their_now_s is None else their_now_s)
        wish = after if after is not None and after >= FIRST_S else None  # "at once" would be without end
        return Unavailable(answer_words(status, error_words(raw)), wish, everybody=status in _FOR_EVERYBODY)
    return Refused(status, error_words(raw))


_MOST_WORDS = 120
"""Characters of a server's own words that are shown."""

_MARKUP = re.compile(r"""(["'`«“‘]).*?["'`»”’]|["'`«“‘].*""", re.DOTALL)
"""What is quoted may be a line that was sent. So may be what follows a quotation mark that nothing closes."""

_LONG_WORD = re.compile(r"\S{25,}|(?=\S*\d)\S{13,}")
"""Ids, addresses, and what could be a token."""


def answer_words(status: int, words: str) -> str:
    """What people read of an answer."""
    return f"the server answers {status}: {words}" if words else f"the server answers {status}"


def error_words(raw: RawReply) -> str:
    """What a server says of an error in its own words: `detail` of RFC 9457, else `error.message`, `error`, `message`
    or `title` of a JSON body. In one line of at most 120 characters, without what is quoted and without long words:
    those may be an entry's or a token. Empty for other bodies."""
    try:
        body = msgspec.json.decode(raw.body[:_MOST_BODY], type=dict[str, Any]) if raw.body[:1] == b"{" else {}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    error = body.get("error")
    inner = error.get("message") if isinstance(error, dict) else error
    found = [one for one in (body.get("detail"), inner, body.get("message"), body.get("title")) if isinstance(one, str)]
    text = next((one for one in found if one.strip()), "")
    text = "".join(one if one.isprintable() else " " for one in text)
    text = " ".join(_LONG_WORD.sub("…", _MARKUP.sub("…", text)).split())
    return text if len(text) <= _MOST_WORDS else text[: _MOST_WORDS - 1].rstrip() + "…"


_MOST_BODY = 16 << 10


def _is_page(raw: RawReply) -> bool:
    return raw.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))


def parse_head(body: bytes) -> Head | None:
    """The head in a reply, or None when the body is something else."""
    return _parse(body, Head, required=b'"entry_count"')


def parse_capabilities(raw: RawReply) -> Capabilities | None:
    """What the server offers; the base protocol where it has no such page; None when the answer is no verdict (an
    outage, a portal)."""
    if raw.status in (404, 405, 501):
        return Capabilities()
    if raw.status != 200:
        return None
    return _parse(raw.body, Capabilities, required=b'"protocol"')


def parse_streams(raw: RawReply) -> list[StreamHead] | None:
    """The rows of `GET …/streams`; empty for a session the server does not know; None when it is no verdict."""
    if raw.status == 404:
        return []
    if raw.status != 200:
        return None
    listing = _parse(raw.body, StreamList, required=b'"streams"')
    return None if listing is None else list(listing.streams)


def parse_files(raw: RawReply) -> list[SideFile] | None:
    """The side files of a session; empty where a server keeps none; None when it is no verdict."""
    if raw.status in (404, 405, 501):
        return []
    listing = _parse(raw.body, FileList, required=b'"files"') if raw.status == 200 else None
    return None if listing is None else list(listing.files)


def parse_meta(raw: RawReply) -> Meta:
    """The facts of a session; none where a server says nothing of the kind."""
    return (_parse(raw.body, Meta, required=b"{") if raw.status == 200 else None) or Meta()


def parse_sessions(raw: RawReply) -> SessionPage | None:
    """A page of the list of sessions; None when it is no verdict."""
    return _parse(raw.body, SessionPage, required=b'"sessions"') if raw.status == 200 else None


def parse_loglines(raw: RawReply) -> list[str | None] | None:
    """The uuid (or None) of each entry that a base server holds, in order; None when the answer is no verdict."""
    if raw.status == 404:
        return []
    if raw.status != 200:
        return None
    listing = _parse(raw.body, _Loglines, required=b'"loglines"')
    return None if listing is None else [line.usable() for line in listing.loglines]


class _Logline(msgspec.Struct):
    uuid: Any = None

    def usable(self) -> str | None:
        return self.uuid if isinstance(self.uuid, str) else None


class _Loglines(msgspec.Struct):
    loglines: list[_Logline] = []


def _parse(body: bytes, kind: type[_T], *, required: bytes) -> _T | None:
    try:
        return msgspec.json.decode(body, type=kind) if required in body else None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
