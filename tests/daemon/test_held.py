"""A transcript that its coding agent deletes before it was sent is sent all the same, and then let go."""

import os
from collections.abc import Callable

import pytest

from agent.core.delivery.lifecycle import State
from agent.core.transcripts.session import StreamId
from agent.core.wire import RawReply, Request
from agent.delivery.retention.keeper import SWEEP_S, kept_name, parse_kept_name
from agent.delivery.state.inputs import Retry
from tests.daemon.test_generations import contents
from tests.fakes import AsgiServer, ScriptedServer, no_answer, reply
from tests.reliability import MakeTally
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]


class Line:
    """A server that can be away, or answer something else to appends."""

    def __init__(self, receiver: AsgiServer) -> None:
        self.away = True
        self.answer: RawReply | None = None
        self.server = ScriptedServer(receiver, self._script)

    def _script(self, request: Request) -> RawReply | None:
        if self.away:
            return no_answer()
        return self.answer if request.method == "POST" else None


@pytest.fixture
def line(receiver: AsgiServer) -> Line:
    return Line(receiver)


def stored(server: AsgiServer, session: str) -> bytes:
    return server.send(Request("GET", f"/v1/session_ingress/session/{session}/entries")).body


def held_names(agent: SimulatedAgent) -> list[str]:
    return [one.name for one in agent.kept.list_kept()]


def come_back(agent: SimulatedAgent, line: Line) -> None:
    line.away, line.answer = False, None
    agent.engine.handle(Retry())
    agent.settle()
    agent.live_for(2 * SWEEP_S)


def test_what_could_not_be_sent_is_held_and_delivered_after_its_deletion(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line, tally: MakeTally
) -> None:
    agent = make_agent(line.server)
    content = lines(5)
    agent.append("s", content)
    agent.look()
    agent.live_for(SWEEP_S + 1)
    assert held_names(agent) == ["claude/s/=main.jsonl"]
    agent.path("s").unlink()
    agent.look()
    come_back(agent, line)
    assert stored(receiver, "s") == content
    assert agent.state("s") is State.GONE
    assert held_names(agent) == []
    kinds = [row.kind for row in agent.store.audit()]
    assert [kind for kind in kinds if kind in ("kept", "let_go")] == ["kept", "let_go"]
    tally("nothing is lost", "deleted by its coding agent before it was sent").note_lines(
        content.split(b"\n"), stored(receiver, "s").split(b"\n")
    )


def test_it_is_held_for_as_long_as_it_is_not_sent(make_agent: Make, lines: Lines, line: Line) -> None:
    agent = make_agent(line.server)
    agent.append("s", lines(5))
    agent.look()
    agent.live_for(SWEEP_S + 1)
    for _ in range(5):
        assert held_names(agent) == ["claude/s/=main.jsonl"]
        agent.live_for(SWEEP_S)
    come_back(agent, line)
    assert held_names(agent) == []


def test_a_link_follows_what_is_appended_after_it_was_made(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    agent = make_agent(line.server)
    agent.append("s", lines(2))
    agent.look()
    agent.live_for(SWEEP_S + 1)
    agent.append("s", lines(3))
    content = agent.path("s").read_bytes()
    agent.path("s").unlink()
    agent.look()
    come_back(agent, line)
    assert stored(receiver, "s") == content


def test_the_deletion_and_the_end_of_the_process_may_come_in_any_order(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    agent = make_agent(line.server)
    content = lines(4)
    agent.append("s", content)
    agent.look()
    agent.live_for(SWEEP_S + 1)
    agent.crash()
    agent.path("s").unlink()
    agent.crash()
    come_back(agent, line)
    assert stored(receiver, "s") == content
    assert agent.state("s") is State.GONE


def test_without_any_state_what_is_held_is_still_delivered(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    agent = make_agent(line.server)
    content = lines(4)
    agent.append("s", content)
    agent.append("s", lines(1), "subagents/agent-a")
    agent.look()
    agent.live_for(SWEEP_S + 1)
    agent.path("s").unlink()
    agent.store.close()
    for part in agent.path("s").parent.parent.parent.glob("state/state.db*"):
        part.unlink()
    agent.boot()
    come_back(agent, line)
    assert stored(receiver, "s") == content
    assert agent.state("s") is State.GONE
    assert agent.state("s", "subagents/agent-a") is State.SYNCED
    assert held_names(agent) == []


def test_a_file_that_takes_the_place_of_an_unsent_one_waits_until_that_is_sent(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    """A live file that is deleted is recreated with only the later entries."""
    agent = make_agent(line.server)
    older, later = lines(4), lines(2)
    agent.append("s", older)
    agent.look()
    agent.live_for(SWEEP_S + 1)
    agent.path("s").unlink()
    agent.append("s", later)
    agent.look(live=True)
    sent: list[bytes] = []
    line.away = False
    agent.engine.handle(Retry())
    while stored(receiver, "s") != older:
        assert agent.run_one() or agent.wait()
    sent.append(stored(receiver, "s"))
    agent.settle()
    assert sent == [older]
    assert agent.path("s").read_bytes() == later


def test_what_is_sent_in_time_is_never_held(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(3))
    agent.settle()
    agent.live_for(10 * SWEEP_S)
    assert held_names(agent) == []
    assert agent.engine.keeper.sweep_at_s is None, "nothing wakes an idle agent"


def test_a_refused_transcript_is_held_for_the_day_somebody_says_retry(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line
) -> None:
    line.away, line.answer = False, reply(403)
    agent = make_agent(line.server)
    content = lines(3)
    agent.append("s", content)
    agent.settle()
    assert (agent.state("s"), agent.track("s").status) == (State.REFUSED, 403)
    agent.live_for(SWEEP_S + 1)
    agent.path("s").unlink()
    agent.look()
    agent.crash()
    assert agent.state("s") is State.REFUSED
    come_back(agent, line)
    assert stored(receiver, "s") == content


def test_where_no_link_can_be_made_copies_stay_within_their_limit(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    small, large = lines(2), lines(200)
    agent = make_agent(line.server, kept_bytes=len(small) + 10)
    agent.append("small", small)
    agent.look()
    agent.live_for(SWEEP_S + 1)
    agent.append("large", large)
    agent.look()
    agent.live_for(SWEEP_S + 1)
    assert held_names(agent) == ["claude/small/=main.jsonl"]
    assert "left for copies" in agent.engine.keeper.trouble[StreamId("large", "")]
    agent.path("small").unlink()
    agent.look()
    come_back(agent, line)
    assert stored(receiver, "small") == small
    assert stored(receiver, "large") == large


def test_a_copy_of_an_older_file_is_sent_first_and_the_file_that_stands_there_now_after_it(
    make_agent: Make, lines: Lines, receiver: AsgiServer, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    agent = make_agent(line.server)
    older, newer = lines(3), lines(9)
    agent.append("s", older)
    agent.look()
    agent.live_for(SWEEP_S + 1)
    agent.path("s").write_bytes(newer)
    agent.look()
    agent.live_for(SWEEP_S + 1)
    come_back(agent, line)
    assert contents(receiver, "s") == [older, newer]
    assert agent.state("s") is State.SYNCED
    assert held_names(agent) == []


@pytest.mark.parametrize(
    "stream",
    [StreamId("s", ""), StreamId("a/b=c%", "subagents/agent-x"), StreamId("ü", "files/tool-results/ä b.txt")],
)
def test_the_name_of_a_held_file_tells_whose_it_is(stream: StreamId) -> None:
    name = kept_name("claude", stream)
    assert name.count("/") == 2
    assert parse_kept_name(name) == ("claude", stream)


@pytest.mark.parametrize("name", ["x.jsonl", "claude/s/x.txt", "a/b/c/d.jsonl", ""])
def test_a_name_that_is_none_of_ours_tells_nothing(name: str) -> None:
    assert parse_kept_name(name) is None
