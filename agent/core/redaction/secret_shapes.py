"""What a rule for secrets is, and the parts that many of them share.

A rule's regular expression is in RE2's syntax over bytes. The first group that took part is the secret; without a group
all of the match is. `check` names a further look at what matched, in `agent/core/redaction/secret_checks.py`.
"""

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """`screen` is a cheaper expression that matches wherever `pattern` does, and that does not mind how the text around
    is escaped; empty: derived from `pattern`. `anywhere`: the secret's first letters say what it is, whatever stands
    before them. `rough` matches wherever the screen does: what is cheaper for an engine that counts well."""

    kind: str
    pattern: str
    check: str = ""
    screen: str = ""
    anywhere: bool = False
    rough: str = ""


TERMINAL_CODE = r"(?:\x1b|\\(?:x1[bB]|033|e|u001[bB]))\[[0-9;:?]*[A-Za-z]"
"""A colour, or what else begins with `ESC [`; as it is, and as programs write it out."""

_WORD = rf"(?:\b|_|[%=][0-9A-Fa-f]{{2}}|{TERMINAL_CODE})"
"""The beginning of a word, as people see it: a colour code ends in a letter, what is written as `%3D` or `=3D` in a
digit or a letter, and names are joined by underscores."""

BLANK = r"(?:\n\s*[0-9]{1,7}[\x80-\xff:|\t-]{1,3}|\n[+-]|\s)"
"""A blank, or a line's end with what tools put before the next line: its number, or the sign of a diff."""

# Between a name and its value: blanks, quotes, and what JSON makes of them, once or several times.
GAP = r"""(?:[\s"'`\\]|\\[nrt])*"""
IS = GAP + r"(?:=>|:=|=|:|,)" + GAP
END = r"(?:[^A-Za-z0-9+/_-]|$)"
UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"

NAME_OF_ONE = (
    r"(?i:api_?-?key|apikey|access_?-?key|secret|token|passw(?:or)?d|passwd|passphrase|pwd|credential|auth_?-?key"
    r"|private_?-?key|encryption_?-?key|signing_?-?key|master_?-?key|account_?-?key|client_?-?key|_key|bearer)"
)
"""What a name has to hold so that a random value beside it is taken for a secret."""


def token(kind: str, shape: str, check: str = "", screen: str = "", rough: str = "") -> Rule:
    """A secret that its first letters give away, wherever they stand."""
    return Rule(kind, f"(?:{shape})", check, screen, anywhere=True, rough=rough)


def _named(words: str, value: str) -> str:
    """A value that only its name gives away."""
    return rf"(?i:{words})[A-Za-z0-9_.-]{{0,24}}{IS}({value}){END}"


def _named_screen(words: str, value: str) -> str:
    return rf"(?i:{words})[A-Za-z0-9_.-]*{IS}(?:{value})"


def in_context(kind: str, words: str, value: str, check: str = "") -> Rule:
    return Rule(kind, _named(words, value), check, _named_screen(words, value))


def pattern_of(rule: Rule) -> str:
    r"""What is compiled: `\b` at a pattern's beginning is a border as people see it."""
    return _WORD + rule.pattern.removeprefix(r"\b") if rule.pattern.startswith(r"\b") else rule.pattern


def ends_with_its_value(rule: Rule) -> bool:
    """Whether a name is followed by a value of any length, with which the match ends."""
    return (
        rule.check in ("assigned", "assigned-password")
        and rule.pattern.startswith("(?i:")
        and rule.pattern.endswith("})")
    )


_SCREEN_MOST = 10
"""How many characters of a class a screen counts. Each counted one is a state of the automaton, in memory."""


def screen_of(rule: Rule) -> str:
    """An expression that matches wherever the rule's does in escaped text, too, and that keeps the automaton of all of
    them small: the pattern up to its first long repetition, without borders of words. Which letter an escape ends with
    would matter to them, and an automaton with borders has twice the states."""
    if rule.screen == rule.pattern:  # a user's
        return rule.screen
    return _as_written((rule.screen or _beginning(rule.pattern)).replace(r"\b", ""))


_BLANKS_AND_QUOTES = re.compile(r"\\\\|\\s|\\?\"|\[(\^?)((?:\\.|[^\]\\])*)\]|\\.")


def _as_written(text: str) -> str:
    """The expression, which also matches blanks and quotes as they stand in a string of JSON, or in one within it."""

    def one(match: re.Match[str]) -> str:
        sign, negated, members = match[0], match[1], match[2]
        if sign == r"\s" or (members and not negated and r"\s" in members):
            return rf"(?:{sign}|\\+[nrt])"
        if sign in ('"', r"\"") or (members and not negated and '"' in members and r"\\" not in members):
            return rf"\\*{sign}"
        return sign

    return _BLANKS_AND_QUOTES.sub(one, text)


def _beginning(text: str) -> str:
    """The pattern up to its first long repetition."""
    text = text.replace(r"\b", "")
    kept, depth, in_class, at = [""], 0, False, 0
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
