"""Errors that nobody expected, as kind and places. What they say of themselves is left out, and so are the values that
a traceback of Python repeats: either may be the text of a transcript, or a token."""

import logging
import sys
import threading
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

EXIT_STATUS = 70
"""EX_SOFTWARE."""


def render_defect(exc: BaseException) -> str:
    """Kinds and places, of what caused it too, the innermost last."""
    parts: list[str] = []
    cause: BaseException | None = exc
    while cause is not None and len(parts) < 8:
        places = [f"  {one.filename}:{one.lineno} in {one.name}" for one in traceback.extract_tb(cause.__traceback__)]
        parts.append("\n".join([f"{type(cause).__module__}.{type(cause).__qualname__}", *places]))
        cause = cause.__cause__ or cause.__context__
    return "\nwhich came of:\n".join(parts)


class Discreet(logging.Formatter):
    def formatException(  # noqa: N802 - the name that logging gives it
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        return render_defect(ei[1]) if ei[1] is not None else ""


def set_up_log(level: str, layout: str, stream: TextIO) -> None:
    """Lets everything that is logged in this process go to `stream`, without the words of an error."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Discreet(layout))
    set_up_handlers(level, [handler])


def set_up_handlers(level: str, handlers: Sequence[logging.Handler]) -> None:
    """Lets everything that is logged go there; each of them has a `Discreet` formatter."""
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)
    threading.excepthook = _log_thread
    sys.unraisablehook = _log_unraisable


def _log_thread(arguments: threading.ExceptHookArgs) -> None:
    name = arguments.thread.name if arguments.thread is not None else "?"
    if arguments.exc_value is not None:
        logging.getLogger(__name__).error("a defect in thread %s: %s", name, render_defect(arguments.exc_value))


def _log_unraisable(arguments: "sys.UnraisableHookArgs") -> None:
    if arguments.exc_value is not None:
        logging.getLogger(__name__).error("a defect while cleaning up: %s", render_defect(arguments.exc_value))
