"""What systemd hears, by a socket of the test's own."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.machine.sd_notify import Notifier, open_notifier, reloading_words, status_word, watchdog_s

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX") or os.name == "nt", reason="needs Unix sockets")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[str, socket.socket]]:
    if request.param == "abstract" and not os.path.exists("/proc/self"):
        pytest.skip("abstract sockets are Linux' own")
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.settimeout(10)
        if request.param == "abstract":
            name = f"transcriptd-test-{os.getpid()}-{id(heard)}"
            heard.bind(f"\0{name}")
            yield f"@{name}", heard
        else:
            heard.bind(f"{folder}/notify")
            yield f"{folder}/notify", heard


def test_each_call_is_one_datagram(manager: tuple[str, socket.socket]) -> None:
    address, heard = manager
    notifier = open_notifier({"NOTIFY_SOCKET": address})
    assert notifier.tell("READY=1", status_word("two\nlines"))
    assert heard.recv(4096) == b"READY=1\nSTATUS=two lines"


@pytest.mark.parametrize("address", ["", "nonsense", "vsock:2:1234"])
def test_nobody_is_told_where_no_socket_is_named(address: str) -> None:
    assert not open_notifier({"NOTIFY_SOCKET": address}).tell("READY=1")
    assert not open_notifier({}).tell("READY=1")


def test_a_manager_that_is_gone_costs_nothing(tmp_path: Path) -> None:
    assert not Notifier(str(tmp_path / "nobody")).tell("READY=1")
    assert not Notifier(str(tmp_path / ("x" * 200))).tell("READY=1")


def test_a_reload_names_its_moment_in_microseconds() -> None:
    assert reloading_words(12.5) == ("RELOADING=1", "MONOTONIC_USEC=12500000")


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"WATCHDOG_USEC": "180000000"}, 180.0),
        ({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": "7"}, 180.0),
        ({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_when_it_says_so(environment: dict[str, str], wanted: float | None) -> None:
    assert watchdog_s(environment, pid=7) == wanted
