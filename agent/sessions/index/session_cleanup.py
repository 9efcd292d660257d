"""Forgets what the index knows of sessions that are nowhere on this disk any more."""

from typing import Any

from agent.sessions.search.session_rows import SCHEMA, FindSynced, find_forgettable
from agent.system.paths import Paths
from agent.system.state.annotations import Annotations
from agent.system.state.index_db import IndexDb, open_index


def clean_up(paths: Paths, index: IndexDb, find_synced: FindSynced, *, dry_run: bool) -> dict[str, Any]:
    """`forgotten`: sessions that servers have as a whole; `unsent`: those that stay known, because none is known to.
    Raises DiskError."""
    sent, unsent = find_forgettable(index, find_synced)
    if sent and not dry_run:
        ids = [one["session"] for one in sent]
        index.close()
        with open_index(paths.index) as db:
            db.forget(ids)
        Annotations(paths.annotations).forget(set(ids))
    return {"schema": SCHEMA, "forgotten": sent, "unsent": unsent, "dry_run": dry_run}
