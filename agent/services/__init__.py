"""How the agent is started with the session, and kept running, by what each system has for that.

`render` is pure in each; commands go through a runner that is handed in.
"""

import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from agent.services.runner import Ran, Runner, run_command
from agent.services.spec import NAME, ServiceSpec, make_spec
from agent.services.state import ServiceManager, ServiceState, World


class PathsLike(Protocol):
    @property
    def state(self) -> Path: ...
    @property
    def logs(self) -> Path: ...
    @property
    def socket(self) -> Path: ...


def open_manager(world: World, name: str = NAME, platform: str = sys.platform) -> ServiceManager:
    """What starts services on this platform."""
    if platform == "darwin":
        from agent.services.launchd import Launchd

        return Launchd(world, name)
    if platform == "win32":
        from agent.services.windows import Windows

        return Windows(world, name)
    from agent.services.systemd import Systemd

    return Systemd(world, name)


def make_world(environment: Mapping[str, str], paths: PathsLike, runner: Runner = run_command) -> World:
    import os

    home = environment.get("USERPROFILE" if os.name == "nt" else "HOME") or os.path.expanduser("~")
    return World(
        environment,
        Path(home),
        paths.state,
        runner,
        uid=os.getuid() if os.name == "posix" else -1,
        answers=lambda: _answers(paths.socket),
    )


def _answers(address: Path) -> bool:
    """Whether an agent listens on its loopback port, which stands in that file on Windows."""
    try:
        port = int(address.read_text(encoding="ascii").split()[0])
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except (OSError, ValueError, IndexError):
        return False
    return True


def find_service(
    environment: Mapping[str, str],
    paths: PathsLike,
    runner: Runner = run_command,
    *,
    name: str = NAME,
    platform: str = sys.platform,
    typed: str | None = None,
    executable: str = sys.executable,
) -> ServiceState:
    """How the service stands, beside what this very install would write. Changes nothing, takes one or two commands of
    the system, and gives `kind` "" where there is nothing to ask."""
    manager = open_manager(make_world(environment, paths, runner), name, platform)
    spec, _ = make_spec(
        environment,
        paths.logs,
        typed=sys.argv[0] if typed is None else typed,
        executable=executable,
        name=name,
        windows=platform == "win32",
    )
    return manager.state(spec)


__all__ = [
    "NAME",
    "Ran",
    "Runner",
    "ServiceManager",
    "ServiceSpec",
    "ServiceState",
    "World",
    "find_service",
    "make_spec",
    "make_world",
    "open_manager",
    "run_command",
]
