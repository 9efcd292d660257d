"""Claude Code. Layouts seen in 1.0.100 to 2.1.332, below `projects` of `$CLAUDE_CONFIG_DIR` (or several folders, commas
between them), else of `~/.claude` and of `$XDG_CONFIG_HOME/claude`, which some versions took:

    <project>/<session>.jsonl                       main transcript
    <project>/<session>/subagents/agent-<id>.jsonl  subagents
    <project>/agent-<id>.jsonl                      subagents, flat (2.0); their lines name the session
    <project>/<session>/tool-results/*              side files: outputs too large for a line
    <project>/<session>/subagents/*.meta.json       side files: what a subagent was asked for
    <project>/<session>/custom-title.json           a side file

A project folder's name can't be decoded (`a-b`, `a_b` and `a.b` share one); the first `cwd` of the lines names it.
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from agent.core.transcripts.session import FILES, Facts, StreamId
from agent.providers.lines import (
    FolderWords,
    needs_nothing_beside,
    no_folder_beside,
    no_folders_registered,
    no_registry,
    nothing_beside,
)

if TYPE_CHECKING:
    from agent.core.sessions.normalised import LineReader

name = "claude"
lines_name_project = True
title = "Claude Code"

variable = "CLAUDE_CONFIG_DIR"
companions: Mapping[str, str] = {}
documents: tuple[str, ...] = ()

_ENDING = ".jsonl"
_FLAT_SUBAGENT = "agent-"
_PROMPT_CHARACTERS = 120

_TITLES = {"custom-title": "customTitle", "summary": "summary", "ai-title": "aiTitle"}
"""Line types that name a session, and where the name stands."""

telling = tuple(f'{{"type":"{kind}"'.encode() for kind in _TITLES)
"""Claude Code writes such lines with their type first."""

_LONGEST_FOLDER = 200
"""Characters of a project's folder; a longer name is cut there and ends in a hash."""

_FIRST_LINES = 64
_LONGEST_TELLING_BYTES = 1 << 16


RETENTION_DAYS = 30.0
"""`cleanupPeriodDays`, unless Claude Code's settings say otherwise; counted from a file's last change."""


_FOLDERS = FolderWords(("cwd",))
_ENTRY_ID = re.compile(rb'"uuid"\s*:\s*"([^"\\]{1,128})"')


class _Settings(msgspec.Struct):
    cleanupPeriodDays: Any = None  # noqa: N815 - the key of the format


class _Line(msgspec.Struct):
    type: Any = None
    cwd: Any = None
    sessionId: Any = None  # noqa: N815 - the key of the format
    isMeta: Any = None  # noqa: N815 - the key of the format
    isSidechain: Any = None  # noqa: N815 - the key of the format
    message: msgspec.Raw = msgspec.Raw()
    customTitle: Any = None  # noqa: N815 - the key of the format
    summary: Any = None
    aiTitle: Any = None  # noqa: N815 - the key of the format


class _Message(msgspec.Struct):
    content: Any = None


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_message = msgspec.json.Decoder(_Message).decode


def roots(environment: Mapping[str, str], home: str) -> list[str]:
    return [posixpath.join(base, "projects") for base in _bases(environment, home)]


def named_homes(environment: Mapping[str, str]) -> list[str]:
    return [one for part in environment.get(variable, "").split(",") if (one := part.strip())]


def reader(stream: StreamId) -> "LineReader":
    # Who only delivers transcripts needs no reader, and has little memory.
    from agent.providers.reading.claude import reader as make_reader

    return make_reader(stream)


def _bases(environment: Mapping[str, str], home: str) -> list[str]:
    settings = environment.get("XDG_CONFIG_HOME") or posixpath.join(home, ".config")
    return named_homes(environment) or [posixpath.join(home, ".claude"), posixpath.join(settings, "claude")]


def settings_file(environment: Mapping[str, str], home: str) -> str:
    return posixpath.join(_bases(environment, home)[0], "settings.json")


def parse_retention_days(settings: str | None) -> float | None:
    try:
        days = msgspec.json.decode(settings or "{}", type=_Settings).cleanupPeriodDays
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return RETENTION_DAYS
    return float(days) if isinstance(days, (int, float)) and not isinstance(days, bool) else RETENTION_DAYS


def classify(parts: tuple[str, ...], first_lines: Callable[[], list[bytes]]) -> StreamId | None:
    if _is_side_file(parts[2:]):
        return StreamId(parts[1], FILES + "/".join(parts[2:]))
    if len(parts) < 2 or not parts[-1].endswith(_ENDING):
        return None
    stem = parts[-1][: -len(_ENDING)]
    if not stem:
        return None
    if len(parts) > 2:
        return StreamId(parts[1], "/".join((*parts[2:-1], stem)))
    if not stem.startswith(_FLAT_SUBAGENT):
        return StreamId(stem, "") if _is_name(stem) else None
    lines = first_lines()
    named = next((line.sessionId for line in _read(lines) if _is_name(line.sessionId)), None)
    if named is None:
        return StreamId(stem, "") if lines else None
    return StreamId(named, stem)


def _is_side_file(below: tuple[str, ...]) -> bool:
    """Of what lies in a session's folder, only what is known to belong to it: anything else is somebody else's."""
    if below[:1] == ("tool-results",):
        return len(below) > 1
    if below[:1] == ("subagents",):
        return below[-1].endswith(".meta.json")
    return below == ("custom-title.json",)


def place(
    stream: StreamId,
    project: str,
    first_lines: Sequence[bytes],
    folders: Mapping[str, str],
) -> tuple[str, ...] | None:
    folder = _project_folder(project, folders)
    session_id, subpath = stream
    if folder is None or not _is_name(session_id):
        return None
    if subpath.startswith(FILES):
        return (folder, session_id, *subpath.removeprefix(FILES).split("/"))
    if not subpath:
        return (folder, session_id + _ENDING)
    if "/" in subpath:
        return (folder, session_id, *(subpath + _ENDING).split("/"))
    return (folder, subpath + _ENDING) if subpath.startswith(_FLAT_SUBAGENT) else None


def _project_folder(project: str, folders: Mapping[str, str]) -> str | None:
    """The folder that Claude Code takes for a project: one whose transcripts name it, else the name that it would make.
    Above 200 characters that ends in a hash which is its own affair."""
    name = "".join(one if one.isascii() and one.isalnum() else "-" * (1 + (ord(one) > 0xFFFF)) for one in project)
    there = sorted(folder for folder, named in folders.items() if named == project)
    if name in there or not there:
        return name if project and len(name) <= _LONGEST_FOLDER else next(iter(there), None)
    return there[0]


def _is_name(value: object) -> bool:
    """Whether a session may be called so: `.` and `..` in an address lead elsewhere."""
    return isinstance(value, str) and value not in ("", ".", "..")


beside = nothing_beside
read_beside = no_folder_beside
render_beside = needs_nothing_beside
registry = no_registry
read_registry = no_folders_registered


def folders_in(data: bytes) -> tuple[str, ...]:
    return _FOLDERS.find(data)


def entry_ids_in(data: bytes) -> list[bytes]:
    return _ENTRY_ID.findall(data)


def read_facts(data: bytes, marked: Sequence[bytes], known: Facts) -> Facts:
    facts = known if known.project and known.prompt else _read_beginning(data, known)
    for line in _read(marked):
        facts = facts.merged(Facts(title=_title(line)))
    return facts


def _read_beginning(data: bytes, facts: Facts) -> Facts:
    """Project and first prompt, which stand in the first lines if anywhere."""
    at = 0
    for _ in range(_FIRST_LINES):
        end = data.find(b"\n", at)
        if end < 0 or (facts.project and facts.prompt):
            break
        if end - at < _LONGEST_TELLING_BYTES:
            for line in _read([data[at:end]]):
                project = line.cwd if isinstance(line.cwd, str) else ""
                facts = facts.merged(Facts(project, prompt="" if facts.prompt else _prompt(line)))
        at = end + 1
    return facts


def _read(lines: Sequence[bytes]) -> list[_Line]:
    found = []
    for line in lines:
        try:
            found.append(_decode_line(line))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            continue
    return found


def _title(line: _Line) -> str:
    value = getattr(line, _TITLES.get(line.type, ""), "") if isinstance(line.type, str) else ""
    return value if isinstance(value, str) else ""


def _prompt(line: _Line) -> str:
    if line.type != "user" or line.isMeta or line.isSidechain or not line.message:
        return ""
    try:
        content = _decode_message(line.message).content
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = next((text for text in texts if isinstance(text, str)), "")
    if not isinstance(content, str) or content.startswith("<"):
        return ""
    return " ".join(content[: 4 * _PROMPT_CHARACTERS].split())[:_PROMPT_CHARACTERS].rstrip()
