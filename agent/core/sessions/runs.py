"""Runs: the time in which somebody works in a session, from its first new line until it ends, as a table.

A run ends when a hook or a line says so, or when nothing was written for five minutes; a session has one at a time. It
has an id of ours, which stays when the session's own id changes, and is told complete once. A hook may be heard before
the last lines are seen, and lines come after it: so an end that was said is waited for a moment, and what comes then
belongs to the run that ends.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

QUIET_S = 300.0
"""Without a line for so long a run is over: Claude Code killed by a signal says nothing else."""

SETTLE_S = 2.0
"""Between the word that a session ends and the end of its run: its last lines are written around that word."""

EARLY_S = 10.0
"""So long the word of an end waits for the lines of a session that nobody has seen yet."""

RESTART_S = 30.0
"""After a restart, until a first look at everything shows whether an open run went on meanwhile."""

REPLAY_S = 300.0
"""So long a run that is complete can be asked for."""

_MOST_EARLY = 1_000


class Moment(NamedTuple):
    """Wall and monotonic seconds of one moment."""

    now_s: float
    mono_s: float


class RunState(StrEnum):
    IDLE = "idle"
    """Nothing is stored for such a session."""
    WARNED = "warned"
    """Its end was said, and no line of it was seen lately."""
    RUNNING = "running"
    ENDING = "ending"
    """Its end was said; its last lines may still come."""


class Signal(StrEnum):
    LINE = "line"
    END = "end"
    DUE = "due"
    """The time that its state may last is over."""


class Action(StrEnum):
    BEGIN = "begin"
    WAIT = "wait"
    """As long as the new state may last, counted from now."""
    COMPLETE = "complete"
    NOTHING = "nothing"


TRANSITIONS: Mapping[RunState, Mapping[Signal, tuple[RunState, Action]]] = {
    RunState.IDLE: {
        Signal.LINE: (RunState.RUNNING, Action.BEGIN),
        Signal.END: (RunState.WARNED, Action.WAIT),
    },
    RunState.WARNED: {
        Signal.LINE: (RunState.ENDING, Action.BEGIN),
        Signal.END: (RunState.WARNED, Action.NOTHING),
        Signal.DUE: (RunState.IDLE, Action.NOTHING),
    },
    RunState.RUNNING: {
        Signal.LINE: (RunState.RUNNING, Action.WAIT),
        Signal.END: (RunState.ENDING, Action.WAIT),
        Signal.DUE: (RunState.IDLE, Action.COMPLETE),
    },
    RunState.ENDING: {
        Signal.LINE: (RunState.ENDING, Action.NOTHING),
        Signal.END: (RunState.ENDING, Action.NOTHING),
        Signal.DUE: (RunState.IDLE, Action.COMPLETE),
    },
}

LASTS_S: Mapping[RunState, float] = {
    RunState.WARNED: EARLY_S,
    RunState.RUNNING: QUIET_S,
    RunState.ENDING: SETTLE_S,
}


class End(StrEnum):
    """Why a run is complete."""

    HOOK = "hook"
    LINE = "line"
    QUIET = "quiet"
    JOINED = "joined"
    """Its session turned out to be another one that has a run."""


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """Times are wall seconds; `ended_at_s` None while it runs. `start_bytes`: size of the main transcript when it
    began."""

    id: str
    session_id: str
    provider: str
    started_at_s: float
    start_bytes: int = 0
    ended_at_s: float | None = None
    why: str = ""

    @property
    def is_complete(self) -> bool:
        return self.ended_at_s is not None


class ChangeKind(StrEnum):
    BEGAN = "began"
    RENAMED = "renamed"
    COMPLETE = "complete"


class RunChange(NamedTuple):
    """`run`: as it is now; `before`: the session's id until it was renamed."""

    kind: ChangeKind
    run: Run
    before: str = ""


class Wrote(NamedTuple):
    """Lines were seen. `wrote_at_s`: when they were written, by the file. `file`: what it is known by under another
    name, 0 for nothing. `is_new`: somebody was seen to write; else it is only known that somebody did, which begins no
    run."""

    session_id: str
    provider: str
    wrote_at_s: float
    start_bytes: int = 0
    file: int = 0
    is_new: bool = True


class _Entry:
    """`stands_s`: for when it stands in the heap, once however often it is waited for anew."""

    __slots__ = ("due_s", "file", "run", "stands_s", "state", "why", "wrote_at_s")

    def __init__(self) -> None:
        self.state = RunState.IDLE
        self.run: Run | None = None
        self.due_s = 0.0
        self.stands_s = float("inf")
        self.why = End.QUIET
        self.wrote_at_s = 0.0
        self.file = 0


class RunBook:
    """Obeys the table; holds nothing of sessions in which nobody works. `told` hears each change in its order."""

    def __init__(self, new_id: Callable[[], str], told: Callable[[RunChange], None]) -> None:
        self._new_id = new_id
        self._told = told
        self._entries: dict[str, _Entry] = {}
        self._due: list[tuple[float, str]] = []
        self._ended_at_s: dict[str, float] = {}
        self._ended: list[tuple[float, str]] = []
        self._files: dict[int, str] = {}
        self._early = 0

    def restore(self, runs: Iterable[Run], now: Moment) -> None:
        """Those that an earlier life knew: open ones go on if their session does, and end else."""
        for run in runs:
            if run.ended_at_s is not None:
                self._note_ended(run.session_id, run.ended_at_s, now.mono_s)
            elif run.session_id not in self._entries:
                entry = self._entries[run.session_id] = _Entry()
                entry.state, entry.run = RunState.RUNNING, run
                self._wait_until(run.session_id, entry, now.mono_s + RESTART_S)
            else:
                self._told(RunChange(ChangeKind.COMPLETE, _ended(run, now.now_s, End.JOINED)))

    def wrote(self, wrote: Wrote, now: Moment) -> None:
        session = wrote.session_id
        entry = self._entries.get(session)
        is_known = not wrote.is_new or wrote.wrote_at_s <= self._ended_at_s.get(session, float("-inf"))
        if is_known and (entry is None or entry.run is None):
            return
        entry = entry or _Entry()
        entry.wrote_at_s = max(entry.wrote_at_s, wrote.wrote_at_s)
        if wrote.file:
            entry.file = wrote.file
            self._files[wrote.file] = session
        self._apply(session, entry, Signal.LINE, now, wrote)

    def said_over(self, session: str, why: End, at_s: float, now: Moment) -> None:
        """A hook or a line says that it ended then."""
        entry = self._entries.get(session)
        if entry is None:
            if self._early >= _MOST_EARLY or at_s < now.now_s - EARLY_S:
                return
            entry = _Entry()
        if entry.run is not None and entry.wrote_at_s > at_s + SETTLE_S:
            return  # it was gone on with since
        if entry.state in (RunState.IDLE, RunState.RUNNING):
            entry.why = why
        self._apply(session, entry, Signal.END, now)

    def rename(self, before: str, after: str, now: Moment) -> None:
        """The same transcript turned out to be of another session: its run stays the same one."""
        entry = self._entries.get(before)
        if entry is None or entry.run is None or before == after:
            return
        there = self._entries.get(after)
        self._drop(before, entry)
        if there is not None and there.run is not None:
            self._told(RunChange(ChangeKind.COMPLETE, _ended(entry.run, now.now_s, End.JOINED)))
            return
        if there is not None:
            self._drop(after, there)
        entry.run = msgspec.structs.replace(entry.run, session_id=after)
        self._entries[after] = entry
        if entry.file:
            self._files[entry.file] = after
        entry.stands_s = float("inf")
        self._wait_until(after, entry, entry.due_s)
        self._told(RunChange(ChangeKind.RENAMED, entry.run, before))

    def session_of(self, file: int) -> str:
        """The session with a run that wrote to the file; empty for none."""
        return self._files.get(file, "") if file else ""

    def tick(self, now: Moment) -> None:
        """Completes what is due."""
        while self._due and self._due[0][0] <= now.mono_s:
            at_s, session = heapq.heappop(self._due)
            entry = self._entries.get(session)
            if entry is None or entry.stands_s != at_s:
                continue  # of a run that is over, or stands there for an earlier time too
            entry.stands_s = float("inf")
            if entry.due_s > now.mono_s:
                self._wait_until(session, entry, entry.due_s)
            else:
                self._apply(session, entry, Signal.DUE, now)
        while self._ended and self._ended[0][0] <= now.mono_s:
            at_s, session = heapq.heappop(self._ended)
            self._ended_at_s.pop(session, None)

    def next_s(self) -> float | None:
        """Monotonic time at which `tick` may have something to do."""
        return self._due[0][0] if self._due else None

    def running(self) -> list[Run]:
        return [one.run for one in self._entries.values() if one.run is not None]

    def _apply(self, session: str, entry: _Entry, signal: Signal, now: Moment, wrote: Wrote | None = None) -> None:
        before = entry.state
        entry.state, action = TRANSITIONS[before][signal]
        self._early += (entry.state is RunState.WARNED) - (before is RunState.WARNED)
        if entry.state is RunState.IDLE:
            self._drop(session, entry)
        else:
            self._entries[session] = entry
        if action is Action.BEGIN and wrote is not None:
            entry.run = Run(self._new_id(), session, wrote.provider, now.now_s, max(0, wrote.start_bytes))
            self._told(RunChange(ChangeKind.BEGAN, entry.run))
        if action in (Action.BEGIN, Action.WAIT):
            age_s = max(0.0, now.now_s - wrote.wrote_at_s) if wrote and entry.state is RunState.RUNNING else 0.0
            due_s = now.mono_s + LASTS_S[entry.state] - min(age_s, LASTS_S[entry.state])
            later_only = before is entry.state and signal is Signal.LINE
            self._wait_until(session, entry, max(due_s, entry.due_s) if later_only else due_s)
        elif action is Action.COMPLETE and entry.run is not None:
            self._note_ended(session, now.now_s, now.mono_s)
            self._told(RunChange(ChangeKind.COMPLETE, _ended(entry.run, now.now_s, entry.why)))

    def _wait_until(self, session: str, entry: _Entry, due_s: float) -> None:
        entry.due_s = due_s
        if due_s < entry.stands_s:
            entry.stands_s = due_s
            heapq.heappush(self._due, (due_s, session))

    def _drop(self, session: str, entry: _Entry) -> None:
        self._entries.pop(session, None)
        if self._files.get(entry.file) == session:
            del self._files[entry.file]

    def _note_ended(self, session: str, at_s: float, mono_s: float) -> None:
        self._ended_at_s[session] = at_s
        heapq.heappush(self._ended, (mono_s + REPLAY_S, session))


def _ended(run: Run, at_s: float, why: End) -> Run:
    return msgspec.structs.replace(run, ended_at_s=at_s, why=why.value)
