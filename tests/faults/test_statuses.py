"""Statuses from 400 to 599 and every shape of Retry-After, in every phase of the two protocols, over real HTTP.

What each must come to is written down here from sections 1 to 3 of docs/wire.md, and not taken from the agent. After
the fault everything has to reach the server, once.
"""

import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from agent.core.delivery.lifecycle import Condition, State
from agent.core.transcripts.transcript import split_lines
from agent.core.wire import Request, session_path
from agent.delivery.state.inputs import Retry
from agent.system.remote import Remote
from tests.fakes import AsgiServer, StrictBaseServer, receiver_without_network
from tests.faults.amounts import SCALE
from tests.faults.front import Front, Headers, fronting
from tests.reliability import MakeTally
from tests.simulation.world import SimulatedAgent

MOST_REQUESTS = 200
"""In the first quarter of an hour (not quite: then destinations are asked again) of a fault. More would be a loop
without a pause."""

QUARTER_S = 880.0

WRONG_HEAD = {
    "last_uuid": "x",
    "entry_count": 1,
    "generation": "0b7f7d5e-8f2c-4f6e-9a43-1d2f3c4b5a69",
    "chain_hash": "00" * 32,
}


def is_append(request: Request) -> bool:
    return request.method == "POST" and "/entries" in request.path


def is_put(request: Request) -> bool:
    return request.method == "PUT" and _tail(request) == ""


def is_probe(request: Request) -> bool:
    return request.path.endswith("/capabilities")


def is_streams(request: Request) -> bool:
    return _tail(request) == "/streams"


def is_generation(request: Request) -> bool:
    return _tail(request) == "/generations"


def is_loglines(request: Request) -> bool:
    return request.method == "GET" and _tail(request) == ""


def is_meta(request: Request) -> bool:
    return _tail(request) == "/meta"


def _tail(request: Request) -> str | None:
    """What follows the session's id in a path; None for paths without one."""
    _, found, rest = urlsplit(request.path).path.partition("/session/")
    return "/" + rest.partition("/")[2] if "/" in rest else "" if found else None


class Phase(NamedTuple):
    """`matches`: the requests that the fault answers. `realigns`: they come only after a conflict."""

    name: str
    bulk: bool
    matches: Callable[[Request], bool]
    realigns: bool = False


PHASES = (
    Phase("probe", True, is_probe),
    Phase("append", True, is_append),
    Phase("streams", True, is_streams, realigns=True),
    Phase("generation", True, is_generation, realigns=True),
    Phase("meta", True, is_meta),
    Phase("base probe", False, is_probe),
    Phase("put", False, is_put),
    Phase("loglines", False, is_loglines, realigns=True),
)

RETRIED = {407, 408, 425, 429, *range(500, 600)} - {501}
"""407 is no server's word but a proxy's: the way there is closed, for everybody and for now."""

NO_ENDPOINT = {404, 405, 501}
OF_THE_ENTRY = {400, 413, 422}

APART = {
    401,
    402,
    403,
    406,
    409,
    410,
    411,
    412,
    415,
    416,
    418,
    426,
    428,
    431,
    451,
    499,
    500,
    502,
    503,
    504,
    507,
    511,
    599,
}
"""With the sets above, those of which somebody may have made a case of its own."""


def statuses_in(phase: Phase) -> list[int]:
    """Where entries travel, every one. Elsewhere, as CI's time does not do for all, those that have a meaning of their
    own, and each tenth of the others."""
    if phase.name in ("append", "put") or SCALE >= 5:
        return list(range(400, 600))
    own = APART | NO_ENDPOINT | OF_THE_ENTRY | {status for status in RETRIED if status < 500}
    return sorted(own | set(range(400 + len(phase.name), 600, 10)))


def expected_end(phase: Phase, status: int) -> set[str]:
    """Where the agent may stand while the fault lasts: a stream's state, or a destination's condition."""
    if status == 401:
        return {Condition.NEEDS_LOGIN}
    if phase.name in ("probe", "base probe"):
        # A server without this page speaks the base protocol. A conflict is no answer to a question.
        if status in {409, *RETRIED}:
            return {State.WAITING, Condition.OFFLINE}
        return {State.SYNCED}
    if phase.name == "meta":
        return {State.SYNCED}
    if status in RETRIED:
        return {State.WAITING, Condition.OFFLINE}
    if status in NO_ENDPOINT:
        # A session that the server does not know is an answer to a question for it.
        nothing_there = status == 404 and phase.name in ("streams", "loglines")
        if nothing_there:
            return {State.SYNCED, State.WAITING, State.REFUSED}
        return {Condition.MISCONFIGURED, State.REFUSED}
    if status == 409:
        return {State.WAITING, Condition.OFFLINE, State.REFUSED, State.SYNCED}
    if status == 410:
        return {State.DELETED_ON_SERVER}
    return {State.REFUSED}


class Trial:
    """One agent beside one server whose answers in one phase are scripted."""

    def __init__(self, folder: Path, front: Front, receiver: AsgiServer, phase: Phase, session: str) -> None:
        self.phase = phase
        self.session = session
        self._front = front
        self._receiver = receiver
        self._base = StrictBaseServer(tells_head=phase.name != "loglines")
        front.behind = receiver if phase.bulk else self._base
        front.requests.clear()
        self.faulty = True
        self.stored_before: list[bytes] = []
        self._remote = Remote(front.url, lambda: "tsd_of_a_test")
        self.agent = SimulatedAgent(folder, self._remote)
        self._grow(3)
        if phase.name == "loglines":
            self._base.sessions[session] = self.agent.whole_lines(session)[:2]
        if phase.name == "generation":
            front.script = lambda _: None
            self.agent.settle()
            path = self.agent.path(session)
            path.write_bytes(b"")
            self._grow(3)

    def close(self) -> None:
        self.agent.close()
        self._remote.close()

    def _grow(self, count: int) -> None:
        lines = [{"uuid": f"{self.session}-{self.agent.rng.getrandbits(64):x}", "cwd": "/d"} for _ in range(count)]
        self.agent.append(self.session, b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def fail_with(self, status: int, headers: Headers = ()) -> None:
        """The phase's requests are answered so, until `faulty` is unset."""

        def script(request: Request) -> tuple[int, Headers, bytes] | None:
            if self.faulty and self.phase.matches(request):
                return status, headers, b'{"title":"made up"}'
            return self._mislead(request)

        self._front.script = script
        self.stored_before = self.stored()

    def mislead(self) -> None:
        """Nothing fails but what makes the agent come to the phase."""
        self._front.script = self._mislead

    def _mislead(self, request: Request) -> tuple[int, Headers, bytes] | None:
        if self.faulty and self.phase.name == "streams" and is_append(request):
            return 409, (), json.dumps(WRONG_HEAD).encode()
        return None

    def live(self, seconds: float = QUARTER_S) -> None:
        """Time passes; AssertionError when more is asked of the server than anybody could want."""
        agent, until = self.agent, self.agent.clock.mono_s + seconds
        agent.look()
        while True:
            assert len(self._front.requests) < MOST_REQUESTS, "asks without a pause"
            if agent.run_one():
                continue
            next_s = agent.engine.next_deadline_s()
            if next_s is None or next_s > until:
                agent.clock.advance(max(0.0, until - agent.clock.mono_s))
                return
            agent.wait()

    def requests(self) -> list[Request]:
        return self._front.requests

    def stands(self) -> set[str]:
        return {str(self.agent.state(self.session)), str(self.agent.destination.condition)}

    def stored(self) -> list[bytes]:
        if not self.phase.bulk:
            return self._base.sessions.get(self.session, [])
        answer = self._receiver.send(Request("GET", session_path(self.session, "/entries")))
        return split_lines(answer.body) if answer.status == 200 else []

    def recover(self) -> None:
        """The fault is over; what nobody has to be asked for happens, then somebody asks."""
        self.faulty = False
        self._front.requests.clear()
        self.live(2 * QUARTER_S)
        if self.agent.state(self.session) is not State.SYNCED:
            self.agent.engine.handle(Retry())
            self._front.requests.clear()
            self.live()


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with fronting() as made:
        yield made


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[AsgiServer]:
    with receiver_without_network(tmp_path) as made:
        yield made


@pytest.fixture
def make_trial(tmp_path: Path, front: Front, receiver: AsgiServer) -> Callable[[Phase], Trial]:
    numbers = itertools.count()

    def make(phase: Phase) -> Trial:
        number = next(numbers)
        shutil.rmtree(tmp_path / str(number - 1), ignore_errors=True)
        return Trial(tmp_path / str(number), front, receiver, phase, f"s{number}")

    return make


def by_name(phase: Phase) -> str:
    return phase.name


@pytest.mark.parametrize("phase", PHASES, ids=by_name)
def test_every_status_ends_where_the_wire_says(
    phase: Phase, make_trial: Callable[[Phase], Trial], tally: MakeTally
) -> None:
    notes = tally("nothing is lost, nothing is sent twice", "statuses from 400 to 599, in each phase")
    wrong = []
    for status in statuses_in(phase):
        trial = make_trial(phase)
        try:
            trial.fail_with(status)
            trial.live()
            stands, expected = trial.stands(), expected_end(phase, status)
            if not stands & expected:
                wrong.append(f"{status}: stands at {sorted(stands)}, not at {sorted(expected)}")
            trial.recover()
            local, stored = trial.agent.whole_lines(trial.session), trial.stored()
            if State.DELETED_ON_SERVER in stands:
                local = trial.stored_before  # nothing more is sent, until somebody restores it
            notes.note_lines(local, stored)
            if stored != local:
                same = len(set(local) & set(stored))
                wrong.append(f"{status}: {len(local)} lines here, {len(stored)} there, {same} the same")
        except AssertionError as exc:
            wrong.append(f"{status}: {exc}")
        finally:
            trial.close()
    assert not wrong, "\n".join(wrong)


NOW_S = 1_767_600_000.0
"""What the agent's clock shows when it begins."""

SECONDS = {"0": 0, "1": 1, "7": 7, " 12 ": 12, "0007": 7, "3600": 3600, "3601": 3600, "999999999": 3600}
DATES = {30.0: 30, 3_000.0: 3_000, 86_400.0: 3_600, 4e9: 3_600, -30.0: 0, -1e9: 0}
NO_WISH = (
    "",
    "-5",
    "-0",
    "+5",
    "garbage",
    "inf",
    "nan",
    "infinity",
    "0x10",
    "1,000",
    "soon; 7",
    "Wed",
    "Wed, 99 Foo 2026",
    "Wed, 21 Oct 2026 07:28:00 +9999",
    "Sun, 06 Nov 99999 08:49:37 GMT",
    "٧",
    "½",
    "9" * 4000,
    "1e400",
    ",",
    "()",
    "\x0b",
)
"""No number of seconds and no date: the agent's own pace holds. It may also understand what it can."""


class Wish(NamedTuple):
    """Values of Retry-After, one a header, and the seconds that the agent has to wait; None: at its own pace."""

    values: tuple[str, ...]
    seconds: float | None


def every_wish() -> list[Wish]:
    wishes = [Wish((value,), seconds) for value, seconds in SECONDS.items()]
    for ahead_s, seconds in DATES.items():
        at_s = max(0.0, NOW_S + ahead_s)
        wishes.append(Wish((formatdate(at_s, usegmt=True),), seconds))
        wishes.append(Wish((formatdate(at_s).replace(" -0000", ""),), seconds))
    wishes += [Wish((value,), None) for value in NO_WISH]
    return wishes + [Wish(values, None) for values in (("3", "9"), ("7", "garbage"), ("", "7"), ("2.5",), ("1e1",))]


@pytest.mark.parametrize("phase", PHASES, ids=by_name)
def test_every_shape_of_retry_after_is_borne(
    phase: Phase, make_trial: Callable[[Phase], Trial], tally: MakeTally
) -> None:
    notes = tally("nothing is lost, nothing is sent twice", "every shape of Retry-After, in each phase")
    wrong = []
    for wish, status in [(wish, one) for number, wish in enumerate(every_wish()) for one in statuses_for(number)]:
        trial = make_trial(phase)
        try:
            trial.fail_with(status, [("Retry-After", value) for value in wish.values])
            wrong += [f"{status} {wish}: {one}" for one in find_impatience(trial, wish)]
            trial.recover()
            local, stored = trial.agent.whole_lines(trial.session), trial.stored()
            notes.note_lines(local, stored)
            if stored != local:
                wrong.append(f"{status} {wish}: {len(local)} lines here, {len(stored)} there")
        except AssertionError as exc:
            wrong.append(f"{status} {wish}: {exc}")
        finally:
            trial.close()
    assert not wrong, "\n".join(wrong)


def statuses_for(number: int) -> Sequence[int]:
    """Where CI's time does not do for every status with every wish, they take turns."""
    turns = ((408, 503), (429, 500), (425, 502), (504, 599))
    return sorted(RETRIED) if SCALE >= 5 else turns[number % len(turns)]


def find_impatience(trial: Trial, wish: Wish) -> list[str]:
    """Lives until the first of the wished answers is there, and says where the next try is not when it should be."""
    agent = trial.agent
    agent.look()
    while not any(trial.phase.matches(request) for request in trial.requests()):
        assert agent.run_one() or agent.wait(), "never came to this phase"
    if trial.phase.name == "meta":
        return []
    waits = [
        at_s - agent.clock.now_s()
        for at_s in (agent.destination.retry_at_s, agent.track(trial.session).retry_at_s)
        if at_s
    ]
    if not waits:
        return ["waits for nothing"]
    longest = max(waits)
    if wish.seconds is not None and abs(longest - wish.seconds) > 1.0 and not (wish.seconds == 0 and longest <= 0):
        return [f"waits {longest:.1f} s instead of {wish.seconds} s"]
    return [] if longest <= 3600 else [f"waits {longest:.0f} s"]
