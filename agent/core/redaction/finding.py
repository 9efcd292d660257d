"""Where in some bytes secrets stand, whatever escaping they stand in."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from agent.core.redaction.escapes import View, escape_border
from agent.core.redaction.notations import CODED, LONG_BYTES, NAMED, Pairs, Reading, abridged, decoded
from agent.core.redaction.screening import Screen, check_screen, options, screen_by_either, screen_by_re2
from agent.core.redaction.secret_checks import is_secret
from agent.core.redaction.secret_shapes import Rule, ends_with_its_value, pattern_of, screen_of

_LEVELS = 4
"""How often escapes are undone: JSON in a string of JSON in a string …"""

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

_NEAR_BYTES = 256
"""How much before a signal and behind it is looked at closely."""

_FAR_REACHING = ("private-key", "wallet-phrase", "cookie")
"""Kinds whose secrets have blanks and quotes within, so that their ends may be far from where they begin."""

_LONG_MATCH_BYTES = 4 << 10

_MOST_JOINED = 32
"""How many expressions of screens that hit together are remembered."""

_VALUE_ENDS = re.compile(rb"[\s\"']")

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
        rough = {screen_of(rule): rule.rough or screen_of(rule) for rule in self._rules}
        # A user's expressions are in RE2's syntax.
        self._match = (
            screen_by_re2(screens) if own else screen_by_either(screens, [rough.get(one, one) for one in screens])
        )
        check_screen(self._match)
        self._allow = [self.compile(f"(?:{one})") for one in allow]
        self._compiled: dict[int, Matcher] = {}
        self._bare: dict[int, Matcher] = {}
        self._joined: dict[str, Matcher] = {}
        self.blocks_signal, self._coded, self._named = map(screens.index, (_BLOCKS, CODED, _NAMED))
        self._escaped = screens.index(_ESCAPED)
        self._screens = screens
        self._wide = frozenset((self._escaped, *self._far_reaching(own)))
        """Hits that speak for a secret anywhere in the text; all others do for one near to them alone."""
        behind = [screen_of(rule) for rule in own if not _PLAIN.fullmatch(rule.pattern)]
        self._match_behind: Screen | None = screen_by_re2(behind) if behind else None
        self.is_ours = not own and not allow
        """Whether the rules are known here. A user's are looked for in all of a text."""
        self.screen: Screen = self._screen_abridged if self.is_ours else self._screen_both if behind else self._match

    def _far_reaching(self, own: Sequence[Rule]) -> Iterator[int]:
        for hit, numbers in enumerate(self._numbers):
            if any(number < len(own) or self._rules[number].kind in _FAR_REACHING for number in numbers):
                yield hit

    @cached_property
    def _pairs(self) -> Pairs:
        return Pairs(self.compile)

    def numbers_of(self, hit: int) -> Sequence[int]:
        """The rules that a hit of the screen speaks for."""
        return self._numbers[hit]

    def _screen_abridged(self, text: bytes) -> list[int] | None:
        short = abridged(text) if len(text) >= LONG_BYTES else None
        return self._match(short.data if short else text)

    def _screen_both(self, text: bytes) -> list[int] | None:
        """Also of what is behind escapes: a user's expression has no cheaper one."""
        match = self._match_behind or self._match
        hits = self._match(text)
        whole = text
        for _ in range(_LEVELS):
            if b"\\" not in whole:
                break
            whole = View(whole).data
            if match(whole):
                return [*(hits or ()), self._escaped]
        return hits

    def compile(self, pattern: str) -> Matcher:
        return self._re2.compile(pattern.encode(), options(_RULE_BYTES))

    def find(self, raw: bytes, hits: Sequence[int], *, escaped: bool) -> tuple[list[Found], bool]:
        """In order, and whether there are too many to tell apart: then none is given. `hits`: what `screen` said
        of `raw`. `escaped`: a backslash always begins an escape, so none is cut in two."""
        hits = [one for one in hits if one != self.blocks_signal]  # which is for whoever joins them
        if not hits or self.is_clear(raw, hits, escaped=escaped):
            return [], False
        if (
            len(raw) > 4 * _NEAR_BYTES
            and self._wide.isdisjoint(hits)
            and (parts := self._around(raw, hits)) is not None
        ):
            found: list[Found] = []
            for start, end in parts:
                some, is_dense = self._find(raw[start:end], hits, escaped=escaped)
                if is_dense or len(found) > _MOST_FOUND:
                    return [], True
                found += [one._replace(start=one.start + start, end=one.end + start) for one in some]
            return found, False
        return self._find(raw, hits, escaped=escaped)

    def is_clear(self, text: bytes, hits: Sequence[int], *, escaped: bool) -> bool:
        """Whether it can be told of several lines at once that they hold nothing: signs written as several are all that
        the screen saw, and as they read they hold none either. `escaped`: each line is JSON."""
        if not self.is_ours or any(one != self._coded for one in hits) or b"=3D" in text:
            return False
        views = (text,) if b"\\" not in text else (View(text).data,) if escaped else (text, View(text).data)
        return all(self.screen(reading.data if (reading := decoded(view)) else view) is None for view in views)

    def _around(self, raw: bytes, hits: Sequence[int]) -> list[tuple[int, int]] | None:
        """The parts in which hits stand, where no more is to be looked at; None when that is most of the text."""
        parts: list[tuple[int, int]] = []
        size = done = count = 0
        for since, until in self._places(raw, hits):
            count += 1
            if 4 * count * _NEAR_BYTES > len(raw):
                return None
            if until + _NEAR_BYTES <= done:
                continue
            border = _VALUE_ENDS.search(raw, until + _NEAR_BYTES)
            start, end = max(0, since - _NEAR_BYTES), border.start() if border else len(raw)
            size += end - max(start, done)
            if size > len(raw) // 2:
                return None
            parts.append((parts.pop()[0] if start < done else escape_border(raw, start), end))
            done = end
        return parts or None

    def _places(self, raw: bytes, hits: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Where the screens that hit do match."""
        screens = "|".join(f"(?:{self._screens[one]})" for one in hits)
        matcher = self._joined.get(screens)
        if matcher is None:
            if len(self._joined) == _MOST_JOINED:
                self._joined.clear()
            matcher = self._joined[screens] = self.compile(screens)
        return (match.span() for match in matcher.finditer(raw))

    def _find(self, raw: bytes, hits: Sequence[int], *, escaped: bool) -> tuple[list[Found], bool]:
        found: list[tuple[int, int, int, Found]] = []
        views: list[View | Reading] = []
        text = raw
        before: list[tuple[int, bytes]] = []
        judged: dict[tuple[str, bytes, bytes], bool] = {}
        for level in range(_LEVELS + 1):
            if self.is_ours and (short := abridged(text)):
                views.append(short)
                text = short.data
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
                    found += self._placed(raw, read, matches, level, (views, readings))
                if tally.is_full():
                    return [], True
            if b"\\" not in text or level == _LEVELS:
                break
            view = View(text)
            if view.data == text and not (escaped and not level):
                break
            views.append(view)
            text = view.data
            hits = self.screen(text) or ()
            if not hits:  # what is escaped still deeper would show
                break
        found.sort()
        return [one for _, _, _, one in found], False

    def _placed(
        self,
        raw: bytes,
        read: bytes,
        matches: Sequence[tuple[int, int, int]],
        level: int,
        ways: tuple[Sequence[View | Reading], Sequence[Reading]],
    ) -> Iterator[tuple[int, int, int, Found]]:
        """What was found in `read`, as it stands in the raw text, and how to sort it. `ways`: views and readings."""
        origins = _origins({(start, end) for _, start, end in matches}, (*ways[0], *ways[1]))
        for number, start, end in matches:
            at, to = origins[start, end]
            # Equal secrets get equal marks, also where the middle was left out.
            is_whole = to - at == end - start or ways[1] or b"\\" in raw[at:to]
            whole = read[start:end] if is_whole else raw[at:to]
            # Of those that begin together the widest, then the rule that is first, then the deepest look.
            yield at, -to, number * (_LEVELS + 1) - level, Found(at, to, self._rules[number].kind, whole)

    def _readings(
        self, text: bytes, hits: Sequence[int], tally: "_Tally"
    ) -> Iterator[tuple[bytes, Sequence[int], tuple[Reading, ...]]]:
        """The text, and what else it may read as; what the screen says of each, and how it came about."""
        yield text, hits, ()
        readings: tuple[Reading, ...] = ()
        if self._coded in hits and (reading := decoded(text)):
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
            for since, start, end in self._matches(number, text):
                tally.candidates += 1
                value = text[start:end]
                before = text[since:start]
                said = rule.check, before, value
                if said not in judged:
                    judged[said] = start < end and is_secret(*said) and not self._is_allowed(value)
                if judged[said] and not (rule.anywhere and _is_in_a_run(text, start)):
                    tally.found += rule.check not in COMMON
                    yield number, start, end
                if tally.is_full():
                    return

    def _matches(self, number: int, text: bytes) -> Iterator[tuple[int, int, int]]:
        """Where matches begin, and where their secrets begin and end."""
        matcher = self.matcher(number)
        if len(text) > _LONG_MATCH_BYTES and ends_with_its_value(self._rules[number]) and number >= self._own:
            # A group costs RE2 a slow look at all of a match, which may be a mebibyte.
            for match in self._without_groups(number).finditer(text):
                since, until = match.span()
                head = (
                    matcher.match(text, since, since + _LONG_MATCH_BYTES) if until - since > _LONG_MATCH_BYTES else None
                )
                yield (since, head.start(1), until) if head else (since, *matcher.match(text, since, until).span(1))
            return
        groups = range(1, matcher.groups + 1)
        for match in matcher.finditer(text):
            yield match.start(), *match.span(next((one for one in groups if match.start(one) >= 0), 0))

    def _without_groups(self, number: int) -> Matcher:
        matcher = self._bare.get(number)
        if matcher is None:
            only_spans = options(_RULE_BYTES)
            only_spans.never_capture = True
            matcher = self._bare[number] = self._re2.compile(pattern_of(self._rules[number]).encode(), only_spans)
        return matcher

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
