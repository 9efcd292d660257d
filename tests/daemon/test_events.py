"""The ring of happenings, and what a subscriber of a control socket gets of it."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.core.sessions.events import SCHEMA, EventKind, Happening, to_json
from agent.daemon.control.control import _event_methods, checked
from agent.errors import NotRunning, UsageError
from agent.sessions.live.events import RING, Ring, open_ring
from agent.system.control_socket import ControlClient
from agent.system.control_socket.server import CAPS, Caps, ControlServer
from agent.system.machine.clock import Clock, SystemClock
from agent.system.state.state_db import open_state
from tests.fakes import FakeClock
from tests.waiting import wait_for

PATIENCE_S = 10.0


def happening(number: int = 0, kind: EventKind = EventKind.SESSION_CHANGED) -> Happening:
    return Happening(kind, 1_767_600_000.0 + number, session_id=f"s{number}")


def make_ring(size: int = 10, epoch: str = "one", first_seq: int = 1) -> Ring:
    return Ring(epoch, lambda: 5.0, first_seq=first_seq, size=size)


def tell(ring: Ring, count: int) -> None:
    for number in range(count):
        ring.tell(happening(number))


# --- the ring -------------------------------------------------------------------------------------------------------


def test_numbers_only_grow_and_the_last_ones_are_kept() -> None:
    ring = make_ring()
    assert (ring.last_seq, ring.oldest_seq, list(ring.list_all())) == (0, 1, [])
    tell(ring, 25)
    assert [one.seq for one in ring.list_all()] == list(range(16, 26))
    assert [one.session_id for one in ring.list_all()] == [f"s{number}" for number in range(15, 25)]
    assert ring.describe() == {"schema": SCHEMA, "epoch": "one", "seq": 25, "oldest_seq": 16}
    assert RING == 5_000


@pytest.mark.parametrize(
    ("after_seq", "epoch", "expected"),
    [
        (None, "", []),
        (None, "one", []),
        (0, "", list(range(16, 26))),
        (15, "", list(range(16, 26))),
        (20, "one", list(range(21, 26))),
        (25, "one", []),
        (14, "", "refresh"),
        (1, "", "refresh"),
        (26, "", "refresh"),
        (20, "another", "refresh"),
        (None, "another", "refresh"),
        (0, "another", "refresh"),
    ],
)
def test_who_comes_back_gets_what_was_missed_or_is_told_to_refresh(
    after_seq: int | None, epoch: str, expected: list[int] | str
) -> None:
    ring = make_ring()
    tell(ring, 25)
    feed = ring.follow(after_seq, epoch)
    found = [one for _ in range(4) for one in feed.take(4)]
    if expected == "refresh":
        assert found == [{"seq": 25, "at_s": 5.0, "kind": "refresh", "epoch": "one"}]
    else:
        assert [one["seq"] for one in found] == expected
    ring.tell(happening(99))
    assert [one["seq"] for one in feed.take(4)] == [26]
    assert feed.take(4) == []


def test_who_is_overtaken_is_told_to_refresh_once() -> None:
    ring = make_ring()
    feed = ring.follow(None, "")
    tell(ring, 5)
    assert len(feed.take(2)) == 2
    tell(ring, 10)
    assert [one["kind"] for one in feed.take(2)] == ["refresh"]
    tell(ring, 1)
    assert [one["seq"] for one in feed.take(2)] == [16]


def test_the_json_says_what_there_is_to_say() -> None:
    told = to_json(Happening(EventKind.AGENT_CONDITION, 1.5, seq=7, destination="d", condition="offline", why="no"))
    assert json.dumps(told) == (
        '{"seq": 7, "at_s": 1.5, "kind": "agent.condition", "destination": "d", "condition": "offline", "why": "no"}'
    )


def test_numbers_grow_over_restarts(tmp_path: Path) -> None:
    last = 0
    for epoch in ("a", "b", "c"):
        store = open_state(tmp_path / "state.db", "damaged.db")
        ring = open_ring(store, epoch, time.time)
        tell(ring, 3)
        assert ring.oldest_seq > last
        assert not last or ring.misses(last, "")
        last = ring.last_seq
        store.close()


# --- over the socket ------------------------------------------------------------------------------------------------


@contextmanager
def serving(
    ring: Ring, address: Path, *, tcp: bool = False, caps: Caps = CAPS, clock: Clock | None = None
) -> Iterator[ControlServer]:
    methods = {**{name: checked(name, one) for name, one in _event_methods(ring).items()}, "echo": dict}
    monotonic_s = (clock or SystemClock()).monotonic_s
    server = ControlServer(address, methods, tcp=tcp, caps=caps, monotonic_s=monotonic_s)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def address(home: Path) -> Path:
    return home / "control.sock"


def has_followers(server: ControlServer, count: int) -> Callable[[], bool]:
    return lambda: sum(one.feed is not None for one in list(server._clients)) == count


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_a_subscriber_gets_what_was_and_what_comes_without_a_gap(address: Path, tcp: bool) -> None:
    ring = make_ring(5_000)
    tell(ring, 3_000)
    with serving(ring, address, tcp=tcp), ControlClient(address) as client:
        writer = threading.Thread(target=tell, args=(ring, 1_500))
        events = client.subscribe(after_seq=0)
        writer.start()
        assert [next(events)["seq"] for _ in range(4_500)] == list(range(1, 4_501))
        writer.join()


def test_requests_on_a_subscribers_connection_are_answered(address: Path) -> None:
    ring = make_ring()
    with serving(ring, address), ControlClient(address) as client:
        events = client.subscribe()
        assert client.call("events.list")["seq"] == 0
        tell(ring, 1)
        assert next(events)["seq"] == 1
        with pytest.raises(UsageError, match="has a subscription"):
            client.call("events.subscribe")
        tell(ring, 1)
        assert next(events)["seq"] == 2
        assert [one["seq"] for one in client.call("events.list", after_seq=1)["events"]] == [2]


@pytest.mark.parametrize("params", [{"after_seq": -1}, {"after_seq": "1"}, {"after_seq": True}, {"epoch": 7}])
def test_a_place_that_is_none_is_refused(address: Path, params: dict[str, Any]) -> None:
    with serving(make_ring(), address), ControlClient(address) as client:
        for method in ("events.subscribe", "events.list"):
            with pytest.raises(UsageError, match=r"after_seq|epoch"):
                client.call(method, **params)


def test_a_list_of_another_run_says_refresh(address: Path) -> None:
    ring = make_ring()
    tell(ring, 3)
    with serving(ring, address), ControlClient(address) as client:
        answer = client.call("events.list", after_seq=1, epoch="another")
        assert (answer["refresh"], answer["events"]) == (True, [])


class Deaf:
    """Subscribes, and reads no more than the answer."""

    def __init__(self, address: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(str(address))
        self.socket.sendall(b'{"jsonrpc":"2.0","id":1,"method":"events.subscribe"}\n')
        self.lines = self.socket.makefile("rb")
        assert "result" in json.loads(self.lines.readline())

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


def test_who_does_not_read_is_dropped_and_keeps_nobody_waiting(address: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring, clock = make_ring(5_000), FakeClock()
    caps = CAPS._replace(beat_s=1e6)
    serves = serving(ring, address, clock=clock, caps=caps)
    with serves as server, ControlClient(address) as client, ExitStack() as stack:
        events = client.subscribe()
        for _ in range(3):
            stack.callback(Deaf(address).close)
        began_s = time.monotonic()
        tell(ring, 5_000)
        assert time.monotonic() - began_s < PATIENCE_S / 2, "nobody waits for a subscriber"
        assert [next(events)["seq"] for _ in range(5_000)][-1] == 5_000
        wait_for(lambda: sum(bool(one.out) for one in list(server._clients)) == 3)
        assert all(len(one.out) < 256 << 10 for one in list(server._clients)), "what it does not take is not kept"

        def are_dropped() -> bool:
            clock.advance(CAPS.stall_s + 1)
            server._wake()
            return server.dropped == 3

        wait_for(are_dropped)
        assert has_followers(server, 1)()
        tell(ring, 1)
        assert next(events)["seq"] == 5_001
    assert [record.levelname for record in caplog.records] == ["WARNING"], "once"


def test_a_subscriber_hears_that_somebody_is_there(address: Path) -> None:
    with serving(make_ring(), address, caps=CAPS._replace(beat_s=0.02, idle_s=0.05)):
        one = Deaf(address)
        assert [json.loads(one.lines.readline()) for _ in range(5)] == [{"jsonrpc": "2.0", "method": "ping"}] * 5
        one.close()


def test_one_that_died_is_noticed_and_forgotten(address: Path) -> None:
    ring = make_ring()
    with serving(ring, address, caps=CAPS._replace(beat_s=0.02)) as server:
        Deaf(address).close()
        wait_for(has_followers(server, 0))
        assert not ring._wakes


def test_one_that_only_listens_from_now_on_is_still_told(address: Path) -> None:
    """As `printf … | nc -N -U` does."""
    ring = make_ring()
    with serving(ring, address):
        one = Deaf(address)
        one.socket.shutdown(socket.SHUT_WR)
        tell(ring, 1)
        assert json.loads(one.lines.readline())["params"]["seq"] == 1
        one.close()


def test_subscribers_leave_room_for_others(address: Path) -> None:
    ring = make_ring()
    with serving(ring, address, caps=CAPS._replace(followers=2, clients=3)) as server:
        followers = [ControlClient(address) for _ in range(2)]
        for one in followers:
            one.subscribe()
        with ControlClient(address) as late:
            with pytest.raises(UsageError, match="too many subscribers"):
                late.call("events.subscribe")
            assert late.call("echo", a=1) == {"a": 1}
        for one in followers:
            one.close()
        assert len(ring._wakes) <= 2
    assert not server._clients
    assert not ring._wakes, "a daemon that stops lets go of all"


def test_a_daemon_that_ends_is_told_to_its_subscribers(address: Path) -> None:
    server = ControlServer(address, _event_methods(make_ring()), tcp=False)
    with ControlClient(address) as client:
        events = client.subscribe()
        server.close()
        with pytest.raises(NotRunning):
            next(events)
