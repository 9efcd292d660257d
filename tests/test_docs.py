"""The documentation says what the code does."""

import re
from collections.abc import Mapping

import pytest

from agent.cli.doctor import CHECKS
from agent.cli.main import COMMANDS, SUMMARIES
from agent.core.delivery.audit import AuditKind
from agent.core.delivery.lifecycle import Condition, State
from agent.core.settings import DESTINATION_FIELDS, REQUIRED, SECTION_FIELDS, Field
from agent.errors import AgentError
from tests.conftest import REPOSITORY

OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")


def settings_table() -> str:
    rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    tables: Mapping[str, Mapping[str, Field]] = {"[destination]": DESTINATION_FIELDS, **SECTION_FIELDS}
    for section, fields in tables.items():
        for key, field in fields.items():
            rows.append(f"| `[{section}] {key}` | {_default(field)} | {_allowed(field)} | {field.meaning} |")
    return "\n".join(rows)


def _default(field: Field) -> str:
    if field.default is REQUIRED:
        return "required"
    shown = {True: "true", False: "false"}.get(field.default) if isinstance(field.default, bool) else None
    if field.kind is list and field.default:
        return ", ".join(f"`{word}`" for word in field.default)
    number = f"{field.default:g}" if isinstance(field.default, float) else field.default
    return f"`{shown or number}`"


def _allowed(field: Field) -> str:
    if field.allowed is None:
        return {str: "text", bool: "true, false", list: "list of text"}[field.kind]
    if field.kind in (str, list):
        return ", ".join(f"`{word}`" for word in field.allowed)
    low, high = field.allowed
    return f"{low} to {high}"


def test_every_setting_is_described_as_it_is() -> None:
    described = OPERATIONS.partition("<!-- settings -->\n")[2].partition("\n<!-- end of settings -->")[0]
    assert described.strip() == settings_table(), "put this into docs/operations.md:\n" + settings_table()


def test_every_state_and_condition_is_described() -> None:
    for word in [*State, *Condition]:
        assert f"`{word}`" in OPERATIONS


def test_every_kind_of_the_audit_log_is_described() -> None:
    table = OPERATIONS.partition("## The audit log")[2].partition("\n## ")[0]
    assert {
        word for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for word in re.findall("`(.*?)`", row)
    } == {*AuditKind}


def test_every_exit_status_is_described() -> None:
    def below(kind: type[AgentError]) -> set[int]:
        return {kind.exit_status}.union(*(below(one) for one in kind.__subclasses__()))

    table = OPERATIONS.partition("## Exit statuses")[2].partition("\n## ")[0]
    assert below(AgentError) <= {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_in_the_readme_and_the_help(name: str) -> None:
    assert f"`transcriptd {name}" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert name in SUMMARIES


def test_every_check_of_doctor_is_described() -> None:
    table = OPERATIONS.partition("### `doctor`")[2].partition("\n### ")[0]
    described = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    assert described == [*(one.name for one in CHECKS), "token NAME", "server NAME", "clock NAME"]
