"""The runs that somebody may ask for: those that are on, and those that ended lately. What a change costs does not
depend on how many there are, since a restored backup begins hundreds of thousands at once."""

from collections import deque
from collections.abc import Container, Iterable, Iterator

from agent.core.sessions.runs import REPLAY_S, Run


class KnownRuns:
    """For one thread; `last_of` may be asked by any."""

    def __init__(self, runs: Iterable[Run], now_s: float) -> None:
        self._by_id: dict[str, Run] = {}
        self._by_session: dict[str, list[str]] = {}
        self._last: dict[str, Run] = {}
        self._open: dict[str, dict[str, str]] = {}
        """Provider → open run → its session."""
        self._ended: deque[str] = deque()
        for run in runs:
            if not is_old(run, now_s):
                self.take(run)

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, run: object) -> bool:
        return isinstance(run, Run) and run.id in self._by_id

    def __iter__(self) -> Iterator[Run]:
        return iter(self._by_id.values())

    def take(self, run: Run) -> None:
        """As it is now."""
        before = self._by_id.get(run.id)
        if before is not None and before.session_id != run.session_id:
            self._leave_session(before)
        self._by_id[run.id] = run
        ids = self._by_session.setdefault(run.session_id, [])
        if run.id not in ids:
            ids.append(run.id)
        self._find_last(run.session_id)
        if run.is_complete:
            self._open.get(run.provider, {}).pop(run.id, None)
            self._ended.append(run.id)
        else:
            self._open.setdefault(run.provider, {})[run.id] = run.session_id

    def forget_old(self, now_s: float) -> None:
        while self._ended:
            run = self._by_id.get(self._ended[0])
            if run is not None and not is_old(run, now_s):
                return
            self._ended.popleft()
            if run is not None:
                del self._by_id[run.id]
                self._leave_session(run)

    def last_of(self, session: str) -> Run | None:
        """The one that is on, else the one that began last."""
        return self._last.get(session)

    def of_session(self, session: str) -> list[Run]:
        """By when they began."""
        found = [self._by_id[name] for name in self._by_session.get(session, ())]
        return sorted(found, key=lambda run: run.started_at_s)

    def open_sessions(self, providers: Container[str]) -> set[str]:
        """Those of these providers in which a run is on."""
        return {session for name, runs in self._open.items() if name in providers for session in runs.values()}

    def _leave_session(self, run: Run) -> None:
        ids = self._by_session[run.session_id]
        ids.remove(run.id)
        if ids:
            self._find_last(run.session_id)
        else:
            del self._by_session[run.session_id], self._last[run.session_id]

    def _find_last(self, session: str) -> None:
        runs = (self._by_id[name] for name in self._by_session[session])
        self._last[session] = max(runs, key=lambda run: (not run.is_complete, run.started_at_s))


def is_old(run: Run, now_s: float) -> bool:
    return run.ended_at_s is not None and now_s - run.ended_at_s > REPLAY_S
