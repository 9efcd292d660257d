"""Our hooks in Claude Code's `settings.json`, put in and taken out as text: whatever else stands there stays as it is
written, down to numbers, duplicate keys, line ends and indentation.

    {"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "…/transcriptd capture", "timeout": 5}]}], …}}

Only two events are asked for. A Stop hook would run after every answer, when the file often lacks that answer still or
is not there at all; change notices tell of it in time.
"""

import json
import shlex
from typing import NamedTuple

from agent.core.transcripts.json_text import (
    Style,
    Value,
    add_item,
    add_member,
    find_member,
    find_single,
    parse_document,
    remove_part,
    replace,
)
from agent.errors import SettingsError

EVENTS = ("SessionStart", "SessionEnd")

TIMEOUT_S = 5
"""How long Claude Code lets a hook run. Hooks at SessionEnd have 1.5 s unless one asks for more, and Python on a cold
disk may need it."""

_PROGRAMS = frozenset({"transcriptd", "transcriptd.exe"})


class Found(NamedTuple):
    """A hook of ours."""

    event: str
    command: str


class Edited(NamedTuple):
    """`done`: what was changed, for people; nothing when it is as it should be."""

    text: str
    done: tuple[str, ...]


class _Own(NamedTuple):
    """Where a hook of ours stands: the list of groups, the group in it, the hook in that."""

    found: Found
    groups: Value
    group: Value
    hooks: Value
    hook: Value
    command: Value


def render_command(program: str, spool: str = "", *, windows: bool = False) -> str:
    """The command of a hook. Claude Code hands it to `sh -c`; on Windows to Git Bash, or PowerShell where that is not.
    Names are quoted for Git Bash there (slashes, double quotes), and left alone where they need no quotes, which
    PowerShell takes too. Not run on Windows yet."""
    words = [program, "capture", *(["--spool", spool] if spool else [])]
    try:
        "".join(words).encode()
    except UnicodeEncodeError as exc:
        raise SettingsError(f"{program!a} can't stand in a settings file: its name is not UTF-8") from exc
    return " ".join(map(_quoted_for_git_bash, words)) if windows else shlex.join(words)


def _quoted_for_git_bash(word: str) -> str:
    word = word.replace("\\", "/")
    if all(ch.isalnum() or ch in ":/._-" for ch in word):
        return word
    return '"' + "".join("\\" + ch if ch in '$`"' else ch for ch in word) + '"'


def is_own(command: str) -> bool:
    """Whether a hook's command runs `transcriptd capture`, wherever that is installed."""
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    return words[1:2] == ["capture"] and words[0].replace("\\", "/").rpartition("/")[2].lower() in _PROGRAMS


def program_of(command: str) -> str:
    """The program that a command of ours runs."""
    return shlex.split(command)[0]


def find_hooks(text: str, source: str = "settings.json") -> list[Found]:
    """Ours, in the order in which they stand. Raises SettingsError for what is no settings file, as all below do."""
    return [one.found for one in _find_own(text, source)]


def are_disabled(text: str, source: str = "settings.json") -> bool:
    """Whether these settings turn all hooks off."""
    disabled = find_member(text, parse_document(text, source), "disableAllHooks")
    return disabled is not None and text[disabled.at : disabled.end] == "true"


def install_hooks(text: str, command: str, source: str = "settings.json") -> Edited:
    """`text` with our hooks; an older one of ours is changed in its place. Empty `text`: there was no file."""
    if not text:
        return Edited(install_hooks("{}\n", command).text, tuple(f"{event}: added" for event in EVENTS))
    done = []
    for event in EVENTS:
        own = [one for one in _find_own(text, source) if one.found.event == event]
        if not own:
            text = _add(text, event, command, source)
            done.append(f"{event}: added")
            continue
        for surplus in reversed(own[1:]):
            text = _remove(text, surplus)
            done.append(f"{event}: removed a second one, {surplus.found.command}")
        if own[0].found.command != command:
            text = replace(text, own[0].command, json.dumps(command, ensure_ascii=False))
            done.append(f"{event}: changed, it was {own[0].found.command}")
    return Edited(text, tuple(done))


def uninstall_hooks(text: str, before: str | None, source: str = "settings.json") -> Edited:
    """`text` without our hooks. `before`: what stood there before they were installed, empty for no file, None when
    that is not known. It tells which empty lists we made: those go too. When nothing else has changed since, `before`
    is the answer, byte for byte; empty then means that the file goes."""
    own = _find_own(text, source)
    if not own:
        return Edited(text, ())
    done = tuple(f"{one.found.event}: removed" for one in own)
    before = _readable(before)
    if before is not None and install_hooks(before, own[0].found.command).text == text:
        return Edited(before, done)
    events = list(dict.fromkeys(one.found.event for one in own))
    while own:
        text = _remove(text, own[-1])
        own = _find_own(text, source)
    if before is not None:
        text = _remove_empty(text, events, before or "{}", source)
    return Edited(text, done)


def _readable(before: str | None) -> str | None:
    try:
        if before:
            _find_own(before, "")
    except SettingsError:
        return None
    return before


def _find_own(text: str, source: str) -> list[_Own]:
    hooks = _hooks(text, source)
    if hooks is None:
        return []
    for event in EVENTS:
        groups = find_single(text, hooks, event, source)
        if groups is not None and groups.kind != "[":
            raise _unexpected(source, f"hooks.{event}", "a list")
    found = []
    for groups in hooks.members(text):
        for group in groups.items(text) if groups.kind == "[" else []:
            found += _own_of_group(text, groups, group)
    return found


def _own_of_group(text: str, groups: Value, group: Value) -> list[_Own]:
    hooks = find_member(text, group, "hooks")
    found = []
    for hook in hooks.items(text) if hooks is not None and hooks.kind == "[" else []:
        command = find_member(text, hook, "command")
        said = command.read(text) if command is not None else None
        if hooks is not None and command is not None and isinstance(said, str) and is_own(said):
            found.append(_Own(Found(groups.key, said), groups, group, hooks, hook, command))
    return found


def _hooks(text: str, source: str) -> Value | None:
    hooks = find_single(text, parse_document(text, source), "hooks", source)
    if hooks is not None and hooks.kind != "{":
        raise _unexpected(source, "hooks", "an object")
    return hooks


def _add(text: str, event: str, command: str, source: str) -> str:
    group = {"hooks": [{"type": "command", "command": command, "timeout": TIMEOUT_S}]}
    root = parse_document(text, source)
    style = Style.of(text, root)
    hooks = _hooks(text, source)
    if hooks is None:
        return add_member(text, root, "hooks", {event: [group]}, style)
    groups = find_member(text, hooks, event)
    if groups is None:
        return add_member(text, hooks, event, [group], style)
    return add_item(text, groups, group, style)


def _remove(text: str, own: _Own) -> str:
    """Takes the hook out, and its group if it held nothing else: so they were put in."""
    if len(own.hooks.items(text)) == 1 and len(own.group.members(text)) == 1:
        return remove_part(text, own.groups, own.group)
    return remove_part(text, own.hooks, own.hook)


def _remove_empty(text: str, events: list[str], before: str, source: str) -> str:
    """Takes out the empty lists of `events`, and the empty object around them, that were not there before."""
    had = _hooks(before, source)
    for event in events:
        hooks = _hooks(text, source)
        groups = find_member(text, hooks, event) if hooks else None
        known = had is not None and find_member(before, had, event) is not None
        if hooks and groups and not known and not groups.items(text):
            text = remove_part(text, hooks, groups)
    hooks = _hooks(text, source)
    if hooks and had is None and not hooks.members(text):
        text = remove_part(text, parse_document(text, source), hooks)
    return text


def _unexpected(source: str, name: str, expected: str) -> SettingsError:
    return SettingsError(f"{name} in {source} is not {expected}", hint="nothing was changed; correct it first")
