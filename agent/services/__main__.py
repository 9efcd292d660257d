"""Writes service-files/ anew: what each system would get for a user named ada who installed transcriptd by pipx.

python -m agent.services [FOLDER]
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from agent.services.launchd import render_plist
from agent.services.spec import ServiceSpec
from agent.services.systemd import render_unit
from agent.services.windows import encode_task, render_task, render_wrapper

LINUX = ServiceSpec(
    ("/home/ada/.local/bin/transcriptd", "run"),
    (("CLAUDE_CONFIG_DIR", "/home/ada/.claude"),),
    "/home/ada/.local/state/transcriptd/log",
)
MACOS = ServiceSpec(
    ("/Users/ada/.local/bin/transcriptd", "run"),
    (("CLAUDE_CONFIG_DIR", "/Users/ada/.claude"),),
    "/Users/ada/Library/Logs/transcriptd",
)
WINDOWS = ServiceSpec(
    ("C:\\Users\\ada\\pipx\\venvs\\transcriptd\\Scripts\\pythonw.exe", "-m", "agent", "run"),
    (("CLAUDE_CONFIG_DIR", "C:\\Users\\ada\\.claude"),),
    "C:\\Users\\ada\\AppData\\Local\\transcriptd\\Logs",
    user="DESKTOP\\ada",
)
NEWEST = 257
"""A systemd that knows every key we write."""


def render_all() -> Mapping[str, bytes]:
    """File name → content."""
    return {
        "transcriptd.service": render_unit(LINUX, NEWEST).encode(),
        "transcriptd.plist": render_plist(MACOS).encode(),
        "transcriptd-task.xml": encode_task(render_task(WINDOWS)),
        "transcriptd-winsw.xml": render_wrapper(WINDOWS).encode(),
    }


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in render_all().items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "service-files"))
