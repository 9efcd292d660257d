"""The coding agents that are known: a module and a row each."""

from collections.abc import Iterator, Mapping

from agent.core.settings import AGENTS, Watch
from agent.core.transcripts.session import Provider
from agent.providers import claude, codex, copilot, gemini

PROVIDERS: Mapping[str, Provider] = {
    claude.name: claude,
    codex.name: codex,
    gemini.name: gemini,
    copilot.name: copilot,
}


def watched_folders(watch: Watch, environment: Mapping[str, str], home: str) -> Iterator[tuple[Provider, str]]:
    """The folders to follow, as they are written: those of the settings, else where each coding agent keeps its
    transcripts; none of an agent that is switched off (one that has no switch yet is on)."""
    for provider in _followed(watch):
        for folder in watch.folders(provider.name) or provider.roots(environment, home):
            yield provider, folder


def named_homes(watch: Watch, environment: Mapping[str, str]) -> Iterator[tuple[Provider, str]]:
    """The folders that the environment names and that count: each is somebody's word that it is there."""
    for provider in _followed(watch):
        for folder in () if watch.folders(provider.name) else provider.named_homes(environment):
            yield provider, folder


def _followed(watch: Watch) -> Iterator[Provider]:
    for name, provider in PROVIDERS.items():
        if name in watch.agents or name not in AGENTS:
            yield provider
