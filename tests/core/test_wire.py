"""Requests as they leave, and what each answer means."""

import gzip
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent.core import wire
from agent.core.transcripts.session import Head, StreamId
from agent.core.wire import (
    Accepted,
    BadEntry,
    Capabilities,
    Conflict,
    Deleted,
    LongBody,
    Meta,
    NeedsLogin,
    NoEndpoint,
    RawReply,
    Refused,
    StreamHead,
    TooLarge,
    Unavailable,
    decide_put_reply,
    error_words,
)

STREAM = StreamId("a/b c", "subagents/agent-x")
HEAD = Head("u1", 7, "0b7f7d5e-8f2c-4f6e-9a43-1d2f3c4b5a69", "00" * 32)
NOW_S = 1_790_000_000.0
CHAIN = bytes(range(32))


def reply(status: int, body: bytes = b"", **headers: str) -> RawReply:
    return RawReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


# ---- requests ----


def test_a_batch() -> None:
    request = wire.append_request(STREAM, HEAD, b"x\n", chain_after=CHAIN)
    assert request.method == "POST"
    assert request.path == "/v1/session_ingress/session/a%2Fb%20c/entries?subpath=subagents%2Fagent-x"
    assert request.body == b"x\n"
    batch = request.headers["Batch-Id"]
    assert str(uuid.UUID(batch)) == batch
    assert {name: value for name, value in request.headers.items() if name != "Batch-Id"} == {
        "Content-Type": "application/x-ndjson",
        "Entry-Count": "7",
        "Generation": HEAD.generation,
        "Last-Uuid": "u1",
    }


def test_a_batch_id_names_place_and_content() -> None:
    def batch(head: Head, chain: bytes, body: bytes = b"x\n") -> str:
        return wire.append_request(STREAM, head, body, chain_after=chain).headers["Batch-Id"]

    again = batch(HEAD, CHAIN, b"packed differently\n")
    assert batch(HEAD, CHAIN) == again
    others = {
        batch(HEAD, bytes(32)),
        batch(msgspec.structs.replace(HEAD, entry_count=8), CHAIN),
        batch(msgspec.structs.replace(HEAD, generation="x"), CHAIN),
    }
    assert len(others | {again}) == 4


def test_the_first_batch_has_no_last_uuid() -> None:
    request = wire.append_request(STREAM, Head(generation="g"), b"x\n", chain_after=CHAIN)
    assert "Last-Uuid" not in request.headers
    assert request.headers["Entry-Count"] == "0"
    assert "Last-Uuid" not in wire.put_entry_request("s", None, b"{}").headers
    assert wire.put_entry_request("s", "u", b"{}").headers["Last-Uuid"] == "u"


@pytest.mark.parametrize(("encoding", "decode"), [("gzip", gzip.decompress), ("zstd", zstandard.decompress)])
@given(data=st.binary(max_size=200))
def test_bodies_are_packed(encoding: str, decode: Any, data: bytes) -> None:
    request = wire.append_request(STREAM, HEAD, data, chain_after=CHAIN, encoding=encoding)
    assert request.headers["Content-Encoding"] == encoding
    assert decode(request.body) == data


def test_a_long_body_travels_as_it_is() -> None:
    body = LongBody(2, lambda: iter([b"x\n"]))
    request = wire.append_request(STREAM, HEAD, body, chain_after=CHAIN, encoding="zstd")
    assert "Content-Encoding" not in request.headers
    assert request.body is body


def test_an_unknown_encoding_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="zstd, gzip"):
        wire.encode_body(b"x", "br")


def test_paths() -> None:
    assert wire.session_path("s", "/entries", after=3, limit=None).endswith("/session/s/entries?after=3")
    assert wire.head_request(STREAM).path.endswith("/session/a%2Fb%20c/head?subpath=subagents%2Fagent-x")
    assert wire.streams_request("s").path == "/v1/session_ingress/session/s/streams"
    assert wire.capabilities_request().path == "/v1/session_ingress/capabilities"
    meta = wire.meta_request("s", Meta(title="T"))
    assert isinstance(meta.body, bytes)
    assert msgspec.json.decode(meta.body, type=Meta) == Meta(title="T")


# ---- answers ----

VERDICTS: dict[int, Any] = {
    400: BadEntry(400),
    401: NeedsLogin(),
    403: Refused(403),
    404: NoEndpoint(404),
    405: NoEndpoint(405),
    410: Deleted(),
    413: TooLarge(),
    422: BadEntry(422),
    501: NoEndpoint(501),
}


@pytest.mark.parametrize("status", range(200, 600))
def test_every_status_has_a_verdict(status: int) -> None:
    put = wire.decide_put_reply(reply(status), NOW_S)
    append = wire.decide_append_reply(reply(status), NOW_S)
    if status in (200, 201):
        assert put == Accepted()
    elif status == 409:
        assert put == Conflict(None)
    else:
        assert put == append
    if status in VERDICTS:
        assert append == VERDICTS[status]
    elif status < 400 or status == 409:  # a bulk server says its head in these
        assert append == Unavailable(wire.NOT_OURS, everybody=True)
    elif status >= 500 or status in (408, 425, 429):
        assert isinstance(append, Unavailable)
        assert str(status) in append.why
        assert append.everybody == (status in (429, 502, 503, 504, 511))
    else:
        assert append == Refused(status)


def test_verdicts_of_different_kinds_are_not_equal() -> None:
    kinds = [
        Accepted(),
        Conflict(None),
        NeedsLogin(),
        Deleted(),
        TooLarge(),
        Refused(404),
        BadEntry(404),
        NoEndpoint(404),
    ]
    for one in kinds:
        assert [other for other in kinds if other == one] == [one]


def test_a_batch_is_stored_only_where_a_head_says_so() -> None:
    body = msgspec.json.encode(HEAD)
    assert wire.decide_append_reply(reply(200, body), NOW_S) == Accepted(HEAD)
    assert wire.decide_append_reply(reply(409, body), NOW_S) == Conflict(HEAD)
    for portal in (b"", b"<html>", b"{}", b"[]", b'{"entry_count":"x"}', b"\xff", b'"entry_count"', b"[" * 10_000):
        assert isinstance(wire.decide_append_reply(reply(200, portal), NOW_S), Unavailable)
    assert isinstance(wire.decide_append_reply(reply(201, body), NOW_S), Unavailable)


def test_a_page_is_no_stored_entry() -> None:
    assert isinstance(wire.decide_put_reply(reply(200, content_type="Text/HTML; charset=x"), NOW_S), Unavailable)
    assert wire.decide_put_reply(reply(200, content_type="application/json"), NOW_S) == Accepted()


def test_a_conflict_of_the_base_protocol() -> None:
    assert wire.decide_put_reply(reply(409, x_last_uuid=" u "), NOW_S) == Conflict(Head(last_uuid="u"))
    assert wire.decide_put_reply(reply(409, x_last_uuid=""), NOW_S) == Conflict(None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", None),
        ("99999", 3600.0),
        ("1e9", 3600.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("1" * 400, None),
        (datetime.fromtimestamp(NOW_S + 90, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"), 90.0),
        (datetime.fromtimestamp(NOW_S - 90, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"), None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    for status in (429, 500, 503):
        verdict = wire.decide_append_reply(reply(status, retry_after=value), NOW_S)
        assert isinstance(verdict, Unavailable)
        assert verdict.retry_after_s == seconds


@given(st.text(max_size=30))
def test_no_retry_after_breaks_the_agent(value: str) -> None:
    verdict = wire.decide_append_reply(reply(503, retry_after=value), NOW_S)
    assert isinstance(verdict, Unavailable)
    assert verdict.retry_after_s is None or 0 <= verdict.retry_after_s <= 3600


# ---- what a server offers and holds ----


def test_capabilities() -> None:
    offered = msgspec.json.encode(Capabilities(bulk=wire.BulkOffer(1, 2, ("zstd",)), delete=True))
    assert wire.parse_capabilities(reply(200, offered)) == msgspec.json.decode(offered, type=Capabilities)
    assert wire.parse_capabilities(reply(200, b'{"protocol":1,"bulk":{},"new":[]}')) == Capabilities(
        bulk=wire.BulkOffer()
    )
    for status in (404, 405, 501):
        assert wire.parse_capabilities(reply(status)) == Capabilities()
    for raw in (reply(200, b"<html>"), reply(200, b"{}"), reply(302), reply(401), reply(503)):
        assert wire.parse_capabilities(raw) is None


def test_streams() -> None:
    rows = [StreamHead("", HEAD), StreamHead("x", Head(), current=False)]
    body = msgspec.json.encode(wire.StreamList(tuple(rows)))
    assert wire.parse_streams(reply(200, body)) == rows
    assert wire.parse_streams(reply(404)) == []
    assert wire.parse_streams(reply(200, b"{}")) is None
    assert wire.parse_streams(reply(500, body)) is None


def test_loglines() -> None:
    body = b'{"loglines":[{"uuid":"a","x":1},{"type":"summary"},{"uuid":7}]}'
    assert wire.parse_loglines(reply(200, body)) == ["a", None, None]
    assert wire.parse_loglines(reply(404)) == []
    assert wire.parse_loglines(reply(200, b'{"loglines":[1]}')) is None
    assert wire.parse_loglines(reply(200, b"<html>")) is None
    assert wire.parse_loglines(reply(503)) is None


# ---- deletion ----


def test_deletion_and_its_end() -> None:
    gone, back = wire.delete_request("a/b"), wire.restore_request("a/b")
    assert (gone.method, gone.path, gone.body) == ("DELETE", "/v1/session_ingress/session/a%2Fb", None)
    assert (back.method, back.path, back.body) == ("POST", "/v1/session_ingress/session/a%2Fb/restore", None)


@pytest.mark.parametrize("status", range(200, 600))
def test_every_status_of_a_deletion_has_a_verdict(status: int) -> None:
    delete = wire.decide_delete_reply(reply(status), NOW_S)
    restore = wire.decide_restore_reply(reply(status), NOW_S)
    assert (delete == Accepted()) == (status in (200, 204, 404, 410))
    assert (restore == Accepted()) == (status in (200, 201, 204))
    if delete != Accepted() and restore != Accepted():
        assert delete == restore
    if status in (400, 403, 409, 413, 422):
        assert delete == Refused(status)
    elif status in VERDICTS and delete != Accepted():
        assert delete == VERDICTS[status]
    elif status >= 500:
        assert isinstance(delete, Unavailable)
    assert {404: NoEndpoint(404), 410: Deleted()}.get(status, restore) == restore


@pytest.mark.parametrize("decide", [wire.decide_delete_reply, wire.decide_restore_reply])
@pytest.mark.parametrize("status", [200, 204, 404])
def test_a_page_deletes_nothing(decide: Any, status: int) -> None:
    """A captive portal must not make anybody believe that something is gone."""
    assert decide(reply(status, content_type="text/html; charset=utf-8"), NOW_S) in (
        Unavailable(wire.NOT_OURS, everybody=True),
        NoEndpoint(404),
    )
    page = wire.decide_delete_reply(reply(404, content_type="text/html"), NOW_S)
    assert page == Unavailable(wire.NOT_OURS, everybody=True)


def test_a_server_says_whether_it_deletes() -> None:
    offer = wire.parse_capabilities(reply(200, b'{"protocol":1,"delete":true}'))
    assert offer is not None
    assert offer.delete
    assert not Capabilities().delete


# --- a server's own words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            b'{"type":"about:blank","title":"Forbidden","detail":"this project is not yours"}',
            "this project is not yours",
        ),
        (b'{"error":{"message":"quota of 5 GB is used up","type":"quota"}}', "quota of 5 GB is used up"),
        (b'{"error":"quota is used up"}', "quota is used up"),
        (b'{"message":"Missing Authentication Token"}', "Missing Authentication Token"),
        (b'{"title":"Forbidden"}', "Forbidden"),
        (b'{"detail":17,"message":"  "}', ""),
        (b'{"detail":"\\u001b[31mred\\u0007\\r\\nand\\u202e more"}', "[31mred and more"),
        (b'{"detail":"unexpected value \\"my secret prompt\\" in line 7"}', "unexpected value … in line 7"),
        (b'{"detail":"token tsd_abcdefghijklmnop0123456789 is unknown"}', "token … is unknown"),
        (b'{"detail":"request 4f0f2d0a-6f1e-4b7e failed"}', "request … failed"),
        (b"<html><title>413 Request Entity Too Large</title>", ""),
        (b'{"detail":"cut off', ""),
        (b"[" * 20_000, ""),
        (b"\xff\xfe", ""),
        (b"", ""),
    ],
)
def test_the_words_of_a_server_are_shown_and_are_harmless(body: bytes, words: str) -> None:
    raw = RawReply(403, {"content-type": "application/problem+json"}, body)
    assert error_words(raw) == words
    assert decide_put_reply(raw, 0.0) == Refused(403, words)
    away = decide_put_reply(raw._replace(status=500), 0.0)
    assert isinstance(away, Unavailable)
    assert away.why == ("the server answers 500" + (f": {words}" if words else ""))


@given(st.text(max_size=400), st.sampled_from(["detail", "message", "title", "error"]))
def test_no_words_of_a_server_break_a_line_or_fill_a_screen(text: str, member: str) -> None:
    words = error_words(RawReply(500, {}, json.dumps({member: text}).encode()))
    assert len(words) <= 120
    assert words.isprintable()
    assert all(len(one) < 25 for one in words.split())
