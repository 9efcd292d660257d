"""`transcriptd doctor --bundle`: an archive for whoever helps. It holds what `doctor` and `status` say, settings
without secrets, versions, counts, and the end of the log; no line of a transcript, no token, and no names of projects.

Three sieves, one after the other: only what is listed here gets in; names become pseudonyms; and all of it goes through
the redactor that guards what is sent.
"""

import io
import json
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from agent import __version__
from agent.cli.probes import read_log_tail
from agent.cli.scene import Scene
from agent.core.privacy.pseudonyms import Pseudonyms, hide
from agent.core.redaction.redactor import Redactor, parse_rules
from agent.core.settings import AGENTS, Destination, Privacy, Settings, mask_settings, render_settings
from agent.errors import AgentError, DiskError
from agent.system.tokens import token_in

LOG_LINES = 5000
"""Of the log's end."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")

_ABOUT = """\
Written by `transcriptd doctor --bundle`, to be looked at and passed on by hand; it was sent nowhere.

doctor.json    what was looked at, and what was found
status.json    what `transcriptd status --json` says
settings.toml  the settings in force; patterns and exceptions are masked
versions.json  transcriptd, Python, the system, and libraries
state.json     how many rows of which kind the state holds
log.txt        the end of the log, from the journal or from files

There is no line, title or prompt of any transcript in it, no token and no environment.
{names}
"""
_MASKED = """\
Home folders, projects and session ids are replaced by pseudonyms: equal names have equal ones. Addresses of servers are
as they are."""
_READABLE = "Paths, projects and session ids are as they are (--with-paths)."


class Written(NamedTuple):
    path: str
    members: tuple[str, ...]


def write_bundle(scene: Scene, doctor: Mapping[str, Any], name: str, *, with_paths: bool) -> Written:
    """`name` empty: one with the date, in the current folder. Raises DiskError, also when there is such a file."""
    path = Path(name or time.strftime("transcriptd-%Y%m%d-%H%M%S.zip", time.localtime(scene.now_s())))
    members = {member: text.encode(errors="backslashreplace") for member, text in render(scene, doctor, with_paths)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    _write_new(path, packed.getvalue())
    return Written(str(path), tuple(members))


def _write_new(path: Path, data: bytes) -> None:
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            with os.fdopen(opened, "wb") as file:
                file.write(data)
        except OSError:
            path.unlink(missing_ok=True)  # half an archive would be in the way of the next one
            raise
    except FileExistsError as exc:
        raise DiskError(f"{path} is there already", hint="transcriptd doctor --bundle OTHER.zip") from exc
    except OSError as exc:
        raise DiskError(
            f"{path} can't be written: {exc.strerror}", hint="transcriptd doctor --bundle FILE.zip"
        ) from exc


def render(scene: Scene, doctor: Mapping[str, Any], with_paths: bool) -> Iterator[tuple[str, str]]:
    """Name and text of each member, through all sieves."""
    key = _read_key(scene)
    privacy = scene.settings_or_defaults().privacy
    pseudonyms = Pseudonyms(key, dict(_find_names(scene)), os.path.expanduser("~"), _user())
    redactor, secrets = _redactor(privacy, key), set(_find_secrets(scene))
    documents = {
        "doctor.json": doctor,
        "status.json": _status(scene),
        "versions.json": _versions(),
        "state.json": _state(scene),
    }
    texts = {name: _json(one if with_paths else pseudonyms.mask_all(one)) for name, one in documents.items()}
    texts["settings.toml"] = _settings(scene.settings_or_defaults(), None if with_paths else pseudonyms)
    log = read_log_tail(scene, LOG_LINES)
    texts["log.txt"] = log if with_paths else "\n".join(map(pseudonyms.mask, log.split("\n")))
    yield "README.txt", _ABOUT.format(names=_READABLE if with_paths else _MASKED)
    for name, text in texts.items():
        yield name, _without_secrets(redactor, hide(text, secrets))


def _without_secrets(redactor: Redactor, text: str) -> str:
    try:
        return redactor.redact_lines(text.encode(errors="backslashreplace")).data.decode(errors="replace")
    except AgentError as exc:
        return f"left out: {exc.message}\n"


def _redactor(privacy: Privacy, key: bytes) -> Redactor:
    try:
        return Redactor(parse_rules(privacy), key)
    except AgentError:
        return Redactor(parse_rules(Privacy()), key)


def _read_key(scene: Scene) -> bytes:
    """This machine's, so that pseudonyms are the same next time; one that nobody knows where there is none. `doctor`
    makes none."""
    from agent.system.state.redaction_key import read_or_make_key

    places = [one for one in (scene.paths.redaction_key, scene.paths.redaction_key_in_state) if one.exists()]
    try:
        return read_or_make_key(*places)
    except DiskError:
        return read_or_make_key()


# --- what must not be in it ---------------------------------------------------------------------------------------


def _find_secrets(scene: Scene) -> Iterator[str]:
    """Values that nobody has to recognise."""
    if (token := token_in(scene.environment)) is not None:
        yield token
    for name, value in scene.environment.items():
        if name.lower() in _PROXIES:
            yield from _userinfo(value)
    for pattern in scene.settings_or_defaults().privacy.patterns:
        yield pattern.partition(":")[2].strip()


def _userinfo(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError:
        yield url
        return
    yield from (one for one in (parts.username, parts.password) if one)


def _find_names(scene: Scene) -> Iterator[tuple[str, str]]:
    """What can't be told to be a path or an id by its looks, or stands alone: what settings and private list name, and
    what of the state has blanks in it."""
    settings = scene.settings_or_defaults()
    folders = [*settings.privacy.shared_projects, *(one for name in AGENTS for one in settings.watch.folders(name))]
    folders += [folder for one in settings.destinations for folder in one.projects]
    folders += [one.token_file for one in settings.destinations if one.token_file]
    folders += [tree.path for tree in scene.trees() if tree.path]
    for folder in folders:
        yield folder, "folder"
        yield os.path.expanduser(folder), "folder"
    yield from _names_of_rules(scene, settings)
    yield from _names_of_state(scene)


def _names_of_rules(scene: Scene, settings: Settings) -> Iterator[tuple[str, str]]:
    from agent.system.state.privacy_list import PrivacyList

    try:
        rules = PrivacyList(scene.paths.private_list, settings.privacy).rules()
    except AgentError:
        return  # what is wrong in it is told by its number; doctor.json goes through the other sieves
    for rule in rules:
        yield rule.value, "session" if rule.kind == "session" else "rule"


def _names_of_state(scene: Scene) -> Iterator[tuple[str, str]]:
    from agent.cli.config import remembered

    try:
        with remembered(scene.paths) as store:
            if store is None:
                return
            for row in store.tracks():
                if not _looks_plain(row.path):
                    yield row.path, "path"
                if len(row.stream.session_id) != len("28cccd80-67c1-494b-86bd-e80b30fc85ba"):
                    yield row.stream.session_id, "session"
            for _, facts in store.sessions():
                if facts.project and not _looks_plain(facts.project):
                    yield facts.project, "folder"
    except AgentError:
        return


def _looks_plain(path: str) -> bool:
    return not set(path) & set(" \"'`<>|,;()[]{}")


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


# --- members ------------------------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=True) + "\n"


def _status(scene: Scene) -> Any:
    try:
        return msgspec.to_builtins(scene.status())
    except AgentError as exc:
        return {"error": exc.code, "message": exc.message}


def _versions() -> dict[str, Any]:
    import platform
    import re
    from importlib import metadata

    libraries: dict[str, str] = {}
    try:
        required = metadata.requires("transcriptd") or []
    except metadata.PackageNotFoundError:
        required = []
    for line in required:
        name = re.split(r"[^A-Za-z0-9_.-]", line)[0]
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            libraries[name] = ""
    return {
        "transcriptd": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "libraries": libraries,
    }


def _state(scene: Scene) -> dict[str, Any]:
    from agent.system.state.state_db import SCHEMA_VERSION, check_state, count_state

    check = check_state(scene.paths.database)
    known = {"schema_version": check.version, "schema_known": SCHEMA_VERSION, "problem": check.problem}
    return {**known, **count_state(scene.paths.database)._asdict()}


def _settings(settings: Settings, pseudonyms: Pseudonyms | None) -> str:
    settings = mask_settings(settings)
    privacy = replace(settings.privacy, allow=tuple("•••" for _ in settings.privacy.allow))
    settings = replace(settings, privacy=privacy)
    if pseudonyms is None:
        return render_settings(settings)

    def named(folders: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(pseudonyms.path(folder) for folder in folders)

    def masked(one: Destination) -> Destination:
        return replace(one, projects=named(one.projects), token_file=pseudonyms.path(one.token_file))

    watch = settings.watch
    return render_settings(
        replace(
            settings,
            destinations=tuple(map(masked, settings.destinations)),
            watch=replace(
                watch,
                claude=named(watch.claude),
                codex=named(watch.codex),
                gemini=named(watch.gemini),
                copilot=named(watch.copilot),
            ),
            privacy=replace(privacy, shared_projects=named(privacy.shared_projects)),
        )
    )
