"""Lines, ids and chains: for any file, however it is read."""

import io
import json
import uuid
from hashlib import blake2b, sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.core.transcripts.transcript import (
    EMPTY_CHAIN,
    ENTRY_NAMESPACE,
    LONG_LINE_BYTES,
    UuidScanner,
    derived_id,
    describe_line,
    entry_uuid,
    extend_chain,
    measure_run,
    split_lines,
    tombstone_line,
    usable_uuid,
    walk_entries,
    whole_lines_bytes,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "entries.json"

TEXTS = st.text(max_size=10) | st.sampled_from(
    ["uuid", "a-b", '"', "\\", 'x"uuid":"y', "\u2028", "\\u0075uid", "{", "]"]
)
KEYS = st.sampled_from(["uuid", "uuid ", "type", "", "UUID"]) | TEXTS
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
CUTS = st.lists(st.integers(0, 80), max_size=10)


def pieces_of(line: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, *(cut for cut in cuts if cut < len(line)), len(line)})
    return [line[start:end] for start, end in pairwise(places)]


def scanned(line: bytes, cuts: list[int]) -> str | None:
    scanner = UuidScanner()
    for piece in pieces_of(line, cuts):
        scanner.feed(piece)
    return scanner.result()


def render_object(members: list[tuple[str, Any]], ascii_only: bool, spaced: bool) -> bytes:
    """A JSON object whose keys may recur."""
    colon, comma = (" : ", " , ") if spaced else (":", ",")
    parts = [
        json.dumps(key, ensure_ascii=ascii_only) + colon + json.dumps(value, ensure_ascii=ascii_only)
        for key, value in members
    ]
    return ("{" + comma.join(parts) + "}").encode("utf-8", "replace")


# ---- uuids ----


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"uuid":"a"}', "a"),
        (b'{"x":{"uuid":"inner"},"uuid":"outer"}', "outer"),
        (b'{"x":{"uuid":"inner"}}', None),
        (b'{"uuid":"first","uuid":"last"}', "last"),
        (b'{"uuid":"first","uuid":null}', None),
        (b'{"uuid":"first","uuid":{"uuid":"x"}}', None),
        (b'{"\\u0075uid":"escaped"}', "escaped"),
        (b'{"uuid":"\\u0061"}', "a"),
        (b'{"uuid":"a","text":"cut \\ud83d"}', "a"),
        (b'{"text":"\\uDE00 \\\\ud83d \\\\\\ud83d","uuid":"a"}', "a"),
        (b'{"uuid":"a\\ud83d"}', None),
        (b'{"uuid":7}', None),
        (b'{"uuid":["a"]}', None),
        (b'{"uuid":""}', None),
        (b'{"uuid":"a b"}', None),
        (b'{"uuid":"a\\n"}', None),
        ('{"uuid":"ü"}'.encode(), None),
        (b'{"uuid":"' + b"x" * 128 + b'"}', "x" * 128),
        (b'{"uuid":"' + b"x" * 129 + b'"}', None),
        (b'{"uuid":"' + b"x" * 5000 + b'"}', None),
        (b'["uuid","a"]', None),
        (b'[{"uuid":"a"}]', None),
        (b'"uuid"', None),
        (b"{}", None),
    ],
)
def test_the_uuid_of_a_line(line: bytes, found: str | None) -> None:
    assert entry_uuid(line) == found
    for cuts in ([], list(range(len(line)))):
        assert scanned(line, cuts) == found


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b'{"uuid":"a","x":"\\ud83d',
        b'{"uuid":"a"',
        b'{"uuid":"a',
        b"\x00" * 9,
        b'uuid":"a"}',
        b'{"uuid":"a"}}',
    ],
)
def test_a_torn_line_has_none(line: bytes) -> None:
    assert entry_uuid(line) is None
    assert scanned(line, []) is None


@example([("uuid", "a"), ("uuid", ["b"])], [], True, False)
@example([("uuid", "a"), ("x", {"uuid": {}})], [9], True, True)
@given(st.lists(st.tuples(KEYS, VALUES), max_size=5), CUTS, st.booleans(), st.booleans())
def test_long_lines_give_the_same_uuid(
    members: list[tuple[str, Any]], cuts: list[int], ascii_only: bool, spaced: bool
) -> None:
    line = render_object(members, ascii_only, spaced)
    assert scanned(line, cuts) == entry_uuid(line)


@given(VALUES, CUTS)
def test_long_lines_that_are_any_value(value: Any, cuts: list[int]) -> None:
    line = json.dumps(value).encode()
    assert scanned(line, cuts) == entry_uuid(line)


@given(st.binary(max_size=60), CUTS)
def test_no_bytes_break_the_scanner(line: bytes, cuts: list[int]) -> None:
    scanned(line, cuts)
    entry_uuid(line)


def test_bottomless_nesting_is_no_error() -> None:
    assert entry_uuid(b'{"uuid":' + b"[" * 1_000_000) is None


@given(st.text(max_size=140))
def test_what_is_usable_fits_a_header(text: str) -> None:
    assert (usable_uuid(text) == text) == (1 <= len(text) <= 128 and all("!" <= sign <= "~" for sign in text))
    assert usable_uuid(None) is None


# ---- lines ----


@given(st.binary(max_size=50))
def test_lines_end_at_newlines_and_nowhere_else(data: bytes) -> None:
    size = whole_lines_bytes(data)
    lines = split_lines(data[:size])
    assert b"".join(line + b"\n" for line in lines) == data[:size]
    assert b"\n" not in data[size:]
    assert [mark.end for mark in walk_entries(io.BytesIO(data), "s", "")][-1:] == ([size] if size else [])


# ---- chains ----


def test_the_chain_is_what_the_contract_says() -> None:
    assert bytes(32) == EMPTY_CHAIN
    first = blake2b(EMPTY_CHAIN + b"one", digest_size=32).digest()
    assert extend_chain(EMPTY_CHAIN, [b"one", b""]) == blake2b(first, digest_size=32).digest()


@given(st.lists(st.binary(max_size=9), max_size=8), st.integers(0, 8))
def test_a_chain_goes_on_where_it_ended(lines: list[bytes], cut: int) -> None:
    assert extend_chain(extend_chain(EMPTY_CHAIN, lines[:cut]), lines[cut:]) == extend_chain(EMPTY_CHAIN, lines)


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=6, unique=True), st.data())
def test_other_content_gives_another_chain(lines: list[bytes], data: st.DataObject) -> None:
    other = data.draw(st.permutations(lines))
    assert (extend_chain(EMPTY_CHAIN, lines) == extend_chain(EMPTY_CHAIN, other)) == (lines == other)


# ---- entries ----


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.binary(max_size=5))
def test_walking_a_file(lines: list[bytes], tail: bytes) -> None:
    data = b"".join(line + b"\n" for line in lines) + tail.replace(b"\n", b"")
    marks = list(walk_entries(io.BytesIO(data), "s", "sub"))
    assert [data[mark.start : mark.end - 1] for mark in marks] == lines
    assert [mark.ordinal for mark in marks] == list(range(1, len(lines) + 1))
    for mark, line in zip(marks, lines, strict=True):
        found = entry_uuid(line)
        assert mark.has_uuid == (found is not None)
        assert mark.entry_id == (found or derived_id("s", "sub", mark.ordinal, sha256(line).hexdigest()))
        assert mark.chain == extend_chain(EMPTY_CHAIN, lines[: mark.ordinal])


@pytest.mark.parametrize("size", [LONG_LINE_BYTES - 1, LONG_LINE_BYTES, LONG_LINE_BYTES + 1, 3 * LONG_LINE_BYTES])
@pytest.mark.parametrize("with_uuid", [True, False])
def test_walking_long_lines(size: int, with_uuid: bool) -> None:
    frame = b'{"x":"","uuid":"long"}' if with_uuid else b'{"x":"","y":"long"}'
    line = frame.replace(b'""', b'"' + b"y" * (size - len(frame)) + b'"', 1)
    marks = list(walk_entries(io.BytesIO(b"a\n" + line + b"\nb\n"), "s", ""))
    digest = sha256(line).hexdigest()
    assert marks[1].entry_id == ("long" if with_uuid else derived_id("s", "", 2, digest))
    assert marks[2].chain == extend_chain(EMPTY_CHAIN, [b"a", line, b"b"])
    assert (marks[2].start, marks[2].end) == (size + 3, size + 5)


@given(st.binary(max_size=60), CUTS)
def test_describing_a_line_in_pieces(line: bytes, cuts: list[int]) -> None:
    size, _, digest = describe_line(pieces_of(line, cuts))
    assert (size, digest) == (len(line), sha256(line).hexdigest())
    assert describe_line([line]) == (len(line), entry_uuid(line), digest)


def test_tombstones_are_walked_as_they_travelled() -> None:
    body = b'{"uuid":"a"}\nbad\n{"uuid":"c","x":1}\n'
    marks = list(walk_entries(io.BytesIO(body), "s", "", tombstones={2: 413, 3: 422}))
    second = tombstone_line(3, sha256(b"bad").hexdigest(), None, 413)
    third = tombstone_line(18, sha256(b'{"uuid":"c","x":1}').hexdigest(), "c", 422)
    sent = [b'{"uuid":"a"}', second, third]
    assert [mark.chain for mark in marks] == [extend_chain(EMPTY_CHAIN, sent[:count]) for count in (1, 2, 3)]
    assert [mark.entry_id for mark in marks] == ["a", derived_id("s", "", 2, sha256(second).hexdigest()), "c"]
    assert [mark.start for mark in marks] == [0, 13, 17]
    assert json.loads(third) == {
        "type": "transcriptd-tombstone",
        "uuid": "c",
        "size": 18,
        "sha256": sha256(b'{"uuid":"c","x":1}').hexdigest(),
        "status": 422,
    }


# ---- vectors: what other implementations check themselves against ----


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text(encoding="utf-8"))["streams"], ids=lambda v: v["name"])
def test_vectors(vector: Any) -> None:
    body = b"".join(bytes.fromhex(entry["line_hex"]) + b"\n" for entry in vector["entries"])
    marks = walk_entries(io.BytesIO(body), vector["session_id"], vector["subpath"])
    found = [(mark.entry_id, mark.chain.hex()) for mark in marks]
    assert found == [(entry["entry_id"], entry["chain_hash"]) for entry in vector["entries"]]


def test_the_namespace_is_fixed() -> None:
    assert json.loads(VECTORS.read_text(encoding="utf-8"))["namespace"] == str(ENTRY_NAMESPACE)
    name = "s\nsub\n3\n" + "0" * 64
    assert derived_id("s", "sub", 3, "0" * 64) == str(uuid.uuid5(ENTRY_NAMESPACE, name))


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b" ")), max_size=8), st.binary(max_size=9))
def test_a_run_is_what_its_lines_are(content: list[bytes], rest: bytes) -> None:
    rest = rest.replace(b"\n", b" ")
    data = b"".join(line + b"\n" for line in content)
    for most in (0, 1, len(content), 99):
        taken = content[:most]
        run = measure_run(EMPTY_CHAIN, data + rest, most, (b"a", b"\x00"))
        assert run.entries == len(taken)
        assert run.size == sum(len(line) + 1 for line in taken)
        assert run.chain == extend_chain(EMPTY_CHAIN, taken)
        assert run.marked == [line for line in taken if line.startswith((b"a", b"\x00"))]
