"""What the children of the fork server do."""

import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import agent.cli.running
import agent.delivery.state.journal
from agent.cli.main import main as transcriptd
from agent.cli.receiver import receiver as receiver_command
from agent.cli.running import running_daemon, set_up_log
from agent.core.delivery.lifecycle import State
from agent.core.settings import Destination, Push, Settings, Watch
from agent.daemon.process.supervisor import Daemon
from agent.delivery.engine.engine import Engine
from agent.delivery.engine.errands import NO_SUBAGENTS
from agent.delivery.state.tracks import Track
from agent.errors import NotRunning
from agent.system.paths import paths_below
from agent.system.tokens import FixedToken
from tests.faults.crash_points import Point, install
from tests.faults.scribe import Scribe

TOKEN = "tsd_" + "faults" * 6
PATIENCE_S = 30.0
_LOOK_S = 0.002

log = logging.getLogger(__name__)

STOPPED_BY_A_DEFECT = 71
NOT_SETTLED = 72


def live(
    *,
    home: str,
    url: str,
    protocol: str,
    projects: str,
    name: str,
    seed: int,
    point: tuple[str, bool, int] | None,
    rounds: int,
    flush_s: float,
    rewrites: bool,
) -> int:
    """A daemon's life, while its transcripts grow. 0 when it came to its end with nothing left to send."""
    agent.delivery.state.journal.FLUSH_S = flush_s
    settings = Settings(
        (Destination(url, protocol=protocol),), Push(workers=3, coalesce_s=0.005), Watch((projects,), poll_interval_s=1)
    )
    set_up_log("warning")
    scribe = Scribe(Path(projects), name, seed, rewrites=rewrites)
    if point is not None:
        install(Point(*point))
    with running_daemon(settings, paths_below(Path(home)), FixedToken(TOKEN)) as daemon:
        for number in range(rounds):
            scribe.grow(3)
            if number % 2:
                daemon.request_scan()
            _wait_until_quiet(daemon, 0.05)
        if rounds:
            return 0
        daemon.request_push()
        return STOPPED_BY_A_DEFECT if daemon.failed.is_set() else _settle(daemon)


def _settle(daemon: Daemon) -> int:
    """Until everything is sent, with a push now and then, as a person would."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        scans = daemon.full_scans
        daemon.request_push()
        _wait_until(partial(_has_scanned, daemon, scans), PATIENCE_S)
        if _wait_until_quiet(daemon, 0.5):
            return 0
    states = daemon.ask(lambda engine: sorted({(str(one.state), one.reason) for one in engine.tracks.values()}))
    log.error("not settled: %s", states)
    return NOT_SETTLED


def _has_scanned(daemon: Daemon, before: int) -> bool:
    return daemon.full_scans > before


def _wait_until_quiet(daemon: Daemon, most_s: float) -> bool:
    def quiet() -> bool:
        if daemon.failed.is_set():
            os._exit(STOPPED_BY_A_DEFECT)
        return daemon.ask(
            lambda engine: not engine.is_busy() and all(_is_settled(one) for one in engine.tracks.values())
        )

    return _wait_until(quiet, most_s)


def _is_settled(track: Track) -> bool:
    return track.state is State.SYNCED or track.reason == NO_SUBAGENTS


def _wait_until(condition: Callable[[], Any], most_s: float, *, look_s: float = _LOOK_S) -> bool:
    deadline = time.monotonic() + most_s
    never = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        never.wait(look_s)
    return True


def serve(*, data: str, port: int) -> int:
    """`transcriptd receiver serve`; it says on stdout when it is ready."""
    reads, writes = os.pipe()
    os.write(writes, TOKEN.encode() + b"\n")
    os.dup2(reads, 0)
    receiver_command.main(["serve", "--port", str(port), "--data", data, "--token-stdin"], standalone_mode=False)
    return 0


def command(*, home: str, arguments: list[str], file_limit_bytes: int | None = None) -> int:
    """`transcriptd` with these arguments. With a limit no file may become larger: a write that would is cut short, and
    the next one fails."""
    if file_limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit_bytes, file_limit_bytes))
    os.environ.update(TRANSCRIPTD_HOME=home, TRANSCRIPTD_TOKEN=TOKEN)
    agent.cli.running._LOOK_S = 0.01
    sys.argv[1:] = arguments
    transcriptd()
    return 0


def _count_tracks(engine: Engine) -> int:
    return len(engine.tracks)


def watch(*, home: str, projects: str, files: int, told: str, patience_s: float) -> int:
    """A daemon whose server is away, until it knows of so many files. Writes to `told` once it watches, and at the end
    how many it knew, how long after its start, and the most memory it took."""
    settings = Settings((Destination("http://127.0.0.1:9"),), watch=Watch((projects,)))
    set_up_log("warning")
    with running_daemon(settings, paths_below(Path(home)), FixedToken(TOKEN)) as daemon:
        _wait_until(lambda: bool(daemon.full_scans and daemon.surroundings().watching), PATIENCE_S)
        Path(told).write_text("watching\n", encoding="ascii")

        def count() -> int:
            """None as long as the engine has more to do than to answer."""
            try:
                return daemon.ask(_count_tracks)
            except NotRunning:
                return 0

        in_time = _wait_until(lambda: count() >= files, patience_s, look_s=0.1)
        known = count()
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        Path(told).write_text(f"{known} {time.monotonic()} {peak_kib}\n", encoding="ascii")
    return 0 if in_time else NOT_SETTLED
