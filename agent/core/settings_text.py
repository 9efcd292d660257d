"""`config.toml` changed as text: what somebody wrote there stays as it is, comments and order too."""

from collections.abc import Mapping
from typing import Any

import tomlkit
import tomlkit.exceptions
import tomlkit.items

from agent.core.settings import DESTINATION_FIELDS
from agent.errors import SettingsError

Values = Mapping[str, Any]
"""Key → value; None takes the key away, so that its default is in force."""


def set_destination(text: str, name: str, values: Values) -> str:
    """`text` with `values` in the [[destination]] of that name, at the end of them when there is none yet. Raises
    SettingsError when it is no TOML."""
    document = _parse(text)
    rows = document.get("destination")
    if rows is None:
        _add_gap(document, text)
        rows = document["destination"] = tomlkit.aot()
        rows = document["destination"]  # what was put there is a copy
    for row in rows:
        if row.get("name", DESTINATION_FIELDS["name"].default) == name:
            _set(row, values)
            break
    else:
        row = tomlkit.table() if isinstance(rows, tomlkit.items.AoT) else tomlkit.inline_table()
        if name != DESTINATION_FIELDS["name"].default:
            row["name"] = name
        _set(row, values)
        rows.append(row)
    return tomlkit.dumps(document)


def set_section(text: str, section: str, values: Values) -> str:
    """`text` with `values` in [section]. Raises SettingsError when it is no TOML."""
    document = _parse(text)
    if section not in document:
        document[section] = tomlkit.table()
    _set(document[section], values)
    written = tomlkit.dumps(document)
    return written if text.strip() else written.lstrip("\n")


def _add_gap(document: tomlkit.TOMLDocument, text: str) -> None:
    """A blank line before what comes next."""
    if text.strip() and not text.endswith("\n\n"):
        document.add(tomlkit.nl())


def _parse(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except tomlkit.exceptions.TOMLKitError as exc:
        raise SettingsError("the settings are not TOML", hint="transcriptd config check") from exc


def _set(table: Any, values: Values) -> None:
    for key, value in values.items():
        if value is None:
            table.pop(key, None)
        elif key not in table or table[key] != value:
            table[key] = value
