"""The control socket: JSON-RPC 2.0, one object a line. A Unix socket in a private folder; on Windows loopback TCP with
a token in an owner-only file, since AF_UNIX is missing there from Python.

`rpc`: the words of the protocol. `server`: one thread that no client can hold up. `connection`: what it knows of one.
`door`: where it listens, and who may come in. `client`: the other end. Commands are clients and need not load
`server`, so it is imported by its own name.
"""

from agent.system.control_socket.client import ControlClient
from agent.system.control_socket.rpc import MAX_LINE_BYTES, PROTOCOL, Feed, Method, Subscribed, check_protocol

__all__ = [
    "MAX_LINE_BYTES",
    "PROTOCOL",
    "ControlClient",
    "Feed",
    "Method",
    "Subscribed",
    "check_protocol",
]
