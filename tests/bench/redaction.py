"""How fast secrets are looked for, beside one expression alone, and how long the worst of lines takes."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import re2

from agent.core.redaction.redactor import Redactor, parse_rules
from agent.core.settings import Privacy
from tests.bench.corpus import Corpus, Shape, write_corpus
from tests.bench.figures import Figure, at_least, at_most, median_ratio, spread
from tests.bench.workshop import Workshop
from tests.core.hostile_lines import HOSTILE

_BATCH_BYTES = 1 << 20
_LINE_BYTES = 10_000_000
_MB = 1e6


def measure(shop: Workshop) -> list[Figure]:
    shape = Shape(60, 20_000_000, pictures=1) if shop.quick else Shape(200, 100_000_000, pictures=3)
    batches = _batches(write_corpus(shop.fresh("redaction"), shape))
    redactor = Redactor(parse_rules(Privacy()), bytes(32))
    found, cold_s = _took(redactor, batches)
    alone = _one_expression()
    ours_s, one_s = [], []
    for _ in range(5 if shop.quick else 9):
        ours_s.append(_took(redactor, batches)[1])
        one_s.append(_seconds(lambda: [alone(batch) for batch in batches]))
    size = sum(map(len, batches))
    speeds = [size / one / _MB for one in ours_s]
    shop.say(f"redaction: {statistics.median(speeds):.0f} MB/s")
    return [
        Figure(
            "redaction, MB/s of a core",
            statistics.median(speeds),
            "MB/s",
            at_least(200),
            f"{len(batches)} batches, {found} hits; {size / cold_s / _MB:.0f} MB/s the first time;"
            f" one expression alone {size / statistics.median(one_s) / _MB:.0f} MB/s",
        ),
        Figure(
            "redaction, time over one RE2 expression alone",
            median_ratio(ours_s, one_s),
            "x",
            None,
            "round by round: " + spread([one / other for one, other in zip(ours_s, one_s, strict=True)], "x"),
        ),
        _worst(shop, redactor),
    ]


def _batches(corpus: Corpus) -> list[bytes]:
    """Whole lines, as a push takes them."""
    batches: list[bytes] = []
    for path in corpus.paths:
        data, at = path.read_bytes(), 0
        while at < len(data):
            end = data.rfind(b"\n", at, at + _BATCH_BYTES) + 1 or data.find(b"\n", at) + 1
            batches.append(data[at:end])
            at = end
    return batches


def _took(redactor: Redactor, batches: list[bytes]) -> tuple[int, float]:
    found = 0

    def run() -> None:
        nonlocal found
        for batch in batches:
            found += sum(redactor.redact_lines(batch).counts.values())

    return found, _seconds(run)


def _seconds(run: Callable[[], object]) -> float:
    """Of the processor: what else runs on this machine does not count."""
    began = time.process_time()
    run()
    return time.process_time() - began


def _one_expression() -> Callable[[bytes], object]:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    one = re2.Set.SearchSet(options)
    one.Add(rb"\bghp_[A-Za-z0-9]{36}")
    one.Compile()
    match: Callable[[bytes], object] = one.Match
    return match


def _worst(shop: Workshop, redactor: Redactor) -> Figure:
    took = {}
    for name, make in HOSTILE.items():
        line = make(_LINE_BYTES)
        # The least: other work on the machine only ever adds to it.
        took[name] = min(_seconds(partial(redactor.redact_lines, line)) for _ in range(3))
    slowest = sorted(took, key=lambda name: -took[name])[:3]
    words = ", ".join(f"{name} {took[name]:.2f} s" for name in slowest)
    shop.say(f"redaction: {words}")
    return Figure(
        "redaction, worst line of 10 MB", took[slowest[0]], "s", at_most(1), f"of {len(took)}, least of 3: {words}"
    )
