"""What a hook of a coding agent runs. It has 50 ms, the start of Python included; it must never fail; what it prints
would end up in the conversation. So it imports as little as it can, waits for nobody, and keeps silent."""

import os
import sys
import time
from collections.abc import Sequence

_MOST_BYTES = 8 << 20
"""Of the hook's JSON. Some events carry the output of tools; those that we ask for are below 1 kB."""

_WAIT_S = 1.0
"""For the hook's JSON. It stands there when Python has started; asynchronous hooks got none on macOS."""

_READ_BYTES = 1 << 16
_STDIN = 0


def capture(arguments: Sequence[str]) -> None:
    """Adds the transcripts that the hook's JSON names to the spool, and ends the process with 0. Whatever fails, a full
    look finds them as well, so nothing is said of it: exit status 2 would even keep the coding agent from ending."""
    try:
        _capture(_spool_option(arguments))
    finally:
        # At once: it spares the tenth of the time that Python takes to clean up, and no traceback gets out.
        os._exit(0)


def _capture(path: str) -> None:
    from agent.system.state.spool import Spool, spool_path

    session_id, transcripts, is_over = _read_hook(_read_stdin())
    session_id = session_id or os.environ.get("CLAUDE_CODE_SESSION_ID", "")
    path = path or spool_path(os.environ)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    spool = Spool(path)
    for transcript in transcripts or [""]:
        spool.append(session_id, transcript, time.time() if is_over else None)


def _spool_option(arguments: Sequence[str]) -> str:
    """FILE of `--spool FILE`; empty without it. Anything else is overlooked, since a hook can't complain."""
    if "--spool" in arguments[:-1]:
        return arguments[arguments.index("--spool") + 1]
    return ""


def _read_hook(data: bytes) -> tuple[str, list[str], bool]:
    """Session id and transcripts of a hook's JSON, empty where it does not tell; and whether the session ended."""
    import json

    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return "", [], False
    if not isinstance(said, dict):
        return "", [], False
    session_id = said.get("session_id")
    paths = [said.get("transcript_path"), said.get("agent_transcript_path")]  # the second one at SubagentStop
    is_over = said.get("hook_event_name") == "SessionEnd"
    named = [one for one in paths if isinstance(one, str) and one]
    return session_id if isinstance(session_id, str) else "", named, is_over


def _read_stdin() -> bytes:
    """What stands on stdin until it ends; what came by then when it does not end in time. Nothing from a terminal."""
    try:
        return b"" if os.isatty(_STDIN) else _read_in_time()
    except OSError:  # it was closed
        return b""


def _read_in_time() -> bytes:
    data = bytearray()
    if sys.platform == "win32":
        # A pipe can't be waited for there. Not run on Windows yet.
        import threading

        reader = threading.Thread(target=_read_all, args=(data,), daemon=True)
        reader.start()
        reader.join(_WAIT_S)
        return bytes(data)
    import select

    deadline = time.monotonic() + _WAIT_S
    while len(data) < _MOST_BYTES and select.select([_STDIN], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(_STDIN, _READ_BYTES)
        if not part:
            break
        data += part
    return bytes(data)


def _read_all(data: bytearray) -> None:
    while len(data) < _MOST_BYTES and (part := os.read(_STDIN, _READ_BYTES)):
        data += part
