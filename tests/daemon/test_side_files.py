"""Tool results and their likes: by digest, after the entries that mention them, resumed where they broke off."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from agent.core.delivery.lifecycle import State
from agent.core.transcripts.session import StreamId
from agent.core.wire import LongBody, RawReply, Request
from agent.delivery.base.world import Limits
from agent.delivery.engine.errands import NO_FILES
from agent.delivery.state.inputs import Retry
from agent.delivery.state.tasks import KeepTask
from tests.fakes import AsgiServer, ScriptedServer, StrictBaseServer, no_answer, reply
from tests.reliability import MakeTally
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]
RESULT = "files/tool-results/toolu_1.txt"


def write(agent: SimulatedAgent, session: str, place: str, data: bytes) -> Path:
    path = agent.root / "p" / session / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def on_server(server: AsgiServer, session: str, place: str) -> bytes | None:
    answer = server.send(Request("GET", f"/v1/session_ingress/session/{session}/files/{place}"))
    return answer.body if answer.status == 200 else None


def is_file_put(request: Request) -> bool:
    return request.method == "PUT" and "/files/" in request.path


def test_side_files_arrive_after_the_entries_of_their_session(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server)
    write(agent, "s", "tool-results/toolu_1.txt", b"result \x00\xff\n")
    write(agent, "s", "tool-results/deep/two.txt", b"")
    write(agent, "s", "subagents/agent-a.meta.json", b'{"a":1}')
    write(agent, "s", "custom-title.json", b"{}")
    write(agent, "s", "notes.txt", b"somebody else's")
    agent.append("s", lines(2000))
    agent.settle()
    assert on_server(receiver, "s", "tool-results/toolu_1.txt") == b"result \x00\xff\n"
    assert on_server(receiver, "s", "tool-results/deep/two.txt") == b""
    assert on_server(receiver, "s", "subagents/agent-a.meta.json") == b'{"a":1}'
    assert on_server(receiver, "s", "custom-title.json") == b"{}"
    assert on_server(receiver, "s", "notes.txt") is None
    first = next(at for at, one in enumerate(server.requests) if is_file_put(one))
    assert not any("/entries" in one.path for one in server.requests[first:])
    assert set(agent.states().values()) == {State.SYNCED}
    details = {row.stream.subpath: row.detail for row in agent.store.audit() if row.kind == "uploaded"}
    assert details[RESULT] == "10 bytes"


def test_side_files_wait_while_the_entries_of_their_session_do(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda request: reply(500) if "/s/entries" in request.path else None)
    agent = make_agent(server)
    for session in "st":
        write(agent, session, "tool-results/toolu_1.txt", b"result")
        agent.append(session, lines(2))
    agent.look()
    agent.live_for(600)
    assert agent.state("s") is State.WAITING
    assert on_server(receiver, "t", "tool-results/toolu_1.txt") == b"result"
    assert not any("/s/files" in request.path for request in server.requests)
    server.script = lambda _: None
    agent.settle()
    assert on_server(receiver, "s", "tool-results/toolu_1.txt") == b"result"


def test_a_file_that_changed_is_sent_again_and_one_that_did_not_is_not(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server)
    agent.append("s", lines(1))
    path = write(agent, "s", "tool-results/toolu_1.txt", b"one")
    agent.settle()
    path.write_bytes(b"two")
    agent.settle()
    assert on_server(receiver, "s", "tool-results/toolu_1.txt") == b"two"
    agent.crash()
    agent.settle()
    assert sum(map(is_file_put, server.requests)) == 2


def test_a_large_file_that_is_there_already_is_not_sent(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    data = bytes(range(256)) * 1024
    agent = make_agent(server)
    agent.append("s", lines(1))
    write(agent, "s", "tool-results/toolu_1.txt", data)
    agent.settle()
    other = make_agent(server)
    other.append("s", agent.path("s").read_bytes())
    write(other, "s", "tool-results/toolu_1.txt", data)
    before = sum(map(is_file_put, server.requests))
    other.settle()
    assert sum(map(is_file_put, server.requests)) == before
    assert other.state("s", RESULT) is State.SYNCED


def test_an_upload_that_broke_off_goes_on_where_it_was(
    make_agent: Make, lines: Lines, receiver: AsgiServer, tally: MakeTally
) -> None:
    data = bytes(range(256)) * (5 << 12)
    sent: list[int] = []

    def break_off(request: Request) -> RawReply | None:
        if not is_file_put(request) or not isinstance(request.body, LongBody):
            return None
        sent.append(request.body.size)
        if len(sent) > 1:
            return None
        receiver.send_part(request, request.body.size // 2)
        return no_answer()

    agent = make_agent(ScriptedServer(receiver, break_off))
    agent.append("s", lines(1))
    write(agent, "s", "tool-results/toolu_1.txt", data)
    agent.settle()
    assert on_server(receiver, "s", "tool-results/toolu_1.txt") == data
    assert sent[0] == len(data)
    assert 0 < sent[1] < len(data)
    tally("nothing is lost", "a side file's upload broke off").note(lost=int(sum(sent) < len(data)))


def test_side_files_do_not_use_all_of_the_line(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver, limits=Limits(files_bytes_per_s=100_000))
    agent.append("s", lines(1))
    write(agent, "s", "tool-results/toolu_1.txt", bytes(1_000_000))
    before_s = agent.clock.mono_s
    agent.settle()
    assert agent.clock.mono_s - before_s >= 10


def test_a_file_that_is_too_large_for_the_server_is_shown_and_holds_up_nothing(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda request: reply(413) if is_file_put(request) else None)
    agent = make_agent(server)
    agent.append("s", lines(2))
    path = write(agent, "s", "tool-results/toolu_1.txt", b"large")
    agent.settle()
    assert agent.state("s") is State.SYNCED
    assert (agent.state("s", RESULT), agent.track("s", RESULT).status) == (State.REFUSED, 413)
    server.script = lambda _: None
    path.write_bytes(b"larger")
    agent.settle()
    assert agent.state("s", RESULT) is State.REFUSED
    path.write_bytes(b"less")
    agent.settle()
    assert on_server(receiver, "s", "tool-results/toolu_1.txt") == b"less"


def test_a_base_server_gets_no_side_files_and_says_so_in_the_state(make_agent: Make, lines: Lines) -> None:
    agent = make_agent(StrictBaseServer())
    agent.append("s", lines(2))
    write(agent, "s", "tool-results/toolu_1.txt", b"x")
    agent.settle()
    assert (agent.state("s", RESULT), agent.track("s", RESULT).reason) == (State.REFUSED, NO_FILES)


def test_a_server_that_learns_to_take_files_gets_them(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    base = StrictBaseServer()
    server = ScriptedServer(base, lambda _: None)
    agent = make_agent(server)
    agent.append("s", lines(2))
    write(agent, "s", "tool-results/toolu_1.txt", b"x")
    agent.settle()
    server.behind = receiver
    agent.engine.handle(Retry())
    agent.settle()
    assert on_server(receiver, "s", "tool-results/toolu_1.txt") == b"x"


def test_files_of_a_session_that_is_not_taken_stay_here(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda request: reply(403) if "/entries" in request.path else None)
    agent = make_agent(server)
    agent.append("s", lines(2))
    write(agent, "s", "tool-results/toolu_1.txt", b"x")
    agent.settle()
    assert not any(map(is_file_put, server.requests))
    server.script = lambda _: None
    agent.engine.handle(Retry(frozenset({"s"})))
    agent.settle()
    assert on_server(receiver, "s", "tool-results/toolu_1.txt") == b"x"


def test_a_file_that_comes_back_while_its_session_waits_is_sent_with_it(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda request: reply(403) if "/entries" in request.path else None)
    agent = make_agent(server)
    agent.append("s", lines(2))
    path = write(agent, "s", "tool-results/toolu_1.txt", b"x")
    agent.settle()
    path.unlink()
    agent.look()
    assert agent.state("s", RESULT) is State.GONE
    server.script = lambda request: reply(500) if "/entries" in request.path else None
    agent.engine.handle(Retry(frozenset({"s"})))
    agent.live_for(5)
    write(agent, "s", "tool-results/toolu_1.txt", b"newer")
    agent.look()
    agent.live_for(60)
    assert agent.state("s") is State.WAITING
    server.script = lambda _: None
    agent.settle()
    assert on_server(receiver, "s", "tool-results/toolu_1.txt") == b"newer"


def test_a_file_that_took_another_s_place_and_was_sent_is_sent_again_when_it_grows(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda request: no_answer())
    agent = make_agent(server)
    agent.append("s", lines(2))
    path = write(agent, "s", "tool-results/toolu_1.txt", b"one, and it is held")
    agent.look()
    agent.live_for(60)
    agent.run_one()
    assert [one.name for one in agent.kept.list_kept() if "toolu" in one.name]
    path.unlink()
    write(agent, "s", "tool-results/toolu_1.txt", b"two")
    agent.look()
    stream = StreamId("s", RESULT)
    agent.engine.keeper.sweep()
    [asked] = [one for one in agent.disk_tasks if isinstance(one, KeepTask) and one.stream == stream]
    agent.disk_tasks.remove(asked)
    found = agent.do_disk_task(asked)
    server.script = lambda _: None
    while on_server(receiver, "s", "tool-results/toolu_1.txt") is None:
        assert agent.run_one() or agent.wait()
    agent.engine.handle(found)
    agent.settle()
    path.write_bytes(b"two, and more")
    agent.settle()
    assert on_server(receiver, "s", "tool-results/toolu_1.txt") == b"two, and more"


def test_a_name_with_blanks_and_signs_keeps_them(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server)
    agent.append("s", lines(1))
    write(agent, "s", "tool-results/ä b%#?.txt", b"x")
    agent.settle()
    (request,) = filter(is_file_put, server.requests)
    assert unquote(request.path).endswith("/files/tool-results/ä b%#?.txt")
    assert agent.state("s", "files/tool-results/ä b%#?.txt") is State.SYNCED
