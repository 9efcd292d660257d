"""Patterns of the private list: whatever somebody may mean by one, it means."""

import re
import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.privacy.patterns import MOST_READINGS, expand_pattern, is_pattern, tell_readings, translate_pattern
from agent.core.privacy.rules import parse_rules, render_folder
from tests.core.test_privacy import at, is_private

MEANT = [
    (
        "/w/[client]/secret-*",
        ["/w/[client]/secret-1", "/w/c/secret-1", "/w/[client]/secret-/deep"],
        ["/w/client/secret-1"],
    ),
    ("/w/[1]/x", ["/w/[1]/x", "/w/1/x"], ["/w/2/x"]),
    ("/w/[a][b]/*", ["/w/[a][b]/x", "/w/ab/x", "/w/a[b]/x", "/w/[a]b/x"], ["/w/[b][a]/x"]),
    ("/w/[!a]*", ["/w/bc", "/w/[!a]c"], ["/w/ac", "/w"]),
    ("/w/**/x", ["/w/x", "/w/a/x", "/w/a/b/x", "/w/a/b/x/c"], ["/w/ax", "/wx", "/w"]),
    ("**/x", ["/x", "/a/x", "/a/b/x/c"], ["/ax"]),
    ("/w/**", ["/w", "/w/a", "/w/a/b"], ["/wa", "/"]),
    ("/w/**/**/x", ["/w/x", "/w/a/x"], ["/w/xa"]),
    ("/w/{a,b}", ["/w/a", "/w/b/deep", "/w/{a,b}"], ["/w/c", "/w/ab"]),
    ("/w/{a,b*}/{c,{d,e}}", ["/w/a/c", "/w/bb/e", "/w/a/{d,e}", "/w/{a,b*}/d"], ["/w/a/f"]),
    ("/w/x{,-old}", ["/w/x", "/w/x-old"], ["/w/x-new"]),
    ("/w/{a}", ["/w/{a}"], ["/w/a"]),
    ("/w/{a,b", ["/w/{a,b"], ["/w/a"]),
    ("/w/a}b", ["/w/a}b"], ["/w/ab"]),
    ("/w/[[]client]", ["/w/[client]"], ["/w/c"]),
    ("/w/[{]a,b}", ["/w/{a,b}"], ["/w/a", "/w/b"]),
    ("/w/[*]", ["/w/*"], ["/w/a"]),
    ("/w/[x", ["/w/[x"], ["/w/x"]),
    ("/w/[", ["/w/["], ["/w/x"]),
]


@pytest.mark.parametrize(("pattern", "covered", "free"), MEANT)
def test_every_way_to_read_a_pattern_counts(pattern: str, covered: list[str], free: list[str]) -> None:
    for folder in covered:
        assert is_private(f"project {pattern}", at(folder)), folder
    for folder in free:
        assert not is_private(f"project {pattern}", at(folder)), folder


@pytest.mark.parametrize(
    "pattern", ["github.com/{acme,corp}/*", "{github.com,gitlab.com}/**/corp/x", "git*/acme/[c]orp"]
)
def test_remotes_are_read_the_same_way(pattern: str) -> None:
    remotes = {
        "github.com/{acme,corp}/*": ["github.com/acme/x", "github.com/corp/y"],
        "{github.com,gitlab.com}/**/corp/x": ["gitlab.com/corp/x", "github.com/a/b/corp/x"],
        "git*/acme/[c]orp": ["github.com/acme/corp", "gitlab.com/acme/[c]orp"],
    }
    for remote in remotes[pattern]:
        assert is_private(f"remote {pattern}", at("/w", frozenset([remote]))), remote
    assert not is_private(f"remote {pattern}", at("/w", frozenset(["github.com/other/y"])))


PIECES = st.sampled_from(
    ["a", "b", "/", "*", "**", "?", "[ab]", "[", "]", "[!a]", "{a,b}", "{", "}", ",", "[*]", "{a,{b,}}", "-"]
)
PATTERNS = st.lists(PIECES, max_size=8).map(lambda parts: "/w/" + "".join(parts))
NAMES = st.text(st.sampled_from("ab/[]{},*-"), max_size=8).map(lambda text: "/w/" + text)


@given(PATTERNS, NAMES)
def test_a_pattern_means_at_least_what_it_meant_as_a_plain_one(pattern: str, name: str) -> None:
    """And each name that is the pattern itself."""
    match = re.compile("|".join(translate_pattern(pattern))).match
    if fnmatchcase(name, pattern):
        assert match(name)
    assert match(pattern)
    assert pattern in expand_pattern(pattern)


@given(NAMES)
def test_a_folder_that_was_named_is_that_folder_alone(name: str) -> None:
    rendered = render_folder(name)
    match = re.compile("|".join(translate_pattern(rendered))).match
    assert match(name.rstrip("/") or "/")
    assert not match(name.rstrip("/") + "x")
    other = name.replace("{", "<").replace("[", "<").replace("*", "<")
    assert other == name or not match(other.rstrip("/"))


@pytest.mark.parametrize(
    "pattern", ["/w/" + "{a,b}" * 30, "/w/" + "[ab]" * 40, "/w" + "/**/a" * 40, "/w/" + "{" * 500 + "," * 500]
)
def test_work_is_bounded(pattern: str) -> None:
    began = time.process_time()
    assert len(expand_pattern(pattern)) <= 4 * MOST_READINGS
    rules = parse_rules(f"project {pattern}")
    assert not rules.decide(at("/v/" + "ab/" * 300)).private
    assert is_private(f"project {pattern}", at(pattern))
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("/w/secret-*", ""),
        ("/w/[*]", ""),
        ("/w/.config/*", ""),
        ("/w/[client]/x", "[client] means one of these characters"),
        ("/w/{a,b}", "{a,b} means any of these"),
        ("/w/" + "{a,b}" * 30, "more than 256 alternatives"),
        ("/w/{1..3}", "{ stands for itself"),
        ("/w/a\\*", "\\ stands for itself"),
        ("/w/(a|b)$", "( | ) $ stand for themselves"),
        ("/w/secret.*", ".* stands for itself"),
    ],
)
def test_what_may_surprise_is_told(pattern: str, told: str) -> None:
    notes = tell_readings(pattern)
    assert told in "\n".join(notes)
    assert bool(notes) == bool(told)


def test_a_plain_name_is_no_pattern() -> None:
    assert [is_pattern(one) for one in ("/w/a", "/w/{a}", "/w/{a,b}", "/w/[a", "/w/*", "/w/?")] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]
