"""Does what the keeper asks: second names for files, and their end."""

import logging

from agent.daemon.tasks import FoundHeld, Held, HeldOutcome, HeldTask, LetGo, LetGoTask, NotHeld
from agent.errors import DiskError
from agent.system.keeping import Differs, KeptFiles

log = logging.getLogger(__name__)


def hold(kept_files: KeptFiles, task: HeldTask) -> HeldOutcome:
    try:
        if isinstance(task, LetGoTask):
            kept_files.let_go(task.name)
            return LetGo(task.stream)
        kept = kept_files.keep(task.path, task.name, copy_limit_bytes=task.copy_limit_bytes)
    except DiskError as exc:
        return NotHeld(task.stream, exc.message)
    if isinstance(kept, Differs):
        return NotHeld(task.stream, "another file has its name now", differs=True)
    return Held(task.stream, kept.path, kept.inode if kept.linked else 0, 0 if kept.linked else kept.size)


def find_held(kept_files: KeptFiles) -> list[FoundHeld]:
    """What an earlier life held; nothing when that can't be seen."""
    try:
        kept_files.drop_unfinished()
        return [FoundHeld(one.name, one.path, one.size, one.mtime_ns, one.inode, 0) for one in kept_files.list_kept()]
    except DiskError as exc:
        log.warning("%s; files held against deletion are left alone", exc.message)
        return []
