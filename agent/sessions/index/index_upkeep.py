"""The index for whoever wants to use it: opened under its lock and brought up to date, by this process."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import filelock

from agent.delivery.discovery.scanner import Root
from agent.delivery.inventory.survey import read_followed
from agent.errors import DiskError
from agent.sessions.index.indexing import Indexer, Progress
from agent.system.files.own_files import lock_own
from agent.system.paths import Paths, make_private_folder
from agent.system.state.index_db import IndexDb, open_index, remove_index


@contextlib.contextmanager
def held_index(paths: Paths, *, wait_s: float = 0.0) -> Iterator[IndexDb | None]:
    """For writing; None when somebody else is at it. Raises DiskError."""
    make_private_folder(paths.state)
    try:
        lock = lock_own(paths.index_lock)
        lock.acquire(timeout=wait_s)
    except filelock.Timeout:
        yield None
        return
    except OSError as exc:
        raise DiskError(f"{paths.index_lock} can't be locked: {exc.strerror}") from exc
    try:
        with open_index(paths.index) as db:
            yield db
    finally:
        lock.release()


def bring_up_to_date(
    paths: Paths,
    roots: Sequence[Root],
    *,
    force: Sequence[str] | None = None,
    progress: Progress = lambda _done, _all: None,
    monotonic_s: Callable[[], float] = time.monotonic,
) -> Indexer | None:
    """By a command, where no daemon does it; None when another process is at it, which will do. What could not be read
    is in the result. Raises DiskError."""
    with held_index(paths) as db:
        if db is None:
            return None
        indexer = Indexer(db, roots, followed=partial(read_followed, paths), monotonic_s=monotonic_s)
        indexer.look_at_all(progress, force=force)
        return indexer


def clear_index(paths: Paths) -> bool:
    """Removes it with all that it says of sessions; False when another process is at it."""
    make_private_folder(paths.state)
    try:
        with lock_own(paths.index_lock).acquire(timeout=0):
            remove_index(paths.index)
    except filelock.Timeout:
        return False
    except OSError as exc:
        raise DiskError(f"{paths.index_lock} can't be locked: {exc.strerror}") from exc
    return True
