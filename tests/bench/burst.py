"""How soon all of a burst of new files is known: a restored backup, an unpacked archive."""

import os
import time
from pathlib import Path

from tests.bench.figures import Figure, at_most
from tests.bench.workshop import Workshop
from tests.faults.burst import run_burst


def measure(shop: Workshop) -> list[Figure]:
    files = 30_000 if shop.quick else 300_000
    folder = shop.folder / "burst"
    folder.mkdir()
    burst = run_burst(folder, files)
    walk_s = _walk_s(folder / "projects")
    shop.say(f"burst: {files:,} made in {burst.made_s:.1f} s, {burst.peak_kib / 1024:.0f} MiB at most")
    what = f"burst of {files:,} files"
    return [
        Figure(f"{what}: all seen after the last was made", burst.found_s, "s", at_most(60)),
        Figure(f"{what}: from the first to all seen, over making them", burst.found_s / burst.made_s + 1, "×", None),
        Figure(f"{what}: the same over a plain walk", (burst.made_s + burst.found_s) / walk_s, "×", None),
    ]


def _walk_s(root: Path) -> float:
    began_s = time.monotonic()
    for folder in os.scandir(root):
        for one in os.scandir(folder):
            one.stat()
    return time.monotonic() - began_s
