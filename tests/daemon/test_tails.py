"""Last lines without a newline, files replaced under the same name, and the slow look at everything."""

import os
from collections.abc import Callable

import pytest

from agent.core.delivery.lifecycle import State
from agent.delivery.base.world import Limits
from agent.delivery.engine.audits import MOST_ASKED, STEP_S
from agent.delivery.engine.engine import QUIET_S
from agent.delivery.state.pausing import PauseAsked, ResumeAsked
from tests.daemon.test_delivery import stored
from tests.fakes import AsgiServer, StrictBaseServer
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]
TAIL = b'{"type":"user","uuid":"tail-1","text":"unfinished"}'


def test_a_last_line_is_sent_when_it_has_been_quiet_and_reads_as_an_entry(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(2) + TAIL)
    agent.settle()
    assert len(server.sessions["s"]) == 2
    agent.live_for(QUIET_S - 1)
    assert len(server.sessions["s"]) == 2
    agent.live_for(2)
    assert server.sessions["s"][2:] == [TAIL]
    agent.live_for(3 * QUIET_S)
    assert server.sessions["s"][2:] == [TAIL], "once"


def test_whoever_goes_on_writing_starts_the_quiet_anew(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(2) + TAIL[:20])
    agent.settle()
    agent.live_for(QUIET_S - 10)
    agent.append("s", TAIL[20:])
    agent.settle()
    agent.live_for(QUIET_S - 10)
    assert len(server.sessions["s"]) == 2
    agent.live_for(20)
    assert server.sessions["s"][2:] == [TAIL]


def test_the_quiet_is_waited_for_again_after_a_restart(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(2) + TAIL)
    agent.settle()
    agent.crash()
    agent.live_for(QUIET_S + 1)
    assert server.sessions["s"][2:] == [TAIL]


def long_tail(size: int) -> bytes:
    return b'{"type":"user","uuid":"tail-1","text":"' + b"y" * size + b'"}'


@pytest.mark.parametrize("base_only", [False, True])
@pytest.mark.parametrize("size", [(1 << 20) - len(long_tail(0)), 3 << 20])
def test_a_last_line_too_long_to_hold_is_sent_all_the_same(
    base_only: bool, size: int, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = StrictBaseServer()
    agent = make_agent(server if base_only else receiver)

    def got() -> bytes:
        return b"".join(line + b"\n" for line in server.sessions["s"]) if base_only else stored(receiver, "s")

    whole = lines(2)
    agent.append("s", whole + long_tail(size))
    agent.settle()
    agent.live_for(QUIET_S - 1)
    assert got() == whole
    agent.live_for(2)
    assert got() == whole + long_tail(size) + b"\n"
    assert agent.track("s").cursor.offset == agent.path("s").stat().st_size
    more = lines(1)
    agent.append("s", b"\n" + more)
    agent.settle()
    assert got() == whole + long_tail(size) + b"\n" + more
    assert "rewritten" not in [row.kind for row in agent.store.audit()]


@pytest.mark.parametrize("end", [b"", b"}{", b'}{"glued":1}', b",}", b"\x00"])
def test_a_torn_last_line_too_long_to_hold_waits_for_its_newline(
    end: bytes, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent, whole, tail = make_agent(receiver), lines(2), long_tail(2 << 20)[:-1] + end
    agent.append("s", whole + tail)
    agent.settle()
    agent.live_for(3 * QUIET_S)
    assert stored(receiver, "s") == whole
    agent.append("s", b"\n")
    agent.settle()
    assert stored(receiver, "s") == whole + tail + b"\n"


@pytest.mark.parametrize("tail", [b'{"torn":', b"\x00" * 50, b'{"a":1}{"b":2}', b"[1]", b"\xff"])
def test_what_does_not_read_as_an_entry_waits_for_its_newline(
    tail: bytes, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    base, whole = StrictBaseServer(), lines(2)
    agent = make_agent(receiver, beside={"base": base})
    agent.append("s", whole + tail)
    agent.settle()
    agent.live_for(3 * QUIET_S)
    assert stored(receiver, "s") == whole
    assert len(base.sessions["s"]) == 2
    assert {track.cursor.offset for track in agent.engine.tracks.values()} == {len(whole)}
    assert set(agent.states().values()) == {State.SYNCED}
    agent.append("s", b"\n")
    agent.settle()
    assert stored(receiver, "s") == whole + tail + b"\n"


def test_what_does_not_read_as_an_entry_is_read_once_and_not_every_five_minutes(make_agent: Make, lines: Lines) -> None:
    agent = make_agent(StrictBaseServer())
    agent.append("s", lines(2) + TAIL[:-5])
    agent.settle()
    agent.live_for(2.5 * QUIET_S)
    assert agent.engine.next_deadline_s() is None, "nothing is to be done"
    agent.append("s", TAIL[-5:])
    agent.settle()
    agent.live_for(QUIET_S + 1)
    assert agent.track("s").cursor.entry_count == 3


def test_what_grows_while_its_turn_is_awaited_has_not_been_quiet(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(2) + TAIL)
    agent.settle()
    agent.engine.handle(PauseAsked())
    agent.live_for(QUIET_S + 1)
    agent.append("s", b" ")
    agent.look()
    agent.engine.handle(ResumeAsked())
    agent.settle()
    assert len(server.sessions["s"]) == 2
    agent.live_for(QUIET_S + 1)
    assert server.sessions["s"][2:] == [TAIL + b" "]


def test_a_newline_that_comes_later_is_no_new_entry(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(2) + TAIL)
    agent.settle()
    agent.live_for(QUIET_S + 1)
    more = lines(2)
    agent.append("s", b"\n" + more)
    agent.settle()
    assert server.sessions["s"] == agent.whole_lines("s")
    assert agent.track("s").cursor.entry_count == 5


def test_what_is_glued_to_a_sent_last_line_is_noticed(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(2) + TAIL)
    agent.settle()
    agent.live_for(QUIET_S + 1)
    agent.append("s", b'{"uuid":"glued"}\n' + lines(1))
    agent.settle()
    assert "rewritten" in [row.kind for row in agent.store.audit()]
    assert server.sessions["s"][3:] == agent.whole_lines("s")[-1:], "what could be addressed follows"


def test_a_copy_of_the_same_file_under_its_name_is_no_rewrite(make_agent: Make, lines: Lines) -> None:
    server = StrictBaseServer()
    agent = make_agent(server)
    agent.append("s", lines(4))
    agent.settle()
    copy = agent.path("s").with_suffix(".new")
    copy.write_bytes(agent.path("s").read_bytes())
    copy.replace(agent.path("s"))
    agent.append("s", lines(1))
    agent.settle()
    assert server.sessions["s"] == agent.whole_lines("s")
    assert "rewritten" not in [row.kind for row in agent.store.audit()]


def replace_beginning(agent: SimulatedAgent, session: str, *, in_place: bool, same_time: bool = True) -> None:
    """Another first line of the same length, long before the window of the marker; the size stays."""
    path = agent.path(session)
    seen, data = path.stat(), path.read_bytes()
    at = data.index(b"word") if b"word" in data else 30
    changed = data[:at] + b"WORD" + data[at + 4 :]
    target = path if in_place else path.with_suffix(".new")
    target.write_bytes(changed)
    target.replace(path)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns + (not same_time) * 1_000_000_000))


def test_another_file_with_another_beginning_is_noticed_at_once(make_agent: Make, lines: Lines) -> None:
    agent = make_agent(StrictBaseServer())
    agent.append("s", lines(100))
    agent.settle()
    replace_beginning(agent, "s", in_place=False)
    agent.settle()
    assert "rewritten" in [row.kind for row in agent.store.audit()]


def test_a_rewrite_to_the_same_size_and_time_is_found_by_the_slow_audit(make_agent: Make, lines: Lines) -> None:
    agent = make_agent(StrictBaseServer(), limits=Limits(audit_interval_s=3600))
    for session in "abcdef":
        agent.append(session, lines(100))
    agent.settle()
    replace_beginning(agent, "c", in_place=True)
    agent.settle()
    assert "rewritten" not in [row.kind for row in agent.store.audit()]
    agent.live_for(2 * 3600)
    agent.settle()
    assert [row.stream.session_id for row in agent.store.audit() if row.kind == "rewritten"] == ["c"]


def test_a_rewrite_in_place_that_leaves_the_size_is_found_soon_by_its_time(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """A day before the slow audit comes to it: a scrubber that puts other letters over a secret."""
    agent = make_agent(receiver, limits=Limits(audit_interval_s=86_400))
    for session in "abcdef":
        agent.append(session, lines(100))
    agent.settle()
    replace_beginning(agent, "c", in_place=True, same_time=False)
    agent.settle()
    agent.live_for(2 * STEP_S)
    agent.settle()
    assert [row.stream.session_id for row in agent.store.audit() if row.kind == "rewritten"] == ["c"]
    assert stored(receiver, "c") == agent.path("c").read_bytes()


def test_who_sets_the_time_of_every_file_causes_no_rush(make_agent: Make, lines: Lines) -> None:
    agent = make_agent(StrictBaseServer(), limits=Limits(audit_interval_s=86_400))
    for number in range(3 * MOST_ASKED):
        agent.append(f"s{number}", lines(2))
    agent.settle()
    for number in range(3 * MOST_ASKED):
        os.utime(agent.path(f"s{number}"), ns=(1, 2_000_000_000))
    agent.settle()
    asked = []
    for _ in range(4):
        agent.clock.advance(STEP_S)
        asked.append(len(agent.engine.audits.due(quiet=True)))
    assert asked == [MOST_ASKED, MOST_ASKED, MOST_ASKED, 0]


def test_without_an_interval_nothing_is_read_again(make_agent: Make, lines: Lines) -> None:
    agent = make_agent(StrictBaseServer())
    agent.append("s", lines(3))
    agent.settle()
    assert agent.engine.audits.next_s is None
