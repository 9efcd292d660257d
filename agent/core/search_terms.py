r"""What somebody searches for, as patterns: one that finds lines of a file fast, and one that decides.

    deploy script     both words, anywhere in one message
    "deploy script"   the two, one after the other, whatever blanks or line ends stand between
    deploy*           words that begin so

Words are whole words, whatever their case. In a file a word may stand escaped (`\u00f6`, or right behind a `\n`), so
the bytes of a line are only asked whether it is worth decoding: never a no too many. RE2 takes 1 s for a GB of that,
and time in proportion to the text whatever the pattern.
"""

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
    """`raw`: for each term, what finds it in the bytes of a file, the rarest (longest) first."""

    def __init__(self, terms: Sequence[Term]) -> None:
        import re2  # 3 MB, which only those who search need

        in_bytes, in_text = re2.Options(), re2.Options()
        for one in (in_bytes, in_text):
            one.max_mem = _DFA_BYTES
            one.log_errors = False
            one.case_sensitive = False
        in_bytes.encoding = re2.Options.Encoding.LATIN1
        ordered = sorted(terms, key=lambda one: -len("".join(one.words)))
        self.raw: list[Any] = [re2.compile(_in_file(one), in_bytes) for one in ordered]
        self._begins = _bounds(ordered[0].words[0][0])
        self._ends = _bounds(ordered[0].words[-1][-1]) and not ordered[0].is_prefix
        self._texts: list[Any] = [re2.compile(_in_text(one), in_text) for one in ordered]

    def may_be(self, data: bytes, start: int, end: int) -> bool:
        """Whether what `raw[0]` found in a file's bytes is worth decoding its line: not a part of a word, and not a
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


def _in_file(term: Term) -> bytes:
    return _BLANK_IN_FILE.join(b"".join(map(_character_in_file, word)) for word in term.words)


def _character_in_file(character: str) -> bytes:
    """As JSON may spell it, in UTF-8 or escaped, in either case."""
    if character == '"':
        return rb'\\"'
    if character == "\\":
        return rb"\\\\"
    if character == "/":
        return rb"\\?/"
    forms = {character, *(one for one in (character.lower(), character.upper()) if len(one) == 1)}
    if character.isascii():
        return re2_escape(character).encode()
    return b"(?:" + b"|".join(_spelt(one) for one in sorted(forms)) + b")"


def _spelt(character: str) -> bytes:
    units = character.encode("utf-16-be")
    escaped = b"".join(b"\\\\u%02x%02x" % (units[at], units[at + 1]) for at in range(0, len(units), 2))
    exact = b"".join(b"\\x%02x" % byte for byte in character.encode("utf-8", "surrogatepass"))
    return b"(?-i:" + exact + b")|" + escaped


def re2_escape(text: str) -> str:
    """Of RE2's own kind: everything but letters, numbers and what is beyond ASCII behind a backslash."""
    return "".join(one if one.isalnum() or ord(one) > 127 or one == "_" else "\\" + one for one in text)
