"""Where in some bytes secrets stand, whatever escaping they stand in."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from agent.core.escapes import View
from agent.core.notations import CODED, NAMED, Pairs, Reading, decoded
from agent.core.secret_checks import is_secret
from agent.core.secret_shapes import Rule, pattern_of, screen_of
from agent.errors import SettingsError

_LEVELS = 4
"""How often escapes are undone: JSON in a string of JSON in a string …"""

_DFA_BYTES = 8 << 20
"""What the automaton of all rules may grow to; it keeps what it has seen, and begins anew when that is full. On real
transcripts it takes 2 MB."""

_RULE_BYTES = 4 << 20
_MOST_CANDIDATES = 8_000
_MOST_FOUND = 500
"""A text of a mebibyte with more is not looked at one by one: all of it goes."""

_ESCAPED = r"\\u00[2-7][0-9A-Fa-f]"
_SLASH = r"\\/"
_BLOCKS = r"\}\s*,\s*\{[^{}\n]*\"text\""
_NAMED = screen_of(Rule("", "", screen=NAMED))
"""The screen of the rules for values with a name."""

SIGNALS = (_ESCAPED, _SLASH, _BLOCKS, CODED, _NAMED)
"""No secrets, but places where one may hide from a look at the raw text: escapes where none are needed, several
blocks of text side by side, notations other than JSON's, and names apart from their values."""

_PLAIN = re.compile(r"(?:[A-Za-z0-9_@#:=|()?+*-]|\\[dw.-]|\[[A-Za-z0-9_.-]+\]|\{[0-9]+,?[0-9]*\})*")
"""Expressions of a user that match the same in escaped text. With blanks, quotes, borders or any other sign in it, one
may match only what stands behind the escapes."""

_RUN_BYTES = 40
_IN_A_RUN = re.compile(rb"[A-Za-z0-9+/_-]{%d}" % _RUN_BYTES)
_ENDS_A_WORD = re.compile(rb"[A-Za-z0-9_]")
"""Letters that begin a secret come by chance in a picture or a signature, which are long; what somebody wrote before
a secret without a blank is short."""

_CANARY = b"ghp_0a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXy"

_TOO_MANY = "privacy.patterns are too many, or too long, to look for at once"

COMMON = ("home", "email")
"""Checks of rules whose matches are many in an ordinary text, and are no secrets."""

Matcher = Any
"""What RE2 compiles; it ships no types."""

Screen = Callable[[bytes | memoryview], list[int] | None]


class Found(NamedTuple):
    """`start` and `end` are offsets of the raw bytes, `text` what stands there behind all escapes."""

    start: int
    end: int
    kind: str
    text: bytes


class Searcher:
    """Compiled rules, those with the highest precedence first: a user's `own`, then ours. For any number of threads."""

    def __init__(self, rules: Sequence[Rule], allow: Sequence[str] = (), own: Sequence[Rule] = ()) -> None:
        import re2  # 3 MB, which only those who send need

        self._re2 = re2
        self._rules = (*own, *rules)
        self._own = len(own)
        self._of_screen: dict[str, list[int]] = {}
        for number, rule in enumerate(self._rules):
            self._of_screen.setdefault(screen_of(rule), []).append(number)
        for signal in SIGNALS:
            self._of_screen.setdefault(signal, [])
        self._numbers = tuple(self._of_screen.values())
        screens = list(self._of_screen)
        self._match: Screen = self._compile_set(screens).Match
        # With too little memory the automaton would say that nothing matches, and no more.
        if not self._match(_CANARY):
            raise SettingsError(_TOO_MANY)
        self._allow = [self.compile(f"(?:{one})") for one in allow]
        self._compiled: dict[int, Matcher] = {}
        self.blocks_signal, self._coded, self._named = map(screens.index, (_BLOCKS, CODED, _NAMED))
        self._escaped = screens.index(_ESCAPED)
        behind = [screen_of(rule) for rule in own if not _PLAIN.fullmatch(rule.pattern)]
        self._match_behind: Screen | None = self._compile_set(behind).Match if behind else None
        self.screen: Screen = self._screen_both if behind else self._match

    @cached_property
    def _pairs(self) -> Pairs:
        return Pairs(self.compile)

    def numbers_of(self, hit: int) -> Sequence[int]:
        """The rules that a hit of the screen speaks for."""
        return self._numbers[hit]

    def _screen_both(self, text: bytes | memoryview) -> list[int] | None:
        """Also of what is behind escapes: a user's expression has no cheaper one."""
        match = self._match_behind or self._match
        hits = self._match(text)
        whole = bytes(text)
        for _ in range(_LEVELS):
            if b"\\" not in whole:
                break
            whole = View(whole).data
            if match(whole):
                return [*(hits or ()), self._escaped]
        return hits

    def _compile_set(self, screens: Sequence[str]) -> Matcher:
        made = self._re2.Set.SearchSet(self._options(_DFA_BYTES))
        for screen in screens:
            made.Add(screen.encode("latin-1"))
        try:
            made.Compile()
        except self._re2.error as exc:
            raise SettingsError(_TOO_MANY) from exc
        return made

    def _options(self, most_bytes: int) -> Matcher:
        options = self._re2.Options()
        options.log_errors = False
        options.encoding = self._re2.Options.Encoding.LATIN1  # any bytes are text
        options.max_mem = most_bytes
        return options

    def compile(self, pattern: str) -> Matcher:
        return self._re2.compile(pattern.encode(), self._options(_RULE_BYTES))

    def find(self, raw: bytes, hits: Sequence[int], *, escaped: bool) -> tuple[list[Found], bool]:
        """In order, and whether there are too many to tell apart: then none is given. `hits`: what `screen` said
        of `raw`. `escaped`: a backslash always begins an escape, so none is cut in two."""
        found: list[tuple[int, int, int, Found]] = []
        views: list[View] = []
        text = raw
        before: list[tuple[int, bytes]] = []
        judged: dict[tuple[str, bytes, bytes], bool] = {}
        for level in range(_LEVELS + 1):
            if level or not escaped or b"\\" not in raw:
                tally = _Tally()
                for read, its_hits, readings in self._readings(text, hits, tally):
                    matches = list(self._in_view(read, its_hits, tally, judged))
                    if tally.is_full():
                        break
                    if not readings:
                        values = [(number, read[start:end]) for number, start, end in matches]
                        if values == before:  # the same ones in the same order: a deeper look found nothing new
                            matches = []
                        before = values or before
                    origins = _origins({(start, end) for _, start, end in matches}, (*views, *readings))
                    for number, start, end in matches:
                        at, to = origins[start, end]
                        # Of those that begin together the widest, then the rule that is first, then the deepest look.
                        one = Found(at, to, self._rules[number].kind, read[start:end])
                        found.append((at, -to, number * (_LEVELS + 1) - level, one))
                if tally.is_full():
                    return [], True
            if b"\\" not in text or level == _LEVELS:
                break
            views.append(View(text))
            if views[-1].data == text and not (escaped and not level):
                break
            text = views[-1].data
            hits = self.screen(text) or ()
            if not hits:  # what is escaped still deeper would show
                break
        found.sort()
        return [one for _, _, _, one in found], False

    def _readings(
        self, text: bytes, hits: Sequence[int], tally: "_Tally"
    ) -> Iterator[tuple[bytes, Sequence[int], tuple[Reading, ...]]]:
        """The text, and what else it may read as; what the screen says of each, and how it came about."""
        yield text, hits, ()
        readings: tuple[Reading, ...] = ()
        if self._coded in hits and (reading := decoded(text)).data != text:
            readings, text = (reading,), reading.data
            hits = self.screen(text) or ()
            yield text, hits, readings
        if self._named in hits:
            pairs = self._pairs.read(text, _MOST_CANDIDATES)
            if pairs is None:
                tally.fill()
            elif pairs.data != text:
                yield pairs.data, self.screen(pairs.data) or (), (*readings, pairs)

    def _in_view(
        self, text: bytes, hits: Sequence[int], tally: "_Tally", judged: dict[tuple[str, bytes, bytes], bool]
    ) -> Iterator[tuple[int, int, int]]:
        """`judged`: what was said of values elsewhere, which may be many and the same."""
        for number in sorted(number for hit in hits for number in self.numbers_of(hit)):
            rule = self._rules[number]
            matcher = self.matcher(number)
            groups = range(1, matcher.groups + 1)
            for match in matcher.finditer(text):
                tally.candidates += 1
                start, end = match.span(next((one for one in groups if match.start(one) >= 0), 0))
                value = text[start:end]
                before = text[match.start() : start]
                said = rule.check, before, value
                if said not in judged:
                    judged[said] = start < end and is_secret(*said) and not self._is_allowed(value)
                if judged[said] and not (rule.anywhere and _is_in_a_run(text, start)):
                    tally.found += rule.check not in COMMON
                    yield number, start, end
                if tally.is_full():
                    return

    def matcher(self, number: int) -> Matcher:
        """The rule of that number, compiled."""
        matcher = self._compiled.get(number)
        if matcher is None:
            matcher = self._compiled[number] = self.compile(
                self._rules[number].pattern if number < self._own else pattern_of(self._rules[number])
            )
        return matcher

    def _is_allowed(self, value: bytes) -> bool:
        return any(one.fullmatch(value) for one in self._allow)


def _is_in_a_run(text: bytes, start: int) -> bool:
    """Whether many letters and digits stand before it without a border."""
    lead = text[max(0, start - _RUN_BYTES) : start]
    return _IN_A_RUN.fullmatch(lead) is not None and _ENDS_A_WORD.match(lead[-1:]) is not None


def _origins(spans: set[tuple[int, int]], views: Sequence[View | Reading]) -> dict[tuple[int, int], tuple[int, int]]:
    """Where in the raw text they stand."""
    found = {}
    for one in spans:
        at, to = one
        for view in reversed(views):
            at, to = view.span(at, to)
        found[one] = at, to
    return found


class _Tally:
    def __init__(self) -> None:
        self.candidates = self.found = 0

    def fill(self) -> None:
        self.candidates = _MOST_CANDIDATES + 1

    def is_full(self) -> bool:
        return self.candidates > _MOST_CANDIDATES or self.found > _MOST_FOUND
