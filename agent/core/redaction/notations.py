"""Text as it reads behind notations other than JSON's, and where each part of it came from: colours of a terminal,
percent, quoted-printable, entities of XML; and what has a name and a value apart, as `name=value`.
"""

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from agent.core.redaction.secret_shapes import BLANK, NAME_OF_ONE

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

# Each alternative begins with a letter, so that `re` looks for these alone.
_NO_SIGN = rb"\x1b\[[0-9;:?]*[A-Za-z]|\\(?:x1[bB]|033|e|u001[bB])\[[0-9;:?]*[A-Za-z]|\x00|\x7f"
_ONE = _NO_SIGN + rb"|%(?:0[9AaDd]|[2-7][0-9A-Fa-f])|&(?:quot|apos|amp|lt|gt|nbsp|#[0-9]{1,3}|#x[0-9A-Fa-f]{1,2});"
_LEFT_OUT = re.compile(_NO_SIGN)
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
        self._left: Iterator[Token] | None = None
        self._starts, self._ends, self._places = array("q"), array("q"), array("q")

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the bytes from `start` to `end` of `data` came from. What reads as nothing before or behind them is
        left out."""
        self._read_to(end)
        at, to = self._origin(start)[0], self._origin(end - 1)[1]
        return at, max(at, to)

    def _read_to(self, offset: int) -> None:
        """No further than it is asked for."""
        if self._left is None:
            self._left = iter(self._tokens())
        place, at = (self._places[-1], self._ends[-1]) if self._places else (0, 0)
        while place <= offset and (token := next(self._left, None)) is not None:
            place += token.start - at + token.size
            at = token.end
            self._starts.append(token.start)
            self._ends.append(token.end)
            self._places.append(place)

    def _origin(self, offset: int) -> tuple[int, int]:
        number = bisect_right(self._places, offset)
        place, at = (self._places[number - 1], self._ends[number - 1]) if number else (0, 0)
        at += offset - place
        if number < len(self._starts) and at >= self._starts[number]:
            return self._starts[number], self._ends[number]
        return at, at + 1


_NOTHING = b"\x81"
_STAND_INS = {text: bytes((sign[0] | 0x80,)) for text, sign in _SIGNS.items()}
"""Signs for the time until all are read, so that no two of them are taken for a third. What stands for nothing has one,
too."""

_FREE = bytes(min(code, 0x80) for code in range(256))
"""What is beyond ASCII is all one, as behind the escapes of JSON."""

_READ = bytes(code & 0x7F if code > 0x80 else code for code in range(256))
_FEW_SORTS, _MOST_SORTS = 2, 24


def decoded(text: bytes) -> Reading | None:
    """Without colours, and with each sign as itself. None when there is nothing of the kind."""
    codes = _CODES_OF_MAIL if b"=3D" in text else _CODES if b"%" in text or b"&" in text else _LEFT_OUT
    match = codes.search(text)
    if match is None:
        return None
    read, sorts = text.translate(_FREE), 0
    while match is not None:  # all of a sort at once, in C: there may be a million
        sorts += 1
        if sorts > _FEW_SORTS and match[0] not in _STAND_INS:
            read = _LEFT_OUT.sub(_NOTHING, read)
            match = codes.search(read, match.start())
            continue
        if sorts > _MOST_SORTS:
            read = codes.sub(lambda one: _STAND_INS.get(one[0], _NOTHING), read)
            break
        read = read.replace(match[0], _STAND_INS.get(match[0], _NOTHING))
        match = codes.search(read, match.start())
    return Reading(
        read.translate(_READ, _NOTHING),
        lambda: (Token(*one.span(), one[0] in _SIGNS) for one in codes.finditer(text)),
    )


# --- the middle of what is long -------------------------------------------------------------------------------------

LONG_BYTES = 512
_KEPT_BYTES = 128
"""Of each end: more than any rule counts."""

_RUN_SIGNS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-"
_LONG_RUN = re.compile(rb"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{%d,}" % LONG_BYTES)
_STRIDE_BYTES = 17
_IS_OF_A_RUN = bytes(code in _RUN_SIGNS for code in range(256))
_LONG_SAMPLE = b"\x01" * (LONG_BYTES // _STRIDE_BYTES)
_LONG_SAMPLES = re.compile(rb"\x01{%d,}" % len(_LONG_SAMPLE))
_KEY_IN_A_RUN = (b"UFJJVkFURSBLRV", b"BSSVZBVEUgS0VZ", b"QUklWQVRFIEtFW")
"""PRIVATE KEY, in base64: it may stand behind a certificate."""


def abridged(text: bytes) -> Reading | None:
    """Without the middle of each long run of letters and digits, as pictures, signatures and encrypted reasoning are:
    what looks like a secret there is chance. What is encoded in fours still can be decoded. None when there is none."""
    # Every run holds so many of these: to look at so few signs of a text is cheap.
    sample = text[::_STRIDE_BYTES].translate(_IS_OF_A_RUN)
    if _LONG_SAMPLE not in sample:
        return None
    tokens: list[Token] = []
    parts: list[bytes] = []
    done = 0
    for near in _LONG_SAMPLES.finditer(sample):
        for since, until in _runs(text, near.start() * _STRIDE_BYTES, (near.end() - 1) * _STRIDE_BYTES + 1):
            if any(text.find(one, since, until) >= 0 for one in _KEY_IN_A_RUN):
                continue
            start, end = since + _KEPT_BYTES, until - _KEPT_BYTES
            end -= (end - start) % 4
            parts.append(text[done:start])
            tokens.append(Token(start, end, 0))
            done = end
    if not tokens:
        return None
    return Reading(b"".join((*parts, text[done:])), lambda: tokens)


def _runs(text: bytes, first: int, last: int) -> Iterator[tuple[int, int]]:
    """The long ones around what is between two places."""
    before = text[max(0, first - _STRIDE_BYTES) : first]
    since = first - (len(before) - len(before.rstrip(_RUN_SIGNS)))
    behind = text[last : last + _STRIDE_BYTES]
    until = last + len(behind) - len(behind.lstrip(_RUN_SIGNS))
    if not text[first:last].translate(None, _RUN_SIGNS):  # all of it is one, which C tells faster than `re`
        if until - since >= LONG_BYTES:
            yield since, until
        return
    for run in _LONG_RUN.finditer(text, since, until):
        yield run.span()


# --- names and values apart -----------------------------------------------------------------------------------------

_QUOTE = r"""[\\"'`]*"""
_NO_VALUE = r"""\s"'`\\,;<>(){}\[\]"""
_ODD = r"0-9!@#$%^&*~?+="
_VALUE = rf"(?:[^0-9{_NO_VALUE}]*[A-Za-z][^0-9{_NO_VALUE}]*(?:[{_ODD}]|\\+u[0-9a-f])|[{_ODD}][^{_NO_VALUE}]*[A-Za-z])"
"""How a value begins: letters, and a digit or an odd sign among them."""

NAMED = (
    NAME_OF_ONE
    + r"[A-Za-z0-9_.-]*"
    + r"""(?:[\s"'`\\;:=>|!\[</\x80-\xff]|\\[nrt]|\\+u2[15]|["'],[ ]\\*["']|[)\]][ ]?[:=,]"""
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


_GROUPS_OF_PAIRS = (2, 1, 3, 4)
"""What stands between, in each alternative; the most common one first, as asking takes longer than finding."""


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
            start, end = next(span for group in _GROUPS_OF_PAIRS if (span := match.span(group))[0] >= 0)
            parts += (text[done:start], b"=")
            tokens.append(Token(start, end, 1))
            done = end
        return Reading(b"".join((*parts, text[done:])), lambda: tokens)
