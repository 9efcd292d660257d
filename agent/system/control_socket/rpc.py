"""JSON-RPC 2.0 as it is spoken here: lines in, lines out. Requests name their params; batches are not taken, since a
client that has several things to ask sends several lines.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from agent.errors import AgentError, UsageError

PROTOCOL = 1
"""Grows when a client of before would misunderstand; new methods and fields leave it alone."""

MAX_LINE_BYTES = 1 << 20
"""Of a request; answers may be longer (a status of 100,000 streams)."""

MAX_ID_CHARS = 256
"""An id comes back with its answer; whoever needs more than a name for it wants to store something here."""

PARSE, INVALID, NO_METHOD, PARAMS, DEFECT, OURS = -32700, -32600, -32601, -32602, -32603, -32000

Method = Callable[[Mapping[str, Any]], Any]

PING = b'{"jsonrpc":"2.0","method":"ping"}\n'
"""Sent to a subscriber to whom there is nothing to tell: so it knows that somebody is there, and we find dead ones."""


class Feed(Protocol):
    """What a subscriber is told. Called by the server's thread but for `listen`."""

    def listen(self, wake: Callable[[], None]) -> None:
        """From now on `wake()` is called, from any thread, when there is something new."""

    def take(self, most: int) -> Sequence[Any]:
        """The next happenings as JSON values, in order; none when nothing is new."""

    def close(self) -> None: ...


class Subscribed(NamedTuple):
    """A method's result that has a sequel: each happening of the feed becomes a notification `event`."""

    result: Any
    feed: Feed


class RpcError(Exception):
    """An error object of JSON-RPC."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


class Call(NamedTuple):
    """`wants_answer` False: a notification, to which nothing is said, whatever comes of it."""

    id: str | int | float | None
    method: str
    params: Mapping[str, Any]
    wants_answer: bool


class Reply(NamedTuple):
    """`line` is empty where nothing is to be said."""

    line: bytes
    feed: Feed | None = None


def answer_line(line: bytes, methods: Mapping[str, Method]) -> Reply:
    """Does what one line asks. Never fails: defects are answers too, and their words stay here, since they may be a
    transcript's."""
    call_id, wants_answer = None, True
    try:
        request = _read_object(line)
        call_id = _read_id(request)
        call = _read_call(request, call_id)
        wants_answer = call.wants_answer
        method = methods.get(call.method)
        if method is None:
            raise RpcError(NO_METHOD, f"method {call.method[:64]!r} is not one of {', '.join(sorted(methods))}")
        return _render_result(call, method(call.params))
    except RpcError as exc:
        error: dict[str, Any] = {"code": exc.code, "message": exc.words}
    except AgentError as exc:
        code = PARAMS if exc.code == UsageError.code else OURS
        error = {"code": code, "message": exc.message, "data": {"code": exc.code, "hint": exc.hint}}
    except Exception as exc:  # noqa: BLE001 - a defect costs one answer; its values may be transcript text
        error = {"code": DEFECT, "message": f"a defect in transcriptd ({type(exc).__name__})"}
    return Reply(_render(call_id, {"error": error}) if wants_answer else b"")


def refuse_long_line() -> bytes:
    return _render(None, {"error": {"code": INVALID, "message": f"a request is at most {MAX_LINE_BYTES} bytes"}})


def refuse(why: str, instead_of: bytes) -> bytes:
    """An error in the place of an answer that was made already; to nobody in particular if there was none."""
    call_id = json.loads(instead_of)["id"] if instead_of else None
    return _render(call_id, {"error": {"code": OURS, "message": why}})


def render_event(happening: Any) -> bytes:
    event = {"jsonrpc": "2.0", "method": "event", "params": happening}
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def check_protocol(theirs: object) -> None:
    """Raises UsageError for a client that speaks another one. None: it does not say, and is believed."""
    if theirs is None:
        return
    if not isinstance(theirs, int) or isinstance(theirs, bool):
        raise UsageError("protocol: a whole number")
    if theirs != PROTOCOL:
        raise UsageError(
            f"this transcriptd speaks protocol {PROTOCOL} on its control socket, the client {theirs}",
            hint="use one version of transcriptd for both",
        )


def _render_result(call: Call, result: Any) -> Reply:
    feed = None
    if isinstance(result, Subscribed):
        result, feed = result
    try:
        return Reply(_render(call.id, {"result": result}) if call.wants_answer else b"", feed)
    except BaseException:
        if feed is not None:
            feed.close()
        raise


def _render(call_id: object, answer: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": call_id, **answer}, separators=(",", ":")).encode() + b"\n"


def _read_object(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise RpcError(PARSE, "a request is one JSON object a line") from None
    if isinstance(request, list):
        raise RpcError(INVALID, "batches are not taken: one request a line")
    if not isinstance(request, dict):
        raise RpcError(INVALID, "a request is an object")
    return request


def _refuse_constant(word: str) -> None:
    raise ValueError(word)  # NaN and its like, which Python reads and JSON does not know


def _read_id(request: dict[str, Any]) -> str | int | float | None:
    found = request.get("id")
    if isinstance(found, str) and len(found) <= MAX_ID_CHARS:
        return found
    if isinstance(found, int) and not isinstance(found, bool) and abs(found) < 1 << 64:
        return found
    if found is None or (isinstance(found, float) and math.isfinite(found)):
        return found
    raise RpcError(INVALID, f"an id is a text of at most {MAX_ID_CHARS} characters, a number of 64 bits or null")


def _read_call(request: dict[str, Any], call_id: str | float | None) -> Call:
    method, params = request.get("method"), request.get("params", {})
    if request.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise RpcError(INVALID, 'a request has "jsonrpc": "2.0", a method and an id')
    if not isinstance(params, dict):
        if "id" not in request:
            return Call(None, "", {}, wants_answer=False)
        raise RpcError(PARAMS, "params is an object")
    return Call(call_id, method, params, wants_answer="id" in request)
