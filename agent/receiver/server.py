"""The receiver on a socket: one process that says when it is ready and goes when it is told."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from agent.receiver.connections import BoundedConfig, Bounds

if sys.platform != "win32":
    import resource

_KEEP_ALIVE_S = 75
"""Longer than a pusher's pause between two batches of a live session, mostly."""

_GRACE_S = 4
_BACKLOG = 512
_FILES = 288
"""Files that may be open beside connections: newcomers, one database connection a thread with its log, side files."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. OSError as the system says.

    The protocol is named because asyncio sets TCP_NODELAY only on sockets that do: without it every answer waits
    40 ms for a delayed acknowledgement."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def make_room(connections: int) -> int:
    """How many of `connections` this process may have open, beside its files; asks the system for as many as it may."""
    if sys.platform == "win32":
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):  # macOS has a second limit that it does not tell
            wanted = soft
    return max(1, min(connections, wanted - _FILES))


def address_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Ends with the process's own exit status instead of dying by the signal that stopped it."""

    def __init__(
        self, app: ASGIApp, sock: socket.socket, *, on_ready: Callable[[], None], bounds: Bounds | None = None
    ) -> None:
        super().__init__(
            BoundedConfig(
                app,
                bounds or Bounds(),
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._sock = sock
        self._on_ready = on_ready

    def run_until_stopped(self) -> None:
        self.run(sockets=[self._sock])

    def stop(self) -> None:
        """From any thread or signal handler."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        try:
            before = {
                number: signal.signal(number, lambda *_: self.stop()) for number in (signal.SIGTERM, signal.SIGINT)
            }
        except ValueError:  # not the main thread: whoever runs it stops it
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
