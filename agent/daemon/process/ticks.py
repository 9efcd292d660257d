"""What happens every so often, and the look at the clocks and the network that notices when "every" was broken.

APScheduler computes with the wall clock. That goes wrong in two ways when the clock does: set back by an hour, nothing
runs for an hour; set to 2100, its interval runs through every missed turn since, which takes gigabytes. So the turns
here know no missed ones, and a thread that lives by monotonic time lets all of them run when the clock jumped.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from agent.core.delivery.waking import Reading, decide_wake, describe_wake
from agent.delivery.base.heartbeats import Heartbeats
from agent.system.machine.clock import Clock
from agent.system.machine.network import WayOut

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Coming back within 10 s of a wake-up is promised: half of it to notice, half to act."""


SCHEDULER = "scheduler"

LATE_S = 120.0
"""A turn may come so much later than meant: on a machine that has other things to do, and when the wall clock was set
back and nobody has noticed yet."""


class _Every(BaseTrigger):  # type: ignore[misc]  # the library ships no types
    """The next turn is always `seconds` from now, however many were missed."""

    def __init__(self, seconds: float) -> None:
        self._pause = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        return now + self._pause


class Ticks:
    """`woken(why)` is called when the machine slept, its clock was set, or it goes out another way; from a thread of
    its own. `every` before `start`; `stop` once."""

    def __init__(
        self,
        clock: Clock,
        way_out: Callable[[], WayOut],
        woken: Callable[[str], None],
        beats: Heartbeats | None = None,
    ) -> None:
        self._beats = beats or Heartbeats(clock.monotonic_s)
        self._pause_s = float("inf")
        self._clock = clock
        self._read_way_out = way_out
        self._woken = woken
        self._scheduler = BackgroundScheduler(
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}, timezone=UTC
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticks", daemon=True)
        self._seen = self._read_clocks()
        self._way_out = way_out()

    def every(self, seconds: float, act: Callable[[], None]) -> None:
        def run() -> None:
            self._beats.work(self._pause_s + LATE_S, SCHEDULER)
            act()

        self._pause_s = min(self._pause_s, seconds)
        self._scheduler.add_job(run, _Every(seconds))

    def start(self) -> None:
        self._beats.work(self._pause_s + LATE_S, SCHEDULER)
        self._beats.work(LOOK_S + LATE_S, "ticks")
        self._scheduler.start()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        for who in (SCHEDULER, "ticks"):
            self._beats.leave(who)
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def look(self) -> None:
        """Compares clocks and way out with what they were at the last look."""
        before, self._seen = self._seen, self._read_clocks()
        was, self._way_out = self._way_out, self._read_way_out()
        wake = decide_wake(before, self._seen, LOOK_S)
        if wake is not None:
            self._run_all()
            self._woken(describe_wake(wake))
        elif was != self._way_out:
            self._woken("the way to the network is another one" if any(self._way_out) else "there is no network")

    def _run_all(self) -> None:
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=datetime.now(UTC))

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._beats.work(LOOK_S + LATE_S)
            try:
                self.look()
            except Exception as exc:  # noqa: BLE001 - a defect must not end the only look at the clock
                log.error("a defect in the look at clock and network: %s", type(exc).__name__)  # noqa: TRY400 - as above

    def _read_clocks(self) -> Reading:
        return Reading(self._clock.now_s(), self._clock.monotonic_s())
