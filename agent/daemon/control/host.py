"""One home's agent for as long as its process lives: a daemon, its control socket, and what a service manager hears.

`reload` puts a daemon with new settings into the old one's place, under the same lock and at the same address; who asks
the socket meanwhile waits for the new one.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from agent.core.settings import Settings
from agent.daemon.control.control import checked, control_methods
from agent.daemon.process.supervisor import Daemon
from agent.daemon.status.report import News
from agent.daemon.status.vitals import Vitals
from agent.delivery.base.heartbeats import Stuck
from agent.delivery.privacy.kept_sharing import KeptSharing
from agent.errors import AgentError, EngineStopped, NotRunning
from agent.sessions.live.events import Ring
from agent.system.control_socket import ControlClient, Method
from agent.system.control_socket.server import ControlServer
from agent.system.machine.sd_notify import READY, STOPPING, WATCHDOG, Notifier, reloading_words, status_word
from agent.system.paths import Paths, make_private_folder
from agent.system.state.lives import Lives

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the engine's end is looked for; a wish is heard at once."""

RELOAD = "agent.reload"
"""The method that this room answers; all others are the daemon's."""

RELOAD_S = 45.0
"""Requests in flight have 10 s to end, and a new daemon starts in less than that."""


class Stop(NamedTuple):
    """SIGTERM, or Ctrl-C."""


class Reload(NamedTuple):
    """SIGHUP, or `agent.reload`. `done` gets what came of it: None, or the error that kept the old settings."""

    done: "Future[None] | None" = None


Wishes = queue.SimpleQueue[Stop | Reload]


class Host:
    """`load()` reads and checks the settings; `make(settings, events)` gives a daemon that has not
    begun. `log_sink`, `unit`:
    where the log goes, for those who look for it later. The caller holds the home's lock."""

    def __init__(
        self,
        paths: Paths,
        load: Callable[[], Settings],
        make: Callable[[Settings, Ring | None], Daemon],
        *,
        notifier: Notifier,
        watchdog_s: float | None = None,
        log_sink: str = "",
        unit: str = "",
        monotonic_s: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._paths = paths
        self._lives = Lives(paths.lives)
        self._log_sink, self._unit = log_sink, unit
        self._now_s = now_s
        self._kept = KeptSharing(paths.known_sharing, str(paths.config), monotonic_s)
        self._load = load
        self._make = make
        self._notifier = notifier
        self._monotonic_s = monotonic_s
        self._vitals = Vitals(
            self._find_stuck,
            partial(notifier.tell, WATCHDOG),
            describe=self._describe,
            tell=lambda line: notifier.tell(status_word(line)),
            watchdog_s=watchdog_s,
            monotonic_s=monotonic_s,
        )
        self.wishes: Wishes = queue.SimpleQueue()
        self._daemon: Daemon | None = None
        self._events: Ring | None = None
        """Its listeners stay, whichever daemon tells them."""
        self._methods: Mapping[str, Method] = {}
        self._there = threading.Event()
        """A daemon is at work, and the socket may ask it."""
        self._reload_trouble: tuple[str, str] | None = None

    def run(self) -> None:
        """Until somebody wishes it to stop. Raises SettingsError, DiskError or MachineError when it can't begin, and
        EngineStopped when a defect ended the engine."""
        settings = self._kept.take(self._load())
        self._note_beginning()
        try:
            self._begin(settings)
            make_private_folder(self._paths.socket.parent)
            control = ControlServer(self._paths.socket, self._answers())
            try:
                self._greet()
                self._tell_ready()
                log.info("transcriptd is running")
                self._vitals.start()
                self._obey(settings)
                self._lives.end()
            finally:
                self._notifier.tell(STOPPING, status_word("stopping"))
                self._vitals.stop()
                control.close()
        finally:
            self._end()

    # --- life -------------------------------------------------------------------------------------------------

    def _note_beginning(self) -> None:
        if self._lives.begin(self._now_s(), self._log_sink, self._unit):
            times = self._lives.count_unclean(self._now_s())
            log.warning("the last run ended without being told to; such ends within the last hour: %d", times)

    def _begin(self, settings: Settings) -> None:
        daemon = self._make(settings, self._events)
        self._events = daemon.events
        daemon.find_news = self._find_news
        self._daemon = daemon
        daemon.start()
        self._methods = control_methods(daemon)
        self._there.set()

    def _end(self) -> None:
        self._there.clear()
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            daemon.stop()

    def _greet(self) -> None:
        """Whoever is told that we are ready may use the socket at once, so it has to have answered."""
        with ControlClient(self._paths.socket) as client:
            client.call("agent.hello")

    def _tell_ready(self) -> None:
        self._notifier.tell(READY, WATCHDOG, status_word(self._describe() or "running"))

    def _obey(self, settings: Settings) -> None:
        while True:
            try:
                wish = self.wishes.get(timeout=LOOK_S)
            except queue.Empty:
                if self._daemon is not None and self._daemon.failed.is_set():
                    raise EngineStopped(
                        "the engine stopped because of a defect in transcriptd; its place is in the log",
                        hint="transcriptd logs",
                    ) from None
                if self._kept.is_over():
                    settings = self._reload(Reload(), settings)
                continue
            if isinstance(wish, Stop):
                log.info("stopping")
                return
            settings = self._reload(wish, settings)

    # --- new settings -----------------------------------------------------------------------------------------

    def _reload(self, wish: Reload, before: Settings) -> Settings:
        """The settings that are in force afterwards."""
        self._notifier.tell(*reloading_words(self._monotonic_s()), WATCHDOG, status_word("taking up new settings"))
        trouble: AgentError | None = None
        try:
            settings = self._kept.take(self._load())
            self._reload_trouble = None
            if settings != before:
                self._replace(settings, before)
        except AgentError as exc:
            log.error("the settings are as before: %s", exc.message)  # noqa: TRY400 - its words are enough
            self._reload_trouble = (f"the settings are as before: {exc.message}", exc.hint)
            settings, trouble = before, exc
        else:
            log.info("the settings are taken up")
        finally:
            self._tell_ready()
        if wish.done is not None:
            wish.done.set_result(None) if trouble is None else wish.done.set_exception(trouble)
        return settings

    def _replace(self, settings: Settings, before: Settings) -> None:
        self._end()
        try:
            self._begin(settings)
        except AgentError:
            self._end()
            self._begin(before)
            raise

    # --- what others ask --------------------------------------------------------------------------------------

    def _answers(self) -> Mapping[str, Method]:
        """The methods of whichever daemon is there."""
        answers: dict[str, Method] = {name: partial(self._pass_on, name) for name in self._methods}
        return {**answers, RELOAD: checked(RELOAD, self._wish_reload)}

    def _pass_on(self, name: str, *arguments: Any) -> Any:
        while self._there.wait(RELOAD_S):
            methods = self._methods
            try:
                return methods[name](*arguments)
            except NotRunning:
                if self._there.is_set() and methods is self._methods:
                    raise
                # The daemon that was asked made room for another one just then.
        raise NotRunning("transcriptd is stopping", hint="transcriptd status")

    def _wish_reload(self, _: Mapping[str, Any]) -> Any:
        """Returns when the new settings are in force; raises what keeps the old ones."""
        done: Future[None] = Future()
        self.wishes.put(Reload(done))
        try:
            done.result(RELOAD_S)
        except TimeoutError:
            raise NotRunning("transcriptd takes its time with the new settings", hint="transcriptd status") from None
        return {}

    def _find_stuck(self) -> list[Stuck]:
        daemon = self._daemon
        return [] if daemon is None else daemon.find_stuck()

    def _describe(self) -> str:
        daemon = self._daemon
        return "" if daemon is None else daemon.describe()

    def _find_news(self) -> News:
        problems = [*self._kept.problems(), *([self._reload_trouble] if self._reload_trouble else [])]
        restarts = self._lives.count_unclean(self._now_s())
        if restarts:
            times = "once" if restarts == 1 else f"{restarts} times"
            problems.append((f"transcriptd ended unexpectedly {times} within the last hour", "transcriptd logs"))
        return News(tuple(problems), restarts, len(self._kept.lost))
