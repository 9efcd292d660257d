"""Every seed's story ends well: nothing lost, nothing twice, nothing mixed. `make soak` tries a million."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.core.transcripts.session import FILES, StreamId
from agent.core.wire import RawReply, Reply, Request, Unavailable, decide_upload_reply
from agent.delivery.discovery.scanner import Scanner
from agent.delivery.engine.engine import Engine
from agent.delivery.push.pusher import Pusher
from agent.delivery.state.tasks import Outcome, Pushed, PushTask, Task
from agent.receiver.bodies import Limits
from agent.system.files.keeping import KeptFiles
from agent.system.state.state_db import open_state
from tests.fakes import FakeClock, receiver_without_network
from tests.reliability import MakeTally
from tests.simulation import links, operations, server, sidefiles, uploads
from tests.simulation.real import RealFolder
from tests.simulation.seeds import REPOSITORY, quiet, run_seeds, try_seed
from tests.simulation.server import Generation, ModelServer, Target
from tests.simulation.story import Story
from tests.simulation.there import SECOND, SECOND_NAMES
from tests.simulation.twin import Twin

SEEDS = int(os.environ.get("TRANSCRIPTD_SEEDS") or (3_000 if os.environ.get("TRANSCRIPTD_CI") else 1_000))
"""How many seeds; more in CI, and 10,000 for docs/reliability.md."""

PARTS = 10
WORKERS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
"""Of a part. Where parts run beside each other, one is enough."""

SEEDS_THAT_BIT = {
    56: "a file that moved while it was looked for was never sent: its rival did not take over",
    187: "a synced file that moved while no agent ran was never followed to its new place",
    298: "a flat subagent that went away while no agent ran was asked for without end",
    393: "a tombstone was made of another entry than the one that was refused",
    1671: "a stale tombstone took the place of a good entry of the next generation",
    1775: "a run of single entries, handed out before the server took batches again, left out those without uuid",
    2788: "a session deleted on the server was sent again when its file moved",
    3168: "a session that was sent one by one for a moment lacked its entries without uuid for good",
    5070: "a file rewritten in place between two looks of one push mixed two versions in a generation",
    205: "a private session that was sent stayed on the server when the state was damaged",
    845: "a session that was private no more stayed here, since its file could not be read just then",
    889: "a session that was marked, shared and marked again before the server heard of it was not deleted",
    8237: "the same, of a file that was found only after the first scan",
    4147: "what arrived without an answer stayed on the server when the file was cut to where the cursor stood",
    5357: "a copy was private for good, as found under rules that were others when the engine heard of it",
    116: "a session that a crash made suspect, marked, shared and marked again in a pause, was not deleted",
    6606: "what was held of a second file was let go when others took both places",
    9387: "a base server got the smaller of two files first, and the larger one passed for sent by its last uuid",
    10534: "what was held of a file took the place of the one that was sent in its stead",
    13890: "the same, of a file that had moved while it was sent",
    7136: "a base server that lost everything between two questions had the session refused",
}
"""What a seed found once, by the number that it had then. A story follows from everything that can happen in one: when
that changes, a seed tells another story. So what was found has a test of its own in `tests/daemon/test_found.py`."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


@pytest.mark.parametrize("part", range(PARTS))
def test_every_story_ends_well(part: int, tally: MakeTally) -> None:
    noted = tally("nothing is lost, repeated or mixed", "whatever a seed draws, in virtual time")
    count = SEEDS // PARTS
    done, failed = run_seeds(part * count, count, workers=WORKERS)
    noted.note(done, lost=len(failed))
    assert not failed, "\n".join(map(str, failed[:20]))
    assert done == count


@pytest.mark.parametrize("seed", SEEDS_THAT_BIT)
def test_a_seed_that_bit_bites_no_more(seed: int) -> None:
    assert try_seed(seed) == ""


def test_the_same_seed_tells_the_same_story_and_all_that_can_happen_does() -> None:
    drawn, kinds = Counter[str](), Counter[str]()
    for seed in range(100):
        stories = [Story(seed), Story(seed)]
        for story in stories:
            story.run()
        assert stories[0].trace == stories[1].trace, f"seed {seed}"
        drawn.update(one.removeprefix("meanwhile: ") for one in stories[0].trace)
        kinds.update([f"mounted: {stories[0].has_mounts}", f"copies: {stories[0].kept_bytes}"])
        kinds.update(
            f"meanwhile: {one.name}" for one in operations.RULES_CHANGE if f"meanwhile: {one.name}" in story.trace
        )
    every = (
        *operations.TABLE,
        *operations.PRIVATE_TABLE,
        *operations.PAUSE_TABLE,
        *sidefiles.TABLE,
        *links.TABLE,
        *uploads.TABLE,
    )
    assert not [one.name for one in every if not drawn[one.name]], "no story drew these"
    assert not [name for name in SECOND_NAMES if not drawn[f"{SECOND}: {name}"]], "these happened at no second server"
    assert kinds["mounted: True"] > 20
    assert len([one for one in kinds if one.startswith("copies: ")]) == 4
    assert [one for one in kinds if one.startswith("meanwhile: ")], "rules change in the middle of a look or a push"


def test_no_process_tells_it_otherwise() -> None:
    """Sets and hashes are in another order in each process, unless told."""
    told = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "fingerprints", "0", "60"],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert told[0].count(b"\n") == 60


# --- the same stories on the real things ----------------------------------------------------------------------------


class RealMedium:
    """The database on disk, as far as a story can treat it without harming it."""

    is_full = is_damaged = lies = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> object:
        return open_state(self._path, "aside.db")

    def cut_power(self, rng: object) -> str:
        return "nothing lost"


NOT_REAL = frozenset({"disk full", "lying drive", "damage state", "roll state back"})
"""What only a store in memory can be asked to suffer."""

NOT_TWIN = frozenset(
    {
        "server never agrees",
        "set server back",
        "other writer",
        "other is faster",
        "refuse session",
        "delete on server",
        "poison",
        "a side file breaks off",
    }
)
"""What only a model can be asked to do."""


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[frozenset[str]], None]:
    def leave_out(names: frozenset[str]) -> None:
        assert names <= {one.name for of in (operations, sidefiles) for one in of.TABLE}
        for of in (operations, sidefiles):
            monkeypatch.setattr(of, "TABLE", tuple(one for one in of.TABLE if one.name not in names))

    return leave_out


@pytest.mark.skipif(os.name == "nt", reason="an open file can't be replaced there")
@pytest.mark.parametrize("seed", range(25))
def test_real_files_and_a_real_database_tell_the_same_story(
    seed: int, tmp_path: Path, without: Callable[[frozenset[str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(NOT_REAL)
    monkeypatch.setattr("tests.simulation.story.MOUNTED_SHARE", 0.0)  # `tests/contracts/test_kept.py` has two disks
    # The same folders: the ids of copies follow from them, and the order of requests from those.
    root, kept = str(tmp_path / "projects"), tmp_path / "state" / "kept"
    in_memory = Story(seed, root=root, kept_root=str(kept))
    in_memory.run()
    clock = FakeClock()
    real = Story(
        seed,
        clock=clock,
        disk=RealFolder(clock.now_s),
        root=root,
        medium=RealMedium(tmp_path / "state" / "state.db"),
        kept=lambda _: KeptFiles(kept),
    )
    real.run()
    assert real.trace == in_memory.trace


@pytest.mark.parametrize("seed", range(40))
def test_the_real_receiver_gives_the_model_s_answers(
    seed: int, tmp_path: Path, without: Callable[[frozenset[str]], None], tally: MakeTally
) -> None:
    without(NOT_TWIN)
    story = Story(seed)
    offer = story.server.bulk
    if offer is None:
        return  # this story's server speaks the base protocol only; the receiver speaks both
    story.server.max_entry_bytes = max(story.server.max_entry_bytes, offer.max_bytes)
    limits = Limits(offer.max_bytes, offer.max_entries, story.server.max_entry_bytes)
    with receiver_without_network(tmp_path, limits) as real:
        twin = Twin(story.server, real)
        story.wire.server = twin
        story.run()
    assert twin.asked
    tally("nothing is lost, repeated or mixed", "a seed's story against the real receiver").note()


# --- the checks can fail --------------------------------------------------------------------------------------------


def _garble_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    extend = Generation.extend

    def garble(self: Generation, stream: StreamId, lines: list[bytes], batch: str | None) -> None:
        extend(self, stream, lines, batch)
        if len(self.lines) > 4:
            self.lines[2] = b"garbled"

    monkeypatch.setattr(Generation, "extend", garble)


def _repeat_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    extend = Generation.extend

    def stutter(self: Generation, stream: StreamId, lines: list[bytes], batch: str | None) -> None:
        extend(self, stream, [*lines, *lines], batch)

    monkeypatch.setattr(Generation, "extend", stutter)


def _garble_a_side_file(monkeypatch: pytest.MonkeyPatch) -> None:
    put = ModelServer.put_file

    def garble(self: ModelServer, target: Target, request: Request) -> RawReply:
        answer = put(self, target, request)
        for subpath in self.files_of(target.session):
            self.sessions[target.session].files[subpath] += b"garbled"
        return answer

    monkeypatch.setitem(server._ANSWERS, ("PUT", FILES), garble)


def _follow_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has a name below a root lies there."""
    monkeypatch.setattr(Scanner, "_root_of", lambda self, path: self._roots[0])


def _upload_without_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.delivery.engine.errands.REST_S", 0.0)


def _upload_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgive(raw: RawReply, now_s: float) -> Reply:
        return Unavailable("later") if raw.status in (403, 413) else decide_upload_reply(raw, now_s)

    monkeypatch.setattr("agent.delivery.push.filesender.decide_upload_reply", forgive)


def _run_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor moves whatever the server said."""
    run = Pusher.run

    def hasty(self: Pusher, task: Task) -> Outcome:
        done = run(self, task)
        if isinstance(task, PushTask) and isinstance(done, Pushed) and done.cursor == task.cursor:
            ahead = done.cursor._replace(entry_count=done.cursor.entry_count + 1, sent_count=done.cursor.sent_count + 1)
            return done._replace(cursor=ahead)
        return done

    monkeypatch.setattr(Pusher, "run", hasty)


def _skip_the_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.delivery.push.pusher.marker_of", lambda before: _Anything())
    monkeypatch.setattr("agent.delivery.base.reading.marker_of", lambda before: _Anything())


class _Anything:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def _never_scan_again(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Engine.handle
    monkeypatch.setattr(
        Engine, "handle", lambda self, event: None if type(event).__name__ == "Observed" else handle(self, event)
    )


BREAKS = (
    _garble_a_line,
    _repeat_a_batch,
    _garble_a_side_file,
    _follow_links,
    _upload_without_rest,
    _upload_what_was_refused,
    _run_ahead,
    _skip_the_marker,
    _never_scan_again,
)


@pytest.mark.parametrize("break_it", BREAKS)
def test_what_breaks_a_promise_is_seen(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    assert any(try_seed(seed) for seed in range(600))
