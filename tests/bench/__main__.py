"""`make bench`: every measurement, one table. `python -m tests.bench latency idle --quick` for a part of it."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from tests.bench import (
    backlog,
    burst,
    commands,
    fairness,
    idle,
    intake,
    latency,
    lossy,
    memory,
    reading,
    redaction,
    sessions,
    tail,
)
from tests.bench.children import ChildFailed
from tests.bench.figures import Figure, print_table
from tests.bench.machine import machine_words
from tests.bench.servers import NoCompiler, compile_receiver
from tests.bench.workshop import Workshop

MEASUREMENTS: Mapping[str, Callable[[Workshop], list[Figure]]] = {
    "backlog": backlog.measure_bulk,
    "base": backlog.measure_base,
    "lossy": lossy.measure,
    "latency": latency.measure,
    "tail": tail.measure,
    "fairness": fairness.measure,
    "burst": burst.measure,
    "idle": idle.measure,
    "memory": memory.measure,
    "status": commands.measure,
    "capture": commands.measure_capture,
    "intake": intake.measure,
    "redaction": redaction.measure,
    "sessions": sessions.measure,
    "reading": reading.measure,
}


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS) + "; all without one")
    arguments.add_argument("--quick", action="store_true", help="smaller corpora and shorter waits: two minutes")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = arguments.parse_args()
    unknown = set(given.names) - set(MEASUREMENTS)
    if unknown:
        arguments.error(f"{', '.join(sorted(unknown))}: there are {', '.join(MEASUREMENTS)}")
    if sys.platform != "linux":
        arguments.error("the bench reads /proc and uses epoll, so it needs Linux")
    figures: list[Figure] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="td-bench-", ignore_cleanup_errors=True) as folder:
        shop = Workshop(Path(folder), quick=given.quick)
        facts = machine_words(shop.folder)
        try:
            compile_receiver(shop.folder)
        except NoCompiler as exc:
            print(exc, file=sys.stderr)
            return 69
        for name in given.names or MEASUREMENTS:
            shop.say(name)
            try:
                figures += MEASUREMENTS[name](shop)
            except ChildFailed as exc:
                shop.say(f"{name} failed: {exc}")
                failed.append(f"{name} failed: {exc}")
        shop.say("done")
    if given.quick:
        facts.append("--quick: smaller corpora, so the figures are rough")
    print_table(figures, facts + failed)
    if given.json:
        rows = [one._asdict() | {"verdict": one.verdict()} for one in figures]
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode({"figures": rows, "machine": facts})) + b"\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
