"""What is found, what is not, and that the look at bytes never says no where the text says yes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.sessions.search_terms import LONGEST_TERM, MOST_TERMS, Matcher, parse_terms, snippet
from agent.errors import UsageError


def places(matcher: Matcher, line: bytes) -> list[tuple[int, int]]:
    found, at = [], 0
    where = matcher.places(line, len(line))
    while (span := where.find(at)) is not None:
        found.append(span)
        at = span[1]
    return found


def finds(words: list[str], text: str) -> bool:
    return Matcher(parse_terms(words)).find(text) is not None


@pytest.mark.parametrize(
    ("words", "text", "found"),
    [
        (["deploy"], "please Deploy it", True),
        (["deploy"], "redeployed", False),
        (["deploy"], "deploy_all", False),
        (["deploy*"], "deployment", True),
        (["deploy script"], "a script to deploy", True),
        (['"deploy script"'], "a script to deploy", False),
        (['"deploy script"'], "deploy\n\t script.", True),
        (["deploy script", "now"], "now deploy the script", False),
        (["foo.py"], "in foo.py:3", True),
        (["foo.py"], "in fooxpy", False),
        (["größe"], "die GRÖßE", True),
        (["日本"], "今日本語", True),
        (["--json"], "use --json please", True),
        (["c++"], "in C++ code", True),
        (["(a|b)"], "ab", False),
    ],
)
def test_words_are_found_as_people_mean_them(words: list[str], text: str, found: bool) -> None:
    assert finds(words, text) is found


def test_nothing_and_too_much_are_refused() -> None:
    for words in ([], [""], ['""'], ["x"] * (MOST_TERMS + 1), ["x" * (LONGEST_TERM + 1)]):
        with pytest.raises(UsageError):
            parse_terms(words)


WORDS = st.text(alphabet="abkKsSéÉß日ж0_zZ/", min_size=1, max_size=6)


@given(
    word=WORDS,
    before=st.sampled_from(["", "\n", "\t", '"', "x ", "\\", "é ", "/"]),
    after=st.sampled_from(["", "\n", " y", '"']),
)
def test_what_stands_in_a_text_is_seen_in_its_line_however_that_is_escaped(word: str, before: str, after: str) -> None:
    text = before + word + after
    matcher = Matcher(parse_terms([word]))
    if matcher.find(text) is None:
        return
    for escaped in (True, False):
        line = json.dumps({"type": "user", "text": text}, ensure_ascii=escaped).encode()
        assert any(matcher.may_be(line, *span) for span in places(matcher, line)), line


def test_words_of_the_format_are_no_text() -> None:
    matcher = Matcher(parse_terms(["user"]))
    line = b'{"type":"user","role":"user","user":1,"text":"user"}'
    assert [matcher.may_be(line, *one) for one in places(matcher, line)] == [False, False, False, True]


@pytest.mark.parametrize("word", ["zone", "Zß", "q", "x9", "ärger", "日本", "/home", "deploy"])
def test_places_come_from_left_to_right_however_a_word_is_spelt(word: str) -> None:
    ways = (word, word.title(), json.dumps(word)[1:-1], word.replace("/", "\\/"), word)
    line = "  ".join(ways).encode()
    found = places(Matcher(parse_terms([word])), line)
    assert found == sorted(found)
    assert len(found) == len(ways)


def test_a_snippet_is_one_short_line_around_the_find() -> None:
    text = "a\n" * 200 + "needle\n\n" + "b " * 900
    shown, begin, end = snippet(text, (400, 406))
    assert shown[begin:end] == "needle"
    assert "\n" not in shown
    assert len(shown) < 250
    assert (shown[0], shown[-1]) == ("…", "…")
