"""Where tokens come from. The OS keyring joins here; until then the environment is the one source."""

from collections.abc import Mapping
from typing import Protocol

VARIABLE = "TRANSCRIPTD_TOKEN"


class TokenSource(Protocol):
    def token(self, destination: str) -> str | None:
        """The token for a destination's name; None when there is none."""


class EnvironmentTokens:
    """`TRANSCRIPTD_TOKEN`, for every destination."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._token = environment.get(VARIABLE, "").strip() or None

    def token(self, destination: str) -> str | None:
        return self._token


class FixedToken:
    """A token that its holder was handed otherwise; it is written nowhere."""

    def __init__(self, token: str) -> None:
        self._token = token

    def token(self, destination: str) -> str | None:
        return self._token
