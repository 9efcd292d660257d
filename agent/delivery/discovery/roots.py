"""Which folders are looked at; apart from who looks, so that a command need not load a daemon for it."""

import os
from collections.abc import Mapping

from agent.core.settings import Settings
from agent.delivery.discovery.scanner import Root
from agent.providers import named_homes, watched_folders
from agent.system.files import reading as files


def find_roots(settings: Settings, environment: Mapping[str, str]) -> list[Root]:
    """The folders to watch: those of the settings, else where each coding agent keeps its transcripts."""
    home = os.path.expanduser("~")
    found: dict[str, Root] = {}
    for provider, folder in watched_folders(settings.watch, environment, home):
        path = os.path.realpath(os.path.expanduser(folder))
        found.setdefault(path, Root(provider, path))  # one may be a link to another
    return list(found.values())


def find_lost_homes(settings: Settings, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """A variable of the environment, and the folder that it names as a coding agent's and that is not there. One that
    is where it would be anyway may come."""
    home = os.path.expanduser("~")
    return [
        (provider.variable, folder)
        for provider, folder in named_homes(settings.watch, environment)
        if files.is_missing(os.path.realpath(os.path.expanduser(folder)))
        and not set(provider.roots({provider.variable: folder}, home)) & set(provider.roots({}, home))
    ]
