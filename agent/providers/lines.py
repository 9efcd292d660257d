"""What the lines of several coding agents are read with: JSON whose shape nobody vouches for, in bounded work."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

PROMPT_CHARACTERS = 120
FIRST_LINES = 64
LONGEST_LINE_BYTES = 1 << 16
"""Facts are looked for in the first lines, and not in long ones."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
"""Gives nothing back, like all that follows: no text makes the search try again and again."""


def usable_id(value: object) -> str | None:
    """What may name a session, a file and a part of an address: nothing that leads elsewhere."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def first_objects(data: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects among the first lines."""
    at = 0
    for _ in range(FIRST_LINES):
        end = data.find(b"\n", at)
        if end < 0:
            return
        if end - at < LONGEST_LINE_BYTES and (found := read_object(data[at:end])):
            yield found
        at = end + 1


def read_object(line: bytes) -> dict[str, Any]:
    """A line as a JSON object; an empty one for anything else."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def part(value: object, *keys: str) -> Any:
    """What stands at the end of a way through objects, or None."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def shorten_prompt(text: str) -> str:
    """The beginning of what somebody typed, on one line; empty for what a program put there, which begins with `<`."""
    if text.startswith("<"):
        return ""
    return " ".join(text[: 4 * PROMPT_CHARACTERS].split())[:PROMPT_CHARACTERS].rstrip()


class FolderWords:
    """Folders that stand as text under certain keys, in `"key": "…"` or `"key": ["…"]`. Looks for the words, not for
    JSON: torn lines tell their folders, too."""

    def __init__(self, keys: tuple[str, ...], lists: tuple[str, ...] = ()) -> None:
        one = rb'"(?:' + "|".join(keys).encode() + rb')"\s*+:\s*+(' + _STRING + rb")"
        more = rb'"(?:' + "|".join(lists).encode() + rb')"\s*+:\s*+\[((?:\s*+' + _STRING + rb"\s*+,?+)*+)"
        self._words = re.compile(one + (rb"|" + more if lists else rb""))
        self._string = re.compile(_STRING)

    def find(self, data: bytes) -> tuple[str, ...]:
        """In their order, each once."""
        literals: dict[bytes, None] = {}
        for match in self._words.finditer(data):
            if match[1] is not None:
                literals[match[1]] = None
            elif match.lastindex == 2:
                literals.update(dict.fromkeys(self._string.findall(match[2])))
        return tuple(dict.fromkeys(folder for one in literals if (folder := _folder(one))))


def _folder(literal: bytes) -> str:
    """A JSON string as a folder; one that is none, as it stands. `file:` addresses are the folder they name."""
    text = literal[1:-1].decode(errors="surrogateescape")
    if "\\" in text:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            text = msgspec.json.decode(literal, type=str)
    return unquote(text.removeprefix("file://")) if text.startswith("file:///") else text


def one_home(environment: Mapping[str, str], variable: str) -> list[str]:
    """The one folder that a variable names, if any."""
    folder = environment.get(variable, "")
    return [folder] if folder else []


# --- what a coding agent may do without, as members of its module -----------------------------------------------------


def no_settings_file(_environment: Mapping[str, str], _home: str) -> None:
    """Nothing in its settings matters here."""


def deletes_nothing(_settings: str | None) -> None:
    """It deletes no session by itself."""


def nothing_beside(_parts: tuple[str, ...]) -> None:
    """Its lines say where a session works."""


def no_folder_beside(_data: bytes) -> str:
    return ""


def needs_nothing_beside(_project: str) -> None:
    """It finds its sessions without."""


no_registry: tuple[str, ...] = ()


def no_folders_registered(_data: bytes) -> Mapping[str, str]:
    return {}
