"""The process that speaks to the keyring for us, one question in its life.

`keyring` and what it stands on take 10 to 25 MiB that nobody gives back; a prompt blocks without end; a look-up that
fails leaks descriptors, or is remembered as the last word. All of that ends with this process. Question and answer are
one JSON object each, by pipes: neither arguments nor environment ever hold a token.
"""

import json
import os
import sys
import threading
from typing import Any

from agent.system.machine.process import forbid_dumps
from agent.system.tokens.backends import BACKENDS

_LOCKED_STATUSES = ("-25308", "-25293", "-128")
"""Of macOS: no prompt allowed, not let in, somebody said no. `keyring` tells some of them as plain errors."""

_TOO_LONG, _NO_SESSION = 1783, 1312
"""Of Windows: more than a credential takes; nobody is logged in here, as for a service of the system."""


def main() -> None:
    forbid_dumps()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    question = json.loads(sys.stdin.readline())
    _end_after(question["limit_s"])
    answers.write(json.dumps(answer(question)) + "\n")
    answers.flush()


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """`act`: look, store or drop. Gives `is`: found (with the secret), none, done, locked, missing, too_long, differs
    or failed; `why` holds no word of what a library said but numbers and kinds."""
    try:
        return _act(question)
    except Exception as exc:  # noqa: BLE001 - foreign errors of five libraries; their texts may hold what they were given
        return _verdict(exc)


def _act(question: dict[str, Any]) -> dict[str, Any]:
    from keyring.core import load_keyring

    backend = BACKENDS[question["backend"]]
    try:
        keyring = load_keyring(backend.quiet if question["quiet"] else backend.loud)
    except (RuntimeError, ImportError) as exc:
        return {"is": "missing", "why": type(exc).__name__}
    service, account = question["service"], question["account"]
    if question["act"] == "drop":
        if keyring.get_password(service, account) is None:
            return {"is": "none"}
        keyring.delete_password(service, account)
        return {"is": "done"}
    if question["act"] == "store":
        keyring.set_password(service, account, question["secret"])
        return {"is": "done" if keyring.get_password(service, account) == question["secret"] else "differs"}
    found = keyring.get_password(service, account)
    return {"is": "none"} if found is None else {"is": "found", "secret": found}


def _verdict(exc: Exception) -> dict[str, Any]:
    from keyring.errors import InitError, KeyringError, KeyringLocked, NoKeyringError

    number = getattr(exc, "winerror", None)
    words = type(exc).__name__ + (f" {number}" if isinstance(number, int) else "")
    if number == _TOO_LONG:
        return {"is": "too_long", "why": words}
    if isinstance(exc, KeyringLocked) or type(exc).__name__ in ("LockedException", "PromptDismissedException"):
        return {"is": "locked", "why": words}
    if isinstance(exc, KeyringError):
        for status in _LOCKED_STATUSES:
            if f"({status}," in str(exc):
                return {"is": "locked", "why": status}
    # ItemNotFound: no collection that new items go to; one is made by whoever may prompt.
    gone = ("SecretServiceNotAvailableException", "ItemNotFoundException")
    if isinstance(exc, (InitError, NoKeyringError)) or type(exc).__name__ in gone or number == _NO_SESSION:
        return {"is": "missing", "why": words}
    return {"is": "failed", "why": words}


def _end_after(limit_s: float) -> None:
    """Also when the one who asked is gone meanwhile, and a prompt stands on the screen."""
    timer = threading.Timer(limit_s, os._exit, (75,))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    main()
