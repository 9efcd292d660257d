"""The client's end of the control socket."""

import contextlib
import json
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from agent.errors import AgentError, NotRunning, RemoteProtocolError, UsageError
from agent.system.control_socket.door import connect
from agent.system.control_socket.rpc import NO_METHOD, PROTOCOL

QUIET_S = 75.0
"""A subscriber hears something every 30 s; two and a half of these without a word, and nobody is there."""


class ControlClient:
    """One connection to a running daemon."""

    def __init__(self, address: Path, *, timeout_s: float = 10.0) -> None:
        """Raises NotRunning when nobody answers there."""
        try:
            self._socket, self._may_be_anybody = connect(address, timeout_s)
        except (OSError, ValueError) as exc:
            raise NotRunning("no transcriptd is running") from exc
        self._lines = self._socket.makefile("rb")
        self._early: deque[dict[str, Any]] = deque()
        """Events that came while an answer was waited for."""

    def shut(self) -> None:
        """Ends what another thread waits for; it gets NotRunning."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def hello(self) -> dict[str, Any]:
        """Who is there. Raises UsageError when it speaks another protocol."""
        answer = self.call("agent.hello", protocol=PROTOCOL)
        if not isinstance(answer, dict) or answer.get("protocol") != PROTOCOL:
            theirs = answer.get("protocol") if isinstance(answer, dict) else None
            raise UsageError(
                f"the running transcriptd speaks protocol {theirs} on its control socket, this command {PROTOCOL}",
                hint="restart the running transcriptd",
            )
        return answer

    def call(self, method: str, **params: Any) -> Any:
        """The method's result. Raises NotRunning when the daemon goes away, and what it refuses with, in its words."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as exc:
            raise NotRunning("the running transcriptd does not answer", hint="transcriptd status") from exc
        while "method" in (answer := self._read()):
            self._early.append(answer)
        try:
            if "error" not in answer:
                result = answer["result"]
                self._may_be_anybody = False
                return result
            raise _error_from(answer["error"])
        except (TypeError, KeyError, AttributeError) as exc:
            raise self._not_ours() from exc

    def subscribe(self, *, after_seq: int | None = None, epoch: str = "") -> Iterator[dict[str, Any]]:
        """What happens from now on, as it happens; with `after_seq` first what did since. Ends only by NotRunning,
        when the daemon goes away."""
        return self.follow("events.subscribe", after_seq=after_seq, epoch=epoch or None)[1]

    def follow(self, method: str, **params: Any) -> tuple[Any, Iterator[dict[str, Any]]]:
        """A subscription's answer, and its events without end; params that are None are left out. Raises NotRunning
        when the daemon goes away."""
        answer = self.call(method, **{name: value for name, value in params.items() if value is not None})
        self._socket.settimeout(QUIET_S)
        return answer, self._events()

    def _events(self) -> Iterator[dict[str, Any]]:
        while True:
            line = self._early.popleft() if self._early else self._read()
            if line.get("method") == "event" and isinstance(line.get("params"), dict):
                yield line["params"]

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except OSError as exc:
            raise NotRunning("the running transcriptd does not answer", hint="transcriptd status") from exc
        if not line:
            raise NotRunning("the running transcriptd went away", hint="transcriptd status")
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise self._not_ours() from exc
        if not isinstance(found, dict):
            raise self._not_ours()
        return found

    def _not_ours(self) -> AgentError:
        if self._may_be_anybody:  # the port of a daemon that was killed went to somebody else
            return NotRunning("no transcriptd is running; something else has its old port")
        return RemoteProtocolError("the control socket does not speak JSON-RPC")


def _error_from(error: Any) -> AgentError:
    """What the daemon raised, as far as its code tells."""
    message, data = str(error["message"]), error.get("data", {})
    if error.get("code") == NO_METHOD:
        return UsageError(message, hint="the running transcriptd is another version: restart it")
    kind = _find_kind(str(data.get("code", "")), AgentError) or UsageError
    try:
        return kind(message, hint=str(data.get("hint", "")))
    except TypeError:  # one that takes other words
        return UsageError(message)


def _find_kind(code: str, kind: type[AgentError]) -> type[AgentError] | None:
    if kind.code == code:
        return kind
    return next((found for one in kind.__subclasses__() if (found := _find_kind(code, one))), None)
