"""Every endpoint over a real server: what it gives, and what it refuses."""

import gzip
import io
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.transcripts.session import Head, StreamId
from agent.core.transcripts.transcript import walk_entries
from agent.core.wire import (
    INGRESS,
    Accepted,
    Conflict,
    RawReply,
    append_request,
    capabilities_request,
    decide_append_reply,
    decide_put_reply,
    head_request,
    parse_capabilities,
    parse_loglines,
    parse_streams,
    session_path,
    streams_request,
)
from agent.errors import DiskError, MachineError
from agent.receiver.app import build_app
from agent.receiver.server import Server, bind
from agent.receiver.sqlite import SqliteStore
from tests.receiver.harness import Answer, Client, Receiver, fresh_head, fresh_stream, head_of, line_of


def raw(answer: Answer) -> RawReply:
    return RawReply(answer.status, answer.headers, answer.body)


def assert_problem(answer: Answer, status: int, *said: str) -> None:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    for words in said:
        assert words in problem["detail"]


def chunked(body: bytes, size: int = 64 << 10) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


# ---- base protocol ----


def test_entries_one_by_one(client: Client) -> None:
    path = session_path(fresh_stream().session_id)
    assert parse_loglines(raw(client.ask("GET", path))) == []
    first = client.ask("PUT", path, b'{"uuid":"a", "n":1}')
    assert decide_put_reply(raw(first), 0) == Accepted()
    assert first.headers["x-last-uuid"] == "a"
    assert client.ask("PUT", path, b'{"uuid":"b"}', Last_Uuid="a").status == 201
    answer = client.ask("GET", path)
    assert answer.body == b'{"loglines":[{"uuid":"a", "n":1},{"uuid":"b"}]}'
    assert parse_loglines(raw(answer)) == ["a", "b"]


def test_put_behind_another_entry_is_a_conflict(client: Client) -> None:
    path = session_path(fresh_stream().session_id)
    stale = client.ask("PUT", path, b'{"uuid":"b"}', Last_Uuid="a")
    assert_problem(stale, 409)
    assert decide_put_reply(raw(stale), 0) == Conflict(None)
    client.ask("PUT", path, b'{"uuid":"a"}')
    for last, entry in ((None, "a"), (None, "b"), ("x", "b"), ("a", "a")):
        again = client.ask("PUT", path, line_of(uuid=entry)[:-1], Last_Uuid=last)
        assert_problem(again, 409)
        assert decide_put_reply(raw(again), 0) == Conflict(Head(last_uuid="a"))


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "empty"),
        (b'{"uuid":"a"}\n', 400, "newline"),
        (b'{\n"uuid":"a"}', 400, "newline"),
        (b'{"uuid":"a"', 400, "JSON object"),
        (b'["uuid"]', 400, "JSON object"),
        (b'{"uuid":"a","x":"\xff"}', 400, "JSON object"),
        (b'{"x":"' + b"y" * (2 << 20), 400, "JSON object"),
        (b'{"type":"summary"}', 422, "uuid"),
        (b'{"uuid":"a b"}', 422, "uuid"),
        (b'{"uuid":7}', 422, "uuid"),
        (b'{"x":"' + b"y" * (2 << 20) + b'"}', 422, "uuid"),
    ],
)
def test_put_takes_one_json_object_with_a_uuid(client: Client, body: bytes, status: int, said: str) -> None:
    assert_problem(client.ask("PUT", session_path(fresh_stream().session_id), body), status, said)


def test_loglines_leave_out_what_is_no_object(client: Client) -> None:
    stream = fresh_stream()
    long = b'{"uuid":"l","x":"' + b"y" * (2 << 20) + b'"}'
    lines = [b"", b"torn {", b"7", b'{"uuid":"a"}', long, long[:-1], b'{"x":"\xff"}', b'{"n":1}', b"\x00\x00"]
    client.append(stream, fresh_head(), b"\n".join(lines) + b"\n")
    answer = client.ask("GET", session_path(stream.session_id))
    assert [len(json.dumps(line)) > 100 for line in answer.json()["loglines"]] == [False, True, False]
    assert parse_loglines(raw(answer)) == ["a", "l", None]


def test_loglines_after_the_last_compaction(client: Client) -> None:
    stream = fresh_stream()
    path = session_path(stream.session_id, after_last_compact="true")
    head = head_of(client.append(stream, fresh_head(), line_of(uuid="a")))
    assert parse_loglines(raw(client.ask("GET", path))) == ["a"]
    boundary = line_of(type="system", subtype="compact_boundary", uuid="c")
    client.append(stream, head, boundary + line_of(uuid="d") + boundary.replace(b'"c"', b'"e"') + line_of(uuid="f"))
    assert parse_loglines(raw(client.ask("GET", path))) == ["e", "f"]
    assert_problem(client.ask("GET", path.replace("true", "perhaps")), 400, "after_last_compact")


def test_teleport_events_by_pages(client: Client) -> None:
    stream = fresh_stream()
    path = f"/v1/code/sessions/{stream.session_id}/teleport-events"
    assert_problem(client.ask("GET", path), 404)
    body = (
        line_of(uuid="a", type="user", timestamp="2026-01-02T03:04:05Z")
        + b"torn\n"
        + line_of(type="system", subtype="compact_boundary")
        + b'{"type":"user","uuid":"long","x":"'
        + b"y" * (2 << 20)
        + b'"}\n'
        + line_of(uuid="e")
    )
    client.append(stream, fresh_head(), body)
    ids = [mark.entry_id for mark in walk_entries(io.BytesIO(body), stream.session_id, "")]
    for limit in (1, 2, 5, 1000):
        events, cursor = [], ""
        while True:
            page = client.ask("GET", f"{path}?limit={limit}&cursor={cursor}").json()
            events += page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert [event["event_id"] for event in events] == ids
        assert [event["is_compaction"] for event in events] == [False, False, True, False, False]
        assert [event["payload"] is None for event in events] == [False, True, False, False, False]
        assert (events[0]["event_type"], events[0]["created_at"]) == ("user", "2026-01-02T03:04:05Z")
    assert_problem(client.ask("GET", f"{path}?cursor=x"), 400, "cursor")


# ---- bulk extension ----


def test_capabilities(client: Client) -> None:
    offer = parse_capabilities(raw(client.send(capabilities_request())))
    assert offer is not None
    assert offer.bulk is not None
    assert (offer.bulk.max_bytes, offer.bulk.encodings) == (8 << 20, ("zstd", "gzip"))
    assert (offer.generations, offer.files, offer.delete) == (True, True, True)


@pytest.mark.parametrize("encoding", [None, "zstd", "gzip"])
@pytest.mark.parametrize("subpath", ["", "subagents/agent-x", "ü/%2F/日本"])
def test_batches_come_back_as_they_were(client: Client, encoding: str | None, subpath: str) -> None:
    stream = fresh_stream(subpath)
    first, second = line_of(uuid="a") + b"\xff torn\n", b"\n" + line_of(n="x" * 200_000)
    head = head_of(client.append(stream, fresh_head(), first, encoding=encoding))
    head = head_of(client.append(stream, head, second, encoding=encoding))
    marks = list(walk_entries(io.BytesIO(first + second), *stream))
    assert (head.last_uuid, head.entry_count, head.chain_hash) == (marks[-1].entry_id, 4, marks[-1].chain.hex())
    assert head_of(client.send(head_request(stream))) == head
    answer = client.entries(stream)
    assert answer.body == first + second
    assert answer.headers["content-type"] == "application/x-ndjson"
    named = ("last-uuid", "entry-count", "generation", "chain-hash")
    assert [answer.headers[name] for name in named] == [head.last_uuid, "4", head.generation, head.chain_hash]
    assert client.entries(stream, after=1, limit=2).body == b"\xff torn\n\n"
    assert client.entries(stream, generation=head.generation).body == first + second
    assert_problem(client.entries(stream, generation=str(uuid.uuid4())), 404)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.binary(max_size=40).map(lambda line: line.replace(b"\n", b""))
        | st.builds(lambda name: json.dumps({"uuid": name}).encode(), st.text(max_size=8)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_the_receiver_and_the_file_agree(client: Client, lines: list[bytes], step: int) -> None:
    """Ids and chain hashes, however the file is cut into batches."""
    stream = fresh_stream("sub")
    marks = list(walk_entries(io.BytesIO(b"\n".join(lines) + b"\n"), *stream))
    head = fresh_head()
    for start in range(0, len(lines), step):
        head = head_of(client.append(stream, head, b"\n".join(lines[start : start + step]) + b"\n"))
        mark = marks[min(start + step, len(lines)) - 1]
        assert (head.last_uuid, head.entry_count, head.chain_hash) == (
            mark.entry_id,
            mark.ordinal,
            mark.chain.hex(),
        )


def test_a_stale_guard_is_told_the_head(client: Client) -> None:
    stream, empty = fresh_stream(), fresh_head()
    head = head_of(client.append(stream, empty, b"1\n"))
    stale = client.append(stream, empty, b"2\n")
    assert stale.status == 409
    assert decide_append_reply(raw(stale), 0) == Conflict(head)
    assert client.append(stream, empty, b"1\n").status == 200  # the same batch again
    assert client.append(fresh_stream(), head, b"2\n").json()["entry_count"] == 0


def test_a_session_id_may_hold_anything_printable(client: Client) -> None:
    for name in ("a/b", "100% süß", "..", "a?b#c&d", "a//b/"):
        stream = StreamId(f"{name} {uuid.uuid4()}", "x")
        assert client.append(stream, fresh_head(), b"1\n").status == 200
        assert client.entries(stream).body == b"1\n"
        answer = client.send(streams_request(stream.session_id))
        assert [row.subpath for row in parse_streams(raw(answer)) or []] == ["x"]


@pytest.mark.parametrize("path", ["a%00b", "a%0Ab", "%ff", "x" * 257, "a%7f"])
def test_odd_session_ids_are_refused(client: Client, path: str) -> None:
    assert_problem(client.ask("GET", f"{INGRESS}/session/{path}"), 400, "session id")


@pytest.mark.parametrize("subpath", ["/a", "a/", "a//b", "../a", "a/./b", "..", "x" * 1025, "a\nb"])
def test_odd_subpaths_are_refused(client: Client, subpath: str) -> None:
    assert_problem(client.entries(StreamId("s", subpath)), 400, "subpath")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Entry-Count", ""),
        ("Entry-Count", "-1"),
        ("Entry-Count", "1.0"),
        ("Entry-Count", "9" * 19),
        ("Entry-Count", "٣"),
        ("Generation", ""),
        ("Generation", "g"),
        ("Batch-Id", ""),
        ("Batch-Id", "1-2-3"),
        ("Last-Uuid", "a b"),
        ("Last-Uuid", "x" * 129),
        ("Content-Encoding", "br"),
        ("Content-Encoding", "gzip, zstd"),
    ],
)
def test_odd_headers_are_refused_by_name(client: Client, name: str, value: str) -> None:
    request = append_request(fresh_stream(), fresh_head(), b"x\n", chain_after=bytes(32))
    sent = value.encode("utf-8").decode("latin-1")
    answer = client.send(request.__class__("POST", request.path, {**request.headers, name: sent}, request.body))
    assert_problem(answer, 400, name)


@pytest.mark.parametrize(
    ("encoding", "body", "said"),
    [
        ("identity", b"", "empty"),
        ("identity", b"x", "newline"),
        ("identity", b"x\ny", "newline"),
        ("gzip", b"", "empty"),
        ("gzip", b"x\n", "Content-Encoding"),
        ("gzip", gzip.compress(b"x\n" * 999, mtime=0)[:-3], "Content-Encoding"),
        ("gzip", gzip.compress(b"x\n", mtime=0) + b"tail", "Content-Encoding"),
        ("zstd", b"x\n", "Content-Encoding"),
        ("zstd", zstandard.compress(b"x\n" * 999)[:-3], "Content-Encoding"),
        ("zstd", gzip.compress(b"x\n", mtime=0), "Content-Encoding"),
        ("zstd", zstandard.compress(b""), "empty"),
    ],
)
def test_odd_bodies_are_refused(client: Client, encoding: str, body: bytes, said: str) -> None:
    stream = fresh_stream()
    request = append_request(stream, fresh_head(), body, chain_after=bytes(32))
    headers = {**request.headers, "Content-Encoding": encoding}
    assert_problem(client.send(request.__class__("POST", request.path, headers, body)), 400, said)
    assert head_of(client.send(head_request(stream))).entry_count == 0


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_several_frames_are_one_body(client: Client, pack: object) -> None:
    assert callable(pack)
    stream = fresh_stream()
    request = append_request(stream, fresh_head(), b"", chain_after=bytes(32))
    headers = {**request.headers, "Content-Encoding": "gzip" if pack is gzip.compress else "zstd"}
    answer = client.send(request.__class__("POST", request.path, headers, pack(b"1\n") + pack(b"2\n")))
    assert answer.json()["entry_count"] == 2


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("lines", [False, True])
def test_bombs_are_too_large(client: Client, encoding: str, *, lines: bool) -> None:
    line = b"y" * 1000 + b"\n"
    # One line may be as long as an entry; with a second one the smaller limit of batches holds.
    body = line * (9 * (1 << 20) // len(line)) if lines else bytes(300 << 20)
    packed = gzip.compress(body, 1, mtime=0) if encoding == "gzip" else zstandard.compress(body)
    request = append_request(fresh_stream(), fresh_head(), packed, chain_after=bytes(32))
    headers = {**request.headers, "Content-Encoding": encoding}
    answer = client.send(request.__class__("POST", request.path, headers, packed))
    assert_problem(answer, 413, "8388608 bytes", "268435456 bytes an entry")


def test_a_zstd_window_is_bounded(client: Client) -> None:
    wide = zstandard.ZstdCompressionParameters.from_level(1, window_log=27, enable_ldm=True, write_content_size=False)
    body = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    packed = body.compress(b"x\n" * 10) + body.flush()
    request = append_request(fresh_stream(), fresh_head(), packed, chain_after=bytes(32))
    answer = client.send(
        request.__class__("POST", request.path, {**request.headers, "Content-Encoding": "zstd"}, packed)
    )
    assert_problem(answer, 400, "Content-Encoding")


def test_batches_are_bounded_and_single_entries_less(client: Client) -> None:
    nine_mib = b"x" * (9 << 20) + b"\n"
    assert client.append(fresh_stream(), fresh_head(), nine_mib).status == 200
    assert_problem(client.append(fresh_stream(), fresh_head(), nine_mib + b"y\n"), 413)
    assert_problem(client.append(fresh_stream(), fresh_head(), b"y\n" + nine_mib), 413)
    assert client.append(fresh_stream(), fresh_head(), b"\n" * 10_000).status == 200
    assert_problem(client.append(fresh_stream(), fresh_head(), b"\n" * 10_001), 413, "10000 entries")


def test_a_client_that_goes_leaves_nothing(receiver: Receiver, client: Client) -> None:
    stream = fresh_stream()
    request = append_request(stream, fresh_head(), b"x\n" * 100_000, chain_after=bytes(32))
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    for sent in (0, 10, 150_000):
        with socket.create_connection(("127.0.0.1", receiver.port)) as sock:
            sock.sendall(
                f"POST {request.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer writer-of-this-run\r\n"
                f"Content-Length: 200000\r\n{head}\r\n".encode()
                + b"x\n" * (sent // 2)
            )
    assert head_of(client.send(head_request(stream))).entry_count == 0
    assert client.append(stream, fresh_head(), b"1\n").status == 200


def test_a_dripping_client_holds_nobody_up(receiver: Receiver, client: Client) -> None:
    stream = fresh_stream()
    request = append_request(stream, fresh_head(), b"x\n", chain_after=bytes(32))
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection(("127.0.0.1", receiver.port)) as sock:
        sock.sendall(
            f"POST {request.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer writer-of-this-run\r\n"
            f"Content-Length: 4\r\n{head}\r\nx\n".encode()
        )
        assert client.append(stream, fresh_head(), b"1\n").status == 200
        sock.sendall(b"y\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 409")


def test_sixteen_writers_on_one_stream(receiver: Receiver) -> None:
    """The server decides the order; nobody's acknowledged entry is lost or doubled."""
    stream, begin = fresh_stream(), fresh_head()
    won: list[tuple[int, bytes]] = []

    def write(number: int) -> None:
        with receiver.client() as client:
            head, left = begin, 5
            while left:
                line = b"%d-%d-%s" % (number, left, os.urandom(4).hex().encode())
                answer = client.append(stream, head, line + b"\n")
                assert answer.status in (200, 409)
                seen = head_of(answer)
                head = seen if seen.generation else begin
                if answer.status == 200:
                    won.append((seen.entry_count, line))
                    left -= 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(place for place, _ in won) == list(range(1, 81))
    with receiver.client() as client:
        assert client.entries(stream).body == b"".join(line + b"\n" for _, line in sorted(won))


# ---- sessions and their facts ----

EMPTY_META = dict.fromkeys(("provider", "project", "title", "host", "agent_version"), "")


def test_meta(client: Client) -> None:
    path = session_path(fresh_stream().session_id, "/meta")
    assert_problem(client.ask("GET", path), 404)
    assert client.ask("PUT", path, b'{"provider":"claude","title":"T","later":1}').status == 204
    assert client.ask("GET", path).json() == {**EMPTY_META, "provider": "claude", "title": "T"}
    assert client.ask("GET", path.removesuffix("/meta")).json() == {"loglines": []}
    for body in (b"", b"[]", b'{"title":1}', b'{"title":"' + b"x" * 5000 + b'"}', b"\xff"):
        assert_problem(client.ask("PUT", path, body), 400, "body")
    assert_problem(client.ask("PUT", path, b" " * (65 << 10)), 413)


def test_sessions_are_listed(client: Client) -> None:
    streams = [fresh_stream() for _ in range(5)]
    for stream in streams:
        client.append(stream, fresh_head(), b"x\n")
    client.ask("PUT", session_path(streams[0].session_id, "/meta"), b'{"title":"T"}')
    rows: list[dict[str, object]] = []
    cursor = ""
    while cursor is not None and len(rows) < 5:
        page = client.ask("GET", f"{INGRESS}/sessions?limit=2&cursor={cursor}").json()
        rows += page["sessions"]
        cursor = page["next_cursor"]
    assert [row["session_id"] for row in rows[:5]] == [stream.session_id for stream in reversed(streams)]
    assert rows[4]["meta"] == {**EMPTY_META, "title": "T"}
    assert (rows[0]["entries"], rows[0]["size_bytes"], rows[0]["streams"]) == (1, 2, 1)
    for query, said in (("limit=0", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor")):
        assert_problem(client.ask("GET", f"{INGRESS}/sessions?{query}"), 400, said)


# ---- the rest ----


def test_errors_of_the_router_are_problems(client: Client) -> None:
    assert_problem(client.ask("GET", "/nowhere"), 404)
    refused = client.ask("DELETE", session_path("s", "/entries"))
    assert_problem(refused, 405)
    assert refused.headers["allow"]
    assert_problem(client.send(streams_request(fresh_stream().session_id)), 404)


def test_health_needs_no_token(receiver: Receiver) -> None:
    with receiver.client(None) as client:
        assert client.ask("GET", "/healthz").json() == {"status": "ok"}


def test_numbers_are_checked(client: Client) -> None:
    for query in ({"after": "-1"}, {"limit": "0"}, {"after": "x"}):
        assert_problem(client.entries(StreamId("s", ""), **query), 400, next(iter(query)))


def test_a_head_is_msgspec_readable(client: Client) -> None:
    answer = client.send(head_request(fresh_stream()))
    assert msgspec.json.decode(answer.body, type=Head) == Head(None, 0, None, "0" * 64)


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (DiskError("the disk is full"), 503, "full"),
        (MachineError("odd"), 500, "odd"),
        (ZeroDivisionError("secret"), 500, ""),
    ],
)
def test_what_the_store_cannot_do_is_a_problem(
    tmp_path: Path, raised: Exception, status: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(SqliteStore):
        def head(self, owner: str, stream: StreamId) -> Head:
            raise raised

    ready = threading.Event()
    with closing(Failing(tmp_path / "db")) as store, closing(bind("127.0.0.1", 0)) as sock:
        server = Server(build_app(store, extra_token="t"), sock, on_ready=ready.set)
        thread = threading.Thread(target=server.run_until_stopped)
        thread.start()
        assert ready.wait(10)
        with Client(sock.getsockname()[1], "t") as client:
            answer = client.send(head_request(fresh_stream()))
        server.stop()
        thread.join()
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json().get("detail", "")
    assert b"secret" not in answer.body
    assert ("retry-after" in answer.headers) == (status == 503)
    assert caplog.records
