"""The rules become others while something is on its way. Whenever that is, nothing that they keep here leaves after it,
but for the one request that was under way."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.core.delivery.lifecycle import State
from agent.core.privacy.rules import NO_GROUNDS, Grounds
from agent.core.transcripts.session import StreamId
from agent.core.wire import RawReply, Request
from agent.delivery.privacy.permits import Copies, RulesNow, Verdict, read_passage
from agent.delivery.state.inputs import RulesChanged
from agent.system.files import reading as real_files
from tests.daemon.test_private import line
from tests.daemon.test_upload import Shelf
from tests.fakes import FakeRules, StrictBaseServer, body_bytes
from tests.reliability import MakeTally
from tests.simulation.server import ModelServer
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]

OPEN, SECRET = "/home/dev/open", "/home/dev/secret"
COPIED = [line(f"copied-{number}", OPEN) for number in range(4)]
OWN = [line(f"own-{number}", SECRET if number == 1 else OPEN) for number in range(4)]


class Points:
    """Each read of the list and each request is a point, and so is the way between the two. At the `number`th
    something happens."""

    def __init__(self, number: int, act: Callable[[], None]) -> None:
        self.passed = 0
        self.has_come = False
        self._number = number
        self._act = act

    def pass_one(self) -> None:
        self.passed += 1
        if self.passed == self._number:
            self.has_come = True
            self._act()


class ChangingRules(FakeRules):
    points: Points | None = None

    def now(self) -> RulesNow:
        if self.points is not None:
            self.points.pass_one()
        return super().now()

    def judge(
        self, rules: RulesNow, session_id: str, project: str, folders: frozenset[str], grounds: Grounds = NO_GROUNDS
    ) -> Verdict:
        verdict = super().judge(rules, session_id, project, folders, grounds)
        if self.points is not None:
            self.points.pass_one()  # its remotes were looked up meanwhile
        return verdict


class Watched:
    """Notes what a server is sent of the session `copy` once the rules are others. A request that is under way when
    they change goes on to the end of the piece that is on the line."""

    def __init__(self, behind: Any, rules: ChangingRules) -> None:
        self._behind, self._rules = behind, rules
        self.late: list[str] = []

    def send(self, request: Request) -> RawReply:
        points = self._rules.points
        is_late = points is not None and points.has_come and request.method != "DELETE"
        body = None if request.body is None else body_bytes(request)  # a long one is asked for piece by piece
        if is_late and ("copy" in request.path or b'filename="copy' in (body or b"")):
            self.late.append(f"{request.method} {request.path}")
        if points is not None:
            points.pass_one()  # under way
        reply: RawReply = self._behind.send(replace(request, body=body))
        return reply


Change = Callable[[ChangingRules], None]

KINDS: dict[str, Change] = {
    "itself is named": lambda rules: rules.sessions.add("copy"),
    "what it is a copy of is named": lambda rules: rules.sessions.add("original"),
    "a folder it was in is named": lambda rules: rules.folders.add(SECRET),
}

SERVERS: dict[str, tuple[Callable[[], Any], str]] = {
    "base": (StrictBaseServer, "auto"),
    "bulk": (ModelServer, "auto"),
    "upload": (Shelf, "upload"),
}


class Rewound:
    """An agent that has sent the first `sent` entries of the copy; the rest is due, and the rules change at a point of
    its way."""

    def __init__(self, make_agent: Make, name: str, rules: ChangingRules, sent: int) -> None:
        make_server, protocol = SERVERS[name]
        self.behind = make_server()
        self.lives_s = 60.0 if protocol == "upload" else 5.0  # whole files rest for half a minute
        self.server = Watched(self.behind, rules)
        self.agent = make_agent(self.server, rulebook=rules, protocol=protocol)
        self.rules = rules
        self.agent.append("original", b"".join(COPIED))
        if sent:
            self.agent.append("copy", b"".join(COPIED[:sent]))
        self.agent.settle()
        self.agent.append("copy", b"".join([*COPIED[sent:], *OWN]))

    def live(self, number: int, change: Change, *, hears: bool) -> Points:
        """With the change at that point. `hears`: the engine is told of it then and there, if a worker has come to that
        point; it may be anywhere, too."""
        run, works = self.agent.run_a_task, [False]

        def work() -> Any:
            works[0] = True
            try:
                return run()
            finally:
                works[0] = False

        def act() -> None:
            change(self.rules)
            if hears and works[0]:
                self.agent.engine.handle(RulesChanged())

        self.agent.run_a_task = work  # type: ignore[method-assign]
        points = self.rules.points = Points(number, act)
        self.agent.look()
        self.agent.live_for(self.lives_s)
        if points.has_come:
            self.agent.engine.handle(RulesChanged())
            self.agent.settle()
        self.rules.points = None
        return points


@pytest.mark.parametrize("told", ["at once", "later"])
@pytest.mark.parametrize("sent", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SERVERS)
def test_nothing_leaves_behind_a_change_wherever_it_comes(  # noqa: PLR0917 - parameters of one grid
    make_agent: Make, name: str, kind: str, sent: int, told: str, tally: MakeTally
) -> None:
    """`told`: when the engine hears of the change."""
    count = tally("private means private", "the rules change between any two steps")
    number = 0
    while True:
        number += 1
        rules = ChangingRules("somebody-else", folders=["/home/dev/elsewhere"]) if sent else ChangingRules()
        world = Rewound(make_agent, name, rules, sent)
        points = world.live(number, KINDS[kind], hears=told == "at once")
        if not points.has_come:
            break
        assert world.server.late == [], f"at point {number}"
        assert world.agent.state("copy") is State.PRIVATE, f"at point {number}"
        if name == "bulk":
            assert world.behind.current(StreamId("copy", "")) is None, f"at point {number}"
        count.note()
    assert number > 5, "the change comes at many points"


class InterruptedFiles:
    """The real files; `interrupt` is called when one was read."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(real_files, name)

    @contextmanager
    def open_file(self, path: str) -> Iterator[Any]:
        with real_files.open_file(path) as file:
            yield file
        interrupt, self._interrupt = self._interrupt, lambda: None
        interrupt()


def ids_of(data: bytes) -> frozenset[int]:
    return read_passage("claude", data, folders=False, ids=True).ids


def test_what_was_forgotten_while_it_was_read_is_read_again(tmp_path: Path) -> None:
    """Shared and private again while a worker reads the session: how far that one came says nothing any more."""
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"".join(COPIED))

    def change_twice() -> None:
        copies.take_in(frozenset(), {})
        copies.take_in(frozenset({"s"}), {"s": ([str(path)], "claude")})

    copies = Copies(InterruptedFiles(change_twice))
    copies.take_in(frozenset({"s"}), {"s": ([str(path)], "claude")})
    copies.find("other", ids_of(COPIED[0]))  # is interrupted
    assert copies.find("other", ids_of(COPIED[0])) == "s"


def test_copies_bear_many_threads_while_the_rules_change(tmp_path: Path) -> None:
    """195 of 3,000 asked for the digest while it changed, and raised."""
    names = [f"s{number}" for number in range(40)]
    found = {}
    for name in names:
        (tmp_path / name).write_bytes(line(f"id-{name}", OPEN))
        found[name] = ([str(tmp_path / name)], "claude")
    copies = Copies(real_files)
    is_over = threading.Event()
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            while not is_over.is_set():
                copies.begun_since(copies.digest)
                copies.find("other", ids_of(line("id-s1", OPEN)))
        except BaseException as exc:  # noqa: BLE001 - told below
            raised.append(exc)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=ask) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for number in range(300):
            copies.take_in(frozenset(names[number % 40 :]), found)
            copies.know(f"more{number}", [f"/{number}"], "claude")
    finally:
        is_over.set()
        for thread in threads:
            thread.join(60)
        sys.setswitchinterval(before)
    assert not raised
    copies.take_in(frozenset(names), found)
    assert copies.digest.split() == sorted(names)
    assert all(copies.find("other", ids_of(line(f"id-{name}", OPEN))) == name for name in names)
