"""Options that several commands of `sessions` share: which sessions are meant."""

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from agent.core.sessions.session_queries import Wanted
from agent.errors import UsageError

_SPAN = re.compile(r"(\d{1,6})\s*(min|h|d|w)")
_SPANS_S = {"min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def narrowing(command: Callable[..., Any]) -> Callable[..., Any]:
    """--project, --provider, --model, --since."""
    options = [
        click.option("--project", default="", metavar="FOLDER", help="Part of the folder's name, or a pattern with *."),
        click.option("--provider", default="", metavar="NAME", help="claude, codex, gemini or copilot."),
        click.option("--model", default="", metavar="NAME", help="Part of a model's name."),
        click.option("--since", default="", metavar="WHEN", help="A date (2026-01-31), or a span: 90min, 6h, 7d, 2w."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def read_wanted(project: str, provider: str, model: str, since: str) -> Wanted:
    """Raises UsageError."""
    if provider:
        from agent.providers import PROVIDERS

        if provider not in PROVIDERS:
            raise UsageError(f"{provider[:32]!r} is no provider", hint=f"known are {', '.join(PROVIDERS)}")
    return Wanted(project=project, provider=provider, model=model, since_s=parse_since(since, time.time()))


def parse_since(text: str, now_s: float) -> float | None:
    """Wall seconds; None for nothing. A date is one of this machine's clock. Raises UsageError."""
    if not text:
        return None
    found = _SPAN.fullmatch(text.strip())
    if found:
        return now_s - int(found.group(1)) * _SPANS_S[found.group(2)]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{text[:32]!r} is no time", hint="a date (2026-01-31), or a span: 90min, 6h, 7d, 2w"
        ) from None
