"""What a rule for secrets is, and the parts that many of them share.

A rule's regular expression is in RE2's syntax over bytes. The first group that took part is the secret; without a group
all of the match is. `check` names a further look at what matched, in `agent/core/secret_checks.py`.
"""

from typing import NamedTuple


class Rule(NamedTuple):
    """`screen` is a cheaper expression that matches wherever `pattern` does, and that does not mind how the text around
    is escaped; empty: derived from `pattern`."""

    kind: str
    pattern: str
    check: str = ""
    screen: str = ""


BEGIN = r"(?:\b|\\[nrtbf]|\\u[0-9A-Fa-f]{4})"
"""The beginning of a word, also where an escape stands before it."""

# Between a name and its value: blanks, quotes, and what JSON makes of them, once or several times.
GAP = r"""(?:[\s"'`\\]|\\[nrt])*"""
IS = GAP + r"(?:=>|:=|=|:|,)" + GAP
END = r"(?:[^A-Za-z0-9+/_-]|$)"
UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"


def _named(words: str, value: str) -> str:
    """A value that only its name gives away."""
    return rf"(?i:{words})[A-Za-z0-9_.-]{{0,24}}{IS}({value}){END}"


def _named_screen(words: str, value: str) -> str:
    return rf"(?i:{words})[A-Za-z0-9_.-]*{IS}(?:{value})"


def in_context(kind: str, words: str, value: str, check: str = "") -> Rule:
    return Rule(kind, _named(words, value), check, _named_screen(words, value))


_SCREEN_MOST = 10
"""How many characters of a class a screen counts. Each counted one is a state of the automaton, in memory."""


def screen_of(rule: Rule) -> str:
    """An expression that matches wherever the rule's does in escaped text, too, and that keeps the automaton of all of
    them small: the pattern up to its first long repetition."""
    if rule.screen:
        return rule.screen
    text = rule.pattern
    begin = BEGIN if text.startswith(r"\b") else ""
    text = text.removeprefix(r"\b")
    kept, depth, in_class, at = [begin], 0, False, 0
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            kept.append(text[at : at + 2])
            at += 2
            continue
        if in_class:
            in_class = sign != "]"
        elif sign == "[":
            in_class = True
        elif sign in "()":
            depth += 1 if sign == "(" else -1
        elif sign == "{" and depth <= 1:
            end = text.index("}", at) + 1
            least = int(text[at + 1 : end - 1].partition(",")[0])
            if least > _SCREEN_MOST:
                return "".join(kept) + f"{{{_SCREEN_MOST}}}" + ")" * depth
            kept.append(f"{{{least},}}" if "," in text[at:end] else text[at:end])
            at = end
            continue
        kept.append(sign)
        at += 1
    return "".join(kept)
