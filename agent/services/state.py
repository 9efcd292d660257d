"""How a service stands, and what every service manager is handed."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from agent.services.runner import Runner, run_command, spawn_detached
from agent.services.spec import NAME, ServiceSpec


class ServiceState(NamedTuple):
    """`kind`: "systemd", "launchd", "windows task", "windows run key"; empty where there is none. `command`: what it
    starts. `why`: what is wrong, empty if nothing is. `hint`: the next command to type. `since_s`: wall time."""

    kind: str
    installed: bool = False
    enabled: bool = False
    active: bool = False
    file: str = ""
    command: tuple[str, ...] = ()
    why: str = ""
    hint: str = ""
    pid: int = 0
    since_s: float | None = None


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside that a service manager touches. `uid`: -1 on Windows. `answers`: whether an agent of this home
    does; `state`: the folder of its state."""

    environment: Mapping[str, str]
    home: Path
    state: Path
    runner: Runner = run_command
    uid: int = -1
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    answers: Callable[[], bool] = lambda: False
    spawn: Callable[[tuple[str, ...]], None] = spawn_detached


class ServiceManager(Protocol):
    """`kind`: as in ServiceState. All raise ServiceError when the system does not do what it is asked."""

    name: str

    @property
    def kind(self) -> str: ...
    def render(self, spec: ServiceSpec) -> str: ...
    def check(self) -> None:
        """Raises when nothing can be installed here, before anything is."""

    def install(self, spec: ServiceSpec, *, outdated: bool) -> list[str]:
        """What was done; nothing when all was well. `outdated`: the agent that runs is of another version."""

    def uninstall(self) -> list[str]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def restart(self) -> None: ...
    def state(self, spec: ServiceSpec) -> ServiceState:
        """`spec`: what would be installed now, to compare with. Changes nothing, and never raises for a system that
        does not answer."""

    def notes(self) -> list[tuple[str, str]]:
        """What the owner should know of an installed service that works: words and a command."""


def judge(spec: ServiceSpec, command: tuple[str, ...], environment: Mapping[str, str], *, same: bool) -> str:
    """What is wrong with an installed file beside what would be written now, as words; empty if nothing is."""
    if not command:
        return "its file is not one of transcriptd"
    if not (os.path.isfile(command[0]) and os.access(command[0], os.X_OK)):
        return f"it starts {command[0]}, which is not there"
    if environment.get("TRANSCRIPTD_HOME") != dict(spec.environment).get("TRANSCRIPTD_HOME"):
        return f"{FOREIGN} {environment.get('TRANSCRIPTD_HOME') or 'that of its user'}"
    if command != spec.command:
        return f"it starts {' '.join(command)}, and this is {' '.join(spec.command)}"
    wanted = dict(spec.environment)
    if differing := sorted(name for name in {*wanted, *environment} if wanted.get(name) != environment.get(name)):
        return f"it was installed with another {', '.join(differing)}"
    return "" if same else "its file is not what this version writes"


INSTALL = f"{NAME} service install"
FOREIGN = "it is for another home:"
