"""The network: the only door to a server. Requests in, answers out, every foreign error turned into ours.

`requests` knows how to reach a server: proxies, certificates, TLS. It is asked once, for a pool of connections, and
the pool carries the requests. A session of its own would follow redirects (a token must not travel to another host),
read netrc files, keep cookies and ask all of that again for every request, which takes 2.7 times as long.
"""

import contextlib
import http.client
import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.utils
import urllib3
import urllib3.connection
import urllib3.exceptions

from agent import __version__
from agent.core.wire import LongBody, RawReply, Request
from agent.errors import Unauthorized, Unreachable

CONNECT_S = 5.0
READ_S = 60.0
"""A receiver answers an append once it is on disk; a minute without a byte either way is a black hole."""

REPLY_S = 120.0
"""All of an answer, against servers that drip."""

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
        self._deadline = time.monotonic() + REPLY_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        if time.monotonic() > self._deadline:
            raise _TooSlow
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.fp = io.BufferedReader(_Patient(self.fp.detach()))


class _SendsPatiently:
    """While urllib3 sends, the time for connecting is in force. A server that is busy may take as long as it may for
    its answer."""

    sock: Any
    timeout: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # of the connection that this is mixed into
        self.sock.settimeout(READ_S)

    def request(self, *args: Any, **named: Any) -> None:
        if self.sock is not None:
            self.timeout = READ_S
        super().request(*args, **named)  # type: ignore[misc]  # as above


class _Connection(_SendsPatiently, urllib3.connection.HTTPConnection):
    response_class = _Response


class _TlsConnection(_SendsPatiently, urllib3.connection.HTTPSConnection):
    response_class = _Response


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (_TooSlow, f"more than {REPLY_S:.0f} s for one answer"),
    (urllib3.exceptions.SSLError, "its certificate can't be verified or TLS failed"),
    (urllib3.exceptions.ProxyError, "the proxy does not let us through"),
    (urllib3.exceptions.NewConnectionError, "no connection"),
    (urllib3.exceptions.ConnectTimeoutError, f"no connection within {CONNECT_S:.0f} s"),
    (urllib3.exceptions.ReadTimeoutError, f"no answer within {READ_S:.0f} s"),
    (urllib3.exceptions.DecodeError, "its answer is garbled"),
    (urllib3.exceptions.HTTPError, "the connection broke off"),
    (http.client.HTTPException, "its answer is garbled"),
    (requests.exceptions.RequestException, "the proxy's address is no address"),
    (TimeoutError, "it takes no more of the request"),
    (OSError, "no connection"),
)
"""First match wins. Their own texts are not shown: they hold addresses with queries, and may hold more."""


class Remote:
    """One server, for any number of threads. `token` is asked before each request, so a new one is used at once."""

    def __init__(
        self,
        base_url: str,
        token: Callable[[], str | None],
        *,
        connections: int = 8,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._token = token
        self._shown = urlsplit(self._base).netloc
        self._connections = connections
        self._proxies = requests.utils.get_environ_proxies(self._base, no_proxy=None)
        self._verify = _verification(self._base)
        self._fixed = {"User-Agent": f"transcriptd/{__version__}", "Accept-Encoding": "identity"}
        self._pool: urllib3.HTTPConnectionPool | None = None
        self._timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
        self._pool_lock = threading.Lock()
        # What stands in the request line: all of the address where a proxy has to know it.
        self._prefix = urlsplit(self._base).path

    def send(self, request: Request) -> RawReply:
        """Raises Unreachable when no whole answer comes back, Unauthorized when there is no token to send."""
        headers = {"Authorization": f"Bearer {self._find_token()}", **self._fixed, **request.headers}
        body = request.body or b""
        size = body.size if isinstance(body, LongBody) else len(body)
        headers["Content-Length"] = str(size)
        try:
            response = self._open_pool().urlopen(
                request.method,
                self._prefix + request.path,
                body=body if isinstance(body, bytes) and size <= _WRITE_BYTES else _Pieces(body),  # type: ignore[arg-type]
                headers=headers,
                redirect=False,
                retries=False,
                assert_same_host=False,
                preload_content=False,
                timeout=self._timeout,
            )
            with contextlib.closing(response):
                answer = self._read(response, request.max_reply_bytes)
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
            _TooSlow,
        ) as exc:
            raise Unreachable(f"{self._shown} can't be reached: {_reason(exc)}") from exc
        return RawReply(response.status, {name.lower(): value for name, value in response.headers.items()}, answer)

    def close(self) -> None:
        """Drops pooled connections; those in use end with their request. The next request opens new ones."""
        with self._pool_lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _find_token(self) -> str:
        token = self._token()
        if token is None:
            raise Unauthorized(f"there is no token for {self._shown}", hint="set TRANSCRIPTD_TOKEN")
        if not _TOKEN.fullmatch(token):
            raise Unauthorized(
                f"the token for {self._shown} holds characters that no header takes", hint="set TRANSCRIPTD_TOKEN"
            )
        return token

    def _open_pool(self) -> urllib3.HTTPConnectionPool:
        with self._pool_lock:
            if self._pool is None:
                self._pool = self._make_pool()
            return self._pool

    def _make_pool(self) -> urllib3.HTTPConnectionPool:
        adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=self._connections)
        to_base = requests.Request("GET", self._base).prepare()
        pool = adapter.get_connection_with_tls_context(to_base, self._verify, proxies=self._proxies)
        assert isinstance(pool, urllib3.HTTPConnectionPool)  # noqa: S101 - both kinds are; the stubs know less
        adapter.cert_verify(pool, self._base, self._verify, None)  # type: ignore[no-untyped-call]
        if adapter.request_url(to_base, self._proxies).startswith("http"):
            self._prefix = self._base
        pool.ConnectionCls = _TlsConnection if isinstance(pool, urllib3.HTTPSConnectionPool) else _Connection
        return pool

    def _read(self, response: urllib3.BaseHTTPResponse, limit: int) -> bytes:
        body = response.read(limit + 1, decode_content=True)
        if len(body) > limit:
            raise Unreachable(f"{self._shown} answers with more than {limit} bytes, which is not this protocol")
        return body


class _Pieces:
    """A body in pieces that a slow line takes within the timeout of each; its length is told by the header."""

    def __init__(self, body: bytes | LongBody) -> None:
        self._body = body

    def __iter__(self) -> Iterator[memoryview]:
        for piece in self._body.pieces() if isinstance(self._body, LongBody) else (self._body,):
            view = memoryview(piece)
            for at in range(0, len(view), _WRITE_BYTES):
                yield view[at : at + _WRITE_BYTES]


def _verification(url: str) -> bool | str:
    """True, or the bundle of certificates that the environment names."""
    merged = requests.Session().merge_environment_settings(url, {}, None, None, None)
    return merged["verify"] or True


def _reason(exc: BaseException) -> str:
    return next(words for kind, words in _REASONS if isinstance(exc, kind))
