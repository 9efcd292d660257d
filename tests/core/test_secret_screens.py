"""What the cheap look lets through nobody looks at again: it sees whatever a rule finds, however that is escaped."""

import json
import random
import re
import string
from collections.abc import Callable, Iterable
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from agent.core.redaction.borrowed_rules import borrowed_rules
from agent.core.redaction.finding import Searcher
from agent.core.redaction.redactor import Redactor, parse_rules
from agent.core.redaction.secret_checks import is_secret
from agent.core.redaction.secret_rules import RULES
from agent.core.settings import Privacy
from tests.core.secret_places import CONTEXTS, make_cuts, make_pairs
from tests.core.secret_samples import ALNUM, Chance, make_samples
from tests.redactors import REDACTOR

ALL = (*RULES, *borrowed_rules())
SEARCHER = Searcher(ALL)
LEADS = ("", "\n", " ", '"', "\t", "x\n", "'\\n", "\x1b[32m", "_", "=3D", "\u2192")
ENDS = ("", "\n", '"', " x", "\\n")
EACH = 10
SIGNS: str = string.printable[:95] + "\n\t"


def numbers_of(hits: list[int] | None) -> set[int]:
    return {number for hit in hits or () for number in SEARCHER.numbers_of(hit)}


def draw(chance: Chance, parsed: Iterable[tuple[Any, Any]]) -> str:
    """A text that a parsed expression matches, but for borders: repetitions are short or a little longer."""
    return "".join(_DRAW[str(kind)](chance, value) for kind, value in parsed)


def _repeat(chance: Chance, value: tuple[int, int, Any]) -> str:
    least, most, inner = value
    return "".join(draw(chance, inner) for _ in range(chance.randint(least, min(int(most), least + 2))))


def _one_of(chance: Chance, parts: list[tuple[Any, Any]]) -> str:
    """A sign of a class."""
    if str(parts[0][0]) == "NEGATE":
        taken = {sign for part in parts[1:] for sign in _signs(*part)}
        return chance.choice([sign for sign in SIGNS if sign not in taken])
    return chance.choice([sign for part in parts for sign in _signs(*part)])


def _signs(kind: Any, value: Any) -> list[str]:
    if str(kind) == "LITERAL":
        return [chr(value)]
    if str(kind) == "RANGE":
        return [chr(code) for code in range(value[0], value[1] + 1)]
    return list(_CATEGORIES[str(value)])


_CATEGORIES = {"CATEGORY_SPACE": " \n\t", "CATEGORY_DIGIT": string.digits, "CATEGORY_WORD": ALNUM + "_"}
_CATEGORIES["CATEGORY_NOT_SPACE"] = string.printable[:94]
_DRAW: dict[str, Callable[[Chance, Any], str]] = {
    "LITERAL": lambda c, value: chr(value),
    "NOT_LITERAL": lambda c, value: c.choice([sign for sign in SIGNS if sign != chr(value)]),
    "ANY": lambda c, value: c.choice(SIGNS),
    "IN": _one_of,
    "BRANCH": lambda c, value: draw(c, c.choice(value[1])),
    "SUBPATTERN": lambda c, value: draw(c, value[3]),
    "MAX_REPEAT": _repeat,
    "MIN_REPEAT": _repeat,
    "AT": lambda c, value: "",
}


def check(number: int, text: str) -> bool:
    """At each level on the way from the text as it stands in an entry to what it reads as, something is seen; and the
    rule itself where it matches."""
    raw = text.encode("latin-1", "replace")
    found = SEARCHER.matcher(number).search(raw)
    if found is None:
        return False
    secret = next((one for one in found.groups() if one), found.group())
    if not is_secret(ALL[number].check, b"", secret):
        return True  # what is none need not be seen
    assert number in numbers_of(SEARCHER.screen(raw)), (ALL[number], raw)
    level = text
    for _ in range(3):
        level = json.dumps(level)
        assert SEARCHER.screen(level.encode()), (ALL[number], level)
    return True


@pytest.mark.parametrize("number", range(len(ALL)), ids=lambda number: f"{number}-{ALL[number].kind}")
def test_a_screen_matches_wherever_its_rule_does(number: int) -> None:
    chance = Chance(number)
    text = ALL[number].pattern.removeprefix(r"\b")
    flags = re.IGNORECASE if "(?i)" in text else 0
    parsed = list(_parser.parse(text.replace("(?i)", ""), flags))
    tried = sum(
        check(number, chance.choice(LEADS) + draw(chance, parsed) + chance.choice(ENDS)) for _ in range(EACH * 3)
    )
    assert tried >= EACH // 4


def test_screens_match_real_samples_too() -> None:
    """What expressions draw is short and odd; these are as they come."""
    chance = Chance(9)
    texts = [put(chance, one.text) for one in make_samples(1, seed=8) for put in CONTEXTS.values()]
    texts += [one.text for _, one in (*make_pairs(1), *make_cuts(1))]
    texts = [text for text in texts if REDACTOR.redact_text(text) != text]
    assert len(texts) > 1_000
    for text in texts:
        level = text
        for _ in range(3):
            level = json.dumps(level, ensure_ascii=random.Random(level).random() < 0.5)
            assert SEARCHER.screen(level.encode()), level


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"\bPROJ-[0-9]{4}\b", "PROJ-1234"),
        (r"ticket:\s+[a-z]+", "ticket:\n  abc"),
        (r"^word$", "word"),
        (r'name="[a-z]+"', 'name="abc"'),
        (r"(?m)^key.*$", "key abc"),
        (r"[^\n]b\\c", r"ab\c"),
    ],
)
def test_the_expressions_of_a_user_are_looked_for_behind_escapes(pattern: str, text: str) -> None:
    """They have no cheaper one: where a line begins or a quote stands is another thing in the text of an entry."""
    redactor = Redactor(parse_rules(Privacy(patterns=(f"own: {pattern}",))), b"k" * 32)
    line = text if pattern.startswith("^") else f"first\n{text}\nlast" if "(?m)" not in pattern else f"first\n{text}"
    level: object = {"a": line}
    if pattern == "^word$":
        assert b"[redacted:own:" in redactor.redact_lines(b"word").data
        return
    for _ in range(3):
        raw = json.dumps(level).encode()
        assert b"[redacted:own:" in redactor.redact_lines(raw).data, raw
        level = {"b": raw.decode()}
