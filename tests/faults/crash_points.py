"""Where the daemon is killed: named functions, before or after their n-th call.

A new part of delivery gets its deaths by one row in `POINTS`: a dotted name that can be replaced where it is looked up
(a function that a module imported by name is that module's), and how often it is called in a short life.
"""

import functools
import os
import signal
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

POINTS: tuple[tuple[str, int], ...] = (
    # how it begins
    ("agent.system.machine.lock.DaemonLock.acquire", 1),
    ("agent.daemon.process.supervisor.make_private_folder", 1),
    ("agent.daemon.process.supervisor.open_state", 1),
    ("agent.system.state.state_db.opening._open_whole", 1),
    ("agent.system.state.state_db.opening._check_content", 1),
    ("agent.system.state.state_db.opening._prepare", 1),
    ("agent.system.state.state_db.StateDb.settle", 1),
    ("agent.delivery.engine.engine.Engine.start", 1),
    ("agent.daemon.process.supervisor.Daemon.start", 1),
    ("agent.system.control_socket.server.ControlServer.__init__", 1),
    # what is seen
    ("agent.system.files.watcher.Watcher.ensure", 1),
    ("agent.delivery.discovery.scanner.Scanner.scan", 2),
    ("agent.delivery.discovery.scanner.Scanner.look", 2),
    ("agent.system.files.reading.list_folder", 3),
    ("agent.system.files.reading.look_at", 2),
    # what is decided
    ("agent.delivery.engine.engine.Engine.handle", 8),
    ("agent.delivery.engine.engine.Engine.tick", 8),
    ("agent.delivery.state.gates.Gates.take_probe", 1),
    ("agent.delivery.engine.sightings.Sightings.see", 4),
    ("agent.delivery.state.facts.SessionFacts.learn", 4),
    ("agent.delivery.state.facts.SessionFacts.note_told", 2),
    # what is sent
    ("agent.delivery.push.pusher.Pusher.run", 6),
    ("agent.delivery.push.pusher.append_request", 4),
    ("agent.delivery.push.pusher.put_entry_request", 4),
    ("agent.delivery.push.realigner.Realigner.realign", 2),
    ("agent.delivery.push.realigner.streams_request", 1),
    ("agent.delivery.push.realigner.generation_request", 2),
    ("agent.delivery.push.realigner.decide_generation_reply", 2),
    ("agent.delivery.push.pusher.meta_request", 1),
    ("agent.delivery.push.pusher.decide_append_reply", 4),
    ("agent.delivery.push.pusher.decide_put_reply", 4),
    ("agent.system.files.reading.open_file", 4),
    ("agent.system.files.reading.TranscriptFile.read_at", 6),
    ("agent.system.files.reading.TranscriptFile.pieces", 2),
    ("agent.system.remote.Remote.send", 8),
    ("agent.system.remote.Remote._make_way", 1),
    ("agent.system.remote.Remote._read", 8),
    # what is remembered
    ("agent.delivery.state.journal.Journal.note_change", 6),
    ("agent.delivery.state.journal.Journal.write", 4),
    ("agent.system.state.state_db.StateDb.commit", 4),
    # how it ends
    ("agent.daemon.process.supervisor.Daemon.stop", 1),
    ("agent.system.files.watcher.Watcher.stop", 1),
    ("agent.system.remote.Remote.close", 1),
    ("agent.system.state.state_db.StateDb.close", 1),
    ("agent.system.machine.lock.DaemonLock.release", 1),
)


class Point(NamedTuple):
    """Killed before or after the `nth` call of `name`."""

    name: str
    after: bool
    nth: int

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} call {self.nth} of {self.name}"


def every_point() -> list[Point]:
    return [Point(name, after, nth) for name, calls in POINTS for nth in range(1, calls + 1) for after in (False, True)]


def install(point: Point) -> None:
    """From now on this process dies there."""
    owner, name = find_owner(point.name)
    original = getattr(owner, name)
    calls = 0

    @functools.wraps(original)
    def deadly(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        last = calls == point.nth
        if last and not point.after:
            _die()
        result = original(*args, **named)
        if last:
            _die()
        return result

    setattr(owner, name, deadly)


def find_owner(dotted: str) -> tuple[Any, str]:
    """The module or class that holds the function, and its name there. AttributeError when it is no longer there."""
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:-1]:
            owner = getattr(owner, part)
        found: Callable[..., Any] = getattr(owner, parts[-1])
        assert callable(found), dotted
        return owner, parts[-1]
    raise AttributeError(dotted)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
