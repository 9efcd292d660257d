"""What the agent knows of sessions, from itself or from its state."""

from collections.abc import Mapping

import msgspec

from agent.cli.config import remembered
from agent.core.session import Facts
from agent.core.status import StreamLine
from agent.errors import NotRunning
from agent.system.control_socket import ControlClient
from agent.system.paths import Paths


def read_sessions(paths: Paths) -> tuple[list[StreamLine], Mapping[str, Facts]]:
    """From the running daemon, else from the state."""
    try:
        with ControlClient(paths.socket) as client:
            answer = client.call("sessions.list")
        facts = {session: Facts(*fields) for session, fields in answer["facts"].items()}
        return msgspec.convert(answer["streams"], list[StreamLine]), facts
    except NotRunning:
        from agent.daemon.report import list_remembered

        with remembered(paths) as store:
            return (list_remembered(store.tracks()), dict(store.sessions())) if store else ([], {})
