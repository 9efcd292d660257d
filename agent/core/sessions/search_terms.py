r"""What somebody searches for, as patterns: one that finds lines of a file fast, and one that decides.

    deploy script     both words, anywhere in one message
    "deploy script"   the two, one after the other, whatever blanks or line ends stand between
    deploy*           words that begin so

Words are whole words, whatever their case. In a file a word may stand escaped (`\u00f6`, or right behind a `\n`), so
the bytes of a line are only asked whether it is worth decoding: never a no too many. RE2 takes time in proportion to
the text whatever the pattern: for a GB 3 s, or 0.8 where the pattern begins with letters in either case, or 0.1 and 12
ns for each occurrence of its first byte where it begins with certain bytes. So a word has a pattern for each way to
spell its beginning where these are few and rare.
"""

import itertools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from agent.errors import UsageError

MOST_TERMS = 16
LONGEST_TERM = 256

_TERM = re.compile(r'"([^"]*)"(\*?)|(\S+)')
_BLANK_IN_FILE = rb"(?:[ \t]|\\[nrtf]|\\u00[0aA][0-9a-dA-D])+"
_NO_WORD = r"[^\pL\pM\pN_]"
_DFA_BYTES = 8 << 20

_NAMING_KEYS = ("type", "role", "userType")
_NAME_BEGINS = tuple(f'"{key}":{blank}"'.encode() for key in _NAMING_KEYS for blank in ("", " "))
"""A word that stands alone behind one of these is a name of the format, as is one before a colon."""

_MARKED_BEFORE = 60
_SNIPPET_CHARACTERS = 200


class Term(NamedTuple):
    """`words`: one, or those of a phrase. `is_prefix`: the last one may go on."""

    words: tuple[str, ...]
    is_prefix: bool


def parse_terms(words: Sequence[str]) -> list[Term]:
    """What was typed; an argument with blanks in it is a phrase, as are words in quotes. Raises UsageError."""
    found = []
    for argument in words:
        text = f'"{argument}"' if len(words) > 1 and " " in argument.strip() and '"' not in argument else argument
        for quoted, star, word in _TERM.findall(text):
            is_prefix = bool(star) or (word.endswith("*") and len(word) > 1)
            parts = tuple((quoted or (word[:-1] if is_prefix else word)).replace('"', " ").split())
            if parts:
                found.append(Term(parts, is_prefix))
    if not found or len(found) > MOST_TERMS or any(len("".join(one.words)) > LONGEST_TERM for one in found):
        what = "nothing to search for" if not found else f"{len(found)} words, at most {MOST_TERMS} of {LONGEST_TERM}"
        raise UsageError(what, hint='transcriptd sessions search "deploy script"')
    return found


class Matcher:
    """`others`: for each term but the rarest (longest), the patterns of which one fits where it stands in a file."""

    def __init__(self, terms: Sequence[Term]) -> None:
        import re2  # 3 MB, which only those who search need

        in_bytes, in_text = re2.Options(), re2.Options()
        for one in (in_bytes, in_text):
            one.max_mem = _DFA_BYTES
            one.log_errors = False
        in_text.case_sensitive = False
        in_bytes.encoding = re2.Options.Encoding.LATIN1
        ordered = sorted(terms, key=lambda one: -len("".join(one.words)))
        self._rarest, *self.others = [[re2.compile(way, in_bytes) for way in _in_file(one)] for one in ordered]
        self._begins = _bounds(ordered[0].words[0][0])
        self._ends = _bounds(ordered[0].words[-1][-1]) and not ordered[0].is_prefix
        self._texts: list[Any] = [re2.compile(_in_text(one), in_text) for one in ordered]

    def places(self, data: bytes, end: int) -> "Places":
        """Where the first term may stand before `end`."""
        return Places(self._rarest, data, end)

    def may_be(self, data: bytes, start: int, end: int) -> bool:
        """Whether what `places` found in a file's bytes is worth decoding its line: not a part of a word, and not a
        word of the format itself (`"user"`, where no text stands)."""
        before, after = data[start - 1 : start], data[end : end + 1]
        if before == after == b'"' and data[max(0, start - 2) : start - 1] != b"\\":
            return data[end + 1 : end + 2] != b":" and not data[max(0, start - 16) : start].endswith(_NAME_BEGINS)
        is_escape = data[max(0, start - 2) : start - 1] == b"\\" or data[max(0, start - 6) : start - 4] == b"\\u"
        if self._begins and before.isalnum() and not is_escape:
            return False
        return not (self._ends and (after.isalnum() or after == b"_"))

    def find(self, text: str) -> tuple[int, int] | None:
        """Where the first term stands in a message in which all do; None where one is missing."""
        first = None
        for pattern in self._texts:
            found = pattern.search(text)
            if found is None:
                return None
            first = first or found.span(1)
        return first


class Places:
    """Of one piece of a file, from left to right. Each pattern goes on only when what it found lies behind."""

    def __init__(self, patterns: Sequence[Any], data: bytes, end: int) -> None:
        self._patterns = patterns
        self._data = data
        self._end = end
        self._nowhere = (end + 1, end + 1)
        self._next = [(-1, -1)] * len(patterns)

    def find(self, at: int) -> tuple[int, int] | None:
        """The first one from `at` on, which must never be less than before."""
        for number, pattern in enumerate(self._patterns):
            if self._next[number][0] < at:
                found = pattern.search(self._data, at, self._end)
                self._next[number] = self._nowhere if found is None else found.span()
        first = min(self._next)
        return None if first == self._nowhere else first


def snippet(text: str, span: tuple[int, int]) -> tuple[str, int, int]:
    """What stands around a find in one line, and where in it the find is. For a terminal it must be cleaned still."""
    begin = max(0, span[0] - _MARKED_BEFORE)
    end = min(len(text), begin + _SNIPPET_CHARACTERS)
    before = _flat(text[begin : span[0]])
    found = _flat(text[span[0] : min(span[1], end)])
    before = ("…" if begin else "") + before.lstrip()
    after = _flat(text[min(span[1], end) : end]).rstrip() + ("…" if end < len(text) else "")
    return before + found + after, len(before), len(before) + len(found)


_SPACES = re.compile(r"\s+")


def _flat(text: str) -> str:
    return _SPACES.sub(" ", text)


def _in_text(term: Term) -> str:
    """Group 1 is the find itself."""
    words = term.words
    inside = r"\s+".join(re2_escape(one) for one in words)
    before = rf"(?:^|{_NO_WORD})" if _bounds(words[0][0]) else ""
    after = rf"(?:$|{_NO_WORD})" if _bounds(words[-1][-1]) and not term.is_prefix else ""
    return f"{before}({inside}){after}"


def _bounds(character: str) -> bool:
    """Whether a word ends beside it. Many scripts put no blanks between words (general category Lo): there any
    place will do, as it does for signs."""
    return character == "_" or unicodedata.category(character) in ("Lu", "Ll", "Lt", "Lm", "Nd", "Nl", "No", "Mn")


_RARE = "jqxz"
"""Letters of which each is less than 0.3 % of English text (Norvig, 2012): to pass by each of them costs less than to
compare everything without case."""


def _in_file(term: Term) -> list[bytes]:
    """Patterns of which one fits wherever the term stands, each with other bytes at its beginning."""
    beginnings, length = _beginnings(term.words[0])
    words = (term.words[0][length:], *term.words[1:])
    rest = _BLANK_IN_FILE.join(b"".join(map(_character_in_file, word)) for word in words)
    return [one + b"(?i:" + rest + b")" for one in beginnings]


def _beginnings(word: str) -> tuple[list[bytes], int]:
    """In exactly these bytes a word may begin in a file, and how many characters that are; 0: any case will do."""
    first = word[0]
    if first == "/":
        return [b"/"], 1  # a backslash before it needs no finding
    if not first.isascii():
        exact, escaped = _spellings(first)
        return [*exact, rb"\\u(?i:" + b"|".join(one.removeprefix(rb"\\u") for one in escaped) + b")"], 1
    if first.lower() not in _RARE:
        return [b""], 0
    pair = word[:2] if word[1:2].isascii() and word[1:2] not in _ESCAPED else first
    cases = [sorted({one.lower(), one.upper()}) for one in pair]
    return [b"".join(re2_escape(one).encode() for one in spelt) for spelt in itertools.product(*cases)], len(pair)


_ESCAPED = ('"', "\\", "/")


def _character_in_file(character: str) -> bytes:
    """As JSON may spell it, in UTF-8 or escaped, in either case."""
    if character == '"':
        return rb'\\"'
    if character == "\\":
        return rb"\\\\"
    if character == "/":
        return rb"\\?/"
    if character.isascii():
        return re2_escape(character).encode()
    exact, escaped = _spellings(character)
    return b"(?:" + b"|".join([*(b"(?-i:" + one + b")" for one in exact), *escaped]) + b")"


def _spellings(character: str) -> tuple[list[bytes], list[bytes]]:
    """Patterns of a character beyond ASCII in either case: its UTF-8, and its escapes."""
    forms = sorted({character, *(one for one in (character.lower(), character.upper()) if len(one) == 1)})
    utf8 = [one.encode("utf-8", "surrogatepass") for one in forms]
    units = [one.encode("utf-16-be", "surrogatepass") for one in forms]
    exact = [b"".join(b"\\x%02x" % byte for byte in one) for one in utf8]
    escaped = [b"".join(b"\\\\u%02x%02x" % (one[at], one[at + 1]) for at in range(0, len(one), 2)) for one in units]
    return exact, escaped


def re2_escape(text: str) -> str:
    """Of RE2's own kind: everything but letters, numbers and what is beyond ASCII behind a backslash."""
    return "".join(one if one.isalnum() or ord(one) > 127 or one == "_" else "\\" + one for one in text)
