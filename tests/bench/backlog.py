"""How fast what is on disk gets to a server: against one PUT an entry, and against reading and posting it raw."""

import statistics

import msgspec

from tests.bench.agents import PassReport, run_pass
from tests.bench.children import PYTHON, Child
from tests.bench.corpus import Corpus
from tests.bench.figures import Figure, at_least, at_most, median_ratio, spread
from tests.bench.servers import Server, expect_entries, free
from tests.bench.workshop import Workshop


class _Took(msgspec.Struct):
    seconds: float
    entries: int


def measure_bulk(shop: Workshop) -> list[Figure]:
    corpus, tenth = shop.backlog(), shop.backlog_tenth()
    scale = corpus.entries / tenth.entries
    ours, stored = list[PassReport](), list[float]()
    naive, plain, chained = list[float](), list[float](), list[float]()
    for number in range(shop.rounds):
        with shop.fast_server() as server:
            naive.append(_yardstick(shop, "naive", server, tenth).seconds * scale)
            plain.append(_yardstick(shop, "plain", server, corpus).seconds)
            chained.append(_yardstick(shop, "chained", server, corpus).seconds)
            ours.append(_pass(shop, server, corpus))
        data = shop.fresh("data")
        with shop.our_server(data) as server:
            stored.append(run_pass(shop, shop.home(), server.url, corpus.root).seconds)
        free(data)
        shop.say(
            f"backlog {number + 1}/{shop.rounds}: ours {ours[-1].seconds:.2f} s, one PUT an entry {naive[-1]:.1f} s,"
            f" plain loop {plain[-1]:.2f} s (with hashes {chained[-1]:.2f} s), to our receiver {stored[-1]:.2f} s"
        )
    seconds = [one.seconds for one in ours]
    size_mb = corpus.size / 1e6
    scaled = f"{spread(naive, 's')}; measured on each tenth session, times {scale:.2f} for all entries"
    return [
        Figure("backlog: speed over one PUT an entry", median_ratio(naive, seconds), "x", at_least(8), scaled),
        Figure(
            "backlog: time over the plain loop",
            median_ratio(seconds, plain),
            "x",
            at_most(3),
            f"{spread(seconds, 's')} over {spread(plain, 's')}",
        ),
        Figure(
            "backlog: time over the plain loop with chain hashes",
            median_ratio(seconds, chained),
            "x",
            None,
            f"over {spread(chained, 's')}: what BLAKE2b over every line costs anybody",
        ),
        Figure(
            "backlog: throughput",
            size_mb / statistics.median(seconds),
            "MB/s",
            None,
            f"{size_mb:,.0f} MB, {len(corpus.paths):,} sessions, {corpus.entries:,} entries;"
            f" CPU {statistics.median(one.cpu_s for one in ours):.2f} s,"
            f" peak {max(one.peak_bytes for one in ours) / 2**20:.0f} MiB",
        ),
        Figure(
            "backlog to our own receiver: throughput",
            size_mb / statistics.median(stored),
            "MB/s",
            None,
            f"{spread(stored, 's')}; SQLite, on disk before each answer",
        ),
        Figure("backlog to our own receiver: over one PUT an entry", median_ratio(naive, stored), "x"),
    ]


def measure_base(shop: Workshop) -> list[Figure]:
    tenth = shop.backlog_tenth()
    ours, naive = list[float](), list[float]()
    for number in range(shop.rounds):
        with shop.fast_server() as server:
            took = _yardstick(shop, "naive", server, tenth)
            naive.append(took.entries / took.seconds)
            before = server.stats()["entries"]
            seconds = run_pass(shop, shop.home(), server.url, tenth.root, protocol="ingress").seconds
            ours.append((server.stats()["entries"] - before) / seconds)
        shop.say(f"base {number + 1}/{shop.rounds}: ours {ours[-1]:,.0f} entries/s, naive {naive[-1]:,.0f}")
    note = f"{spread(ours, '1/s')} over {spread(naive, '1/s')}; entries/s, since ours leaves out those without a uuid"
    return [Figure("base protocol: speed over one PUT an entry", median_ratio(ours, naive), "x", at_least(1), note)]


def _yardstick(shop: Workshop, name: str, server: Server, corpus: Corpus) -> _Took:
    command = [PYTHON, "-m", "tests.bench.yardsticks", name, server.url, str(corpus.root)]
    with Child(command, shop.environment(shop.home())) as child:
        return msgspec.json.decode(child.hear(), type=_Took)


def _pass(shop: Workshop, server: Server, corpus: Corpus) -> PassReport:
    server.ask("POST", "/reset")
    took = run_pass(shop, shop.home(), server.url, corpus.root)
    expect_entries(server, 0, corpus.entries)
    return took
