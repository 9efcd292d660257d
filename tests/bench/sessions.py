"""What the index of sessions costs, and how long those wait who ask it."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench.agents import RunningAgent
from tests.bench.children import PYTHON, REPOSITORY, ChildFailed
from tests.bench.commands import as_installed
from tests.bench.corpus import Shape, write_corpus
from tests.bench.figures import Figure, at_least, at_most, spread
from tests.bench.servers import free
from tests.bench.workshop import Workshop

_SEARCHED = "zzneedlezz"
"""Stands nowhere: all is looked through."""


def measure(shop: Workshop) -> list[Figure]:
    return [*_indexing(shop), *_listing(shop), *_searching(shop)]


def _indexing(shop: Workshop) -> list[Figure]:
    """Of a backlog, reading events and all that is written included."""
    corpus = shop.backlog()
    environment = _settled(shop, corpus.root)
    rates, walls = [], []
    for _ in range(shop.rounds):
        _run(environment, "sessions", "backfill", "--clear")
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall_s = _run(environment, "sessions", "backfill")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent_s = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
        rates.append(corpus.size / 1e6 / spent_s)
        walls.append(corpus.size / 1e6 / wall_s)
    size = Path(environment["TRANSCRIPTD_HOME"], "state", "index.db").stat().st_size
    shop.say(f"indexing: {statistics.median(rates):.0f} MB/s of a core")
    note = f"{spread(rates, 'MB/s')}; by the clock {spread(walls, 'MB/s')}; start of the command included"
    return [
        Figure("index: transcripts read", statistics.median(rates), "MB/s", at_least(50), note),
        Figure("index: its size", 100 * size / corpus.size, "%", None, f"of theirs: {size / 1e6:.1f} MB"),
    ]


def _listing(shop: Workshop) -> list[Figure]:
    count, turns = (1_000, 5) if shop.quick else (10_000, 9)
    corpus, home = shop.small_sessions(count), shop.home()
    environment = as_installed(shop, shop.environment(home))
    with shop.fast_server() as server, RunningAgent(shop, home, server.url, corpus.root):
        _run(environment, "sessions", "backfill")
        with_agent = _times(environment, turns, "sessions", "list")
        all_of_them = _times(environment, 3, "sessions", "list", "--json", "--limit", "0")
    without = _times(environment, 3, "sessions", "list")
    shop.say(f"list: {statistics.median(with_agent):.0f} ms, without an agent {statistics.median(without):.0f} ms")
    name = f"sessions list, {count:,} sessions"
    return [
        Figure(name, statistics.median(with_agent), "ms", at_most(300), spread(sorted(with_agent), "ms")),
        Figure(f"{name}, --json --limit 0", statistics.median(all_of_them), "ms", None, spread(all_of_them, "ms")),
        Figure(f"{name}, no daemon", statistics.median(without), "ms", None, "looks at every file first"),
    ]


def _searching(shop: Workshop) -> list[Figure]:
    """Of all that there is, for a word that stands nowhere; read once before, so that the disk is not measured."""
    size = 100_000_000 if shop.quick else 1_000_000_000
    corpus = write_corpus(shop.fresh("searched"), Shape(size // 1_000_000, size))
    environment = _settled(shop, corpus.root)
    _run(environment, "sessions", "backfill")
    rare = _times(environment, 5, "sessions", "search", _SEARCHED)
    plain = _times(environment, 3, "sessions", "search", "thermodynamix")
    foreign = _times(environment, 3, "sessions", "search", "überallhinx")
    phrase = _times(environment, 3, "sessions", "search", f'"{_SEARCHED} lo"', "--role", "user")
    common = _times(environment, 3, "sessions", "search", "lono")
    format_ = _times(environment, 1, "sessions", "search", "uuid")
    free(corpus.root)
    shop.say(f"search: {statistics.median(rare):.0f} ms for {corpus.size / 1e6:,.0f} MB")
    name = f"search of {size / 1e9:.1f} GB"
    bound = at_most(1.0 * size / 1e9)
    return [
        Figure(
            f"{name}: a word that is nowhere", statistics.median(rare) / 1e3, "s", bound, spread(sorted(rare), "ms")
        ),
        Figure(
            f"{name}: one that begins with no rare letter",
            statistics.median(plain) / 1e3,
            "s",
            None,
            spread(plain, "ms"),
        ),
        Figure(f"{name}: one beyond ASCII", statistics.median(foreign) / 1e3, "s", None, spread(foreign, "ms")),
        Figure(f"{name}: a phrase that is nowhere", statistics.median(phrase) / 1e3, "s", bound, spread(phrase, "ms")),
        Figure(f"{name}: a word that is everywhere", statistics.median(common) / 1e3, "s", bound, spread(common, "ms")),
        Figure(f"{name}: a word of the format", format_[0] / 1e3, "s", None, "stands in every line, and is no find"),
    ]


def _settled(shop: Workshop, root: Path) -> dict[str, str]:
    home = shop.home()
    (home / "config.toml").write_text(f'[watch]\nagents = ["claude"]\nclaude = ["{root}"]\n', encoding="utf-8")
    return as_installed(shop, shop.environment(home))


def _times(environment: Mapping[str, str], count: int, *command: str) -> list[float]:
    """Milliseconds of each run; one before them does not count."""
    run: Callable[[], float] = lambda: 1000 * _run(environment, *command)  # noqa: E731
    run()
    return [run() for _ in range(count)]


def _run(environment: Mapping[str, str], *command: str) -> float:
    began_s = time.monotonic()
    done = subprocess.run(
        [PYTHON, "-m", "agent", *command],
        env=dict(environment),
        cwd=REPOSITORY,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    took_s = time.monotonic() - began_s
    if done.returncode != 0:
        sys.stderr.buffer.write(done.stderr)
        raise ChildFailed(f"{' '.join(command)} ended with {done.returncode}")
    return took_s
