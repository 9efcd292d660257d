"""How long `transcriptd status` takes to answer somebody who just typed it, and how long a hook holds up a session."""

import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence

from tests.bench.agents import RunningAgent
from tests.bench.children import PYTHON, REPOSITORY, ChildFailed
from tests.bench.figures import Figure, at_most, median_ratio, spread
from tests.bench.workshop import Workshop

_STATUS = (PYTHON, "-m", "agent", "status")
_CAPTURE = (PYTHON, "-m", "agent", "capture")
_NOTHING = (PYTHON, "-c", "pass")

_HOOK = b"""{
  "session_id": "28cccd80-67c1-494b-86bd-e80b30fc85ba",
  "transcript_path": "/home/ada/.claude/projects/-home-ada-tide/28cccd80-67c1-494b-86bd-e80b30fc85ba.jsonl",
  "cwd": "/home/ada/tide", "hook_event_name": "SessionStart", "source": "startup"
}"""


def measure(shop: Workshop) -> list[Figure]:
    count, turns = (200, 5) if shop.quick else (1_000, 9)
    corpus, home = shop.small_sessions(count), shop.home()
    environment = as_installed(shop, shop.environment(home))
    with shop.fast_server() as server:
        with RunningAgent(shop, home, server.url, corpus.root):
            running, nothing = _side_by_side(environment, turns)
        stopped, nothing_then = _side_by_side(environment, turns)
    shop.say(f"status: {statistics.median(running):.0f} ms with a daemon, {statistics.median(stopped):.0f} ms without")
    return [
        _figure(f"status, daemon with {count:,} sessions", running, nothing),
        _figure(f"status, no daemon, {count:,} sessions known", stopped, nothing_then),
    ]


def measure_capture(shop: Workshop) -> list[Figure]:
    environment, turns = as_installed(shop, shop.environment(shop.home())), 15 if shop.quick else 41
    hook, nothing = _side_by_side(environment, turns, _CAPTURE, _HOOK)
    shop.say(f"capture: {statistics.median(hook):.0f} ms, Python alone {statistics.median(nothing):.0f} ms")
    ratio = median_ratio(hook, nothing)
    return [
        Figure("capture, a hook of Claude Code", statistics.median(hook), "ms", at_most(50), _note(hook, nothing)),
        Figure("capture, over `python -c pass`", ratio, "x", None, "the same runs"),
    ]


def as_installed(shop: Workshop, environment: Mapping[str, str]) -> dict[str, str]:
    """An installed package is compiled once, whatever whoever runs this has forbidden Python to write."""
    kept = {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(shop.folder / "compiled")}


def _figure(name: str, times: Sequence[float], nothing: Sequence[float]) -> Figure:
    return Figure(name, statistics.median(times), "ms", at_most(250), _note(times, nothing))


def _note(times: Sequence[float], nothing: Sequence[float]) -> str:
    ratio = median_ratio(times, nothing)
    return f"{ratio:.1f} x `python -c pass`; {spread(sorted(times)[:: len(times) // 2], 'ms')} (least, middle, most)"


def _side_by_side(
    environment: Mapping[str, str], count: int, command: Sequence[str] = _STATUS, stdin: bytes = b""
) -> tuple[list[float], list[float]]:
    """Milliseconds of the command and of a Python that does nothing, in turns; the first turn does not count."""
    both = [(_wall_ms(command, environment, stdin), _wall_ms(_NOTHING, environment, stdin)) for _ in range(count + 1)]
    return [one for one, _ in both[1:]], [other for _, other in both[1:]]


def _wall_ms(command: Sequence[str], environment: Mapping[str, str], stdin: bytes) -> float:
    began = time.monotonic()
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, check=False, stdout=subprocess.DEVNULL, input=stdin)
    took_ms = 1000 * (time.monotonic() - began)
    if done.returncode not in (0, 3):  # 3: `status` without a daemon
        raise ChildFailed(f"{' '.join(command)} ended with {done.returncode}")
    return took_ms
