"""Who may know whom, read from the imports: all of them, also lazy ones and those for types only."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, require_tool

# ---- the rule ----

# Lower rows know nothing of higher ones; rooms of one row do not know each other.
ROWS = (
    ("errors",),
    ("core",),
    ("providers",),
    ("system", "services", "receiver"),
    ("delivery",),
    ("sessions",),
    ("daemon",),
    ("cli", "tray", "ui"),
)

# Narrower than their row allows.
KNOWS_ONLY = {
    "receiver": {"errors", "core"},  # other people's servers have no agent beside them
    "tray": {"errors", "core", "providers", "system", "services"},  # a daemon is reached through its socket
    "ui": {"errors", "core", "providers", "system", "services"},
}

# Rooms of one package, the lowest first: none knows one behind it.
ROOMS = {
    "delivery": ("base", "privacy", "discovery", "state", "retention", "engine", "push", "inventory"),
    "sessions": ("read", "search", "index", "live", "transfer"),
    "daemon": ("status", "process", "control"),
}
# The same where modules may also stand beside the rooms.
ORDER = {**ROOMS, "core": ("sessions", "transcripts", "delivery", "privacy", "redaction", "wire")}

# `python -m agent` is the command line by another name.
SAME_ROOM = {"__main__": "cli"}

# One outside thing a module: a module here knows no other one. The room's own __init__ may gather them.
STRANGERS = {"system"}
# Rooms that gather such modules; each is one all the same.
GATHERED = {"agent.system.files", "agent.system.state", "agent.system.machine"}
# But for the ways to a file, which are the same for whoever reads, keeps or replaces one, be it somebody's or ours; and
# what a process says of itself.
FLOORS = {"agent.system.files.no_links", "agent.system.files.own_files", "agent.system.machine.process"}

# Values in, values out: no clock, disk, network, thread, log, environment or chance.
PURE = {"core", "providers"}
# With everything below them.
IMPURE_MODULES = frozenset(
    """
    _thread asyncio builtins concurrent ctypes faulthandler fcntl fileinput ftplib gc genericpath getpass glob
    grp http imaplib importlib io linecache locale logging mmap msvcrt multiprocessing os pkgutil platform
    poplib posix pty pwd queue random resource runpy sched secrets select selectors shelve shutil signal
    smtplib socket socketserver sqlite3 ssl subprocess syslog tempfile termios threading time tkinter
    urllib.error urllib.request urllib.robotparser warnings webbrowser winreg wsgiref xmlrpc zoneinfo

    PIL anyio apscheduler click dbus filelock httptools httpx httpx2 jeepney keyring platformdirs psycopg pystray
    requests rich secretstorage starlette trio tzlocal urllib3 uvicorn watchdog
    """.split()  # noqa: SIM905 - a paragraph of names, not sixty lines of them
)
_PATH_ALGEBRA = {"basename", "commonpath", "dirname", "isabs", "join", "normpath", "split", "splitext"}
# Of these modules only the names that are pure.
PURE_NAMES = {
    "ntpath": _PATH_ALGEBRA,
    "pathlib": {"PurePath", "PurePosixPath", "PureWindowsPath"},
    "posixpath": _PATH_ALGEBRA,
    "sys": {"intern", "maxsize"},
    "uuid": {"NAMESPACE_DNS", "NAMESPACE_OID", "NAMESPACE_URL", "NAMESPACE_X500", "UUID", "uuid3", "uuid5"},
}
IMPURE_BUILTINS = {"__import__", "breakpoint", "exec", "eval", "input", "open", "print"}
IMPURE_CLOCKS = {"now", "today", "utcnow"}  # of date and datetime

# ---- the reader ----


def imports_of(tree: ast.AST, module: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Each import as (line, full dotted name), relative ones resolved, with the name taken from the module.

    >>> list(imports_of(ast.parse("from . import a"), "agent.core.b"))
    [(1, 'agent.core.a')]
    """
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and _called(node) in {"import_module", "__import__"}:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value


def _called(node: ast.Call) -> str:
    """The last name of what a call calls: `import_module` for `importlib.import_module(…)`."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _room(module: str) -> str | None:
    """The room below `agent` of a full dotted name; "" for `agent` itself, None for anybody else's module."""
    head, *rest = module.split(".")
    if head != "agent":
        return None
    return SAME_ROOM.get(rest[0], rest[0]) if rest else ""


def _inner(module: str) -> str:
    """The room inside a package, of a full dotted name: `engine` of `agent.delivery.engine.engine`."""
    return ".".join(module.split(".")[2:3])


def _row(room: str) -> int | None:
    return next((number for number, rooms in enumerate(ROWS) if room in rooms), None)


def _may_know(room: str, other: str) -> bool:
    if room in KNOWS_ONLY:
        return other in KNOWS_ONLY[room] or other == room
    own, theirs = _row(room), _row(other)
    return room == other or (own is not None and theirs is not None and theirs < own)


def breaches(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What a module's source breaks of the rule, one "line: reason" each; empty when it keeps to it."""
    tree = ast.parse(source)
    room = _room(module)
    assert room is not None
    if room and _row(room) is None:
        return [f"1: agent/{room} stands in no row"]
    found = []
    for line, target in imports_of(tree, module, is_package=is_package):
        other = _room(target)
        if other is None:
            continue
        if module in {"agent", "agent.errors"}:
            found.append(f"{line}: {module} imports nothing of the project, here {target}")
        elif not other or _row(other) is None:
            name = target.removeprefix("agent").lstrip(".")
            if name and not name.startswith("__"):  # __version__
                found.append(f"{line}: {target} stands in no row")
        elif not _may_know(room, other):
            found.append(f"{line}: {room} may not know {target}")
        elif room == other and not (is_package and module == f"agent.{room}"):
            found += [f"{line}: {one}" for one in _breaches_inside(room, module, target)]
    if room in PURE:
        found += impurities(tree, module, is_package=is_package)
    return found


def _breaches_inside(room: str, module: str, target: str) -> Iterator[str]:
    """Of what a module imports from its own package."""
    own, theirs = _inner(module), _inner(target)
    if room in ROOMS and not {own, theirs} <= set(ROOMS[room]):
        yield f"{module} or {target} stands in no room of {room}"
    elif {own, theirs} <= set(ORDER.get(room, ())) and ORDER[room].index(theirs) > ORDER[room].index(own):
        yield f"{room}/{own} may not know {target}"
    elif room in STRANGERS and _door(module) != _door(target) and _door(target) not in FLOORS:
        yield f"{_door(module)} may not know its neighbour {target}"


def _door(module: str) -> str:
    """The module of `system` that a name is of."""
    parts = module.split(".")
    return ".".join(parts[:4] if ".".join(parts[:3]) in GATHERED else parts[:3])


def impurities(tree: ast.AST, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Where pure code could reach the world, one "line: reason" each."""
    for line, target in imports_of(tree, module, is_package=is_package):
        parts = target.split(".")
        banned = any(".".join(parts[:n]) in IMPURE_MODULES for n in range(1, len(parts) + 1))
        if banned or (len(parts) > 1 and parts[1] not in PURE_NAMES.get(parts[0], {parts[1]})):
            yield f"{line}: pure code may not import {target}"
    aliases = dict(_aliases(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_BUILTINS:
                yield f"{node.lineno}: pure code may not call {name}()"
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in aliases:
                whole = aliases[name]
                if attr not in PURE_NAMES[whole]:
                    yield f"{node.lineno}: pure code may not use {whole}.{attr}"
            case ast.Attribute(
                value=ast.Name(id="datetime" | "date") | ast.Attribute(attr="datetime" | "date"), attr=attr
            ) if attr in IMPURE_CLOCKS:
                yield f"{node.lineno}: pure code may not ask the clock"


def _aliases(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Local name → module, of the modules that are only partly pure."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.asname or a.name, a.name) for a in node.names if a.name in PURE_NAMES)


# ---- the agent keeps to it ----


def _modules() -> Mapping[str, Path]:
    """Full dotted name → file, of everything below agent/."""
    names = {}
    for file in sorted((REPOSITORY / "agent").rglob("*.py")):
        parts = file.relative_to(REPOSITORY).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def test_every_import_keeps_to_the_layers() -> None:
    modules = _modules()
    assert "agent.errors" in modules, "the reader found nothing to read"
    found = [
        f"{file.relative_to(REPOSITORY).as_posix()}:{breach}"
        for module, file in modules.items()
        for breach in breaches(file.read_text(encoding="utf-8"), module, is_package=file.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


def _package(module: str) -> str | None:
    """As the table in docs/architecture.md names it: `cli`, `delivery/engine`. None for what lies in none."""
    room = _room(module)
    if room is None or room not in ROOMS:
        return room if room is not None and _row(room) else None  # not errors, which is no package
    return f"{room}/{_inner(module)}" if _inner(module) else None


def known_packages() -> Mapping[str, set[str]]:
    """Package → those whose modules it imports, without `core` and `errors`, which all may know."""
    found: dict[str, set[str]] = {}
    for module, file in _modules().items():
        own, is_package = _package(module), file.name == "__init__.py"
        if own is not None and own != "core":
            known = found.setdefault(own, set())
            for _, target in imports_of(ast.parse(file.read_text(encoding="utf-8")), module, is_package=is_package):
                known.add(_package(target) or own)
    return {own: known - {own, "core"} for own, known in found.items()}


def test_the_table_of_packages_is_what_the_imports_say() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("<!-- imports: begin -->")[2].partition("<!-- imports: end -->")[0]
    rows = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("| `")]
    told = {name.strip(" `"): set(re.findall("`([^`]+)`", known)) for name, _, known in rows}
    assert told == known_packages()


# ---- the reader can tell ----


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("agent.core.wire", "import agent.system.machine.clock"),
        ("agent.core.wire", "from agent import daemon"),
        ("agent.core.wire", "from agent.providers.claude import parse"),
        ("agent.core.wire", "def f():\n    from agent.delivery.engine.engine import Engine"),
        ("agent.delivery.engine.engine", "from agent.sessions.read import tailing"),
        ("agent.delivery.engine.engine", "from agent.delivery.push.pusher import Pusher"),
        ("agent.delivery.engine.engine", "from agent.delivery import push"),
        ("agent.core.sessions.runs", "from agent.core.wire import requests"),
        ("agent.delivery.rat", "from agent.delivery.base import world"),
        ("agent.sessions.live.runs", "from agent.daemon.status import report"),
        ("agent.core.wire", "if TYPE_CHECKING:\n    from agent.system.files.reading import Files"),
        ("agent.core.wire", "from ..daemon import engine"),
        ("agent.core.wire", "from .. import cli"),
        ("agent.core.wire", "from agent.nowhere import thing"),
        ("agent.delivery.engine.engine", "importlib.import_module('agent.cli.main')"),
        ("agent.delivery.engine.engine", "__import__('agent.tray')"),
        ("agent.delivery.engine.engine", "from agent.__main__ import main"),
        ("agent.system.machine.clock", "from agent.services import systemd"),
        ("agent.system.machine.clock", "from agent.system.files.reading import Files"),
        ("agent.system.machine.clock", "from agent.system import files"),
        ("agent.system.machine.clock", "from . import files"),
        ("agent.system.remote.http", "from ..clock import Clock"),
        ("agent.system.remote", "from agent.system import clock"),
        ("agent.receiver.app", "from agent.providers import claude"),
        ("agent.receiver.app", "from agent.system import clock"),
        ("agent.receiver.app", "from agent.daemon import engine"),
        ("agent.cli.main", "from agent.ui import window"),
        ("agent.tray.icon", "from agent.daemon import engine"),
        ("agent.tray.icon", "from agent.receiver import app"),
        ("agent.errors", "from agent.core import wire"),
        ("agent.errors", "from agent import __version__"),
        ("agent", "from agent.errors import AgentError"),
        ("agent.cellar.rat", "x = 1"),
        # purity
        ("agent.core.wire", "import os"),
        ("agent.core.wire", "import os.path as p"),
        ("agent.core.wire", "def f():\n    import time"),
        ("agent.core.wire", "if TYPE_CHECKING:\n    import logging"),
        ("agent.core.wire", "from random import Random"),
        ("agent.core.wire", "from urllib import request"),
        ("agent.core.wire", "from urllib.request import urlopen"),
        ("agent.core.wire", "from concurrent.futures import Future"),
        ("agent.core.wire", "from pathlib import Path"),
        ("agent.core.wire", "import posixpath\nx = posixpath.exists('x')"),
        ("agent.core.wire", "import pathlib\npathlib.Path('x')"),
        ("agent.core.wire", "import sys as s\nx = s.platform"),
        ("agent.core.wire", "import uuid\nx = uuid.uuid4()"),
        ("agent.core.wire", "from uuid import uuid4"),
        ("agent.core.wire", "open('x')"),
        ("agent.core.wire", "from datetime import datetime\nx = datetime.now()"),
        ("agent.core.wire", "import datetime\nx = datetime.date.today"),
        ("agent.core.wire", "import requests"),
        ("agent.providers.claude", "import sqlite3"),
        ("agent.providers.claude", "import watchdog.events"),
    ],
)
def test_a_breach_is_seen(module: str, source: str) -> None:
    assert breaches(source, module, is_package=module in {"agent", "agent.system.remote"})


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("agent.core.wire", "from agent.core import session"),
        ("agent.core.wire", "from .session import Session\nfrom ..errors import AgentError"),
        ("agent.core.wire", "import hashlib, msgspec, zstandard\nfrom urllib.parse import quote"),
        ("agent.core.wire", "from pathlib import PurePath\nfrom datetime import datetime"),
        ("agent.core.wire", "import posixpath\nx = posixpath.join('x', 'y')"),
        ("agent.core.wire", "import uuid\nx = uuid.uuid5(uuid.NAMESPACE_URL, 'x')"),
        ("agent.core.wire", "from timeit_like import thing"),
        ("agent.providers.claude", "from agent.core.transcripts.session import Session"),
        ("agent.system.machine.clock", "import time\nfrom agent.errors import MachineError"),
        ("agent.system.remote.http", "from .pool import Pool\nfrom agent.system.remote import Remote"),
        ("agent.services.systemd", "from agent import __version__"),
        ("agent.receiver.app", "from agent.core import wire\nfrom agent.receiver.store import Store"),
        ("agent.delivery.push.pusher", "from agent.delivery.engine.engine import Engine"),
        ("agent.delivery.push.pusher", "from agent.delivery.push import asking"),
        ("agent.sessions.live.runs", "from agent.delivery.base.world import World"),
        ("agent.cli.main", "from agent.receiver import app\nfrom agent.daemon import engine"),
        ("agent.__main__", "from agent.cli.main import main"),
        ("agent.errors", "import enum"),
    ],
)
def test_what_keeps_to_the_rule_is_let_through(module: str, source: str) -> None:
    assert breaches(source, module) == []


def test_the_init_of_strangers_may_gather_them() -> None:
    assert breaches("from agent.system import clock", "agent.system", is_package=True) == []


# ---- what git holds ----

# Put together here so that this file does not hold what it looks for. A path counts where it begins: neither
# "~/work/x" nor "https://host/work/" is a machine's.
_FOLDERS = ("root", "work", "opt/wheels", "home/runner", "builds")
_HOSTS = ("pypi", "pythonhosted", "npmjs", "debian", "ubuntu", "anaconda")
BUILD_MACHINE = re.compile(rb"(?<![\w.~:$*})>-])/(?:%s)/" % b"|".join(map(str.encode, _FOLDERS)))
REGISTRY = re.compile(rb"\b(?:[a-z0-9-]+\.)*(?:%s)\.(?:org|com)\b" % b"|".join(map(str.encode, _HOSTS)))


def _files_in_git() -> list[Path]:
    git = require_tool("git")
    listed = subprocess.run([git, "-C", str(REPOSITORY), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a clone")
    return [file for name in listed.stdout.split("\0") if name and (file := REPOSITORY / name).is_file()]


def test_no_file_names_a_build_machine_or_a_registry() -> None:
    found = [
        f"{file.relative_to(REPOSITORY).as_posix()}: {match.group().decode()}"
        for file in _files_in_git()
        for pattern in (BUILD_MACHINE, REGISTRY)
        if (match := pattern.search(file.read_bytes()))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", _FOLDERS)
def test_a_build_machine_is_seen(name: str) -> None:
    assert BUILD_MACHINE.search(f'path = "/{name}/thing"'.encode())
    assert not BUILD_MACHINE.search(f"~/{name}/thing https://example.org/{name}/".encode())


@pytest.mark.parametrize("name", _HOSTS)
def test_a_registry_is_seen(name: str) -> None:
    assert REGISTRY.search(f"see https://files.{name}.org/simple".encode())


# ---- what is pinned ----


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_pins_are_exact_hashed_and_from_nowhere_in_particular(file: str) -> None:
    text = (REPOSITORY / "packaging" / file).read_text(encoding="utf-8")
    assert "://" not in text
    pins = text.replace("\\\n", " ").splitlines()
    assert pins
    loose = [pin for pin in pins if not re.match(r"[a-z0-9-]+==[^ ]+ .*--hash=sha256:", pin)]
    assert not loose, "\n".join(loose)


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    for file, wanted in {
        "requirements.txt": project["dependencies"],
        "requirements-dev.txt": project["dependencies"] + extras,
    }.items():
        text = (REPOSITORY / "packaging" / file).read_text(encoding="utf-8")
        pinned = set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
        names = {re.split(r"[^A-Za-z0-9-]", one)[0].lower() for one in wanted}
        assert names <= pinned, f"{file} lacks {sorted(names - pinned)}; `make lock` adds them"
