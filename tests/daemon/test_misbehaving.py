"""Servers that misbehave: that always say the same, that lose answers, that are odd to one session only."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.delivery.lifecycle import Condition, State
from agent.core.status import Open, count_open
from agent.core.wire import INGRESS, RawReply, Request, delete_request
from agent.daemon.status.report import Surroundings, list_remembered, report
from agent.delivery.state.gates import STRIKES
from agent.delivery.state.inputs import Restore, Retry
from agent.errors import Unreachable
from tests.daemon.test_upload import Shelf
from tests.fakes import (
    AsgiServer,
    FakeRules,
    ScriptedServer,
    StrictBaseServer,
    body_bytes,
    receiver_without_network,
    reply,
)
from tests.simulation.wire import Server
from tests.simulation.world import SimulatedAgent, entry

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]
Answer = Callable[[], RawReply]

SURROUNDINGS = Surroundings(1, 0.0, (), (), 0, ())

# --- which request is which -----------------------------------------------------------------------------------------


def kind_of(request: Request) -> str:
    """What a request asks for, in the words of the wire."""
    if request.path.endswith("/capabilities") or request.path == "/health":
        return "probe"
    if request.path == "":
        return "upload"
    tail = request.path.partition("?")[0].partition("/session/")[2].partition("/")[2]
    if request.method == "DELETE":
        return "delete"
    return tail.partition("/")[0] or ("put" if request.method == "PUT" else "loglines")


KINDS = {
    "bulk": ("probe", "entries", "streams", "generations", "head", "files", "meta", "delete", "restore"),
    "base": ("probe", "put", "loglines"),
    "upload": ("probe", "upload"),
}

FOREIGN = {
    "last_uuid": "x",
    "entry_count": 1,
    "generation": "0b7f7d5e-8f2c-4f6e-9a43-1d2f3c4b5a69",
    "chain_hash": "00" * 32,
}
NOTHING = {"last_uuid": None, "entry_count": 0, "generation": None, "chain_hash": "00" * 32}
HTML = RawReply(200, {"content-type": "text/html; charset=utf-8"}, b"<html>log in</html>")


def unreachable() -> RawReply:
    raise Unreachable("test can't be reached: no connection")


def _same(answer: RawReply) -> Answer:
    return lambda: answer


STATUSES = (200, 204, 301, 401, 404, 409, 410, 413, 429, 500, 503)
"""`tests/faults/test_statuses.py` has every one of them, in one session."""

ANSWERS: Mapping[str, Answer] = {
    **{str(status): _same(reply(status)) for status in STATUSES},
    "no connection": unreachable,
    "a web page": _same(HTML),
    "409 and a foreign head": _same(reply(409, json.dumps(FOREIGN).encode(), {"x-last-uuid": "x"})),
    "409 and an empty head": _same(reply(409, json.dumps(NOTHING).encode())),
    "200 and a foreign head": _same(reply(200, json.dumps(FOREIGN).encode())),
    "201 and a foreign head": _same(reply(201, json.dumps(FOREIGN).encode())),
    "an empty list": _same(reply(200, b'{"streams": [], "loglines": []}')),
    "a list of what is not ours": _same(
        reply(200, json.dumps({"loglines": [{"uuid": "x"}], "streams": [{"subpath": "", "head": FOREIGN}]}).encode())
    ),
    "503 at once": _same(reply(503, b"", {"retry-after": "0"})),
}


class Stuck:
    """Answers some kinds of requests always the same, and the others as a real server does."""

    def __init__(self, behind: Server) -> None:
        self.behind = behind
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []

    def send(self, request: Request) -> RawReply:
        kind = kind_of(request)
        self.requests.append(kind)
        answer = self.answers.get(kind)
        return self.behind.send(request) if answer is None else answer()


class Scene(NamedTuple):
    agent: SimulatedAgent
    server: Stuck
    rules: FakeRules


def begin(folder: Path, protocol: str, receiver: AsgiServer) -> Scene:
    """Sessions that a server has, and that give it all kinds of things to do from now on."""
    servers: dict[str, Server] = {"bulk": receiver, "base": StrictBaseServer(), "upload": Shelf()}
    behind = servers[protocol]
    server, rules = Stuck(behind), FakeRules()
    agent = SimulatedAgent(folder, server, rulebook=rules, protocol="upload" if protocol == "upload" else "auto")
    rng = random.Random(1)
    for session in ("grows", "rewritten", "private", "deleted"):
        agent.append(session, b"".join(entry(rng) for _ in range(3)))
    agent.settle()
    agent.append("grows", b"".join(entry(rng) for _ in range(3)))
    agent.path("rewritten").write_bytes(b"".join(entry(rng) for _ in range(6)))
    agent.append("new", entry(rng))
    (agent.root / "p" / "new" / "tool-results").mkdir(parents=True)
    (agent.root / "p" / "new" / "tool-results" / "x.txt").write_bytes(b"x" * 100_000)
    if protocol == "bulk":
        receiver.send(delete_request("deleted"))
        agent.append("deleted", entry(rng))
        agent.settle()
        agent.append("grows", entry(rng))
        agent.append("new", entry(rng))
        agent.path("rewritten").write_bytes(b"".join(entry(rng) for _ in range(7)))
        (agent.root / "p" / "new" / "tool-results" / "y.txt").write_bytes(b"y" * 100_000)
    server.requests.clear()
    return Scene(agent, server, rules)


def provoke(scene: Scene, protocol: str) -> None:
    agent = scene.agent
    if protocol == "bulk":
        agent.wire.user_wants_back("deleted")
        agent.engine.handle(Restore(frozenset({"deleted"})))
    scene.rules.sessions.add("private")
    agent.engine.private.look_at_rules()
    agent.engine.handle(Retry())
    agent.look()


MOST_AT_FIRST = 160
"""Requests in the first half minute, of five sessions with seven streams and files."""

MOST_LATER = 400
"""In the quarter of an hour after it, of the same."""


def live(scene: Scene, seconds: float, most: int) -> None:
    agent, until = scene.agent, scene.agent.clock.mono_s + seconds
    while True:
        asked = len(scene.server.requests)
        assert asked <= most, f"{asked} requests, the last ones {scene.server.requests[-12:]}"
        if agent.run_one():
            continue
        next_s = agent.engine.next_deadline_s()
        if next_s is None or next_s > until:
            agent.clock.advance(max(0.0, until - agent.clock.mono_s))
            return
        agent.wait()


def wait_as_commands_do(scene: Scene) -> None:
    """`retry` and `push` end when nothing is under way but tries after failures."""
    for _ in range(500):
        if not scene.agent.engine.is_busy():
            return
        if not scene.agent.run_one():
            scene.agent.wait()
    raise AssertionError(f"a command would still wait: {scene.agent.states()}, {scene.server.requests[-12:]}")


def misbehave(folder: Path, protocol: str, answers: Mapping[str, Answer]) -> None:
    with receiver_without_network(folder) as receiver:
        scene = begin(folder / "agent", protocol, receiver)
        try:
            scene.server.answers = dict(answers)
            provoke(scene, protocol)
            wait_as_commands_do(scene)
            live(scene, 30, MOST_AT_FIRST)
            scene.server.requests.clear()
            live(scene, 900, MOST_LATER)
            scene.agent.engine.handle(Retry())
            scene.server.requests.clear()
            wait_as_commands_do(scene)
            assert len(scene.server.requests) <= MOST_AT_FIRST
        finally:
            scene.agent.close()


@pytest.mark.parametrize(("protocol", "kind"), [(name, kind) for name, kinds in KINDS.items() for kind in kinds])
def test_a_server_that_always_says_the_same_is_asked_less_and_less(protocol: str, kind: str, tmp_path: Path) -> None:
    wrong = []
    for number, (name, answer) in enumerate(ANSWERS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            misbehave(folder, protocol, {kind: answer})
        except AssertionError as exc:
            wrong.append(f"{name}: {exc}")
    assert not wrong, "\n".join(wrong)


def test_conflicts_on_new_generations_too_are_no_reason_to_ask_without_end(tmp_path: Path) -> None:
    """686 requests in half a minute, and a `retry` that never ended, came of this."""
    conflict = ANSWERS["409 and a foreign head"]
    misbehave(tmp_path, "bulk", {"entries": conflict, "generations": conflict})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), protocol=st.sampled_from(list(KINDS)))
def test_whatever_a_server_always_says_it_is_asked_less_and_less(
    data: st.DataObject, protocol: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    answers = st.dictionaries(st.sampled_from(KINDS[protocol]), st.sampled_from(list(ANSWERS)), min_size=2)
    drawn = data.draw(answers)
    misbehave(tmp_path_factory.mktemp("drawn"), protocol, {kind: ANSWERS[name] for kind, name in drawn.items()})


# --- one session is not all of them ---------------------------------------------------------------------------------


def odd_to(session: str, answer: Answer, *, until: int = 1 << 30) -> Callable[[Request], RawReply | None]:
    """A script: what is said to requests that write to this session."""
    left = iter(range(until))

    def script(request: Request) -> RawReply | None:
        is_it = f"/session/{session}" in request.path and request.method in ("PUT", "POST")
        return answer() if is_it and next(left, None) is not None else None

    return script


@pytest.mark.parametrize("bulk", [True, False])
@pytest.mark.parametrize("answer", ["a web page", "no connection", "503", "500", "429"])
def test_what_is_wrong_with_one_session_stops_no_other(
    answer: str, bulk: bool, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver if bulk else StrictBaseServer(), odd_to("odd", ANSWERS[answer]))
    agent = make_agent(server)
    agent.append("odd", lines(3))
    agent.look()
    agent.live_for(60)
    assert (agent.state("odd"), agent.destination.condition) == (State.WAITING, Condition.RUNNING)
    assert agent.track("odd").reason
    for number in range(4):
        began_s = agent.clock.mono_s
        agent.append(f"well{number}", lines(3))
        agent.look(live=True)
        while agent.state(f"well{number}") is not State.SYNCED:
            assert agent.run_one() or agent.wait()
        assert agent.clock.mono_s - began_s < 1.0
        agent.live_for(300)
    assert agent.destination.condition is Condition.RUNNING


@pytest.mark.parametrize("answer", ["a web page", "no connection", "503"])
def test_a_probe_that_fares_no_better_takes_the_destination_away(
    answer: str, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server)
    agent.append("s", lines(3))
    agent.settle()
    server.script = lambda _: ANSWERS[answer]()
    agent.append("s", lines(3))
    agent.look(live=True)
    while agent.in_flight:
        agent.run_one()
    assert agent.destination.standing is Condition.OFFLINE
    assert agent.destination.why


def test_several_sessions_in_a_row_that_fare_so_take_it_away_whatever_the_probe_says(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """A server whose database is down may well tell what it offers. With 10,000 sessions that is a storm."""
    server = ScriptedServer(receiver, lambda one: reply(503) if one.method == "POST" else None)
    agent = make_agent(server)
    for number in range(300):
        agent.append(f"s{number}", lines(1))
    agent.look()
    agent.live_for(60)
    posts = sum(one.method == "POST" for one in server.requests)
    assert posts < 60
    assert agent.destination.standing is Condition.OFFLINE
    server.script = lambda _: None
    agent.settle(20_000)
    assert all(state is State.SYNCED for state in agent.states().values())
    assert len(agent.engine.tracks) >= 300 > STRIKES


# --- answers that get lost ------------------------------------------------------------------------------------------


class Lossy:
    """Takes so long for each request, and loses some of them or of their answers, by chance."""

    def __init__(self, behind: Server, share: float, request_s: float) -> None:
        self.behind = behind
        self.share = share
        self.request_s = request_s
        self.rng = random.Random(7)
        self.advance: Callable[[float], None] = lambda _: None
        self.lost = 0

    def send(self, request: Request) -> RawReply:
        self.advance(self.request_s)
        fault = self.rng.choice(("reset", "lost answer", "503")) if self.rng.random() < self.share else ""
        self.lost += bool(fault)
        if fault == "503":
            return reply(503)
        if fault == "reset":
            return unreachable()
        answer = self.behind.send(request)
        return unreachable() if fault else answer


def seconds_until_all_is_there(agent: SimulatedAgent, server: Lossy) -> float:
    server.advance = agent.clock.advance
    began_s = agent.clock.mono_s
    agent.look()
    for _ in range(100_000):
        if not agent.run_one():
            if all(state is State.SYNCED for state in agent.states().values()):
                return agent.clock.mono_s - began_s
            agent.wait()
    raise AssertionError(f"not there: {agent.states()}")


REQUEST_S = 0.01


@pytest.mark.parametrize("share", [0.05, 0.1])
@pytest.mark.parametrize("sessions", [1, 4])
def test_a_base_server_that_loses_answers_gets_at_least_half_as_much_in_the_same_time(
    sessions: int, share: float, make_agent: Make, lines: Lines
) -> None:
    """Each try sent some and broke off; the waits grew all the same, for everybody."""
    content = [lines(1200 // sessions) for _ in range(sessions)]

    def take(share: float) -> tuple[float, StrictBaseServer, Lossy]:
        base = StrictBaseServer()
        server = Lossy(base, share, REQUEST_S)
        agent = make_agent(server)
        for number, one in enumerate(content):
            agent.append(f"s{number}", one)
        took_s = seconds_until_all_is_there(agent, server)
        for number, one in enumerate(content):
            assert b"\n".join(base.sessions[f"s{number}"]) + b"\n" == one
        return took_s, base, server

    well_s, _, _ = take(0.0)
    ill_s, _, server = take(share)
    assert server.lost > 30
    assert well_s / ill_s >= 0.5, f"{well_s:.1f} s without faults, {ill_s:.1f} s with them"


@pytest.mark.parametrize("sessions", [1, 4])
def test_a_bulk_server_that_loses_answers_gets_at_least_half_as_much_in_the_same_time(
    sessions: int, make_agent: Make, tmp_path: Path
) -> None:
    rng = random.Random(3)
    line = entry(rng, text="x" * 50_000)
    content = [
        b"".join(line.replace(b'"uuid": "', b'"uuid": "%d-' % number) for number in range(2400 // sessions))
        for _ in range(sessions)
    ]

    def take(share: float, name: str) -> tuple[float, Lossy]:
        (tmp_path / name).mkdir()
        with receiver_without_network(tmp_path / name) as receiver:
            server = Lossy(receiver, share, 0.05)
            agent = make_agent(server)
            for number, one in enumerate(content):
                agent.append(f"s{number}", one)
            took_s = seconds_until_all_is_there(agent, server)
            for number, one in enumerate(content):
                there = receiver.send(Request("GET", f"{INGRESS}/session/s{number}/entries"))
                assert there.body == one
            return took_s, server

    well_s, _ = take(0.0, "well")
    ill_s, server = take(0.1, "ill")
    assert server.lost > 5
    assert well_s / ill_s >= 0.5, f"{well_s:.1f} s without faults, {ill_s:.1f} s with them"


# --- entries that were rejected -------------------------------------------------------------------------------------


def proxy_limit(most: int) -> Callable[[Request], RawReply | None]:
    """What a proxy says of larger bodies, in its own words."""
    page = RawReply(413, {"content-type": "text/html"}, b"<html>413 Request Entity Too Large</html>")
    return lambda request: page if len(body_bytes(request)) > most else None


def there(receiver: AsgiServer, session: str) -> bytes:
    return receiver.send(Request("GET", f"{INGRESS}/session/{session}/entries")).body


@pytest.mark.parametrize("restart", [False, True])
def test_what_a_proxy_rejected_is_told_and_sent_when_somebody_asks(
    restart: bool, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    rng = random.Random(5)
    picture = entry(rng, picture="".join(rng.choices("abcdefgh", k=60_000)))
    server = ScriptedServer(receiver, proxy_limit(20_000))
    agent = make_agent(server)
    content = lines(3) + picture + lines(3)
    agent.append("s", content)
    agent.append("other", lines(2))
    agent.settle()
    told = report(agent.engine, SURROUNDINGS)
    assert told.open == {Open.REJECTED_ENTRIES: 1}
    assert (told.synced, told.share == 100) == (False, False)
    assert (
        "1 rejected entry: a note stands in its place on the server (the server answers 413)",
        "transcriptd retry",
    ) in (told.problems)
    assert agent.engine.by_hand.given_up([]) == {"s"}
    assert agent.engine.by_hand.given_up([], rejected=False) == set()
    if restart:
        agent.crash()
        agent.settle()
        assert count_open(list_remembered(agent.store.tracks(), agent.store.tombstones())) == told.open

    agent.engine.handle(Retry(frozenset({"s"}), rejected=True))  # the limit is still there
    agent.settle()
    assert report(agent.engine, SURROUNDINGS).open == {Open.REJECTED_ENTRIES: 1}
    server.script = lambda _: None
    agent.engine.handle(Retry())  # what `push` and a new token ask for
    agent.settle()
    assert report(agent.engine, SURROUNDINGS).open == {Open.REJECTED_ENTRIES: 1}

    agent.engine.handle(Retry(frozenset({"s"}), rejected=True))
    agent.settle()
    assert there(receiver, "s") == content
    told = report(agent.engine, SURROUNDINGS)
    assert (told.open, told.synced, told.share) == ({}, True, 100)
    agent.append("s", more := lines(2))
    agent.settle()
    assert there(receiver, "s") == content + more
    agent.crash()
    agent.settle()
    assert report(agent.engine, SURROUNDINGS).synced


def test_a_base_server_has_no_place_for_what_it_rejected_and_that_is_told(make_agent: Make, lines: Lines) -> None:
    rng = random.Random(5)
    base = StrictBaseServer()
    server = ScriptedServer(base, proxy_limit(20_000))
    agent = make_agent(server)
    agent.append("s", lines(2) + entry(rng, picture="x" * 60_000) + lines(2))
    agent.settle()
    server.script = lambda _: None
    agent.engine.handle(Retry(frozenset({"s"}), rejected=True))
    agent.settle()
    assert report(agent.engine, SURROUNDINGS).open == {Open.REJECTED_ENTRIES: 1}
    assert len(base.sessions["s"]) == 5


def offering(most: int | None, *, bulk: bool = True) -> bytes:
    """The capabilities of a server that says which entries it takes at most."""
    offer: dict[str, object] = {"protocol": 1, "generations": bulk}
    offer |= {"bulk": {"max_bytes": 1 << 20, "max_entries": 100}} if bulk else {}
    return json.dumps(offer | ({"max_entry_bytes": most} if most else {})).encode()


class Declaring:
    """What a server says that it takes, `most`, and what a proxy before it lets through, `passing`. `met`: sizes of
    the bodies that came."""

    def __init__(self, most: int | None, passing: int = 1 << 30, *, bulk: bool = True) -> None:
        self.most, self.passing, self.bulk = most, passing, bulk
        self.met: list[int] = []

    def __call__(self, request: Request) -> RawReply | None:
        if request.path.endswith("/capabilities"):
            return reply(200, offering(self.most, bulk=self.bulk))
        size = len(body_bytes(request))
        self.met.append(size)
        return reply(413) if size > self.passing else None


def sized(rng: random.Random, size: int) -> bytes:
    """An entry of so many bytes without its newline."""
    line = entry(rng, picture="")
    return line.replace(b'"picture": "', b'"picture": "' + b"x" * (size + 1 - len(line)))


@pytest.mark.parametrize("bulk", [True, False])
@pytest.mark.parametrize("most", [3_000, 50_000, 1_500_000])
def test_what_is_larger_than_the_server_says_is_never_sent(
    most: int, bulk: bool, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """Sizes on both sides of the limit, alone and among others, as the only piece of a file and as a part."""
    rng = random.Random(most)
    script = Declaring(most, bulk=bulk)
    server = ScriptedServer(receiver if bulk else StrictBaseServer(), script)
    agent = make_agent(server, protocol="auto" if bulk else "ingress")
    sizes = [most + rng.choice((-1, 0, 1, 2, most)) for _ in range(4)] + [most, most + 1]
    rng.shuffle(sizes)
    agent.append("s", b"".join(lines(rng.randrange(3)) + sized(rng, size) for size in sizes) + lines(1))
    agent.settle()
    above = [size for size in sizes if size > most]
    told = report(agent.engine, SURROUNDINGS)
    assert told.open == {Open.TOO_LARGE_ENTRIES: len(above)}
    assert (told.synced, told.share == 100) == (False, False)
    assert told.counts.rejected == {f"the server takes {most:,} bytes at most": len(above)}
    (problem,) = (one for one in told.problems if "larger" in one[0])
    assert f"{max(above):,} of at most {most:,} bytes" in problem[0]
    assert problem[1] == "", "no command helps"
    if not bulk:
        assert max(script.met) <= most
        return
    stones = [one for one in there(receiver, "s").splitlines() if b"transcriptd-tombstone" in one]
    assert [json.loads(one)["size"] for one in stones] == [one for one in sizes if one > most]
    assert max(map(len, there(receiver, "s").splitlines())) <= most


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("later", ["same", "smaller", "grown a little", "grown", "nothing said"])
def test_retry_sends_what_is_too_large_only_where_the_server_takes_more_by_now(
    later: str, restart: bool, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    rng = random.Random(7)
    script = Declaring(20_000)
    server = ScriptedServer(receiver, script)
    agent = make_agent(server)
    parts = [lines(2), sized(rng, 30_000), lines(2), sized(rng, 40_000), lines(2)]
    agent.append("s", b"".join(parts))
    agent.settle()
    assert report(agent.engine, SURROUNDINGS).open == {Open.TOO_LARGE_ENTRIES: 2}
    before = there(receiver, "s")
    if restart:
        agent.crash()
        remembered = list_remembered(agent.store.tracks(), agent.store.tombstones())
        assert count_open(remembered)[Open.TOO_LARGE_ENTRIES] == 2
        assert sorted(remembered[0].too_large) == [(30_000, 20_000), (40_000, 20_000)]
        agent.settle()
    script.most = {"same": 20_000, "smaller": 5_000, "grown a little": 30_000, "grown": 40_000}.get(later)
    assert agent.engine.by_hand.given_up([], rejected=False) == set()
    agent.engine.handle(Retry(frozenset({"s"}), rejected=True))
    agent.settle()
    told, got = report(agent.engine, SURROUNDINGS), there(receiver, "s")
    if later in ("same", "smaller"):
        assert (got, told.open) == (before, {Open.TOO_LARGE_ENTRIES: 2})
        assert agent.track("s").generations == 0
    elif later == "grown a little":
        assert told.open == {Open.TOO_LARGE_ENTRIES: 1}
        assert got.startswith(b"".join(parts[:3]))
        assert len(got.splitlines()) == 8
    else:
        assert (got, told.open, told.synced) == (b"".join(parts), {}, True)
    agent.crash()
    agent.settle()
    assert report(agent.engine, SURROUNDINGS).open == told.open


@pytest.mark.parametrize("first", ["too large", "of the proxy"])
def test_a_proxys_limit_and_the_servers_own_are_told_apart(
    first: str, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """What the proxy refused is sent again; what the server says not to take keeps its note, wherever it stands."""
    rng = random.Random(9)
    script = Declaring(50_000, 20_000)
    server = ScriptedServer(receiver, script)
    agent = make_agent(server)
    large, refused = sized(rng, 60_000), sized(rng, 30_000)
    middle = [large, lines(2), refused] if first == "too large" else [refused, lines(2), large]
    content = b"".join([lines(2), *middle, lines(2)])
    agent.append("s", content)
    agent.settle()
    told = report(agent.engine, SURROUNDINGS)
    assert told.open == {Open.TOO_LARGE_ENTRIES: 1, Open.REJECTED_ENTRIES: 1}
    assert told.counts.rejected == {"the server answers 413": 1, "the server takes 50,000 bytes at most": 1}
    script.passing = 1 << 30
    script.met.clear()
    agent.engine.handle(Retry(frozenset({"s"}), rejected=True))
    agent.settle()
    got = there(receiver, "s").splitlines(keepends=True)
    assert report(agent.engine, SURROUNDINGS).open == {Open.TOO_LARGE_ENTRIES: 1}
    assert [one for one in got if b"transcriptd-tombstone" not in one] == [
        one for one in content.splitlines(keepends=True) if one != large
    ]
    assert max(script.met) <= 50_000
    kept = 0 if first == "of the proxy" else len(large)
    assert sum(script.met) < len(content) - kept + 2_000, "what stands before the first that was rejected stays there"
    agent.crash()
    agent.settle()
    assert report(agent.engine, SURROUNDINGS).open == {Open.TOO_LARGE_ENTRIES: 1}
