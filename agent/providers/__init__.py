"""The coding agents that are known: a module and a row each."""

from collections.abc import Iterator, Mapping

from agent.core.session import Provider
from agent.core.settings import AGENTS, Watch
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
    for name, provider in PROVIDERS.items():
        if name in watch.agents or name not in AGENTS:
            for folder in watch.folders(name) or provider.roots(environment, home):
                yield provider, folder
