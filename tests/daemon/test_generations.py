"""Files that are no longer what was sent: a new generation where it must be, the old one stays, nothing is mixed."""

import json
import random
from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest

from agent.core.delivery.lifecycle import State
from agent.core.status import count_streams
from agent.core.wire import RawReply, Request, parse_streams, streams_request
from agent.daemon.status.report import Surroundings, list_remembered, list_streams, report
from agent.delivery.engine.answers import DIVERGED
from agent.delivery.state.inputs import Retry
from tests.fakes import AsgiServer, ScriptedServer, no_answer
from tests.reliability import MakeTally
from tests.simulation.world import SimulatedAgent, entry

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]


def generations(server: AsgiServer, session: str, subpath: str = "") -> list[tuple[bool, bytes]]:
    """Each generation of a stream, in the order of their making: whether it is the current one, and what it holds."""
    rows = parse_streams(server.send(streams_request(session))) or []
    found = []
    for row in rows:
        if row.subpath == subpath:
            path = f"/v1/session_ingress/session/{session}/entries?subpath={subpath}&generation={row.head.generation}"
            found.append((row.current, server.send(Request("GET", path)).body))
    return found


def contents(server: AsgiServer, session: str) -> list[bytes]:
    return [content for _, content in generations(server, session)]


def sent_bytes(server: ScriptedServer) -> int:
    bodies = (request.body for request in server.requests if "/entries" in request.path)
    return sum(len(body) for body in bodies if isinstance(body, bytes))


def is_begin(request: Request) -> bool:
    return request.method == "POST" and request.path.partition("?")[0].endswith("/generations")


def begun_by(server: ScriptedServer) -> list[Request]:
    return [request for request in server.requests if is_begin(request)]


def test_a_rewritten_file_begins_a_new_generation_and_the_old_one_stays(
    make_agent: Make, lines: Lines, receiver: AsgiServer, tally: MakeTally
) -> None:
    agent = make_agent(receiver)
    first, second = lines(3), lines(6)
    agent.append("s", first)
    agent.settle()
    agent.path("s").write_bytes(second)
    agent.settle()
    assert generations(receiver, "s") == [(False, first), (True, second)]
    kinds = [row.kind for row in agent.store.audit() if row.kind != "uploaded"]
    assert kinds == ["rewritten", "new_generation"]
    agent.append("s", lines(2))
    agent.settle()
    assert contents(receiver, "s") == [first, agent.path("s").read_bytes()]
    tally("nothing is sent twice or mixed", "a file rewritten after it was sent").note_lines(
        agent.whole_lines("s"), contents(receiver, "s")[-1].split(b"\n")[:-1]
    )


def test_how_often_a_new_one_was_begun_is_told_also_after_a_restart(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)

    def told() -> list[int]:
        around = Surroundings(1, agent.clock.now_s(), (), (), 0, ())
        running, remembered = list_streams(agent.engine), list_remembered(agent.store.tracks())
        sums = [count_streams(running).generations, count_streams(remembered).generations]
        return [*sums, report(agent.engine, around).counts.generations]

    for session in ("s", "other"):
        agent.append(session, lines(3))
    agent.settle()
    assert told() == [0, 0, 0]
    agent.path("s").write_bytes(lines(4))
    agent.settle()
    agent.crash()
    assert told() == [1, 1, 1]
    agent.path("s").write_bytes(lines(4))
    agent.append("other", lines(1))
    agent.settle()
    agent.crash()
    assert told() == [2, 2, 2]
    assert {line.session_id: line.generations for line in list_streams(agent.engine)} == {"s": 2, "other": 0}


def test_what_a_lost_state_finds_again_at_the_server_is_no_new_one(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    theirs = make_agent(receiver)
    theirs.append("s", lines(3))
    theirs.settle()
    ours = make_agent(receiver)
    ours.append("s", theirs.path("s").read_bytes() + lines(1))
    ours.settle()
    assert ours.state("s") is State.SYNCED
    assert ours.track("s").generations == 0


@pytest.mark.parametrize("kept", [0, 1, 7, 40])
def test_what_both_have_in_common_is_shared_and_not_sent_again(
    kept: int, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server)
    agent.append("s", lines(40))
    agent.settle()
    before = agent.path("s").read_bytes()
    beginning = b"".join(line + b"\n" for line in agent.whole_lines("s")[:kept])
    rest = b"" if kept == 40 else lines(5)
    agent.path("s").write_bytes(beginning + rest)
    server.requests.clear()
    agent.settle()
    expected = [before] if kept == 40 else [before, beginning + rest]
    assert contents(receiver, "s") == expected
    assert sent_bytes(server) == len(rest)


def test_a_file_cut_short_and_grown_again_goes_on_in_its_new_generation(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    first, more = lines(3), lines(2)
    agent.append("s", first + more)
    agent.settle()
    agent.path("s").write_bytes(first)
    agent.settle()
    agent.append("s", lines(1))
    agent.settle()
    assert contents(receiver, "s") == [first + more, agent.path("s").read_bytes()]


@pytest.mark.parametrize("more", [0, 1])
def test_a_file_that_is_put_back_is_the_current_one_again(
    make_agent: Make, lines: Lines, receiver: AsgiServer, more: int
) -> None:
    """Behind its old generation, of which nothing travels again: what goes on in there would not be seen."""
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server)
    first, second, rest = lines(4), lines(4), lines(more)
    agent.append("s", first)
    agent.settle()
    agent.path("s").write_bytes(second)
    agent.settle()
    server.requests.clear()
    agent.path("s").write_bytes(first + rest)
    agent.settle()
    assert contents(receiver, "s") == [first, second, first + rest]
    assert sent_bytes(server) == len(rest)
    assert agent.state("s") is State.SYNCED


def test_two_machines_that_went_different_ways_do_not_fight(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """A session continued on two machines: each goes on in a generation of its own, for as long as they like."""
    theirs = make_agent(receiver)
    theirs.append("s", lines(3))
    theirs.settle()
    counting = ScriptedServer(receiver, lambda _: None)
    ours = make_agent(counting)
    ours.append("s", theirs.path("s").read_bytes())
    ours.settle()
    for _ in range(5):
        theirs.append("s", lines(1))
        theirs.settle()
        ours.append("s", lines(2))
        ours.settle()
    assert sorted(contents(receiver, "s")) == sorted([theirs.path("s").read_bytes(), ours.path("s").read_bytes()])
    assert len(begun_by(counting)) == 1
    for agent in (theirs, ours):
        kinds = [row.kind for row in agent.store.audit()]
        assert kinds.count("new_generation") <= 1


def test_a_new_generation_parts_from_the_history_that_it_was_sent_to(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """Not from the one that somebody else began meanwhile, with which it has less in common."""
    server = ScriptedServer(receiver, lambda _: None)
    ours, theirs = make_agent(server), make_agent(receiver)
    ours.append("s", lines(3))
    ours.settle()
    theirs.append("s", ours.path("s").read_bytes() + lines(2))
    ours.append("s", lines(5))
    ours.settle()
    theirs.settle()
    rest = lines(1)
    kept = b"".join(line + b"\n" for line in ours.whole_lines("s")[:7])
    ours.path("s").write_bytes(kept + rest)
    server.requests.clear()
    ours.settle()
    assert contents(receiver, "s")[1:] == [theirs.path("s").read_bytes(), kept + rest]
    assert sent_bytes(server) == len(rest)


def test_a_new_generation_that_is_not_the_asked_one_moves_no_cursor(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    wrong = True

    def answer(request: Request) -> RawReply | None:
        if not wrong or not is_begin(request):
            return None
        (row,) = parse_streams(receiver.send(streams_request("s"))) or []
        return RawReply(201, {}, msgspec.json.encode(row.head))

    server = ScriptedServer(receiver, answer)
    agent = make_agent(server)
    first, second = lines(3), lines(4)
    agent.append("s", first)
    agent.settle()
    cursor = agent.track("s").cursor
    agent.path("s").write_bytes(second)
    server.requests.clear()
    agent.look()
    agent.live_for(60)
    assert agent.track("s").cursor == cursor
    assert begun_by(server)
    assert sent_bytes(server) == 0
    wrong = False
    agent.settle()
    assert contents(receiver, "s") == [first, second]


def test_a_rewrite_that_leaves_every_length_as_it_is_is_noticed(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """The same file under the same name, with a line's end exactly where the cursor stands."""
    agent = make_agent(receiver)
    first = lines(4)
    agent.append("s", first)
    agent.settle()
    second = first.replace(b'"user"', b'"USER"') + lines(2)
    agent.path("s").write_bytes(second)
    agent.settle()
    assert contents(receiver, "s") == [first, second]


def test_foreign_content_under_our_id_is_neither_overwritten_nor_mixed(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    theirs = make_agent(receiver)
    theirs.append("s", lines(3))
    theirs.settle()
    ours = make_agent(receiver)
    ours.append("s", lines(4))
    ours.settle()
    assert contents(receiver, "s") == [theirs.path("s").read_bytes(), ours.path("s").read_bytes()]


def test_a_live_file_that_is_recreated_with_the_later_entries_only_keeps_both(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    first, later = lines(5), lines(2)
    agent.append("s", first)
    agent.settle()
    agent.path("s").unlink()
    agent.append("s", later)
    agent.look(live=True)
    agent.settle()
    assert contents(receiver, "s") == [first, later]


def test_a_lost_answer_to_a_new_generation_makes_no_second_one(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    lost: list[Request] = []

    def lose(request: Request) -> RawReply | None:
        if request.path.partition("?")[0].endswith("/generations") and len(lost) < 3:
            lost.append(request)
            receiver.send(request)
            return no_answer()
        return None

    agent = make_agent(ScriptedServer(receiver, lose))
    first, second = lines(3), lines(3)
    agent.append("s", first)
    agent.settle()
    agent.path("s").write_bytes(second)
    agent.settle()
    assert contents(receiver, "s") == [first, second]
    assert len(lost) == 1


def test_a_server_without_generations_is_left_as_it_is(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    def offer_less(request: Request) -> RawReply | None:
        if not request.path.endswith("/capabilities"):
            return None
        answer = receiver.send(request)
        return answer._replace(body=json.dumps(json.loads(answer.body) | {"generations": False}).encode())

    server = ScriptedServer(receiver, offer_less)
    agent = make_agent(server)
    first = lines(3)
    agent.append("s", first)
    agent.settle()
    agent.path("s").write_bytes(lines(6))
    agent.settle()
    assert contents(receiver, "s") == [first]
    assert (agent.state("s"), agent.track("s").reason, agent.track("s").status) == (State.REFUSED, DIVERGED, 409)
    server.script = lambda _: None
    agent.engine.handle(Retry())
    agent.settle()
    assert contents(receiver, "s") == [first, agent.path("s").read_bytes()]


def test_one_that_does_not_tell_heads_within_a_history_gets_all_of_it_again(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    def head_of_now(request: Request) -> RawReply | None:
        path, _, query = request.path.partition("&entry_count=")
        return receiver.send(Request("GET", path)) if query else None

    agent = make_agent(ScriptedServer(receiver, head_of_now))
    agent.append("s", lines(10))
    agent.settle()
    before = agent.path("s").read_bytes()
    agent.path("s").write_bytes(before[: len(before) // 2].rpartition(b"\n")[0] + b"\n" + lines(1))
    agent.settle()
    assert contents(receiver, "s") == [before, agent.path("s").read_bytes()]


def test_a_restored_backup_of_the_server_gets_what_it_lacks(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """It lost the generation that this agent wrote to last; what it has still stands in the file."""
    agent = make_agent(receiver)
    agent.append("s", lines(4))
    agent.settle()
    agent.track("s").cursor = agent.track("s").cursor._replace(generation="0b7f7d5e-8f2c-4f6e-9a43-1d2f3c4b5a69")
    agent.append("s", lines(2))
    agent.settle()
    assert contents(receiver, "s") == [agent.path("s").read_bytes()]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_file_was_is_on_the_server_in_some_generation(
    seed: int, make_agent: Make, receiver: AsgiServer
) -> None:
    """Rewrites, cuts and appends in any order: every version that was sent stays readable, the last one is current."""
    rng = random.Random(seed)
    agent = make_agent(receiver, seed=seed)
    versions: list[bytes] = []
    agent.append("s", b"".join(entry(rng) for _ in range(3)))
    for _ in range(12):
        data = agent.path("s").read_bytes()
        cut = rng.randrange(len(data) + 1)
        change = rng.choice(("append", "append", "cut", "replace", "middle", "old"))
        fresh = b"".join(entry(rng) for _ in range(rng.randrange(1, 4)))
        changed = {
            "append": data + fresh,
            "cut": data[:cut],
            "replace": fresh,
            "middle": data[:cut] + fresh + data[cut:],
            "old": rng.choice(versions) if versions else data + fresh,
        }[change]
        agent.path("s").write_bytes(changed)
        agent.settle()
        versions.append(changed[: changed.rfind(b"\n") + 1])
    held = contents(receiver, "s")
    for version in versions:
        assert any(content.startswith(version) for content in held)
    assert agent.state("s") is State.SYNCED
    ours = agent.track("s").cursor.generation
    path = f"/v1/session_ingress/session/s/entries?generation={ours}"
    assert receiver.send(Request("GET", path)).body == versions[-1]
    for content in held:
        whole = content.split(b"\n")
        assert all(before != after for before, after in pairwise(whole) if before), "no entry twice in a row"
