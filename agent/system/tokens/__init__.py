"""Where tokens come from: the keyring, or the place that the settings name instead.

`sources` decides which; `client` asks the keyring, by a process of its own (`child`), and `presence` whether that is
worth it; `places` reads files. The token is held in memory and nowhere else. Whatever holds it shows stars.
"""

from collections.abc import Mapping
from typing import Protocol

VARIABLE = "TRANSCRIPTD_TOKEN"


class TokenSource(Protocol):
    """For any number of threads."""

    def token(self, destination: str) -> str | None:
        """The token for a destination's name; None when there is none. May take as long as a keyring takes to answer.
        Raises KeyringError when the keyring can't be asked now, TokenNotReadable when a file must not be used."""

    def renew(self, destination: str, refused: str) -> str | None:
        """Another token than the one that the server just refused; None when there is no other. Never raises."""

    def forget(self, destination: str) -> None:
        """Somebody stored or removed its token: look again. Nothing happens for a name that is not known."""

    def source(self, destination: str) -> str:
        """Where it comes from, in the words of the settings; "given" by whoever started this process."""

    def find_changed(self) -> bool:
        """Whether a file with a token changed since the last call. Costs next to nothing."""


class Secret:
    """A token that shows stars wherever its holder is printed."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Secret(***)"


class FixedToken:
    """A token that its holder was handed otherwise; it is written nowhere."""

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else Secret(token)

    def token(self, destination: str) -> str | None:
        return None if self._token is None else self._token.text

    def renew(self, destination: str, refused: str) -> str | None:
        return None

    def forget(self, destination: str) -> None:
        """There is nothing to look at again."""

    def source(self, destination: str) -> str:
        return "given"

    def find_changed(self) -> bool:
        return False


class EnvironmentTokens(FixedToken):
    """`TRANSCRIPTD_TOKEN`, for every destination."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(token_in(environment))

    def source(self, destination: str) -> str:
        return "environment"


def token_in(environment: Mapping[str, str]) -> str | None:
    return environment.get(VARIABLE, "").strip() or None
