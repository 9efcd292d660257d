"""Which of many expressions match a text, in one pass over it.

Hyperscan takes the same time for any text, but 0.3 s and 9 MB before the first. RE2 makes its automaton while it
reads: it is fast on text that is much like what it has seen, and slow on what is new, as programs are. So RE2 is there
at once, and for machines that Hyperscan isn't made for; Hyperscan takes over where there is much to read. A test says
that they give the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

from agent.errors import SettingsError

Screen = Callable[[bytes], list[int] | None]
"""The numbers of the expressions that match, in any order; None when none does. For any number of threads."""

_DFA_BYTES = 8 << 20
"""What RE2's automaton may grow to; it keeps what it has seen, and begins anew when that is full."""

MUCH_BYTES = 128 << 20
"""After so much Hyperscan has paid for itself, its memory too: who sends a large backlog has it, who rests has not."""

_CANARY = b"ghp_0a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXy"
_TOO_MANY = "privacy.patterns are too many, or too long, to look for at once"


def screen_by_either(expressions: Sequence[str], rough: Sequence[str]) -> Screen:
    """By RE2 until there was much to read, then by Hyperscan, where there is one. Raises SettingsError when they are
    too many."""
    match, left = screen_by_re2(expressions), MUCH_BYTES

    def screen(text: bytes) -> list[int] | None:
        nonlocal match, left
        before, left = left, left - len(text)
        if left < 0 <= before:
            match = screen_by_hyperscan(expressions, rough) or match
        return match(text)

    return screen


def options(most_bytes: int) -> Any:
    """Of RE2, whose texts are any bytes."""
    import re2  # 3 MB, which only those who send need

    made = re2.Options()
    made.log_errors = False
    made.encoding = re2.Options.Encoding.LATIN1
    made.max_mem = most_bytes
    return made


def screen_by_re2(expressions: Sequence[str]) -> Screen:
    """Raises SettingsError when they are too many."""
    import re2

    made = re2.Set.SearchSet(options(_DFA_BYTES))
    for one in expressions:
        made.Add(one.encode("latin-1"))
    try:
        made.Compile()
    except re2.error as exc:
        raise SettingsError(_TOO_MANY) from exc
    match: Screen = made.Match
    return match


def screen_by_hyperscan(expressions: Sequence[str], rough: Sequence[str]) -> Screen | None:
    """`rough`: a cheaper one for each expression, or the same; what it matches is asked of the expression itself. None
    where Hyperscan is not there, or doesn't run on this processor."""
    try:
        import hyperscan
    except ImportError:
        return None
    database = hyperscan.Database()
    numbers = range(len(rough))
    once = [hyperscan.HS_FLAG_SINGLEMATCH] * len(rough)
    try:
        database.compile([one.encode("latin-1") for one in rough], list(numbers), len(rough), once)
    except hyperscan.error:
        return None
    import re2

    confirming = {
        number: re2.compile(expressions[number].encode("latin-1"), options(_DFA_BYTES)).search
        for number in numbers
        if expressions[number] != rough[number]
    }
    scan = database.scan
    free: list[Any] = []
    """Room to scan in. Each thread that scans takes one, and brings it back."""

    def screen(text: bytes) -> list[int] | None:
        hits: list[int] = []
        try:
            room = free.pop()
        except IndexError:
            room = database.scratch.clone()
        scan(text, lambda number, *_: hits.append(number), scratch=room)
        free.append(room)
        if not hits:
            return None
        hits = [one for one in hits if one not in confirming or confirming[one](text)]
        return hits or None

    return screen


def check_screen(screen: Screen) -> None:
    """With too little memory RE2's automaton says that nothing matches, and no more. Raises SettingsError."""
    if not screen(_CANARY):
        raise SettingsError(_TOO_MANY)
