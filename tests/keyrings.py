"""A real gnome-keyring on a message bus of its own, without a desktop: locked, unlocked, ended and begun at will."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jeepney import DBusAddress, MessageFlag, MessageType, Properties, new_method_call
from jeepney.io.blocking import open_dbus_connection

from tests.conftest import require_tool
from tests.waiting import READY_S, wait_for

PASSPHRASE = b"correct horse"
_NAME = "org.freedesktop.secrets"
_SERVICE = "/org/freedesktop/secrets"
_LOGIN = "/org/freedesktop/secrets/collection/login"


class Desktop:
    """A session bus, and a keyring on it between `log_in` and `log_out`. `os.environ` leads there."""

    def __init__(self, folder: Path) -> None:
        require_tool("gnome-keyring-daemon")
        self._log = folder / "bus.log"
        self._keyring: subprocess.Popen[bytes] | None = None
        self.bus: subprocess.Popen[str] | None = None
        self.address = ""

    def start_bus(self) -> None:
        program = [require_tool("dbus-daemon"), "--session", "--nofork", "--print-address=1"]
        with self._log.open("ab") as log:
            self.bus = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.bus.stdout is not None
        self.address = self.bus.stdout.readline().strip()

    def log_in(self, *, unlock: bool = True) -> None:
        """As a desktop does: the keyring comes up, and the passphrase of the login opens it (and makes it, once)."""
        program = ["gnome-keyring-daemon", "--foreground", "--components=secrets", *(["--unlock"] if unlock else [])]
        self._keyring = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert self._keyring.stdin is not None
        self._keyring.stdin.write(PASSPHRASE if unlock else b"")
        self._keyring.stdin.close()
        wait_for(lambda: self.is_locked() is (not unlock), "the keyring to be there")

    def log_out(self) -> None:
        if self._keyring is not None:
            self._keyring.terminate()
            self._keyring.wait(READY_S)
            self._keyring = None

    def send_signal(self, number: int) -> None:
        assert self._keyring is not None
        self._keyring.send_signal(number)

    def lock(self) -> None:
        with open_dbus_connection() as connection:
            _ask(connection, _SECRET_SERVICE, "Lock", "ao", ([_LOGIN],))
        assert self.is_locked()

    def unlock(self) -> None:
        """What the prompt would do, without a screen to show it on."""
        with open_dbus_connection() as connection:
            session = _ask(connection, _SECRET_SERVICE, "OpenSession", "sv", ("plain", ("s", "")))[1]
            secret = (session, b"", PASSPHRASE, "text/plain")
            _ask(connection, _INTERNAL, "UnlockWithMasterPassword", "o(oayays)", (_LOGIN, secret))
        assert not self.is_locked()

    def is_locked(self) -> bool | None:
        """None while nobody answers."""
        question = Properties(DBusAddress(_LOGIN, _NAME, "org.freedesktop.Secret.Collection")).get("Locked")
        question.header.flags |= MessageFlag.no_auto_start
        with open_dbus_connection() as connection:
            reply = connection.send_and_get_reply(question, timeout=READY_S)
        return None if reply.header.message_type is MessageType.error else bool(reply.body[0][1])

    def prompts(self) -> int:
        """How often something wanted a window from the keyring."""
        return self._log.read_text().count("Activating service name='org.gnome.keyring.SystemPrompter'")

    def stop(self) -> None:
        self.log_out()
        if self.bus is not None:
            self.bus.terminate()
            self.bus.wait(READY_S)
            assert self.bus.stdout is not None
            self.bus.stdout.close()


_SECRET_SERVICE = DBusAddress(_SERVICE, _NAME, "org.freedesktop.Secret.Service")
_INTERNAL = DBusAddress(_SERVICE, _NAME, "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface")


def _ask(connection: Any, address: DBusAddress, method: str, signature: str, body: tuple[Any, ...]) -> Any:
    reply = connection.send_and_get_reply(new_method_call(address, method, signature, body), timeout=READY_S)
    assert reply.header.message_type is not MessageType.error, reply.body
    return reply.body


@contextmanager
def desktop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    """With its bus, and nobody logged in."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "GNOME_KEYRING_CONTROL"):
        monkeypatch.delenv(name, raising=False)
    made = Desktop(folder)
    try:
        made.start_bus()
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", made.address)
        yield made
    finally:
        made.stop()
