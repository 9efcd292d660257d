"""One pass over a text, by either engine: both give the same, for every text."""

import random
import sys
import threading
from collections.abc import Sequence

import pytest

from agent.core.redaction import screening
from agent.core.redaction.borrowed_rules import borrowed_rules
from agent.core.redaction.finding import SIGNALS
from agent.core.redaction.screening import Screen, check_screen, screen_by_hyperscan, screen_by_re2
from agent.core.redaction.secret_rules import RULES
from agent.core.redaction.secret_shapes import screen_of
from agent.errors import SettingsError
from tests.core.secret_places import CONTEXTS, make_cuts, make_pairs
from tests.core.secret_samples import Chance, innocent_lines, make_samples

ROUGH = {screen_of(rule): rule.rough or screen_of(rule) for rule in (*RULES, *borrowed_rules())}
ROUGH |= {signal: signal for signal in SIGNALS}
BY_RE2 = screen_by_re2(list(ROUGH))


def by_hyperscan(expressions: Sequence[str], rough: Sequence[str]) -> Screen:
    """There is one for each machine that the tests run on, or they say so."""
    made = screen_by_hyperscan(expressions, rough)
    if made is None:
        pytest.skip("Hyperscan has no wheel for this machine")
    return made


def texts() -> list[bytes]:
    chance = Chance(5)
    some = [put(chance, one.text) for one in make_samples(1, seed=6) for put in CONTEXTS.values()]
    some += [one.text for _, one in (*make_pairs(1), *make_cuts(1))]
    cut = random.Random(7)
    made = [text.encode() for text in some]
    made += [one[: cut.randrange(len(one) + 1)] for one in made]
    made += [one[:20] + cut.randbytes(8) + one[20:] for one in made[:2_000]]
    return [*made, *innocent_lines(3_000), b"", b"\n", bytes(range(256)) * 9]


def test_both_give_the_same_whatever_the_text() -> None:
    screen = by_hyperscan(list(ROUGH), list(ROUGH.values()))
    lines = texts()
    assert len(lines) > 10_000
    assert sum(BY_RE2(line) is not None for line in lines) > 3_000
    for line in lines:
        assert sorted(screen(line) or ()) == sorted(BY_RE2(line) or ()), line


def test_a_rough_expression_is_asked_again() -> None:
    screen = by_hyperscan(["ab{20}c", "x"], ["abb", "x"])
    assert screen(b"abbbx") == [1]
    assert screen(b"abbb") is None
    assert sorted(screen(b"-a" + b"b" * 20 + b"c x") or ()) == [0, 1]


def test_threads_do_not_wait_for_each_other() -> None:
    screen = by_hyperscan(list(ROUGH), list(ROUGH.values()))
    lines = texts()[:400]
    want = [screen(line) for line in lines]
    got: dict[int, list[list[int] | None]] = {}
    threads = [
        threading.Thread(target=lambda n=n: got.__setitem__(n, [screen(line) for line in lines])) for n in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert [got[number] for number in range(4)] == [want] * 4


def test_without_hyperscan_it_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hyperscan", None)
    assert screen_by_hyperscan(["a"], ["a"]) is None


def test_what_hyperscan_does_not_take_is_left_to_the_other() -> None:
    assert screen_by_hyperscan([r"(a)\1"], [r"(a)\1"]) is None


def test_the_other_one_takes_over_when_there_is_much_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "MUCH_BYTES", 100)
    asked: list[bytes] = []

    def other(expressions: Sequence[str], rough: Sequence[str]) -> Screen:
        assert (expressions, rough) == (["ab+c"], ["ab"])
        return asked.append

    monkeypatch.setattr(screening, "screen_by_hyperscan", other)
    screen = screening.screen_by_either(["ab+c"], ["ab"])
    assert screen(b"x abbc" + bytes(94)) == [0]
    assert not asked
    assert screen(b"x abbc") is None
    assert screen(b"y abbc") is None
    assert asked == [b"x abbc", b"y abbc"]
    monkeypatch.setattr(screening, "screen_by_hyperscan", lambda expressions, rough: None)
    screen = screening.screen_by_either(["ab+c"], ["ab"])
    assert [screen(b"x abbc") for _ in range(30)] == [[0]] * 30


def test_a_screen_that_sees_nothing_is_told() -> None:
    check_screen(BY_RE2)
    with pytest.raises(SettingsError, match="too many"):
        check_screen(lambda text: None)
    with pytest.raises(SettingsError, match="too many"):
        screening.screen_by_re2([f"{number}[a-z]{{500}}" * 20 for number in range(100)])
