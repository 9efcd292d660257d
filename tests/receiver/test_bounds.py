"""Numbers and compressed bodies from outside: each has bounds before it reaches anything that has some of its own."""

import gzip
import json
import re
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.wire import INGRESS, session_path
from agent.receiver.openapi import describe_api
from tests.receiver.harness import Client, Receiver, fresh_head, fresh_stream
from tests.receiver.test_connections import dialled, one_answer, status

# ---- numbers ----


class Parameter(NamedTuple):
    method: str
    path: str
    place: str
    name: str


def described() -> list[Parameter]:
    """Every query, header and path parameter of every operation; whoever adds one is covered."""
    document: Any = describe_api()
    return [
        Parameter(method.upper(), path, one["in"], one["name"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for one in operation["parameters"]
    ]


GENERATION = str(uuid.UUID(int=7))
HEADERS = {
    "Entry-Count": "0",
    "Generation": GENERATION,
    "Batch-Id": GENERATION,
    "Content-Digest": "sha-256=:" + "A" * 43 + "=:",
}
VALUES = {"session_id": "known", "path": "f"}

BIG = st.one_of(
    st.integers(-(10**30), 10**30), st.sampled_from([2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**18, 10**400])
)
NUMBERS = st.one_of(
    BIG.map(str),
    st.tuples(BIG, BIG).map(lambda two: f"{two[0]}_{two[1]}"),
    st.tuples(st.floats(), BIG).map(lambda two: f"{two[0]!r}_{two[1]}"),
    BIG.map(lambda one: f"{GENERATION}.{one}"),
    st.tuples(BIG, BIG, BIG).map(lambda three: "bytes {}-{}/{}".format(*three)),
    st.sampled_from(["1_99999999999999999999", "nan_1", "inf_1", "1e999_1", "1_0_1", "٣", "²", "0x10", "1e3", "1_000"]),
    st.sampled_from(["-0", "+1", " 1", "1 "]),
    st.text(max_size=40),
)  # fmt: skip


@pytest.mark.parametrize("one", described(), ids=lambda one: f"{one.method} {one.path} {one.name}")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=NUMBERS)
def test_no_value_of_a_parameter_is_the_servers_fault(client: Client, one: Parameter, value: str) -> None:
    path = re.sub(r"{(\w+)}", lambda name: quote(value if name[1] == one.name else VALUES[name[1]], safe=""), one.path)
    query = f"?{one.name}={quote(value)}" if one.place == "query" else ""
    headers = dict(HEADERS)
    if one.place == "header":
        headers[one.name] = re.sub(r"[^\x20-\x7e\xa0-\xff]", "?", value).strip()
    body = b"x\n" if one.method in {"PUT", "POST"} else None
    answer = client.ask(one.method, path + query, body, **headers)
    assert 200 <= answer.status < 500, answer.body
    if answer.status >= 400 and one.method != "HEAD" and answer.status != 409:
        assert answer.json()["status"] == answer.status


@pytest.mark.parametrize(
    "cursor", ["1_99999999999999999999", "1e9999_1", "nan_1", "1_-1", "1_1_1", "_", "1" * 400 + "_1"]
)
def test_a_cursor_that_is_none_is_refused(client: Client, cursor: str) -> None:
    assert client.ask("GET", f"{INGRESS}/sessions?cursor={cursor}").status == 400


def test_a_cursor_that_is_one_goes_on(client: Client) -> None:
    for _ in range(3):
        client.append(fresh_stream(), fresh_head(), b"x\n")
    page = client.ask("GET", f"{INGRESS}/sessions?limit=1").json()
    seen = {page["sessions"][0]["session_id"]}
    for _ in range(2):
        page = client.ask("GET", f"{INGRESS}/sessions?limit=1&cursor={quote(page['next_cursor'])}").json()
        seen.add(page["sessions"][0]["session_id"])
    assert len(seen) == 3


@given(shared=BIG | st.floats() | st.booleans() | st.text(max_size=5) | st.none())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_of_a_body_have_bounds_too(client: Client, shared: object) -> None:
    body = json.dumps({"generation": GENERATION, "parent": GENERATION, "shared_entries": shared}).encode()
    answer = client.ask("POST", session_path("known", "/generations"), body)
    assert answer.status in {400, 409}


# ---- compressed bodies ----

EMPTY_ZSTD = zstandard.ZstdCompressor().compress(b"")
SKIPPABLE = bytes.fromhex("502a4d18") + bytes(4)


@pytest.mark.parametrize(
    ("encoding", "frame"),
    [("zstd", EMPTY_ZSTD), ("zstd", SKIPPABLE), ("gzip", gzip.compress(b"")), ("gzip", gzip.compress(b"x"))],
    ids=["zstd-empty", "zstd-skippable", "gzip-empty", "gzip-one-byte"],
)
def test_many_tiny_frames_are_refused(client: Client, encoding: str, frame: bytes) -> None:
    """Each costs as much as decoding some KiB; the first few hundred say enough."""
    body = frame * ((2 << 20) // len(frame))
    answer = client.ask("POST", append_path(), body, Content_Encoding=encoding, **HEADERS)
    assert answer.status == 413
    assert "frames" in answer.json()["detail"]


@pytest.mark.parametrize(("encoding", "compress"), [("zstd", zstandard.compress), ("gzip", gzip.compress)])
def test_frames_that_hold_something_are_taken(
    client: Client, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    stream, head = fresh_stream(), fresh_head()
    lines = [json.dumps({"n": n, "x": uuid.uuid5(uuid.NAMESPACE_URL, str(n)).hex * 50}).encode() for n in range(2000)]
    whole = b"".join(line + b"\n" for line in lines)
    body = b"".join(compress(whole[start : start + 65536]) for start in range(0, len(whole), 65536))
    headers = {**HEADERS, "Generation": str(head.generation), "Content-Encoding": encoding}
    assert client.ask("POST", session_path(stream.session_id, "/entries"), body, **headers).status == 200
    assert client.entries(stream).body == whole


@pytest.mark.parametrize(("encoding", "compress"), [("zstd", zstandard.compress), ("gzip", gzip.compress)])
def test_a_body_grows_so_far_and_no_further(client: Client, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    """A single entry may have 256 MiB; nobody makes that of some KiB."""
    bomb = compress(b'{"x":"' + b"y" * (200 << 20) + b'"}\n')
    answer = client.ask("POST", append_path(), bomb, Content_Encoding=encoding, **HEADERS)
    assert answer.status == 413
    put = client.ask("PUT", session_path(fresh_stream().session_id), bomb, Content_Encoding=encoding)
    assert put.status == 413


def test_nothing_is_decompressed_for_strangers(receiver: Receiver) -> None:
    """They are told so before a byte of the body is there."""
    head = f"POST {append_path()} HTTP/1.1\r\nHost: here\r\nContent-Encoding: zstd\r\nContent-Length: 1000000\r\n"
    for token in ("", "Authorization: Bearer wrong\r\n"):
        with dialled(receiver) as connection:
            connection.sendall((head + token + "\r\n").encode())
            assert status(one_answer(connection)) == 401


def append_path() -> str:
    return session_path(fresh_stream().session_id, "/entries")
