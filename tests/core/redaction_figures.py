"""How much of what is secret is found, and how much that is not: `python -m tests.core.redaction_figures [EACH]`."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from agent.core.redaction.redactor import Redactor, parse_rules
from agent.core.settings import Privacy
from tests.core.secret_places import CONTEXTS, DRESSES, FILE, make_cuts, make_pairs
from tests.core.secret_samples import (
    AROUND,
    BLOCKS,
    Chance,
    Sample,
    innocent_lines,
    make_samples,
    split_over_blocks,
)

KEYS = frozenset(
    [
        "rsa-key",
        "openssh-key",
        "ec-key",
        "encrypted-key",
        "pgp-key",
        "key-without-end",
        "key-in-base64",
        "gcp-service-account",
        "key-behind-certificate",
        "key-in-der",
    ]
)
TOKENS, NAMED, WHOLE_KEYS, APART, CUT = (
    "tokens",
    "by what stands around",
    "private keys",
    "name apart from value",
    "cut keys",
)


class Place(NamedTuple):
    """Which sort of secret, of which kind, in which context (or joint, or cut), in which dress."""

    sort: str
    kind: str
    context: str
    dress: str


class Figures(NamedTuple):
    """`tried`, `missed`: how many secrets there were, and could be seen. `false_hits`: the innocent lines that
    changed."""

    tried: Counter[Place]
    missed: Counter[Place]
    lines: int
    false_hits: list[bytes]

    @property
    def secrets(self) -> int:
        return self.tried.total()

    @property
    def kinds(self) -> int:
        return len({place.kind for place in self.tried})

    @property
    def recall(self) -> float:
        return 1 - self.missed.total() / self.secrets

    @property
    def false_hits_in_10_000(self) -> float:
        return len(self.false_hits) * 10_000 / self.lines if self.lines else 0.0


def measure(each: int, lines: int, redactor: Redactor | None = None, *, whole: bool = True) -> Figures:
    """`each` of every kind in every context; in every dress, or in one that chance takes unless `whole`."""
    redactor = redactor or Redactor(parse_rules(Privacy()), b"k" * 32)
    tried: Counter[Place] = Counter()
    missed: Counter[Place] = Counter()
    for place, one, line in _places(each, whole):
        tried[place] += 1
        clean = b"".join(redactor.redact_pieces([line])) if place.dress == FILE else redactor.redact_lines(line).data
        missed[place] += seen(one, clean)
    false_hits = [line for line in innocent_lines(lines) if redactor.redact_lines(line).data != line]
    return Figures(tried, +missed, lines, false_hits)


def _places(each: int, whole: bool) -> Iterator[tuple[Place, Sample, bytes]]:
    chance = Chance(3)

    def dressed(sort: str, one: Sample, context: str, text: str) -> Iterator[tuple[Place, Sample, bytes]]:
        for dress in DRESSES if whole else (chance.choice(list(DRESSES)),):
            yield Place(sort, one.kind, context, dress), one, DRESSES[dress](chance, text, one.secret)

    for one in make_samples(each):
        sort = WHOLE_KEYS if one.kind in KEYS else NAMED if one.kind in AROUND else TOKENS
        for context, put in CONTEXTS.items():
            yield from dressed(sort, one, context, put(chance, one.text))
        if sort != WHOLE_KEYS:
            yield Place(sort, one.kind, "blocks", BLOCKS), one, split_over_blocks(chance, one)
    for joint, one in make_pairs(each):
        yield from dressed(APART, one, joint, one.text)
    for cut, one in make_cuts(each):
        yield from dressed(CUT, one, cut, one.text)


def seen(one: Sample, line: bytes) -> bool:
    """Whether a part of the secret that would be of use can be read in a text, however it is escaped."""
    text = line.decode().replace("\\u0000", "").replace("\0", "")
    for _ in range(4):
        text = text.replace("\\\\", "\\").replace("\\/", "/").replace('\\"', '"')
    tail, half = one.secret[-12:], len(one.secret) // 2
    return one.secret in text or tail in text or (half > 12 and one.secret[half - 12 : half] in text)


def tables(figures: Figures) -> Iterator[str]:
    """A table for each sort: context by dress, how many of a hundred were found."""
    for sort in dict.fromkeys(place.sort for place in figures.tried):
        tried, missed = ({k: v for k, v in all_.items() if k.sort == sort} for all_ in (figures.tried, figures.missed))
        kinds, count = len({place.kind for place in tried}), sum(tried.values())
        yield f"\n{sort}: {count:,} secrets of {kinds} kinds, {1 - sum(missed.values()) / count:.2%} found"
        dresses = list(dict.fromkeys(place.dress for place in tried))
        yield "| | " + " | ".join(dresses) + " |"
        yield "|---|" + "---:|" * len(dresses)
        for context in dict.fromkeys(place.context for place in tried):
            cells = []
            for dress in dresses:
                there = sum(v for k, v in tried.items() if (k.context, k.dress) == (context, dress))
                gone = sum(v for k, v in missed.items() if (k.context, k.dress) == (context, dress))
                cells.append(f"{100 * (1 - gone / there):.1f}" if there else "")
            yield f"| {context} | " + " | ".join(cells) + " |"


def main() -> int:
    figures = measure(each=int(sys.argv[1]) if len(sys.argv) > 1 else 1, lines=20_000)
    print("| secrets | kinds | found | innocent lines | false hits in 10,000 |\n|---|---|---|---|---|")  # noqa: T201  # a table
    print(  # noqa: T201  # this is what it is for
        f"| {figures.secrets:,} | {figures.kinds} | {figures.recall:.2%} | {figures.lines:,} |"
        f" {figures.false_hits_in_10_000:.1f} |"
    )
    print("\n".join(tables(figures)))  # noqa: T201  # the same
    worst = Counter[tuple[str, str, str]]()
    for place, count in figures.missed.items():
        worst[place.sort, place.kind, place.context] += count
    for (sort, kind, context), count in worst.most_common(60):
        print(f"missed: {sort}, {kind}, {context}: {count}")  # noqa: T201  # the same
    for line in figures.false_hits[:10]:
        print("false:", json.loads(line).get("message"))  # noqa: T201  # made up by the tests
    return 0


if __name__ == "__main__":
    sys.exit(main())
