"""What the engine is told: by the scanner, by people, by clocks, and by those who did what it asked."""

from collections.abc import Sequence
from typing import NamedTuple

from agent.core.sessions.runs import End
from agent.core.transcripts.session import Facts, Gone, Observation
from agent.delivery.state.pausing import HeldOff, PauseAsked, ResumeAsked
from agent.delivery.state.tasks import DiskOutcome, Outcome
from agent.system.state.state_db import TrackRow


class Observed(NamedTuple):
    """What the scanner found new or changed. `live`: because of a change notice, so somebody is at work there."""

    observations: Sequence[Observation]
    live: bool


class Vanished(NamedTuple):
    gone: Sequence[Gone]


class Woken(NamedTuple):
    """The machine slept, its clock was set, or it has another network: what waited for a time need not any more."""


class Retry(NamedTuple):
    """Somebody asks to try again, with new credentials or settings or network: everything, or the named sessions.
    `rejected`: entries that servers refused, too."""

    sessions: frozenset[str] = frozenset()
    rejected: bool = False


class Requeued(NamedTuple):
    """A hook named a session whose file is not there; it will be looked for again."""

    session_id: str


class SaidOver(NamedTuple):
    """A hook or a line says that the session ended then, wall time."""

    session_id: str
    why: End
    at_s: float


class Restore(NamedTuple):
    """Somebody wants sessions that were deleted on a server to be there again."""

    sessions: frozenset[str]


class PulledHere(NamedTuple):
    """A session came from a server: its files are about to be in their places, and that server has them. `rows`: how
    far, as the state keeps it. `facts`: what is known of the session."""

    rows: Sequence[TrackRow]
    facts: Facts


class DeletedThere(NamedTuple):
    """Somebody here had a session deleted on servers, which took it."""

    session_id: str
    destinations: frozenset[str]


class ScanEnded(NamedTuple):
    """All files that are there have been told of."""


class RulesChanged(NamedTuple):
    """The private list or the settings of privacy are others, or can be read again, or no more. What they say now is
    asked when that is taken in: workers may have brought it already, and what came after."""


ByHand = Retry | Restore | Requeued | SaidOver | PulledHere | DeletedThere
Asked = ByHand | RulesChanged | PauseAsked | ResumeAsked | HeldOff
Seen = Observed | Vanished | ScanEnded | Woken
Input = Seen | Asked | Outcome | DiskOutcome
