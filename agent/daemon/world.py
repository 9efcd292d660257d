"""What the engine is handed instead of reaching for it."""

from collections.abc import Callable
from typing import NamedTuple


class World(NamedTuple):
    """Times in seconds. `chance()`: a float in [0, 1); `new_uuid()`: a random UUID as text."""

    now_s: Callable[[], float]
    monotonic_s: Callable[[], float]
    chance: Callable[[], float]
    new_uuid: Callable[[], str]


class Limits(NamedTuple):
    """`workers`: tasks in flight at most. `coalesce_s`: rest of a stream that grew while it was sent. `backlog`:
    whether transcripts from before the first start are sent."""

    workers: int = 8
    coalesce_s: float = 0.05
    backlog: bool = True
