"""What a service manager is to start: decided once, from the command that was typed and the environment it stood in."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ServiceError, UsageError

NAME = "transcriptd"

FOLDERS = (
    "TRANSCRIPTD_HOME",
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "COPILOT_HOME",
    "GEMINI_CLI_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
)
"""Where coding agents and we ourselves keep files. A shell's start file sets them; no service manager reads that."""

LISTS = ("CLAUDE_CONFIG_DIR",)
"""Those that may name several folders, separated by commas."""

PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy", "https_proxy")

TRUST = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE")
"""Files and folders of certificates, where they are not the system's own."""

PLAIN = ("NO_PROXY", "no_proxy")

CAPTURED = (*FOLDERS, *PROXIES, *PLAIN, *TRUST)
"""Nothing else of the environment gets into a service's file: never a token, never PATH."""

_NAME_SHAPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TEMPORARY = ("/tmp", "/var/tmp", "/private/tmp", "/private/var/tmp", "/dev/shm")  # noqa: S108 - refused
_USER_INFO = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)?[^/]*@")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_SHEBANG_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """`command`: absolute, what is started. `environment`: sorted pairs. `logs`: the folder of log files, where the
    system keeps none itself. `user`: how Windows names the owner, else empty."""

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    logs: str
    name: str = NAME
    user: str = ""

    def __post_init__(self) -> None:
        if not _NAME_SHAPE.fullmatch(self.name):
            raise UsageError(f"a service's name is letters, digits, dots and dashes, not {self.name!r}")
        for what, text in [
            *(("the command", one) for one in self.command),
            *((f"the variable {name}", value) for name, value in self.environment),
            ("the folder of logs", self.logs),
        ]:
            check_text(what, text)


def check_text(what: str, text: str) -> None:
    """Raises UsageError for what no service manager can be told."""
    if found := _CONTROL.search(text):
        raise UsageError(f"{what} has the character U+{ord(found.group()):04X} in it, which no service can be told")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise UsageError(f"{what} is not UTF-8, and no service can be told it") from exc


def capture_environment(environment: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """What of it a service has to know, sorted, and warnings. A proxy's user and password stay out: everything in a
    service's file is for many eyes."""
    kept: dict[str, str] = {}
    warnings = []
    for name in CAPTURED:
        value = environment.get(name, "")
        if not value:
            continue
        if name in LISTS:
            folders = [one for part in value.split(",") if (one := part.strip())]
            value = ",".join(os.path.abspath(os.path.expanduser(one)) for one in folders)
        elif name in FOLDERS or (name in TRUST and os.pathsep not in value):
            value = os.path.abspath(os.path.expanduser(value))
        elif name in PROXIES and (bare := _USER_INFO.sub(lambda found: found["scheme"] or "", value)) != value:
            warnings.append(f"{name} goes into the service without its user and password, which are secret")
            value = bare
        if name in TRUST and not any(map(os.path.exists, value.split(os.pathsep))):
            warnings.append(f"{name} names {value}, which is not there")
        kept[name] = value
    if environment.get("TRANSCRIPTD_TOKEN"):
        warnings.append("TRANSCRIPTD_TOKEN stays out of the service, which takes its token from where login put it")
    return tuple(sorted(kept.items())), warnings


# --- the command -------------------------------------------------------------------------------------------------


def find_program(
    environment: Mapping[str, str], *, typed: str, executable: str, windows: bool = os.name == "nt"
) -> tuple[str, ...]:
    """The command that stays where it is when a new version is installed: a link or script on PATH that leads to this
    very install, else the one that was typed, else the one beside Python, else this Python with `-m agent`.

    `typed`: as in sys.argv[0]. On Windows a console program would keep a window open: there it is `pythonw`.
    """
    if windows:
        windowless = os.path.join(os.path.dirname(executable), "pythonw.exe")
        return (windowless if os.path.isfile(windowless) else os.path.abspath(executable), "-m", "agent")
    beside = os.path.join(os.path.dirname(os.path.abspath(executable)), NAME)
    named = os.path.abspath(typed) if os.path.basename(typed) == NAME else ""
    for candidate in [*_on_path(environment), named, beside]:
        if candidate and _is_program(candidate) and _leads_here(candidate, named, beside, executable):
            return (candidate,)
    return (os.path.abspath(executable), "-m", "agent")


def check_program(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises UsageError when it can't be started, ServiceError when it will be gone tomorrow."""
    program = command[0]
    if not os.path.isabs(program):
        raise UsageError(f"the command of a service begins with an absolute path, not with {program}")
    if not _is_program(program):
        raise UsageError(f"{program} is not there, or can't be run")
    temporary = (*_TEMPORARY, tempfile.gettempdir(), environment.get("TMPDIR", ""))
    places = {os.path.realpath(one) for one in temporary if one}
    real = os.path.realpath(program)
    if any(_is_below(one, place) for place in places - {os.sep} for one in (program, real)):
        raise ServiceError(
            f"{program} is in a temporary folder and would be gone one day",
            hint="install transcriptd for good, say by pipx, or name the program with --program",
        )


def _is_below(path: str, folder: str) -> bool:
    try:
        return os.path.commonpath([path, folder]) == folder
    except ValueError:  # another drive
        return False


def _on_path(environment: Mapping[str, str]) -> Iterator[str]:
    for folder in environment.get("PATH", os.defpath).split(os.pathsep):
        if os.path.isabs(folder) and (found := shutil.which(NAME, path=folder)):
            yield os.path.join(folder, os.path.basename(found))


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _leads_here(candidate: str, named: str, beside: str, executable: str) -> bool:
    """A link to our script, our script itself, or a script that names our Python."""
    ours = {os.path.realpath(one) for one in (named, beside) if one}
    return os.path.realpath(candidate) in ours or _interpreter(candidate) == os.path.abspath(executable)


def _interpreter(path: str) -> str:
    """What the first line of a script says, or runs: Homebrew's begin with `exec`, others with `#!`."""
    try:
        with open(path, "rb") as file:
            first = file.read(_SHEBANG_BYTES).split(b"\n", 1)[0]
    except OSError:
        return ""
    return os.fsdecode(first[2:].strip()) if first.startswith(b"#!") else ""


def make_spec(
    environment: Mapping[str, str],
    logs: Path,
    *,
    typed: str,
    executable: str,
    program: str = "",
    name: str = NAME,
    windows: bool = os.name == "nt",
    find: Callable[..., tuple[str, ...]] = find_program,
) -> tuple[ServiceSpec, list[str]]:
    """And warnings. `program`: one that the user named, instead of looking for it."""
    kept, warnings = capture_environment(environment)
    command = (
        (os.path.abspath(program),)
        if program
        else find(environment, typed=typed, executable=executable, windows=windows)
    )
    domain, user = environment.get("USERDOMAIN", ""), environment.get("USERNAME", "")
    owner = (f"{domain}\\{user}" if domain else user) if windows else ""
    return ServiceSpec((*command, "run"), kept, str(logs), name, owner), warnings
