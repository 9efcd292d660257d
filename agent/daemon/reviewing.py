"""Looks again at what left before: may it still be where it is, now that the rules are others?"""

import contextlib

from agent.daemon.permits import WHOLE, Guard
from agent.daemon.tasks import Reviewed, ReviewTask
from agent.errors import DiskError, FileVanished, NotShared


def review(guard: Guard, task: ReviewTask) -> Reviewed:
    permit = guard.permit(task.session_id, task.facts)
    epoch = guard.epoch(guard.rules())
    try:
        for path in task.paths:
            with contextlib.suppress(FileVanished):  # what is known of the session has to do
                permit.review(path, WHOLE, "")
        permit.check()
    except NotShared as exc:
        return Reviewed(task.session_id, exc.message, exc.certain, epoch)
    except DiskError as exc:
        return Reviewed(task.session_id, exc.message, certain=False, epoch=epoch)
    return Reviewed(task.session_id, "", certain=True, epoch=epoch)
