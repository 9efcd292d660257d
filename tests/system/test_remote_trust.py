"""Whom the agent trusts, who gets the token, and how much of an answer it takes."""

import socket
import ssl
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.core.wire import Request
from agent.errors import Unreachable
from agent.system import remote as remote_module
from agent.system.remote import Remote
from tests.reliability import MakeTally
from tests.system.certificates import ALWAYS, EXPIRED, Authority
from tests.system.http_server import Answer, Seen, plain, sends, serving
from tests.system.test_remote import (
    GET,
    TOKEN,
    _impatient,  # noqa: F401 - a fixture that holds here too
    _no_proxies,  # noqa: F401 - the same
    failure,
    remote_to,
)

BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def _store_of_the_system(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose owner trusts this authority and no other."""
    for name in BUNDLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(authority.bundle.parent / "none"))


# --- whom it trusts -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_store_of_the_system")
@pytest.mark.parametrize("each", [False, True], ids=["list", "each connection asks"])
def test_whom_the_system_trusts_is_trusted(each: bool, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """`each`: as on macOS and Windows, where the system is asked about each certificate."""
    monkeypatch.setattr(remote_module, "_SYSTEM_VERIFIES", each)
    with serving(sends(plain()), tls=authority.issue().server_context()) as server, remote_to(server.url) as remote:
        for _ in range(2):
            assert remote.send(GET).status == 200
            remote.close()
    assert server.connections == 2


@pytest.mark.usefixtures("_store_of_the_system")
def test_what_the_owner_takes_out_of_the_store_is_heeded_with_the_next_connections(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(sends(plain()), tls=authority.issue().server_context()) as server, remote_to(server.url) as remote:
        assert remote.send(GET).status == 200
        monkeypatch.setenv("SSL_CERT_FILE", str(_other_authority(tmp_path).bundle))
        remote.cut()
        with pytest.raises(Unreachable, match="nobody whom this machine trusts"):
            remote.send(GET)


def _other_authority(folder: Path) -> Authority:
    (folder / "other").mkdir()
    return Authority(folder / "other")


REFUSED: dict[str, Callable[[Authority, Path], ssl.SSLContext]] = {
    "unknown authority": lambda _, folder: _other_authority(folder).issue().server_context(),
    "wrong host name": lambda known, _: known.issue("DNS:elsewhere.example", ALWAYS).server_context(),
    "expired": lambda known, _: known.issue(times=EXPIRED).server_context(),
}


@pytest.mark.usefixtures("_store_of_the_system")
@pytest.mark.parametrize("kind", REFUSED)
def test_a_bad_certificate_never_gets_the_token(
    kind: str, authority: Authority, tmp_path: Path, tally: MakeTally
) -> None:
    with serving(sends(plain()), tls=REFUSED[kind](authority, tmp_path)) as server:
        error = failure(server.url)
    assert "certificate" in error.message
    tally("tokens stay home", "certificates that nobody should trust").note(lost=len(server.seen))
    assert server.seen == [], "not a byte of the request"


# --- who gets the token -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_no_redirect_is_followed_wherever_it_leads(status: int, method: str) -> None:
    """To another host, another port, or back to the same: it is an answer like any other, and no verdict."""
    with serving(sends(plain())) as other, ExitStack() as stack:
        for target in (other.url, other.url.replace("127.0.0.1", "localhost"), "/elsewhere", "//127.0.0.1:1/"):
            moved = plain(f"{status} Moved", b"", f"Location: {target}/v1/x")
            server = stack.enter_context(serving(sends(moved)))
            remote = stack.enter_context(remote_to(server.url))
            assert remote.send(Request(method, "/v1/x", {}, b"line\n" if method == "POST" else None)).status == status
            assert len(server.seen) == 1
            assert server.one().headers["authorization"] == f"Bearer {TOKEN}"
    assert (other.connections, other.seen) == (0, [])


def test_each_server_gets_its_own_token_and_no_other() -> None:
    def login(_: str) -> str:
        return "renewed-first"

    refused = iter([plain("401 Unauthorized"), plain()])

    def first_answer(connection: socket.socket, _: Seen) -> bool:
        connection.sendall(next(refused, plain()))
        return True

    with serving(first_answer) as one, serving(sends(plain())) as two:
        first = Remote(one.url, lambda: "token-first", login)
        second = Remote(two.url, lambda: "token-second")
        for remote in (first, second, first, second):
            remote.send(GET)
        first.close()
        second.close()
    assert {seen.headers["authorization"] for seen in one.seen} == {"Bearer token-first", "Bearer renewed-first"}
    assert {seen.headers["authorization"] for seen in two.seen} == {"Bearer token-second"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_what_stays_on_this_machine_goes_through_no_proxy(
    name: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """http:// is taken for loopback only because it never leaves; through a proxy it would, token and all."""
    with serving(sends(plain())) as proxy, serving(sends(plain())) as server:
        monkeypatch.setenv(name, proxy.url)
        with remote_to(server.url.replace("127.0.0.1", host)) as remote:
            assert remote.send(GET).status == 200
    assert proxy.connections == 0
    assert len(server.seen) == 1


@pytest.mark.usefixtures("_store_of_the_system")
def test_a_proxy_sees_no_token_of_https(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it is told is where to; also when it lets nobody through."""
    with serving(sends(plain("403 Forbidden"), keep=False)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("http://", "http://ada:open-sesame@"))
        error = failure("https://transcripts.example")
    assert [seen.method for seen in proxy.seen] == ["CONNECT"]
    assert TOKEN not in str(proxy.seen)
    assert "open-sesame" not in error.message
    assert "authorization" not in proxy.one().headers


# --- how much an answer may be ------------------------------------------------------------------------------------


def endless(start: bytes, more: bytes) -> Answer:
    def answer(connection: socket.socket, _: Seen) -> bool:
        connection.sendall(start)
        sent = 0
        while sent < MOST_BYTES:
            connection.sendall(more)
            sent += len(more)
        return False

    return answer


MOST_BYTES = 192 << 20
"""What a server tries to make the agent take."""

FLOODS = {
    "body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"ffff\r\n" + b"x" * 65_535 + b"\r\n"),
    "chunk extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65_536),
    "a header's name": (b"HTTP/1.1 200 OK\r\n", b"x" * 65_536),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 60_000 + b"\r\n"),
    "small headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 8000),
    "a status line": (b"HTTP/1.1 200 ", b"x" * 65_536),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_no_answer_makes_the_agent_grow(kind: str) -> None:
    with serving(endless(*FLOODS[kind])) as server:
        tracemalloc.start()
        try:
            failure(server.url)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 24 << 20, f"{peak >> 20} MiB at the peak"


def test_promises_of_an_answer_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "REPLY_S", 0.5)
    with serving(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500)) as server:
        tracemalloc.start()
        try:
            failure(server.url)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 << 20


# --- certificates that the environment names ---------------------------------------------------------------------


def _make(kind: str, folder: Path) -> str:
    path = folder / "corp.pem"
    if kind == "which holds no certificates":
        path.write_text("<html>not found</html>", encoding="ascii")
    return str(path)


@pytest.mark.usefixtures("_store_of_the_system")
@pytest.mark.parametrize("trouble", ["which is not there", "which holds no certificates"])
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_file_of_certificates_that_is_no_good_is_named_with_its_variable(
    name: str, trouble: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said "no connection"."""
    path = _make(trouble, tmp_path)
    monkeypatch.setenv(name, path)
    with serving(sends(plain()), tls=authority.issue().server_context()) as server:
        assert failure(server.url).message.endswith(f"can't be reached: {name} names {path}, {trouble}")


def test_a_folder_of_certificates_that_is_not_there_is_named(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in BUNDLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with serving(sends(plain()), tls=authority.issue().server_context()) as server:
        told = failure(server.url).message
    assert "SSL_CERT_DIR names" in told or "nobody whom this machine trusts" in told  # where a file is trusted as well


def test_what_goes_over_http_needs_no_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with serving(sends(plain())) as server, remote_to(server.url) as remote:
        assert remote.send(GET).status == 200
