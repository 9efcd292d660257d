"""Coding agents that are not known yet, by where they keep their sessions, so that somebody can be told that those are
not followed. Nothing in these folders is looked into. Places as their documentation and programs that read them name
them (ccusage's guide to environment variables; AgentWorkforce/relayhistory#214).
"""

import posixpath
from collections.abc import Iterator, Mapping

_HOME, _CONFIG, _DATA, _APPLICATIONS = "home", "config", "data", "applications"

OTHERS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Amp": ((_DATA, "amp"),),
    "Cline": (
        (_CONFIG, "Code/User/globalStorage/saoudrizwan.claude-dev"),
        (_APPLICATIONS, "Code/User/globalStorage/saoudrizwan.claude-dev"),
        (_HOME, ".cline/data"),
    ),
    "Codebuff": ((_CONFIG, "manicode"),),
    "Continue": ((_HOME, ".continue/sessions"),),
    "Cursor": ((_HOME, ".cursor/projects"), (_CONFIG, "Cursor/User"), (_APPLICATIONS, "Cursor/User")),
    "Droid": ((_HOME, ".factory/sessions"),),
    "Goose": ((_DATA, "goose"),),
    "Kilo": ((_DATA, "kilo"),),
    "Kimi": ((_HOME, ".kimi/sessions"), (_HOME, ".kimi-code/sessions")),
    "Kiro": ((_HOME, ".kiro/sessions"), (_DATA, "kiro-cli")),
    "opencode": ((_DATA, "opencode"),),
    "Pi": ((_HOME, ".pi/agent/sessions"),),
    "Qwen Code": ((_HOME, ".qwen/projects"), (_HOME, ".qwen/tmp")),
    "Windsurf": ((_HOME, ".codeium/windsurf/cascade"),),
}
"""What people call it → its folders, each below the home folder, or the place that the system has for settings, data or
what applications keep."""


def other_folders(environment: Mapping[str, str], home: str) -> Iterator[tuple[str, str]]:
    """What it is called, and a folder that is there where it was used; several of one."""
    bases = {
        _HOME: home,
        _CONFIG: environment.get("XDG_CONFIG_HOME") or posixpath.join(home, ".config"),
        _DATA: environment.get("XDG_DATA_HOME") or posixpath.join(home, ".local/share"),
        _APPLICATIONS: posixpath.join(home, "Library/Application Support"),
    }
    for title, places in OTHERS.items():
        for base, below in places:
            yield title, posixpath.join(bases[base], below)
