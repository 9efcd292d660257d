"""`config.toml` as a value. What may stand in it is the table `FIELDS`; nothing else knows a key's name or default."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from agent.errors import SettingsError


class TokenIn(StrEnum):
    """Where a destination's token is."""

    KEYRING = "keyring"
    FILE = "file"
    CREDENTIAL = "credential"
    ENVIRONMENT = "environment"


class Field(NamedTuple):
    """One key: what it may hold and what it means. `allowed` is a range of numbers or a set of words."""

    kind: type
    default: Any
    allowed: tuple[float, float] | tuple[str, ...] | None
    meaning: str


REQUIRED = object()

AGENTS = ("claude", "codex", "gemini", "copilot")
"""The coding agents that can be followed, as the settings call them."""

DESTINATION_FIELDS: Mapping[str, Field] = {
    "name": Field(str, "default", None, "what `status` calls it"),
    "url": Field(str, REQUIRED, None, "where the server is; everything before /v1"),
    "protocol": Field(
        str,
        "auto",
        ("auto", "bulk", "ingress", "upload"),
        "auto asks the server; ingress is one entry a request, upload whole files",
    ),
    "projects": Field(list, [], None, "folders whose sessions go there, with * and ?; empty: all"),
    "insecure": Field(bool, False, None, "allow http:// to another machine: anybody on the way can read along"),
    "token": Field(
        str, TokenIn.KEYRING.value, tuple(one.value for one in TokenIn), "where its token is; `login` writes it here"
    ),
    "keyring": Field(
        str,
        "auto",
        ("auto", "secret-service", "kwallet", "macos", "windows"),
        "which keyring has the token; auto: the one that belongs to the system",
    ),
    "token_file": Field(str, "", None, 'with token = "file": the file, which only its owner may read'),
    "credential": Field(
        str, "transcriptd-token", None, 'with token = "credential": its name, as in LoadCredential= of the unit'
    ),
}
SECTION_FIELDS: Mapping[str, Mapping[str, Field]] = {
    "push": {
        "interval_s": Field(float, 30.0, (1, 86_400), "seconds between the passes that catch what was missed"),
        "backlog": Field(bool, True, None, "send also the sessions that were there before the first start"),
        "workers": Field(int, 4, (1, 8), "requests in flight at the same time, at most"),
        "coalesce_s": Field(float, 0.05, (0, 60), "rest of a file that grew while it was being sent, in seconds"),
        "on_metered": Field(bool, True, None, "send also where the network is metered, as far as the system knows"),
        "on_battery_below": Field(int, 0, (0, 100), "nothing is sent on battery below so many per cent; 0: always"),
    },
    "watch": {
        "agents": Field(list, list(AGENTS), AGENTS, "whose sessions are followed"),
        "claude": Field(list, [], None, "folders with Claude Code transcripts; empty: where Claude Code keeps them"),
        "codex": Field(list, [], None, "the same for Codex CLI (its sessions and archived_sessions)"),
        "gemini": Field(list, [], None, "the same for Gemini CLI (its tmp)"),
        "copilot": Field(list, [], None, "the same for Copilot CLI (its session-state)"),
        "scan_interval_s": Field(float, 300.0, (1, 86_400), "seconds between full looks at all folders"),
        "poll_interval_s": Field(float, 5.0, (0.2, 3600), "the same where the system gives no change notices"),
        "audit_interval_s": Field(float, 86_400.0, (0, 31_536_000), "seconds in which all is read again; 0: never"),
    },
    "privacy": {
        "share": Field(str, "all", ("all", "listed"), "all but what is private, or only the shared_projects"),
        "shared_projects": Field(
            list, [], None, 'with share = "listed": folders whose sessions are sent, with * and ?'
        ),
        "hold_s": Field(float, 0.0, (0, 604_800), "seconds before anything of a new session is sent"),
        "patterns": Field(list, [], None, 'further secrets, each written "kind: regular expression"'),
        "allow": Field(list, [], None, "regular expressions; what one matches as a whole is no secret"),
        "emails": Field(bool, False, None, "replace e-mail addresses too"),
        "home_folders": Field(bool, False, None, "replace the names of home folders too"),
    },
    "limits": {
        "files_bytes_per_s": Field(int, 8_000_000, (1000, 10**12), "bytes a second of side files (tool results)"),
        "kept_bytes": Field(int, 1 << 30, (0, 1 << 50), "copies of unsent transcripts, where no links can be made"),
    },
    "index": {
        "enabled": Field(bool, True, None, "keep an index of sessions, for `sessions list`, `stats` and the like"),
    },
    "notify": {
        "enabled": Field(bool, True, None, "tell on the desktop what needs somebody; at most once a day each"),
    },
    "log": {
        "level": Field(str, "info", ("debug", "info", "warning", "error"), "what goes to the log"),
        "file": Field(
            str,
            "auto",
            ("auto", "always", "never"),
            "log files; auto: where neither a journal, a terminal nor a pipe takes the log",
        ),
    },
}


@dataclass(frozen=True, slots=True)
class Destination:
    url: str
    name: str = "default"
    protocol: str = "auto"
    projects: tuple[str, ...] = ()
    insecure: bool = False
    token: str = TokenIn.KEYRING.value
    keyring: str = "auto"
    token_file: str = ""
    credential: str = "transcriptd-token"


@dataclass(frozen=True, slots=True)
class Push:
    interval_s: float = 30.0
    backlog: bool = True
    workers: int = 4
    coalesce_s: float = 0.05
    on_metered: bool = True
    on_battery_below: int = 0


@dataclass(frozen=True, slots=True)
class Watch:
    claude: tuple[str, ...] = ()
    scan_interval_s: float = 300.0
    poll_interval_s: float = 5.0
    audit_interval_s: float = 86_400.0
    agents: tuple[str, ...] = AGENTS
    codex: tuple[str, ...] = ()
    gemini: tuple[str, ...] = ()
    copilot: tuple[str, ...] = ()

    def folders(self, agent: str) -> tuple[str, ...]:
        """Those that the settings name; none: where the coding agent keeps its transcripts."""
        named = {"claude": self.claude, "codex": self.codex, "gemini": self.gemini, "copilot": self.copilot}
        return named.get(agent, ())


@dataclass(frozen=True, slots=True)
class Privacy:
    share: str = "all"
    shared_projects: tuple[str, ...] = ()
    hold_s: float = 0.0
    patterns: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    emails: bool = False
    home_folders: bool = False


@dataclass(frozen=True, slots=True)
class FileLimits:
    files_bytes_per_s: int = 8_000_000
    kept_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Index:
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Notify:
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Log:
    level: str = "info"
    file: str = "auto"


@dataclass(frozen=True, slots=True)
class Settings:
    destinations: tuple[Destination, ...] = ()
    push: Push = Push()
    watch: Watch = Watch()
    privacy: Privacy = Privacy()
    limits: FileLimits = FileLimits()
    index: Index = Index()
    notify: Notify = Notify()
    log: Log = Log()


EXAMPLE_TEXT = """\
[[destination]]
url = "https://transcripts.example.com"

[push]
backlog = true
"""


def parse_settings(text: str, source: str = "config.toml") -> Settings:
    """Raises SettingsError that names file, key, value and what is allowed. `source` is the file's name."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # also for numbers and nesting that tomllib itself does not bear
        raise SettingsError(f"{source} is not TOML: {_first_lower(str(exc))}", hint="transcriptd config path") from exc
    _reject_unknown(document, ["destination", *SECTION_FIELDS], "", source)
    sections: dict[str, Any] = {}
    for name, table in SECTION_FIELDS.items():
        given = document.get(name, {})
        if not isinstance(given, dict):
            raise _wrong(source, name, given, "a table, written [" + name + "]")
        sections[name] = _checked(given, table, name, source)
    rows = document.get("destination", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _wrong(source, "destination", rows, "a list of tables, written [[destination]]")
    destinations = tuple(_destination(row, source) for row in rows)
    names = [one.name for one in destinations]
    for name in names:
        if names.count(name) > 1:
            raise _wrong(source, "destination.name", name, "a name that no other destination has")
    kinds = {
        "push": Push,
        "watch": Watch,
        "privacy": Privacy,
        "limits": FileLimits,
        "index": Index,
        "notify": Notify,
        "log": Log,
    }
    return Settings(destinations, **{name: kinds[name](**values) for name, values in sections.items()})


def _destination(row: Mapping[str, Any], source: str) -> Destination:
    one = Destination(**_checked(row, DESTINATION_FIELDS, "destination", source))
    check_url(one.url, insecure=one.insecure, where=f"destination.url in {source}")
    return one


def check_url(url: str, *, insecure: bool, where: str) -> None:
    """Raises SettingsError unless a token may travel to `url`: https, or http to this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    # urlsplit drops line breaks and keeps blanks; a request line bears neither.
    if not host or parts.scheme not in ("http", "https") or " " in url or not url.isprintable():
        raise SettingsError(
            f"{where} is no address: expected https://host[:port][/path]", hint="transcriptd config path"
        )
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise SettingsError(f"{where} holds more than an address: no user, password, ? or # is allowed")
    if parts.scheme == "http" and not insecure and not is_loopback(host):
        raise SettingsError(
            f"{where} would send everything unencrypted to {host}",
            hint="use https://, or write insecure = true below it if the way is safe",
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    from ipaddress import ip_address  # the same

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def render_settings(settings: Settings) -> str:
    """TOML with every key, as `parse_settings` reads it."""
    blocks = ["[[destination]]\n" + _lines(one) for one in settings.destinations]
    blocks += [f"[{section}]\n" + _lines(getattr(settings, section)) for section in SECTION_FIELDS]
    return "\n".join(blocks)


def mask_settings(settings: Settings) -> Settings:
    """The same to be shown: a further secret may be written out in its pattern."""
    masked = tuple(_masked(one) for one in settings.privacy.patterns)
    return replace(settings, privacy=replace(settings.privacy, patterns=masked))


def _masked(pattern: str) -> str:
    kind, colon, expression = pattern.partition(":")
    return f"{kind}: •••" if colon and expression.strip() else "•••"


def _lines(value: Any) -> str:
    return "".join(f"{one.name} = {_toml(getattr(value, one.name))}\n" for one in fields(value))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(ch if ch.isprintable() else f"\\U{ord(ch):08x}" for ch in escaped) + '"'
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def _checked(given: Mapping[str, Any], table: Mapping[str, Field], section: str, source: str) -> dict[str, Any]:
    _reject_unknown(given, list(table), section + ".", source)
    result = {}
    for key, field in table.items():
        value = given.get(key, field.default)
        if value is REQUIRED:
            raise SettingsError(f"{section}.{key} is missing in {source}", hint=f'add: {key} = "…"')
        result[key] = _checked_value(value, field, f"{section}.{key}", source)
    return result


def _checked_value(value: Any, field: Field, where: str, source: str) -> Any:
    if field.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, field.kind) or (isinstance(value, bool) and field.kind is not bool):
        raise _wrong(source, where, value, _KIND_WORDS[field.kind])
    if isinstance(value, list):
        for item in value:
            if not isinstance(item, str):
                raise _wrong(source, where, item, "text in quotes")
        value = tuple(value)
    _reject_forbidden(value, field, where, source)
    return value


def _reject_forbidden(value: Any, field: Field, where: str, source: str) -> None:
    if field.allowed is None:
        return
    if field.kind in (str, list):
        wrong = next((one for one in (value if field.kind is list else [value]) if one not in field.allowed), None)
        if wrong is not None:
            raise _wrong(source, where, wrong, "one of " + ", ".join(map(str, field.allowed)))
        return
    low, high = map(float, field.allowed)
    if not low <= value <= high:
        raise _wrong(source, where, value, f"from {low:g} to {high:g}")


_KIND_WORDS = {str: "text in quotes", bool: "true or false", int: "a whole number", float: "a number", list: "a list"}


_SHOWN_CHARS = 24
"""Of a value that is wrong. What is longer may be a token in the wrong place."""


def _wrong(source: str, where: str, value: Any, expected: str) -> SettingsError:
    shown = _toml(value)
    if len(shown) > _SHOWN_CHARS:
        shown = f"something of {len(shown)} characters"
    return SettingsError(f"{where} in {source} is {shown}, expected {expected}", hint="transcriptd config path")


def _reject_unknown(given: Mapping[str, Any], known: list[str], prefix: str, source: str) -> None:
    for key in given:
        if key not in known:
            import difflib  # for an error only; `status` has to answer fast

            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise SettingsError(
                f"{prefix}{key} in {source} is not a setting", hint=f"did you mean {prefix}{near[0]}?" if near else ""
            )


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]
