"""What to type so that an agent runs: the first step that was not taken yet. Looks at files only, and imports next to
nothing: whoever asks wants to know in a moment."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from agent.errors import AgentError
from agent.system.paths import Paths

LOGIN = "transcriptd login URL"

_SERVICE = "transcriptd"
"""`agent.services.NAME`, without the import."""


def next_step(paths: Paths, environment: Mapping[str, str]) -> str:
    from agent.cli.config import load_settings

    try:
        return next_start(environment) if load_settings(paths).destinations else LOGIN
    except AgentError:
        return "transcriptd config check"


def next_start(environment: Mapping[str, str]) -> str:
    """Where a server is named."""
    if os.name == "posix" and os.getuid() == 0:
        return "transcriptd run"  # a service of root is refused
    return "transcriptd service start" if has_service(environment) else "transcriptd service install"


def has_service(environment: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a service seems to be installed. A task of Windows has no file: `install` starts that one, too."""
    home = Path(environment.get("HOME") or os.path.expanduser("~"))
    if platform == "darwin":
        return (home / "Library" / "LaunchAgents" / f"{_SERVICE}.plist").is_file()
    folders = [Path(environment.get("XDG_CONFIG_HOME") or home / ".config"), home / ".config"]
    return platform != "win32" and any((one / "systemd" / "user" / f"{_SERVICE}.service").is_file() for one in folders)
