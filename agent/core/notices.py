"""What is worth a word on the desktop, after how long, and how often: a table. Few and useful; what passes by itself is
not told, and nothing twice within a day.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

DAY_S = 86_400.0

AWAKE_S = 120.0
"""Nothing is told sooner after a start or a wake-up: networks and keyrings come up after us."""

GAP_S = 900.0
"""Looks further apart than this have a sleep between them."""

AGAIN_S = 3600.0
"""After a notice that nobody could show."""

CRASHES = 3
"""Unclean ends within an hour that are no accident any more."""


class Rule(NamedTuple):
    """`after_s`: how long it has to hold. `words`: the body, with {about} and {number}. `hint`: the next command."""

    after_s: float
    title: str
    words: str
    hint: str


RULES: Mapping[str, Rule] = {
    "needs_login": Rule(
        120.0,
        "transcriptd needs a login",
        "{about} takes nothing: the token is missing or no good",
        "transcriptd status",
    ),
    "keyring_locked": Rule(
        900.0,
        "transcriptd waits for the keyring",
        "unlock it: {number} transcripts wait for {about}",
        "",
    ),
    "about_to_be_lost": Rule(
        600.0,
        "transcripts may be lost",
        "{number} transcripts not sent yet may be deleted by their coding agent within 3 days",
        "transcriptd status",
    ),
    "rules_lost": Rule(
        0.0,
        "rules of privacy are gone",
        "{number} that no command took out; they still hold for some minutes",
        "transcriptd status",
    ),
    "unreachable": Rule(
        DAY_S,
        "transcriptd can't reach its server",
        "{number} transcripts wait for {about}, for a day now",
        "transcriptd status",
    ),
    "crash_loop": Rule(
        0.0,
        "transcriptd ends again and again",
        "{number} times within the last hour",
        "transcriptd status",
    ),
}


class Concern(NamedTuple):
    """Something that holds now. `rule`: a key of `RULES`; `about`: a destination, or empty."""

    rule: str
    about: str = ""
    number: int = 0

    @property
    def key(self) -> str:
        return f"{self.rule} {self.about}".strip()


class Notice(NamedTuple):
    """For people; no word of a transcript, no title."""

    key: str
    title: str
    body: str


class Remembered(msgspec.Struct, frozen=True):
    """Of one concern, over restarts. Wall seconds. `since_s` None: it does not hold. `told_s` None: not in a day."""

    since_s: float | None = None
    told_s: float | None = None


Memory = Mapping[str, Remembered]


def decide_notices(
    concerns: Sequence[Concern], unknown: Collection[str], memory: Memory, now_s: float, awake_s: float
) -> tuple[list[Notice], Memory]:
    """What to tell now, and what to remember. `unknown`: destinations of which nobody can say yet how they stand; what
    held for them still does. `awake_s`: since the last start or wake-up."""
    holds = {one.key: one for one in concerns}
    after: dict[str, Remembered] = {}
    notices: list[Notice] = []
    for key in dict.fromkeys([*holds, *memory]):
        before = _sane(memory.get(key, Remembered()), now_s)
        one = holds.get(key)
        if one is None:
            is_unknown = key.partition(" ")[2] in unknown
            after[key] = Remembered(before.since_s if is_unknown else None, before.told_s)
            continue
        since_s = now_s if before.since_s is None else before.since_s
        is_due = now_s - since_s >= RULES[one.rule].after_s and awake_s >= AWAKE_S and before.told_s is None
        if is_due:
            notices.append(_render(one))
        after[key] = Remembered(since_s, now_s if is_due else before.told_s)
    return notices, {key: one for key, one in after.items() if one != Remembered()}


def not_shown(memory: Memory, notice: Notice, now_s: float) -> Memory:
    """It was to be told and could not: in an hour again."""
    one = memory[notice.key]
    return {**memory, notice.key: Remembered(one.since_s, now_s - DAY_S + AGAIN_S)}


def encode_memory(memory: Memory) -> str:
    return msgspec.json.encode(memory).decode()


def decode_memory(text: str) -> Memory:
    """Nothing of what can't be read, or of rules that are no more."""
    try:
        found = msgspec.json.decode(text, type=dict[str, Remembered]) if text else {}
    except msgspec.MsgspecError:
        return {}
    return {key: one for key, one in found.items() if key.partition(" ")[0] in RULES}


def _sane(one: Remembered, now_s: float) -> Remembered:
    """A clock that was set back must not silence anything for years."""
    since_s = None if one.since_s is None else min(one.since_s, now_s)
    told_s = None if one.told_s is None or not 0 <= now_s - one.told_s < DAY_S else one.told_s
    return Remembered(since_s, told_s)


def _render(one: Concern) -> Notice:
    rule = RULES[one.rule]
    words = rule.words.format(about=one.about, number=f"{one.number:,}")
    return Notice(one.key, rule.title, f"{words}; try: {rule.hint}" if rule.hint else words)
