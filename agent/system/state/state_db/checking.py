"""A look at the state's file for people who wonder: nothing is written, mended or renamed."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agent.system.state.state_db.opening import check_parts
from agent.system.state.state_db.schema import SCHEMA_VERSION, naming_damage

_MOST_PROBLEMS = 3
_LOCKED_S = 2.0


class StateCheck(NamedTuple):
    """`version`: of its tables, None where there is no file or it can't be read. `problem`: what is wrong, empty when
    nothing is."""

    version: int | None
    problem: str = ""


class StateCounts(NamedTuple):
    """How many of which: states of streams, kinds of the audit log, rows of tables."""

    states: dict[str, int]
    audit: dict[str, int]
    rows: dict[str, int]


def check_state(path: Path) -> StateCheck:
    """What SQLite's quick_check says. Raises nothing."""
    if not os.path.lexists(path):
        return StateCheck(None)
    try:
        with _opened(path) as db, naming_damage():
            version = int(db.execute("pragma user_version").fetchone()[0])
            if version > SCHEMA_VERSION:
                return StateCheck(version, f"it has schema version {version}, known are up to {SCHEMA_VERSION}")
            found = [row[0] for row in db.execute(f"pragma quick_check({_MOST_PROBLEMS})")]
            return StateCheck(version, "" if found == ["ok"] else "quick_check finds damage")
    except sqlite3.Error as exc:
        return StateCheck(None, f"it can't be read ({getattr(exc, 'sqlite_errorname', '') or type(exc).__name__})")


def count_state(path: Path) -> StateCounts:
    """Empty where nothing can be read. Raises nothing."""
    counts = StateCounts({}, {}, {})
    if not os.path.lexists(path):
        return counts
    with contextlib.suppress(sqlite3.Error), _opened(path) as db, naming_damage():
        counts.states.update(db.execute("select state, count(*) from tracks group by state"))
        counts.audit.update(db.execute("select kind, count(*) from audit group by kind"))
        for table in ("tracks", "tombstones", "sessions", "metas", "audit", "settled", "grounds"):
            query = f"select count(*) from {table}"  # noqa: S608 - words of this page only
            counts.rows[table] = db.execute(query).fetchone()[0]
    return counts


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """For reading; without locks where the folder takes none and there is no log beside the file."""
    try:
        db = _connect(path, "mode=ro")
    except sqlite3.OperationalError:
        if _has_log(path):
            raise
        db = _connect(path, "mode=ro&immutable=1")
    with contextlib.closing(db):
        yield db


def _connect(path: Path, options: str) -> sqlite3.Connection:
    check_parts(path)
    db = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, timeout=_LOCKED_S)
    try:
        db.execute("pragma user_version").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _has_log(path: Path) -> bool:
    try:
        return path.with_name(path.name + "-wal").stat().st_size > 0
    except OSError:
        return False
