"""Where in some bytes secrets stand, whatever escaping they stand in."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from agent.core.escapes import View
from agent.core.secret_checks import is_secret
from agent.core.secret_shapes import Rule, screen_of
from agent.errors import SettingsError

_LEVELS = 4
"""How often escapes are undone: JSON in a string of JSON in a string …"""

_DFA_BYTES = 4 << 20
"""What the automaton of all rules may grow to; it keeps what it has seen, and begins anew when that is full. On real
transcripts it takes 2 MB."""

_RULE_BYTES = 4 << 20
_MOST_CANDIDATES = 8_000
_MOST_FOUND = 500
"""A text of a mebibyte with more is not looked at one by one: all of it goes."""

_ESCAPED = r"\\u00[2-7][0-9A-Fa-f]"
_SLASH = r"\\/"
_BLOCKS = r"\}\s*,\s*\{[^{}\n]*\"text\""
SIGNALS = (_ESCAPED, _SLASH, _BLOCKS)
"""No secrets, but places where one may hide from a look at the raw text: escapes where none are needed, and several
blocks of text side by side."""

_CANARY = b"ghp_0a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXy"

COMMON = ("home", "email")
"""Checks of rules whose matches are many in an ordinary text, and are no secrets."""

Matcher = Any
"""What RE2 compiles; it ships no types."""


class Found(NamedTuple):
    """`start` and `end` are offsets of the raw bytes, `text` what stands there behind all escapes."""

    start: int
    end: int
    kind: str
    text: bytes


class Searcher:
    """Compiled rules, those with the highest precedence first. For any number of threads."""

    def __init__(self, rules: Sequence[Rule], allow: Sequence[str] = ()) -> None:
        import re2  # 3 MB, which only those who send need

        self._re2 = re2
        self._rules = rules
        self._set = re2.Set.SearchSet(self._options(_DFA_BYTES))
        for rule in rules:
            self._set.Add(screen_of(rule).encode("latin-1"))
        for signal in SIGNALS:
            self._set.Add(signal.encode())
        try:
            self._set.Compile()
        except re2.error as exc:
            raise SettingsError("privacy.patterns are too many, or too long, to look for at once") from exc
        # With too little memory the automaton would say that nothing matches, and no more.
        if not self._set.Match(_CANARY):
            raise SettingsError("privacy.patterns are too many, or too long, to look for at once")
        self._allow = [self.compile(f"(?:{one})") for one in allow]
        self._compiled: dict[int, Matcher] = {}
        self.blocks_signal = len(rules) + SIGNALS.index(_BLOCKS)
        self.screen: Callable[[bytes | memoryview], list[int] | None] = self._set.Match

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
            literal = level or not escaped or b"\\" not in raw
            tally = _Tally()
            matches = list(self._in_view(text, hits, tally, judged)) if literal else []
            if tally.is_full():
                return [], True
            values = [(number, text[start:end]) for number, start, end in matches]
            if values == before:  # the same ones in the same order: a deeper look found nothing new
                matches = []
            before = values or before
            origins = _origins({(start, end) for _, start, end in matches}, views)
            for number, start, end in matches:
                at, to = origins[start, end]
                # The widest of those that begin together, then the rule that comes first, then the deepest look.
                one = Found(at, to, self._rules[number].kind, text[start:end])
                found.append((at, -to, number * (_LEVELS + 1) - level, one))
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

    def _in_view(
        self, text: bytes, hits: Sequence[int], tally: "_Tally", judged: dict[tuple[str, bytes, bytes], bool]
    ) -> Iterator[tuple[int, int, int]]:
        """`judged`: what was said of values elsewhere, which may be many and the same."""
        for number in sorted(hits):
            if number >= len(self._rules):
                break
            rule = self._rules[number]
            matcher = self._matcher(number)
            groups = range(1, matcher.groups + 1)
            for match in matcher.finditer(text):
                tally.candidates += 1
                start, end = match.span(next((one for one in groups if match.start(one) >= 0), 0))
                value = text[start:end]
                before = text[match.start() : start]
                said = rule.check, before, value
                if said not in judged:
                    judged[said] = start < end and is_secret(*said) and not self._is_allowed(value)
                if judged[said]:
                    tally.found += rule.check not in COMMON
                    yield number, start, end
                if tally.is_full():
                    return

    def _matcher(self, number: int) -> Matcher:
        matcher = self._compiled.get(number)
        if matcher is None:
            matcher = self._compiled[number] = self.compile(self._rules[number].pattern)
        return matcher

    def _is_allowed(self, value: bytes) -> bool:
        return any(one.fullmatch(value) for one in self._allow)


def _origins(spans: set[tuple[int, int]], views: Sequence[View]) -> dict[tuple[int, int], tuple[int, int]]:
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

    def is_full(self) -> bool:
        return self.candidates > _MOST_CANDIDATES or self.found > _MOST_FOUND
