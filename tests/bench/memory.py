"""What long files, long lines and many files cost in memory."""

import os
import time

from tests.bench.agents import RunningAgent, run_pass
from tests.bench.corpus import Corpus, Shape, write_corpus, write_long_line, write_long_transcript
from tests.bench.figures import Figure, at_most
from tests.bench.machine import resident_bytes
from tests.bench.servers import expect_entries, free
from tests.bench.workshop import Workshop

_MIB = 2**20
_OLD_S = 86_400


def measure(shop: Workshop) -> list[Figure]:
    return [*_long(shop), *_many(shop)]


def _long(shop: Workshop) -> list[Figure]:
    long_mb, line_mb = (60, 20) if shop.quick else (1_000, 100)
    tiny = _peak(shop, write_corpus(shop.fresh("tiny"), Shape(1, 0)))
    short = _peak(shop, write_long_transcript(shop.fresh("short"), 10_000_000))
    long = _peak(shop, write_long_transcript(shop.fresh("long"), long_mb * 1_000_000))
    line = _peak(shop, write_long_line(shop.fresh("line"), line_mb * 1_000_000))
    return [
        Figure(
            f"memory: {long_mb:,} MB in a transcript, over 10 MB",
            (long - short) / _MIB,
            "MiB",
            at_most(64),
            f"peak {long / _MIB:.1f} MiB over {short / _MIB:.1f} MiB; with one tiny transcript {tiny / _MIB:.1f} MiB",
        ),
        Figure(
            f"memory: a line of {line_mb} MB, over a tiny one",
            (line - tiny) / _MIB,
            "MiB",
            at_most(64),
            f"peak {line / _MIB:.1f} MiB",
        ),
    ]


def _peak(shop: Workshop, corpus: Corpus) -> int:
    with shop.fast_server() as server:
        took = run_pass(shop, shop.home(), server.url, corpus.root)
        expect_entries(server, 0, corpus.entries)
    free(corpus.root)
    shop.say(f"memory: {corpus.size / 1e6:,.1f} MB in {took.seconds:.1f} s, peak {took.peak_bytes / _MIB:.1f} MiB")
    return took.peak_bytes


def _many(shop: Workshop) -> list[Figure]:
    few, many = 1_000, 2_000 if shop.quick else 20_000
    small, large = _resident(shop, few), _resident(shop, many)
    return [
        Figure(
            "memory: each watched transcript",
            (large - small) / (many - few),
            "bytes",
            at_most(2_048),
            f"{small / _MIB:.1f} MiB with {few:,}, {large / _MIB:.1f} MiB with {many:,}; resident after a restart",
        )
    ]


def _resident(shop: Workshop, count: int) -> int:
    """Bytes resident in a daemon that found all of `count` transcripts synced."""
    corpus, home = shop.small_sessions(count), shop.home()
    for path in corpus.paths:  # of a session that changed lately, its end is awaited for five minutes
        os.utime(path, (time.time() - _OLD_S, time.time() - _OLD_S))
    with shop.fast_server() as server:
        took = run_pass(shop, home, server.url, corpus.root)
        with RunningAgent(shop, home, server.url, corpus.root) as agent:
            time.sleep(3.0)
            found = resident_bytes(agent.pid)
    shop.say(f"memory: {count:,} transcripts in {took.seconds:.1f} s, resident {found / _MIB:.1f} MiB after a restart")
    return found
