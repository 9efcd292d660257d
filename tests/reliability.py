"""What the attacks on the promises came to.

A test that tries a fault takes the fixture `tally`, and notes each try. Where TRANSCRIPTD_RELIABILITY names a file, the
sums are added to it, a JSON object a line; `python -m tests.reliability FILE` writes the table in docs/reliability.md
from them. So the table says what was run, not what somebody meant to run.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = "TRANSCRIPTD_RELIABILITY"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- runs: begin -->", "<!-- runs: end -->"


@dataclass
class Tally:
    """`lost` and `duplicated`: entries (or files) that should have reached the server once, and did not, or did
    twice. `where`: the test."""

    promise: str
    fault: str
    where: str
    tried: int = 0
    lost: int = 0
    duplicated: int = 0

    def note(self, tried: int = 1, *, lost: int = 0, duplicated: int = 0) -> None:
        self.tried += tried
        self.lost += lost
        self.duplicated += duplicated

    def note_lines(self, expected: list[bytes], stored: list[bytes]) -> None:
        """One try: what the server should hold, and what it holds."""
        self.note(lost=_missing(expected, stored), duplicated=_missing(stored, expected))

    def close(self) -> None:
        if self.tried and (path := os.environ.get(RESULTS)):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(self)) + "\n")


MakeTally = Callable[[str, str], Tally]
"""Promise and fault, in a few words, to a tally of them."""


def _missing(wanted: Iterable[bytes], there: Iterable[bytes]) -> int:
    left = list(there)
    count = 0
    for line in wanted:
        if line in left:
            left.remove(line)
        else:
            count += 1
    return count


def render_table(rows: Iterable[Tally]) -> str:
    sums: dict[tuple[str, str, str], Tally] = {}
    for row in rows:
        total = sums.setdefault((row.promise, row.fault, row.where), Tally(row.promise, row.fault, row.where))
        total.note(row.tried, lost=row.lost, duplicated=row.duplicated)
    lines = ["| promise | fault | tried | lost | duplicated | test |", "|---|---|---:|---:|---:|---|"]
    lines += [
        f"| {one.promise} | {one.fault} | {one.tried:,} | {one.lost} | {one.duplicated} | `{one.where}` |"
        for _, one in sorted(sums.items())
    ]
    return "\n".join(lines)


def main(results: Path) -> None:
    rows = [Tally(**json.loads(line)) for line in results.read_text(encoding="utf-8").splitlines()]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{render_table(rows)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
