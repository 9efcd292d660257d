"""How this machine goes out to the world, as far as that can be told without sending anything."""

import socket
from collections.abc import Callable
from typing import NamedTuple

_OUTSIDE = ((socket.AF_INET, ("192.0.2.1", 9)), (socket.AF_INET6, ("2001:db8::1", 9)))
"""Addresses that nobody has (RFC 5737, RFC 3849): what leads there leads everywhere."""


class WayOut(NamedTuple):
    """Our own address towards the world; None where no way leads there."""

    ipv4: str | None
    ipv6: str | None


def read_way_out(make_socket: Callable[[int, int], socket.socket] = socket.socket) -> WayOut:
    """Asks the system which address it would send from. Connecting a datagram socket looks up a route and sends no
    packet. Another network with the same address, as home networks have, looks the same."""
    return WayOut(*(_address(make_socket, family, outside) for family, outside in _OUTSIDE))


def _address(make_socket: Callable[[int, int], socket.socket], family: int, outside: tuple[str, int]) -> str | None:
    try:
        with make_socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect(outside)
            return str(asked.getsockname()[0])
    except OSError:
        # No route, no network, or a system without this family: all of them mean that nothing goes out this way.
        return None
