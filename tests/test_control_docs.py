"""docs/control-socket.md and the notices of docs/operations.md say what the code does."""

import re
from unittest import mock

import pytest

from agent.core.control_params import KINDS, PARAMS
from agent.core.notices import RULES
from agent.core.sessions.events import EventKind, Happening
from agent.daemon.control.control import control_methods
from agent.daemon.control.host import RELOAD
from agent.system.control_socket import MAX_LINE_BYTES, rpc
from agent.system.control_socket.server import CAPS
from tests.conftest import REPOSITORY

SOCKET = (REPOSITORY / "docs" / "control-socket.md").read_text(encoding="utf-8")
OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")


def rows(text: str, name: str) -> dict[str, str]:
    """First word of each row of the table `name` → the row."""
    table = text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end of {name} -->")[0]
    return {found.group(1): found.group() for found in re.finditer(r"^\| `(.*?)` \|.*$", table, re.MULTILINE)}


def test_every_method_is_described_and_no_other() -> None:
    methods = {*control_methods(mock.MagicMock()), RELOAD}
    assert set(rows(SOCKET, "methods")) == methods
    assert set(PARAMS) == methods


def params_of(cell: str) -> dict[str, bool]:
    """The names of a table's cell → whether the method needs it."""
    return {name: not mark for name, mark in re.findall(r"`(\w+)(\??)`", cell)}


def test_every_param_is_described_and_no_other() -> None:
    """Each method's forms are the rows of it, in their order."""
    table = SOCKET.partition("<!-- methods -->\n")[2].partition("<!-- end of methods -->")[0]
    described: dict[str, list[dict[str, bool]]] = {}
    method = ""
    for line in table.splitlines()[2:]:
        first, params = (cell.strip() for cell in line.split("|")[1:3])
        method = first.strip("`") or method
        described.setdefault(method, []).append(params_of(params))
    known = {
        name: [{one: param.needed for one, param in form.items()} for form in forms] for name, forms in PARAMS.items()
    }
    assert described == known


def test_every_type_of_a_param_is_described() -> None:
    table = SOCKET.partition("<!-- types -->\n")[2].partition("<!-- end of types -->")[0]
    described = {
        cells[1].strip(): set(re.findall(r"`(\w+)`", cells[2]))
        for cells in (line.split("|") for line in table.splitlines()[2:])
    }
    known: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for forms in PARAMS.values():
        for form in forms:
            for name, param in form.items():
                known[param.kind].add(name)
    assert described == known


def test_every_kind_of_event_and_every_field_is_described() -> None:
    assert set(rows(SOCKET, "kinds")) == {*EventKind}
    for name in Happening.__struct_fields__:
        assert f"`{name}`" in SOCKET


def test_every_notice_is_described() -> None:
    found = rows(OPERATIONS, "notices")
    assert set(found) == set(RULES)
    for name, rule in RULES.items():
        after = "1 day" if rule.after_s == 86_400 else f"{rule.after_s / 60:.0f} min"
        assert f"| {after}" in found[name]
        assert found[name].endswith(f"| {rule.title} |")


@pytest.mark.parametrize("code", [rpc.PARSE, rpc.INVALID, rpc.NO_METHOD, rpc.PARAMS, rpc.DEFECT, rpc.OURS])
def test_every_error_is_described(code: int) -> None:
    assert f"| {code} |" in SOCKET


def test_the_caps_are_described() -> None:
    assert MAX_LINE_BYTES == 1 << 20
    for words in (
        f"{CAPS.clients} clients, {CAPS.followers} of them",
        f"has {CAPS.idle_s:.0f} s for each whole request",
        f"for {CAPS.stall_s:.0f} s is let go",
        f"After {CAPS.beat_s:.0f} s without one",
        f"{CAPS.waiting_bytes >> 20} MiB",
        f"at most {rpc.MAX_ID_CHARS} characters",
    ):
        assert words in SOCKET, words
