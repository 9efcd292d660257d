"""What scripts read of `status --json` is what the page says, field for field."""

import json
import re
import types
from collections.abc import Sequence
from typing import Any, Union, get_args, get_origin

import msgspec
import pytest

from agent.core.status import SCHEMA, Counts, DestinationLine, Status
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "status-json.md").read_text(encoding="utf-8")
EXAMPLE = json.loads((REPOSITORY / "docs" / "status-example.json").read_text(encoding="utf-8"))
STRUCTS: tuple[type[msgspec.Struct], ...] = (Status, DestinationLine, Counts)

WORDS = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}


def type_words(kind: Any) -> str:
    if kind in WORDS:
        return WORDS[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(map(type_words, inner))
    if origin is tuple:
        return f"[{', '.join(map(type_words, inner))}]"
    if origin is dict:
        return f"object: {type_words(inner[0])} → {type_words(inner[1])}"
    if origin is not None and issubclass(origin, Sequence):
        return f"list of {type_words(inner[0])}"
    return str(kind.__name__)


def rows(name: str) -> list[tuple[str, str, str]]:
    table = PAGE.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end of {name} -->")[0]
    found = re.findall(r"^\| `(.*?)` \| (.*?) \| (.*?) \|$", table, re.MULTILINE)
    return [(field, kind, meaning) for field, kind, meaning in found]


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_field_is_described_in_its_order_with_its_type(struct: type[msgspec.Struct]) -> None:
    described = rows(struct.__name__)
    fields = [(one.encode_name, type_words(one.type)) for one in msgspec.structs.fields(struct)]
    assert [(field, kind) for field, kind, _ in described] == fields
    assert all(meaning for _, _, meaning in described)


def test_the_example_is_a_status_and_has_every_field() -> None:
    found = msgspec.convert(EXAMPLE, Status, strict=True)
    assert msgspec.json.decode(msgspec.json.encode(found)) == EXAMPLE
    assert found.schema == SCHEMA == 1


def test_what_an_older_version_wrote_can_be_read_and_what_a_newer_adds_does_no_harm() -> None:
    """A command and the agent that it asks may be of different versions for a while."""
    older = {name: value for name, value in EXAMPLE.items() if name not in {"paused", "paused_until_s", "restarts"}}
    assert msgspec.convert(older, Status).restarts == 0
    assert msgspec.convert({**EXAMPLE, "of_tomorrow": 1}, Status).schema == 1
