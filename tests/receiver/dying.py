"""A process that takes one side file and kills itself at its k-th call to the disk: `python -m tests.receiver.dying`.

A fork for every k, so that each begins with the same folder; what the dead one left is then gone on with, and looked
at. Prints a JSON object a line.
"""

import hashlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.core.wire import LongBody, file_head_request, file_request, parse_file_state, session_path
from agent.core.wire import Request as WireRequest
from agent.receiver import blobs as module
from tests.fakes import AsgiServer, receiver_without_network

BEFORE = b"what the path had before"
DATA = bytes(range(256)) * 3000
SHA256 = hashlib.sha256(DATA).digest()
_MOST = 100


def put(server: AsgiServer, data: bytes, offset: int = 0) -> int:
    body = LongBody(len(data) - offset, lambda: iter([data[offset:]]))
    return server.send(file_request("s", "x", hashlib.sha256(data).digest(), offset, body)).status


def dying(count: int, real: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    return call


def take_until(folder: Path, call: int) -> None:
    """The child: takes the file, and dies at that call, half of it done where it can be."""
    left = [call]

    def write(descriptor: int, data: bytes) -> int:
        left[0] -= 1
        if left[0] == 0:
            real_write(descriptor, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real_write(descriptor, data)

    real_write = os.write
    with receiver_without_network(folder) as server:
        os.write = write  # type: ignore[assignment]
        os.open = dying(call, os.open, left)
        os.close = dying(call, os.close, left)
        module._sync = dying(call, module._sync, left)
        for name in ("mkdir", "replace", "unlink"):
            setattr(Path, name, dying(call, getattr(Path, name), left))
        put(server, DATA)


def look(folder: Path) -> dict[str, object]:
    """The parent: what was left, and whether going on leads to the whole file."""
    with receiver_without_network(folder) as server:
        state = parse_file_state(server.send(file_head_request("s", "x", SHA256)), SHA256, len(DATA))
        assert state is not None
        found = server.send(WireRequest("GET", session_path("s", "/files/x"))).body
        status = put(server, DATA, state.offset)
        after = server.send(WireRequest("GET", session_path("s", "/files/x"))).body
    blobs = sorted(path.name for path in (folder / "files").glob("??/*"))
    return {
        "offset": state.offset,
        "whole before": found in (BEFORE, DATA),
        "said to be there": state.there,
        "was there": found == DATA,
        "answer": status,
        "right after": after == DATA,
        "one content": blobs == [SHA256.hex()],
        "nothing left": os.listdir(folder / "files" / "incoming") == [],
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as base:
        for call in range(1, _MOST):
            folder = Path(base) / str(call)
            folder.mkdir()
            with receiver_without_network(folder) as server:
                assert put(server, BEFORE) == 201
            child = os.fork()
            if child == 0:
                take_until(folder, call)
                os._exit(0)
            ended = os.waitpid(child, 0)[1]
            sys.stdout.write(json.dumps({"call": call, "killed": os.WIFSIGNALED(ended), **look(folder)}) + "\n")
            sys.stdout.flush()
            if ended == 0:
                return
        sys.exit(1)


if __name__ == "__main__":
    main()
