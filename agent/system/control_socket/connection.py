"""What the server knows of one client: the bytes that came and those that are to go, both bounded. No thread waits
here; the server calls when the system says that something can be read or written."""

import socket
from dataclasses import dataclass, field

from agent.system.control_socket.rpc import MAX_LINE_BYTES, PING, Feed, render_event

CHUNK_BYTES = 64 << 10

ROOMY_BYTES = 64 << 10
"""Who has more than this still to take is told nothing new, and asked for nothing more: it waits in the feed's ring, or
in the client's own buffers."""

_EVENTS_AT_ONCE = 64


@dataclass(slots=True, eq=False)
class Connection:
    """Times are monotonic seconds. `greeted`: it may ask. `busy`: a request of it is being worked on. `ended`: it will
    send nothing more. `closing`: it is let go when it has what stands in `out`. `heard_s`: when it last sent a whole
    line, or got an answer. `moved_s`: when it last took something, or had nothing to take."""

    socket: socket.socket
    greeted: bool
    heard_s: float
    moved_s: float
    inbox: bytearray = field(default_factory=bytearray)
    out: bytearray = field(default_factory=bytearray)
    busy: bool = False
    ended: bool = False
    closing: bool = False
    feed: Feed | None = None
    interest: int = 0
    looked_to: int = 0
    """So far no line ends in the inbox."""

    def wants_to_read(self) -> bool:
        return not (self.ended or self.closing or self.busy or len(self.out) >= ROOMY_BYTES)

    def receive(self) -> None:
        """Raises OSError."""
        data = self.socket.recv(CHUNK_BYTES)
        self.ended = not data
        self.inbox += data

    def next_line(self) -> bytes | None:
        """A whole line without its end; None when there is none yet."""
        end = self.inbox.find(b"\n", self.looked_to)
        if end < 0:
            self.looked_to = len(self.inbox)
            return None
        line = bytes(self.inbox[:end])
        del self.inbox[: end + 1]
        self.looked_to = 0
        return line

    def is_line_too_long(self) -> bool:
        return self.looked_to >= MAX_LINE_BYTES

    def put(self, data: bytes, now_s: float) -> None:
        if not self.out:
            self.moved_s = now_s
        self.out += data

    def send(self, now_s: float) -> None:
        """As much as the system takes. Raises OSError."""
        while self.out:
            with memoryview(self.out) as waiting:
                count = self.socket.send(waiting[: 4 * CHUNK_BYTES])
            del self.out[:count]
            self.moved_s = now_s

    def draw(self, now_s: float) -> None:
        """Takes from its feed what it has room for."""
        while self.feed is not None and not self.closing and len(self.out) < ROOMY_BYTES:
            happenings = self.feed.take(_EVENTS_AT_ONCE)
            if not happenings:
                return
            self.put(b"".join(map(render_event, happenings)), now_s)

    def ping(self, now_s: float) -> None:
        self.put(PING, now_s)

    def is_idle(self) -> bool:
        return not (self.busy or self.out or self.feed)

    def close(self) -> None:
        if self.feed is not None:
            self.feed.close()
            self.feed = None
        self.socket.close()
