"""What is private stays here, whatever the order of events; what was sent of it before goes; and back again."""

import json
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from agent.core.delivery.lifecycle import State
from agent.core.status import OWED, Status
from agent.core.wire import RawReply, Request, delete_request, session_path, streams_request
from agent.daemon.status.report import Surroundings, report
from agent.delivery.base.world import Limits
from agent.delivery.push.reviewing import review
from agent.delivery.state.inputs import Restore, Retry, RulesChanged
from agent.delivery.state.pausing import PauseAsked, ResumeAsked
from agent.delivery.state.tasks import KeptBack, ReviewTask
from agent.system.files import reading as real_files
from tests.fakes import AsgiServer, FakeRules, ScriptedServer, StrictBaseServer, no_answer, reply
from tests.reliability import MakeTally
from tests.simulation.world import DESTINATION, SimulatedAgent

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]


class Listener(ScriptedServer):
    """Hears everything, and can be away."""

    def __init__(self, behind: AsgiServer) -> None:
        super().__init__(behind, lambda _: no_answer() if self.is_away else None)
        self.is_away = False


def told(agent: SimulatedAgent) -> None:
    """The engine hears that the rules are others."""
    agent.engine.handle(RulesChanged())
    agent.engine.tick()


def stored(server: AsgiServer, session: str) -> bytes:
    answer = server.send(Request("GET", session_path(session, "/entries")))
    return answer.body if answer.status == 200 else b""


def is_deleted(server: AsgiServer, session: str) -> bool:
    return server.send(streams_request(session)).status == 410


def line(uuid: str, cwd: str, text: str = "words") -> bytes:
    return json.dumps({"type": "user", "uuid": uuid, "cwd": cwd, "message": {"content": text}}).encode() + b"\n"


def kinds(agent: SimulatedAgent) -> list[str]:
    return [row.kind for row in agent.store.audit() if row.kind != "uploaded"]


def test_a_suspect_session_marked_shared_and_marked_again_is_still_deleted(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server, rules = Listener(receiver), FakeRules()
    agent = make_agent(server, rulebook=rules)
    agent.append("s", lines(1))
    agent.settle()
    rules.sessions.add("s")
    agent.store.close()
    agent._state_path.unlink()
    server.is_away = True
    agent.boot()
    agent.look()
    track = agent.track("s")
    track.status, track.touched = OWED, False  # as a start after that finds it
    rules.sessions.clear()
    told(agent)
    rules.sessions.add("s")
    told(agent)
    server.is_away = False
    agent.settle()
    assert is_deleted(receiver, "s")


def test_a_session_that_the_list_names_is_never_spoken_of(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = Listener(receiver)
    agent = make_agent(server, rulebook=FakeRules("s"))
    agent.append("s", lines(3))
    agent.append("s", lines(2), subpath="subagents/agent-a")
    agent.append("open", lines(3))
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    assert agent.state("open") is State.SYNCED
    assert not [request for request in server.requests if "/session/s/" in request.path]


def test_what_was_sent_is_deleted_and_comes_back_when_it_is_shared_again(
    make_agent: Make, lines: Lines, receiver: AsgiServer, tally: MakeTally
) -> None:
    rules = FakeRules()
    agent = make_agent(receiver, rulebook=rules)
    content = lines(4)
    agent.append("s", content)
    agent.append("s", lines(2), subpath="subagents/agent-a")
    agent.settle()
    rules.sessions.add("s")
    told(agent)
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    assert is_deleted(receiver, "s")
    agent.append("s", lines(3))
    agent.settle()
    assert is_deleted(receiver, "s")
    rules.sessions.clear()
    told(agent)
    agent.settle()
    assert agent.state("s") is State.SYNCED
    assert stored(receiver, "s") == agent.path("s").read_bytes()
    assert kinds(agent) == ["private_skipped", "deleted", "requeued"]
    tally("private means private", "marked after it was sent, and shared again").note()


def test_a_mark_while_its_push_is_in_flight_takes_back_what_arrives(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    rules = FakeRules()
    agent = make_agent(receiver, rulebook=rules)
    agent.append("s", lines(3))
    agent.settle()
    agent.append("s", lines(3))
    agent.look()
    assert agent.state("s") is State.PUSHING
    rules.sessions.add("s")
    told(agent)
    assert agent.state("s") is State.PUSHING
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    assert is_deleted(receiver, "s")


def test_the_last_look_at_the_list_is_right_before_the_request(
    make_agent: Make, lines: Lines, receiver: AsgiServer, tally: MakeTally
) -> None:
    """Nobody has told the engine yet."""
    rules, server = FakeRules(), Listener(receiver)
    agent = make_agent(server, rulebook=rules)
    agent.append("s", lines(3))
    agent.settle()
    before = len(server.requests)
    agent.append("s", lines(3))
    agent.look()
    assert agent.state("s") is State.PUSHING
    rules.sessions.add("s")
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    assert [request.method for request in server.requests[before:]] == ["DELETE"]
    tally("private means private", "marked between the decision to send and the request").note()


def test_a_deletion_waits_for_a_server_that_is_away_also_over_a_crash(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    rules, server = FakeRules(), Listener(receiver)
    agent = make_agent(server, rulebook=rules)
    agent.append("s", lines(3))
    agent.settle()
    server.is_away = True
    rules.sessions.add("s")
    told(agent)
    agent.live_for(120)
    assert not is_deleted(receiver, "s")
    agent.crash()
    agent.live_for(120)
    server.is_away = False
    agent.settle()
    assert is_deleted(receiver, "s")
    assert agent.state("s") is State.PRIVATE


def test_what_is_shared_again_before_its_deletion_was_answered_is_there_again(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """The server has deleted it; that it did never came back."""
    rules, server = FakeRules(), Listener(receiver)
    agent = make_agent(server, rulebook=rules)
    agent.append("s", lines(3))
    agent.settle()
    rules.sessions.add("s")
    told(agent)
    receiver.send(delete_request("s"))
    server.is_away = True
    agent.live_for(1)
    rules.sessions.clear()
    told(agent)
    server.is_away = False
    agent.settle()
    assert agent.state("s") is State.SYNCED
    assert stored(receiver, "s") == agent.path("s").read_bytes()


@pytest.mark.parametrize("answer", [503, 401, 500, 405])
def test_a_wish_to_delete_that_fails_when_it_is_shared_again_is_given_up(
    make_agent: Make, lines: Lines, receiver: AsgiServer, answer: int
) -> None:
    """Found by a story: its next try was set for a stream that was to be sent."""
    rules = FakeRules()
    server = ScriptedServer(receiver, lambda request: reply(answer) if request.method == "DELETE" else None)
    agent = make_agent(server, rulebook=rules)
    agent.append("s", lines(3))
    agent.settle()
    agent.engine.handle(PauseAsked(None))  # so that it only waits to be sent again
    rules.sessions.add("s")
    told(agent)
    failed = agent.run_a_task()
    rules.sessions.clear()
    told(agent)
    agent.engine.handle(failed)
    agent.live_for(600)
    agent.engine.handle(ResumeAsked())
    agent.engine.handle(Retry())
    agent.settle()
    assert agent.state("s") is State.SYNCED
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_who_changes_his_mind_twice_before_the_server_hears_of_it_has_it_deleted(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """Found by a story."""
    rules, server = FakeRules(), Listener(receiver)
    agent = make_agent(server, rulebook=rules)
    agent.append("s", lines(3))
    agent.settle()
    server.is_away = True
    for names in ({"s"}, set[str](), {"s"}):
        rules.sessions = names
        told(agent)
        agent.live_for(1)
    server.is_away = False
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    assert is_deleted(receiver, "s")


def test_a_base_server_gets_what_is_shared_again_without_being_asked_to_restore(make_agent: Make, lines: Lines) -> None:
    rules, server = FakeRules(), StrictBaseServer()
    agent = make_agent(server, rulebook=rules)
    agent.append("s", lines(3))
    agent.settle()
    rules.sessions.add("s")
    told(agent)
    agent.append("s", lines(2))
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    assert agent.destination.deletions == {"s": None}
    rules.sessions.clear()
    told(agent)
    agent.settle()
    assert agent.state("s") is State.SYNCED
    assert agent.destination.condition == "running"
    assert agent.track("s").cursor.offset == agent.path("s").stat().st_size


def test_what_was_deleted_and_gone_and_shared_again_is_private_no_more_after_a_restart(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    rules = FakeRules()
    agent = make_agent(receiver, rulebook=rules)
    content = lines(3)
    agent.append("s", content)
    agent.settle()
    rules.sessions.add("s")
    told(agent)
    agent.settle()
    agent.path("s").unlink()
    agent.settle()
    rules.sessions.clear()
    told(agent)
    agent.settle()
    agent.crash()
    agent.append("s", content)
    agent.settle()
    assert agent.state("s") is State.SYNCED
    assert stored(receiver, "s") == content


def test_what_may_have_arrived_of_a_file_that_is_gone_is_deleted_too(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """Its only push had no answer, so no cursor tells of it."""

    def script(request: Request) -> RawReply | None:
        if "/entries" not in request.path:
            return None
        receiver.send(request)
        agent.path("s").unlink(missing_ok=True)
        return no_answer()

    rules = FakeRules()
    agent = make_agent(ScriptedServer(receiver, script), rulebook=rules)
    agent.settle()
    agent.append("s", lines(3))
    agent.look()
    agent.run_one()
    agent.settle()
    assert agent.state("s") is State.GONE
    agent.crash()
    rules.sessions.add("s")
    told(agent)
    agent.settle()
    assert is_deleted(receiver, "s")


def test_its_file_may_go_before_the_deletion_is_done(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    rules, server = FakeRules(), Listener(receiver)
    agent = make_agent(server, rulebook=rules)
    agent.append("s", lines(3))
    agent.settle()
    server.is_away = True
    rules.sessions.add("s")
    told(agent)
    agent.path("s").unlink()
    agent.look()
    agent.live_for(120)
    agent.crash()
    server.is_away = False
    agent.settle()
    assert is_deleted(receiver, "s")
    agent.append("s", lines(2))
    agent.settle()
    assert agent.state("s") is State.PRIVATE


def test_a_session_that_comes_into_a_private_folder_is_private_from_its_first_line_on(
    make_agent: Make, receiver: AsgiServer
) -> None:
    rules = FakeRules(folders={"/home/dev/secret"})
    agent = make_agent(receiver, rulebook=rules)
    agent.append("s", line("a", "/home/dev/open"))
    agent.settle()
    assert stored(receiver, "s")
    agent.append("s", line("b", "/home/dev/secret"))
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    assert is_deleted(receiver, "s")


def test_a_folder_that_becomes_private_takes_sessions_back_that_were_ever_in_it(
    make_agent: Make, receiver: AsgiServer
) -> None:
    rules = FakeRules()
    agent = make_agent(receiver, rulebook=rules)
    agent.append("s", line("a", "/home/dev/open") + line("b", "/home/dev/secret") + line("c", "/home/dev/open"))
    agent.append("other", line("d", "/home/dev/open"))
    agent.settle()
    rules.folders.add("/home/dev/secret")
    told(agent)
    agent.settle()
    assert (agent.state("s"), agent.state("other")) == (State.PRIVATE, State.SYNCED)
    assert is_deleted(receiver, "s")
    rules.folders.clear()
    told(agent)
    agent.settle()
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_what_has_not_said_where_it_is_waits_until_it_does(make_agent: Make, receiver: AsgiServer) -> None:
    server = Listener(receiver)
    agent = make_agent(server, rulebook=FakeRules(folders={"/home/dev/secret"}))
    agent.append("s", b'{"type":"summary","summary":"words"}\n')
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    assert not [request for request in server.requests if "/session/s/" in request.path]
    agent.append("s", line("a", "/home/dev/open"))
    agent.settle()
    assert agent.state("s") is State.SYNCED


def report_of(agent: SimulatedAgent) -> Status:
    return report(agent.engine, Surroundings(1, 0.0, (), (), 0, ()))


SESSION_SAYS_NOTHING = b'{"type":"summary","summary":"words"}\n'


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("kind", ["tool-results/a.txt", "subagents/agent-a.jsonl"])
@pytest.mark.parametrize("order", list(permutations(["beside", "unsaid", "said"])), ids="-".join)
def test_what_waits_for_a_fact_is_asked_again_when_that_comes(
    make_agent: Make, receiver: AsgiServer, order: tuple[str, ...], kind: str, restarts: bool
) -> None:
    """A side file, or what says nothing of where it was written, found in any order with the line that says it."""
    agent = make_agent(receiver, rulebook=FakeRules(folders={"/home/dev/secret"}))
    beside = agent.root / "p" / "s" / kind

    def come(what: str) -> None:
        if what == "beside":
            beside.parent.mkdir(parents=True)
            beside.write_bytes(b'{"type":"user","uuid":"x"}\n')
        else:
            agent.append("s", SESSION_SAYS_NOTHING if what == "unsaid" else line("a", "/home/dev/open"))

    said = False
    for what in order:
        come(what)
        said = said or what == "said"
        for _ in range(3):
            agent.look(live=True)
            agent.live_for(60)
        if restarts:
            agent.crash()
        agent.settle()
        assert report_of(agent).synced == said
        assert bool(report_of(agent).open.get("undecided")) != said
    assert set(agent.states().values()) == {State.SYNCED}
    rows = [(row.stream, row.detail) for row in agent.store.audit() if row.kind == "private_skipped"]
    assert len(rows) == len(set(rows)), "one row for each reason"


def test_a_session_that_is_private_before_its_first_line_has_its_row_in_the_audit_log(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver, rulebook=FakeRules("s"))
    agent.append("s", lines(1), subpath="subagents/agent-a")
    agent.append("s", lines(3))
    agent.settle()
    agent.append("s", lines(3))
    agent.settle()
    assert kinds(agent) == ["private_skipped"]


@pytest.mark.parametrize("first", ["copy", "mark"])
def test_a_copy_of_a_private_session_is_private(
    make_agent: Make, lines: Lines, receiver: AsgiServer, first: str, tally: MakeTally
) -> None:
    """Resumed or forked: another id, the same entries at its beginning."""
    rules = FakeRules()
    agent = make_agent(receiver, rulebook=rules)
    history = lines(4)
    agent.append("s", history + lines(2))
    agent.settle()
    if first == "copy":
        agent.append("copy", history + lines(3))
        agent.settle()
        assert stored(receiver, "copy")
    rules.sessions.add("s")
    told(agent)
    agent.settle()
    if first == "mark":
        agent.append("copy", history + lines(3))
    agent.append("other", lines(3))
    agent.settle()
    assert agent.state("copy") is State.PRIVATE
    assert not stored(receiver, "copy")
    assert agent.state("other") is State.SYNCED
    rules.sessions.clear()
    told(agent)
    agent.settle()
    assert stored(receiver, "copy") == agent.path("copy").read_bytes()
    tally("private means private", "a copy of a private session").note()


@pytest.mark.parametrize("reads", ["the copy is going to be sent", "the copy was sent and is looked at again"])
def test_a_verdict_that_comes_when_the_rules_are_others_again_counts_for_nothing(
    make_agent: Make, lines: Lines, receiver: AsgiServer, reads: str
) -> None:
    """A worker found the copy of a private session, and before it could say so that session was private no more."""
    rules = FakeRules("s")
    agent = make_agent(receiver, rulebook=rules)
    history = lines(4)
    agent.append("s", history)
    agent.settle()
    agent.append("copy", history + lines(3))
    if reads == "the copy is going to be sent":
        agent.look()
        found: Any = agent.run_a_task()
        assert isinstance(found, KeptBack)
    else:
        rules.sessions.clear()
        told(agent)
        agent.settle()
        rules.sessions.add("s")
        told(agent)
        [asked] = [one for one in agent.disk_tasks if isinstance(one, ReviewTask)]
        agent.disk_tasks.clear()
        found = review(agent.guard, real_files, asked)
        assert found.why
    rules.sessions.clear()
    told(agent)
    agent.engine.handle(found)
    agent.settle()
    assert agent.state("copy") is State.SYNCED
    assert stored(receiver, "copy") == agent.path("copy").read_bytes()
    assert stored(receiver, "s") == history


def test_a_worker_that_hears_of_new_rules_first_tells_them_to_everybody(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """When the list is changed and changed back between two looks of the daemon, it never sees that."""
    rules = FakeRules()
    agent = make_agent(receiver, rulebook=rules)
    agent.settle()
    agent.append("s", lines(4))
    agent.look()
    rules.sessions.add("s")
    found = agent.run_a_task()
    assert isinstance(found, KeptBack)
    agent.engine.handle(found)
    assert agent.state("s") is State.PRIVATE
    rules.sessions.clear()
    assert not agent.engine.private.knows(rules.now())
    told(agent)
    agent.settle()
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_while_the_list_can_t_be_read_nothing_leaves_and_nothing_is_deleted(
    make_agent: Make, lines: Lines, receiver: AsgiServer, tally: MakeTally
) -> None:
    rules, server = FakeRules(), Listener(receiver)
    agent = make_agent(server, rulebook=rules)
    agent.append("s", lines(3))
    agent.settle()
    before = len(server.requests)
    rules.blind = "the list can't be read"
    agent.append("s", lines(3))
    agent.append("new", lines(3))
    for _ in range(20):
        agent.look()
        agent.run_one()
    assert agent.engine.private.blind
    assert len(server.requests) == before
    rules.blind = ""
    told(agent)
    agent.settle()
    for session in ("s", "new"):
        assert stored(receiver, session) == agent.path(session).read_bytes()
    tally("private means private", "a private list that can't be read").note()


def test_a_run_of_requests_ends_where_the_list_can_t_be_read_any_more(make_agent: Make, lines: Lines) -> None:
    """Each of them is asked for, also when all that they hold was looked at before."""
    rules, base = FakeRules(), StrictBaseServer()

    def script(request: Request) -> RawReply | None:
        if request.method == "PUT" and "s" not in base.sessions:
            rules.blind = "the list can't be read"
        return None

    agent = make_agent(ScriptedServer(base, script), rulebook=rules)
    agent.settle()
    agent.append("s", lines(5))
    agent.look()
    agent.live_for(5)
    assert len(base.sessions["s"]) == 1
    rules.blind = ""
    told(agent)
    agent.settle()
    assert b"\n".join([*base.sessions["s"], b""]) == agent.path("s").read_bytes()


def test_what_others_deleted_on_the_server_stays_deleted_until_somebody_says_restore(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    rules = FakeRules()
    agent = make_agent(receiver, rulebook=rules)
    agent.append("s", lines(3))
    agent.settle()
    receiver.send(delete_request("s"))
    agent.append("s", lines(3))
    agent.settle()
    assert agent.state("s") is State.DELETED_ON_SERVER
    rules.sessions.add("s")
    told(agent)
    agent.settle()
    rules.sessions.clear()
    told(agent)
    agent.settle()
    assert agent.state("s") is State.DELETED_ON_SERVER
    assert is_deleted(receiver, "s")
    agent.engine.handle(Restore(frozenset({"s"})))
    agent.settle()
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_a_new_session_is_held_for_a_while(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = Listener(receiver)
    agent = make_agent(server, limits=Limits(hold_s=600))
    agent.append("s", lines(3))
    agent.look()
    agent.live_for(500)
    agent.append("s", lines(3))
    agent.look()
    agent.live_for(60)
    assert not [request for request in server.requests if "/session/s/" in request.path]
    agent.live_for(60)
    assert stored(receiver, "s") == agent.path("s").read_bytes()
    agent.append("s", lines(1))
    agent.settle()
    assert stored(receiver, "s") == agent.path("s").read_bytes()


def test_facts_of_a_private_session_stay_here_too(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    rules = FakeRules()
    agent = make_agent(receiver, rulebook=rules)
    agent.append("s", lines(3))
    agent.look()
    while agent.state("s") is not State.SYNCED:
        agent.run_one()
    rules.sessions.add("s")
    agent.settle()
    assert DESTINATION in {key.destination for key in agent.engine.tracks}
    told(agent)
    agent.settle()
    assert is_deleted(receiver, "s")
