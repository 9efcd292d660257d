"""The way to a server: certificates, clocks, proxies, DNS, and connections that sleep made void."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3.util.connection

from agent.core.wire import Request
from agent.errors import Unreachable
from agent.system import remote as remote_module
from agent.system.remote import Remote
from tests.system.certificates import ALWAYS, EXPIRED, NOT_YET, Authority
from tests.system.http_server import Seen, Server, plain, sends, serving
from tests.system.test_remote import (
    GET,
    TOKEN,
    _impatient,  # noqa: F401 - a fixture that holds here too
    _no_proxies,  # noqa: F401 - the same
    failure,
    remote_to,
)

SECRET = "open-sesame"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
    return authority


@pytest.fixture
def _names_lead_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every name were one of this machine: those that are so by themselves are reached without a proxy."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *more, **named: resolve("127.0.0.1", *more, **named))


# --- certificates and clocks -----------------------------------------------------------------------------------

NEVER_THE_TIME = {
    "expired": (EXPIRED, "its certificate is no longer valid on "),
    "not yet valid": (NOT_YET, "its certificate is not yet valid on "),
}


@pytest.mark.parametrize("kind", NEVER_THE_TIME)
def test_a_certificate_out_of_its_time_is_refused_with_a_word_about_the_clock(kind: str, trusted: Authority) -> None:
    times, words = NEVER_THE_TIME[kind]
    with serving(sends(plain()), tls=trusted.issue(times=times).server_context()) as server:
        error = failure(server.url)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert f"{words}{today}, if this machine's clock is right" in error.message
    assert server.seen == []


@pytest.mark.filterwarnings("ignore:System time is way off")  # urllib3's; an agent does not show it
@pytest.mark.parametrize(
    ("ours_s", "words"),
    [
        (75 * 365 * 86_400.0, "but this machine's clock is 27375.0 days ahead of the server's"),
        (-50 * 365 * 86_400.0, "but this machine's clock is 18250.0 days behind the server's"),
        (60.0, ""),
    ],
)
def test_a_clock_that_the_server_contradicted_before_is_named(
    ours_s: float, words: str, trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All went well, with a date in each answer; then the clock was set, and the certificate seems to be over."""
    now_s = time.time()
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now_s))
    context, over = trusted.issue(times=ALWAYS).server_context(), trusted.issue(times=EXPIRED)
    dated = sends(plain("200 OK", b"{}", f"Date: {date}"))
    with serving(dated, tls=context) as server, remote_to(server.url) as remote:
        remote.send(GET)
        context.load_cert_chain(over.chain, over.key)
        remote.close()
        monkeypatch.setattr(time, "time", lambda: now_s + ours_s)
        with pytest.raises(Unreachable) as caught:
            remote.send(GET)
    shown = time.strftime("%Y-%m-%d", time.gmtime(now_s + ours_s))
    assert f"is no longer valid on {shown}" in caught.value.message
    assert caught.value.message.endswith(words or shown)


def test_a_certificate_for_another_name_or_address_says_so(trusted: Authority) -> None:
    with serving(sends(plain()), tls=trusted.issue("DNS:other.example").server_context()) as server:
        assert "its certificate is for another address" in failure(server.url).message
        assert "its certificate is for another name" in failure(server.url.replace("127.0.0.1", "localhost")).message
    assert server.seen == []


def test_an_authority_that_nobody_knows_says_so(authority: Authority) -> None:
    with serving(sends(plain()), tls=authority.issue().server_context()) as server:
        assert "nobody whom this machine trusts vouches for its certificate" in failure(server.url).message
    assert server.seen == []


def test_a_server_that_hangs_in_the_handshake_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "CONNECT_S", 0.2)
    monkeypatch.setattr(remote_module, "READ_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = failure(f"https://127.0.0.1:{listener.getsockname()[1]}")
    assert "can't be reached: no " in error.message


# --- connections that are void -----------------------------------------------------------------------------------


class Waiting:
    """A request in another thread that gets no answer until somebody cuts it off."""

    def __init__(self, remote: Remote, request: Request = GET) -> None:
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._send, args=(remote, request))
        self._thread.start()

    def _send(self, remote: Remote, request: Request) -> None:
        try:
            remote.send(request)
        except BaseException as exc:  # noqa: BLE001 - the test looks at whatever came
            self.error = exc

    def ends_within(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


def hangs(arrived: threading.Event, start: bytes = b"") -> Callable[[socket.socket, Seen], bool]:
    """Takes the first request and is silent; answers those that follow."""

    def answer(connection: socket.socket, seen: Seen) -> bool:
        if seen.connection:
            connection.sendall(plain())
            return True
        connection.sendall(start)
        arrived.set()
        return bool(connection.recv(1))

    return answer


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"], ids=["silent", "midway"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
def test_what_hangs_ends_at_once_when_connections_are_cut(encrypted: bool, start: bytes, trusted: Authority) -> None:
    """A machine that slept has connections that the other side gave up long ago; a minute of silence would follow."""
    arrived = threading.Event()
    tls = trusted.issue().server_context() if encrypted else None
    with serving(hangs(arrived, start), tls=tls) as server, remote_to(server.url) as remote:
        waiting = Waiting(remote)
        assert arrived.wait(10)
        remote.cut()
        assert waiting.ends_within(2)
        assert isinstance(waiting.error, Unreachable)
        assert remote.send(GET).status == 200
    assert server.connections == 2


def test_cutting_never_takes_tls_off_a_connection_that_is_in_use() -> None:
    """`SSLSocket.shutdown` does, before it ends the connection; another thread might be about to send the token."""

    class Wrapped(socket.socket):
        def shutdown(self, how: int) -> None:
            raise AssertionError("the socket's own way was taken")

    ours, theirs = socket.socketpair()
    with Wrapped(fileno=ours.detach()) as wrapped, theirs, remote_to("http://127.0.0.1:1") as remote:
        remote._sockets.add(wrapped, 0)
        remote.cut()
        theirs.settimeout(5)
        assert theirs.recv(1) == b""


def test_what_was_just_connecting_is_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine went to sleep between a connection's first packet and its first request."""
    connect = urllib3.util.connection.create_connection

    def cut_first(*args: Any, **named: Any) -> socket.socket:
        made = connect(*args, **named)
        remote.cut()
        return made

    with serving(hangs(threading.Event())) as server, remote_to(server.url) as remote:
        with monkeypatch.context() as patched:
            patched.setattr(urllib3.util.connection, "create_connection", cut_first)
            waiting = Waiting(remote)
            assert waiting.ends_within(5)
            assert isinstance(waiting.error, Unreachable)
        assert remote.send(GET).status == 200


def test_cutting_idle_connections_makes_the_next_request_open_a_new_one() -> None:
    with serving(sends(plain())) as server, remote_to(server.url) as remote:
        remote.cut()
        for _ in range(2):
            remote.send(GET)
            remote.cut()
    assert server.connections == 2


@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
def test_cutting_while_many_send_leaves_every_thread_with_an_answer_or_an_error(
    encrypted: bool, trusted: Authority
) -> None:
    tls = trusted.issue().server_context() if encrypted else None
    ended: list[str] = []

    def work() -> None:
        for _ in range(50):
            try:
                ended.append(str(remote.send(GET).status))
            except Unreachable as exc:
                ended.append(type(exc).__name__)

    with serving(sends(plain()), tls=tls) as server, remote_to(server.url) as remote:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            remote.cut()
            threads[0].join(0.001)
    assert len(ended) == 200
    assert set(ended) <= {"200", "Unreachable"}


# --- proxies -----------------------------------------------------------------------------------------------------


def proxy_url(proxy: Server) -> str:
    return f"http://ada:{SECRET}@127.0.0.1:{proxy.port}"


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Every message of the block; at its end neither they nor the log may hold the proxy's password."""
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    yield told
    assert SECRET not in "\n".join(told) + caplog.text


def refused(url: str, shown: list[str]) -> str:
    error = failure(url)
    shown += [error.message, error.hint, repr(error)]
    return error.message


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_https_goes_through_a_tunnel(
    name: str, trusted: Authority, monkeypatch: pytest.MonkeyPatch, shown: list[str]
) -> None:
    context = trusted.issue("DNS:transcripts.example").server_context()

    def answer(connection: socket.socket, seen: Seen) -> bool:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as inner:
            inside.append(inner.recv(65_536))
            inner.sendall(plain("200 OK", b"{}", "Connection: close"))
        return False

    inside: list[bytes] = []
    with serving(answer) as proxy:
        monkeypatch.setenv(name, proxy_url(proxy))
        with remote_to("https://transcripts.example") as remote:
            assert remote.send(GET).status == 200
    tunnel = proxy.one()
    assert (tunnel.method, tunnel.target) == ("CONNECT", "transcripts.example:443")
    assert tunnel.headers["proxy-authorization"].startswith("Basic ")
    assert TOKEN not in str(tunnel)
    assert inside[0].startswith(b"GET /v1/x HTTP/1.1\r\n")
    assert f"Bearer {TOKEN}".encode() in inside[0]
    assert b"proxy-authorization" not in inside[0].lower()


@pytest.mark.parametrize(
    ("setting", "host", "direct"),
    [
        ("here.example", "here.example", True),
        (".test,here.example", "here.example", True),
        ("*", "here.example", True),
        ("127.0.0.0/8", "127.0.0.1", True),
        ("other.example", "here.example", False),
        ("", "here.example", False),
    ],
)
@pytest.mark.usefixtures("_names_lead_here")
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_exceptions_from_the_proxy_are_heeded(
    name: str, setting: str, host: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(sends(plain())) as proxy, serving(sends(plain())) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy_url(proxy))
        monkeypatch.setenv(name, setting)
        with remote_to(f"http://{host}:{server.port}") as remote:
            remote.send(GET)
    assert (server.connections, proxy.connections) == ((1, 0) if direct else (0, 1))


@pytest.mark.parametrize("url", ["http://transcripts.example", "https://transcripts.example"])
def test_a_proxy_that_wants_a_password_does_not_make_sessions_refused(
    url: str, monkeypatch: pytest.MonkeyPatch, shown: list[str]
) -> None:
    with serving(sends(plain("407 Proxy Authentication Required"), keep=False)) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy_url(proxy))
        message = refused(url, shown)
    assert "proxy" in message


BAD_PROXIES = {
    "dead": "http://ada:{secret}@127.0.0.1:{port}",
    "unknown": "http://ada:{secret}@no-such-proxy.invalid:3128",
    "socks": "socks5://ada:{secret}@127.0.0.1:{port}",
    "no host": "http://ada:{secret}@",
    "no port": "http://ada:{secret}@127.0.0.1:x",
    "odd kind": "gopher://ada:{secret}@127.0.0.1:{port}",
    "no kind": "ada:{secret}@127.0.0.1:{port}",
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", BAD_PROXIES)
def test_a_proxy_that_is_no_good_is_said_to_be_without_its_password(
    kind: str, scheme: str, monkeypatch: pytest.MonkeyPatch, shown: list[str]
) -> None:
    resolve = socket.getaddrinfo

    def answer(host: str, *args: Any, **named: Any) -> Any:
        if not host.startswith("127."):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("ALL_PROXY", BAD_PROXIES[kind].format(secret=SECRET, port=port))
    assert "proxy" in refused(f"{scheme}://transcripts.example", shown)


@pytest.mark.usefixtures("_names_lead_here")
def test_the_proxy_may_change_with_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS and Windows the system's proxy does; here the environment stands for it."""
    ways = (serving(sends(plain())) for _ in range(3))
    with next(ways) as home, next(ways) as office, next(ways) as server:
        base = f"http://here.example:{server.port}/base"
        change_proxies(base, home, office, monkeypatch)
    assert [one.one().target for one in (home, office)] == [f"{base}/v1/x"] * 2
    assert server.one().target == "/base/v1/x"


def change_proxies(base: str, home: Server, office: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with remote_to(base) as remote:
        for proxy in (home, office, None):
            if proxy is None:
                monkeypatch.delenv("HTTP_PROXY")
            else:
                monkeypatch.setenv("HTTP_PROXY", proxy_url(proxy))
            remote.cut()
            remote.send(GET)


# --- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL])
def test_dns_that_is_dead_is_named_and_tried_again_with_the_next_request(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, dead = socket.getaddrinfo, True

    def answer(host: str, *args: Any, **named: Any) -> Any:
        if dead:
            raise socket.gaierror(number, "as the system says it")
        return resolve("127.0.0.1", *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with serving(sends(plain())) as server, remote_to(f"http://transcripts.example:{server.port}") as remote:
        with pytest.raises(Unreachable, match="its name has no address, or DNS does not answer"):
            remote.send(GET)
        dead = False
        assert remote.send(GET).status == 200


def test_a_bundle_of_certificates_can_be_read_from_the_environment_of_the_system(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURL_CA_BUNDLE", str(authority.bundle))
    with serving(sends(plain()), tls=authority.issue().server_context()) as server, remote_to(server.url) as remote:
        assert remote.send(GET).status == 200
