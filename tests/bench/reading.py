"""How fast transcripts are read as events, beside json.loads of the same lines."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.core.transcripts.session import Provider, StreamId
from agent.providers import PROVIDERS
from tests.bench.corpus import Shape, write_corpus
from tests.bench.figures import Figure, Target, at_least, median_ratio
from tests.bench.workshop import Workshop

_MB = 1e6
_CORPUS = Path(__file__).parents[1] / "corpus" / "2026-11"
_SLICE_BYTES = 20_000_000
"""Real transcripts of the other agents are few; they are read again and again until it is as much."""

_Lines = Sequence[Sequence[bytes]]


def measure(shop: Workshop) -> list[Figure]:
    shape = Shape(60, _SLICE_BYTES, pictures=1) if shop.quick else Shape(200, 100_000_000, pictures=3)
    rounds = 5 if shop.quick else 9
    made = [path.read_bytes().split(b"\n")[:-1] for path in write_corpus(shop.fresh("reading"), shape).paths]
    figures = [_figure(shop, PROVIDERS["claude"], "made for the bench", made, rounds=rounds, target=at_least(150))]
    for provider in PROVIDERS.values():
        real = _real_lines(_CORPUS / provider.name)
        if real:
            figures.append(_figure(shop, provider, "real ones", real, rounds=rounds))
    return figures


def _real_lines(folder: Path) -> _Lines:
    return [path.read_bytes().split(b"\n")[:-1] for path in sorted(folder.rglob("*.jsonl"))]


def _figure(
    shop: Workshop, provider: Provider, which: str, lines: _Lines, *, rounds: int, target: Target | None = None
) -> Figure:
    size = sum(len(line) + 1 for one in lines for line in one)
    count = sum(map(len, lines))
    times = max(1, _SLICE_BYTES // size)
    ours_s, json_s = [], []
    for _ in range(rounds):
        ours_s.append(_seconds(lambda: _read(provider, lines), times))
        json_s.append(_seconds(lambda: _parse(lines), times))
    speed = size / statistics.median(ours_s) / _MB
    shop.say(f"reading {provider.name}, {which}: {speed:.0f} MB/s")
    note = f"{count:,} lines of {size / count:,.0f} B; best {size / min(ours_s) / _MB:.0f} MB/s; "
    note += f"time over json.loads {median_ratio(ours_s, json_s):.2f} x"
    return Figure(f"reading {provider.name} as events, {which}", speed, "MB/s", target, note)


def _read(provider: Provider, lines: _Lines) -> None:
    for one in lines:
        read = provider.reader(StreamId("6513270e-269e-4d37-b2a7-4de452e6b438", "")).read
        for line in one:
            read(line)


def _parse(lines: _Lines) -> None:
    for one in lines:
        for line in one:
            with contextlib.suppress(ValueError):  # torn, as real ones are
                json.loads(line)


def _seconds(work: Callable[[], None], times: int) -> float:
    """Of one core, a time."""
    begin = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begin) / times
