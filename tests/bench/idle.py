"""How quiet the daemon is with ten thousand transcripts and nothing to do, and how small."""

import time

from agent.core.settings import Settings
from tests.bench.agents import RunningAgent
from tests.bench.figures import Figure, at_most
from tests.bench.machine import cpu_s, resident_bytes
from tests.bench.servers import expect_entries
from tests.bench.workshop import Workshop

_SETTLE_S = 5.0
"""Until the last progress is written and the first pass's watches stand."""


def measure(shop: Workshop) -> list[Figure]:
    count = 1_000 if shop.quick else 10_000
    window_s = 20.0 if shop.quick else 62.0
    corpus, home = shop.small_sessions(count), shop.home()
    with shop.fast_server() as server:
        began_s = time.monotonic()
        with RunningAgent(shop, home, server.url, corpus.root) as agent:
            expect_entries(server, 0, corpus.entries)
            shop.say(f"idle: {count:,} transcripts pushed in {time.monotonic() - began_s:.1f} s, now {window_s:.0f} s")
            time.sleep(_SETTLE_S)
            before_s, since_s = cpu_s(agent.pid), time.monotonic()
            time.sleep(window_s)
            used_s, waited_s = cpu_s(agent.pid) - before_s, time.monotonic() - since_s
            after_backlog = resident_bytes(agent.pid)
            before_s = cpu_s(agent.pid)
            agent.scan()
            scan_s = cpu_s(agent.pid) - before_s
        with RunningAgent(shop, home, server.url, corpus.root) as agent:
            time.sleep(_SETTLE_S)
            after_restart = resident_bytes(agent.pid)
    every_s = Settings().watch.scan_interval_s
    share = 100 * (used_s / waited_s + scan_s / every_s)
    what = f"idle, {count:,} transcripts"
    return [
        Figure(
            f"{what}: CPU",
            share,
            "% of a core",
            at_most(0.2),
            f"{1000 * used_s:.0f} ms in {waited_s:.0f} s, and {1000 * scan_s:.0f} ms a full scan, each {every_s:.0f} s",
        ),
        Figure(f"{what}: resident after their backlog", after_backlog / 2**20, "MiB", at_most(64)),
        Figure(f"{what}: resident after a restart", after_restart / 2**20, "MiB", at_most(64)),
    ]
