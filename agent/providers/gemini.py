"""Gemini CLI. Layouts seen in 0.61, below `$GEMINI_CLI_HOME/.gemini/tmp` or `~/.gemini/tmp`:

    <project>/.project_root                           the folder that the project is in; `../projects.json` says which
                                                      of several counts
    <project>/chats/session-<time>-<8 of id>.jsonl    a session; its header line has the id
    <project>/chats/<session>/<subagent>.jsonl        subagents (github.com/google-gemini/gemini-cli,
                                                      packages/core/src/services/chatRecordingService.ts)
    <project>/tool-outputs/session-<session>/*        side files: outputs too large for a line

The file is a log of changes: a header, messages (an id that recurs replaces the one before), and `$set` lines. It is
appended to; what a crash tore is glued to the next line. The lines do not say where a session works, `.project_root`
does. Sessions of older versions are one document each (`session-*.json`), written anew with every change; they are left
alone until Gemini CLI makes them such logs, which it does when they are continued.
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import msgspec

from agent.core.transcripts.session import FILES, Facts, StreamId
from agent.core.transcripts.sources import copy_at, copy_place
from agent.providers.lines import (
    UUID,
    FolderWords,
    first_objects,
    one_home,
    part,
    read_object,
    shorten_prompt,
    text_of,
    usable_id,
)

if TYPE_CHECKING:
    from agent.core.sessions.normalised import LineReader

name = "gemini"
lines_name_project = False
title = "Gemini CLI"
variable = "GEMINI_CLI_HOME"
telling: tuple[bytes, ...] = (b'{"$set":{"summary"',)
companions: Mapping[str, str] = {"*/tool-outputs/*": "what a tool said, of a session that nobody names"}
documents: tuple[str, ...] = ("*/chats/session-*.json",)

RETENTION_DAYS = 30.0
"""Unless its settings say otherwise. Earlier versions keep everything; to take them for newer ones does no harm."""

_ENDING = ".jsonl"
_SUBAGENTS = "subagents"
_OUTPUTS = "tool-outputs"
_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0, "m": 30.0}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d):(\d\d)")

_NOT_IN_SLUG = re.compile(r"[^a-z0-9]+")

_FOLDERS = FolderWords(("cwd",), ("directories",))

_IDS = re.compile(rb'"id"\s*+:\s*+"(' + UUID.encode() + rb')"')
"""Of messages. What a session begins with has an id that many sessions share; it is shaped otherwise."""


def roots(environment: Mapping[str, str], home: str) -> list[str]:
    return [posixpath.join(_base(environment, home), "tmp")]


def named_homes(environment: Mapping[str, str]) -> list[str]:
    return one_home(environment, variable)


def reader(stream: StreamId) -> "LineReader":
    # Who only delivers transcripts needs no reader, and has little memory.
    from agent.providers.reading.gemini import reader as make_reader

    return make_reader(stream)


def _base(environment: Mapping[str, str], home: str) -> str:
    return posixpath.join(environment.get(variable) or home, ".gemini")


def settings_file(environment: Mapping[str, str], home: str) -> str:
    return posixpath.join(_base(environment, home), "settings.json")


def parse_retention_days(settings: str | None) -> float | None:
    """`general.sessionRetention`: `maxAge` as `30d`. A largest number of sessions (`maxCount`) says no time."""
    try:
        rules = part(msgspec.json.decode(settings or "{}"), "general", "sessionRetention")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return RETENTION_DAYS
    if part(rules, "enabled") is False:
        return None
    found = re.fullmatch(r"(\d{1,6})([hdwm])", text_of(part(rules, "maxAge")))
    if found is None or int(found[1]) == 0:
        return None if part(rules, "maxCount") is not None else RETENTION_DAYS
    return int(found[1]) * _DAYS[found[2]]


def classify(parts: tuple[str, ...], first_lines: Callable[[], list[bytes]]) -> StreamId | None:
    match parts:
        case (_, "chats", file) if file.startswith("session-") and file.endswith(_ENDING):
            session = next((found for line in first_lines() if (found := _named(line))), None)
            return StreamId(session, "") if session else None
        case (_, "chats", session, _, _) if (copy := copy_at(parts)) and usable_id(session):
            return StreamId(session, copy)
        case (_, "chats", session, file) if file.endswith(_ENDING):
            agent = usable_id(file.removesuffix(_ENDING))
            return StreamId(session, f"{_SUBAGENTS}/{agent}") if usable_id(session) and agent else None
        case (_, "tool-outputs", folder, *rest) if folder.startswith("session-") and rest:
            owner = usable_id(folder.removeprefix("session-"))
            return StreamId(owner, FILES + "/".join((_OUTPUTS, *rest))) if owner else None
    return None


def _named(line: bytes) -> str | None:
    """The session that a header names."""
    found = read_object(line)
    return usable_id(found.get("sessionId")) if "projectHash" in found else None


def place(
    stream: StreamId, project: str, first_lines: Sequence[bytes], folders: Mapping[str, str]
) -> tuple[str, ...] | None:
    session, subpath = stream
    if not usable_id(session) or not project:
        return None
    folder = _project_folder(project, folders)
    if not subpath:
        return _place_main(folder, session, first_lines)
    if copy := copy_place(subpath):
        return (folder, "chats", session, *copy)
    kind, _, rest = subpath.removeprefix(FILES).partition("/")
    names = rest.split("/")
    if any(one in ("", ".", "..") for one in names):
        return None
    if subpath.startswith(FILES):
        return (folder, _OUTPUTS, f"session-{session}", *names) if kind == _OUTPUTS else None
    return (folder, "chats", session, rest + _ENDING) if kind == _SUBAGENTS and usable_id(rest) else None


def _project_folder(project: str, folders: Mapping[str, str]) -> str:
    """The folder in which Gemini CLI looks for the sessions of a project: the one that is said to be its, one that an
    older version made, which a newer one takes over, or the name that it would make for it, if that is free
    (packages/core/src/config/projectRegistry.ts)."""
    there = next((name for name, of in folders.items() if of == project), "")
    old = sha256(project.encode(errors="surrogateescape")).hexdigest()
    if there or old in folders:
        return there or old
    slug = _NOT_IN_SLUG.sub("-", re.split(r"[/\\]", project.rstrip("/\\"))[-1].lower()).strip("-") or "project"
    return next(name for name in chain([slug], (f"{slug}-{number}" for number in count(1))) if name not in folders)


def _place_main(folder: str, session: str, first_lines: Sequence[bytes]) -> tuple[str, ...] | None:
    for line in first_lines:
        began = _TIME.match(text_of(read_object(line).get("startTime"))) if _named(line) == session else None
        if began:
            return folder, "chats", f"session-{began[1]}-{began[2]}-{session[:8]}{_ENDING}"
    return None


def beside(parts: tuple[str, ...]) -> tuple[str, ...] | None:
    return (parts[0], ".project_root") if len(parts) > 1 else None


def read_beside(data: bytes) -> str:
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        return ""
    return text if text.startswith("/") or re.match(r"[A-Za-z]:[\\/]|\\\\", text) else ""


def render_beside(project: str) -> bytes | None:
    return project.encode(errors="surrogateescape")


registry: tuple[str, ...] = ("projects.json",)


def read_registry(data: bytes) -> Mapping[str, str]:
    found = part(read_object(data), "projects")
    if not isinstance(found, dict):
        return {}
    return {project: name for project, name in found.items() if isinstance(name, str) and usable_id(name)}


def folders_in(data: bytes) -> tuple[str, ...]:
    return _FOLDERS.find(data)


def entry_ids_in(data: bytes) -> list[bytes]:
    return _IDS.findall(data)


def read_facts(data: bytes, marked: Sequence[bytes], known: Facts) -> Facts:
    facts = known
    if not facts.prompt:
        prompt = next((found for line in first_objects(data) if (found := _prompt(line))), "")
        facts = facts.merged(Facts(prompt=prompt))
    for line in marked:
        facts = facts.merged(Facts(title=text_of(part(read_object(line), "$set", "summary"))))
    return facts


def _prompt(line: dict[str, Any]) -> str:
    if line.get("type") != "user":
        return ""
    content = line.get("content")
    if isinstance(content, list):
        content = next((text for one in content if (text := text_of(part(one, "text")))), "")
    return shorten_prompt(text_of(content))
