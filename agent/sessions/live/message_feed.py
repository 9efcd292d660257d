"""A subscriber's place in what is added to a session. The control socket's thread asks it, and waits for nobody."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.sessions.runs import Run
from agent.sessions.live.events import Following

if TYPE_CHECKING:
    from agent.sessions.read.tailing import Place, Tail

HEARTBEAT_S = 15.0
"""A subscriber of a run hears so often that it is still on."""


class Followed(NamedTuple):
    """What somebody wants to follow. `places`: subpath → file, the main one under the empty one."""

    session_id: str
    provider: str
    places: "Mapping[str, Place]"
    subagents: bool = False


class Since(NamedTuple):
    """What a subscriber knows: up to which number of which epoch, and which run it believes to be on."""

    after_seq: int | None = None
    epoch: str = ""
    run: str = ""


class ListFeed:
    """One subscriber's place in the changes of the list; the control socket's `Feed`."""

    def __init__(self, following: Following, *, left: "Callable[[ListFeed], None]") -> None:
        self._following = following
        self._left = left
        self._ended = False
        self._wake: Callable[[], None] = lambda: None

    @property
    def refresh(self) -> bool:
        return self._following.refresh

    def listen(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._following.listen(wake)

    def end(self) -> None:
        self._ended = True
        self._wake()

    def take(self, most: int) -> Sequence[Any]:
        """Raises OSError as `MessageFeed.take` does."""
        if self._ended:
            raise ConnectionAbortedError("the daemon made room for another one")
        return self._following.take(most)

    def close(self) -> None:
        self._following.close()
        self._left(self)


class MessageFeed:
    """The control socket's `Feed`. `left` hears once that nobody listens any more. Times are monotonic."""

    def __init__(self, tail: "Tail", next_seq: int, *, refresh: bool, left: "Callable[[MessageFeed], None]") -> None:
        self.tail = tail
        self._next_seq = next_seq
        self._refresh = refresh
        self._left = left
        self._ended = False
        self._beat_run = ""
        self._quiet_since_s: float | None = None
        self._wake: Callable[[], None] = lambda: None

    def listen(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.tail.listen(self, wake)

    def beat(self, run_id: str, now_s: float) -> None:
        """Its run is on: it is told so when it heard nothing for long."""
        if self._quiet_since_s is None:
            self._quiet_since_s = now_s
        elif now_s - self._quiet_since_s >= HEARTBEAT_S:
            self._quiet_since_s = now_s
            self._beat_run = run_id
            self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def take(self, most: int) -> Sequence[Any]:
        """Raises OSError when its daemon made room for another one: the client is let go, and comes back."""
        if self._ended:
            raise ConnectionAbortedError("the daemon made room for another one")
        found = None if self._refresh else self.tail.read(self._next_seq, most)
        if found is None:
            if not self._refresh:
                self._next_seq = self.tail.last_seq + 1
            self._refresh = False
            return [self._say("refresh", epoch=self.tail.epoch)]
        if found:
            self._next_seq = found[-1]["seq"] + 1
            self._quiet_since_s = None
            return found
        run_id, self._beat_run = self._beat_run, ""
        return [self._say("heartbeat", run=run_id)] if run_id else []

    def close(self) -> None:
        self.tail.forget(self)
        self._left(self)

    def _say(self, kind: str, **fields: Any) -> dict[str, Any]:
        return {"seq": self._next_seq - 1, "kind": kind, "session_id": self.tail.session_id, **fields}


def run_json(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": run.id,
        "session_id": run.session_id,
        "provider": run.provider,
        "state": "complete" if run.is_complete else "running",
        "started_at_s": run.started_at_s,
    }
    if run.is_complete:
        found |= {"ended_at_s": run.ended_at_s, "why": run.why}
    return found


def told_of(run: Run) -> dict[str, Any]:
    return {"run": run.id, "session_id": run.session_id, **({"why": run.why} if run.is_complete else {})}
