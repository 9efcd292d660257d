"""The network: the only door to a server. Requests in, answers out, every foreign error turned into ours.

The adapter of `requests` is used directly. A session would follow redirects (a token must not travel to another
host), read netrc files, keep cookies and look the proxy up again for every request, which is half of its cost.
"""

import contextlib
import http.client
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.utils
import urllib3.exceptions

from agent import __version__
from agent.core.wire import LongBody, RawReply, Request
from agent.errors import Unauthorized, Unreachable

CONNECT_S = 5.0
READ_S = 60.0
"""A receiver answers an append once it is on disk; a minute without a byte is a black hole."""

REPLY_S = 120.0
"""All of an answer, against servers that drip."""

_READ_BYTES = 1 << 16

_REASONS: tuple[tuple[type[BaseException], str], ...] = (
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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._token = token
        self._monotonic = monotonic
        self._shown = urlsplit(self._base).netloc
        self._adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=connections, max_retries=0)
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
        if isinstance(request.body, LongBody):
            prepared.headers["Content-Length"] = str(request.body.size)
            prepared.body = _Pieces(request.body.pieces())  # type: ignore[assignment]  # any iterable is sent; the stubs know bytes
        else:
            body = request.body or b""
            prepared.headers["Content-Length"] = str(len(body))
            prepared.body = body
        return prepared

    def _read(self, response: requests.Response, limit: int) -> bytes:
        parts, size = [], 0
        deadline = self._monotonic() + REPLY_S
        for part in response.raw.stream(_READ_BYTES, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise Unreachable(f"{self._shown} answers with more than {limit} bytes, which is not this protocol")
            if self._monotonic() > deadline:
                raise Unreachable(f"{self._shown} needs more than {REPLY_S:.0f} s for one answer")
        return b"".join(parts)


class _Pieces:
    """An iterable body whose length is told by the header."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


def _verification(url: str) -> bool | str:
    """True, or the bundle of certificates that the environment names."""
    merged = requests.Session().merge_environment_settings(url, {}, None, None, None)
    return merged["verify"] or True


def _reason(exc: BaseException) -> str:
    return next(words for kind, words in _REASONS if isinstance(exc, kind))
