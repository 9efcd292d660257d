"""Copilot CLI. Layouts seen in 1.0.102, below `$COPILOT_HOME/session-state` or `~/.copilot/session-state`:

    <session>/events.jsonl     the transcript: `{type, data, id, timestamp, parentId}`, written in few large batches
    <session>/workspace.yaml   a side file: where the session works
    <session>/plan.md          a side file
    <session>/checkpoints/*    side files: what was said before a compaction, in short
    <session>/files/*          side files: what the agent laid down for the session
    <session>.jsonl            the transcript, in versions before 1.0

After a torn tail it writes the file anew, and lays the old one beside it. That, locks (`inuse.*`), its database, and
`rewind-file-snapshots/`, which hold the working tree's own files, are left alone; so are the whole documents of
`history-session-state/`.
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from agent.core.transcripts.session import FILES, Facts, StreamId
from agent.core.transcripts.sources import copy_at, copy_place
from agent.providers.lines import (
    UUID,
    FolderWords,
    deletes_nothing,
    first_objects,
    needs_nothing_beside,
    no_folders_registered,
    no_registry,
    no_settings_file,
    one_home,
    part,
    shorten_prompt,
    text_of,
    usable_id,
)

if TYPE_CHECKING:
    from agent.core.sessions.normalised import LineReader

name = "copilot"
lines_name_project = True
title = "Copilot CLI"
variable = "COPILOT_HOME"
telling: tuple[bytes, ...] = ()
companions: Mapping[str, str] = {"*/rewind-file-snapshots/*": "a file of the working tree, as it was"}
documents: tuple[str, ...] = ()

_EVENTS = "events.jsonl"
_SIDE_FILES = ("workspace.yaml", "plan.md")
_SIDE_FOLDERS = ("checkpoints", "files")

_FOLDERS = FolderWords(("cwd", "gitRoot"))
_IDS = re.compile(rb'"id"\s*+:\s*+"(' + UUID.encode() + rb')"')
_CWD = re.compile(rb"^cwd:[ \t]+(.+?)[ \t]*\r?$", re.MULTILINE)


def roots(environment: Mapping[str, str], home: str) -> list[str]:
    return [posixpath.join(environment.get(variable) or posixpath.join(home, ".copilot"), "session-state")]


def named_homes(environment: Mapping[str, str]) -> list[str]:
    return one_home(environment, variable)


def reader(stream: StreamId) -> "LineReader":
    # Who only delivers transcripts needs no reader, and has little memory.
    from agent.providers.reading.copilot import reader as make_reader

    return make_reader(stream)


settings_file = no_settings_file
parse_retention_days = deletes_nothing


def classify(parts: tuple[str, ...], first_lines: Callable[[], list[bytes]]) -> StreamId | None:
    match parts:
        case (session, "events.jsonl"):
            return StreamId(session, "") if usable_id(session) else None
        case (file,):
            found = re.fullmatch(rf"({UUID})\.jsonl", file)
            return StreamId(found[1], "") if found else None
        case (session, _, _) if (copy := copy_at(parts)) and usable_id(session):
            return StreamId(session, copy)
        case (session, *below) if usable_id(session) and _is_side_file(below):
            return StreamId(session, FILES + "/".join(below))
    return None


def _is_side_file(below: list[str]) -> bool:
    return below[-1] in _SIDE_FILES if len(below) == 1 else below[0] in _SIDE_FOLDERS


def place(
    stream: StreamId, project: str, first_lines: Sequence[bytes], folders: Mapping[str, str]
) -> tuple[str, ...] | None:
    session, subpath = stream
    if not usable_id(session):
        return None
    if not subpath:
        return session, _EVENTS
    if copy := copy_place(subpath):
        return (session, *copy)
    below = subpath.removeprefix(FILES).split("/")
    if not subpath.startswith(FILES) or any(one in ("", ".", "..") for one in below) or not _is_side_file(below):
        return None
    return session, *below


def beside(parts: tuple[str, ...]) -> tuple[str, ...] | None:
    return (parts[0], "workspace.yaml") if len(parts) > 1 else None


def read_beside(data: bytes) -> str:
    """`cwd`, as YAML writes a path: plain, or in either kind of quotes. What else it could be is no folder."""
    found = _CWD.search(data)
    try:
        text = _unquote(found[1].decode()) if found else ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return text if text.startswith("/") or re.match(r"[A-Za-z]:[\\/]|\\\\", text) else ""


render_beside = needs_nothing_beside
registry = no_registry
read_registry = no_folders_registered


def _unquote(text: str) -> str:
    if text.startswith('"'):
        return msgspec.json.decode(text, type=str)
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text.partition(" #")[0].rstrip()


def folders_in(data: bytes) -> tuple[str, ...]:
    return _FOLDERS.find(data)


def entry_ids_in(data: bytes) -> list[bytes]:
    return _IDS.findall(data)


def read_facts(data: bytes, marked: Sequence[bytes], known: Facts) -> Facts:
    facts = known
    if known.project and known.prompt:
        return known
    for line in first_objects(data):
        facts = facts.merged(Facts(_project(line), prompt="" if facts.prompt else _prompt(line)))
        if facts.project and facts.prompt:
            break
    return facts


def _project(line: dict[str, Any]) -> str:
    is_start = line.get("type") in ("session.start", "session.resume")
    return text_of(part(line, "data", "context", "cwd")) if is_start else ""


def _prompt(line: dict[str, Any]) -> str:
    return shorten_prompt(text_of(part(line, "data", "content"))) if line.get("type") == "user.message" else ""
