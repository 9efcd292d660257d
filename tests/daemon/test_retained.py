"""Whatever happens to a file that is not sent yet: what was retained of it arrives, and what is lost is said.

Links and copies, restarts, growth, rewriting, deletion and budgets in any order, drawn from seeds.
"""

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest

from agent.core.delivery.audit import AuditKind
from agent.core.delivery.lifecycle import State
from agent.core.transcripts.session import StreamId
from agent.core.wire import Request
from agent.daemon.status.report import Surroundings, report
from agent.delivery.retention.keeper import SWEEP_S
from agent.delivery.state.inputs import Retry
from agent.delivery.state.tasks import TrackKey
from tests.fakes import ScriptedServer, no_answer
from tests.simulation.server import ModelServer
from tests.simulation.world import DESTINATION, SimulatedAgent, entry

SEEDS = 60
STEPS = 14
SESSION = "s"
STREAM = StreamId(SESSION, "")
LINE_BYTES = 400
"""About; lines are of different lengths."""


class Story:
    """One transcript, one server that is mostly away, and what is owed: whole lines that were retained."""

    def __init__(self, folder: Path, seed: int, *, links: bool, kept_bytes: int) -> None:
        self.rng = random.Random(seed)
        self.links = links
        self.kept_bytes = kept_bytes
        self.away = True
        self.model = ModelServer()
        server = ScriptedServer(self.model, self._script)
        self.agent = SimulatedAgent(folder, server, seed, kept_bytes=kept_bytes)
        self.path = self.agent.path(SESSION)
        self.owed: set[bytes] = set()
        """Whole lines that a restart, a deletion or another file under the name must not cost."""
        self.deleted: set[bytes] = set()
        """Whole lines that were seen in a file that went away: they arrive, or somebody says that they don't."""
        self.told: list[str] = []

    def _script(self, _: Request) -> Any:
        return no_answer() if self.away else None

    # --- what happens -----------------------------------------------------------------------------------------

    def step(self) -> None:
        acts = [self.grow, self.grow, self.rest, self.rest, self.crash, self.replace_longer, self.replace]
        acts += [self.delete, self.begin_anew, self.rewrite, self.come_by]
        act = self.rng.choice(acts)
        self.told.append(act.__name__)
        act()

    def _lines(self) -> bytes:
        return b"".join(entry(self.rng) for _ in range(self.rng.randrange(1, 6)))

    def grow(self) -> None:
        self.agent.append(SESSION, self._lines())
        self._look()

    def _put(self, data: bytes) -> None:
        """A new file takes the name."""
        made = self.path.with_name("made")
        made.write_bytes(data)
        os.replace(made, self.path)

    def replace_longer(self) -> None:
        """As editors and tools that synchronise folders do it."""
        self._put((self.path.read_bytes() if self.path.exists() else b"") + self._lines())
        self._look()

    def replace(self) -> None:
        self._put(self._lines())
        self._look()

    def begin_anew(self) -> None:
        """Where files have other numbers than the one before on this disk, and where they have the same."""
        self.path.unlink(missing_ok=True)
        self.grow()

    def rewrite(self) -> None:
        """In place, which a link sees and a copy does not."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            file.truncate(0)
            file.write(self._lines())
        if self.links:
            self.owed.clear()
        self._look()

    def delete(self) -> None:
        before = self._watched()
        if before is not None and self.agent.track(SESSION).size == len(before):
            self.deleted.update(before.split(b"\n")[:-1])
        self.path.unlink(missing_ok=True)
        self.agent.look()
        self.agent.live_for(2)  # what happened a moment before a crash is not written yet

    def _look(self) -> None:
        if self.rng.random() < 0.7:
            self.agent.look(live=self.rng.random() < 0.5)

    def crash(self) -> None:
        self.agent.crash()

    def rest(self) -> None:
        """Long enough for everything that can be retained."""
        self.agent.look()
        self.agent.live_for(2 * SWEEP_S + 1)
        content = self._watched()
        assert self._copied() <= self.kept_bytes, f"copies take {self._copied()} of {self.kept_bytes} bytes"
        if content is not None and self.agent.engine.keeper.is_safe(STREAM):
            self.owed.update(content.split(b"\n")[:-1])
        elif content is not None and self.agent.state(SESSION) is not State.SYNCED:
            assert self._problems(), "it can't be retained, and nobody says so"

    def come_by(self) -> None:
        """The server is there for a while."""
        self.away = False
        self.agent.engine.handle(Retry())
        self.agent.look()
        self.agent.settle()
        self.away = True

    # --- what must hold ---------------------------------------------------------------------------------------

    def _watched(self) -> bytes | None:
        """What the file holds that stands for the stream, if that is the one of the coding agent."""
        track = self.agent.engine.tracks.get(TrackKey(DESTINATION, SESSION, ""))
        if track is None or track.state is State.GONE or track.path != str(self.path) or not self.path.exists():
            return None
        return self.path.read_bytes()

    def _copied(self) -> int:
        """Bytes that are there because of us and nobody else."""
        return sum(one.size for one in self.agent.kept.list_kept()) if not self.links else 0

    def _problems(self) -> list[str]:
        around = Surroundings(1, 0.0, (), (), 0, ())
        return [what for what, _ in report(self.agent.engine, around).problems if "retained" in what or "lost" in what]

    def _stored(self) -> set[bytes]:
        session = self.model.sessions.get(SESSION)
        made = session.streams.values() if session else ()
        return {line for one in made for generation in one.generations.values() for line in generation.lines}

    def end(self) -> None:
        self.come_by()
        self.away = False
        self.agent.look()
        self.agent.settle()
        self.agent.live_for(3 * SWEEP_S)
        self.agent.settle()
        missing = self.owed - self._stored()
        assert not missing, f"{len(missing)} of {len(self.owed)} retained lines are lost"
        if self.path.exists():
            streams = self.model.sessions[SESSION].streams.values()  # one that went another way is one of its own
            current = [bytes(one.current.data) for one in streams if one.current is not None]
            assert self.path.read_bytes() in current, "what stands there now is not current on the server"
        if self.deleted - self._stored():
            assert any(row.kind == AuditKind.LOST for row in self.agent.store.audit()), "nobody says what is lost"
        assert not list(self.agent.kept.list_kept()), "what is sent is let go"
        assert self.agent.holding.copied_bytes == 0, "what is let go leaves the sum"


@pytest.fixture(params=["links", "copies"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    if request.param == "copies":
        monkeypatch.setattr(os, "link", refuse)
    return bool(request.param == "links")


@pytest.mark.parametrize("kept_bytes", [1 << 30, 4 * LINE_BYTES, 0], ids=["roomy", "narrow", "none"])
def test_what_was_retained_arrives_whatever_happens_to_the_file(tmp_path: Path, links: bool, kept_bytes: int) -> None:
    for seed in range(SEEDS // 6):
        story = Story(tmp_path / str(seed), seed, links=links, kept_bytes=kept_bytes)
        try:
            for _ in range(STEPS):
                story.step()
            story.end()
        except AssertionError as exc:
            raise AssertionError(f"seed {seed}: {exc}; {story.told}") from exc
        finally:
            story.agent.close()
