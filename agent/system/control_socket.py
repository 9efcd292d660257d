"""The control socket: JSON-RPC 2.0, one object a line. A Unix socket in a private folder; on Windows loopback TCP with
a token in an owner-only file, since AF_UNIX is missing there from Python.
"""

import contextlib
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from agent.errors import AgentError, DiskError, MachineError, NotRunning, RemoteProtocolError, UsageError

PROTOCOL = 1
MAX_LINE_BYTES = 1 << 20
"""Of a request; answers may be longer (a status of 100,000 streams)."""

IDLE_S = 30.0
"""A client that says nothing for this long is let go; ours say what they want at once."""

MAX_CLIENTS = 32

RETRY_S = 0.05
"""Pause after a client could not be taken. Without it a system short of descriptors would be asked without end."""

Method = Callable[[Mapping[str, Any]], Any]


class ControlServer:
    """Answers `methods` until `close`. Each method is called from a client's thread with the request's params."""

    def __init__(self, address: Path, methods: Mapping[str, Method], *, tcp: bool = os.name == "nt") -> None:
        self._address = address
        self._methods = methods
        self._token = os.urandom(32).hex() if tcp else None
        self._slots = threading.BoundedSemaphore(MAX_CLIENTS)
        self._closed = threading.Event()
        try:
            self._socket = self._listen_tcp() if tcp else self._listen_unix()
        except OSError as exc:
            raise DiskError(f"control socket {address} can't be made: {exc.strerror or exc}") from exc
        try:
            threading.Thread(target=self._accept, name="control", daemon=True).start()
        except RuntimeError as exc:
            self.close()
            raise MachineError("the system gives no thread to answer commands", hint="ulimit -u") from exc

    def close(self) -> None:
        """Never fails: a socket that stays behind on a disk that takes no changes is a dead one's."""
        self._closed.set()
        # A blocked accept does not notice a close; a shutdown wakes it.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            self._address.unlink(missing_ok=True)

    def _listen_unix(self) -> socket.socket:
        """The daemon's lock is held by now, so a socket that lies here is a dead one's."""
        self._address.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._address))
            self._address.chmod(0o600)
            listener.listen(128)  # a full queue looks to a client as if nobody were there
        except OSError:
            listener.close()
            raise
        return listener

    def _listen_tcp(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        try:
            self._address.unlink(missing_ok=True)
            descriptor = os.open(self._address, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(f"{port} {self._token}\n")
        except OSError:
            listener.close()
            raise
        return listener

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                # Out of descriptors or memory, or a client that went away: the next one may fare better.
                self._closed.wait(RETRY_S)
                continue
            if not self._slots.acquire(blocking=False):
                client.close()
                continue
            try:
                threading.Thread(target=self._serve, args=(client,), name="control client", daemon=True).start()
            except RuntimeError:  # no more threads
                self._slots.release()
                client.close()

    def _serve(self, client: socket.socket) -> None:
        # A client that goes away, drips or talks nonsense costs its own connection and nothing else.
        with self._slots_released(), client, contextlib.suppress(OSError):
            client.settimeout(IDLE_S)
            if self._token is None and not _is_same_user(client):
                return
            with client.makefile("rb") as lines:
                if self._token is not None and not self._greeted(lines.readline(256)):
                    return
                while line := lines.readline(MAX_LINE_BYTES + 1):
                    client.sendall(self._answer(line) + b"\n")
                    if len(line) > MAX_LINE_BYTES:
                        return

    @contextlib.contextmanager
    def _slots_released(self) -> Any:
        try:
            yield
        finally:
            self._slots.release()

    def _greeted(self, line: bytes) -> bool:
        import secrets  # 6 ms, which a client has no use for

        return self._token is not None and secrets.compare_digest(line.strip(), self._token.encode())

    def _answer(self, line: bytes) -> bytes:
        request_id: Any = None
        try:
            if len(line) > MAX_LINE_BYTES:
                raise _Rpc(-32600, f"a request is at most {MAX_LINE_BYTES} bytes")
            request = _parse_request(line)
            request_id = request.get("id")
            method = self._methods.get(request["method"])
            if method is None:
                raise _Rpc(-32601, f"method {request['method']!r} is not one of {', '.join(sorted(self._methods))}")
            return _render_answer(request_id, {"result": method(request.get("params", {}))})
        except _Rpc as exc:
            error: dict[str, Any] = {"code": exc.code, "message": exc.words}
        except AgentError as exc:
            error = {"code": -32000, "message": exc.message, "data": {"code": exc.code, "hint": exc.hint}}
        except Exception as exc:  # noqa: BLE001 - a defect costs one answer; its values may be transcript text
            error = {"code": -32603, "message": f"a defect in transcriptd ({type(exc).__name__})"}
        return _render_answer(request_id, {"error": error})


class _Rpc(Exception):
    """An error object of JSON-RPC."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


def _render_answer(request_id: Any, answer: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, **answer}, separators=(",", ":")).encode()


def _parse_request(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise _Rpc(-32700, "a request is one JSON object a line") from None
    if not isinstance(request, dict) or request.get("jsonrpc") != "2.0" or not isinstance(request.get("method"), str):
        raise _Rpc(-32600, 'a request has "jsonrpc": "2.0", a method and an id')
    if not isinstance(request.get("params", {}), dict):
        raise _Rpc(-32602, "params is an object")
    return request


def _is_same_user(client: socket.socket) -> bool:
    """The folder's mode keeps others out already; the kernel's word on who is there does not depend on it."""
    if sys.platform == "linux":
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[1]) in (0, os.getuid())
    if sys.platform == "darwin":
        # LOCAL_PEERCRED gives struct xucred: version, uid, …
        credentials = client.getsockopt(0, 0x001, 76)
        return int(struct.unpack_from("II", credentials)[1]) in (0, os.getuid())
    return True


class ControlClient:
    """One connection to a running daemon."""

    def __init__(self, address: Path, *, timeout_s: float = 10.0) -> None:
        """Raises NotRunning when nobody answers there."""
        try:
            self._socket = _connect(address, timeout_s)
            self._lines = self._socket.makefile("rb")
        except (OSError, ValueError) as exc:
            raise NotRunning("no transcriptd is running", hint="transcriptd run") from exc

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def call(self, method: str, **params: Any) -> Any:
        """The method's result. Raises NotRunning when the daemon goes away, UsageError with its own words when it
        refuses."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            line = self._lines.readline()
        except OSError as exc:
            raise NotRunning("the running transcriptd does not answer", hint="transcriptd status") from exc
        if not line:
            raise NotRunning("the running transcriptd went away", hint="transcriptd status")
        try:
            answer = json.loads(line)
            if "error" not in answer:
                return answer["result"]
            message, hint = answer["error"]["message"], answer["error"].get("data", {}).get("hint", "")
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as exc:
            raise RemoteProtocolError("the control socket does not speak JSON-RPC") from exc
        raise UsageError(str(message), hint=str(hint))


def _connect(address: Path, timeout_s: float) -> socket.socket:
    if os.name != "nt" and address.is_socket():
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(timeout_s)
        try:
            client.connect(str(address))
        except OSError:
            client.close()
            raise
        return client
    port, token = address.read_text(encoding="ascii").split()
    client = socket.create_connection(("127.0.0.1", int(port)), timeout_s)
    client.sendall(token.encode() + b"\n")
    return client
