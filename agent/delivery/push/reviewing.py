"""Looks again at what left before: may it still be where it is, now that the rules are others?"""

import contextlib
import math

from agent.core.privacy.rules import Grounds
from agent.delivery.base.world import Files
from agent.delivery.privacy.permits import WHOLE, Guard
from agent.delivery.state.tasks import Reviewed, ReviewTask
from agent.errors import DiskError, FileVanished, NotShared


def review(guard: Guard, files: Files, task: ReviewTask) -> Reviewed:
    permit = guard.permit(task.session_id, task.facts, task.provider, task.grounds)
    try:
        for path in task.paths:
            with contextlib.suppress(FileVanished):  # what is known of the session has to do
                if not task.judged or guard.may_concern(task.judged, _changed_at_s(files, path)):
                    permit.review(path, WHOLE, "")
        permit.check()
    except NotShared as exc:
        found = Reviewed(task.number, task.session_id, exc.message, exc.certain, permit.under, stale=exc.stale)
        return found._replace(grounds=Grounds(*exc.grounds))
    except DiskError as exc:
        return Reviewed(task.number, task.session_id, exc.message, certain=False, under=permit.under, unread=True)
    return Reviewed(task.number, task.session_id, "", certain=True, under=permit.under)


def _changed_at_s(files: Files, path: str) -> float:
    found = files.look_at(path)
    return math.inf if found is None else found.mtime_ns / 1e9
