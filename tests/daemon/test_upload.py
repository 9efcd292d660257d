"""Servers that only take whole files: section 4 of docs/wire.md, read by a parser of multipart that is not ours."""

import gzip
import random
from collections.abc import Callable

import pytest

from agent.core.delivery.lifecycle import Condition, State
from agent.core.transcripts.session import StreamId
from agent.core.wire import RawReply, Request
from agent.daemon.status.report import Surroundings, report
from agent.delivery.engine.answers import OUTSIDE
from agent.delivery.engine.engine import QUIET_S
from agent.delivery.engine.errands import REST_BYTES_S, REST_S
from agent.delivery.push.filesender import upload_name
from agent.delivery.state.inputs import Retry
from tests.fakes import no_answer, reply
from tests.simulation.uploads import parse_file
from tests.simulation.world import SimulatedAgent, entry

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]


class Shelf:
    """Keeps files by name, the last one wins."""

    def __init__(self, *, takes_gzip: bool = False) -> None:
        self.files: dict[str, bytes] = {}
        self.uploads = 0
        self.takes_gzip = takes_gzip
        self.script: Callable[[Request], RawReply | None] = lambda _: None

    def send(self, request: Request) -> RawReply:
        answer = self.script(request)
        if answer is not None:
            return answer
        if (request.method, request.path) == ("GET", "/health"):
            return reply(200, b'{"encodings": ["gzip"]}') if self.takes_gzip else reply(404)
        assert (request.method, request.path) == ("POST", "")
        self.uploads += 1
        name, content = parse_file(request)
        self.files[name] = content
        return reply(201)


def condition(agent: SimulatedAgent) -> Condition:
    return agent.destination.condition


def test_a_last_line_without_a_newline_goes_along_when_it_has_been_quiet(make_agent: Make, lines: Lines) -> None:
    shelf = Shelf()
    agent = make_agent(shelf, protocol="upload")
    whole, tail = lines(2), b'{"uuid":"tail-1"}'
    agent.append("s", whole + tail)
    agent.append("torn", whole + tail[:-1])
    agent.settle()
    assert shelf.files == {"s.jsonl": whole, "torn.jsonl": whole}
    agent.live_for(QUIET_S + 1)
    assert shelf.files == {"s.jsonl": whole + tail, "torn.jsonl": whole}
    agent.path("s").touch()
    agent.crash()
    agent.settle()
    assert (shelf.files["s.jsonl"], shelf.uploads) == (whole + tail, 3), "it is not taken back"
    agent.append("s", b"\n")
    agent.settle()
    assert shelf.files["s.jsonl"] == whole + tail + b"\n"


def test_a_transcript_is_sent_whole_when_it_is_new_and_when_it_has_grown(make_agent: Make, lines: Lines) -> None:
    shelf = Shelf()
    agent = make_agent(shelf, protocol="upload")
    agent.append("s", lines(3) + b'{"torn":')
    agent.append("s", lines(1), "subagents/agent-a")
    agent.settle()
    whole = agent.path("s").read_bytes().rpartition(b"\n")[0] + b"\n"
    assert shelf.files == {
        "s.jsonl": whole,
        "s.subagents.agent-a.jsonl": agent.path("s", "subagents/agent-a").read_bytes(),
    }
    agent.append("s", b"1}\n")
    agent.settle()
    assert shelf.files["s.jsonl"] == agent.path("s").read_bytes()
    assert shelf.uploads == 3
    agent.path("s").touch()
    agent.settle()
    assert shelf.uploads == 3, "the same content again is not sent"
    assert set(agent.states().values()) == {State.SYNCED}
    assert [one.protocol for one in report(agent.engine, Surroundings(1, 0.0, (), (), 0, ())).destinations] == [
        "upload"
    ]


def test_a_rewritten_transcript_takes_the_place_of_the_old_one(make_agent: Make, lines: Lines) -> None:
    shelf = Shelf()
    agent = make_agent(shelf, protocol="upload")
    agent.append("s", lines(3))
    agent.settle()
    agent.path("s").write_bytes(lines(2))
    agent.settle()
    assert shelf.files["s.jsonl"] == agent.path("s").read_bytes()


def test_compressed_only_where_the_server_says_so(make_agent: Make, lines: Lines) -> None:
    shelf = Shelf(takes_gzip=True)
    agent = make_agent(shelf, protocol="upload")
    agent.append("s", lines(50))
    agent.settle()
    assert list(shelf.files) == ["s.jsonl.gz"]
    assert gzip.decompress(shelf.files["s.jsonl.gz"]) == agent.path("s").read_bytes()
    assert len(shelf.files["s.jsonl.gz"]) < agent.path("s").stat().st_size


def test_a_transcript_that_grows_and_grows_does_not_travel_each_time(make_agent: Make, lines: Lines) -> None:
    """It went twelve times in ten seconds, 1.2 MB each."""
    shelf = Shelf()
    agent = make_agent(shelf, protocol="upload")
    agent.append("s", entry(random.Random(1), text="x" * 1_200_000))
    agent.settle()
    for _ in range(12):
        agent.append("s", lines(1))
        agent.look(live=True)
        agent.live_for(1)
    assert shelf.uploads == 1
    assert not agent.engine.is_busy(), "a command does not wait for the rest"
    agent.live_for(REST_S)
    assert (shelf.uploads, shelf.files["s.jsonl"]) == (2, agent.path("s").read_bytes())
    agent.append("s", lines(1))
    agent.look(live=True)
    agent.live_for(1)
    agent.engine.handle(Retry())  # `transcriptd push`
    agent.live_for(1)
    assert (shelf.uploads, agent.state("s")) == (3, State.SYNCED)


@pytest.mark.parametrize("size", [1_000, 3_000_000, 6_000_000])
def test_a_large_one_rests_longer(size: int, make_agent: Make, lines: Lines) -> None:
    shelf = Shelf()
    agent = make_agent(shelf, protocol="upload")
    agent.append("s", entry(random.Random(1), text="x" * size))
    agent.settle()
    began_s = agent.clock.mono_s
    while shelf.uploads < 4:
        agent.append("s", lines(1))
        agent.look(live=True)
        agent.live_for(1)
    assert agent.clock.mono_s - began_s >= 3 * max(REST_S, size / REST_BYTES_S) - 5


@pytest.mark.parametrize("status", [402, 403, 413, 451])
def test_what_its_growth_can_not_mend_is_not_sent_again_for_that(status: int, make_agent: Make, lines: Lines) -> None:
    shelf = Shelf()
    shelf.script = lambda request: reply(status) if request.method == "POST" else None
    agent = make_agent(shelf, protocol="upload")
    agent.append("s", lines(3))
    agent.settle()
    shelf.script = lambda _: None
    for _ in range(5):
        agent.append("s", lines(1))
        agent.look(live=True)
        agent.live_for(2 * REST_S)
    assert (shelf.uploads, agent.state("s")) == (0, State.REFUSED)
    if status == 413:
        agent.path("s").write_bytes(lines(1))
        agent.settle()
    else:
        agent.engine.handle(Retry())  # somebody said `retry`, or stored a new token
        agent.settle()
    assert shelf.files["s.jsonl"] == agent.path("s").read_bytes()


@pytest.mark.parametrize("status", [400, 409, 410, 415, 422])
def test_what_is_refused_is_refused_for_this_size(status: int, make_agent: Make, lines: Lines) -> None:
    shelf = Shelf()
    shelf.script = lambda request: reply(status) if request.method == "POST" else None
    agent = make_agent(shelf, protocol="upload")
    agent.append("s", lines(3))
    agent.settle()
    assert (agent.state("s"), agent.track("s").status) == (State.REFUSED, status)
    row = next(row for row in agent.store.audit() if row.kind == "refused")
    assert (row.path, str(status) in row.detail) == (str(agent.path("s")), True)
    agent.crash()
    assert (agent.state("s"), agent.track("s").status) == (State.REFUSED, status), "on record over a restart"
    shelf.script = lambda _: None
    agent.settle()
    assert shelf.files == {}
    agent.append("s", lines(1))
    agent.settle()
    assert shelf.files["s.jsonl"] == agent.path("s").read_bytes()
    assert (agent.state("s"), agent.track("s").status) == (State.SYNCED, 0)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int, make_agent: Make, lines: Lines) -> None:
    shelf = Shelf()
    left = [3]

    def refuse_at_first(request: Request) -> RawReply | None:
        if request.method != "POST" or not left[0]:
            return None
        left[0] -= 1
        return reply(status)

    shelf.script = refuse_at_first
    agent = make_agent(shelf, protocol="upload")
    agent.append("s", lines(3))
    agent.settle()
    assert shelf.files["s.jsonl"] == agent.path("s").read_bytes()
    assert agent.state("s") is State.SYNCED


@pytest.mark.parametrize("status", [404, 405, 501])
def test_an_address_that_takes_no_files_marks_no_transcript_failed(status: int, make_agent: Make, lines: Lines) -> None:
    shelf = Shelf()
    shelf.script = lambda request: reply(status) if request.method == "POST" else None
    agent = make_agent(shelf, protocol="upload")
    agent.append("s", lines(3))
    agent.settle()
    assert agent.destination.condition is Condition.MISCONFIGURED
    assert agent.state("s") is State.DUE


def test_401_waits_for_a_token_and_a_portal_counts_as_away(make_agent: Make, lines: Lines) -> None:
    shelf = Shelf()
    shelf.script = lambda _: reply(401)
    agent = make_agent(shelf, protocol="upload")
    agent.append("s", lines(1))
    agent.settle()
    assert condition(agent) is Condition.NEEDS_LOGIN
    shelf.script = lambda _: reply(200, b"<html>", {"content-type": "text/html"})
    agent.engine.handle(Retry())
    agent.live_for(1)
    assert condition(agent) is Condition.OFFLINE
    shelf.script = lambda _: no_answer()
    agent.live_for(60)
    assert (condition(agent), shelf.files) == (Condition.OFFLINE, {})
    shelf.script = lambda _: None
    agent.settle()
    assert shelf.files["s.jsonl"] == agent.path("s").read_bytes()


def test_a_transcript_of_another_project_stays_here(make_agent: Make, lines: Lines) -> None:
    shelf = Shelf()
    agent = make_agent(shelf, protocol="upload", projects=("/home/dev/work",))
    agent.append("hidden", lines(2))
    agent.append("shown", entry(random.Random(1), cwd="/home/dev/work"))
    agent.settle()
    assert list(shelf.files) == ["shown.jsonl"]
    assert (agent.state("hidden"), agent.track("hidden").reason) == (State.PRIVATE, OUTSIDE)


def test_names_have_nothing_that_leads_elsewhere(make_agent: Make, lines: Lines) -> None:
    assert upload_name(StreamId("s", "")) == "s.jsonl"
    assert upload_name(StreamId("s", "subagents/agent-a")) == "s.subagents.agent-a.jsonl"
    shelf = Shelf()
    agent = make_agent(shelf, protocol="upload")
    agent.append('a"b\nc', lines(1))
    agent.settle()
    assert list(shelf.files) == ["a%22b%0Ac.jsonl"]
