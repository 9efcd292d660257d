"""What systemd is told: the one door to `$NOTIFY_SOCKET`. Without it nothing is told to anybody.

Sources: sd_notify(3), sd_watchdog_enabled(3).
"""

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

READY, STOPPING, WATCHDOG = "READY=1", "STOPPING=1", "WATCHDOG=1"


class Notifier:
    """`address`: a socket's path, or a name that begins with @ (Linux' abstract ones); empty: nobody listens."""

    def __init__(self, address: str = "") -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def tell(self, *words: str) -> bool:
        """One datagram with an assignment a line. False when nobody took it, which must never stop the agent."""
        if not self._address:
            return False
        text = "\n".join(word.replace("\n", " ") for word in words)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.settimeout(1.0)
                manager.connect(self._address)
                manager.sendall(text.encode(errors="replace"))
        except OSError as exc:
            log.debug("the service manager was not told: %s", exc.strerror or type(exc).__name__)
            return False
        return True


def open_notifier(environment: Mapping[str, str]) -> Notifier:
    address = environment.get("NOTIFY_SOCKET", "")
    return Notifier(address if address[:1] in ("/", "@") and hasattr(socket, "AF_UNIX") else "")


def status_word(text: str) -> str:
    return f"STATUS={text}"


def reloading_words(monotonic_s: float) -> tuple[str, str]:
    """`monotonic_s`: of CLOCK_MONOTONIC, which systemd compares with its own since 253."""
    return "RELOADING=1", f"MONOTONIC_USEC={int(monotonic_s * 1e6)}"


def watchdog_s(environment: Mapping[str, str], pid: int | None = None) -> float | None:
    """In which time systemd wants to hear from this process; None when it does not."""
    meant = environment.get("WATCHDOG_PID", "")
    if meant and meant != str(os.getpid() if pid is None else pid):
        return None
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None
