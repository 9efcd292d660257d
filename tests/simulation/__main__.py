"""Stories by hand: `python -m tests.simulation SEED` tells one step by step, `soak [COUNT [FIRST]]` tries many and
stops at the first that ends badly."""

import os
import sys
import time

from tests.simulation.seeds import Failed, quiet, run_seeds, tell
from tests.simulation.story import Story

SOAK = 1_000_000
PROGRESS_S = 10.0


def tell_story(seed: int) -> int:
    with quiet():
        story = Story(seed)
        try:
            story.run()
        finally:
            sys.stdout.write("\n".join(story.trace) + "\n")
    sys.stdout.write(f"seed {seed} ends well: {story.fingerprint()[:16]}\n")
    return 0


def print_fingerprints(first: int, stop: int) -> int:
    with quiet():
        for seed in range(first, stop):
            story = Story(seed)
            story.run()
            sys.stdout.write(f"{seed} {story.fingerprint()}\n")
    return 0


def soak(count: int = SOAK, first: int = 0) -> int:
    began_s = said_s = time.monotonic()

    def heard(done: int, failed: list[Failed]) -> bool:
        nonlocal said_s
        if time.monotonic() - said_s >= PROGRESS_S:
            said_s = time.monotonic()
            sys.stderr.write(f"{done:,} of {count:,} seeds from {first}, {done / (said_s - began_s):.0f} a second\n")
        return not failed

    done, failed = run_seeds(first, count, workers=os.cpu_count() or 1, heard=heard)
    for one in failed:
        sys.stdout.write(f"{one}\n")
    if not failed:
        sys.stdout.write(f"{done:,} seeds from {first} end well\n")
    return 1 if failed else 0


def main(arguments: list[str]) -> int:
    match arguments:
        case ["tell", first, stop, step]:
            tell(int(first), int(stop), int(step))
            return 0
        case ["fingerprints", first, stop]:
            return print_fingerprints(int(first), int(stop))
        case ["soak", *rest]:
            return soak(*map(int, rest))
        case [seed] if seed.isdigit():
            return tell_story(int(seed))
    sys.stderr.write(f"{__doc__}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
