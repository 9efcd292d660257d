"""Whether the Secret Service would answer now without a prompt. Asked every few seconds while it would not."""

import contextlib
import os
from enum import StrEnum

_ASK_S = 5.0


class Presence(StrEnum):
    OPEN = "open"
    LOCKED = "locked"
    MISSING = "missing"
    """No bus, no service on it, or no collection that new items go to."""


def read_presence() -> Presence:
    """Reads one property over the session's bus: nothing is unlocked, made or shown. Opens and closes one socket."""
    from jeepney import DBusAddress, DBusErrorResponse, MessageFlag, MessageType, Properties
    from jeepney.io.blocking import open_dbus_connection

    default = DBusAddress(
        "/org/freedesktop/secrets/aliases/default", "org.freedesktop.secrets", "org.freedesktop.Secret.Collection"
    )
    try:
        with contextlib.closing(open_dbus_connection(_bus())) as connection:
            question = Properties(default).get("Locked")
            # Not to be the one who starts the service: before its owner logged in it would come up without a keyring,
            # and stand in the way of the one that the login starts.
            question.header.flags |= MessageFlag.no_auto_start
            reply = connection.send_and_get_reply(question, timeout=_ASK_S)
    except (OSError, KeyError, ValueError, RuntimeError, EOFError, DBusErrorResponse):
        # TimeoutError and ConnectionError are OSErrors; the others are an address that is no address, or none.
        return Presence.MISSING
    if reply.header.message_type is MessageType.error:
        return Presence.MISSING
    ((_, locked),) = reply.body
    return Presence.LOCKED if locked else Presence.OPEN


def _bus() -> str:
    """The session's bus, or its usual place where nothing tells it."""
    bus = os.path.join(os.environ.get("XDG_RUNTIME_DIR", ""), "bus")
    if "DBUS_SESSION_BUS_ADDRESS" not in os.environ and os.path.isabs(bus) and os.path.exists(bus):
        return f"unix:path={bus}"
    return "SESSION"
