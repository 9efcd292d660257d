"""Words on the desktop: by a process that lives for one of them (`child`), since what it takes to show one is nobody
else's memory and may hang. Linux and its likes: org.freedesktop.Notifications over the session's bus, spoken by
`jeepney`. macOS: `osascript`. Windows: a toast by PowerShell.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import agent

LIMIT_S = 10.0
_SECRETS = ("TRANSCRIPTD_TOKEN", "CREDENTIALS_DIRECTORY")


class Shown(StrEnum):
    SHOWN = "shown"
    NOBODY = "nobody"
    """No desktop, or none that shows such things."""
    FAILED = "failed"


def show(title: str, body: str) -> tuple[Shown, str]:
    """Whether it was shown, and why not. Never raises, and takes `LIMIT_S` at most."""
    # `-m` looks in the current folder first, and users have folders named agent: ours is the one beside this file.
    home_of_package = Path(agent.__file__).resolve().parent.parent
    try:
        done = subprocess.run(
            [sys.executable, "-m", "agent.system.notify.child"],
            input=json.dumps({"title": title, "body": body}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home_of_package,
            env=child_environment(os.environ),
            text=True,
            encoding="utf-8",
            timeout=LIMIT_S,
            check=False,
        )
        answer = json.loads(done.stdout)
        return Shown(answer["is"]), str(answer["why"])
    except subprocess.TimeoutExpired:
        return Shown.FAILED, f"no answer within {LIMIT_S:.0f} s"
    except (OSError, ValueError, KeyError, TypeError) as exc:
        return Shown.FAILED, type(exc).__name__


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """All but secrets, and the way to the session's bus where only its usual place tells it (cron, ssh)."""
    kept = {name: value for name, value in environment.items() if name not in _SECRETS}
    bus = os.path.join(kept.get("XDG_RUNTIME_DIR", ""), "bus")
    if "DBUS_SESSION_BUS_ADDRESS" not in kept and os.path.isabs(bus) and os.path.exists(bus):
        kept["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={bus}"
    return kept
