"""What each method of the control socket may be asked with: names, types and bounds, in one table.

docs/control-socket.md is compared with it. What a method does not know is refused, never passed over: a wish that was
written wrongly (`dryRun`, or `private` where the private list decides) must not look granted.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from agent.core.durations import LONGEST_S
from agent.errors import UsageError

MOST_TEXTS = 10_000
MOST_COUNT = 2**53
"""What every JSON reader keeps exactly."""

MOST_LAST = 1_000
MOST_PREVIEWS = 50
MOST_ITEMS = 20
MOST_CHARACTERS = 2_000
_MOST_SECONDS = 1e11
"""Of wall time: the year 5138."""


class Param(NamedTuple):
    """`kind`: a key of `KINDS`. `least` and `most`: of a number; of a list's length."""

    kind: str
    needed: bool = False
    least: float = 0
    most: float = MOST_COUNT


def _is_number(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and math.isfinite(value)
    )


def _is_text(value: object) -> bool:
    """What a program, a file or SQLite can be given: no NUL, and nothing that no bytes stand for."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_list_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


KINDS: Mapping[str, Callable[[object], bool]] = {
    "a text": _is_text,
    "a list of texts": _is_list_of(_is_text),
    "true or false": lambda value: isinstance(value, bool),
    "a whole number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "a number": _is_number,
    "an object": _is_object,
    "a list of objects": _is_list_of(_is_object),
}

_TEXT = Param("a text")
_NEEDED_TEXT = Param("a text", needed=True, least=1)
_TEXTS = Param("a list of texts", most=MOST_TEXTS)
_FLAG = Param("true or false")
_COUNT = Param("a whole number")
_FROM_ONE = Param("a whole number", least=1)
_SINCE = Param("a number", least=-_MOST_SECONDS, most=_MOST_SECONDS)

Form = Mapping[str, Param]
"""Names that go together → what each may be."""

_NOTHING: tuple[Form, ...] = ({},)
_PLACE: Form = {"after_seq": _COUNT, "epoch": _TEXT}
_SESSION: Form = {"session": _NEEDED_TEXT}
_CHECKPOINT: Form = {**_SESSION, "checkpoint": _NEEDED_TEXT}
_WANTED: Form = {"project": _TEXT, "provider": _TEXT, "model": _TEXT, "since_s": _SINCE}

PARAMS: Mapping[str, tuple[Form, ...]] = {
    "agent.hello": ({"protocol": _COUNT},),
    "agent.status": _NOTHING,
    "agent.push": _NOTHING,
    "agent.pause": ({"for_s": Param("a number", least=1, most=LONGEST_S)},),
    "agent.resume": _NOTHING,
    "agent.reload": _NOTHING,
    "agent.progress": _NOTHING,
    "agent.retry": ({"sessions": _TEXTS},),
    "agent.restore": ({"sessions": _TEXTS._replace(needed=True)},),
    "agent.privacy_changed": _NOTHING,
    "agent.token_changed": ({"destination": _NEEDED_TEXT},),
    "sessions.list": (
        {},
        {"sessions": _TEXTS._replace(needed=True), "beyond_index": _FLAG},
        {**_WANTED, "state": _TEXT, "archived": _FLAG, "sort": _TEXT, "limit": _COUNT, "flat": _FLAG},
    ),
    "sessions.describe": (_SESSION,),
    "sessions.resolve": (
        {"beginning": _TEXT, "limit": _FROM_ONE},
        {"words": _NEEDED_TEXT, "limit": _FROM_ONE},
    ),
    "sessions.search": (
        {
            "words": _TEXTS._replace(needed=True, least=1),
            **dict.fromkeys(("project", "provider", "model", "since", "role"), _TEXT),
            "limit": _COUNT,
            "each": _COUNT,
        },
    ),
    "sessions.stats": ({"by": _TEXT, **_WANTED},),
    "sessions.patch": ({**_SESSION, "label": _TEXT, "archived": _FLAG, "set": Param("an object"), "unset": _TEXTS},),
    "sessions.cleanup": ({"dry_run": _FLAG},),
    "sessions.backfill": ({"force": _TEXTS, "start": _FLAG},),
    "sessions.get": ({**_SESSION, "last": _COUNT._replace(most=MOST_LAST)},),
    "sessions.preview": (
        {
            "sessions": _TEXTS._replace(needed=True, most=MOST_PREVIEWS),
            "items": _COUNT._replace(most=MOST_ITEMS),
            "characters": _COUNT._replace(most=MOST_CHARACTERS),
        },
    ),
    "sessions.subscribe": (_PLACE,),
    "messages.subscribe": ({**_SESSION, **_PLACE, "run": _TEXT, "subagents": _FLAG},),
    "runs.list": _NOTHING,
    "sessions.pulled": (
        {
            "destination": _NEEDED_TEXT,
            "rows": Param("a list of objects", needed=True, least=1, most=MOST_TEXTS),
            "project": _TEXT,
            "withdrawn": _FLAG,
        },
    ),
    "sessions.delete": ({**_SESSION, "transcript": _FLAG},),
    "sessions.compact": ({**_SESSION, "keep": _FROM_ONE._replace(needed=True)},),
    "sessions.reset": (_SESSION,),
    "sessions.compaction.list": (_SESSION,),
    "sessions.compaction.get": (_CHECKPOINT,),
    "sessions.compaction.branch": (_CHECKPOINT,),
    "sessions.compaction.restore": (_CHECKPOINT,),
    "events.list": (_PLACE,),
    "events.subscribe": (_PLACE,),
}


def check_params(method: str, params: Mapping[str, Any]) -> None:
    """Raises UsageError for what `method` does not know, lacks, or can't take; and for names that don't go together."""
    forms = PARAMS[method]
    known = sorted({name for form in forms for name in form})
    for name in params:
        if name not in known:
            raise UsageError(
                f"{method} knows no {name[:64]!a}{_nearest(name, known)}", hint=_ELSEWHERE.get((method, name), _HINT)
            )
    form = _choose(forms, params)
    for name in params:
        if name not in form:
            other = next(one for one in params if one in form)
            raise UsageError(f"{name} and {other} don't go together in {method}", hint=_HINT)
    for name, param in form.items():
        if name in params:
            _check(name, param, params[name])
        elif param.needed:
            raise UsageError(f"{name}: {_words(param)}, and {method} needs it", hint=_HINT)


_ELSEWHERE = {("sessions.patch", "private"): "transcriptd private add SESSION"}
_HINT = "docs/control-socket.md has the params of every method"


def _choose(forms: tuple[Form, ...], params: Mapping[str, Any]) -> Form:
    """The form that has most of the names; the first such one."""
    return max(forms, key=lambda form: sum(name in form for name in params))


def _nearest(name: str, known: list[str]) -> str:
    import difflib  # for an error only, and 0.4 MB

    near = difflib.get_close_matches(name[:64].casefold().replace("-", "_"), known, n=1, cutoff=0.0)
    return f"; the nearest is {near[0]}" if near else ", nor any other"


def _check(name: str, param: Param, value: object) -> None:
    if not KINDS[param.kind](value):
        raise UsageError(f"{name}: {_words(param)}", hint=_HINT)
    if isinstance(value, (str, list)):
        measured: float = len(value)
        fits = param.least <= measured <= param.most
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        measured = value
        fits = param.least <= value <= param.most
    else:
        return
    if not fits:
        raise UsageError(f"{name}: {_words(param)}, here {_short(measured)}", hint=_HINT)


def _words(param: Param) -> str:
    if "number" in param.kind:
        return f"{param.kind} from {param.least:.0f} to {param.most:.0f}"
    if "list" in param.kind:
        return f"{param.kind}, {param.least:.0f} to {param.most:.0f} of them"
    return f"{param.kind} that is not empty" if param.least else param.kind


def _short(number: float) -> str:
    text = str(number)
    return text if len(text) <= 24 else f"one of {len(text)} digits"
