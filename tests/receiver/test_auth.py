"""Who gets in: tokens of the store and of the run, readers and writers, and what never gets out."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.wire import INGRESS, session_path
from agent.receiver.auth import Auth, Caller, hash_token, make_token, parse_bearer
from agent.receiver.sqlite import SqliteStore
from tests.receiver.harness import READER, WRITER, Receiver, fresh_head, fresh_stream

READS = [
    session_path("s"),
    session_path("s", "/head"),
    session_path("s", "/streams"),
    session_path("s", "/entries"),
    session_path("s", "/meta"),
    f"{INGRESS}/capabilities",
    f"{INGRESS}/sessions",
    "/v1/code/sessions/s/teleport-events",
]
WRITES = [("PUT", session_path("s")), ("POST", session_path("s", "/entries")), ("PUT", session_path("s", "/meta"))]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "db")) as store:
        yield store


def test_tokens_are_long_and_marked() -> None:
    tokens = {make_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("tsd_") and len(token) == 47 for token in tokens)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dDp0", "token", "Bearertoken"])
def test_headers_without_a_token(header: str | None) -> None:
    assert parse_bearer(header) is None


def test_the_scheme_has_no_case() -> None:
    assert parse_bearer("bearer x") == parse_bearer("Bearer x ") == hash_token("x")


def test_store_tokens_and_run_tokens(store: SqliteStore) -> None:
    auth = Auth(store)
    store.create_token("n", "me", "read", hash_token("kept"))
    auth.accept("passing", "write")
    assert auth.find_caller(hash_token("kept")) == Caller("me", "read")
    assert auth.find_caller(hash_token("passing")) is None
    assert auth.find_run_caller(hash_token("passing")) == Caller("local", "write")
    assert auth.find_run_caller(hash_token("kept")) is None


def test_the_token_itself_is_nowhere_on_disk(store: SqliteStore, tmp_path: Path) -> None:
    token = make_token()
    store.create_token("n", "me", "write", hash_token(token))
    assert Auth(store).find_caller(hash_token(token))
    assert not any(token.encode() in file.read_bytes() for file in tmp_path.iterdir())


def test_use_is_noted_by_the_hour(tmp_path: Path) -> None:
    times = [1000.0]
    with closing(SqliteStore(tmp_path / "db", now_s=lambda: times[-1])) as store:
        store.create_token("n", "me", "write", b"1" * 32)
        seen = []
        for now_s in (1000.0, 2000.0, 4599.0, 4600.0, 5000.0):
            times.append(now_s)
            store.find_token(b"1" * 32)
            seen.append(store.list_tokens()[0].last_used_at_s)
    assert seen == [1000.0, 1000.0, 1000.0, 4600.0, 4600.0]


@pytest.mark.parametrize("token", [None, "", "wrong", "tsd_" + "x" * 43, "ü"])
def test_strangers_get_nothing(receiver: Receiver, token: str | None) -> None:
    header = None if token is None else f"Bearer {token}".encode().decode("latin-1")
    with receiver.client(None) as client:
        for method, path in [*(("GET", path) for path in READS), *WRITES]:
            answer = client.ask(method, path, b"x" if method != "GET" else None, Authorization=header)
            assert answer.status == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"


def test_readers_may_not_write(receiver: Receiver) -> None:
    with receiver.client(READER) as client:
        for path in READS:
            assert client.ask("GET", path).status in (200, 404), path
        for method, path in WRITES:
            assert client.ask(method, path, b"x").status == 403, path
        assert client.append(fresh_stream(), fresh_head(), b"x\n").status == 403


def test_a_revoked_token_is_out_at_once(data: Path) -> None:
    with Receiver(data) as receiver, closing(SqliteStore(data / "receiver.sqlite3")) as store:
        store.create_token("n", "me", "write", hash_token("kept"))
        with receiver.client("kept") as client:
            assert client.ask("GET", READS[-2]).status == 200
            store.revoke_token("n")
            assert client.ask("GET", READS[-2]).status == 401


def test_owners_do_not_see_each_other(data: Path) -> None:
    with Receiver(data) as receiver, closing(SqliteStore(data / "receiver.sqlite3")) as store:
        store.create_token("n", "other", "write", hash_token("kept"))
        stream = fresh_stream()
        with receiver.client() as mine, receiver.client("kept") as other:
            assert mine.append(stream, fresh_head(), b"mine\n").status == 200
            assert other.entries(stream).status == 404
            assert other.append(stream, fresh_head(), b"theirs\n").status == 200
            assert mine.entries(stream).body == b"mine\n"
            assert len(other.ask("GET", f"{INGRESS}/sessions").json()["sessions"]) == 1


def test_nothing_of_tokens_or_transcripts_is_logged(data: Path) -> None:
    with Receiver(data, "--log-level", "debug") as receiver:
        with receiver.client() as client:
            client.append(fresh_stream(), fresh_head(), b'{"uuid":"u","secret":"transcript-text"}\n')
            client.ask("PUT", session_path("s"), b'{"secret":"transcript-text"')
        with receiver.client("wrong-token") as client:
            client.ask("GET", READS[0])
        with closing(sqlite3.connect(data / "receiver.sqlite3")) as db:  # now the store fails
            db.execute("DROP TABLE runs")
        with receiver.client() as client:
            answer = client.append(fresh_stream(), fresh_head(), b'{"secret":"transcript-text"}\n')
            assert answer.status == 503
            assert answer.headers["retry-after"]
        receiver.stop()
        for secret in (WRITER, READER, "wrong-token", "transcript-text"):
            assert secret not in receiver.log
            assert secret.encode() not in answer.body


@pytest.mark.parametrize("reads", [("local",), ("*",)])
def test_a_token_may_read_what_belongs_to_others(data: Path, reads: tuple[str, ...]) -> None:
    with Receiver(data) as receiver, closing(SqliteStore(data / "receiver.sqlite3")) as store:
        store.create_token("n", "other", "write", hash_token("kept"), reads)
        stream = fresh_stream()
        with receiver.client() as mine, receiver.client("kept") as other:
            assert mine.append(stream, fresh_head(), b"mine\n").status == 200
            assert other.entries(stream).status == 404, "nobody is meant who is not named"
            assert other.entries(stream, owner="local").body == b"mine\n"
            for tail in ("/head", "/streams", "/meta", "/files"):
                assert other.ask("GET", session_path(stream.session_id, tail, owner="local")).status == 200
            rows = other.ask("GET", f"{INGRESS}/sessions?owner=*").json()["sessions"]
            assert [(row["session_id"], row["owner"]) for row in rows] == [(stream.session_id, "local")]
            assert other.ask("GET", f"{INGRESS}/sessions").json()["sessions"] == []
            assert mine.ask("GET", f"{INGRESS}/sessions?owner=*").json()["sessions"][0]["owner"] == ""


def test_what_belongs_to_others_is_not_there_for_a_token_without_the_right(data: Path) -> None:
    with Receiver(data) as receiver, closing(SqliteStore(data / "receiver.sqlite3")) as store:
        store.create_token("n", "other", "write", hash_token("kept"), ("somebody",))
        stream = fresh_stream()
        with receiver.client() as mine, receiver.client("kept") as other:
            assert mine.append(stream, fresh_head(), b"mine\n").status == 200
            for tail in ("", "/entries", "/head", "/streams", "/meta", "/files", "/files/x"):
                asked = session_path(stream.session_id, tail, owner="local")
                assert other.ask("GET", asked).status == 404, tail
            for owner in ("local", "**", "%2A%2A"):
                assert other.ask("GET", f"{INGRESS}/sessions?owner={owner}").status == 404
            assert other.ask("GET", f"{INGRESS}/sessions?owner=*").json()["sessions"] == []


@pytest.mark.parametrize("reads", [("local",), ("*",)])
def test_nobody_writes_what_belongs_to_others(data: Path, reads: tuple[str, ...]) -> None:
    with Receiver(data) as receiver, closing(SqliteStore(data / "receiver.sqlite3")) as store:
        store.create_token("n", "other", "write", hash_token("kept"), reads)
        with receiver.client("kept") as other:
            for method, path in [*WRITES, ("DELETE", session_path("s")), ("POST", session_path("s", "/restore"))]:
                whose = "&" if "?" in path else "?"
                assert other.ask(method, f"{path}{whose}owner=local", b"{}").status == 403, path
