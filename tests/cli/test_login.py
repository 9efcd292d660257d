"""`login` and `logout` as somebody types them, with servers that take a token or do not. The keyrings are elsewhere:
tests/system/tokens and tests/e2e/test_keyring.py."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from agent.core.settings import Settings, TokenIn, parse_settings
from agent.errors import KeyringError, KeyringLocked, KeyringMissing
from agent.system.tokens import Secret
from agent.system.tokens.client import Keyring, Place
from tests.cli.running import run
from tests.system.http_server import Seen, Server, plain, sends, serving
from tests.system.privileges import needs_posix

GOOD = "tsd_good"
BULK = json.dumps({"protocol": 1, "bulk": {"max_bytes": 1000, "max_entries": 10, "encodings": []}}).encode()


def _server(connection: socket.socket, seen: Seen, answers: dict[str, bytes]) -> bool:
    """Looks at the token first, as most do; `answers` by the last part of the path."""
    last = seen.target.partition("?")[0].rpartition("/")[2]
    if seen.headers.get("authorization") != f"Bearer {GOOD}":
        connection.sendall(plain("401 Unauthorized"))
    else:
        connection.sendall(answers.get(last, plain("404 Not Found")))
    return True


@contextmanager
def bulk_server() -> Iterator[Server]:
    answers = {"capabilities": plain("200 OK", BULK)}
    with serving(lambda connection, seen: _server(connection, seen, answers)) as server:
        yield server


@contextmanager
def simple_server() -> Iterator[Server]:
    """One that says that it has no such page before it looks at a token."""

    def answer(connection: socket.socket, seen: Seen) -> bool:
        if seen.target.endswith("/capabilities"):
            connection.sendall(plain("404 Not Found"))
            return True
        return _server(connection, seen, {})

    with serving(answer) as server:
        yield server


@pytest.fixture
def config(home: Path) -> Path:
    return home / "td" / "config.toml"


@pytest.fixture
def token_file(home: Path) -> Path:
    path = home / "token"
    path.write_text(GOOD + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def keyring() -> Iterator[dict[Place, str]]:
    """In the place of the system's."""
    items: dict[Place, str] = {}
    with (
        mock.patch.object(Keyring, "store", lambda _, place, secret: items.__setitem__(place, secret.text)),
        mock.patch.object(Keyring, "drop", lambda _, place: items.pop(place, None) is not None),
        mock.patch.object(Keyring, "find", lambda _, place: Secret(items[place]) if place in items else None),
    ):
        yield items


NOT_ASKED = "shared: all projects, history too; to look first: transcriptd push --dry-run\n"
"""What `login` says where nobody can be asked."""


def settings_in(config: Path) -> Settings:
    return parse_settings(config.read_text(encoding="utf-8")) if config.exists() else Settings()


def test_a_token_goes_to_the_keyring_and_the_server_to_the_settings(config: Path, keyring: dict[Place, str]) -> None:
    with bulk_server() as server:
        done = run("login", server.url + "/", "--token-stdin", "--backend", "macos", stdin=f"{GOOD}\n")
    assert (done.status, done.err) == (0, NOT_ASKED)
    assert done.out.splitlines() == [
        f"default: {server.url}, token in the macOS Keychain",
        "no agent is running here; transcriptd service install starts it",
    ]
    (one,) = settings_in(config).destinations
    assert (one.url, one.token, one.keyring) == (server.url, TokenIn.KEYRING, "macos")
    home = config.parent
    assert keyring == {Place(f"transcriptd {server.url}", f"default of {home}"): GOOD}
    assert GOOD not in config.read_text(encoding="utf-8")
    assert {one.target.rpartition("/")[2] for one in server.seen} == {"capabilities"}


def test_a_terminal_is_asked_without_showing_what_is_typed(
    config: Path, keyring: dict[Place, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def prompt(words: str, *, hide_input: bool, err: bool) -> str:
        asked.append((words, hide_input))
        return f" {GOOD} "

    monkeypatch.setattr("click.prompt", prompt)
    monkeypatch.setattr("agent.cli.login.is_terminal", lambda: True)
    with bulk_server() as server:
        done = run("login", server.url)
    assert done.status == 0
    assert asked == [(f"token for {server.url}", True)]
    assert list(keyring.values()) == [GOOD]


@pytest.mark.parametrize(("trouble", "status"), [(KeyringMissing, 77), (KeyringLocked, 0), (KeyringError, 0)], ids=str)
def test_a_keyring_that_is_not_there_is_told_before_anything_is_asked_or_written(
    trouble: type[KeyringError], status: int, config: Path, keyring: dict[Place, str]
) -> None:
    """One that is locked may be unlocked when the token is stored."""

    def fail(*_: object) -> None:
        raise trouble("the keyring", hint="--token-file FILE")

    with bulk_server() as server, mock.patch.object(Keyring, "find", fail):
        done = run("login", server.url, "--token-stdin", stdin=GOOD)
    assert done.status == status
    assert config.exists() == (list(keyring.values()) == [GOOD]) == (status == 0)
    assert ("shared" in done.err) == (status == 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--token-file", "gone"], "(umask 077; cat > "), (["--environment"], "set TRANSCRIPTD_TOKEN")],
)
def test_a_token_that_is_not_in_its_place_is_told_with_the_way_there(
    options: list[str], words: str, config: Path
) -> None:
    done = run("login", "http://127.0.0.1:1", *options)
    assert done.status == 2
    assert words in done.err
    assert "--token-stdin" not in done.err, "that goes to the keyring"


@pytest.mark.parametrize("make", [bulk_server, simple_server])
def test_a_token_that_the_server_refuses_changes_nothing(config: Path, keyring: dict[Place, str], make: object) -> None:
    with make() as server:  # type: ignore[operator]  # one of the two above
        done = run("login", server.url, "--token-stdin", stdin="tsd_bad\n")
    assert done.status == 4
    assert done.err.startswith(f"transcriptd: {server.url} does not accept this token; nothing was changed\n")
    assert "tsd_bad" not in done.err + done.out
    assert keyring == {}
    assert not config.exists()


def test_a_simple_server_is_asked_something_that_needs_a_token(config: Path, keyring: dict[Place, str]) -> None:
    with simple_server() as server:
        assert run("login", server.url, "--token-stdin", stdin=GOOD).status == 0
    assert list(keyring.values()) == [GOOD]
    assert len(server.seen) == 2


def test_a_server_that_forbids_everything_accepts_nothing(config: Path, keyring: dict[Place, str]) -> None:
    with serving(sends(plain("403 Forbidden"))) as server:
        assert run("login", server.url, "--token-stdin", stdin=GOOD).status == 4
    assert keyring == {}


@pytest.mark.parametrize("answer", ["503 Service Unavailable", "200 OK", "302 Found"])
def test_a_token_that_nobody_could_check_changes_nothing(config: Path, keyring: dict[Place, str], answer: str) -> None:
    page = plain(answer, b"<html>welcome to the hotel</html>", "Content-Type: text/html", "Location: /login")
    with serving(sends(page)) as server:
        done = run("login", server.url, "--token-stdin", stdin=GOOD)
    assert done.status == 69, done.err
    assert "nothing was changed" in done.err
    assert keyring == {}
    assert not config.exists()


def test_a_server_that_is_away_is_told(config: Path, keyring: dict[Place, str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        done = run("login", f"http://127.0.0.1:{nobody.getsockname()[1]}", "--token-stdin", stdin=GOOD)
    assert done.status == 69
    assert "can't be reached" in done.err
    assert keyring == {}


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["http://127.0.0.1:1"], "", "there is no terminal to ask for the token"),
        (["http://127.0.0.1:1", "--token-stdin"], "\n", "no token on stdin"),
        (["transcripts.example.com", "--token-stdin"], GOOD, "is no address"),
        (["ftp://transcripts.example.com", "--token-stdin"], GOOD, "is no address"),
        (["http://transcripts.example.com", "--token-stdin"], GOOD, "unencrypted"),
        (["https://ada:secret@transcripts.example.com", "--token-stdin"], GOOD, "more than an address"),
        (["http://127.0.0.1:1", "--token-stdin", "--token-file", "x"], GOOD, "a token is in one place"),
        (["http://127.0.0.1:1", "--credential", "x", "--environment"], GOOD, "a token is in one place"),
        (["http://127.0.0.1:1", "--backend", "macos", "--environment"], GOOD, "a token is in one place"),
        (["http://127.0.0.1:1", "--environment"], GOOD, "TRANSCRIPTD_TOKEN is not set"),
        (["http://127.0.0.1:1", "--token-file", "/nowhere/token"], GOOD, "is not there, or empty"),
    ],
)
def test_what_can_not_be_meant_is_refused(config: Path, arguments: list[str], stdin: str, words: str) -> None:
    done = run("login", *arguments, stdin=stdin)
    assert done.status == 2
    assert words in done.err
    assert GOOD not in done.err + done.out
    assert not config.exists()


def test_a_keyring_that_is_not_there_ends_with_77_and_the_way_without(config: Path) -> None:
    """The tests have no session bus."""
    with bulk_server() as server:
        done = run("login", server.url, "--token-stdin", "--backend", "secret-service", stdin=GOOD)
    assert done.status == 77
    assert "is not there (yet)" in done.err
    assert "--token-file" in done.err
    assert not config.exists()


def test_settings_that_are_wrong_are_told_before_anybody_is_asked(config: Path) -> None:
    config.parent.mkdir()
    config.write_text("[push\n", encoding="utf-8")
    assert run("login", "http://127.0.0.1:1", "--token-stdin", stdin=GOOD).status == 78
    assert config.read_text(encoding="utf-8") == "[push\n"


def test_a_file_is_named_and_stays_where_it_is(config: Path, token_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(token_file.parent)
    with bulk_server() as server:
        done = run("login", server.url, "--token-file", "token")
    assert done.status == 0, done.err
    (one,) = settings_in(config).destinations
    assert (one.token, one.token_file) == (TokenIn.FILE, str(token_file))
    assert token_file.read_text() == GOOD + "\n"
    done = run("logout")
    assert done.status == 2
    assert f"the file {token_file}, which is yours to remove" in done.err


@needs_posix
def test_a_file_that_others_may_read_ends_with_77(config: Path, token_file: Path) -> None:
    token_file.chmod(0o640)
    done = run("login", "http://127.0.0.1:1", "--token-file", str(token_file))
    assert done.status == 77
    assert f"chmod 600 {token_file}" in done.err
    assert not config.exists()


def test_a_credential_is_checked_where_there_is_one(config: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bulk_server() as server:
        done = run("login", server.url, "--credential", "token")
        assert (done.status, server.seen) == (0, [])
        assert "not checked" in done.err
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(home))
        assert run("login", server.url, "--credential", "token").status == 2
        (home / "token").write_text("tsd_bad")
        assert run("login", server.url, "--credential", "token").status == 4
        (home / "token").write_text(GOOD)
        assert run("login", server.url, "--credential", "token").status == 0
    assert settings_in(config).destinations[0].credential == "token"


def test_the_variable_is_taken_by_name_and_told_of_otherwise(
    config: Path, keyring: dict[Place, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSCRIPTD_TOKEN", GOOD)
    with bulk_server() as server:
        done = run("login", server.url, "--environment")
        assert (done.status, done.err) == (0, NOT_ASKED)
        assert settings_in(config).destinations[0].token == TokenIn.ENVIRONMENT
        done = run("login", server.url, "--token-stdin", stdin=GOOD)
    assert done.status == 0
    assert "TRANSCRIPTD_TOKEN is set here" in done.err
    assert settings_in(config).destinations[0].token == TokenIn.KEYRING


def test_names_are_kept_found_and_made(config: Path, keyring: dict[Place, str]) -> None:
    with bulk_server() as first, bulk_server() as second:
        assert run("login", first.url, "--token-stdin", "--name", "home", stdin=GOOD).status == 0
        assert run("login", first.url, "--token-stdin", stdin=GOOD).out.startswith("home: ")
        assert run("login", second.url, "--token-stdin", stdin=GOOD).out.startswith("127.0.0.1: ")
        assert [one.name for one in settings_in(config).destinations] == ["home", "127.0.0.1"]
        assert run("login", second.url, "--token-stdin", "--name", "home", stdin=GOOD).status == 0
    assert [one.url for one in settings_in(config).destinations] == [second.url] * 2
    done = run("logout")
    assert done.status == 2
    assert "home, 127.0.0.1" in done.err
    assert run("logout", "nobody").status == 2


def test_logout_takes_the_token_away_once(config: Path, keyring: dict[Place, str]) -> None:
    with bulk_server() as server:
        run("login", server.url, "--token-stdin", stdin=GOOD)
    before = config.read_text(encoding="utf-8")
    done = run("logout")
    assert (done.status, done.out) == (0, "default: logged out\n")
    assert keyring == {}
    assert config.read_text(encoding="utf-8") == before
    assert run("logout", "default").out.startswith("default: there was no token in ")


def test_status_and_settings_say_where_the_token_is_and_never_what(
    config: Path, keyring: dict[Place, str], token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bulk_server() as server, bulk_server() as second:
        run("login", server.url, "--token-stdin", stdin=GOOD)
        assert json.loads(run("status", "--json").out)["destinations"][0]["token"] == "keyring"
        run("login", second.url, "--token-file", str(token_file), "--name", "second")
    assert "default: keyring, second: file" in run("status").out
    monkeypatch.setenv("TRANSCRIPTD_TOKEN", GOOD)
    found = json.loads(run("status", "--json").out)["destinations"]
    assert [one["token"] for one in found] == ["environment", "environment"]
    assert GOOD not in run("status").out + run("config", "show").out + run("config", "check").out


@needs_posix
def test_fresh_settings_are_for_their_owner_alone(config: Path, token_file: Path) -> None:
    with bulk_server() as server:
        run("login", server.url, "--token-file", str(token_file))
    assert os.stat(config).st_mode & 0o777 == 0o600
    assert os.stat(config.parent).st_mode & 0o777 == 0o700
