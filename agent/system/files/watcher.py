"""Change notices from the system, as hints. They get lost under load and die with their folder, so scans decide."""

import os
import warnings
from collections.abc import Callable
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

# watchdog 7.1 says so, at length, whenever a folder is made while the one above it is being looked through. Where
# warnings are errors it ends the thread that reads for all.
warnings.filterwarnings("ignore", "Callback with id .* already exists", RuntimeWarning, r"watchdog\.")

_WANTED: list[type[FileSystemEvent]] = [
    FileModifiedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]
"""Opened and closed files are not asked for: half of the cost of an event (0.20 ms instead of 0.42)."""


class Watcher:
    """Watches folder trees. `hint(path)` is called from a thread of the observer with a path below a root that may
    have changed; it must return at once and never raise."""

    def __init__(self, hint: Callable[[str], None]) -> None:
        self._handler = _Handler(hint)
        self._observer: BaseObserver | None = None
        self._watched: dict[str, tuple[ObservedWatch, tuple[int, int]]] = {}
        self.refused: dict[str, str] = {}
        """Roots for which the system gives no change notices, and why, for people."""
        self.missing: set[str] = set()
        """Roots that are not there yet."""

    @property
    def watched(self) -> frozenset[str]:
        """Roots for which change notices come."""
        return frozenset(self._watched)

    def ensure(self, roots: list[str]) -> bool:
        """Watches every root that is there, again where a root was replaced or its emitter died. True when a root
        is newly watched: what happened in it before is not known. Call it now and then."""
        fresh = False
        for root in roots:
            identity = _identity(root)
            known = self._watched.get(root)
            if known and known[1] == identity and self._is_alive(known[0]):
                continue
            if known:
                self._unwatch(root)
            if identity is None:
                self.missing.add(root)
                self.refused.pop(root, None)
                continue
            self.missing.discard(root)
            fresh = self._watch(root, identity) or fresh
        return fresh

    def stop(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=5.0)
            self._observer = None
        self._watched.clear()

    def _watch(self, root: str, identity: tuple[int, int]) -> bool:
        try:
            if self._observer is None or not self._observer_is_alive():
                self.stop()
                self._observer = _start_observer()
            watch = self._observer.schedule(self._handler, root, recursive=True, event_filter=_WANTED)
        except (OSError, RuntimeError) as exc:
            # RuntimeError: the system has no more threads to give.
            self.refused[root] = (
                f"the system gives no change notices ({getattr(exc, 'strerror', None) or 'no threads'})"
            )
            return False
        self._watched[root] = (watch, identity)
        self.refused.pop(root, None)
        return True

    def _unwatch(self, root: str) -> None:
        watch, _ = self._watched.pop(root)
        if self._observer is not None:
            try:
                self._observer.unschedule(watch)
            except (KeyError, OSError):
                # The emitter took itself off when its folder went away.
                return

    def _is_alive(self, watch: ObservedWatch) -> bool:
        if self._observer is None or not self._observer_is_alive():
            return False
        return any(emitter.watch == watch and emitter.is_alive() for emitter in self._observer.emitters)

    def _observer_is_alive(self) -> bool:
        """Of watchdog 7, also the one thread that reads for all emitters; they wait for it without end."""
        reader = getattr(self._observer, "_inotify_fd", None)
        return self._observer is not None and self._observer.is_alive() and (reader is None or reader.is_alive())


def _start_observer() -> BaseObserver:
    observer = Observer()
    try:
        observer.start()
    except RuntimeError:
        observer.stop()  # it may have begun to read
        raise
    return observer


class _Handler(FileSystemEventHandler):
    def __init__(self, hint: Callable[[str], None]) -> None:
        self._hint = hint

    def on_any_event(self, event: FileSystemEvent) -> Any:
        self._hint(os.fsdecode(event.src_path))
        if event.dest_path:
            self._hint(os.fsdecode(event.dest_path))


def _identity(root: str) -> tuple[int, int] | None:
    try:
        seen = os.stat(root)
    except OSError:
        return None
    return seen.st_dev, seen.st_ino
