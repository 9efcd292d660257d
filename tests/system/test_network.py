"""How this machine goes out: asked of the real system, in a network of the test's own where that may be made."""

import _socket
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from agent.system.machine.network import WayOut, read_way_out
from tests.conftest import REPOSITORY, require_tool
from tests.system.privileges import needs_root


class Unguarded(socket.socket):
    """The tests' guard lets sockets connect to loopback only. A datagram socket that is only asked sends nothing."""

    sent: list[Any] = []  # noqa: RUF012 - a tally of the class, on purpose

    def connect(self, address: Any, /) -> None:
        assert self.type == socket.SOCK_DGRAM
        _socket.socket.connect(self, address)

    def send(self, *args: Any) -> int:
        self.sent.append(args)
        return 0


def test_the_real_system_is_asked_without_a_packet() -> None:
    first, second = read_way_out(Unguarded), read_way_out(Unguarded)
    assert first == second
    assert Unguarded.sent == []
    for family, address in zip((socket.AF_INET, socket.AF_INET6), first, strict=True):
        if address is not None:
            socket.inet_pton(family, address.partition("%")[0])


def test_a_system_that_gives_no_sockets_has_no_way_out() -> None:
    def refuse(*_: int) -> socket.socket:
        raise OSError("too many open files")

    assert read_way_out(refuse) == WayOut(None, None)


def test_no_descriptor_stays_open() -> None:
    made: list[socket.socket] = []

    def note(family: int, kind: int) -> socket.socket:
        made.append(Unguarded(family, kind))
        return made[-1]

    read_way_out(note)
    assert made
    assert all(one.fileno() == -1 for one in made)


# --- a network of its own ---------------------------------------------------------------------------------------------

ASKED = """\
import sys
from agent.system.machine.network import read_way_out
for line in sys.stdin:
    print(*read_way_out(), flush=True)
"""


class Apart:
    """A process in a network namespace that has nothing but what the test gives it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [require_tool("unshare"), "-n", sys.executable, "-c", ASKED],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    def ip(self, *arguments: str) -> None:
        command = [require_tool("nsenter"), "-t", str(self._process.pid), "-n", require_tool("ip"), *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def ask(self) -> tuple[str, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("?\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline().split()
        if len(answer) != 2:
            pytest.skip("no network namespace may be made here")
        return answer[0], answer[1]

    def end(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture
def apart() -> Iterator[Apart]:
    require_tool("ip")
    made = Apart()
    try:
        made.ask()
        yield made
    finally:
        made.end()


@needs_root
def test_an_interface_that_goes_down_and_an_address_that_changes_are_seen(apart: Apart) -> None:
    """The loopback of a namespace stands for a network card; not every kernel makes others."""
    assert apart.ask() == ("None", "None")
    apart.ip("link", "set", "lo", "up")
    apart.ip("address", "add", "10.1.2.3/24", "dev", "lo")
    assert apart.ask() == ("None", "None"), "an address without a route leads nowhere"
    apart.ip("route", "add", "default", "dev", "lo", "src", "10.1.2.3")
    assert apart.ask() == ("10.1.2.3", "None")
    apart.ip("-6", "address", "add", "fd00:1::5/64", "dev", "lo", "nodad")
    apart.ip("-6", "route", "add", "2001:db8::/32", "dev", "lo", "src", "fd00:1::5")
    assert apart.ask() == ("10.1.2.3", "fd00:1::5")
    apart.ip("link", "set", "lo", "down")
    assert apart.ask() == ("None", "None")
    apart.ip("link", "set", "lo", "up")
    apart.ip("address", "flush", "dev", "lo")
    apart.ip("address", "add", "10.9.9.9/24", "dev", "lo")
    apart.ip("route", "add", "default", "dev", "lo", "src", "10.9.9.9")
    assert apart.ask()[0] == "10.9.9.9"
