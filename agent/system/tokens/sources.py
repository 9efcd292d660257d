"""The token of each destination, from where the settings say it is."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

from agent.core.settings import Destination, TokenIn
from agent.errors import KeyringError, TokenNotReadable
from agent.system.tokens import VARIABLE, EnvironmentTokens, Secret, TokenSource, token_in
from agent.system.tokens.backends import BACKENDS, choose_backend
from agent.system.tokens.client import Keyring, Place
from agent.system.tokens.places import (
    Signature,
    credential_path,
    read_credential,
    read_signature,
    read_token_file,
)

FindKeyring = Callable[[str], Keyring]
"""From the name of a backend."""


class _Source(Protocol):
    def read(self) -> Secret | None: ...
    def sign(self) -> Signature | None:
        """Another value when another token may be there; None where only asking tells."""


def open_tokens(
    destinations: Iterable[Destination],
    instance: str,
    environment: Mapping[str, str],
    find_keyring: FindKeyring = Keyring,
) -> TokenSource:
    """`TRANSCRIPTD_TOKEN` for all where it is set, else what the settings say of each. `instance`: see `place_of`."""
    if token_in(environment) is not None:
        return EnvironmentTokens(environment)
    return _Tokens({one.name: (one.token, _source(one, instance, environment, find_keyring)) for one in destinations})


def place_of(destination: Destination, instance: str) -> Place:
    """Where its token lies in a keyring. `instance`: the home of one that is not the user's only, else empty. The
    server's origin is part of it: whoever changes an address in the settings has to log in there."""
    parts = urlsplit(destination.url)
    account = f"{destination.name} of {instance}" if instance else destination.name
    return Place(f"transcriptd {parts.scheme}://{parts.netloc.lower()}", account)


def describe_place(one: Destination) -> str:
    """Where the settings say that its token is, for people."""
    return {
        TokenIn.KEYRING: BACKENDS[choose_backend(one.keyring)].words,
        TokenIn.FILE: f"the file {one.token_file}",
        TokenIn.CREDENTIAL: f"the credential {one.credential}",
        TokenIn.ENVIRONMENT: f"the variable {VARIABLE}",
    }[TokenIn(one.token)]


def _source(one: Destination, instance: str, environment: Mapping[str, str], find_keyring: FindKeyring) -> "_Source":
    match one.token:
        case TokenIn.FILE:
            return _File(one.token_file)
        case TokenIn.CREDENTIAL:
            return _Credential(one.credential, environment)
        case TokenIn.ENVIRONMENT:
            return _Nowhere()
    return _InKeyring(find_keyring(choose_backend(one.keyring)), place_of(one, instance))


class _File:
    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> Secret | None:
        return _secret(read_token_file(self._path))

    def sign(self) -> Signature | None:
        return read_signature(self._path) if self._path else None


class _Credential:
    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        self._name = name
        self._environment = environment

    def read(self) -> Secret | None:
        return _secret(read_credential(self._name, self._environment))

    def sign(self) -> Signature | None:
        try:
            return read_signature(credential_path(self._name, self._environment))
        except TokenNotReadable:
            return None


class _Nowhere:
    """The environment, in which nothing is."""

    def read(self) -> Secret | None:
        return None

    def sign(self) -> Signature | None:
        return None


class _InKeyring:
    def __init__(self, keyring: Keyring, place: Place) -> None:
        self._keyring = keyring
        self._place = place

    def read(self) -> Secret | None:
        return self._keyring.find(self._place)

    def sign(self) -> Signature | None:
        return None


class _Tokens:
    """`sources`: of each destination, with what the settings call them."""

    def __init__(self, sources: Mapping[str, tuple[str, _Source]]) -> None:
        self._words = {name: words for name, (words, _) in sources.items()}
        self._kept = {name: _Kept(source) for name, (_, source) in sources.items()}

    def token(self, destination: str) -> str | None:
        return _text(self._kept[destination].get())

    def renew(self, destination: str, refused: str) -> str | None:
        return _text(self._kept[destination].get_instead(refused))

    def forget(self, destination: str) -> None:
        if destination in self._kept:
            self._kept[destination].forget()

    def source(self, destination: str) -> str:
        return self._words[destination]

    def find_changed(self) -> bool:
        changed = [kept.has_changed() for kept in self._kept.values()]  # all of them, so that each change is told once
        return any(changed)


class _Kept:
    """One destination's token, in memory until the server refuses it or somebody puts another one there."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._looks = 0
        self._signature = source.sign()
        self._secret: Secret | None = None
        self._refused: Secret | None = None

    def get(self) -> Secret | None:
        looks, secret = self._looks, self._secret
        if secret is not None and self._source.sign() == self._signature:
            return secret
        with self._lock:
            if self._looks != looks and self._secret is not None:
                return self._secret  # somebody else looked while this one waited
            return self._look()

    def get_instead(self, refused: str) -> Secret | None:
        """What is refused is looked behind once, however many requests it was refused for; it is not kept, so that
        the next request looks again."""
        with self._lock:
            if self._secret is not None and self._secret.text != refused:
                return self._secret
            if self._refused is None or self._refused.text != refused:
                try:
                    found = self._look()
                except (KeyringError, TokenNotReadable):
                    found = None  # whoever asks for the token next is told
                if found is not None and found.text != refused:
                    return found
                self._refused = Secret(refused)
            self._secret = None
            return None

    def forget(self) -> None:
        with self._lock:
            self._secret = self._refused = None

    def has_changed(self) -> bool:
        with self._lock:
            signature = self._source.sign()
            if signature == self._signature:
                return False
            self._signature, self._secret, self._refused = signature, None, None
            return True

    def _look(self) -> Secret | None:
        self._looks += 1
        self._signature = self._source.sign()  # before the content: a change in between is seen next time
        self._secret = None
        self._secret = self._source.read()
        return self._secret


def _secret(text: str | None) -> Secret | None:
    return None if text is None else Secret(text)


def _text(secret: Secret | None) -> str | None:
    return None if secret is None else secret.text
