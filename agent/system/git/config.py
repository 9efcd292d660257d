"""The files of git and ssh, as far as they say what a remote is called. Pure: text in, values out."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_SECTION = re.compile(r'\[\s*([A-Za-z0-9.-]+)\s*(?:"((?:[^"\\\n]|\\.)*)")?\s*\]')
_SSH_LINE = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*)")
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9-]*)[ \t]*")
_MOST_GIVEN = 10_000


class Unreadable(Exception):
    """What is there can't be told."""


class SshNames(NamedTuple):
    """`names`: patterns of hosts, and how such a host is really called. `includes`: patterns of further files."""

    names: tuple[tuple[tuple[str, ...], str], ...]
    includes: tuple[str, ...]


class Value(NamedTuple):
    """One setting of git: `[section "subsection"] key = value`, section and key in lower case."""

    section: str
    subsection: str
    key: str
    value: str


class Addresses(NamedTuple):
    """`instead`: beginning of an address → what stands for it. `includes`: files as they are written there, those that
    are read under a condition too."""

    urls: tuple[str, ...]
    instead: tuple[tuple[str, str], ...]
    includes: tuple[str, ...]


def find_addresses(values: Iterable[Value]) -> Addresses:
    urls: list[str] = []
    instead: list[tuple[str, str]] = []
    includes: list[str] = []
    for one in values:
        match (one.section, one.key):
            case ("remote", "url" | "pushurl"):
                urls.append(one.value)
            case ("branch", "remote" | "pushremote") | ("remote", "pushdefault"):
                # A remote's name, mostly; what stands for one may be its address.
                urls += [one.value] if one.value != "." and re.search(r"[:/\\]", one.value) else []
            case ("url", "insteadof" | "pushinsteadof"):
                instead.append((one.value, one.subsection))
            case ("include" | "includeif", "path"):
                includes.append(one.value)
    return Addresses(tuple(urls), tuple(instead), tuple(includes))


def parse_listing(data: bytes) -> list[Value]:
    """What `git config --list -z` prints: a key, a newline and its value, ended by NUL. Raises Unreadable."""
    found = []
    for one in data.decode(errors="surrogateescape").split("\0")[:-1]:
        name, _, value = one.partition("\n")
        found.append(_parse_name(name, value))
    return found


def parse_given(environment: Mapping[str, str]) -> list[Value]:
    """The settings that the environment gives: GIT_CONFIG_COUNT and its pairs. Raises Unreadable."""
    count = environment.get("GIT_CONFIG_COUNT") or "0"
    if not re.fullmatch(r"[0-9]{1,6}", count) or int(count) > _MOST_GIVEN:
        raise Unreadable
    try:
        names = [environment[f"GIT_CONFIG_KEY_{at}"] for at in range(int(count))]
        values = [environment[f"GIT_CONFIG_VALUE_{at}"] for at in range(int(count))]
    except KeyError as exc:
        raise Unreadable from exc
    return [_parse_name(name, value) for name, value in zip(names, values, strict=True)]


def _parse_name(name: str, value: str) -> Value:
    section, dot, rest = name.partition(".")
    subsection, _, key = rest.rpartition(".")
    if not (section and dot and key):
        raise Unreadable
    return Value(section.lower(), subsection, key.lower(), value)


def parse_remote_file(text: str) -> tuple[str, ...]:
    """The addresses of a file in `.git/remotes`, in which remotes stood before there was `remote.*`."""
    found = (re.match(r"\s*(?:URL|Push)\s*:\s*(\S.*)", line) for line in text.splitlines())
    return tuple(one[1].strip() for one in found if one and re.search(r"[:/\\]", one[1]))


def parse_branch_file(text: str) -> tuple[str, ...]:
    """The address of a file in `.git/branches`, which are still older: `address#branch`."""
    address = text.partition("\n")[0].strip().partition("#")[0]
    return (address,) if address else ()


def parse_config(text: str) -> list[Value]:
    """What git reads. Raises Unreadable for what git would not take."""
    found: list[Value] = []
    section, subsection, at = "", "", 0
    text = text.replace("\r\n", "\n")
    while at < len(text):
        if text[at] in " \t\n":
            at += 1
        elif text[at] in "#;":
            at = _end_of_line(text, at)
        elif text[at] == "[":
            head = _SECTION.match(text, at)
            if head is None:
                raise Unreadable
            # `[a.b]` is an older way to write `[a "b"]`.
            section, _, older = head[1].lower().partition(".")
            subsection, at = re.sub(r"\\(.)", r"\1", head[2]) if head[2] is not None else older, head.end()
        else:
            name = _KEY.match(text, at)
            if name is None or not section:
                raise Unreadable
            value, at = "", name.end()
            if text[at : at + 1] == "=":
                value, at = _read_value(text, at + 1)
            found.append(Value(section, subsection, name[1].lower(), value))
    return found


def parse_ssh(text: str) -> SshNames:
    """Names of hosts wherever they stand; what depends on more than the host's name counts as if it held."""
    names: list[tuple[tuple[str, ...], str]] = []
    includes: list[str] = []
    patterns: tuple[str, ...] = ("*",)
    for line in text.splitlines():
        found = _SSH_LINE.match(line)
        if found is None:
            continue
        key, words = found[1].lower(), found[2].replace('"', "").split()
        if key == "host":
            patterns = tuple(word.casefold() for word in words)
        elif key == "match":
            lists = [words[at + 1] for at, word in enumerate(words[:-1]) if word.lower() in ("host", "originalhost")]
            patterns = tuple(word.casefold() for one in lists for word in one.split(",")) or ("*",)
        elif key == "hostname":
            names += [(patterns, word.casefold()) for word in words[:1]]
        elif key == "include":
            includes += words
    return SshNames(tuple(names), tuple(includes))


def _read_value(text: str, at: int) -> tuple[str, int]:
    """A value from behind its `=`, and where its line ends."""
    value, quoted, kept = [], False, 0
    while at < len(text) and text[at] != "\n":
        ch = text[at]
        if ch == "\\":
            following = text[at + 1 : at + 2]
            if following not in ("\\", '"', "n", "t", "b", "\n"):
                raise Unreadable
            if following != "\n":
                value.append({"n": "\n", "t": "\t", "b": "\b"}.get(following, following))
                kept = len(value)
            at += 2
            continue
        if ch == '"':
            quoted, kept = not quoted, len(value)
        elif ch in "#;" and not quoted:
            at = _end_of_line(text, at)
            break
        elif quoted or value or ch not in " \t":
            value.append(ch)
            if quoted or ch not in " \t":
                kept = len(value)
        at += 1
    if quoted:
        raise Unreadable
    return "".join(value[:kept]), at


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
