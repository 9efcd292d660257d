"""How much of what is secret is found, and how much that is not: `python -m tests.core.redaction_figures`."""

import json
import sys
from collections import Counter
from typing import NamedTuple

from agent.core.redaction import Redactor, parse_rules
from agent.core.settings import Privacy
from tests.core.secret_samples import (
    BLOCKS,
    EMBEDDINGS,
    Chance,
    Sample,
    innocent_lines,
    make_samples,
    split_over_blocks,
)


class Figures(NamedTuple):
    """`missed`: (kind, embedding) → how many secrets could be seen. `false_hits`: the innocent lines that changed."""

    secrets: int
    kinds: int
    missed: Counter[tuple[str, str]]
    lines: int
    false_hits: list[bytes]

    @property
    def recall(self) -> float:
        return 1 - sum(self.missed.values()) / self.secrets

    @property
    def false_hits_in_10_000(self) -> float:
        return len(self.false_hits) * 10_000 / self.lines


def measure(each: int, lines: int, redactor: Redactor | None = None) -> Figures:
    redactor = redactor or Redactor(parse_rules(Privacy()), b"k" * 32)
    samples, chance = make_samples(each), Chance(3)
    missed: Counter[tuple[str, str]] = Counter()
    count = 0
    for one in samples:
        for name, embed in EMBEDDINGS.items():
            count += 1
            missed[one.kind, name] += seen(one, redactor.redact_lines(embed(chance, one)).data)
        if "key" not in one.kind or "\n" not in one.text:
            count += 1
            missed[one.kind, BLOCKS] += seen(one, redactor.redact_lines(split_over_blocks(chance, one)).data)
    false_hits = [line for line in innocent_lines(lines) if redactor.redact_lines(line).data != line]
    return Figures(count, len({one.kind for one in samples}), +missed, lines, false_hits)


def seen(one: Sample, line: bytes) -> bool:
    """Whether a part of the secret that would be of use can be read in a line of JSON, however it is escaped."""
    text = line.decode()
    for _ in range(4):
        text = text.replace("\\\\", "\\").replace("\\/", "/").replace('\\"', '"')
    tail, half = one.secret[-12:], len(one.secret) // 2
    return one.secret in text or tail in text or (half > 12 and one.secret[half - 12 : half] in text)


def main() -> int:
    figures = measure(each=int(sys.argv[1]) if len(sys.argv) > 1 else 3, lines=20_000)
    print(f"| secrets | kinds | found | innocent lines | false hits in 10,000 |\n|---|---|---|---|---|")  # noqa: F541, T201  # a table
    print(  # noqa: T201  # this is what it is for
        f"| {figures.secrets:,} | {figures.kinds} | {figures.recall:.2%} | {figures.lines:,} |"
        f" {figures.false_hits_in_10_000:.1f} |"
    )
    for (kind, name), count in figures.missed.most_common(20):
        print(f"missed: {kind}, {name}: {count}")  # noqa: T201  # the same
    for line in figures.false_hits[:10]:
        print("false:", json.loads(line).get("message"))  # noqa: T201  # made up by the tests
    return 0


if __name__ == "__main__":
    sys.exit(main())
