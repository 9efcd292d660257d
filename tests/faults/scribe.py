"""Transcripts that grow as coding agents let them grow, from a seed."""

import json
import os
import random
import uuid
from collections.abc import Callable
from pathlib import Path

from agent.core.transcripts.session import StreamId
from agent.core.transcripts.transcript import entry_uuid, split_lines, whole_lines_bytes


class Scribe:
    """Writes below `root`. Session ids begin with `name`, so that many scribes may share a server.

    `rewrites`: whether files are also cut and written anew, which needs a server that keeps generations.
    """

    def __init__(self, root: Path, name: str, seed: int, *, rewrites: bool = False) -> None:
        self._root = root / "p"
        self._name = name
        self._rng = random.Random(seed)
        kinds: list[tuple[int, Callable[[], None]]] = [
            (8, self._append),
            (3, self._tear),
            (3, self._begin),
            (3, self._append_to_subagent),
            (2, self._append_much),
        ]
        if rewrites:
            kinds.append((1, self._rewrite))
        self._kinds = [kind for _, kind in kinds]
        self._weights = [weight for weight, _ in kinds]

    def grow(self, times: int = 1) -> None:
        for kind in self._rng.choices(self._kinds, self._weights, k=times):
            kind()

    # --- what coding agents do ------------------------------------------------------------------------------------

    def _append(self) -> None:
        _write(self._any_main(), self._lines(self._rng.randrange(1, 4)))

    def _tear(self) -> None:
        """A line that only begins; whoever appends next glues to it, or ends it first."""
        data = self._entry()
        _write(self._any_main(), data[: self._rng.randrange(1, len(data) - 1)])

    def _begin(self) -> None:
        number = len(list(self._root.glob("*.jsonl")))
        _write(self._root / f"{self._name}-{number}.jsonl", self._lines(self._rng.randrange(1, 6)))

    def _append_to_subagent(self) -> None:
        main = self._any_main()
        path = main.with_suffix("") / "subagents" / f"agent-{self._rng.randrange(2)}.jsonl"
        _write(path, self._lines(self._rng.randrange(1, 3)))

    def _append_much(self) -> None:
        """More than one request's worth, or a line that alone is."""
        if self._rng.random() < 0.5:
            _write(self._any_main(), self._entry(words=240_000))
        else:
            _write(self._any_main(), b"".join(self._entry(words=20_000) for _ in range(14)))

    def _rewrite(self) -> None:
        path = self._any_main()
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        kept = lines[: self._rng.randrange(len(lines) + 1)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(line + b"\n" for line in kept) + self._entry())

    # --- of what ----------------------------------------------------------------------------------------------------

    def _any_main(self) -> Path:
        there = sorted(self._root.glob("*.jsonl"))
        return self._rng.choice(there) if there else self._root / f"{self._name}-0.jsonl"

    def _lines(self, count: int) -> bytes:
        odd = (b'{"type":"mode","mode":"plan"}\n', b"\n", b'{"type":"user","uu\n', b"\x00\x00\n", b'{"a":"\xff\xfe"}\n')
        return b"".join(self._rng.choice(odd) if self._rng.random() < 0.3 else self._entry() for _ in range(count))

    def _entry(self, words: int = 0) -> bytes:
        said = "word " * (words or self._rng.randrange(1, 60))
        made = {"type": "user", "uuid": str(uuid.UUID(int=self._rng.getrandbits(128), version=4))}
        return json.dumps({**made, "cwd": "/home/dev/demo", "message": {"content": said}}).encode() + b"\n"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def find_streams(root: Path) -> dict[StreamId, Path]:
    """Every stream below `root/p`, and its file."""
    found = {}
    for path in sorted((root / "p").rglob("*.jsonl")):
        session, _, subpath = path.relative_to(root / "p").with_suffix("").as_posix().partition("/")
        found[StreamId(session, subpath)] = path
    return found


def whole_lines(path: Path) -> list[bytes]:
    """What a bulk server should hold of a file."""
    data = path.read_bytes()
    return split_lines(data[: whole_lines_bytes(data)])


def addressable_lines(path: Path) -> list[bytes]:
    """What a base server should hold of a main transcript."""
    return [line for line in whole_lines(path) if entry_uuid(line) is not None]
