"""Secrets out of what is about to leave: bytes in, bytes out, with a mark in place of each secret.

A mark names the kind and a keyed short hash, `[redacted:github-token:5f0c2a9d]`, so that equal secrets stay equal. All
else stays byte for byte. Each line decides alone, and the result depends on nothing but the line, the rules and the
key: chain hashes are computed over what comes out.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from agent.core.redaction.escapes import escape_border
from agent.core.redaction.finding import Searcher
from agent.core.redaction.marking import DENSE, Edit, Marker, Place, is_json_like, structural_quotes
from agent.core.redaction.secret_rules import RULES
from agent.core.redaction.secret_shapes import Rule
from agent.core.redaction.utf16 import Narrowed, utf16_of, widened
from agent.core.settings import Privacy
from agent.errors import AgentError, RedactionTimeout, SettingsError

WINDOW_BYTES = 1 << 20
"""Text up to this length is looked at as a whole; longer text in windows of it."""

_OVERLAP_BYTES = 64 << 10
"""What begins this near to the end of a window is left to the next one; the longest private keys have 16 KB."""

_CONTEXT_BYTES = 1 << 10
"""How much before the next window is shown to it again, for names before values."""

_BLOCK_BYTES = 8 << 10
"""How much is screened at once: after a hit, its lines are screened one by one."""

_HEAD_BYTES = 4 << 10
"""How much of a file says how it is encoded."""

_LINES_APART = bytes.maketrans(b"\n", b"\x01")
"""What ends a line is no blank between a name and its value, and no border is lost."""

_MOST_PASSES = 4
_TOO_LATE = "an entry can't be redacted in time"

_KIND = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_HOME_FOLDERS = Rule(
    "home",
    r"(?:/home/|/Users/|\b[A-Za-z]:\\+(?i:users)\\+)([A-Za-z0-9._-]{1,64})",
    "home",
    r"(?:/home/|/Users/|:\\+(?i:users)\\)",
)
_EMAILS = Rule(
    "email",
    r"\b([A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24})\b",
    "email",
    r"[A-Za-z0-9]@[A-Za-z0-9]",
)


class Rules:
    """What counts as a secret. What it compiles to takes a quarter of a second and 7 MB, so there is one for all, and
    it is made when it is needed first."""

    def __init__(self, privacy: Privacy) -> None:
        own = [_user_rule(one) for one in privacy.patterns]
        optional = [*([_EMAILS] if privacy.emails else ()), *([_HOME_FOLDERS] if privacy.home_folders else ())]
        self._own, self._optional, self._allow = own, optional, privacy.allow
        for pattern in privacy.allow:
            _check_pattern("privacy.allow", pattern, pattern)
        if own or privacy.allow:
            _ = self.searcher  # what is too much is said at once

    @cached_property
    def searcher(self) -> Searcher:
        from agent.core.redaction.borrowed_rules import borrowed_rules  # 2 MB

        return Searcher((*RULES, *borrowed_rules(), *self._optional), self._allow, self._own)


def parse_rules(privacy: Privacy) -> Rules:
    """Raises SettingsError for a pattern of the user that is none."""
    return Rules(privacy)


def _user_rule(text: str) -> Rule:
    kind, colon, pattern = text.partition(":")
    kind, pattern = kind.strip(), pattern.strip()
    if not colon or not _KIND.fullmatch(kind) or not pattern:
        raise SettingsError(
            f'privacy.patterns holds "{_shown(text)}", expected "kind: regular expression", the kind in small letters,'
            " digits and dashes",
            hint="transcriptd config path",
        )
    _check_pattern("privacy.patterns", text, pattern)
    return Rule(kind, pattern, "any", pattern)


def _check_pattern(key: str, text: str, pattern: str) -> None:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 1 << 20
    try:
        compiled = re2.compile(pattern.encode(), options)
    except re2.error as exc:
        why = exc.args[0].decode("utf-8", "replace") if exc.args and isinstance(exc.args[0], bytes) else str(exc)
        raise SettingsError(
            f'{key} holds "{_shown(text)}", which is no regular expression of RE2: {why}',
            hint="transcriptd config path",
        ) from exc
    if compiled.search(b"") is not None:
        raise SettingsError(
            f'{key} holds "{_shown(text)}", which also matches nothing at all, expected at least one character',
            hint="transcriptd config path",
        )


def _shown(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text[:80])


class Redacted(NamedTuple):
    """`data is` the input when nothing was found. `counts`: kind → how many."""

    data: bytes
    counts: Mapping[str, int]


_NOTHING: Mapping[str, int] = MappingProxyType({})


class Redactor:
    """`out_of_time` is asked between the lines that are looked at closely; a True ends it with RedactionTimeout."""

    def __init__(self, rules: Rules, key: bytes, out_of_time: Callable[[], bool] = lambda: False) -> None:
        self._rules = rules
        self._key = key
        self._out_of_time = out_of_time

    @cached_property
    def _marker(self) -> Marker:
        return Marker(self._rules.searcher, self._key)

    @cached_property
    def _screen(self) -> Callable[[bytes], list[int] | None]:
        return self._rules.searcher.screen

    def redact_lines(self, data: bytes) -> Redacted:
        """Lines of JSON, each by itself. Raises RedactionTimeout."""
        counts: Counter[str] = Counter()
        done: list[bytes | memoryview] = []
        view, copied, at = memoryview(data), 0, 0
        while at < len(data):
            newline = data.find(b"\n", min(len(data), at + _BLOCK_BYTES))
            end = newline if newline >= 0 else len(data)
            block, hits = data[at:end], None
            # A long line is cut into windows, and what a border of them does to it must not depend on how it came.
            if len(block) > WINDOW_BYTES or (hits := self._hits(block)) is not None:
                lines = block.split(b"\n")
                known = hits if len(lines) == 1 else None
                clean = b"\n".join([self._line(line, counts, known) for line in lines])
                if clean != block:
                    done += (view[copied:at], clean)
                    copied = end
            at = end + 1
        if not done:
            return Redacted(data, _NOTHING)
        return Redacted(b"".join((*done, view[copied:])), dict(counts))

    def _hits(self, block: bytes) -> list[int] | None:
        """What the screen says of some lines, but where a closer look at all of them can tell that there is nothing."""
        searcher = self._rules.searcher
        apart = block.translate(_LINES_APART) if searcher.is_ours else block
        hits = searcher.screen(apart)
        if hits is None:
            return None
        escaped = all(map(is_json_like, block.split(b"\n")))
        return None if searcher.is_clear(apart, hits, escaped=escaped) else hits

    def redact_line(self, line: bytes) -> bytes:
        """One line without its newline. Raises RedactionTimeout."""
        return self._line(line, Counter())

    def redact_text(self, text: str) -> str:
        """Titles, prompts, names. Raises RedactionTimeout."""
        raw = text.encode("utf-8", "surrogatepass")
        return b"".join(self.redact_pieces([raw])).decode("utf-8", "surrogatepass")

    def redact_pieces(self, pieces: Iterable[bytes], counts: Counter[str] | None = None) -> Iterator[bytes]:
        """One line, or one file, of any length; how it is cut into pieces does not matter. Raises RedactionTimeout."""
        counts = Counter() if counts is None else counts
        held, state = bytearray(), None
        for piece in pieces:
            held += piece
            while len(held) > WINDOW_BYTES:
                text = bytes(held[:WINDOW_BYTES])
                state = state or _Window(is_json_like(text))
                clean, done = self._window(text, state, counts)
                yield clean
                del held[:done]
        if state is None:
            if held:
                yield self._line(bytes(held), counts)
        else:
            yield self._window(bytes(held), state, counts, last=True)[0]

    def redact_file(self, pieces: Iterable[bytes], counts: Counter[str] | None = None) -> Iterator[bytes]:
        """What `redact_pieces` gives, also of a file in UTF-16. Raises RedactionTimeout."""
        source = iter(pieces)
        head = b""
        while len(head) < _HEAD_BYTES and (piece := next(source, None)) is not None:
            head += piece
        whole = chain((head,), source)
        encoding = utf16_of(head)
        if encoding is None:
            yield from self.redact_pieces(whole, counts)
            return
        text = Narrowed(whole, encoding)
        yield from widened(self.redact_pieces(text, counts), encoding)
        yield text.odd

    def redact_stream(self, pieces: Iterable[bytes], counts: Counter[str] | None = None) -> Iterator[bytes]:
        """What `redact_lines` gives for all of `pieces`, in bounded memory. Raises RedactionTimeout."""
        counts = Counter() if counts is None else counts
        source = _LineSplitter(pieces)
        while (short := source.lines()) or source.has_more:
            if short:
                done = self.redact_lines(short)
                counts.update(done.counts)
                yield done.data
            else:
                yield from self.redact_pieces(source.long_line(), counts)
                yield source.line_end

    def _line(self, text: bytes, counts: Counter[str], hits: Sequence[int] | None = None) -> bytes:
        """Text that is looked at as a whole. `hits`: what the screen said of it, if it was asked."""
        if len(text) > WINDOW_BYTES:
            return b"".join(self.redact_pieces([text], counts))
        for _ in range(_MOST_PASSES):  # what one mark leaves beside it may be a secret for the next pass
            hits = hits or self._screen(text)
            if not hits:
                break
            edits = self._edits(text, hits, Place(is_json_like(text)))
            if not edits:
                break
            text, hits = _spliced(text, 0, len(text), edits), None
            counts.update(edit.kind for edit in edits)
            if edits[0].kind == DENSE:
                break
        return text

    def _edits(self, text: bytes, hits: Sequence[int], place: Place) -> list[Edit]:
        if self._out_of_time():
            raise RedactionTimeout(_TOO_LATE)
        try:
            return self._marker.edits(text, hits, place)
        except AgentError:
            raise
        except Exception as exc:  # whatever happens in there, what was not looked at must not leave
            raise RedactionTimeout("an entry can't be redacted") from exc

    def _window(self, text: bytes, state: "_Window", counts: Counter[str], *, last: bool = False) -> tuple[bytes, int]:
        """What is ready to leave, and how many bytes at the beginning of `text` the next window does without."""
        if self._out_of_time():
            raise RedactionTimeout(_TOO_LATE)
        limit = len(text) if last else escape_border(text, len(text) - _OVERLAP_BYTES)
        hits = self._screen(text)
        edits = self._edits(text, hits, Place(state.is_json, state.inside, state.context, limit)) if hits else []
        edits = [edit for edit in edits if edit.end > state.context and edit.start < limit]
        cut = max(limit, edits[-1].end) if edits else limit
        clean = _spliced(text, state.context, cut, edits)
        counts.update(edit.kind for edit in edits)
        begin = escape_border(text, max(0, cut - _CONTEXT_BYTES))
        state.inside ^= structural_quotes(text[:begin]) % 2 == 1
        state.context = cut - begin
        return clean, begin


class _Window:
    """What the next window of a long text has to know: how much at its beginning has left already, whether the text is
    JSON, and whether the window begins inside of a string."""

    def __init__(self, is_json: bool) -> None:
        self.context = 0
        self.is_json = is_json
        self.inside = False


class _LineSplitter:
    """Pieces of a file as whole lines, as many as fit a window, and longer lines in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = b""
        self.has_more = True
        self.line_end = b""

    def lines(self) -> bytes:
        """Whole lines, or what is left at the end; nothing when a long line is next."""
        while self.has_more and b"\n" not in self._held and len(self._held) <= WINDOW_BYTES:
            self._fill()
        if not self.has_more:
            whole, self._held = self._held, b""
            return whole
        end = self._held.rfind(b"\n") + 1
        whole, self._held = self._held[:end], self._held[end:]
        return whole

    def long_line(self) -> Iterator[bytes]:
        """The line that is next, without its newline: that is `line_end` afterwards."""
        while self.has_more and b"\n" not in self._held:
            yield self._held
            self._held = b""
            self._fill()
        line, self.line_end, self._held = self._held.partition(b"\n")
        yield line

    def _fill(self) -> None:
        piece = next(self._pieces, None)
        self.has_more = piece is not None
        self._held += piece or b""


def _spliced(text: bytes, start: int, end: int, edits: Iterable[Edit]) -> bytes:
    """`text` from `start` to `end`, with what replaces its parts. What an edit has before `start` has left already."""
    parts: list[bytes] = []
    for edit in edits:
        parts += (text[start : edit.start], edit.new)
        start = edit.end
    return b"".join((*parts, text[start:end]))
