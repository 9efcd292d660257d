"""A user unit of systemd. What each key does is in systemd.service(5) and systemd.exec(5)."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.errors import ServiceError, ServiceRefused
from agent.services.files import read_file, remove_empty_folders, remove_file, write_file
from agent.services.runner import Ran
from agent.services.spec import ServiceSpec
from agent.services.state import INSTALL, ServiceState, World, judge

OLDEST = 239
"""The oldest that a distribution with Python 3.11 has (RHEL 8)."""

_BACKOFF_FROM = 254
"""RestartSteps= and RestartMaxDelaySec=; older ones complain of them in the journal."""

_HEAD = """\
# Written by `transcriptd service install`, which writes it anew. What you want otherwise goes into a drop-in:
# systemctl --user edit {name}
[Unit]
Description=transcriptd, keeps a server's copy of coding-agent transcripts
# It goes on trying for as long as it takes: a machine that was away for a week is no reason to give up.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{environment}ExecReload=/bin/sh -c "kill -HUP $MAINPID"
TimeoutStartSec=120
TimeoutStopSec=30
WatchdogSec=180
Restart=on-failure
RestartSec=5
{backoff}# Wrong settings stay wrong until somebody changes them.
RestartPreventExitStatus=78

# What it makes is its user's alone, and no picture of its memory is ever written.
UMask=0077
LimitCORE=0

# Others go first.
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
CPUWeight=20
IOWeight=20

# What works in user units. Not here: what they ignore (ProtectSystem=, ProtectHome=, PrivateTmp=) and what keeps them
# from starting (PrivateDevices=, ProtectKernel…=, ProtectClock=, CapabilityBoundingSet=).
NoNewPrivileges=yes
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
SystemCallArchitectures=native
MemoryDenyWriteExecute=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
LockPersonality=yes

[Install]
WantedBy=default.target
"""

_NOT_IN_PROGRAMS = "\"'\\"
"""systemd refuses a program with one of these in its path, however they are written; arguments may have them."""

_BY_SHELL = ("/bin/sh", "-c", 'exec "$0" "$@"')

_BACKOFF = "RestartSteps=8\nRestartMaxDelaySec=300\n"


def render_unit(spec: ServiceSpec, version: int) -> str:
    """`version`: of the systemd that reads it."""
    odd = any(one in spec.command[0] for one in _NOT_IN_PROGRAMS)
    first, *rest = (*_BY_SHELL, *spec.command) if odd else spec.command
    command = " ".join([_quote(first), *(_quote(one.replace("$", "$$")) for one in rest)])
    return _HEAD.format(
        name=f"{spec.name}.service",
        command=command,
        environment="".join(
            f"Environment={_quote(f'{key}={value}', always=True)}\n" for key, value in spec.environment
        ),
        backoff=_BACKOFF if version >= _BACKOFF_FROM else "",
    )


def _quote(text: str, *, always: bool = False) -> str:
    """One word of a unit's line. `$` means something in arguments only, and nothing in the program's own path."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    plain = re.fullmatch(r"[A-Za-z0-9_./=@:,+%$-]+", escaped) and not always
    return escaped if plain else f'"{escaped}"'


def parse_unit(text: str) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Command and environment of a unit that `render_unit` wrote; empty ones of anybody else's."""
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == "ExecStart":
            first, *rest = [*_words(value)] or [""]
            command = (first, *(one.replace("$$", "$") for one in rest))
            command = command[len(_BY_SHELL) :] if command[: len(_BY_SHELL)] == _BY_SHELL else command
        elif key == "Environment":
            for word in _words(value):
                name, _, content = word.partition("=")
                environment[name] = content
    return command, environment


def _words(line: str) -> Iterator[str]:
    for found in re.finditer(r'"((?:[^"\\]|\\.)*)"|(\S+)', line):
        word = found[1] if found[1] is not None else found[2]
        yield re.sub(r"\\(.)", r"\1", word).replace("%%", "%")


class Systemd:
    kind = "systemd"

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self._unit = f"{name}.service"
        self._facts: Mapping[str, str] | None = None
        self._systemd: int | None = None

    # --- what it is asked ---

    def render(self, spec: ServiceSpec) -> str:
        return render_unit(spec, self._version() or _BACKOFF_FROM)

    def check(self) -> None:
        version = self._version()
        if version is None:
            hint = "transcriptd run keeps it in the foreground"
            raise ServiceError("systemd, which would start the service, is not here", hint=hint)
        if version < OLDEST:
            raise ServiceError(f"systemd {version} is too old: {OLDEST} is the oldest that will do")
        self._ask_manager()
        if self._show().get("UnitFileState") == "masked":
            raise ServiceRefused(f"{self._unit} is masked", hint=f"systemctl --user unmask {self._unit}")

    def install(self, spec: ServiceSpec, *, outdated: bool) -> list[str]:
        self.check()
        done = []
        file, wanted = self._file(), self.render(spec).encode()
        changed = read_file(file) != wanted
        if changed:
            done.append(f"{file}: {'changed' if file.exists() else 'written'}")
            write_file(file, wanted)
        if changed or self._show().get("NeedDaemonReload") == "yes":
            self._do("daemon-reload")
        shown = self._show()
        if shown.get("UnitFileState") != "enabled":
            self._do("enable", self._unit)
            done.append("enabled: it starts with the session")
        if shown.get("ActiveState") not in {"active", "reloading"}:
            self.start()
            done.append("started")
        elif changed or outdated:
            self.restart()
            done.append("restarted" if changed else "restarted: an older version was running")
        return done

    def uninstall(self) -> list[str]:
        """Where the user's manager can't be reached, what lies on the disk goes all the same."""
        file, done = self._file(), []
        wanted_by = file.with_name("default.target.wants") / self._unit
        there = file.exists() or os.path.lexists(wanted_by)
        reachable = self._reached()
        if there and reachable:
            self._systemctl("disable", "--now", self._unit)
        if there:
            remove_file(wanted_by)
            remove_file(file)
            done.append(f"{file}: removed")
            remove_empty_folders(wanted_by.parent, up_to=self._world.home)
            remove_empty_folders(file.parent, up_to=self._world.home)
        if there and reachable:
            self._systemctl("daemon-reload")
            self._systemctl("reset-failed", self._unit)
        drop_ins = file.with_name(f"{self._unit}.d")
        if there and drop_ins.is_dir():
            done.append(f"{drop_ins}: left, it is yours")
        return done

    def start(self) -> None:
        self._do("start", self._unit)

    def stop(self) -> None:
        self._do("stop", self._unit)

    def restart(self) -> None:
        self._do("restart", self._unit)

    def state(self, spec: ServiceSpec) -> ServiceState:
        file = self._file()
        written = read_file(file)
        if written is None:
            return ServiceState(self.kind, file=str(file), hint=INSTALL)
        text = written.decode(errors="replace")
        command, environment = parse_unit(text)
        shown = self._show()
        enabled, active = shown.get("UnitFileState") == "enabled", shown.get("ActiveState") in {"active", "reloading"}
        why, hint = judge(spec, command, environment, same=text == self.render(spec)), INSTALL
        if not why and not shown:
            why, hint = "the user's systemd can't be reached", self._hint_without_manager()
        elif not why and not enabled:
            why = "it does not start with the session"
        elif not why and not active:
            why, hint = _why_inactive(shown), "transcriptd service start"
            if shown.get("Result", "success") != "success":
                hint = "transcriptd logs"
        return ServiceState(
            self.kind,
            True,
            enabled,
            active,
            str(file),
            command,
            why,
            hint if why else "",
            int(shown.get("MainPID") or 0),
            self._since(shown) if active else None,
        )

    def notes(self) -> list[tuple[str, str]]:
        lingers = self._world.runner(["loginctl", "show-user", str(self._world.uid), "--property=Linger", "--value"])
        if lingers.status == 0 and lingers.out.strip() == "no":
            words = "it ends with your last session; to keep it running, and to start it with the machine"
            return [(words, "loginctl enable-linger")]
        return []

    # --- how ---

    def _file(self) -> Path:
        """The first of its usual places that the manager reads: what a shell has for XDG_CONFIG_HOME, the manager may
        not know."""
        usual = Path(self._world.home) / ".config"
        named = Path(self._world.environment.get("XDG_CONFIG_HOME") or usual)
        read = self._ask().get("UnitPath", "").split()
        folders = [one / "systemd" / "user" for one in (named, usual)]
        return next((one for one in folders if str(one) in read), folders[0]) / self._unit

    def _version(self) -> int | None:
        """None where there is no systemd; asked once."""
        if self._systemd is not None:
            return self._systemd
        ran = self._world.runner(["systemctl", "--version"])
        found = re.match(r"systemd (\d+)", ran.out)
        self._systemd = int(found[1]) if ran.status == 0 and found else None
        return self._systemd

    def _ask(self) -> Mapping[str, str]:
        """What the user's manager says of itself, asked once; nothing where it can't be reached."""
        if self._facts is None:
            ran = self._systemctl("show", "--property=Version", "--property=UnitPath")
            self._facts = _parse_properties(ran.out) if ran.status == 0 else {}
        return self._facts

    def _reached(self) -> bool:
        return bool(self._ask())

    def _ask_manager(self) -> None:
        if not self._reached():
            raise ServiceError(
                "the systemd of this user can't be reached: there is no session of theirs",
                hint=self._hint_without_manager(),
            )

    def _hint_without_manager(self) -> str:
        return "log in as this user, on the machine or by ssh; or: sudo loginctl enable-linger " + (
            self._world.environment.get("USER") or str(self._world.uid)
        )

    def _show(self) -> Mapping[str, str]:
        names = "LoadState UnitFileState ActiveState SubState MainPID ExecMainStatus Result NRestarts NeedDaemonReload"
        wanted = [f"--property={name}" for name in [*names.split(), "ActiveEnterTimestampMonotonic"]]
        ran = self._systemctl("show", self._unit, *wanted)
        return _parse_properties(ran.out) if ran.status == 0 else {}

    def _since(self, shown: Mapping[str, str]) -> float | None:
        entered_us = int(shown.get("ActiveEnterTimestampMonotonic") or 0)
        return self._world.now() - (self._world.monotonic() - entered_us / 1e6) if entered_us else None

    def _do(self, *arguments: str) -> None:
        self._ask_manager()
        ran = self._systemctl(*arguments)
        if ran.status == 0:
            return
        shown = self._show()
        if arguments[0] in {"start", "restart"} and shown.get("LoadState") == "not-found":
            raise ServiceError("the service is not installed", hint=INSTALL)
        if arguments[0] in {"start", "restart"} and shown.get("Result") not in {None, "success"}:
            wrong = shown.get("ExecMainStatus") == "78"
            raise ServiceError(
                f"the service does not start: {_why_inactive(shown)}",
                hint="transcriptd config check" if wrong else "transcriptd logs",
            )
        raise ServiceError(f"systemctl --user {arguments[0]} failed ({ran.status}): {ran.words}")

    def _systemctl(self, *arguments: str) -> Ran:
        """A shell that came by `su` lacks the way to a manager that is there all the same."""
        way = f"/run/user/{self._world.uid}"
        known = self._world.environment.get("XDG_RUNTIME_DIR") or not os.path.isdir(way)
        return self._world.runner(
            [*([] if known else ["env", f"XDG_RUNTIME_DIR={way}"]), "systemctl", "--user", *arguments]
        )


def _parse_properties(text: str) -> Mapping[str, str]:
    return {key: value for key, _, value in (line.partition("=") for line in text.splitlines())}


def _why_inactive(shown: Mapping[str, str]) -> str:
    status, result = shown.get("ExecMainStatus", "0"), shown.get("Result", "success")
    if shown.get("SubState") == "auto-restart":
        return f"it ended with exit status {status} and is about to start again"
    if result == "exit-code":
        return f"it ended with exit status {status}" + (": the settings are wrong" if status == "78" else "")
    if result == "watchdog":
        return "it was ended by the watchdog: a part of it stood still"
    return "it was stopped" if result == "success" else f"it failed: {result}"
