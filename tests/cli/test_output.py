"""How we speak: sizes and ages in words, and nothing from a transcript that a terminal would obey."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.output import (
    STATE_WORDS,
    age_words,
    clean,
    console,
    make_table,
    plural,
    print_json,
    size_words,
    state_text,
)
from agent.core.delivery.lifecycle import State


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (1_449, "1.4 kB"),
        (99_400, "99.4 kB"),
        (99_900, "100 kB"),
        (999_400, "999 kB"),
        (999_600, "1.0 MB"),
        (5_340_000, "5.3 MB"),
        (1_000_000_000, "1.0 GB"),
        (999_900_000_000, "1.0 TB"),
        (39_900_000_000_000, "39.9 TB"),
    ],
)
def test_sizes_have_two_or_three_digits_and_a_unit(count: int, words: str) -> None:
    assert size_words(count) == words


@given(st.integers(0, 10**16))
def test_a_larger_size_never_reads_smaller(count: int) -> None:
    units = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
    number, unit = size_words(count).split()
    assert float(number) * units[unit] == pytest.approx(count, rel=0.051, abs=0.6)
    assert unit == "TB" or float(number) < 1_000


@pytest.mark.parametrize(
    ("age_s", "words"),
    [
        (0, "0 s ago"),
        (-5, "0 s ago"),
        (89, "89 s ago"),
        (90, "2 min ago"),
        (5_399, "90 min ago"),
        (5_400, "2 h ago"),
        (129_599, "36 h ago"),
        (129_600, "2 days ago"),
        (864_000, "10 days ago"),
    ],
)
def test_ages_have_one_unit(age_s: float, words: str) -> None:
    assert age_words(1_000_000_000 - age_s, 1_000_000_000) == words


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 sessions"), (1, "1 session"), (2, "2 sessions"), (12_345, "12,345 sessions")]
)
def test_one_is_one_and_everything_else_is_many(number: int, words: str) -> None:
    assert plural(number, "session") == words


NASTY = {
    "colour": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x1b\\",
    "cursor": "\x1b[2J\x1b[1;1H",
    "8 bit": "\x9b31m",
    "lines": "a\r\nb\vc\fd\x85e\u2028f\u2029g",
    "bell": "\x07\b\x7f",
    "backwards": "\u202egpj.exe\u2066x\u2069",
    "invisible": "a\u200bb\ufeffc\u00ad",
    "not UTF-8": "caf\udce9",
    "nul": "\x00",
}


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_nothing_that_a_terminal_obeys_gets_through(text: str) -> None:
    shown = clean(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    shown.encode()


@given(st.text(), st.integers(0, 40))
def test_what_is_shown_is_one_line_of_at_most_its_width(text: str, width: int) -> None:
    shown = clean(text, width)
    assert shown.isprintable()
    assert not width or len(shown) <= width
    assert shown == "".join(ch if ch.isprintable() else " " for ch in text) or shown.endswith("…")


def test_ordinary_text_stays_as_it_is() -> None:
    assert clean("Gezeiten für Ada — 潮 🌊") == "Gezeiten für Ada — 潮 🌊"
    assert clean("12345", 5) == "12345"
    assert clean("123456", 5) == "1234…"


def test_every_state_has_words_of_its_own() -> None:
    assert set(STATE_WORDS) == set(State)
    for state in State:
        assert str(state_text(state)) == STATE_WORDS[state][0]
    assert str(state_text("new_state")) == "new_state"


def test_what_looks_like_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Titles may hold anything; one must not end the listing of all."""
    console().print(make_table([("name", "left"), ("what", "fold")], [("[red]x[/]", "[/nothing] :smile:")]))
    console().print("[bold]/home/[ada][/x]")
    out = capsys.readouterr().out
    for text in ("[red]x[/]", "[/nothing] :smile:", "[bold]/home/[ada][/x]"):
        assert text in out


@pytest.mark.parametrize("value", [{"a": "ü\u2028"}, {"path": "caf\udce9"}, [1, None, "\x1b"]])
def test_json_is_one_line_that_reads_back_equal(value: object, capsys: pytest.CaptureFixture[str]) -> None:
    print_json(value)
    out = capsys.readouterr().out
    assert out.endswith("\n")
    assert out.count("\n") == 1
    out.encode()
    assert json.loads(out) == value
