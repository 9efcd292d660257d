"""The network: the only door to a server. Requests in, answers out, every foreign error turned into ours.

The adapter of `requests` is used directly. A session would follow redirects (a token must not travel to another
host), read netrc files, keep cookies and look the proxy up again for every request, which is half of its cost.
"""

import contextlib
import http.client
import io
import re
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

_READ_BYTES = 1 << 16
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


class _WritesPatiently:
    """While urllib3 sends, the timeout for connecting is in force: 5 s for all of a batch. It is that for reading."""

    sock: Any
    timeout: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # of the connection that this is mixed into
        self.sock.settimeout(READ_S)

    def request(self, *args: Any, **named: Any) -> None:
        if self.sock is not None:
            self.timeout = READ_S
        super().request(*args, **named)  # type: ignore[misc]  # as above


class _Connection(_WritesPatiently, urllib3.connection.HTTPConnection):
    response_class = _Response


class _TlsConnection(_WritesPatiently, urllib3.connection.HTTPSConnection):
    response_class = _Response


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(requests.adapters.HTTPAdapter):
    """The adapter of `requests`, with connections of ours."""

    def init_poolmanager(self, *args: Any, **named: Any) -> None:
        super().init_poolmanager(*args, **named)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, *args: Any, **named: Any) -> Any:
        manager = super().proxy_manager_for(*args, **named)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (_TooSlow, f"more than {REPLY_S:.0f} s for one answer"),
    (requests.exceptions.SSLError, "its certificate can't be verified or TLS failed"),
    (urllib3.exceptions.SSLError, "its certificate can't be verified or TLS failed"),
    (requests.exceptions.ProxyError, "the proxy does not let us through"),
    (requests.exceptions.ConnectTimeout, "no connection within 5 s"),
    (requests.exceptions.ReadTimeout, "no answer within 60 s"),
    (urllib3.exceptions.ReadTimeoutError, "no answer within 60 s"),
    (urllib3.exceptions.DecodeError, "its answer is garbled"),
    (urllib3.exceptions.HTTPError, "the connection broke off"),
    (http.client.HTTPException, "its answer is garbled"),
    (requests.exceptions.ConnectionError, "no connection"),
    (requests.exceptions.RequestException, "the connection broke off"),
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
        self._adapter = _Adapter(pool_connections=1, pool_maxsize=connections, max_retries=0)
        self._proxies = requests.utils.get_environ_proxies(self._base, no_proxy=None)
        self._verify = _verification(self._base)
        self._agent = f"transcriptd/{__version__}"

    def send(self, request: Request) -> RawReply:
        """Raises Unreachable when no whole answer comes back, Unauthorized when there is no token to send."""
        prepared = self._prepare(request)
        try:
            response = self._adapter.send(
                prepared,
                stream=True,
                timeout=(CONNECT_S, READ_S),
                verify=self._verify,
                proxies=self._proxies,
            )
            with contextlib.closing(response):
                body = self._read(response, request.max_reply_bytes)
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
            _TooSlow,
        ) as exc:
            raise Unreachable(f"{self._shown} can't be reached: {_reason(exc)}") from exc
        headers = {name.lower(): value for name, value in response.headers.items()}
        return RawReply(response.status_code, headers, body)

    def close(self) -> None:
        """Drops pooled connections; those in use end with their request. The next request opens new ones."""
        self._adapter.close()

    def _prepare(self, request: Request) -> requests.PreparedRequest:
        token = self._token()
        if token is None:
            raise Unauthorized(f"there is no token for {self._shown}", hint="set TRANSCRIPTD_TOKEN")
        if not _TOKEN.fullmatch(token):
            raise Unauthorized(
                f"the token for {self._shown} holds characters that no header takes", hint="set TRANSCRIPTD_TOKEN"
            )
        prepared = requests.PreparedRequest()
        prepared.method = request.method
        prepared.url = self._base + request.path
        prepared.headers = requests.structures.CaseInsensitiveDict(
            {
                "Authorization": f"Bearer {token}",
                "User-Agent": self._agent,
                "Accept-Encoding": "identity",
                **request.headers,
            }
        )
        body = request.body or b""
        if not isinstance(body, LongBody) and len(body) <= _WRITE_BYTES:
            prepared.headers["Content-Length"] = str(len(body))
            prepared.body = body
            return prepared
        pieces = body.pieces() if isinstance(body, LongBody) else iter([body])
        prepared.headers["Content-Length"] = str(body.size if isinstance(body, LongBody) else len(body))
        prepared.body = _Pieces(pieces)  # type: ignore[assignment]  # any iterable is sent; the stubs know bytes
        return prepared

    def _read(self, response: requests.Response, limit: int) -> bytes:
        parts, size = [], 0
        for part in response.raw.stream(_READ_BYTES, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise Unreachable(f"{self._shown} answers with more than {limit} bytes, which is not this protocol")
        return b"".join(parts)


class _Pieces:
    """An iterable body whose length is told by the header, in pieces that a slow line takes within a timeout."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            view = memoryview(piece)
            for at in range(0, len(view), _WRITE_BYTES):
                yield bytes(view[at : at + _WRITE_BYTES])


def _verification(url: str) -> bool | str:
    """True, or the bundle of certificates that the environment names."""
    merged = requests.Session().merge_environment_settings(url, {}, None, None, None)
    return merged["verify"] or True


def _reason(exc: BaseException) -> str:
    return next(words for kind, words in _REASONS if isinstance(exc, kind))
