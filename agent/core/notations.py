"""Text as it reads behind notations other than JSON's, and where each part of it came from: colours of a terminal,
percent, quoted-printable, entities of XML; and what has a name and a value apart, as `name=value`.
"""

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from agent.core.secret_shapes import BLANK, NAME_OF_ONE, TERMINAL_CODE

# --- one sign written as several ------------------------------------------------------------------------------------

CODED = (
    r"(?:(?:\x1b|u001[bB]|x1[bB]|\\033|\\e)\[[0-9;:?]*[A-Za-z]|%3[AaDd]|%0[AaDd]|%22|=3[Dd]"
    r"|&(?:quot|#34|#39|#10|#13|#[xX](?:22|27|[aAdD]));|&gt;[^\s&<>]{8,}&lt;/|[A-Za-z0-9](?:[\x00\x7f]|\\+u0000)[A-Za-z0-9])"
)
"""Where a text may read otherwise than it stands, for the screen: the signs that matter to rules."""

_SIGNS: dict[bytes, bytes] = {
    b"&quot;": b'"',
    b"&apos;": b"'",
    b"&amp;": b"&",
    b"&lt;": b"<",
    b"&gt;": b">",
    b"&nbsp;": b" ",
    **{f"={code:02X}".encode(): bytes((code,)) for code in (*range(0x20, 0x7F), 9, 10, 13)},
}
for _code in (*range(0x20, 0x7F), 9, 10, 13):
    _SIGNS |= {
        text.encode(): bytes((_code,))
        for text in (f"%{_code:02X}", f"%{_code:02x}", f"&#{_code};", f"&#x{_code:x};", f"&#x{_code:X};")
    }

_ONE = (
    TERMINAL_CODE.encode("latin-1")
    + rb"|[\x00\x7f]|%(?:0[9AaDd]|[2-7][0-9A-Fa-f])|&(?:quot|apos|amp|lt|gt|nbsp|#[0-9]{1,3}|#x[0-9A-Fa-f]{1,2});"
)
_LEFT_OUT = re.compile(TERMINAL_CODE.encode("latin-1") + rb"|[\x00\x7f]")
_CODES = re.compile(_ONE)
_CODES_OF_MAIL = re.compile(_ONE + rb"|=(?:0[9AD]|[2-7][0-9A-F])|=\r?\n")


class Token(NamedTuple):
    """What stands from `start` to `end` reads as `size` bytes."""

    start: int
    end: int
    size: int


class Reading:
    """`data` is what a text reads as. `tokens`: what reads otherwise, in order; most texts are never asked for them."""

    def __init__(self, data: bytes, tokens: Callable[[], Iterable[Token]]) -> None:
        self.data = data
        self._tokens = tokens
        self._is_read = False
        self._starts, self._ends, self._places = array("q"), array("q"), array("q")

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the bytes from `start` to `end` of `data` came from. What reads as nothing before or behind them is
        left out."""
        if not self._is_read:
            self._is_read, place, at = True, 0, 0
            for token in self._tokens():
                place += token.start - at + token.size
                at = token.end
                self._starts.append(token.start)
                self._ends.append(token.end)
                self._places.append(place)
        at, to = self._origin(start)[0], self._origin(end - 1)[1]
        return at, max(at, to)

    def _origin(self, offset: int) -> tuple[int, int]:
        number = bisect_right(self._places, offset)
        place, at = (self._places[number - 1], self._ends[number - 1]) if number else (0, 0)
        at += offset - place
        if number < len(self._starts) and at >= self._starts[number]:
            return self._starts[number], self._ends[number]
        return at, at + 1


def decoded(text: bytes) -> Reading:
    """Without colours, and with each sign as itself."""
    codes = _CODES_OF_MAIL if b"=3D" in text else _CODES
    get = _SIGNS.get
    if codes is _CODES and b"%" not in text and b"&" not in text:  # all at once, in C: there may be a million
        return Reading(
            _LEFT_OUT.sub(b"", text), lambda: (Token(*match.span(), 0) for match in _LEFT_OUT.finditer(text))
        )
    return Reading(
        codes.sub(lambda match: get(match[0], b""), text),
        lambda: (Token(*match.span(), len(get(match[0], b""))) for match in codes.finditer(text)),
    )


# --- names and values apart -----------------------------------------------------------------------------------------

_QUOTE = r"""[\\"'`]*"""
_NO_VALUE = r"""\s"'`\\,;<>(){}\[\]"""
_ODD = r"0-9!@#$%^&*~?+="
_VALUE = rf"(?:[^0-9{_NO_VALUE}]*[A-Za-z][^0-9{_NO_VALUE}]*(?:[{_ODD}]|\\+u[0-9a-f])|[{_ODD}][^{_NO_VALUE}]*[A-Za-z])"
"""How a value begins: letters, and a digit or an odd sign among them."""

NAMED = (
    NAME_OF_ONE
    + r"[A-Za-z0-9_.-]*"
    + r"""(?:[\s"'`\\;:=>|!)\](\[</\x80-\xff]|\\[nrt]|\\+u2[15]|["'],[ ]"""
    + r"""|,(?:[\s"'`\\]|\\[nrt])*[A-Za-z]*(?i:value|type)|[|>][+-]"""
    + r"""|(?:\n|\\n)[ ]*[0-9+-]+|[A-Za-z:]+=\\*["'][A-Za-z.:]*\\*["']"""
    + r"|(?i:string|data|value|key|name|type|plain|text|secure))+"
    + _VALUE
)
"""A name and a value behind it, for the screen, however they are joined: one loop over all that may stand between,
since each thing that an automaton tells apart here multiplies with all that the other rules tell apart."""

_SOME = f"(?:{BLANK}|[,;])+"
_JOINTS = (
    # An object of a name and a value, and perhaps a type between them.
    _QUOTE + rf"(?:{_SOME}{_QUOTE}[A-Za-z_]{{1,16}}{_QUOTE}\s*[:=]\s*{_QUOTE}[A-Za-z0-9_.-]{{0,24}}{_QUOTE})?"
    rf"{_SOME}{_QUOTE}[A-Za-z]{{0,16}}(?i:value){_QUOTE}\s*(?:=>|[:=])",
    # Two elements, one for each.
    rf"</[A-Za-z:]{{1,20}}>{BLANK}*<[A-Za-z:]{{1,20}}>",
    # A block of YAML.
    rf"{_QUOTE}\s*:\s*[|>][0-9+-]{{0,2}}{BLANK}+",
    # A member.
    rf"{_QUOTE} ?[\])] ?(?:=>|[:=,])",
    # Tables.
    r" *(?:\||[\x80-\xff]{1,3}) *",
    r" {2,}| *\t[ \t]*",
)
_ELEMENT = (
    rf"{_QUOTE}(?:\s+[A-Za-z:]{{1,20}}={_QUOTE}[A-Za-z0-9_.:-]{{0,40}}{_QUOTE})*\s*>{BLANK}*"
    rf"(?:<[A-Za-z:]{{1,12}}>{BLANK}*)?(?:<!\[CDATA\[)?"
)
"""Of that name, or with an attribute of it, and perhaps another one inside."""
_SOME_NAME = "[A-Za-z0-9_.-]{0,40}"
_PAIR = (
    rf"{NAME_OF_ONE}{_SOME_NAME}({_ELEMENT})[^<>\s]+{BLANK}*(?:\]\]>)?<"
    rf"|(?:{NAME_OF_ONE}{_SOME_NAME}?({'|'.join(_JOINTS)})"
    rf"|\b(?:ENV|ARG|setenv|setx|export|set +-[a-zA-Z]{{1,3}}) +{_SOME_NAME}{NAME_OF_ONE}{_SOME_NAME}( +)"
    rf"|[(\[]{_QUOTE}{_SOME_NAME}{NAME_OF_ONE}{_SOME_NAME}(\\*[\"'], \\*[\"'])"
    rf"){BLANK}*{_QUOTE}{_VALUE}"
)


class Pairs:
    """`compiled` makes a matcher of RE2 of an expression."""

    def __init__(self, compiled: Callable[[str], Any]) -> None:
        self._matcher = compiled(_PAIR)

    def read(self, text: bytes, most: int) -> Reading | None:
        """With `=` between each name and its value; None when there are more than `most`."""
        tokens: list[Token] = []
        parts: list[bytes] = []
        done = 0
        for match in self._matcher.finditer(text):
            if len(tokens) == most:
                return None
            start, end = match.span(next(one for one in range(1, 5) if match.start(one) >= 0))
            parts += (text[done:start], b"=")
            tokens.append(Token(start, end, 1))
            done = end
        return Reading(b"".join((*parts, text[done:])), lambda: tokens)
