"""Where the control socket listens, how one gets there, and who is let in."""

import contextlib
import os
import socket
import stat
import struct
import sys
from pathlib import Path

from agent.errors import NotOurs
from agent.system.files.own_files import make_own, read_own

LOOPBACK = "127.0.0.1"

_ADDRESS_BYTES = 256

_WAITING = 128
"""Connections that nobody has taken yet. A full queue looks to a client as if nobody were there."""


def listen_unix(address: Path) -> socket.socket:
    """The daemon's lock is held by now, so a socket that lies here is a dead one's. Raises OSError."""
    address.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(address))
        address.chmod(0o600)
        listener.listen(_WAITING)
    except OSError:
        listener.close()
        raise
    return listener


def listen_tcp(address: Path, token: str) -> socket.socket:
    """On any port; `address` becomes a file that its owner alone may read: the port and the token. It is there as a
    whole or not at all. Raises OSError."""
    listener = socket.create_server((LOOPBACK, 0), backlog=_WAITING)
    fresh = address.with_name(f"{address.name}.new")
    try:
        with open(make_own(fresh), "w", encoding="ascii") as file:
            file.write(f"{listener.getsockname()[1]} {token}\n")
        os.replace(fresh, address)
    except OSError:
        listener.close()
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    return listener


def connect(address: Path, timeout_s: float) -> tuple[socket.socket, bool]:
    """The way to whoever listens there, and whether it is by TCP, where that may be anybody. Raises OSError or
    ValueError, and NotOurs when somebody else listens: what is asked there may be anybody's business."""
    if _is_socket(address):
        return _connect_unix(address, timeout_s), False
    try:
        data = read_own(address, _ADDRESS_BYTES)
    except NotOurs:
        if _is_socket(address):  # a daemon that begins put it there since the first look
            return _connect_unix(address, timeout_s), False
        raise
    port, token = data.decode("ascii").split()
    client = socket.create_connection((LOOPBACK, int(port)), timeout_s)
    try:
        client.sendall(token.encode() + b"\n")
    except OSError:
        client.close()
        raise
    return client, True


def _is_socket(address: Path) -> bool:
    """Raises OSError where nothing is there: a second look could find what a daemon that begins just made."""
    return os.name != "nt" and stat.S_ISSOCK(os.lstat(address).st_mode)


def _connect_unix(address: Path, timeout_s: float) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout_s)
    try:
        client.connect(str(address))
        uid = peer_uid(client)
    except OSError:
        client.close()
        raise
    if uid is not None and uid not in (0, os.getuid()):
        client.close()
        raise NotOurs(f"user {uid} listens at {address}, not {os.getuid()}", hint="look who put it there")
    return client


def is_same_user(client: socket.socket, platform: str = sys.platform) -> bool:
    """The folder's mode keeps others out already; the kernel's word on who is there does not depend on it."""
    uid = peer_uid(client, platform)
    return uid is None or uid in (0, os.getuid())


def peer_uid(peer: socket.socket, platform: str = sys.platform) -> int | None:
    """Who is at the other end, or listened there when it was connected to; None where the system does not say."""
    if platform == "linux":
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[1])
    if platform == "darwin":
        # LOCAL_PEERCRED gives struct xucred: version, uid, …
        version, uid = struct.unpack_from("II", peer.getsockopt(0, 0x001, 76))
        return int(uid) if version == 0 else -1
    return None
