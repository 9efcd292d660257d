"""The keyring's door against a real gnome-keyring."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import KeyringError, KeyringLocked, KeyringMissing
from agent.system.tokens import Secret
from agent.system.tokens.client import Keyring, Place
from agent.system.tokens.presence import Presence, read_presence
from tests.keyrings import Desktop, desktop

PLACE = Place("transcriptd https://transcripts.example.com", "default")
OTHER_SERVER = PLACE._replace(service="transcriptd https://elsewhere.example.com")


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    with desktop(tmp_path, monkeypatch) as made:
        yield made


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_stored_is_found_replaced_and_removed(bus: Desktop) -> None:
    bus.log_in()
    keyring = Keyring("secret-service")
    assert keyring.find(PLACE) is None
    for token in ("tsd_one", "tsd_two"):
        keyring.store(PLACE, Secret(token))
        found = keyring.find(PLACE)
        assert found is not None
        assert found.text == token
    assert keyring.find(OTHER_SERVER) is None, "a token is for one server"
    assert keyring.drop(PLACE)
    assert not keyring.drop(PLACE)
    assert keyring.find(PLACE) is None
    assert bus.prompts() == 0


def test_a_keyring_that_comes_and_goes_is_told_from_one_that_is_locked(bus: Desktop) -> None:
    keyring = Keyring("secret-service")
    with pytest.raises(KeyringMissing):
        keyring.find(PLACE)
    assert bus.is_locked() is None, "a look starts no service"
    bus.log_in()
    assert keyring.find(PLACE) is None, "an earlier failure is not the last word"
    bus.lock()
    with pytest.raises(KeyringLocked):
        keyring.find(PLACE)
    bus.unlock()
    assert keyring.find(PLACE) is None
    bus.log_out()
    with pytest.raises(KeyringMissing):
        keyring.find(PLACE)
    bus.log_in(unlock=False)
    with pytest.raises(KeyringLocked):
        keyring.find(PLACE)
    assert bus.prompts() == 0


def test_a_hundred_looks_at_a_locked_keyring_cost_no_descriptor_and_show_no_prompt(bus: Desktop) -> None:
    bus.log_in()
    bus.lock()
    keyring = Keyring("secret-service")
    with pytest.raises(KeyringLocked):
        keyring.find(PLACE)
    before = descriptors()
    for _ in range(100):
        with pytest.raises(KeyringLocked):
            keyring.find(PLACE)
    assert descriptors() == before
    assert bus.prompts() == 0


def test_a_keyring_that_locks_between_the_look_and_the_question_is_not_asked_to_open(bus: Desktop) -> None:
    bus.log_in()
    bus.lock()
    keyring = Keyring("secret-service", presence=lambda: Presence.OPEN)
    with pytest.raises(KeyringLocked):
        keyring.find(PLACE)
    assert bus.prompts() == 0
    bus.log_out()
    with pytest.raises(KeyringError):
        keyring.find(PLACE)
    assert bus.prompts() == 0


def test_whoever_stores_may_be_asked_to_unlock(bus: Desktop) -> None:
    """And is told when there is no screen for that."""
    bus.log_in()
    bus.lock()
    with pytest.raises(KeyringLocked):
        Keyring("secret-service").store(PLACE, Secret("tsd_one"))
    assert bus.prompts() == 1


def test_the_process_that_asks_shows_no_token(bus: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither that which it stores, nor one that lies in our own environment."""
    monkeypatch.setenv("TRANSCRIPTD_TOKEN", "tsd_of_the_environment")
    bus.log_in()
    ended = threading.Event()
    shown = set[bytes]()

    def look() -> None:
        while not ended.is_set():
            shown.update(_shown_by_children())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        Keyring("secret-service").store(PLACE, Secret("tsd_stored"))
        found = Keyring("secret-service").find(PLACE)
    finally:
        ended.set()
        looking.join(10)
    assert found is not None
    seen = b"\n".join(shown)
    assert b"agent.system.tokens.child" in seen, "it was seen at work"
    assert b"DBUS_SESSION_BUS_ADDRESS" in seen
    assert b"tsd_" not in seen


def _shown_by_children() -> Iterator[bytes]:
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # whatever has ended meanwhile
            for child in (task / "children").read_text().split():
                program = Path(f"/proc/{child}/cmdline").read_bytes()
                if b"agent.system.tokens.child" in program:  # before that it is a copy of this process
                    yield program
                    yield Path(f"/proc/{child}/environ").read_bytes()


def test_the_bus_is_found_at_its_usual_place(bus: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a job of cron, which is told nothing."""
    bus.log_in()
    Keyring("secret-service").store(PLACE, Secret("tsd_one"))
    usual = Path(os.environ["XDG_RUNTIME_DIR"]) / "bus"
    usual.symlink_to(bus.address.removeprefix("unix:path=").partition(",")[0])
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    found = Keyring("secret-service").find(PLACE)
    assert found is not None
    assert found.text == "tsd_one"


@pytest.mark.parametrize("address", ["", "nonsense", "unix:path=/nowhere/bus", "tcp:host=127.0.0.1,port=1"])
def test_an_address_of_no_bus_is_no_keyring(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    assert read_presence() is Presence.MISSING
