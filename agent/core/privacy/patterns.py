"""What a pattern of the private list may mean, as patterns of `fnmatch` that each mean one thing.

`*`, `?` and `[…]` as in `fnmatch`, so they match slashes too. Besides that:

    {a,b}      a or b
    a/**/b     also a/b
    a/**       also a
    [client]   one of these letters; also as it stands, since folders are called so

Where one can be read in several ways, all count: too much stays here rather than too little.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import translate

MOST_READINGS = 256
_MOST_APART = 6
"""So many pairs of brackets, or `**`, are read each in both ways; of more, all in one way or all in the other."""

_SET = re.compile(r"\[!?\]?[^\]]*\]")
_ESCAPED = frozenset({"[*]", "[?]", "[[]", "[{]", "[#]", "[ ]"})
_ANY_DEPTH = re.compile(r"(?:(?<=/)|^)\*{2,}/")


class _TooMany(Exception):
    """More alternatives than anybody means."""


def expand_pattern(pattern: str) -> tuple[str, ...]:
    """Every reading, the pattern itself first. Braces with more than 256 alternatives are taken as they stand."""
    try:
        found: Iterable[str] = _expand_braces(pattern)
    except _TooMany:
        found = [pattern]
    found = [other for one in found for other in _in_both_ways(one, _SET, _as_it_stands)]
    found = [other for one in found for other in _in_both_ways(one, _ANY_DEPTH, lambda _: "")]
    found += [other for one in found if (other := re.sub(r"/\*{2,}$", "", one)) not in ("", one)]
    return tuple(dict.fromkeys([pattern, *found]))


def is_pattern(text: str) -> bool:
    return re.search(r"[*?[]", text) is not None or next(_find_braces(text), None) is not None


def tell_readings(pattern: str) -> list[str]:
    """What somebody may not expect of it, in words."""
    told = []
    sets = [one for one in _SET.findall(pattern) if _as_it_stands(one) != one and len(one) > 3]
    if sets:
        told.append(f"{sets[0]} means one of these characters, and also a name with the brackets as they stand")
    braces = [pattern[start:end] for start, end, _ in _find_braces(pattern)]
    if braces and len(expand_pattern(pattern)) > 1:
        told.append(f"{braces[0]} means any of these, and also a name with the braces as they stand")
    elif braces:
        told.append(f"braces with more than {MOST_READINGS} alternatives are taken as they stand")
    signs = [one for one in ("\\", "(", "|", ")", "^", "$", "+") if one in pattern]
    signs += ["{"] if "{" in pattern.replace("[{]", "") and not braces else []
    if ".*" in re.sub(r"(^|/)\.", "", pattern):
        signs.append(".*")
    if signs:
        verb = "stands for itself" if len(signs) == 1 else "stand for themselves"
        told.append(f"{' '.join(signs)} {verb}; patterns know *, ?, […] and {{a,b}}, and [*] for a * itself")
    return told


def translate_pattern(pattern: str) -> Iterator[str]:
    """Regular expressions of which one matches all of a name that the pattern means."""
    for one in expand_pattern(pattern):
        yield translate(one)
    yield re.escape(pattern) + r"\Z"


def _expand_braces(text: str) -> list[str]:
    found = next(_find_braces(text), None)
    if found is None:
        return [text]
    start, end, parts = found
    within = [one for part in parts for one in _expand_braces(part)]
    behind = _expand_braces(text[end:])
    if (len(within) + 1) * len(behind) > MOST_READINGS:
        raise _TooMany
    return [text[:start] + one + rest for one in [text[start:end], *within] for rest in behind]


def _find_braces(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """Each pair of braces that is in no other one and holds a comma: where it begins and ends, and what it holds."""
    start, depth, parts, begun = 0, 0, list[str](), 0
    for at, ch in enumerate(text):
        if ch == "{" and text[at - 1 : at + 2] != "[{]":
            depth += 1
            if depth == 1:
                start, parts, begun = at, [], at + 1
        elif ch == "," and depth == 1:
            parts.append(text[begun:at])
            begun = at + 1
        elif ch == "}" and depth:
            depth -= 1
            if depth == 0 and parts:
                yield start, at + 1, [*parts, text[begun:at]]


def _in_both_ways(text: str, what: re.Pattern[str], other: Callable[[str], str]) -> list[str]:
    """The text with each part that `what` matches as it is and as `other` makes it."""
    found = [one for one in what.finditer(text) if other(one[0]) != one[0]]
    ways: Iterable[tuple[bool, ...]] = itertools.product((False, True), repeat=len(found))
    if len(found) > _MOST_APART:
        ways = ((False,) * len(found), (True,) * len(found))
    made = []
    for way in ways:
        pieces, at = [], 0
        for one, is_other in zip(found, way, strict=True):
            pieces += [text[at : one.start()], other(one[0]) if is_other else one[0]]
            at = one.end()
        made.append("".join([*pieces, text[at:]]))
    return made


def _as_it_stands(group: str) -> str:
    """A pair of brackets as a name's own; what the list itself writes for a single sign has one reading only."""
    return group if group in _ESCAPED else "[[]" + group[1:]
