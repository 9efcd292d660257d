"""`transcriptd run` and `push`: the daemon, and one pass of it."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from agent.cli.completing import complete_session
from agent.cli.config import environment, load_with_destination
from agent.errors import AgentError, EngineStopped, NotRunning, Paused, UsageError
from agent.system.control_socket import ControlClient
from agent.system.machine.process import setting
from agent.system.paths import Paths, default_paths, make_private_files, make_private_folder, refuse_planted

if TYPE_CHECKING:
    from agent.core.settings import Settings
    from agent.core.status import Status
    from agent.daemon.control.host import Wishes
    from agent.daemon.process.supervisor import Daemon
    from agent.sessions.live.events import Ring
    from agent.system.logs import Sink
    from agent.system.machine.lock import DaemonLock
    from agent.system.tokens import TokenSource

_LOOK_S = 0.1
"""How often a command looks whether a pass is over."""

TRY_AGAIN = 75
"""Exit status (EX_TEMPFAIL) when something still waits for a server that failed."""

INCOMPLETE = 1
"""Exit status when nothing waits, and something is on no server all the same: trying again by itself does not help."""


@contextmanager
def running_daemon(
    settings: "Settings", paths: Paths, tokens: "TokenSource", *, watch: bool = True
) -> Iterator["Daemon"]:
    """A daemon at work under the home's lock, its control socket open; stopped cleanly at the end."""
    from agent.daemon.control.control import control_methods
    from agent.daemon.process.supervisor import Daemon
    from agent.system.control_socket.server import ControlServer
    from agent.system.machine.lock import DaemonLock
    from agent.system.machine.process import kept_private, share_memory

    share_memory()
    with kept_private(), _held_lock(DaemonLock(paths.lock), paths):
        daemon = Daemon(settings, paths, tokens, environment())
        try:
            daemon.start(watch=watch)
            make_private_folder(paths.socket.parent)
            control = ControlServer(paths.socket, control_methods(daemon))
            try:
                yield daemon
            finally:
                control.close()
        finally:
            daemon.stop()


@contextmanager
def _held_lock(lock: "DaemonLock", paths: Paths) -> Iterator[None]:
    make_private_folder(paths.state)
    refuse_planted(paths)
    lock.acquire()
    try:
        make_private_files(paths.state)
        yield
    finally:
        lock.release()


def set_up_log(level: str) -> None:
    from agent.cli import defects

    defects.set_up_log(level, "%(asctime)s %(levelname)s %(message)s", sys.stderr)
    _quieten()


def _quieten() -> None:
    for chatty in ("apscheduler", "jeepney", "keyring", "urllib3", "watchdog"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def set_up_run_log(settings: "Settings", paths: Paths) -> None:
    """Of an agent that runs for long: to where the settings and whoever started it want it."""
    from agent.cli import defects
    from agent.system.logs import LogFile, Priorities, Sink

    timed = defects.Discreet("%(asctime)s %(levelname)s %(message)s")
    handlers: list[logging.Handler] = []
    for sink in _find_sinks(settings):
        handler = LogFile(paths.logs) if sink is Sink.FILE else logging.StreamHandler(sys.stderr)
        handler.setFormatter(Priorities(defects.Discreet("%(message)s")) if sink is Sink.JOURNAL else timed)
        handlers.append(handler)
    defects.set_up_handlers(settings.log.level, handlers or [logging.NullHandler()])
    _quieten()


def _find_sinks(settings: "Settings") -> "tuple[Sink, ...]":
    from agent.system.logs import choose_sinks

    return choose_sinks(settings.log.file, environment(), sys.stderr)


def _tell_file(exc: Exception) -> None:
    """Why the agent ends, where only its log file is left to say so."""
    from agent.cli.defects import render_defect
    from agent.core.settings import Settings

    set_up_run_log(Settings(), default_paths(environment()))
    words = exc.message if isinstance(exc, AgentError) else f"a defect\n{render_defect(exc)}"
    logging.getLogger(__name__).critical("transcriptd ends: %s", words)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, for as long as the block lasts."""
    stop = threading.Event()
    before = {number: signal.signal(number, setting(stop)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_for_defect(daemon: "Daemon") -> None:
    if daemon.failed.is_set():
        raise EngineStopped("the engine stopped because of a defect in transcriptd; its place is in the log")


@click.command()
def run() -> None:
    """Run the agent in the foreground; what a service manager starts. Ends on SIGTERM or Ctrl-C.

    SIGHUP makes it take up new settings.
    """
    from agent.system.logs import Sink, choose_sinks

    try:
        _run_host()
    except Exception as exc:
        if choose_sinks("auto", environment(), sys.stderr) == (Sink.FILE,):
            _tell_file(exc)  # nobody reads what is said on stderr
        raise


def _run_host() -> None:
    from agent.daemon.control.host import Host
    from agent.system.logs import read_unit
    from agent.system.machine.lock import DaemonLock
    from agent.system.machine.priority import lower_priority
    from agent.system.machine.process import kept_private
    from agent.system.machine.sd_notify import open_notifier, watchdog_s
    from agent.system.tokens import VARIABLE

    paths = default_paths(environment())
    given = dict(environment())
    settings = _load_to_run(paths)  # what is wrong in them is told before anything else
    refuse_planted(paths)
    set_up_run_log(settings, paths)
    os.environ.pop(VARIABLE, None)  # whatever this process starts is not to have it
    host = Host(
        paths,
        partial(_load_to_run, paths),
        partial(_make_daemon, paths, given),
        notifier=open_notifier(given),
        watchdog_s=watchdog_s(given),
        log_sink=next(iter(_find_sinks(settings)), ""),
        unit=read_unit(),
    )
    lower_priority()
    with wish_signals(host.wishes), kept_private(), _held_lock(DaemonLock(paths.lock), paths):
        host.run()


def _load_to_run(paths: Paths) -> "Settings":
    """Raises SettingsError, also for what only shows when it is used."""
    from agent.core.redaction.redactor import parse_rules

    settings = load_with_destination(paths)
    parse_rules(settings.privacy)
    return settings


def _make_daemon(paths: Paths, given: Mapping[str, str], settings: "Settings", events: "Ring | None") -> "Daemon":
    from agent.daemon.process.supervisor import Daemon
    from agent.system.tokens.sources import open_tokens

    set_up_run_log(settings, paths)
    tokens = open_tokens(settings.destinations, paths.instance, given)
    return Daemon(settings, paths, tokens, environment(), events=events)


@contextmanager
def wish_signals(wishes: "Wishes") -> Iterator[None]:
    """SIGINT and SIGTERM are the wish to stop, SIGHUP that for new settings, for as long as the block lasts. It also
    comes when a terminal is closed, which is the wish to stop what was started there."""
    from agent.daemon.control.host import Reload, Stop

    meant: dict[int, Stop | Reload] = {signal.SIGINT: Stop(), signal.SIGTERM: Stop()}
    if sys.platform == "win32":
        meant[signal.SIGBREAK] = Stop()
    else:
        meant[signal.SIGHUP] = Reload()
    had_terminal = _has_terminal()

    def wish(number: int, _: Any) -> None:
        closed = had_terminal and not _has_terminal()
        wishes.put(Stop() if closed else meant[number])

    before = {number: signal.signal(number, wish) for number in meant}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_terminal() -> bool:
    """False also once it was closed: then the system knows nothing of it any more."""
    return sys.stderr is not None and os.isatty(2)


@click.command()
@click.argument("session", shell_complete=complete_session, nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only list what would be sent, and what would not, and why.")
@click.option("--show", is_flag=True, help="With --dry-run: every byte that would leave, redacted as it would be.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def push(session: tuple[str, ...], dry_run: bool, show: bool, as_json: bool) -> None:
    """Send what waits, now: one pass, by the running agent or by this command itself.

    SESSION, an id or its beginning, narrows what --dry-run looks at. A pass is always one of all sessions.
    """
    paths = default_paths(environment())
    if dry_run:
        from agent.cli.rehearsing import list_leaving, show_leaving

        if show:
            show_leaving(paths, session)
        else:
            list_leaving(paths, session, as_json)
        return
    if session or show:
        raise UsageError("a pass is one of all sessions; SESSION and --show go with --dry-run")
    try:
        client = ControlClient(paths.socket)
    except NotRunning:
        found, heading = _push_here(paths), "one pass, by this command"
    else:
        with client:
            found, heading = _push_there(client), "one pass, by the running agent"
    _tell(found, heading, as_json)


@click.command()
@click.argument("session", shell_complete=complete_session, nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def retry(session: tuple[str, ...], as_json: bool) -> None:
    """Try again what was refused or waits after failures: all of it, or sessions whose ids begin with SESSION.

    Single entries that a server rejected are sent, too, in a new version of their transcript there.
    """
    from agent.cli.output import plural, print_json

    paths = default_paths(environment())
    try:
        client = ControlClient(paths.socket)
    except NotRunning:
        _tell(_push_here(paths, session, rejected=True), "one pass, by this command", as_json)
        return
    with client:
        _check_known(client, session)
        count = client.call("agent.retry", sessions=list(session))["sessions"]
    if as_json:
        print_json({"schema": 1, "sessions": count})
    else:
        click.echo(f"{plural(count, 'session')} will be tried again" if count else "nothing was given up")


@click.command()
@click.argument("session", shell_complete=complete_session, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def restore(session: tuple[str, ...], as_json: bool) -> None:
    """Send again what somebody deleted on the server: sessions whose ids begin with SESSION."""
    from agent.cli.output import plural, print_json

    paths = default_paths(environment())
    try:
        client = ControlClient(paths.socket)
    except NotRunning:
        _tell(_push_here(paths, restored=session), "one pass, by this command", as_json)
        return
    with client:
        _check_known(client, session)
        count = client.call("agent.restore", sessions=list(session))["sessions"]
    if as_json:
        print_json({"schema": 1, "sessions": count})
    else:
        click.echo(f"{plural(count, 'session')} will be sent again" if count else "no such session was deleted there")


def _check_known(client: ControlClient, beginnings: Sequence[str]) -> None:
    """Raises UsageError for what no session's id begins with: "nothing to do" would be taken for "all is well"."""
    for one in beginnings:
        if not client.call("sessions.resolve", beginning=one, limit=1)["sessions"]:
            raise UsageError(f"no session here begins with {one[:64]!a}", hint="transcriptd sessions list")


def _push_there(client: ControlClient) -> "Status":
    from agent.cli.status import parse_status

    _raise_for_pause(client.call("agent.progress"))
    before = client.call("agent.push")["full_scans"]
    while True:
        seen = client.call("agent.progress")
        _raise_for_pause(seen)
        if seen["full_scans"] > before and not seen["busy"]:
            return parse_status(client.call("agent.status"))
        time.sleep(_LOOK_S)


def _raise_for_pause(seen: Mapping[str, Any]) -> None:
    from agent.cli.pausing import describe_pause, hint_for

    if seen["paused"]:
        raise Paused(describe_pause(seen["paused"], seen["paused_until_s"]), hint=hint_for(seen["paused"]))


def _push_here(
    paths: Paths, again: Sequence[str] = (), *, rejected: bool = False, restored: Sequence[str] = ()
) -> "Status":
    """`again`: the sessions to try although they were given up; all of them by default; with `rejected`, entries that
    servers refused, too. `restored`: to be sent although they were deleted on the server."""
    from agent.daemon.status.report import News, report
    from agent.delivery.privacy.kept_sharing import KeptSharing
    from agent.system.tokens.sources import open_tokens

    set_up_log("error")
    make_private_folder(paths.state)
    kept = KeptSharing(paths.known_sharing, str(paths.config))
    settings = kept.take(load_with_destination(paths))
    tokens = open_tokens(settings.destinations, paths.instance, environment())
    with stop_signals() as stop, running_daemon(settings, paths, tokens, watch=False) as daemon:
        daemon.find_news = lambda: News(tuple(kept.problems()), lost=len(kept.lost))
        why, until_s = daemon.find_pause()
        _raise_for_pause({"paused": why, "paused_until_s": until_s})
        if restored:
            daemon.request_restore(restored)
        else:
            daemon.request_retry(again, rejected=rejected)
        while not stop.is_set() and (not daemon.full_scans or daemon.ask(lambda engine: engine.is_busy())):
            _raise_for_defect(daemon)
            stop.wait(_LOOK_S)
        around = daemon.surroundings()
        return daemon.ask(lambda engine: report(engine, around))


def _tell(found: "Status", heading: str, as_json: bool) -> None:
    from agent.cli.output import print_json, print_rows
    from agent.cli.screens import status_rows
    from agent.core.status import Open

    if as_json:
        print_json(found)
    else:
        print_rows(status_rows(found, time.time(), heading=heading))
    conditions = {one.condition for one in found.destinations}
    if "needs_login" in conditions:
        sys.exit(4)
    if "waiting_for_keyring" in conditions:
        sys.exit(77)
    if conditions & {"offline", "misconfigured"}:
        sys.exit(69)
    if not found.synced:
        passing = {Open.UNSENT, Open.COMPARED_AGAIN, Open.UNREAD, Open.TO_DELETE}
        sys.exit(TRY_AGAIN if passing & found.open.keys() else INCOMPLETE)
