"""The rules of detect-secrets that a linear-time engine can run, as ours.

Its plugins are imported one by one: all of them take 0.2 s. What it looks for with look-behind, by entropy alone, or
with many false hits (public addresses, keywords) is not taken, and what our own table says more precisely neither.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from agent.core.redaction.secret_shapes import Rule

KINDS = frozenset(
    (
        "aws-access-key",
        "github-token",
        "gitlab-token",
        "openai-key",
        "pypi-token",
        "sendgrid-key",
        "slack-token",
        "square-token",
        "stripe-key",
        "twilio-key",
    )
)
"""What all of them find; a test says whether a later version still does."""

_NOT_RUN = re.compile(r"\(\?<|\(\?=|\(\?!")
"""What RE2 does not do: looking ahead and behind."""

_MANY = re.compile(r",[0-9]{4,}\}")
"""RE2 counts up to 1,000."""

_GROUP = re.compile(r"(?<!\\)\((?!\?)")


def borrowed_rules() -> Iterator[Rule]:
    """Those of the plugins that are there."""
    for kind, check, patterns in _denylists():
        for pattern in patterns:
            text = pattern.pattern.removesuffix(r"(?!\w)")
            if _NOT_RUN.search(text):
                continue
            text = _MANY.sub(",}", _GROUP.sub("(?:", text))
            yield Rule(kind, rf"\b({'(?i)' if pattern.flags & re.IGNORECASE else ''}{text})", check)


def _denylists() -> Iterator[tuple[str, str, Any]]:
    """Kind, check and patterns. Each by itself: one that a later version renames must not take the others along."""
    with suppress(ImportError):
        from detect_secrets.plugins.aws import AWSKeyDetector

        yield "aws-access-key", "example", AWSKeyDetector.denylist[:1]
    with suppress(ImportError):
        from detect_secrets.plugins.github_token import GitHubTokenDetector

        yield "github-token", "", GitHubTokenDetector.denylist
    with suppress(ImportError):
        from detect_secrets.plugins.gitlab_token import GitLabTokenDetector

        yield "gitlab-token", "prefixed", GitLabTokenDetector.denylist
    with suppress(ImportError):
        from detect_secrets.plugins.openai import OpenAIDetector

        yield "openai-key", "", OpenAIDetector.denylist
    with suppress(ImportError):
        from detect_secrets.plugins.pypi_token import PypiTokenDetector

        yield "pypi-token", "", PypiTokenDetector.denylist
    with suppress(ImportError):
        from detect_secrets.plugins.sendgrid import SendGridDetector

        yield "sendgrid-key", "prefixed", SendGridDetector.denylist
    with suppress(ImportError):
        from detect_secrets.plugins.slack import SlackDetector

        yield "slack-token", "prefixed", SlackDetector.denylist[:1]
    with suppress(ImportError):
        from detect_secrets.plugins.square_oauth import SquareOAuthDetector

        yield "square-token", "", SquareOAuthDetector.denylist
    with suppress(ImportError):
        from detect_secrets.plugins.stripe import StripeDetector

        yield "stripe-key", "prefixed", StripeDetector.denylist
    with suppress(ImportError):
        from detect_secrets.plugins.twilio import TwilioKeyDetector

        yield "twilio-key", "random", TwilioKeyDetector.denylist
