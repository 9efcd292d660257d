"""The check of long lines gives what a whole parser gives, wherever the pieces are cut."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.core.transcripts.objects import ObjectCheck, is_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
CUTS = st.lists(st.integers(0, 60), max_size=8)


def check(line: bytes, cuts: list[int]) -> bool:
    found = ObjectCheck()
    places = sorted({0, *(cut for cut in cuts if cut < len(line)), len(line)})
    for start, end in pairwise(places):
        found.feed(line[start:end])
    return found.result()


def parses(line: bytes) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        return isinstance(json.loads(line.decode(), parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False


@given(VALUES, CUTS, st.booleans(), st.sampled_from([None, 1]))
def test_valid_values(value: Any, cuts: list[int], ascii_only: bool, indent: int | None) -> None:
    line = json.dumps(value, ensure_ascii=ascii_only, indent=indent).replace("\n", "\r").encode("utf-8", "replace")
    assert check(line, cuts) == is_object(line) == isinstance(value, dict)


@given(
    VALUES.filter(lambda value: isinstance(value, dict)),
    CUTS,
    st.integers(0, 80),
    st.binary(max_size=2),
    st.integers(0, 3),
)
def test_damaged_values(value: Any, cuts: list[int], at: int, put: bytes, gone: int) -> None:
    line = json.dumps(value).encode()
    line = line[:at] + put.replace(b"\n", b"") + line[at + gone :]
    assert check(line, cuts) == parses(line)


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"}", b"{}", b" {} ", b"{}{}", b"{},", b'{"a"}', b'{"a":}', b'{"a":1,}', b"{,}", b'{"a":1 "b":2}',
     b'{"a":[1,]}', b'{"a":[,1]}', b'{"a":[1 2]}', b'{"a":[}', b'{"a":]}', b'{a:1}', b'{"a":01}', b'{"a":1.}',
     b'{"a":-}', b'{"a":1e}', b'{"a":+1}', b'{"a":NaN}', b'{"a":tru}', b'{"a":truefalse}', b'{"a":"\\x"}',
     b'{"a":"\\u12"}', b'{"a":"\t"}', b'{"a":"\xff"}', b'{"a":"\xc3', b"[{}]", b"1", b'"x"', b'{"a":1}x', b"\x00",
     b'{"a":-0.5e+10,"b":[true,false,null,{}],"c":"\\"\\\\\\u00e9"}', b'{"a":1:2}', b'{"a",1}', b'{1:2}'],
)  # fmt: skip
@given(CUTS)
def test_edges(line: bytes, cuts: list[int]) -> None:
    assert check(line, cuts) == parses(line)


@pytest.mark.parametrize(
    "text",
    [b"cut \\ud83d", b"\\uDE00 \\\\ud83d", b"\\\\\\ud83d", b"\\ud83d\\ude00", b"\\ud83", b'\\ud83"', b"\\ud83d\\x"],
)
@given(CUTS)
def test_half_a_surrogate_pair(text: bytes, cuts: list[int]) -> None:
    line = b'{"text":"' + text + b'"}'
    assert check(line, cuts) == is_object(line) == parses(line)


@example(999)
@given(st.integers(1, 999))
def test_deep_nesting(depth: int) -> None:
    assert check(b'{"a":' * depth + b"1" + b"}" * depth, [])


def test_bottomless_nesting_is_refused() -> None:
    assert not check(b'{"a":' * 5000 + b"1" + b"}" * 5000, [])
    assert not is_object(b'{"a":' * 500_000 + b"1" + b"}" * 500_000)
