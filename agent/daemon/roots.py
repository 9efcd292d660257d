"""Which folders are looked at; apart from who looks, so that a command need not load a daemon for it."""

import os
from collections.abc import Mapping

from agent.core.settings import Settings
from agent.daemon.scanner import Root
from agent.providers import watched_folders


def find_roots(settings: Settings, environment: Mapping[str, str]) -> list[Root]:
    """The folders to watch: those of the settings, else where each coding agent keeps its transcripts."""
    home = os.path.expanduser("~")
    return [
        Root(provider, os.path.realpath(os.path.expanduser(folder)))
        for provider, folder in watched_folders(settings.watch, environment, home)
    ]
