"""When things happen, what goes first, and what is remembered."""

import json
import shutil
from pathlib import Path

import pytest

from agent.core.delivery.lifecycle import Condition, State
from agent.core.status import Status, count_streams
from agent.core.transcripts.sources import copy_subpath
from agent.core.wire import RawReply, Request
from agent.daemon.status.report import Surroundings, list_streams, report
from agent.delivery.base.world import Limits
from agent.delivery.state.tasks import MetaTask, PushTask
from agent.errors import DiskError
from agent.system.state.state_db import Changes
from tests.daemon.test_delivery import Lines, Make, is_append, stored
from tests.daemon.test_generations import generations
from tests.fakes import AsgiServer, ScriptedServer, StrictBaseServer, body_bytes, no_answer, reply
from tests.simulation.world import SimulatedAgent


def status_of(agent: SimulatedAgent) -> Status:
    return report(agent.engine, Surroundings(1, agent.clock.now_s(), (), (), 0, ()))


def run_all(agent: SimulatedAgent) -> None:
    while agent.run_one():
        pass


# --- when -----------------------------------------------------------------------------------------------------------


def test_a_change_is_sent_without_waiting_for_any_timer(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    run_all(agent)
    before = agent.clock.monotonic_s()
    agent.append("s", lines(1))
    agent.look(live=True)
    run_all(agent)
    assert stored(receiver, "s") == agent.path("s").read_bytes()
    assert agent.clock.monotonic_s() == before


def test_what_grows_while_it_is_sent_rests_a_moment_and_travels_together(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda request: None)
    agent = make_agent(server, limits=Limits(coalesce_s=0.05))
    run_all(agent)
    agent.append("s", lines(1))
    agent.look(live=True)
    for _ in range(5):
        agent.append("s", lines(1))
        agent.look(live=True)
    run_all(agent)
    assert agent.state("s") is State.SETTLING
    agent.append("s", lines(1))
    agent.look(live=True)
    assert not any(isinstance(task, PushTask) for task in agent.in_flight)
    assert agent.engine.next_deadline_s() == pytest.approx(agent.clock.monotonic_s() + 0.05)
    agent.settle()
    assert sum(map(is_append, server.requests)) == 2
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_a_server_that_is_away_is_shown_as_away_while_it_is_asked_again(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """Into a black hole a question takes a minute."""
    down = True
    agent = make_agent(ScriptedServer(receiver, lambda _: no_answer() if down else None))
    assert status_of(agent).destinations[0].condition == "probing"
    agent.append("s", lines(1))
    agent.look()
    run_all(agent)
    away = status_of(agent)
    assert away.destinations[0].condition == "offline"
    assert away.problems
    while agent.destination.condition is not Condition.PROBING:
        assert agent.wait()
    assert status_of(agent).destinations[0].condition == "offline"
    assert status_of(agent).problems == away.problems
    down = False
    agent.settle()
    assert status_of(agent).destinations[0].condition == "running"
    assert not status_of(agent).problems


def test_a_live_session_goes_before_the_backlog(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver, limits=Limits(workers=2))
    run_all(agent)
    for number in range(30):
        agent.append(f"old{number}", lines(1))
    agent.look()
    assert len(agent.in_flight) == 1  # one worker is kept free
    agent.append("live", lines(1))
    agent.look(live=True)
    assert any(isinstance(task, PushTask) and task.key.session_id == "live" for task in agent.in_flight)


def test_facts_of_sessions_wait_for_the_entries_of_all(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver, limits=Limits(workers=1))
    for number in range(5):
        agent.append(f"s{number}", lines(1))
    agent.look()
    kinds = []
    while agent.in_flight:
        kinds.append(type(agent.in_flight[0]))
        agent.run_one()
    assert MetaTask not in kinds[: kinds.index(MetaTask)]
    assert PushTask not in kinds[kinds.index(MetaTask) :]


def test_a_large_backlog_is_sent_in_bounded_pieces(make_agent: Make, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda request: None)
    agent = make_agent(server)
    agent.append("s", b"".join(b'{"n":%d,"t":"%s"}\n' % (n, b"x" * 1000) for n in range(3000)))
    agent.settle()
    sizes = [len(body_bytes(request)) for request in server.requests if is_append(request)]
    assert len(sizes) == 3
    assert max(sizes) <= 1 << 20
    assert stored(receiver, "s") == agent.path("s").read_bytes()


@pytest.mark.parametrize("base_only", [False, True])
def test_a_line_longer_than_a_piece_travels_whole(
    base_only: bool, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = StrictBaseServer()
    agent = make_agent(server if base_only else receiver)
    long = json.dumps({"uuid": "long-one", "text": "y" * (3 << 20)}).encode() + b"\n"
    agent.append("s", lines(1) + long + lines(1))
    agent.settle()
    got = b"".join(line + b"\n" for line in server.sessions["s"]) if base_only else stored(receiver, "s")
    assert got == agent.path("s").read_bytes()


def test_a_long_line_that_is_refused_becomes_a_tombstone(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    def too_large(request: Request) -> RawReply | None:
        return reply(413) if is_append(request) and len(body_bytes(request)) > 2 << 20 else None

    agent = make_agent(ScriptedServer(receiver, too_large))
    long = json.dumps({"uuid": "long-one", "text": "y" * (3 << 20)}).encode() + b"\n"
    agent.append("s", lines(2) + long + lines(2))
    agent.settle()
    got = stored(receiver, "s").splitlines()
    assert json.loads(got[2]) | {"sha256": ""} == {
        "type": "transcriptd-tombstone",
        "uuid": "long-one",
        "size": len(long) - 1,
        "sha256": "",
        "status": 413,
    }
    assert len(got) == 5


# --- odd files ------------------------------------------------------------------------------------------------------


def test_a_line_without_an_end_waits_for_it(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    first, second = lines(1), lines(1)
    agent.append("s", first + second[:-5])
    agent.settle()
    assert stored(receiver, "s") == first
    agent.append("s", second[-5:])
    agent.settle()
    assert stored(receiver, "s") == first + second


def test_an_empty_file_asks_for_nothing(make_agent: Make, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda request: None)
    agent = make_agent(server)
    agent.append("s", b"")
    agent.settle()
    assert [request.path for request in server.requests] == ["/v1/session_ingress/capabilities"]


def test_a_file_that_vanishes_before_its_turn_stops_nothing_else(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(1))
    agent.append("t", lines(1))
    agent.look()
    agent.path("s").unlink()
    agent.settle()
    assert (agent.state("s"), agent.state("t")) == (State.GONE, State.SYNCED)
    agent.append("s", lines(1))
    agent.settle()
    assert agent.state("s") is State.SYNCED


def older(server: AsgiServer, session: str) -> list[bytes]:
    """What the older generations of a session's main stream hold."""
    return [content for current, content in generations(server, session) if not current]


def test_a_file_that_is_cut_between_two_reads_is_not_sent_wrong(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(3))
    agent.settle()
    whole = agent.path("s").read_bytes()
    agent.append("s", lines(1))
    agent.look()
    agent.path("s").write_bytes(whole[:50])
    agent.settle()
    assert older(receiver, "s") == [whole]
    assert stored(receiver, "s") == b""


def test_a_session_moved_to_another_project_goes_on(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda request: None)
    agent = make_agent(server)
    agent.append("s", lines(3))
    agent.settle()
    sent = sum(map(is_append, server.requests))
    elsewhere = agent.root / "q" / "s.jsonl"
    elsewhere.parent.mkdir()
    shutil.move(agent.path("s"), elsewhere)
    agent.settle()
    assert sum(map(is_append, server.requests)) == sent
    with elsewhere.open("ab") as file:
        file.write(lines(1))
    agent.settle()
    assert stored(receiver, "s") == elsewhere.read_bytes()


def test_two_files_with_one_id_are_not_mixed(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(2))
    agent.settle()
    other = agent.root / "q" / "s.jsonl"
    other.parent.mkdir()
    other.write_bytes(lines(5))
    agent.settle()
    assert stored(receiver, "s") == agent.path("s").read_bytes()
    assert stored(receiver, "s", copy_subpath("", str(other))) == other.read_bytes()
    assert not status_of(agent).problems


# --- what is remembered ---------------------------------------------------------------------------------------------


def test_after_a_restart_nothing_is_sent_again(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda request: None)
    agent = make_agent(server)
    for number in range(5):
        agent.append(f"s{number}", lines(2))
    agent.settle()
    server.requests.clear()
    agent.crash()
    agent.settle()
    assert [request.path for request in server.requests] == ["/v1/session_ingress/capabilities"]


def test_progress_that_was_not_written_costs_one_conflict(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda request: None)
    agent = make_agent(server)
    agent.append("s", lines(2))
    agent.look()
    run_all(agent)
    agent.crash()
    agent.append("s", lines(1))
    server.requests.clear()
    agent.settle()
    assert sum(map(is_append, server.requests)) == 2
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_whoever_waited_for_another_try_is_tried_after_a_restart(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda request: reply(500) if is_append(request) else None)
    agent = make_agent(server)
    agent.append("s", lines(2))
    agent.look()
    agent.live_for(60)
    (remembered,) = agent.store.tracks()
    assert (remembered.state, remembered.attempts > 0) == (State.WAITING, True)
    server.script = lambda _: None
    agent.crash()
    agent.settle()
    assert stored(receiver, "s") == agent.path("s").read_bytes()


class FullDisk:
    """A store whose writes fail until there is room again."""

    def __init__(self, behind: object) -> None:
        self.behind = behind
        self.full = True

    def commit(self, changes: Changes) -> None:
        if self.full:
            raise DiskError("the state can't be written: database or disk is full")
        self.behind.commit(changes)  # type: ignore[attr-defined]  # the real store

    def __getattr__(self, name: str) -> object:
        return getattr(self.behind, name)


def test_a_full_disk_stops_no_delivery_and_is_told(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    disk = FullDisk(agent.store)
    agent.engine.journal._store = disk  # type: ignore[assignment]
    agent.append("s", lines(3))
    agent.look()
    agent.live_for(60)
    assert stored(receiver, "s") == agent.path("s").read_bytes()
    assert any("disk is full" in what for what, _ in status_of(agent).problems)
    disk.full = False
    agent.live_for(60)
    assert status_of(agent).problems == []
    assert [row.cursor.entry_count for row in agent.store.tracks()] == [3]


def test_nothing_of_a_transcript_is_kept_in_the_state_or_the_log(
    make_agent: Make, receiver: AsgiServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG")
    agent = make_agent(receiver)
    agent.append("s", b'{"uuid":"u","type":"assistant","message":{"content":"CANARY-IN-TEXT"}}\nCANARY-TORN\n')
    agent.settle()
    agent.crash()
    agent.settle()
    state = b"".join(path.read_bytes() for path in (tmp_path / "agent0" / "state").iterdir())
    assert b"CANARY" not in state
    assert "CANARY" not in caplog.text


# --- status ---------------------------------------------------------------------------------------------------------


def test_status_counts_what_is_there_and_what_was_sent(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(2))
    agent.append("s", lines(3), "subagents/agent-a")
    agent.append("t", lines(1)[:-1])
    agent.settle()
    found = status_of(agent)
    assert (found.counts.sessions, found.counts.streams, found.counts.entries) == (2, 3, 5)
    assert found.counts.states == {"synced": 3}
    assert found.counts.bytes - found.counts.sent_bytes == agent.path("t").stat().st_size
    assert found.synced
    assert (found.destinations[0].condition, found.destinations[0].protocol) == ("running", "bulk")


def test_status_names_the_wait_and_its_reason(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda request: reply(500) if is_append(request) else None)
    agent = make_agent(server)
    agent.append("s", lines(1))
    agent.look()
    agent.live_for(100)
    line = list_streams(agent.engine)[0]
    assert (line.state, line.reason) == ("waiting", "the server answers 500")
    assert line.retry_at_s is not None
    assert line.retry_at_s > agent.clock.now_s()
    found = status_of(agent)
    assert not found.synced
    assert found.oldest_unsent_s == pytest.approx(line.mtime_s)
    assert count_streams([line]).states == {"waiting": 1}


def test_the_reasons_of_refused_sessions_are_told_once_each(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda request: reply(403) if is_append(request) else None)
    agent = make_agent(server)
    for number in range(7):
        agent.append(f"s{number}", lines(1))
    agent.settle()
    assert [what for what, _ in status_of(agent).problems] == ["7 not sent: the server answers 403"]


def test_a_file_that_is_rewritten_while_it_is_sent_is_noticed_at_the_next_turn(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    other = lines(6)

    def rewrite(request: Request) -> RawReply | None:
        if is_append(request):
            agent.path("s").write_bytes(other)
        return None

    server = ScriptedServer(receiver, rewrite)
    agent = make_agent(server)
    first = lines(3)
    agent.append("s", first)
    agent.settle()
    server.script = lambda request: None
    agent.append("s", lines(1))
    agent.settle()
    assert older(receiver, "s") == [first]
    assert stored(receiver, "s") == agent.path("s").read_bytes()
    assert "rewritten" in [row.kind for row in agent.store.audit()]


@pytest.mark.parametrize("seen_first", ["the new place", "the old place"])
@pytest.mark.parametrize("opened", [False, True], ids=["before it is opened", "after it was opened"])
def test_a_session_that_moves_while_it_is_sent_goes_on(
    seen_first: str, opened: bool, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    elsewhere = []

    def move() -> None:
        elsewhere.append(agent.root / "q" / "s.jsonl")
        elsewhere[0].parent.mkdir()
        old = agent.path("s")
        shutil.move(old, elsewhere[0])
        for path in (elsewhere[0], old) if seen_first == "the new place" else (old, elsewhere[0]):
            agent.scanner.look(str(path))

    def script(request: Request) -> RawReply | None:
        if opened and is_append(request) and not elsewhere:
            move()
        return None

    agent = make_agent(ScriptedServer(receiver, script))
    run_all(agent)
    agent.append("s", lines(3))
    agent.look()
    assert agent.state("s") is State.PUSHING
    if not opened:
        move()
    run_all(agent)
    agent.settle()
    with elsewhere[0].open("ab") as file:
        file.write(lines(1))
    agent.settle()
    assert stored(receiver, "s") == elsewhere[0].read_bytes()
    assert agent.state("s") is State.SYNCED
    assert not agent.engine.sightings.others
