"""Answers clients of the control socket. One thread does all reading and writing and waits for nobody; each request is
worked on in a thread that ends with its answer, and a client has one request at work at a time. So what clients can
take of us has a bound: connections, a line and an answer for each, and as many threads as there may be connections.
"""

import contextlib
import hmac
import logging
import math
import os
import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.errors import DiskError, MachineError
from agent.system.control_socket.connection import Connection
from agent.system.control_socket.door import is_same_user, listen_tcp, listen_unix
from agent.system.control_socket.rpc import (
    MAX_LINE_BYTES,
    Method,
    Reply,
    answer_line,
    refuse,
    refuse_long_line,
)

log = logging.getLogger(__name__)

_MAX_GREETING_BYTES = 256
_RETRY_S = 0.05
"""Pause after a client could not be taken. Without it a system short of descriptors would be asked without end."""

_CLOSE_S = 2.0

_ROUNDS = 16
"""Pieces that a subscriber with much to catch up on gets before others have their turn."""


class Caps(NamedTuple):
    """What clients may use up. `clients` in all, of which `followers` may be subscribers. A client has `greet_s` to
    show its token, `idle_s` for each whole request, and takes something of what it is told every `stall_s`. A
    subscriber hears something every `beat_s`. `waiting_bytes`: of all answers that nobody takes, before the slowest go.
    """

    clients: int = 64
    followers: int = 32
    greet_s: float = 5.0
    idle_s: float = 30.0
    stall_s: float = 10.0
    beat_s: float = 30.0
    waiting_bytes: int = 256 << 20


CAPS = Caps()


class _Done(NamedTuple):
    connection: Connection
    reply: Reply


class ControlServer:
    """Answers `methods` until `close`. Each method is called from a thread of its own with the request's params."""

    def __init__(
        self,
        address: Path,
        methods: Mapping[str, Method],
        *,
        tcp: bool = os.name == "nt",
        caps: Caps = CAPS,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._methods = methods
        self._caps = caps
        self._now_s = monotonic_s
        self._token = os.urandom(32).hex() if tcp else None
        self._closed = threading.Event()
        self._clients: set[Connection] = set()
        self._done: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        self._waiting: deque[tuple[Connection, bytes]] = deque()
        self._working = 0
        self.dropped = 0
        """Subscribers that did not read and were let go."""
        try:
            self._socket = listen_unix(address) if self._token is None else listen_tcp(address, self._token)
        except OSError as exc:
            raise DiskError(f"control socket {address} can't be made: {exc.strerror or exc}") from exc
        try:
            self._bell, self._ear = socket.socketpair()
            self._selector = selectors.DefaultSelector()
        except OSError as exc:
            self._socket.close()
            raise MachineError("the system gives no more descriptors to answer commands", hint="ulimit -n") from exc
        self._is_rung = False
        for ours in (self._socket, self._bell, self._ear):
            ours.setblocking(False)
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as exc:
            self.close()
            raise MachineError("the system gives no thread to answer commands", hint="ulimit -u") from exc

    def close(self) -> None:
        """Never fails: a socket that stays behind on a disk that takes no changes is a dead one's."""
        self._closed.set()
        self._wake()
        if self._thread.ident is None:
            self._let_all_go()
        else:
            self._thread.join(_CLOSE_S)
        with contextlib.suppress(OSError):
            self._address.unlink(missing_ok=True)

    # --- the one thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._turn()
            except Exception as exc:  # noqa: BLE001 - a defect costs those who are connected, not the next ones
                log.error("a defect in the control socket: %s", type(exc).__name__)  # noqa: TRY400 - clients' words
                self._let_clients_go()
                self._closed.wait(_RETRY_S)
        self._let_all_go()

    def _turn(self) -> None:
        deadline_s = min(map(self._deadline_s, self._clients), default=math.inf)
        wait_s = None if deadline_s == math.inf else max(0.0, deadline_s - self._now_s())
        for key, mask in self._selector.select(wait_s):
            if key.fileobj is self._socket:
                self._accept()
            elif key.fileobj is self._ear:
                with contextlib.suppress(OSError):
                    self._ear.recv(4096)
                self._is_rung = False
            elif key.data in self._clients:
                self._attend(key.data, mask)
        self._take_done()
        for one in list(self._clients):
            self._look_after(one)

    def _wake(self) -> None:
        if self._is_rung:
            return  # whoever hears it looks at everything afterwards
        self._is_rung = True
        # A bell that is full rings already; one that is closed has nobody to wake.
        with contextlib.suppress(OSError):
            self._bell.send(b"\0")

    def _let_clients_go(self) -> None:
        for one in list(self._clients):
            self._let_go(one)

    def _let_all_go(self) -> None:
        self._let_clients_go()
        self._selector.close()
        for ours in (self._socket, self._bell, self._ear):
            ours.close()

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError:
            # Out of descriptors or memory, or a client that went away: the next one may fare better.
            self._closed.wait(_RETRY_S)
            return
        with contextlib.suppress(OSError):
            if self._token is None and not is_same_user(client):
                client.close()
                return
            client.setblocking(False)
            if len(self._clients) >= self._caps.clients and not self._make_room():
                client.close()
                return
            now_s = self._now_s()
            self._clients.add(Connection(client, self._token is None, now_s, now_s))
            return
        client.close()

    def _make_room(self) -> bool:
        """Whoever has been silent longest goes: nobody can keep others out by opening connections."""
        idle = [one for one in self._clients if one.is_idle()]
        if not idle:
            return False
        self._let_go(min(idle, key=lambda one: (one.greeted, one.heard_s)))
        return True

    def _attend(self, one: Connection, mask: int) -> None:
        # A client that goes away costs its own connection and nothing else.
        try:
            if mask & selectors.EVENT_WRITE:
                one.send(self._now_s())
            if mask & selectors.EVENT_READ:
                one.receive()
        except BlockingIOError:
            pass
        except OSError:
            self._let_go(one)

    def _look_after(self, one: Connection) -> None:
        """Everything that can be done for a client now."""
        try:
            one.send(self._now_s())
            self._read_on(one)
            for _ in range(_ROUNDS):
                one.draw(self._now_s())
                if not one.out:
                    break
                one.send(self._now_s())
            else:
                self._wake()  # there is more; others first
        except BlockingIOError:
            pass
        except OSError:
            self._let_go(one)
            return
        is_over = not (one.busy or one.out) and (one.closing or (one.ended and one.feed is None))
        if is_over or self._is_late(one):
            self._let_go(one)
        else:
            self._set_interest(one)

    def _read_on(self, one: Connection) -> None:
        while one in self._clients and not (one.busy or one.closing or one.out):
            line = one.next_line()
            if line is None and not one.is_line_too_long():
                if not one.greeted and len(one.inbox) > _MAX_GREETING_BYTES:
                    one.closing = True
                return
            if not one.greeted:
                one.greeted = line is not None and self._is_token(line)
                one.closing = not one.greeted
            elif line is None or len(line) >= MAX_LINE_BYTES:
                one.put(refuse_long_line(), self._now_s())
                one.closing = True
            else:
                one.heard_s = self._now_s()
                one.busy = True
                self._waiting.append((one, line))
                self._start_work()

    def _is_token(self, line: bytes) -> bool:
        return self._token is not None and hmac.compare_digest(line.strip(), self._token.encode())

    def _set_interest(self, one: Connection) -> None:
        wanted = selectors.EVENT_READ if one.wants_to_read() else 0
        wanted |= selectors.EVENT_WRITE if one.out else 0
        if wanted == one.interest:
            return
        if one.interest == 0:
            self._selector.register(one.socket, wanted, one)
        elif wanted == 0:
            self._selector.unregister(one.socket)
        else:
            self._selector.modify(one.socket, wanted, one)
        one.interest = wanted

    def _let_go(self, one: Connection) -> None:
        self._clients.discard(one)
        if one.interest:
            self._selector.unregister(one.socket)
            one.interest = 0
        one.close()

    # --- time -------------------------------------------------------------------------------------------------

    def _deadline_s(self, one: Connection) -> float:
        """When something is to be done about a client that does nothing."""
        if one.out:
            return one.moved_s + self._caps.stall_s
        if one.busy:
            return math.inf
        if one.feed is not None:
            return one.moved_s + self._caps.beat_s
        return one.heard_s + (self._caps.idle_s if one.greeted else self._caps.greet_s)

    def _is_late(self, one: Connection) -> bool:
        now_s = self._now_s()
        if now_s < self._deadline_s(one) or (one.busy and not one.out):
            return False
        if one.feed is None:
            return True
        if one.out:
            self._note_dropped()
            return True
        one.ping(now_s)
        return False

    def _note_dropped(self) -> None:
        self.dropped += 1
        level = logging.WARNING if self.dropped == 1 else logging.DEBUG
        log.log(level, "a subscriber of the control socket does not read and was let go (%d so far)", self.dropped)

    def _shed(self) -> None:
        """Answers that nobody takes may not add up: those that moved least lately go."""
        while sum(len(one.out) for one in self._clients) > self._caps.waiting_bytes:
            slow = sorted((one for one in self._clients if one.out), key=lambda one: one.moved_s)
            if len(slow) < 2:
                return
            self._let_go(slow[0])

    # --- work -------------------------------------------------------------------------------------------------

    def _start_work(self) -> None:
        while self._waiting and self._working < self._caps.clients:
            one, line = self._waiting.popleft()
            self._working += 1
            try:
                threading.Thread(target=self._work, args=(one, line), name="control request", daemon=True).start()
            except RuntimeError:  # no more threads
                self._done.put(_Done(one, Reply(refuse("the system gives no thread to answer", b""))))
                self._wake()

    def _work(self, one: Connection, line: bytes) -> None:
        self._done.put(_Done(one, answer_line(line, self._methods)))
        self._wake()

    def _take_done(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                one, reply = self._done.get_nowait()
                self._working -= 1
                self._start_work()
                if one in self._clients:
                    self._take_reply(one, reply)
                elif reply.feed is not None:
                    reply.feed.close()

    def _take_reply(self, one: Connection, reply: Reply) -> None:
        now_s, line, feed = self._now_s(), reply.line, reply.feed
        one.busy, one.heard_s = False, now_s
        if feed is not None and (why := self._why_no_more(one)):
            feed.close()
            line = refuse(why, line)
        elif feed is not None:
            one.feed, one.moved_s = feed, now_s
            feed.listen(self._wake)
        if line:
            one.put(line, now_s)
            self._shed()

    def _why_no_more(self, one: Connection) -> str:
        """Why it can't have another subscription; empty when it can."""
        if one.feed is not None:
            return "this connection has a subscription"
        followers = sum(other.feed is not None for other in self._clients)
        return "there are too many subscribers" if followers >= self._caps.followers else ""
