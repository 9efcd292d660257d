"""The keyring, for one who can't wait without end: every question has a deadline and a process of its own."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import agent
from agent.errors import KeyringError, KeyringLocked, KeyringMissing, UsageError
from agent.system.tokens import VARIABLE, Secret
from agent.system.tokens.backends import BACKENDS
from agent.system.tokens.places import CREDENTIALS
from agent.system.tokens.presence import Presence, read_presence

log = logging.getLogger(__name__)

QUIET_S = 10.0
"""No prompt is shown, so nobody has to be waited for; a machine that just began to work may be slow."""

LOUD_S = 120.0
"""Somebody types a passphrase."""

_GRACE_S = 5.0
"""The process ends itself at the limit; this is for one that can't."""

Run = Callable[[dict[str, Any]], dict[str, Any]]
"""A question to `child.answer` and what it gives; raises KeyringError when nothing comes back."""


class Place(NamedTuple):
    """Where in a keyring a token lies. The service names the server, so that a token is found for no other one."""

    service: str
    account: str


class Keyring:
    """One of `BACKENDS`. One question at a time."""

    def __init__(self, backend: str, run: Run | None = None, presence: Callable[[], Presence] = read_presence) -> None:
        self._name = backend
        self._backend = BACKENDS[backend]
        self._run = run or _Processes()
        self._presence = presence
        self._turn = threading.Lock()

    def find(self, place: Place) -> Secret | None:
        """None when there is no such item. Never prompts. Raises KeyringLocked, KeyringMissing or KeyringError."""
        with self._turn:
            if self._name == "secret-service":
                self._check_presence()  # asking takes 2 ms in this process, and 150 in one of its own
            reply = self._ask("look", place, quiet=True)
        return Secret(reply["secret"]) if reply["is"] == "found" else None

    def store(self, place: Place, secret: Secret) -> None:
        """Stored and read back when it returns. May prompt. Raises like `find`, and UsageError for one too long."""
        most = self._backend.most_characters
        if most is not None and len(secret.text) > most:
            raise UsageError(
                f"the token has {len(secret.text)} characters, and {self._backend.words} takes {most} at most",
                hint="--token-file FILE",
            )
        with self._turn:
            reply = self._ask("store", place, quiet=False, secret=secret.text)
        if reply["is"] != "done":
            raise KeyringError(f"{self._backend.words} gives back something else than what was stored")

    def drop(self, place: Place) -> bool:
        """False when there was no such item. May prompt. Raises like `find`."""
        with self._turn:
            return bool(self._ask("drop", place, quiet=False)["is"] == "done")

    def _check_presence(self) -> None:
        presence = self._presence()
        if presence is Presence.LOCKED:
            raise self._locked()
        if presence is Presence.MISSING:
            raise self._missing()

    def _ask(self, act: str, place: Place, *, quiet: bool, secret: str | None = None) -> dict[str, Any]:
        question = {
            "act": act,
            "backend": self._name,
            "service": place.service,
            "account": place.account,
            "quiet": quiet,
            "limit_s": QUIET_S if quiet else LOUD_S,
            **({} if secret is None else {"secret": secret}),
        }
        reply = self._run(question)
        log.debug("keyring: %s: %s %s", act, reply["is"], reply.get("why", ""))
        match reply["is"]:
            case "locked":
                raise self._locked()
            case "missing":
                raise self._missing()
            case "too_long":
                raise UsageError(f"the token is longer than {self._backend.words} takes", hint="--token-file FILE")
            case "failed":
                raise KeyringError(f"{self._backend.words} failed ({reply['why']})")
        return reply

    def _locked(self) -> KeyringLocked:
        return KeyringLocked(f"{self._backend.words} is locked", hint="unlock it; logging in to the desktop does")

    def _missing(self) -> KeyringMissing:
        return KeyringMissing(
            f"{self._backend.words} is not there (yet)",
            hint="without a desktop: transcriptd login URL --token-file FILE",
        )


class _Processes:
    """Starts `child` for each question."""

    def __call__(self, question: dict[str, Any]) -> dict[str, Any]:
        # `-m` looks in the current folder first, and users have folders named agent: ours is the one beside this file.
        home_of_package = Path(agent.__file__).resolve().parent.parent
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "agent.system.tokens.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=home_of_package,
                env=child_environment(os.environ),
                text=True,
                encoding="utf-8",
            )
        except OSError as exc:
            raise KeyringError(f"no process can be started to ask the keyring: {exc.strerror}") from exc
        with process:
            try:
                out, _ = process.communicate(json.dumps(question) + "\n", timeout=question["limit_s"] + _GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                out = ""
        try:
            reply = json.loads(out)
            known: str = reply["is"]
        except (ValueError, KeyError, TypeError):
            # Not `from` it: a part of an answer may stand in it.
            raise KeyringError(f"the keyring gave no answer within {question['limit_s']:.0f} s") from None
        return {**reply, "is": known}


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a process that asks the keyring needs: all but secrets, and the way to the session's bus where only its
    usual place tells it (cron, ssh)."""
    kept = {name: value for name, value in environment.items() if name not in (VARIABLE, CREDENTIALS)}
    bus = os.path.join(kept.get("XDG_RUNTIME_DIR", ""), "bus")
    if "DBUS_SESSION_BUS_ADDRESS" not in kept and os.path.isabs(bus) and os.path.exists(bus):
        kept["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={bus}"
    return kept
