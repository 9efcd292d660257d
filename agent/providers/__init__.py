"""The coding agents that are known: a module and a row each."""

from collections.abc import Mapping

from agent.core.session import Provider
from agent.providers import claude

PROVIDERS: Mapping[str, Provider] = {claude.name: claude}
