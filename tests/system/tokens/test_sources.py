"""Whose token comes from where, when it is looked for again, and that it shows nowhere."""

import io
import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.core.settings import Destination
from agent.errors import KeyringError, KeyringLocked
from agent.system.tokens import Secret, TokenSource
from agent.system.tokens.client import Keyring, Place
from agent.system.tokens.sources import open_tokens, place_of

URL = "https://transcripts.example.com"
CANARY = "tsd_canary_4711"


class FakeKeyring(Keyring):
    """What `find` gives is up to the test: a token, None, or an error."""

    def __init__(self, backend: str = "secret-service") -> None:
        super().__init__(backend)
        self.holds: str | KeyringError | None = None
        self.looks = 0
        self.before_answer: Callable[[], object] = lambda: None

    def find(self, place: Place) -> Secret | None:
        self.looks += 1
        held = self.holds
        self.before_answer()
        if isinstance(held, KeyringError):
            raise held
        return None if held is None else Secret(held)


def opened(keyring: FakeKeyring, **settings: str) -> TokenSource:
    one = Destination(URL, **settings)  # type: ignore[arg-type]  # text keys only
    return open_tokens([one], "", {}, lambda _: keyring)


@pytest.fixture
def keyring() -> FakeKeyring:
    return FakeKeyring()


def test_the_keyring_is_asked_once_and_then_memory(keyring: FakeKeyring) -> None:
    tokens = opened(keyring)
    assert keyring.looks == 0, "nobody asked yet"
    keyring.holds = "one"
    assert [tokens.token("default") for _ in range(3)] == ["one"] * 3
    assert keyring.looks == 1
    assert tokens.source("default") == "keyring"


def test_many_who_need_it_at_once_ask_once(keyring: FakeKeyring) -> None:
    tokens = opened(keyring)
    keyring.holds = "one"
    all_wait = threading.Barrier(8)
    asked = threading.Event()
    keyring.before_answer = lambda: asked.wait(10)
    got: list[str | None] = []

    def ask() -> None:
        all_wait.wait(10)
        got.append(tokens.token("default"))

    threads = [threading.Thread(target=ask) for _ in range(7)]
    for thread in threads:
        thread.start()
    all_wait.wait(10)
    asked.set()
    for thread in threads:
        thread.join(10)
    assert got == ["one"] * 7
    assert keyring.looks <= 2, "one look, and at most one of who came when it had ended"


def test_a_keyring_that_fails_is_asked_again(keyring: FakeKeyring) -> None:
    tokens = opened(keyring)
    keyring.holds = KeyringLocked("locked")
    for _ in range(2):
        with pytest.raises(KeyringLocked):
            tokens.token("default")
    keyring.holds = None
    assert tokens.token("default") is None
    keyring.holds = "one"
    assert tokens.token("default") == "one"


def test_what_the_server_refuses_is_looked_behind_once(keyring: FakeKeyring) -> None:
    tokens = opened(keyring)
    keyring.holds = "old"
    tokens.token("default")
    keyring.holds = "new"
    assert tokens.renew("default", "old") == "new"
    assert tokens.renew("default", "old") == "new", "a straggler's 401 costs no look"
    assert keyring.looks == 2
    assert [tokens.renew("default", "new") for _ in range(3)] == [None] * 3
    assert keyring.looks == 3
    keyring.holds = "newest"
    assert tokens.token("default") == "newest", "a refused token is not kept"


@pytest.mark.parametrize("then", [None, KeyringLocked("locked")])
def test_nothing_takes_the_place_of_what_is_refused(keyring: FakeKeyring, then: KeyringError | None) -> None:
    tokens = opened(keyring)
    keyring.holds = "old"
    tokens.token("default")
    keyring.holds = then
    assert tokens.renew("default", "old") is None


def test_after_a_login_the_keyring_is_asked_again(keyring: FakeKeyring) -> None:
    tokens = opened(keyring)
    keyring.holds = "old"
    tokens.token("default")
    tokens.renew("default", "old")
    keyring.holds = "new"
    tokens.forget("another")
    assert keyring.looks == 2
    tokens.forget("default")
    assert tokens.token("default") == "new"
    assert not tokens.find_changed(), "a keyring tells nobody"


def test_a_file_is_read_again_when_it_changed(tmp_path: Path, keyring: FakeKeyring) -> None:
    path = tmp_path / "token"
    tokens = opened(keyring, token="file", token_file=str(path))
    assert tokens.token("default") is None
    assert not tokens.find_changed()
    for text in ("one", "another"):
        fresh = tmp_path / "fresh"
        fresh.write_text(text)
        fresh.chmod(0o600)
        fresh.replace(path)
        assert tokens.find_changed()
        assert not tokens.find_changed()
        assert tokens.token("default") == text
    path.write_text("in place")
    path.write_text("thethird")
    assert tokens.token("default") == "thethird", "also when nobody looked for changes"
    assert keyring.looks == 0


def test_a_credential_comes_from_the_environments_folder(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("one")
    one = Destination(URL, token="credential", credential="c")
    tokens = open_tokens([one], "", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert tokens.token("default") == "one"
    assert not open_tokens([one], "", {}).find_changed()


def test_the_variable_goes_before_everything(keyring: FakeKeyring) -> None:
    keyring.holds = "one"
    everywhere = {"TRANSCRIPTD_TOKEN": "given"}
    tokens = open_tokens(
        [Destination(URL), Destination(URL, name="b", token="file")], "", everywhere, lambda _: keyring
    )
    assert [tokens.token(name) for name in ("default", "b")] == ["given"] * 2
    assert tokens.source("b") == "environment"
    assert tokens.renew("b", "given") is None
    assert keyring.looks == 0


def test_the_word_environment_means_the_variable_and_nothing_else(keyring: FakeKeyring) -> None:
    keyring.holds = "one"
    tokens = opened(keyring, token="environment")
    assert tokens.token("default") is None
    assert not tokens.find_changed()


def test_a_token_is_for_an_origin_a_name_and_a_home() -> None:
    one = Destination(f"{URL}/some/path", name="work")
    assert place_of(one, "") == Place(f"transcriptd {URL}", "work")
    elsewhere: Mapping[str, Destination] = {
        "host": Destination("https://evil.example.com/some/path", name="work"),
        "port": Destination("https://transcripts.example.com:8443/some/path", name="work"),
        "scheme": Destination("http://transcripts.example.com/some/path", name="work"),
        "name": Destination(f"{URL}/some/path", name="home"),
    }
    places = {place_of(other, "") for other in elsewhere.values()} | {place_of(one, "/srv/second")}
    assert len(places | {place_of(one, "")}) == 6


def test_no_holder_of_a_token_shows_it(tmp_path: Path, keyring: FakeKeyring, caplog: pytest.LogCaptureFixture) -> None:
    keyring.holds = CANARY
    tokens = opened(keyring)
    with caplog.at_level(logging.DEBUG):
        assert tokens.token("default") == CANARY
        tokens.renew("default", CANARY)
    shown = [repr(one) for one in (Secret(CANARY), tokens, vars(tokens), keyring, Secret)]
    shown += [f"{vars(kept)}" for kept in vars(tokens)["_kept"].values()]
    assert CANARY not in " ".join(shown) + caplog.text


def test_a_traceback_with_every_local_value_has_stars_for_what_was_kept(keyring: FakeKeyring) -> None:
    keyring.holds = CANARY
    tokens = opened(keyring)
    tokens.token("default")
    out = io.StringIO()
    try:
        _fail(tokens, Secret(CANARY))
    except ZeroDivisionError as exc:
        for line in traceback.TracebackException.from_exception(exc, capture_locals=True).format():
            out.write(line)
    assert "Secret(***)" in out.getvalue()
    assert CANARY not in out.getvalue()


def _fail(tokens: TokenSource, secret: Secret) -> float:
    return len(repr(tokens)) / 0
