"""A scanner over one folder of Claude Code's transcripts, and what it told."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.core.transcripts.session import Gone, Observation, StreamId
from agent.delivery.discovery.scanner import Root, Scanner
from agent.providers import claude


class Told:
    """A scanner over one root, and what it told since somebody asked last."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scanner = Scanner([Root(claude, str(root))], self._observed, self._vanished)
        self.chunks: list[tuple[list[Observation], bool]] = []
        self._gone: list[str] = []

    def _observed(self, observations: Sequence[Observation], live: bool) -> None:
        self.chunks.append((list(observations), live))

    def _vanished(self, gone: list[Gone]) -> None:
        self._gone += [one.path for one in gone]

    def seen(self) -> list[Observation]:
        found = [one for chunk, _ in self.chunks for one in chunk]
        self.chunks.clear()
        return sorted(found)

    def streams(self) -> list[StreamId]:
        return [one.stream for one in self.seen()]

    def gone(self) -> list[str]:
        """Paths below the root."""
        found = sorted(os.path.relpath(path, self.root) for path in self._gone)
        self._gone.clear()
        return found

    def scan(self) -> list[StreamId]:
        self.scanner.scan()
        return self.streams()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "projects"
    folder.mkdir()
    return folder


@pytest.fixture
def told(root: Path) -> Told:
    return Told(root)
