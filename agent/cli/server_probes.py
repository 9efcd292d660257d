"""The checks of `doctor` that concern servers: the token, where it comes from, and what the server says to it."""

import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

from agent.cli.asking import Offer, ask_server
from agent.cli.scene import Once, Scene
from agent.core.delivery.backoff import parse_http_date
from agent.core.diagnosis import Finding, Level, judge_clock
from agent.core.settings import Destination, TokenIn
from agent.core.wire import NeedsLogin, RawReply, Request, Unavailable
from agent.errors import AgentError, KeyringLocked, TokenNotReadable
from agent.system.tokens import VARIABLE, token_in
from agent.system.tokens.sources import describe_place

_PLACEHOLDER = "transcriptd-doctor-has-no-token"
"""Tells whether a server is there at all; it is a token of nobody."""

SILENT_S = 6.5
"""More than a connection may take (`system.remote`: 5 s), and less than all of the check has (`doctor.REMOTE_S`)."""

TokenOf = Mapping[str, Once[str | None]]
"""Destination → its token; asked once, since a keyring may take seconds."""


def open_token_lookups(scene: Scene) -> TokenOf:
    from agent.system.tokens.sources import open_tokens

    tokens = open_tokens(scene.destinations(), scene.paths.instance, scene.environment)
    return {one.name: Once(partial(tokens.token, one.name)) for one in scene.destinations()}


def check_token(scene: Scene, tokens: TokenOf, one: Destination) -> list[Finding]:
    """Never prompts: a keyring that is locked says so."""
    name, login = f"token {one.name}", f"transcriptd login {one.url}"
    where = _where(scene, one)
    try:
        token = tokens[one.name]()
    except KeyringLocked as exc:
        return [Finding(Level.WARN, name, f"{exc.message}; what is to be sent waits", exc.hint)]
    except TokenNotReadable as exc:
        handed = one.token == TokenIn.CREDENTIAL and scene.is_running()
        return [Finding(Level.WARN if handed else Level.FAIL, name, exc.message, exc.hint or login)]
    except AgentError as exc:
        return [Finding(Level.FAIL, name, exc.message, exc.hint or login)]
    if token is None:
        return [Finding(Level.FAIL, name, f"there is none in {where}", login)]
    if token_in(scene.environment) is not None and one.token != TokenIn.ENVIRONMENT:
        words = f"from {VARIABLE} here; without it {describe_place(one)} is asked, as by an agent run as a service"
        return [Finding(Level.WARN, name, words, f"unset {VARIABLE}, or: {login} --environment")]
    return [Finding(Level.OK, name, f"in {where}")]


def _where(scene: Scene, one: Destination) -> str:
    return f"the variable {VARIABLE}" if token_in(scene.environment) is not None else describe_place(one)


class _Heard(NamedTuple):
    date: str
    at_s: float
    took_s: float


class _Listening:
    """A sender that remembers what the last answer said of time."""

    def __init__(self, send: "_Send") -> None:
        self._send = send
        self.heard: _Heard | None = None

    def send(self, request: Request) -> RawReply:
        began_s = time.monotonic()
        reply = self._send.send(request)
        self.heard = _Heard(reply.headers.get("date", ""), time.time(), time.monotonic() - began_s)
        return reply


class _Send:
    """A connection of its own for one destination, with `token` or with nobody's."""

    def __init__(self, one: Destination, token: str | None) -> None:
        from agent.system.remote import Remote

        self._remote = Remote(one.url, lambda: token or _PLACEHOLDER)

    def send(self, request: Request) -> RawReply:
        return self._remote.send(request)

    def cut(self) -> None:
        self._remote.cut()

    def close(self) -> None:
        self._remote.close()


def check_server(_: Scene, tokens: TokenOf, one: Destination, silent_s: float = SILENT_S) -> list[Finding]:
    """Name, way and TLS in one: an answer has come over all of them, and what failed names itself. `silent_s`: the time
    that one has which takes the connection and says nothing."""
    from agent.system.remote import find_proxy

    try:
        token = tokens[one.name]()
    except AgentError:
        token = None  # the check of the token tells why
    proxy = find_proxy(one.url)
    through = f" through the proxy {proxy}" if proxy else ""
    sending = _Send(one, token)
    listening, is_late = _Listening(sending), threading.Event()

    def give_up() -> None:
        is_late.set()
        sending.cut()

    timer = threading.Timer(silent_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        offer = ask_server(one, listening)
    finally:
        timer.cancel()
        sending.close()
    if is_late.is_set() and isinstance(offer.reply, Unavailable):
        words = f"{urlsplit(one.url).netloc} is there, and gives no answer within {silent_s:.0f} s{through}"
        return [Finding(Level.FAIL, f"server {one.name}", words, f"curl -v {one.url}")]
    return _judge(one, offer, listening.heard, through, has_token=token is not None)


def _judge(one: Destination, offer: Offer, heard: _Heard | None, through: str, *, has_token: bool) -> list[Finding]:
    name, login = f"server {one.name}", f"transcriptd login {one.url}"
    if heard is None:
        why = offer.reply.why if isinstance(offer.reply, Unavailable) else "no answer"
        return [Finding(Level.FAIL, name, f"{why}{through}", f"curl -v {one.url}")]
    found = [Finding(Level.OK, name, f"{one.url} answers in {1000 * heard.took_s:.0f} ms{through}")]
    match offer.reply:
        case NeedsLogin() if has_token:
            found.append(Finding(Level.FAIL, name, "it does not accept the token", login))
        case NeedsLogin():
            found.append(Finding(Level.WARN, name, "whether it takes transcripts is not known without a token", login))
        case Unavailable():
            found[0] = Finding(Level.FAIL, name, f"{offer.reply.why}{through}", f"curl -v {one.url}")
        case _:
            found.append(Finding(Level.OK, name, f"it accepts the token and speaks {_protocol(one, offer)}"))
    told_s = parse_http_date(heard.date) if heard.date else None
    if told_s is not None:
        found.append(judge_clock(f"clock {one.name}", heard.at_s - told_s))
    return found


def _protocol(one: Destination, offer: Offer) -> str:
    if one.protocol == "upload":
        return "upload (whole files)"
    bulk = offer.capabilities is not None and offer.capabilities.bulk is not None
    if not bulk:
        return "ingress (one entry a request)"
    assert offer.capabilities is not None  # noqa: S101 - what bulk says
    names = [word for word in ("generations", "files", "delete") if getattr(offer.capabilities, word)]
    return "bulk" + (f" with {', '.join(names)}" if names else "")
