"""Notices on a real session bus with a stand-in for the desktop; and by the commands of macOS and Windows, recorded."""

import base64
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from jeepney import DBusAddress, MessageType, new_error, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

from agent.system import notify
from agent.system.notify import Shown, child, child_environment
from tests.conftest import require_tool

PLACE = DBusAddress("/org/freedesktop/Notifications", "org.freedesktop.Notifications")


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bus of this test alone, with nobody on it."""
    program = [require_tool("dbus-daemon"), "--session", "--nofork", "--print-address=1"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        yield address
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@contextmanager
def desktop(bus: str, *, refuses: bool = False) -> Iterator[list[Any]]:
    """Shows notices, and gives what it was asked to show."""
    shown: list[Any] = []
    with open_dbus_connection(bus) as connection:
        connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.Notifications"))

        def serve() -> None:
            while True:
                message = connection.receive()
                if message.header.message_type is not MessageType.method_call:
                    continue
                if refuses:
                    connection.send(new_error(message, "org.freedesktop.Notifications.Error.TooMany"))
                else:
                    connection.send(new_method_return(message, "u", (7,)))
                shown.append(message.body)
                return

        thread = threading.Thread(target=serve)
        thread.start()
        yield shown
        thread.join(20)
        assert not thread.is_alive(), "nobody asked"


def test_a_notice_reaches_the_desktop(bus: str) -> None:
    with desktop(bus) as shown:
        assert notify.show("a title", 'ü <b>bold</b> & "so"') == (Shown.SHOWN, "")
    ((name, replaces, icon, title, body, actions, hints, stays_ms),) = shown
    assert (name, replaces, icon, actions, stays_ms) == ("transcriptd", 0, "", [], -1)
    assert (title, body) == ("a title", 'ü &lt;b&gt;bold&lt;/b&gt; &amp; "so"')
    assert hints == {"urgency": ("y", 1)}


def test_a_desktop_that_refuses_is_told(bus: str) -> None:
    with desktop(bus, refuses=True):
        shown, why = notify.show("a", "b")
    assert shown is Shown.FAILED
    assert why.endswith("TooMany")


def test_a_bus_without_a_desktop_shows_nothing(bus: str) -> None:
    shown, why = notify.show("a", "b")
    assert shown is Shown.NOBODY
    assert why


def test_without_a_bus_nothing_is_shown() -> None:
    assert notify.show("a", "b") == (Shown.NOBODY, "there is no session bus")


@pytest.mark.parametrize("address", ["unix:path=/nonexistent/bus", "nonsense"])
def test_a_bus_that_is_gone_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    assert notify.show("a", "b")[0] in (Shown.NOBODY, Shown.FAILED)


def test_the_process_gets_no_token() -> None:
    given = {"TRANSCRIPTD_TOKEN": "t", "CREDENTIALS_DIRECTORY": "/c", "XDG_RUNTIME_DIR": "relative", "LANG": "C"}
    assert child_environment(given) == {"XDG_RUNTIME_DIR": "relative", "LANG": "C"}


class Recorded:
    """Stands for the system's commands: takes down what is run."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.command: list[str] = []
        self.more: dict[str, str] = {}

    def __call__(self, command: Sequence[str], more: Mapping[str, str]) -> int:
        self.command, self.more = list(command), dict(more)
        return self.status


TITLE, BODY = 'say "hi"', "'; rm -rf / #\n$(id) `id`"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_what_is_shown_is_never_a_part_of_the_command(platform: str) -> None:
    """macOS and Windows: by their documentation; not run there."""
    run = Recorded()
    assert child.show(TITLE, BODY, platform, run, {}) == ("shown", "")
    assert run.more == {"TRANSCRIPTD_TITLE": TITLE, "TRANSCRIPTD_BODY": BODY}
    words = " ".join(run.command)
    if platform == "win32":
        words += base64.b64decode(run.command[-1]).decode("utf-16-le")
        assert "ToastNotificationManager" in words
    assert "hi" not in words.split('"')
    assert "rm -rf" not in words


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_a_command_that_fails_is_told(platform: str) -> None:
    is_, why = child.show(TITLE, BODY, platform, Recorded(1), {})
    assert (is_, why.endswith("ends with 1")) == ("failed", True)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_a_system_without_the_command_has_nobody_to_show_it(platform: str) -> None:
    def missing(command: Sequence[str], more: Mapping[str, str]) -> int:
        raise FileNotFoundError(command[0])

    assert child.show(TITLE, BODY, platform, missing, {})[0] == "nobody"
