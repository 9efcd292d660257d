"""The network: the only door to a server. Requests in, answers out, every foreign error turned into ours.

`requests` knows how to reach a server: proxies, bundles of certificates. It is asked once, for a pool of connections,
and the pool carries the requests. A session of its own would follow redirects (a token must not travel to another
host), read netrc files, keep cookies and ask all of that again for every request, which takes 2.7 times as long.

Whom to trust is asked of the operating system (`truststore`): what its owner or their employer added or took away there
holds here too. `requests` by itself would trust a list of its own.
"""

import contextlib
import http.client
import io
import os
import re
import socket
import ssl
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import truststore
import urllib3
import urllib3.connection
import urllib3.exceptions

from agent import __version__
from agent.core.delivery.backoff import parse_http_date
from agent.core.settings import is_loopback
from agent.core.wire import LongBody, RawReply, Request
from agent.errors import Unauthorized, Unreachable


@contextlib.contextmanager
def _without(*modules: str) -> Iterator[None]:
    """Who imports one of them meanwhile finds that it is not installed."""
    absent = dict.fromkeys([one for one in modules if one not in sys.modules])
    sys.modules.update(absent)  # type: ignore[arg-type]  # None is Python's word for that
    try:
        yield
    finally:
        for one in absent:
            del sys.modules[one]


# `requests` guesses encodings with them, where they are. That takes 3 MiB, and we look at no page's text.
with _without("chardet", "charset_normalizer"), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import requests
    import requests.adapters
    import requests.utils

# We say so ourselves, where it matters.
warnings.filterwarnings("ignore", category=urllib3.exceptions.SystemTimeWarning)

CONNECT_S = 5.0
READ_S = 60.0
"""A receiver answers an append once it is on disk; a minute without a byte either way is a black hole."""

REPLY_S = 120.0
"""All of an answer, against servers that drip."""

SLOWEST_BYTES_S = 16 << 10
"""An answer that is long may take longer, as long as it comes at least so fast."""

_PIECE_BYTES = 1 << 18

_WRITE_BYTES = 1 << 16
"""A timeout counts for each piece. A whole batch in one piece would need a fast uplink."""

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""What a header takes. Another token would end in an error of the library, which shows it."""


class _TooSlow(Exception):
    """An answer took longer than `REPLY_S`."""


class _Patient(io.RawIOBase):
    """What a connection gives, as long as its time lasts. The socket's own timeout begins anew with each byte."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.is_long = False
        """Each piece of the body that comes gives it more time."""
        self._deadline = time.monotonic() + REPLY_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        if time.monotonic() > self._deadline:
            raise _TooSlow
        count = self._raw.readinto(buffer)
        if self.is_long:
            self._deadline += (count or 0) / SLOWEST_BYTES_S
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.patient = _Patient(self.fp.detach())
        self.fp = io.BufferedReader(self.patient)


class _Sockets:
    """What is open now. `cuts` counts how often all of it was broken."""

    def __init__(self) -> None:
        self.cuts = 0
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, made: Any, cuts: int) -> None:
        """`cuts` as it was before `made` began to connect: what was cut meanwhile concerns it too."""
        with self._lock:
            self._open.add(made)
            is_void = cuts != self.cuts
        if is_void:
            _break(made)

    def cut(self) -> None:
        with self._lock:
            self.cuts += 1
            found = list(self._open)
        for one in found:
            _break(one)


def _break(one: Any) -> None:
    plain = getattr(one, "socket", one)  # of TLS inside of TLS
    with contextlib.suppress(OSError):  # it has ended by itself
        # Not an SSLSocket's own, which drops TLS first: who sends just then would send in the open.
        socket.socket.shutdown(plain, socket.SHUT_RDWR)


_SYSTEM_VERIFIES = sys.platform in ("darwin", "win32")
"""There the system itself is asked about each certificate; elsewhere OpenSSL reads the system's list."""


def _ask_system_trust() -> ssl.SSLContext:
    """Verifies by what the operating system trusts now."""
    trust = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if _SYSTEM_VERIFIES:
        return trust
    # It would read the whole list again (40 ms) for each connection, one at a time. This makes it read it once.
    return trust.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost").context


class _SendsPatiently:
    """While urllib3 sends, the time for connecting is in force. A server that is busy may take as long as it may for
    its answer."""

    sock: Any
    timeout: Any
    ssl_context: Any = None

    def __init__(self, *args: Any, sockets: "_Sockets", **named: Any) -> None:
        super().__init__(*args, **named)
        self._sockets = sockets

    def connect(self) -> None:
        cuts = self._sockets.cuts
        if _SYSTEM_VERIFIES and isinstance(self.ssl_context, truststore.SSLContext):
            self.ssl_context = _ask_system_trust()  # it would let one handshake at a time happen
        super().connect()  # type: ignore[misc]  # of the connection that this is mixed into
        self.sock.settimeout(READ_S)
        self._sockets.add(self.sock, cuts)

    def request(self, *args: Any, **named: Any) -> None:
        if self.sock is not None:
            self.timeout = READ_S
        super().request(*args, **named)  # type: ignore[misc]  # as above


def _patient(kind: type[Any]) -> type[Any]:
    """The class of connections that a pool uses (plain, TLS, or one of those through a SOCKS proxy), made patient."""
    return type(f"Patient{kind.__name__}", (_SendsPatiently, kind), {"response_class": _Response})


Take = Callable[[bytes], object]

_OK = 200
_UNAUTHORIZED = 401
_PROXY_WANTS_LOGIN = 407

_CLOCKS_APART_S = 3600.0
"""Less than this explains no certificate."""

_CERTIFICATE_WORDS = {
    9: "its certificate is not yet valid on {clock}",
    10: "its certificate is no longer valid on {clock}",
    18: "its certificate is vouched for by nobody but itself",
    19: "nobody whom this machine trusts vouches for its certificate",
    20: "nobody whom this machine trusts vouches for its certificate",
    21: "nobody whom this machine trusts vouches for its certificate",
    62: "its certificate is for another name",
    64: "its certificate is for another address",
}
"""By the X509_V_ERR_ numbers of OpenSSL. Where a clock is wrong, it is mostly this machine's."""

_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (_TooSlow, f"more than {REPLY_S:.0f} s for one answer"),
    (ssl.SSLCertVerificationError, "its certificate can't be verified"),
    (ssl.SSLError, "TLS failed"),
    (urllib3.exceptions.SSLError, "its certificate can't be verified or TLS failed"),
    (urllib3.exceptions.ProxyError, "it is not there, or does not let us through"),
    (requests.exceptions.InvalidSchema, "the proxy is of a kind that is not supported"),
    (urllib3.exceptions.NameResolutionError, "its name has no address, or DNS does not answer"),
    (urllib3.exceptions.NewConnectionError, "no connection"),
    (urllib3.exceptions.ConnectTimeoutError, f"no connection within {CONNECT_S:.0f} s"),
    (urllib3.exceptions.ReadTimeoutError, f"no answer within {READ_S:.0f} s ({CONNECT_S:.0f} s for TLS)"),
    (urllib3.exceptions.DecodeError, "its answer is garbled"),
    (urllib3.exceptions.HTTPError, "the connection broke off"),
    (http.client.HTTPException, "its answer is garbled"),
    (requests.exceptions.RequestException, "the proxy's address is no address"),
    (TimeoutError, "it takes no more of the request"),
    (OSError, "no connection"),
)
"""First match wins. Their own texts are not shown: they hold addresses with queries, and may hold more."""


class Remote:
    """One server, for any number of threads. `token` is asked before each request, so a new one is used at once;
    `renew` is told what the server refused, and gives another token if there is one. `moved` is called whenever a
    piece of a request is on its way."""

    def __init__(
        self,
        base_url: str,
        token: Callable[[], str | None],
        renew: Callable[[str], str | None] = lambda _: None,
        *,
        connections: int = 8,
        moved: Callable[[], object] = lambda: None,
    ) -> None:
        self._moved = moved
        self._base = base_url.rstrip("/")
        self._token = token
        self._renew = renew
        self._shown = urlsplit(self._base).netloc
        self._connections = connections
        self._verify = _verification(self._base)
        self._fixed = {"User-Agent": f"transcriptd/{__version__}", "Accept-Encoding": "identity"}
        self._way: _Way | None = None
        self._timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
        self._pool_lock = threading.Lock()
        self._sockets = _Sockets()
        self._date: tuple[str | None, float] = None, 0.0
        """What the server's clock said last, and when in monotonic time."""

    def send(self, request: Request) -> RawReply:
        """Raises Unreachable when no whole answer comes back, Unauthorized when there is no token to send, and what
        `token` raises."""
        return self._exchange(request, None)

    def receive(self, request: Request, take: Take) -> RawReply:
        """The same for an answer of any length: the body of a 200 goes to `take` piece by piece, and is empty in what
        comes back. Where it breaks off, `take` was given what came. `take` may raise to end it."""
        return self._exchange(request, take)

    def _exchange(self, request: Request, take: Take | None) -> RawReply:
        token = self._fit(self._token())
        self._moved()
        reply = self._send(request, token, take)
        self._moved()
        if reply.status != _UNAUTHORIZED:
            return reply
        fresh = self._renew(token)
        return reply if fresh is None else self._send(request, self._fit(fresh), take)

    def _send(self, request: Request, token: str, take: Take | None) -> RawReply:
        headers = {"Authorization": f"Bearer {token}", **self._fixed, **request.headers}
        body = request.body or b""
        size = body.size if isinstance(body, LongBody) else len(body)
        headers["Content-Length"] = str(size)
        through = ""
        try:
            way = self._find_way()
            through = " through the proxy" if way.proxied else ""
            response = way.pool.urlopen(
                request.method,
                way.prefix + request.path,
                body=body if isinstance(body, bytes) and size <= _WRITE_BYTES else _Pieces(body, self._moved),  # type: ignore[arg-type]
                headers=headers,
                redirect=False,
                retries=False,
                assert_same_host=False,
                preload_content=False,
                timeout=self._timeout,
            )
            with contextlib.closing(response):
                if take is None or response.status != _OK:
                    answer = self._read(response, request.max_reply_bytes)
                else:
                    answer = self._pass_on(response, take)
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
            _TooSlow,
        ) as exc:
            why = (self._base.startswith("https:") and _bundle_trouble(exc)) or _reason(exc, self._clock_words)
            raise Unreachable(f"{self._shown} can't be reached{through}: {why}") from exc
        self._date = response.headers.get("Date"), time.monotonic()
        if response.status == _PROXY_WANTS_LOGIN:
            raise Unreachable(f"{self._shown} can't be reached: the proxy asks for a user and password")
        return RawReply(response.status, {name.lower(): value for name, value in response.headers.items()}, answer)

    def close(self) -> None:
        """Drops pooled connections; those in use end with their request. The next request opens new ones."""
        with self._pool_lock:
            dropped, self._way = self._way, None
        if dropped is not None:
            dropped.pool.close()

    def cut(self) -> None:
        """Breaks every connection, those in use too: their requests end as unreachable now, instead of waiting for an
        answer to a machine that slept, or to an address that is ours no more."""
        self.close()
        self._sockets.cut()

    def _fit(self, token: str | None) -> str:
        hint = f"transcriptd login {self._base}"
        if token is None:
            raise Unauthorized(f"there is no token for {self._shown}", hint=hint)
        if not _TOKEN.fullmatch(token):
            raise Unauthorized(f"the token for {self._shown} holds characters that no header takes", hint=hint)
        return token

    def _find_way(self) -> "_Way":
        with self._pool_lock:
            if self._way is None:
                self._way = self._make_way()
            return self._way

    def _make_way(self) -> "_Way":
        adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=self._connections)
        to_base = requests.Request("GET", self._base).prepare()
        # Asked anew with each pool: on macOS and Windows the proxy changes with the network.
        proxies = _proxies_to(self._base)
        try:
            pool = adapter.get_connection_with_tls_context(to_base, self._verify, proxies=proxies)
        except (TypeError, ValueError, urllib3.exceptions.HTTPError):
            # Whatever falls over the proxy's address. Not `from` it: its text may hold the proxy's password.
            raise requests.exceptions.InvalidProxyURL from None
        assert isinstance(pool, urllib3.HTTPConnectionPool)  # noqa: S101 - both kinds are; the stubs know less
        if self._verify is not True:
            adapter.cert_verify(pool, self._base, self._verify, None)  # type: ignore[no-untyped-call]
        elif isinstance(pool, urllib3.HTTPSConnectionPool):
            pool.cert_reqs = "CERT_REQUIRED"
            pool.conn_kw["ssl_context"] = _ask_system_trust()
        pool.conn_kw["sockets"] = self._sockets
        pool.ConnectionCls = _patient(pool.ConnectionCls)
        names_all = adapter.request_url(to_base, proxies).startswith("http")
        prefix = self._base if names_all else urlsplit(self._base).path
        return _Way(pool, prefix, requests.utils.select_proxy(self._base, proxies) is not None)

    def _clock_words(self) -> str:
        """What this machine's clock says, and how that compares with what the server's said."""
        now_s = time.time()
        today = datetime.fromtimestamp(now_s, UTC).date()
        header, at_s = self._date
        told_s = parse_http_date(header or "")
        if told_s is None:
            return f"{today}, if this machine's clock is right"
        apart_s = now_s - (told_s + time.monotonic() - at_s)
        if abs(apart_s) < _CLOCKS_APART_S:
            return f"{today}"
        way = "ahead of" if apart_s > 0 else "behind"
        return f"{today}, but this machine's clock is {abs(apart_s) / 86_400:.1f} days {way} the server's"

    def _pass_on(self, response: Any, take: Take) -> bytes:
        response._original_response.patient.is_long = True
        while piece := response.read1(_PIECE_BYTES, decode_content=True):  # what came, though more does not
            self._moved()
            take(piece)
        return b""

    def _read(self, response: urllib3.BaseHTTPResponse, limit: int) -> bytes:
        body = response.read(limit + 1, decode_content=True)
        if len(body) > limit:
            raise Unreachable(f"{self._shown} answers with more than {limit} bytes, which is not this protocol")
        return body


def _proxies_to(base_url: str) -> Any:
    parts = urlsplit(base_url)
    if parts.scheme == "http" and is_loopback(parts.hostname or ""):
        return {}  # the token would leave this machine in the open
    return requests.utils.get_environ_proxies(base_url, no_proxy=None)


def find_proxy(base_url: str) -> str:
    """The proxy on the way to a server as `scheme://host:port`, without a user or password; empty without one."""
    found = requests.utils.select_proxy(base_url, _proxies_to(base_url))
    if found is None:
        return ""
    try:
        proxy = urlsplit(found if "://" in found else f"http://{found}")
        port = f":{proxy.port}" if proxy.port else ""
    except ValueError:
        return "an address that is none"
    return f"{proxy.scheme}://{proxy.hostname}{port}" if proxy.hostname else "an address that is none"


class _Way(NamedTuple):
    """`prefix`: what stands in the request line before the path; all of the address where a proxy has to know it."""

    pool: urllib3.HTTPConnectionPool
    prefix: str
    proxied: bool


class _Pieces:
    """A body in pieces that a slow line takes within the timeout of each; its length is told by the header."""

    def __init__(self, body: bytes | LongBody, moved: Callable[[], object]) -> None:
        self._body = body
        self._moved = moved

    def __iter__(self) -> Iterator[memoryview]:
        for piece in self._body.pieces() if isinstance(self._body, LongBody) else (self._body,):
            view = memoryview(piece)
            for at in range(0, len(view), _WRITE_BYTES):
                self._moved()
                yield view[at : at + _WRITE_BYTES]


def _verification(url: str) -> bool | str:
    """The bundle of certificates that the environment names; True without one: those whom the system trusts."""
    merged = requests.Session().merge_environment_settings(url, {}, None, None, None)
    return merged["verify"] or True


_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""In the order in which `requests` looks at them. They take the place of what the system trusts."""


_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
"""Of OpenSSL's codes, those that say that nobody who is trusted vouches for it."""


def _bundle_trouble(exc: BaseException) -> str:
    """What is wrong with the certificates that the environment names, where `exc` may come of that; empty for nothing.
    OpenSSL passes over a file that is not there without a word, and then trusts nobody."""
    if named := next((name for name in _BUNDLES if os.environ.get(name)), ""):
        concerns = isinstance(exc, (OSError, urllib3.exceptions.SSLError))
        return _file_trouble(named, os.environ[named]) if concerns else ""
    inner = exc.args[0] if exc.args else exc
    if _SYSTEM_VERIFIES or getattr(inner, "verify_code", 0) not in _UNKNOWN_ISSUER:
        return ""
    file = os.environ.get("SSL_CERT_FILE", "")
    if file:
        return _file_trouble("SSL_CERT_FILE", file)
    folders = os.environ.get("SSL_CERT_DIR", "")
    if folders and not any(map(os.path.isdir, folders.split(os.pathsep))):
        return f"SSL_CERT_DIR names {folders}, which is not there"
    return ""


def _file_trouble(name: str, path: str) -> str:
    if not os.path.exists(path):
        return f"{name} names {path}, which is not there"
    if os.path.isdir(path):
        return ""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return f"{name} names {path}, which holds no certificates"
    except OSError as exc:
        return f"{name} names {path}, which can't be read ({exc.strerror})"
    return ""


def _reason(exc: BaseException, clock_words: Callable[[], str]) -> str:
    inner = exc.args[0] if isinstance(exc, urllib3.exceptions.SSLError) and exc.args else exc
    exc = inner if isinstance(inner, ssl.SSLError) else exc
    if isinstance(exc, ssl.SSLCertVerificationError) and exc.verify_code in _CERTIFICATE_WORDS:
        words = _CERTIFICATE_WORDS[exc.verify_code]
        return words.format(clock=clock_words()) if "{clock}" in words else words
    return next(words for kind, words in _REASONS if isinstance(exc, kind))
