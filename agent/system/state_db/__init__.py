"""The agent's memory: what was seen and what the server acknowledged. Never a line of a transcript.

SQLite, WAL, every commit on disk before it counts. The queue is not here: it follows from sizes and cursors. So a
database that is lost costs time (the server is asked for its heads), not data, and one that can't be read is renamed
aside. One thread writes; a command that runs beside the daemon reads.
"""

from agent.system.state_db.database import StateDb, open_state, open_state_readonly
from agent.system.state_db.rows import AuditRow, Changes, KeptRow, TrackRow
from agent.system.state_db.schema import SCHEMA_VERSION

__all__ = [
    "SCHEMA_VERSION",
    "AuditRow",
    "Changes",
    "KeptRow",
    "StateDb",
    "TrackRow",
    "open_state",
    "open_state_readonly",
]
