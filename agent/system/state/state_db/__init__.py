"""The agent's memory: what was seen and what the server acknowledged. Never a line of a transcript.

SQLite, WAL, every commit on disk before it counts. The queue is not here: it follows from sizes and cursors. So a
database that is lost costs time (the server is asked for its heads), not data: one that can't be used is renamed
aside, and where nothing can be written the state lives in memory until it can. One thread writes; a command that runs
beside the daemon reads.

    rows      the values        schema    the tables, and the way from older ones
    tables    rows to SQLite    opening   any file, or none, to a connection
    checking  a look from outside, which changes nothing
    database  what is asked and written, and how it comes back to its file
"""

from agent.system.state.state_db.checking import StateCheck, StateCounts, check_state, count_state
from agent.system.state.state_db.database import StateDb, open_state, open_state_readonly
from agent.system.state.state_db.rows import AuditRow, Changes, TrackRow
from agent.system.state.state_db.schema import SCHEMA_VERSION

__all__ = [
    "SCHEMA_VERSION",
    "AuditRow",
    "Changes",
    "StateCheck",
    "StateCounts",
    "StateDb",
    "TrackRow",
    "check_state",
    "count_state",
    "open_state",
    "open_state_readonly",
]
