"""How long `transcriptd status` takes to answer somebody who just typed it."""

import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence

from tests.bench.agents import RunningAgent
from tests.bench.children import PYTHON, REPOSITORY
from tests.bench.figures import Figure, at_most, median_ratio, spread
from tests.bench.workshop import Workshop

_STATUS = (PYTHON, "-m", "agent", "status")
_NOTHING = (PYTHON, "-c", "pass")


def measure(shop: Workshop) -> list[Figure]:
    count, turns = (200, 5) if shop.quick else (1_000, 9)
    corpus, home = shop.small_sessions(count), shop.home()
    environment = shop.environment(home)
    with shop.fast_server() as server:
        with RunningAgent(shop, home, server.url, corpus.root):
            running, nothing = _side_by_side(environment, turns)
        stopped, nothing_then = _side_by_side(environment, turns)
    shop.say(f"status: {statistics.median(running):.0f} ms with a daemon, {statistics.median(stopped):.0f} ms without")
    return [
        _figure(f"status, daemon with {count:,} sessions", running, nothing),
        _figure(f"status, no daemon, {count:,} sessions known", stopped, nothing_then),
    ]


def _figure(name: str, times: Sequence[float], nothing: Sequence[float]) -> Figure:
    ratio = median_ratio(times, nothing)
    note = f"{ratio:.1f} x `python -c pass`; {spread(sorted(times)[:: len(times) // 2], 'ms')} (least, middle, most)"
    return Figure(name, statistics.median(times), "ms", at_most(250), note)


def _side_by_side(environment: Mapping[str, str], count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of the command and of a Python that does nothing, in turns; the first turn does not count."""
    turns = [(_wall_ms(_STATUS, environment), _wall_ms(_NOTHING, environment)) for _ in range(count + 1)][1:]
    return [one for one, _ in turns], [other for _, other in turns]


def _wall_ms(command: Sequence[str], environment: Mapping[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(command, env=environment, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    return 1000 * (time.monotonic() - began)
