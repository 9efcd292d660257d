"""What becomes of the lines that hooks left: looked at, looked for again, or told."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.core.delivery.audit import AuditKind
from agent.delivery.discovery.scanner import Root
from agent.delivery.discovery.spooling import TRIES, Spooling
from agent.delivery.state.inputs import Requeued
from agent.errors import DiskError
from agent.providers import PROVIDERS, claude
from agent.system.state.spool import Signature, Spool, _Held
from tests.fakes import AsgiServer, FakeClock
from tests.simulation.world import SimulatedAgent
from tests.system.privileges import needs_posix


class Desk:
    """A spooling over a real spool and a real root, and what it asked of others."""

    def __init__(self, folder: Path) -> None:
        self.root = folder.resolve() / "projects"
        (self.root / "p").mkdir(parents=True)
        self.spool = Spool(str(folder / "spool"))
        self.clock = FakeClock()
        self.looked: list[str] = []
        self.requeued: list[str] = []
        self.over: list[tuple[str, float, list[str]]] = []
        """With what had been looked at before."""
        self.scans = 0
        self.boot()

    def boot(self) -> None:
        self.spooling = Spooling(
            self.spool,
            [Root(claude, str(self.root)), Root(PROVIDERS["codex"], str(self.root.parent / "codex"))],
            self,
            scan=self._scan,
            requeued=self.requeued.append,
            monotonic_s=self.clock.monotonic_s,
            over=lambda session, at_s: self.over.append((session, at_s, list(self.looked))),
        )

    def look(self, path: str) -> None:
        self.looked.append(path)

    def _scan(self) -> None:
        self.scans += 1

    def transcript(self, name: str = "s.jsonl") -> str:
        path = self.root / "p" / name
        path.write_bytes(b"{}\n")
        return str(path)

    def poll(self, after_s: float = 0.0) -> list[str]:
        """What was looked at, so much later."""
        self.clock.advance(after_s)
        self.looked.clear()
        self.spooling.poll()
        return sorted(self.looked)

    def files(self) -> set[str]:
        folder = os.path.dirname(self.spool.path)
        return {name for name in os.listdir(folder) if name.startswith("spool")} - {"spool.lock"}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_hooks_named_is_looked_at_and_done_with(desk: Desk) -> None:
    one, two = desk.transcript("one.jsonl"), desk.transcript("two.jsonl")
    for path in (one, two, one):
        desk.spool.append("s", path)
    assert desk.poll() == [one, two]
    assert (desk.poll(), desk.files()) == ([], set())


def test_an_end_is_told_behind_the_last_lines_and_once(desk: Desk) -> None:
    path = desk.transcript()
    desk.spool.append("s", path, 5.0)
    desk.spool.append("t", "")
    desk.poll()
    assert desk.over == [("s", 5.0, [path])]
    desk.poll(60)
    assert len(desk.over) == 1


def test_a_line_that_comes_later_is_taken_by_the_next_look(desk: Desk) -> None:
    assert desk.poll() == []
    path = desk.transcript()
    desk.spool.append("s", path)
    assert desk.poll(1.0) == [path]
    desk.spool.append("s", path)
    assert desk.poll(1.0) == [path]


def test_what_a_hook_leaves_beside_is_taken_by_the_next_look(desk: Desk) -> None:
    """Nobody gets the lock, and the spool itself is as it was."""
    paths = [desk.transcript(f"{number}.jsonl") for number in range(3)]
    desk.spool.append("s", paths[0])
    desk.poll()
    with _Held(f"{desk.spool.path}.lock"):
        for path in paths[1:]:
            desk.spool.append("s", path)
            assert desk.poll(1.0) == [path]
    assert (desk.poll(1.0), desk.files()) == ([], set())


def test_a_line_that_comes_while_others_are_put_back_is_taken_by_the_next_look(desk: Desk) -> None:
    later, path = desk.transcript("later.jsonl"), str(desk.root / "p" / "missing.jsonl")
    desk.spool.append("s", path)
    requeue = desk.spool.requeue

    def beside(hints: Mapping[str, str], known: Signature | None = None) -> Signature | None:
        desk.spool.append("s", later)
        return requeue(hints, known)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk.spool, "requeue", beside)
        desk.poll()
    assert desk.poll(0.1) == [later]
    assert desk.poll(0.1) == []


def test_nothing_to_do_costs_a_look_at_two_files(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.poll()
    monkeypatch.setattr(Spool, "snapshots", None)  # whoever calls it fails
    for _ in range(100):
        desk.poll(1.0)


def test_a_snapshot_that_a_crash_left_is_taken_up_at_the_start(desk: Desk) -> None:
    path, later = desk.transcript(), desk.transcript("later.jsonl")
    desk.spool.append("s", path)
    desk.spool.snapshots()
    desk.spool.append("s", later)
    assert desk.poll() == [later, path]
    assert desk.files() == set()


def test_a_defect_while_lines_are_handled_keeps_them(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    path = desk.transcript()
    desk.spool.append("s", path)

    def fail(_: str) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as broken:
        broken.setattr(desk, "look", fail)
        with pytest.raises(RuntimeError):
            desk.spooling.poll()
    assert len(desk.files()) == 1
    assert desk.poll(60.0) == [path]
    assert desk.files() == set()


# --- not there yet --------------------------------------------------------------------------------------------------


def test_a_transcript_that_comes_later_is_found_when_it_is_there(desk: Desk) -> None:
    path = str(desk.root / "p" / "s.jsonl")
    desk.spool.append("s", path)
    assert desk.poll() == []
    assert desk.files() == {"spool"}, "it waits where a crash can't reach it"
    assert desk.poll(0.5) == []
    desk.transcript()
    assert desk.poll(0.6) == [path]
    assert desk.files() == set()


def test_a_transcript_that_never_comes_is_let_go(desk: Desk) -> None:
    desk.spool.append("s", str(desk.root / "p" / "never.jsonl"))
    rewritten, before = 0, None
    for _ in range(400):
        desk.poll(1.0)
        signature = desk.spool.signature()
        rewritten += signature != before
        before = signature
    assert desk.files() == set()
    assert rewritten == TRIES + 1, "it is not written anew with each look"
    assert desk.requeued == ["s"], "told once"


def test_other_hooks_do_not_use_up_its_tries(desk: Desk) -> None:
    path, other = str(desk.root / "p" / "s.jsonl"), desk.transcript("other.jsonl")
    desk.spool.append("", path)
    for _ in range(5 * TRIES):
        desk.spool.append("o", other)
        desk.spool.append("s", path)
        assert desk.poll(0.01) == [other]
    desk.transcript()
    assert desk.poll(1.0) == [path]
    assert desk.requeued == ["s"], "the name of the file tells whose it is when the hook did not"


def test_a_restart_in_between_forgets_nothing(desk: Desk) -> None:
    path = str(desk.root / "p" / "s.jsonl")
    desk.spool.append("s", path)
    desk.poll()
    desk.boot()
    desk.transcript()
    assert desk.poll() == [path]


def test_a_session_without_a_file_is_found_by_a_full_look(desk: Desk) -> None:
    desk.spool.append("s", "")
    desk.spool.append("t", "")
    assert desk.poll() == []
    assert (desk.scans, desk.files()) == (1, set())


# --- by other names, and elsewhere ----------------------------------------------------------------------------------


@needs_posix
def test_links_lead_to_the_name_that_a_scan_would_find(desk: Desk, tmp_path: Path) -> None:
    path = desk.transcript()
    (tmp_path / "link").symlink_to(desk.root.parent)
    (desk.root / "q").symlink_to(tmp_path / "far")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "t.jsonl").write_bytes(b"")
    (tmp_path / "to one").symlink_to(path)
    named = {
        str(tmp_path / "link" / "projects" / "p" / "s.jsonl"): path,
        str(tmp_path / "link" / "projects" / "q" / "t.jsonl"): str(desk.root / "q" / "t.jsonl"),
        str(tmp_path / "to one"): path,
        f"{desk.root}/p/../p//s.jsonl": path,
    }
    for name, expected in named.items():
        desk.spool.append("s", name)
        assert desk.poll() == [expected], name
    assert desk.spooling.problems() == []


def test_a_transcript_elsewhere_is_a_problem_with_its_solution(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "other" / "projects" / "p" / "s.jsonl"
    path.parent.mkdir(parents=True)
    desk.spool.append("s", str(path))
    desk.poll()
    assert desk.spooling.problems() == [], "perhaps it never comes"
    path.write_bytes(b"")
    desk.poll(1.0)
    ((what, hint),) = desk.spooling.problems()
    assert what == f"a hook named a transcript outside the watched folders: {path}"
    assert hint == f"in the settings file: [watch] claude = ['{desk.root}', '{path.parent.parent}']"
    desk.spool.append("s", str(path))
    desk.poll()
    assert "(2 times so far)" in desk.spooling.problems()[0][0]
    assert desk.looked == []


def test_what_is_no_transcript_is_no_problem(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"")
    (tmp_path / "projects2").mkdir()
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "projects2", "relative.jsonl", "/" + "x" * 5000):
        desk.spool.append("s", str(path))
    for _ in range(400):
        desk.poll(1.0)
    assert (desk.spooling.problems(), desk.files()) == ([], set())


# --- a disk that refuses --------------------------------------------------------------------------------------------


def test_lines_stay_while_they_can_t_be_put_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise DiskError("no room")

    path = str(desk.root / "p" / "s.jsonl")
    desk.spool.append("s", path)
    with monkeypatch.context() as full:
        full.setattr(Spool, "requeue", refuse)
        desk.poll()
        assert desk.spooling.problems() == [("no room", "")]
        assert len(desk.files()) == 1
        for _ in range(5):
            desk.poll(1.0)
    desk.transcript()
    assert desk.poll(10.0) == [path]
    assert (desk.spooling.problems(), desk.files()) == ([], set())


# --- the engine -----------------------------------------------------------------------------------------------------


def test_the_audit_log_tells_of_a_known_session_that_was_put_back(
    receiver: AsgiServer, make_agent: Callable[..., SimulatedAgent], lines: Callable[[int], bytes]
) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(2))
    agent.settle()
    for session_id in ("s", "nobody's"):
        agent.engine.handle(Requeued(session_id))
    agent.settle()
    told = [(row.stream.session_id, row.kind) for row in agent.store.audit() if row.kind == AuditKind.REQUEUED]
    assert told == [("s", "requeued")]
