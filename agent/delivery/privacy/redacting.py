"""The redactor of this machine, and how long one task may take for it."""

import threading
from collections.abc import Callable

from agent.core.redaction.redactor import Redactor, parse_rules
from agent.core.settings import Privacy
from agent.system.paths import Paths
from agent.system.state.redaction_key import read_or_make_key

REDACTION_S = 60.0
"""A gigabyte takes about ten; what takes longer waits until somebody looks at it, and is tried again now and then."""


def open_redactor(privacy: Privacy, paths: Paths, out_of_time: Callable[[], bool] = lambda: False) -> Redactor:
    """Raises SettingsError for a pattern that is none, DiskError for a key that can't be read."""
    key = read_or_make_key(paths.redaction_key, paths.redaction_key_in_state)
    return Redactor(parse_rules(privacy), key, out_of_time)


class Budget:
    """Of the processor's time: waiting for a slow line costs nothing. For any number of threads, each with a task of
    its own. `used_s()`: seconds that the calling thread has used of a processor."""

    def __init__(self, used_s: Callable[[], float], limit_s: float) -> None:
        self._used_s = used_s
        self._limit_s = limit_s
        self._of_thread = threading.local()

    def start(self) -> None:
        self._of_thread.end_s = self._used_s() + self._limit_s

    def is_used_up(self) -> bool:
        """Never, before `start`."""
        end_s = getattr(self._of_thread, "end_s", None)
        return end_s is not None and self._used_s() > end_s
