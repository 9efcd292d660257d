"""Codex CLI. Layouts seen in 0.169, below `$CODEX_HOME` or `~/.codex`:

    sessions/YYYY/MM/DD/rollout-<time>-<uuid>.jsonl   one thread; the uuid is its session's id
    archived_sessions/rollout-<time>-<uuid>.jsonl     the same file, moved there
    archived_sessions/rollout-<time>-<uuid>.jsonl.zst the same lines, packed after a week (github.com/openai/codex,
                                                      codex-rs/rollout/src/compression.rs)

A line is `{timestamp, ordinal, type, payload}` and is only ever appended. A fork names its parent, and how far that had
come, instead of copying it. The whole-document `rollout-*.json` of the first versions is left alone.
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.core.session import Facts, StreamId
from agent.providers.lines import (
    UUID,
    FolderWords,
    deletes_nothing,
    first_objects,
    no_folder_beside,
    no_settings_file,
    nothing_beside,
    part,
    shorten_prompt,
    text_of,
)

if TYPE_CHECKING:
    from agent.core.normalised import LineReader

name = "codex"
lines_name_project = True
title = "Codex CLI"
telling: tuple[bytes, ...] = ()

_FILE = re.compile(rf"rollout-\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\d-({UUID})\.jsonl(?:\.zst)?")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)")

_FOLDERS = FolderWords(("cwd", "workdir"), ("runtime_workspace_roots", "workspace_roots", "writable_roots"))

_IDS = re.compile(
    rb'"(?:id|thread_id|forked_from_id|parent_thread_id)"\s*+:\s*+"((?:[a-z]{1,16}_)?(?:'
    + UUID.encode()
    + rb'|[0-9a-f]{24,64}))"'
)
"""Of items and threads. A fork holds no entry of its parent, but the parent's id: where the parent is named private,
the fork is its copy."""


def roots(environment: Mapping[str, str], home: str) -> list[str]:
    base = environment.get("CODEX_HOME") or posixpath.join(home, ".codex")
    return [posixpath.join(base, "sessions"), posixpath.join(base, "archived_sessions")]


def reader(stream: StreamId) -> "LineReader":
    # Who only delivers transcripts needs no reader, and has little memory.
    from agent.providers.reading.codex import reader as make_reader

    return make_reader(stream)


settings_file = no_settings_file
parse_retention_days = deletes_nothing


def classify(parts: tuple[str, ...], first_lines: Callable[[], list[bytes]]) -> StreamId | None:
    found = _FILE.fullmatch(parts[-1]) if parts else None
    return StreamId(found[1], "") if found else None


def place(
    stream: StreamId, project: str, first_lines: Sequence[bytes], folders: Mapping[str, str]
) -> tuple[str, ...] | None:
    if stream.subpath or not re.fullmatch(UUID, stream.session_id):
        return None
    for line in first_objects(b"".join(one + b"\n" for one in first_lines)):
        if found := _TIME.match(text_of(part(line, "payload", "timestamp") or part(line, "timestamp"))):
            year, month, day, *clock = found.groups()
            file = f"rollout-{year}-{month}-{day}T{'-'.join(clock)}-{stream.session_id}.jsonl"
            return year, month, day, file
    return None


beside = nothing_beside
read_beside = no_folder_beside


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
