"""What the process that asks the keyring makes of its backends: recorded answers of those that are not run here, and
of some that must never be."""

import ctypes
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keyring.core
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import kwallet, macOS
from keyring.errors import InitError, KeyringError, KeyringLocked, NoKeyringError, PasswordSetError

from agent.errors import KeyringError as OurKeyringError
from agent.errors import KeyringLocked as OurKeyringLocked
from agent.errors import KeyringMissing, UsageError
from agent.system.tokens import Secret, child, client
from agent.system.tokens.backends import BACKENDS, choose_backend
from agent.system.tokens.client import Keyring, Place, child_environment
from agent.system.tokens.presence import Presence, read_presence
from agent.system.tokens.quiet import kwallet as quiet_kwallet
from agent.system.tokens.quiet import macos as quiet_macos
from tests.keyrings import Desktop, desktop

PLACE = Place("transcriptd https://transcripts.example.com", "default")


class WindowsError_(Exception):  # noqa: N801 - it stands for pywintypes.error
    def __init__(self, number: int) -> None:
        super().__init__(number, "CredWrite", "The stub received bad data")
        self.winerror = number


class Fake:
    """A backend that holds what it is given, or raises what a real one was seen to."""

    def __init__(self, raises: Exception | None = None, gives_back: Callable[[str], str] = lambda text: text) -> None:
        self.raises, self.gives_back = raises, gives_back
        self.items: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, account: str) -> str | None:
        if self.raises:
            raise self.raises
        return self.items.get((service, account))

    def set_password(self, service: str, account: str, secret: str) -> None:
        if self.raises:
            raise self.raises
        self.items[service, account] = self.gives_back(secret)

    def delete_password(self, service: str, account: str) -> None:
        del self.items[service, account]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fake], list[str]]:
    """Makes a fake the answer to every name; gives the names that were asked for."""
    names: list[str] = []

    def use(fake: Fake) -> list[str]:
        def load_keyring(name: str) -> Fake:
            names.append(name)
            return fake

        monkeypatch.setattr(keyring.core, "load_keyring", load_keyring)
        return names

    return use


def here(backend: str) -> Keyring:
    """The door, with `child.answer` in this process."""
    return Keyring(backend, run=child.answer, presence=lambda: Presence.OPEN)


RECORDED = {
    "macOS, no window allowed": (
        KeyringError("Can't get password from keychain: (-25308, 'Unknown Error')"),
        OurKeyringLocked,
    ),
    "macOS, not let in": (
        KeyringError("Can't get password from keychain: (-25293, 'Security Auth Failure: make sure executable …')"),
        OurKeyringLocked,
    ),
    "macOS, somebody said no": (KeyringLocked("Can't get password from keychain: (-128, 'Denied')"), OurKeyringLocked),
    "macOS, stored without a window": (
        PasswordSetError("Can't store password on keychain: (-25308, 'Unknown Error')"),
        OurKeyringLocked,
    ),
    "macOS, something else": (KeyringError("Can't get password from keychain: (-50, 'x')"), OurKeyringError),
    "KWallet, closed": (KeyringLocked("Failed to unlock the keyring!"), OurKeyringLocked),
    "no service on the bus": (InitError("Failed to open keyring: org.freedesktop.DBus.Error"), KeyringMissing),
    "nothing to hold it": (NoKeyringError("No recommended backend was available"), KeyringMissing),
    "Windows, nobody is logged in": (WindowsError_(1312), KeyringMissing),
    "Windows, too long": (WindowsError_(1783), UsageError),
    "Windows, something else": (WindowsError_(5), OurKeyringError),
    "a defect that quotes what it was given": (ValueError("can't encode tsd_canary"), OurKeyringError),
}


@pytest.mark.parametrize(("raises", "ours"), list(RECORDED.values()), ids=list(RECORDED))
def test_what_a_backend_was_seen_to_say_becomes_ours(
    raises: Exception, ours: type[Exception], load: Callable[[Fake], list[str]]
) -> None:
    load(Fake(raises))
    acts: list[Callable[[], object]] = [
        lambda: here("macos").find(PLACE),
        lambda: here("macos").store(PLACE, Secret("tsd_canary")),
    ]
    for act in acts:
        with pytest.raises(ours) as caught:
            act()
        assert type(caught.value) is ours
        assert "tsd_canary" not in str(caught.value)


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_every_backend_is_loaded_by_its_name_quiet_for_looks_and_loud_for_its_owner(
    backend: str, load: Callable[[Fake], list[str]]
) -> None:
    names = load(Fake())
    door = here(backend)
    assert door.find(PLACE) is None
    door.store(PLACE, Secret("tsd_x"))
    found = door.find(PLACE)
    assert found is not None
    assert found.text == "tsd_x"
    assert door.drop(PLACE)
    assert not door.drop(PLACE)
    known = BACKENDS[backend]
    assert names == [known.quiet, known.loud, known.quiet, known.loud, known.loud]


def test_what_is_stored_is_read_back(load: Callable[[Fake], list[str]]) -> None:
    load(Fake(gives_back=lambda text: text[:5]))
    with pytest.raises(OurKeyringError, match="something else than what was stored"):
        here("macos").store(PLACE, Secret("tsd_canary"))


def test_a_token_too_long_for_windows_is_told_before_it_is_stored(load: Callable[[Fake], list[str]]) -> None:
    fake = Fake()
    load(fake)
    here("windows").store(PLACE, Secret("x" * 1280))
    with pytest.raises(UsageError, match="1281 characters, and the Windows Credential Manager takes 1280"):
        here("windows").store(PLACE, Secret("x" * 1281))
    assert [len(kept) for kept in fake.items.values()] == [1280]


@pytest.mark.parametrize(
    ("platform", "expected"), [("linux", "secret-service"), ("darwin", "macos"), ("win32", "windows")]
)
def test_auto_is_the_systems_own_and_never_what_happens_to_answer(platform: str, expected: str) -> None:
    assert choose_backend("auto", platform) == expected
    assert choose_backend("kwallet", platform) == "kwallet"


def test_the_list_has_real_keyrings_only() -> None:
    for backend in BACKENDS.values():
        assert backend.loud.startswith("keyring.backends.")
        assert not any(word in backend.loud for word in ("alt", "null", "fail", "chainer"))


def test_the_quiet_wallet_opens_none_that_is_closed() -> None:
    asked: list[tuple[str, Any]] = []

    class Wallets:
        def __init__(self, *, is_open: bool) -> None:
            self.is_open = is_open

        def networkWallet(self) -> str:  # noqa: N802 - KWallet's name for it
            return "kdewallet"

        def isOpen(self, wallet: str, signature: str) -> bool:  # noqa: N802 - the same
            asked.append((wallet, signature))
            return self.is_open

    class Quiet(quiet_kwallet.Keyring):
        def wallets(self) -> Any:
            return Wallets(is_open=False)

    with pytest.raises(KeyringLocked):
        Quiet().get_password("s", "a")  # type: ignore[no-untyped-call]  # of keyring
    assert asked == [("kdewallet", "s")]
    assert issubclass(quiet_kwallet.Keyring, kwallet.DBusKeyring)


def test_the_quiet_keychain_forbids_windows_first(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[int] = []

    class Security:
        def SecKeychainSetUserInteractionAllowed(self, value: Any) -> int:  # noqa: N802 - Apple's name for it
            allowed.append(value.value)
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Security())
    assert isinstance(quiet_macos.Keyring(), macOS.Keyring)
    assert allowed == [0]


# --- real processes ------------------------------------------------------------------------------------------------

EAGER = """
    from pathlib import Path
    from keyring.backend import KeyringBackend

    class Keyring(KeyringBackend):
        priority = 100
        def get_password(self, service, username):
            path = Path(__file__).with_name("plain.txt")
            return path.read_text() if path.exists() else None
        def set_password(self, service, username, password):
            Path(__file__).with_name("plain.txt").write_text(password)
        def delete_password(self, service, username):
            pass
"""


@pytest.fixture
def eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As with keyrings.alt: a file of plain text that calls itself the best, and is what the environment wishes for."""
    folder = tmp_path / "site"
    (folder / "eager-1.dist-info").mkdir(parents=True)
    (folder / "eager.py").write_text(textwrap.dedent(EAGER))
    (folder / "eager-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: eager\nVersion: 1\n")
    (folder / "eager-1.dist-info" / "entry_points.txt").write_text("[keyring.backends]\neager = eager\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "eager.Keyring")
    return folder / "plain.txt"


def test_a_keyring_that_happens_to_be_there_is_not_taken(eager: Path) -> None:
    chosen = subprocess.run(
        [sys.executable, "-c", "import keyring; print(type(keyring.get_keyring()).__module__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert chosen.stdout == "eager\n", "whoever asks for any keyring gets this one"
    door = Keyring("secret-service")
    for act in (lambda: door.store(PLACE, Secret("tsd_canary")), lambda: door.find(PLACE), lambda: door.drop(PLACE)):
        with pytest.raises(KeyringMissing):
            act()
    assert not eager.exists()


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    with desktop(tmp_path, monkeypatch) as made:
        yield made


def test_a_keyring_that_hangs_is_given_up_in_time(bus: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "QUIET_S", 1.5)
    monkeypatch.setattr("agent.system.tokens.presence._ASK_S", 0.2)
    bus.log_in()
    bus.send_signal(signal.SIGSTOP)
    try:
        assert read_presence() is Presence.MISSING
        with pytest.raises(OurKeyringError, match="no answer within 2 s"):
            Keyring("secret-service", presence=lambda: Presence.OPEN).find(PLACE)
    finally:
        bus.send_signal(signal.SIGCONT)


def test_a_process_gets_neither_tokens_nor_credentials_but_the_way_to_the_bus(tmp_path: Path) -> None:
    given = {"TRANSCRIPTD_TOKEN": "tsd_canary", "CREDENTIALS_DIRECTORY": "/x", "HOME": "/home/ada"}
    assert child_environment(given) == {"HOME": "/home/ada"}
    (tmp_path / "bus").touch()
    found = child_environment({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert found["DBUS_SESSION_BUS_ADDRESS"] == f"unix:path={tmp_path}/bus"
    told = {"XDG_RUNTIME_DIR": str(tmp_path), "DBUS_SESSION_BUS_ADDRESS": "unix:path=/other"}
    assert child_environment(told) == told


@pytest.mark.parametrize("out", ["", "{}", "[]", "null", '{"is": "found", "secr', '"tsd_canary"'])
def test_half_an_answer_is_none_and_shows_nothing(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\nprintf %s '{out}'\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(OurKeyringError, match="gave no answer") as caught:
        Keyring("windows").find(PLACE)
    assert "tsd_canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_more_processes_is_a_keyring_that_can_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OurKeyringError, match="no process can be started"):
        Keyring("windows").find(PLACE)


def test_what_a_library_prints_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import keyring.core as core\n"
        "load = core.load_keyring\n"
        "core.load_keyring = lambda name: print('a line') or load(name)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(KeyringMissing):
        Keyring("windows").find(PLACE)


def test_the_fakes_have_the_shape_of_the_real_ones() -> None:
    for name in ("get_password", "set_password", "delete_password"):
        assert callable(getattr(KeyringBackend, name)), name
        assert callable(getattr(Fake, name)), name
