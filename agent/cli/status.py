"""`transcriptd status`: is it working? Answers also when no daemon runs."""

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from agent.core.status import Status
from agent.errors import AgentError, NotRunning, UsageError
from agent.system.control_socket import ControlClient
from agent.system.paths import Paths, default_paths, find_open_files

if TYPE_CHECKING:
    from agent.core.settings import Settings
    from agent.daemon.status.report import Past
    from agent.system.state.state_db import StateDb

_PAUSED = "paused"
"""`agent.delivery.state.pausing.PAUSED`, without the import."""

NOT_RUNNING = 3
NEEDS_LOGIN = 4


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts; with --watch one a line.")
@click.option("--watch", is_flag=True, help="Stay, and show changes as they happen.")
def status(as_json: bool, watch: bool) -> None:
    """Is it working? What is synced, what waits, and why.

    Exit status 0 when an agent runs, whatever it warns of; 3 when none runs; 4 when a server does not accept the token.
    """
    paths = default_paths(os.environ)
    if watch:
        import gc

        from agent.cli.watching import watch_status

        gc.enable()
        watch_status(lambda: read_status(paths), find_start, as_json=as_json)
        return
    found = read_status(paths)
    if as_json:
        from agent.cli.output import print_json

        print_json(found)
    else:
        from agent.cli.output import print_rows
        from agent.cli.screens import status_rows

        print_rows(status_rows(found, time.time(), start=find_start(found)))
    sys.exit(exit_status(found))


def find_start(found: Status) -> str:
    """What to type so that an agent runs; empty while one does."""
    if found.running:
        return ""
    from agent.cli.starting import LOGIN, next_start

    return next_start(os.environ) if found.destinations else LOGIN


def exit_status(found: Status) -> int:
    """Warnings leave it 0: they tell of single transcripts and of things to come, and delivery goes on."""
    if not found.running:
        return NOT_RUNNING
    return NEEDS_LOGIN if any(one.condition == "needs_login" for one in found.destinations) else 0


def read_status(paths: Paths) -> Status:
    """From the running daemon, else from what the state remembers."""
    found = _read_status(paths)
    return msgspec.structs.replace(found, problems=[*found.problems, *find_open_files(paths)])


def _read_status(paths: Paths) -> Status:
    try:
        with ControlClient(paths.socket) as client:
            return parse_status(client.call("agent.status"))
    except NotRunning:
        found = _read_remembered(paths)
    except UsageError as exc:  # one that is there, and can't say how it is
        found = _read_remembered(paths)
        found = msgspec.structs.replace(found, problems=[(exc.message, "transcriptd doctor"), *found.problems])
    return found


def _read_remembered(paths: Paths) -> Status:
    from agent.cli.config import load_settings, remembered
    from agent.core.privacy.lost_rules import describe_lost
    from agent.daemon.status.report import report_remembered
    from agent.delivery.privacy.kept_sharing import ACCEPT, narrowed
    from agent.delivery.privacy.losses import find_lost
    from agent.system.state.lives import Lives
    from agent.system.tokens import token_in

    settings = load_settings(paths)
    with remembered(paths) as store:
        found = report_remembered(
            settings,
            store.tracks() if store else (),
            stones=store.tombstones() if store else (),
            token_given=token_in(os.environ) is not None,
            past=_read_past(paths, settings, store),
        )
    restarts = Lives(paths.lives).count_unclean(time.time())
    ended = [(words, "transcriptd logs") for words in (describe_end(paths),) if words]
    ended += find_lost(paths, settings.privacy)
    _, lost, left_s = narrowed(paths.known_sharing, settings)
    ended += describe_lost(str(paths.config), lost, left_s, ACCEPT)
    return msgspec.structs.replace(found, restarts=restarts, problems=[*found.problems, *ended])


def describe_end(paths: Paths) -> str:
    """That nobody wished the last run to end; empty while one is on, and when it ended as wished. The next start counts
    it, and there may be none."""
    from agent.system.machine.lock import is_alive, read_holder
    from agent.system.state.lives import Lives

    since_s, holder = Lives(paths.lives).read().since_s, read_holder(paths.lock)
    if not since_s or (holder is not None and is_alive(holder)):
        return ""
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(since_s))
    return f"its last run, begun {began}, ended unexpectedly"


def _read_past(paths: Paths, settings: "Settings", store: "StateDb | None") -> "Past":
    from agent.daemon.status.report import Past
    from agent.delivery.engine.milestones import read_acknowledged_s, read_redactions

    sizes = _kept_sizes(paths)
    if store is None:
        return Past(held=len(sizes), kept_bytes=sum(sizes))
    acknowledged_s = {one.name: read_acknowledged_s(store, one.name) for one in settings.destinations}
    paused, until_s = _read_pause(store, time.time())
    return Past(acknowledged_s, read_redactions(store), paused, until_s, len(sizes), sum(sizes))


def _read_pause(store: "StateDb", now_s: float) -> tuple[str, float | None]:
    """What an agent that starts now would hold to."""
    text = store.settled(_PAUSED)
    if not text:
        return "", None
    from agent.core.delivery.lifecycle import PauseReason
    from agent.delivery.state.pausing import parse_pause  # with what it needs 30 ms, and pauses are rare

    left_s = parse_pause(text, now_s)
    if left_s == 0.0:
        return "", None
    return PauseReason.BY_YOU.value, None if left_s is None else now_s + left_s


def _kept_sizes(paths: Paths) -> Sequence[int]:
    if not paths.kept.is_dir():
        return ()
    from agent.system.files.keeping import KeptFiles

    try:
        return [one.size for one in KeptFiles(paths.kept).list_kept()]
    except AgentError:
        return ()


def parse_status(answer: Any) -> Status:
    return msgspec.convert(answer, Status)
