"""How this machine goes out to the world, as far as that can be told without sending anything."""

import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

_OUTSIDE = ((socket.AF_INET, ("192.0.2.1", 9)), (socket.AF_INET6, ("2001:db8::1", 9)))
"""Addresses that nobody has (RFC 5737, RFC 3849): what leads there leads everywhere."""


_METERED, _GUESSED_METERED = 1, 3
"""Of NMMetered, NetworkManager's D-Bus API; 2 and 4 are not metered, 0 is unknown."""

_ASK_S = 5.0


class WayOut(NamedTuple):
    """Our own address towards the world; None where no way leads there."""

    ipv4: str | None
    ipv6: str | None


def read_way_out(make_socket: Callable[[int, int], socket.socket] = socket.socket) -> WayOut:
    """Asks the system which address it would send from. Connecting a datagram socket looks up a route and sends no
    packet. Another network with the same address, as home networks have, looks the same."""
    return WayOut(*(_address(make_socket, family, outside) for family, outside in _OUTSIDE))


def read_metered(platform: str = sys.platform, bus: str = "SYSTEM") -> bool | None:
    """Whether the network that things go out by is metered, as NetworkManager knows or guesses; None where there is
    nobody to ask: without NetworkManager, and on macOS and Windows."""
    if platform != "linux":
        return None
    from jeepney import DBusAddress, DBusErrorResponse, MessageFlag, MessageType, Properties
    from jeepney.io.blocking import open_dbus_connection

    name = "org.freedesktop.NetworkManager"
    manager = DBusAddress("/org/freedesktop/NetworkManager", name, name)
    try:
        with contextlib.closing(open_dbus_connection(bus)) as connection:
            question = Properties(manager).get("Metered")
            question.header.flags |= MessageFlag.no_auto_start
            reply = connection.send_and_get_reply(question, timeout=_ASK_S)
    except (OSError, KeyError, ValueError, RuntimeError, EOFError, DBusErrorResponse):
        return None
    if reply.header.message_type is MessageType.error:
        return None
    return decide_metered(reply.body)


def decide_metered(body: Any) -> bool | None:
    """Of the answer: a variant, which is a pair of its type and its value."""
    try:
        ((_, value),) = body
    except (TypeError, ValueError):
        return None
    return value in (_METERED, _GUESSED_METERED) if value in range(1, 5) else None


def _address(make_socket: Callable[[int, int], socket.socket], family: int, outside: tuple[str, int]) -> str | None:
    try:
        with make_socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect(outside)
            return str(asked.getsockname()[0])
    except OSError:
        # No route, no network, or a system without this family: all of them mean that nothing goes out this way.
        return None
