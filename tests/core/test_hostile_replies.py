"""What servers say when they mean no good: every reply kind over hostile values. Each gives a verdict, or a value
within bounds, and never raises."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core import wire
from agent.core.transcripts.session import Head
from agent.core.wire import RawReply

ID = "0b7f7d5e-8f2c-4f6e-9a43-1d2f3c4b5a69"
HEAD: dict[str, Any] = {"last_uuid": "u", "entry_count": 3, "generation": ID, "chain_hash": "ab" * 32}
STREAM = {"subpath": "", "head": HEAD, "current": True, "parent": ID, "shared_entries": 1}
FILE = {"path": "a/b", "size": 3, "digest": "sha-256=:" + "A" * 43 + "=:", "changed_at_s": 1.5}
META = {"provider": "claude", "project": "/w", "title": "t", "host": "h", "agent_version": "1"}
ROW = {
    "session_id": "s", "streams": 1, "entries": 3, "size_bytes": 9, "created_at_s": 1.0, "changed_at_s": 2.0,
    "meta": META, "owner": "o",
}  # fmt: skip
CAPABILITIES = {
    "protocol": 1, "bulk": {"max_bytes": 9, "max_entries": 9, "encodings": ["zstd"]}, "generations": True,
    "files": True, "delete": True, "sessions": True,
}  # fmt: skip

KINDS: Mapping[str, tuple[Callable[[RawReply], Any], Any]] = {
    "head": (lambda raw: wire.parse_head(raw.body), HEAD),
    "append": (lambda raw: wire.decide_append_reply(raw, 0.0), HEAD),
    "generation": (lambda raw: wire.decide_generation_reply(raw, 0.0), HEAD),
    "capabilities": (wire.parse_capabilities, CAPABILITIES),
    "streams": (wire.parse_streams, {"streams": [STREAM]}),
    "files": (wire.parse_files, {"files": [FILE]}),
    "meta": (wire.parse_meta, META),
    "sessions": (wire.parse_sessions, {"sessions": [ROW], "next_cursor": "c"}),
    "health": (wire.parse_health, {"encodings": ["gzip"]}),
    "loglines": (wire.parse_loglines, {"loglines": [{"uuid": "a"}]}),
}

NASTY: tuple[Any, ...] = (
    10**30, -1, -(2**63), 2**53 + 1, 2**64, 1e308, -1e308, 0.5, True, None, "", "x" * 5000, "a\nb",
    "u\u0000", "é" * 200, "../../etc", ID + "\n", ID[:-1], "ab" * 31, "zz" * 32, "AB" * 40, [], {}, [[]] * 10,
    "\ud800", "10",
    10**400,
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(NASTY),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=300),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a JSON value something stands."""
    found = [path] if path else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*found, *(one for key, child in children for one in places(child, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    made = json.loads(json.dumps(value))
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return made


PLACES = [(kind, path) for kind, (_, value) in KINDS.items() for path in places(value)]


def assert_bounded(value: Any) -> None:
    """Whatever came of it, at any depth."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int):
        assert 0 <= value <= 2**53
    elif isinstance(value, float):
        assert abs(value) <= 1e11
    elif isinstance(value, Head):
        assert value.last_uuid is None or (len(value.last_uuid) <= 128 and value.last_uuid.isascii())
        assert value.chain_hash is None or len(bytes.fromhex(value.chain_hash)) == 32
        assert value.generation is None or len(value.generation) == 36
        assert_bounded(value.entry_count)
    elif isinstance(value, wire.Meta):
        assert all(isinstance(one, str) for one in msgspec.structs.astuple(value))
    elif isinstance(value, msgspec.Struct):
        for one in msgspec.structs.astuple(value):
            assert_bounded(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            assert_bounded(one)
    elif isinstance(value, str):
        assert len(value) <= 5000


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_right_is_taken(kind: str) -> None:
    parse, value = KINDS[kind]
    found = parse(RawReply(200, {}, json.dumps(value).encode()))
    assert found not in (None, [], False)
    assert not isinstance(found, wire.Unavailable)
    assert_bounded(found)


@pytest.mark.parametrize(("kind", "path"), PLACES)
def test_each_value_in_each_place(kind: str, path: tuple[Any, ...]) -> None:
    parse, value = KINDS[kind]
    for new in NASTY:
        assert_bounded(parse(RawReply(200, {}, json.dumps(changed(value, path, new)).encode())))


@given(st.sampled_from(PLACES), VALUES, st.sampled_from([200, 201, 409]))
@settings(max_examples=300)
def test_any_value_in_any_place(place: tuple[str, tuple[Any, ...]], new: Any, status: int) -> None:
    kind, path = place
    parse, value = KINDS[kind]
    assert_bounded(parse(RawReply(status, {}, json.dumps(changed(value, path, new)).encode())))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("entry_count", 10**30),
        ("entry_count", 2**53 + 1),
        ("entry_count", -1),
        ("generation", "x" * 4000),
        ("generation", ID + "\n"),
        ("last_uuid", "x" * 129),
        ("last_uuid", "a b"),
        ("chain_hash", "ab" * 31),
        ("chain_hash", "zz" * 32),
    ],
)
def test_a_head_that_can_not_be_is_none(field: str, value: Any) -> None:
    assert wire.parse_head(json.dumps({**HEAD, field: value}).encode()) is None


@given(st.text(max_size=300) | st.sampled_from(["\x00", "x" * 129, "9" * 30, "-1", "٣", "1e9"]))
def test_headers_are_bounded_too(value: str) -> None:
    conflict = wire.decide_put_reply(RawReply(409, {"x-last-uuid": value}, b""), 0.0)
    assert isinstance(conflict, wire.Conflict)
    assert_bounded(conflict.head)
    state = wire.parse_file_state(RawReply(200, {"upload-offset": value, "content-digest": value}, b""), bytes(32), 100)
    assert state is not None
    assert 0 <= state.offset <= 100
    late = wire.decide_append_reply(RawReply(503, {"retry-after": value, "date": value}, b""), 0.0)
    assert isinstance(late, wire.Unavailable)
    assert late.retry_after_s is None or 0 < late.retry_after_s <= 3600
