"""The one door to the network, against servers that behave, and servers that do not."""

import contextlib
import gzip
import itertools
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import __version__
from agent.core.wire import LongBody, Request
from agent.errors import DiskError, Unauthorized, Unreachable
from agent.system import remote as remote_module
from agent.system.remote import Remote
from tests.conftest import require_tool
from tests.system.http_server import Answer, Seen, Server, plain, resets, sends, serving

TOKEN = "tsd_this-must-not-show"
GET = Request("GET", "/v1/x")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that waits for something that never comes fails soon."""
    monkeypatch.setattr(remote_module, "CONNECT_S", 5.0)
    monkeypatch.setattr(remote_module, "READ_S", 10.0)


@contextmanager
def remote_to(url: str, token: Callable[[], str | None] = lambda: TOKEN) -> Iterator[Remote]:
    made = Remote(url, token)
    try:
        yield made
    finally:
        made.close()


def failure(url: str, request: Request = GET) -> Unreachable:
    with remote_to(url) as remote, pytest.raises(Unreachable) as caught:
        remote.send(request)
    seen: BaseException | None = caught.value
    assert TOKEN not in str(caught.value) + caught.value.hint
    assert caught.value.message.startswith(url.partition("://")[2].partition("/")[0])
    while seen is not None:
        assert TOKEN not in str(seen), type(seen)
        seen = seen.__cause__ or seen.__context__
    return caught.value


# --- what is sent -------------------------------------------------------------------------------------------------


def test_a_request_arrives_as_it_was_prepared() -> None:
    with serving(sends(plain())) as server, remote_to(f"{server.url}/base/") as remote:
        remote.send(
            Request("PUT", "/v1/a%2Fb?subpath=x%20y", {"Content-Type": "application/json", "Last-Uuid": "u1"}, b"{}")
        )
    seen = server.one()
    assert (seen.method, seen.target, seen.body) == ("PUT", "/base/v1/a%2Fb?subpath=x%20y", b"{}")
    assert seen.headers == {
        "host": f"127.0.0.1:{server.port}",
        "authorization": f"Bearer {TOKEN}",
        "user-agent": f"transcriptd/{__version__}",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "last-uuid": "u1",
        "content-length": "2",
    }


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_request_without_a_body_says_so(method: str) -> None:
    with serving(sends(plain())) as server, remote_to(server.url) as remote:
        remote.send(Request(method, "/v1/x"))
    assert server.one().headers["content-length"] == "0"
    assert "transfer-encoding" not in server.one().headers


def test_a_long_body_is_streamed_under_its_length() -> None:
    pieces = [b"x" * (1 << 20), b"", b"y" * 300_000, b"\n"]
    size = sum(map(len, pieces))
    with serving(sends(plain())) as server, remote_to(server.url) as remote:
        for _ in range(2):
            remote.send(Request("POST", "/v1/x", {}, LongBody(size, lambda: iter(pieces))))
    for seen in server.seen:
        assert seen.headers["content-length"] == str(size)
        assert "transfer-encoding" not in seen.headers
        assert seen.body == b"".join(pieces)


def test_a_long_body_is_taken_piece_by_piece_and_not_gathered() -> None:
    """The first bytes leave before the last ones are read from disk."""
    arrived = threading.Event()

    def answer(connection: socket.socket, seen: Seen) -> bool:
        rest = int(seen.headers["content-length"])
        while rest:
            rest -= len(connection.recv(min(rest, 1 << 16)))
            arrived.set()
        connection.sendall(plain())
        return True

    def pieces() -> Iterator[bytes]:
        yield b"x" * 200_000
        assert arrived.wait(5)
        yield b"y" * 100_000

    with serving(answer, reads_body=False) as server, remote_to(server.url) as remote:
        assert remote.send(Request("POST", "/v1/x", {}, LongBody(300_000, pieces))).status == 200


def test_a_file_that_fails_while_it_is_sent_fails_as_what_it_is_and_spoils_no_connection() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x" * 10
        raise DiskError("it became shorter while it was read")

    with serving(sends(plain())) as server, remote_to(server.url) as remote:
        with pytest.raises(DiskError):
            remote.send(Request("POST", "/v1/x", {}, LongBody(1_000, pieces)))
        assert remote.send(Request("POST", "/v1/x", {}, b"whole")).status == 200
    assert server.connections == 2, "the rest of the first body would be read as a request"
    assert b"whole" in [one.body for one in server.seen]


def test_a_server_that_takes_its_time_with_a_body_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow uplink: what is limited is the time without any progress, not that of a whole batch."""
    monkeypatch.setattr(remote_module, "CONNECT_S", 0.2)
    body = bytes(12 << 20)

    def answer(connection: socket.socket, seen: Seen) -> bool:
        rest = len(body)
        for _ in range(4):
            server.ended.wait(0.1)
            rest -= len(connection.recv(1 << 16))
        while rest and (data := connection.recv(min(rest, 1 << 20))):
            rest -= len(data)
        connection.sendall(plain())
        return True

    with serving(answer, reads_body=False) as server, remote_to(server.url) as remote:
        for form in (body, LongBody(len(body), lambda: iter([body]))):
            assert remote.send(Request("POST", "/v1/x", {}, form)).status == 200


def test_a_body_that_nobody_takes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "READ_S", 0.2)

    def answer(connection: socket.socket, seen: Seen) -> bool:
        server.ended.wait(10)
        return False

    with serving(answer, reads_body=False) as server:
        failure(server.url, Request("POST", "/v1/x", {}, bytes(16 << 20)))


# --- tokens -------------------------------------------------------------------------------------------------------


def test_the_token_is_asked_before_each_request() -> None:
    tokens = iter(["one", "two"])
    with serving(sends(plain())) as server, remote_to(server.url, lambda: next(tokens)) as remote:
        remote.send(GET)
        remote.send(GET)
    assert [one.headers["authorization"] for one in server.seen] == ["Bearer one", "Bearer two"]


def _accepts(good: str) -> Answer:
    def answer(connection: socket.socket, seen: Seen) -> bool:
        connection.sendall(plain() if seen.headers["authorization"] == f"Bearer {good}" else plain("401 Unauthorized"))
        return True

    return answer


def test_a_refused_token_that_was_replaced_costs_one_request_more() -> None:
    body = LongBody(4, lambda: iter([b"bo", b"dy"]))
    with serving(_accepts("new")) as server:
        remote = Remote(server.url, lambda: "old", lambda refused: "new" if refused == "old" else None)
        with contextlib.closing(remote):
            assert remote.send(Request("POST", "/x", body=body)).status == 200
    assert [(one.headers["authorization"], one.body) for one in server.seen] == [
        ("Bearer old", b"body"),
        ("Bearer new", b"body"),
    ]


@pytest.mark.parametrize(("renewed", "requests"), [(None, 1), ("bad", 2)])
def test_a_token_that_stays_refused_is_asked_for_no_third_time(renewed: str | None, requests: int) -> None:
    with serving(_accepts("new")) as server:
        remote = Remote(server.url, lambda: "old", lambda _: renewed)
        with contextlib.closing(remote):
            assert remote.send(GET).status == 401
    assert len(server.seen) == requests


def test_without_a_token_nothing_is_connected() -> None:
    refused = pytest.raises(Unauthorized, match="there is no token for 127")
    with serving(sends(plain())) as server, remote_to(server.url, lambda: None) as remote, refused as caught:
        remote.send(GET)
    assert server.connections == 0
    assert caught.value.hint
    assert caught.value.exit_status == 4


@pytest.mark.parametrize(
    "token", ["tsd_\nx-other: 1", "tsd_\r\n\r\n", "tsd_\x00", "tsd_ü", "tsd_€", "tsd_ x", "tsd_\t", ""]
)
def test_a_token_that_no_header_takes_is_refused_without_repeating_it(token: str) -> None:
    refused = pytest.raises(Unauthorized)
    with serving(sends(plain())) as server, remote_to(server.url, lambda: token) as remote, refused as caught:
        remote.send(GET)
    assert server.connections == 0
    assert "tsd_" not in str(caught.value) + caught.value.hint


def test_netrc_files_are_not_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = home / ".netrc"
    netrc.write_text("default login ada password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(sends(plain())) as server, remote_to(server.url) as remote:
        remote.send(GET)
    assert server.one().headers["authorization"] == f"Bearer {TOKEN}"


def test_cookies_are_not_kept() -> None:
    with serving(sends(plain("200 OK", b"{}", "Set-Cookie: a=b; Path=/"))) as server, remote_to(server.url) as remote:
        remote.send(GET)
        remote.send(GET)
    assert len(server.seen) == 2
    assert all("cookie" not in one.headers for one in server.seen)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_answers_and_not_followed(status: int) -> None:
    with serving(sends(plain())) as other:
        moved = plain(f"{status} Moved", b"", f"Location: {other.url}/v1/x")
        with serving(sends(moved)) as server, remote_to(server.url) as remote:
            reply = remote.send(GET)
    assert (reply.status, reply.headers["location"]) == (status, f"{other.url}/v1/x")
    assert other.connections == 0, "the token would have travelled there"


# --- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", [200, 201, 400, 401, 403, 404, 409, 410, 413, 422, 429, 500, 501, 502, 503, 504, 599]
)
def test_every_status_is_an_answer(status: int) -> None:
    data = plain(f"{status} Whatever", b'{"a":1}', "X-Last-UUID: U1", "Retry-After: 7")
    with serving(sends(data)) as server, remote_to(server.url) as remote:
        reply = remote.send(GET)
    assert (reply.status, reply.body) == (status, b'{"a":1}')
    assert (reply.headers["x-last-uuid"], reply.headers["retry-after"]) == ("U1", "7")


def test_an_answer_without_a_body_is_empty() -> None:
    data = b"HTTP/1.1 204 No Content\r\n\r\n"
    with serving(sends(data)) as server, remote_to(server.url) as remote:
        assert remote.send(GET) == (204, {}, b"")
        assert remote.send(GET).status == 204


def test_an_answer_in_chunks_is_put_together() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n,\r\n6\r\n world\r\n0\r\n\r\n"
    with serving(sends(data)) as server, remote_to(server.url) as remote:
        assert [remote.send(GET).body for _ in range(2)] == [b"hello, world"] * 2
    assert server.connections == 1


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    with serving(sends(b"HTTP/1.1 200 OK\r\n\r\nhello", keep=False)) as server, remote_to(server.url) as remote:
        assert remote.send(GET).body == b"hello"


def test_an_old_servers_answer_is_understood() -> None:
    with serving(sends(b"HTTP/1.0 200 OK\r\n\r\n{}", keep=False)) as server, remote_to(server.url) as remote:
        assert remote.send(GET).body == b"{}"


def test_one_connection_serves_many_requests() -> None:
    with serving(sends(plain("200 OK", b"x" * 100_000))) as server, remote_to(server.url) as remote:
        for _ in range(5):
            remote.send(GET)
    assert (len(server.seen), server.connections) == (5, 1)


def test_after_close_the_next_request_opens_a_new_connection() -> None:
    with serving(sends(plain())) as server, remote_to(server.url) as remote:
        remote.send(GET)
        remote.close()
        remote.send(GET)
    assert server.connections == 2


def test_a_connection_that_the_server_ended_meanwhile_is_not_used_again() -> None:
    ends = sends(plain("200 OK", b"{}", "Connection: close"), keep=False)
    with serving(ends) as server, remote_to(server.url) as remote:
        assert [remote.send(GET).status for _ in range(3)] == [200] * 3
    assert server.connections == 3


def test_it_serves_many_threads() -> None:
    def answer(connection: socket.socket, seen: Seen) -> bool:
        connection.sendall(plain("200 OK", seen.body))
        return True

    got: list[bool] = []

    def work(number: int) -> None:
        for turn in range(10):
            body = f"{number} {turn}".encode()
            got.append(remote.send(Request("POST", "/v1/x", {}, body)).body == body)

    with serving(answer) as server, remote_to(server.url) as remote:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert got == [True] * 80
    assert server.connections <= 8


def test_an_answer_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    for size, fits in ((1_000, True), (1_001, False)):
        with serving(sends(plain("200 OK", b"x" * size))) as server:
            request = Request("GET", "/v1/x", max_reply_bytes=1_000)
            if fits:
                with remote_to(server.url) as remote:
                    assert len(remote.send(request).body) == size
            else:
                assert "more than 1000 bytes" in failure(server.url, request).message


def test_an_endless_answer_is_cut_off() -> None:
    def answer(connection: socket.socket, _: Seen) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _number in itertools.repeat(None, 10_000):
            connection.sendall(b"x" * 65_536)
        return False

    with serving(answer) as server:
        assert "is not this protocol" in failure(server.url).message


def test_a_small_answer_that_unpacks_without_end_is_cut_off() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    assert len(bomb) < 100_000
    with serving(sends(plain("200 OK", bomb, "Content-Encoding: gzip"))) as server:
        assert "is not this protocol" in failure(server.url).message


# --- no answers ---------------------------------------------------------------------------------------------------

GARBAGE = {
    "nothing": b"",
    "no status": b"HTTP/1.1\r\n\r\n",
    "other protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "binary": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "status of letters": b"HTTP/1.1 OK 200\r\n\r\n",
    "endless status": b"HTTP/1.1 200 " + b"x" * 70_000,
    "endless header": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n",
    "half a status": b"HTTP/1.1 20",
    "body too short": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    "no body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "chunk of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "not what it says": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_whole_answer_is_none(data: bytes) -> None:
    with serving(sends(data, keep=False)) as server:
        failure(server.url)
        assert server.connections == 1, "the engine decides about another try"


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"], ids=["at once", "in mid-answer"]
)
def test_a_connection_that_breaks_is_no_answer(data: bytes) -> None:
    with serving(resets(data)) as server:
        failure(server.url)


def test_where_nobody_listens_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "no connection" in failure(f"http://127.0.0.1:{port}").message


def test_a_name_that_nobody_knows_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **named: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "its name has no address, or DNS does not answer" in failure("http://transcripts.example").message


def test_a_black_hole_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "READ_S", 0.2)

    def answer(connection: socket.socket, _: Seen) -> bool:
        server.ended.wait(10)
        return False

    with serving(answer) as server:
        assert "no answer within" in failure(server.url).message


def test_a_full_queue_of_connections_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "CONNECT_S", 0.2)
    monkeypatch.setattr(remote_module, "READ_S", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):  # nobody accepts: after a few, SYNs are not answered any more
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            waiting.append(one)
        failure(f"http://127.0.0.1:{listener.getsockname()[1]}")
        for one in waiting:
            one.close()


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30000\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 ",
    ],
    ids=["length", "chunk", "until the end", "header", "status"],
)
def test_a_server_that_drips_is_given_up(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte begins the socket's timeout anew; only a limit on the whole answer ends this."""
    monkeypatch.setattr(remote_module, "REPLY_S", 0.3)
    given_up = threading.Event()

    def answer(connection: socket.socket, _: Seen) -> bool:
        connection.sendall(start)
        for _number in range(500):
            connection.sendall(b"2")
            if given_up.wait(0.01):
                break
        return False

    with serving(answer) as server:
        error = failure(server.url)
        given_up.set()
    assert "for one answer" in error.message


def test_a_head_that_breaks_off_has_at_most_a_status() -> None:
    """The status line was whole, so the server did decide; what stood behind it is not made up."""
    with (
        serving(sends(b"HTTP/1.1 200 OK\r\nX-Last-Uuid: u1\r\nContent-Le", keep=False)) as server,
        remote_to(server.url) as remote,
    ):
        assert remote.send(GET) == (200, {"x-last-uuid": "u1"}, b"")


# --- proxies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_the_environments_proxy_is_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sends(plain())) as proxy:
        monkeypatch.setenv(name, f"http://ada:pass@127.0.0.1:{proxy.port}")
        with remote_to("http://transcripts.example:81/base") as remote:
            assert remote.send(GET).status == 200
    seen = proxy.one()
    assert seen.target == "http://transcripts.example:81/base/v1/x"
    assert seen.headers["proxy-authorization"].startswith("Basic ")
    assert seen.headers["authorization"] == f"Bearer {TOKEN}"


def test_a_host_that_is_excepted_from_the_proxy_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sends(plain())) as proxy, serving(sends(plain())) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with remote_to(server.url) as remote:
            remote.send(GET)
    assert (proxy.connections, server.connections) == (0, 1)


def test_a_proxy_that_refuses_a_tunnel_never_sees_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sends(plain("403 Forbidden"), keep=False)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        failure("https://transcripts.example")
    assert proxy.one().method == "CONNECT"
    assert TOKEN not in str(proxy.one())


def test_a_dead_proxy_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://ada:pass@127.0.0.1:{port}")
    error = failure("http://transcripts.example")
    assert "pass" not in error.message
    assert "proxy" in error.message


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, made = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = [require_tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(
        [*command, "-nodes", *subject, "-keyout", str(key), "-out", str(made)], check=True, capture_output=True
    )
    return key, made


@contextmanager
def tls_server(certificate: tuple[Path, Path]) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    with serving(sends(plain()), tls=context) as server:
        yield server


def test_a_certificate_that_nobody_vouches_for_is_refused_before_the_token_is_sent(
    certificate: tuple[Path, Path],
) -> None:
    with tls_server(certificate) as server:
        error = failure(server.url)
    assert "certificate" in error.message
    assert server.seen == []


def test_a_certificate_that_the_environment_vouches_for_is_taken(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[1]))
    with tls_server(certificate) as server, remote_to(server.url) as remote:
        assert [remote.send(GET).status for _ in range(2)] == [200, 200]
    assert server.connections == 1


def test_a_certificate_for_another_name_is_refused(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[1]))
    with tls_server(certificate) as server:
        error = failure(server.url.replace("127.0.0.1", "localhost"))
    assert "certificate" in error.message
    assert server.seen == []


def test_a_bundle_that_is_not_there_is_no_reason_to_trust_everybody(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with tls_server(certificate) as server:
        failure(server.url)
    assert server.seen == []


def test_plain_http_behind_an_https_address_is_no_answer() -> None:
    with serving(sends(plain())) as server:
        failure(server.url.replace("http:", "https:"))
    assert TOKEN not in str(server.seen)


# --- long answers -------------------------------------------------------------------------------------------------


def test_a_long_answer_comes_in_pieces() -> None:
    body = os.urandom(3 << 20)
    pieces: list[bytes] = []
    with serving(sends(plain(body=body))) as server, remote_to(server.url) as remote:
        reply = remote.receive(GET, pieces.append)
    assert (reply.status, reply.body) == (200, b"")
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 1 << 18


def test_an_answer_that_is_no_success_is_read_as_any_other() -> None:
    pieces: list[bytes] = []
    with serving(sends(plain("404 Not Found", b"{}"))) as server, remote_to(server.url) as remote:
        reply = remote.receive(GET, pieces.append)
    assert (reply.status, reply.body, pieces) == (404, b"{}", [])


def test_what_came_of_an_answer_that_breaks_off_was_given() -> None:
    pieces: list[bytes] = []
    broken = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 40
    with serving(sends(broken, keep=False)) as server, remote_to(server.url) as remote, pytest.raises(Unreachable):
        remote.receive(GET, pieces.append)
    assert b"".join(pieces) == b"x" * 40


def test_whoever_takes_may_end_it() -> None:
    def enough(_: bytes) -> None:
        raise DiskError("full")

    with serving(sends(plain(body=b"x" * 100))) as server, remote_to(server.url) as remote, pytest.raises(DiskError):
        remote.receive(GET, enough)


def test_a_long_answer_has_more_time_for_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And any other answer has not: what is sent fast without end would be read without end. Each look at the clock
    takes a third of a second here, and there is one before each read; no system hands out so much in one."""
    monkeypatch.setattr(remote_module, "REPLY_S", 1.0)
    monkeypatch.setattr(remote_module, "SLOWEST_BYTES_S", 200)
    looks = itertools.count()
    monkeypatch.setattr(remote_module, "time", SimpleNamespace(monotonic=lambda: next(looks) / 3))

    def much(connection: socket.socket, _: Seen) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n")
        with contextlib.suppress(OSError):  # who has given up hangs up
            connection.sendall(bytes(8_000_000))
        return False

    pieces: list[bytes] = []
    with serving(much) as server, remote_to(server.url) as remote:
        assert remote.receive(GET, pieces.append).status == 200
        with pytest.raises(Unreachable, match="for one answer"):
            remote.send(Request("GET", "/v1/x", max_reply_bytes=9_000_000))
    assert sum(map(len, pieces)) == 8_000_000
