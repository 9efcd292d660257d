"""What to type so that an agent runs: the first step that was not taken yet."""

import os
from collections.abc import Mapping

from agent.errors import AgentError
from agent.system.paths import Paths

LOGIN = "transcriptd login URL"


def next_step(paths: Paths, environment: Mapping[str, str]) -> str:
    """Looks at files only: whoever asks wants to know in a moment."""
    from agent.cli.config import load_settings
    from agent.services import has_file

    try:
        if not load_settings(paths).destinations:
            return LOGIN
    except AgentError:
        return "transcriptd config check"
    if os.name == "posix" and os.getuid() == 0:
        return "transcriptd run"  # a service of root is refused
    return "transcriptd service start" if has_file(environment) else "transcriptd service install"
