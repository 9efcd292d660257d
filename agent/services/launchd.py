"""A launch agent of macOS: launchd.plist(5) and launchctl(1). Built to them; it has not been run on a Mac."""

import plistlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.errors import ServiceError, ServiceRefused
from agent.services.files import read_file, remove_file, write_file
from agent.services.runner import NOT_FOUND, Ran
from agent.services.spec import ServiceSpec
from agent.services.state import INSTALL, ServiceState, World, judge

LOOK_S = 0.25
GONE_WITHIN_S = 40.0
"""`bootout` returns before the agent has ended, which may take ExitTimeOut."""
RUNS_WITHIN_S = 15.0

_LOG = "launchd.log"
"""What is said before the agent's own log is open, and by Python when it dies."""

_NO_SUCH_SERVICE = {3, 113}
"""ESRCH, and launchd's own "Could not find service"."""
_IN_PROGRESS = {36, 37}
"""EINPROGRESS, EALREADY: the one before is still on its way out."""
_NO_DOMAIN = {112, 125}
"""launchd's own: nobody is logged in at the screen."""


def render_plist(spec: ServiceSpec) -> str:
    """XML, in which launchd reads no variables, tildes or wildcards."""
    log = f"{spec.logs.rstrip('/')}/{_LOG}"
    keys: dict[str, Any] = {
        "Label": spec.name,
        "ProgramArguments": list(spec.command),
        "EnvironmentVariables": dict(spec.environment),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 30,
        "ExitTimeOut": 30,
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "Nice": 10,
        "Umask": 0o077,
        "HardResourceLimits": {"Core": 0},
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    if not spec.environment:
        del keys["EnvironmentVariables"]
    return plistlib.dumps(keys, sort_keys=False).decode()


def parse_plist(content: bytes) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Command and environment; empty ones where it is no plist of ours."""
    try:
        keys = plistlib.loads(content)
        return tuple(keys["ProgramArguments"]), dict(keys.get("EnvironmentVariables", {}))
    except (plistlib.InvalidFileException, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return (), {}
    except Exception as exc:  # expat's own error has no public name that plistlib promises
        if type(exc).__name__ == "ExpatError":
            return (), {}
        raise


class Launchd:
    kind = "launchd"

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self._domain = f"gui/{world.uid}"
        self._target = f"{self._domain}/{name}"
        self._file = Path(world.home) / "Library" / "LaunchAgents" / f"{name}.plist"

    # --- what it is asked ---

    def render(self, spec: ServiceSpec) -> str:
        return render_plist(spec)

    def check(self) -> None:
        if self._launchctl("print-disabled", self._domain).status == NOT_FOUND:
            raise ServiceError("launchctl, which would start the service, is not here")
        if self._is_disabled():
            raise ServiceRefused(
                f"{self.name} is turned off in this Mac's Login Items",
                hint="turn it on in System Settings > General > Login Items & Extensions, or: "
                f"launchctl enable {self._target}",
            )

    def install(self, spec: ServiceSpec, *, outdated: bool) -> list[str]:
        self.check()
        done = []
        wanted, loaded = self.render(spec).encode(), self._print() is not None
        Path(spec.logs).mkdir(mode=0o700, parents=True, exist_ok=True)  # launchd makes files, and no folders
        changed = read_file(self._file) != wanted
        if changed:
            done.append(f"{self._file}: {'changed' if self._file.exists() else 'written'}")
            write_file(self._file, wanted)
        if loaded and changed:
            self._bootout()
        if changed or not loaded:
            self._bootstrap()
            self._wait_until_running()
            done.append("restarted" if loaded else "started: it starts with the login from now on")
        elif not self._is_running():
            self.start()
            done.append("started")
        elif outdated:
            self.restart()
            done.append("restarted: an older version was running")
        return done

    def uninstall(self) -> list[str]:
        if self._print() is not None:
            self._bootout()
        return [f"{self._file}: removed"] if remove_file(self._file) else []

    def start(self) -> None:
        self._need_file()
        if self._print() is None:
            self.check()
            self._bootstrap()
        else:
            self._do("kickstart", self._target)
        self._wait_until_running()

    def stop(self) -> None:
        """It ends by itself upon SIGTERM, successfully, so launchd leaves it alone until the next login."""
        if self._is_running():
            self._do("kill", "SIGTERM", self._target)
            self._wait(lambda: not self._is_running(), GONE_WITHIN_S, "it does not end")

    def restart(self) -> None:
        self._need_file()
        if self._print() is None:
            self.start()
            return
        self._do("kickstart", "-k", self._target)
        self._wait_until_running()

    def state(self, spec: ServiceSpec) -> ServiceState:
        written = read_file(self._file)
        if written is None:
            return ServiceState(self.kind, file=str(self._file), hint=INSTALL)
        command, environment = parse_plist(written)
        printed = self._print()
        disabled, pid = self._is_disabled(), _pid(printed or "")
        why, hint = judge(spec, command, environment, same=written == self.render(spec).encode()), INSTALL
        if not why and disabled:
            why, hint = "it is turned off in Login Items", f"launchctl enable {self._target}"
        elif not why and printed is None:
            why, hint = "launchd does not know it", "transcriptd service start"
        elif not why and not pid:
            status = _last_exit(printed or "")
            why, hint = (
                f"it ended with exit status {status}" if status else "it was stopped",
                "transcriptd service start",
            )
        enabled = not disabled
        return ServiceState(
            self.kind, True, enabled, bool(pid), str(self._file), command, why, hint if why else "", pid
        )

    def notes(self) -> list[tuple[str, str]]:
        return []

    # --- how ---

    def _launchctl(self, *arguments: str) -> Ran:
        return self._world.runner(["launchctl", *arguments])

    def _do(self, *arguments: str) -> None:
        ran = self._launchctl(*arguments)
        if ran.status:
            raise ServiceError(f"launchctl {arguments[0]} failed ({ran.status}): {ran.words}")

    def _print(self) -> str | None:
        """What launchd knows of it; None when it is not loaded."""
        ran = self._launchctl("print", self._target)
        return ran.out if ran.status == 0 else None

    def _is_running(self) -> bool:
        return bool(_pid(self._print() or ""))

    def _is_disabled(self) -> bool:
        """`"name" => disabled`, and `=> true` before macOS 13."""
        listed = self._launchctl("print-disabled", self._domain).out
        return bool(re.search(rf'^\s*"{re.escape(self.name)}" => (disabled|true)\s*$', listed, re.MULTILINE))

    def _need_file(self) -> None:
        if read_file(self._file) is None:
            raise ServiceError("the service is not installed", hint=INSTALL)

    def _bootstrap(self) -> None:
        deadline = self._world.monotonic() + GONE_WITHIN_S
        while (ran := self._launchctl("bootstrap", self._domain, str(self._file))).status in _IN_PROGRESS:
            if self._world.monotonic() > deadline:
                break
            self._world.sleep(LOOK_S)
        if ran.status in _NO_DOMAIN:
            hint = "log in at the screen of this Mac, then run it again"
            raise ServiceError("nobody is logged in at the screen, and so there is nothing to start it", hint=hint)
        if ran.status and self._print() is None:
            self.check()
            raise ServiceError(f"launchctl bootstrap failed ({ran.status}): {ran.words}")

    def _bootout(self) -> None:
        """Returns when it is gone: what is loaded again before that fails."""
        ran = self._launchctl("bootout", self._target)
        if ran.status and ran.status not in _NO_SUCH_SERVICE | _IN_PROGRESS:
            raise ServiceError(f"launchctl bootout failed ({ran.status}): {ran.words}")
        self._wait(lambda: self._print() is None, GONE_WITHIN_S, "launchd does not let go of it")

    def _wait_until_running(self) -> None:
        self._wait(self._is_running, RUNS_WITHIN_S, "the service does not start")

    def _wait(self, ready: Any, limit_s: float, words: str) -> None:
        deadline = self._world.monotonic() + limit_s
        while not ready():
            if self._world.monotonic() > deadline:
                status = _last_exit(self._print() or "")
                ended = f", it ended with exit status {status}" if status else ""
                hint = "transcriptd config check" if status == 78 else f"launchctl print {self._target}"
                raise ServiceError(f"{words} within {limit_s:.0f} s{ended}", hint=hint)
            self._world.sleep(LOOK_S)


def _pid(printed: str) -> int:
    """0 when it does not run. The job's own lines are indented by one tab, those of its parts by more."""
    found = re.search(r"^\t?pid = (\d+)$", printed, re.MULTILINE)
    return int(found[1]) if found else 0


def _last_exit(printed: str) -> int:
    found = re.search(r"^\t?last exit code = (\d+)", printed, re.MULTILINE)
    return int(found[1]) if found else 0
