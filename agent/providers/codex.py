"""Codex CLI. Layouts seen in 0.169 to 0.171, below `$CODEX_HOME` or `~/.codex`:

    sessions/YYYY/MM/DD/rollout-<time>-<thread>.jsonl            one thread; its id is its session's
    sessions/YYYY/MM/DD/rollout-<time>-<thread>_<rollout>.jsonl  where a thread goes on of which something was taken
                                                                 back (github.com/openai/codex,
                                                                 codex-rs/rollout/src/rollout_file_name.rs)
    archived_sessions/rollout-*.jsonl                            the same files, moved there
    …/rollout-*.jsonl.zst                                        the same lines, packed after a week (…/compression.rs)

A line is `{timestamp, ordinal, type, payload}` and is only ever appended. A fork names its parent, and how far that had
come, instead of copying it. The whole-document `rollout-*.json` of the first versions is left alone.
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.core.transcripts.session import CONTINUED, Facts, StreamId
from agent.core.transcripts.sources import copy_at, copy_place
from agent.providers.lines import (
    UUID,
    FolderWords,
    deletes_nothing,
    first_objects,
    needs_nothing_beside,
    no_folder_beside,
    no_folders_registered,
    no_registry,
    no_settings_file,
    nothing_beside,
    one_home,
    part,
    shorten_prompt,
    text_of,
)

if TYPE_CHECKING:
    from agent.core.sessions.normalised import LineReader

name = "codex"
lines_name_project = True
title = "Codex CLI"
variable = "CODEX_HOME"
telling: tuple[bytes, ...] = ()
companions: Mapping[str, str] = {}
documents: tuple[str, ...] = ("*rollout-*.json",)

_FILE = re.compile(rf"rollout-\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\d-({UUID})(?:_({UUID}))?\.jsonl(?:\.zst)?")
_COPY_NAMES = 3
"""Below the root: the thread, and where its copies are."""

_IDS_IN_NAME = re.compile(rf"{UUID}(?:_{UUID})?")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)")

_FOLDERS = FolderWords(("cwd", "workdir"), ("runtime_workspace_roots", "workspace_roots", "writable_roots"))

_IDS = re.compile(
    rb'"(?:id|thread_id|rollout_id|forked_from_id|parent_thread_id)"\s*+:\s*+"((?:[a-z]{1,16}_)?(?:'
    + UUID.encode()
    + rb'|[0-9a-f]{24,64}))"'
)
"""Of items and threads. A fork holds no entry of its parent, but the parent's id: where the parent is named private,
the fork is its copy."""


def roots(environment: Mapping[str, str], home: str) -> list[str]:
    base = environment.get(variable) or posixpath.join(home, ".codex")
    return [posixpath.join(base, "sessions"), posixpath.join(base, "archived_sessions")]


def named_homes(environment: Mapping[str, str]) -> list[str]:
    return one_home(environment, variable)


def reader(stream: StreamId) -> "LineReader":
    # Who only delivers transcripts needs no reader, and has little memory.
    from agent.providers.reading.codex import reader as make_reader

    return make_reader(stream)


settings_file = no_settings_file
parse_retention_days = deletes_nothing


def classify(parts: tuple[str, ...], first_lines: Callable[[], list[bytes]]) -> StreamId | None:
    if len(parts) == _COPY_NAMES and (copy := copy_at(parts)) and re.fullmatch(UUID, parts[0]):
        return StreamId(parts[0], copy)
    found = _FILE.fullmatch(parts[-1]) if parts else None
    if found is None:
        return None
    return StreamId(found[1], CONTINUED + found[2] if found[2] and found[2] != found[1] else "")


def place(
    stream: StreamId, project: str, first_lines: Sequence[bytes], folders: Mapping[str, str]
) -> tuple[str, ...] | None:
    if (copy := copy_place(stream.subpath)) and re.fullmatch(UUID, stream.session_id):
        return (stream.session_id, *copy)
    thread, rollout = stream.session_id, stream.subpath.removeprefix(CONTINUED)
    ids = f"{thread}_{rollout}" if stream.subpath else thread
    if not _IDS_IN_NAME.fullmatch(ids) or stream.subpath not in ("", CONTINUED + rollout) or rollout == thread:
        return None
    for line in first_objects(b"".join(one + b"\n" for one in first_lines)):
        if found := _TIME.match(text_of(part(line, "payload", "timestamp") or part(line, "timestamp"))):
            year, month, day, *clock = found.groups()
            file = f"rollout-{year}-{month}-{day}T{'-'.join(clock)}-{ids}.jsonl"
            return year, month, day, file
    return None


beside = nothing_beside
read_beside = no_folder_beside
render_beside = needs_nothing_beside
registry = no_registry
read_registry = no_folders_registered


def folders_in(data: bytes) -> tuple[str, ...]:
    return _FOLDERS.find(data)


def entry_ids_in(data: bytes) -> list[bytes]:
    return _IDS.findall(data)


def read_facts(data: bytes, marked: Sequence[bytes], known: Facts) -> Facts:
    facts = known
    if known.project and known.prompt:
        return known
    for line in first_objects(data):
        payload = line.get("payload")
        project = part(payload, "cwd") if line.get("type") in ("session_meta", "turn_context") else ""
        facts = facts.merged(Facts(text_of(project), prompt="" if facts.prompt else _prompt(line.get("type"), payload)))
        if facts.project and facts.prompt:
            break
    return facts


def _prompt(kind: object, payload: Any) -> str:
    """What its user wrote first: an item of its own in newer versions, an event in older ones."""
    if kind != "event_msg":
        return ""
    if part(payload, "type") == "user_message":
        return shorten_prompt(text_of(part(payload, "message")))
    if part(payload, "type") != "item_completed" or part(payload, "item", "type") != "UserMessage":
        return ""
    content = part(payload, "item", "content")
    texts = [text_of(part(one, "text")) for one in content] if isinstance(content, list) else []
    return shorten_prompt(next((text for text in texts if text), ""))
