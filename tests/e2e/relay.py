"""The way to a server, as a thing that can break: bytes pass, vanish, drip, or meet a wall of TLS."""

import contextlib
import socket
import ssl
import threading
import time
from enum import Enum


class Mode(Enum):
    PASS = "pass"
    """Bytes go both ways."""
    HOLE = "hole"
    """Connections are taken, and nothing ever comes back."""
    DRIP = "drip"
    """What the server answers arrives a byte at a time."""


class Relay:
    """Listens on loopback until `close`. `mode` and `tls` hold for connections that are made from then on; a
    connection that vanished stays so."""

    def __init__(self, to_port: int) -> None:
        self.mode = Mode.PASS
        self.tls: ssl.SSLContext | None = None
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def turn_to(self, port: int | None) -> None:
        """Connections that are made from now on lead there."""
        assert port is not None
        self._to_port = port

    def close(self) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, near, self.mode, self.tls)

    def _serve(self, near: socket.socket, mode: Mode, tls: ssl.SSLContext | None) -> None:
        with contextlib.suppress(OSError), near:
            self._open.add(near)
            if mode is Mode.HOLE:
                self._ended.wait()
                return
            with tls.wrap_socket(near, server_side=True) if tls else near as talk:
                self._open.add(talk)
                with socket.create_connection(("127.0.0.1", self._to_port)) as far:
                    self._open.add(far)
                    self._start(self._pipe, talk, far, Mode.PASS)
                    self._pipe(far, talk, mode)

    def _pipe(self, source: socket.socket, sink: socket.socket, mode: Mode) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(1 if mode is Mode.DRIP else 65_536):
                sink.sendall(data)
                if mode is Mode.DRIP:
                    time.sleep(0.02)  # what a slow line is; the tests wait for what comes of it
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sink, socket.SHUT_RDWR)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]  # one of the above
        self._threads.append(thread)
        thread.start()
