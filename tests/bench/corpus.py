"""Transcripts to measure with: lines shaped like Claude Code's, made of seeded chance and nothing else.

Sizes follow real ones: log-normal with a median of 1.5 KB and a 99th percentile of 60 KB, and now and then a picture
of 1 to 5 MB in base64. Some types carry no uuid, as in real transcripts.
"""

import base64
import math
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

MEDIAN_BYTES = 1_500
P99_BYTES = 60_000
MAX_TEXT_BYTES = 1_000_000
PICTURE_BYTES = (1_000_000, 5_000_000)

_SIGMA = math.log(P99_BYTES / MEDIAN_BYTES) / 2.3263
"""Width of the log-normal whose median and 99th percentile those are (2.3263: the 99 % point of the normal)."""

_ENVELOPE_BYTES = 420
"""What a line costs around its text, about."""

_SMALL_TEXT_BYTES = 200
_BEGAN_AT_S = 1_760_000_000


class Shape(NamedTuple):
    """What to make. `size` bytes are shared out over the sessions; 0: as few lines as a session can have, and short
    ones. `pictures` of them all hold a long base64 line."""

    sessions: int
    size: int
    projects: int = 40
    pictures: int = 0


class Corpus(NamedTuple):
    """What was made: `root` is a folder of projects. `paths` are sorted."""

    root: Path
    paths: tuple[Path, ...]
    entries: int
    size: int


class LineMaker:
    """Lines of one transcript after another, without their newlines."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._pool = _text_pool(self._chance)
        self._signature = base64.b64encode(self._chance.randbytes(240)).decode()

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def text(self, size: int) -> str:
        begin = self._chance.randrange(len(self._pool) - MAX_TEXT_BYTES)
        return self._pool[begin : begin + size]

    def lines(self, session_id: str, cwd: str, *, small: bool = False, pictures: int = 0) -> Iterator[bytes]:
        """Without end. `pictures` of the first forty lines are long ones."""
        chance, parent, at_s = self._chance, None, _BEGAN_AT_S + self._chance.randrange(10_000_000)
        picture_at = set(chance.sample(range(1, 40), pictures))
        number = 0
        while True:
            at_s += 1 + int(chance.expovariate(1 / 6))
            size = int(chance.lognormvariate(math.log(MEDIAN_BYTES), _SIGMA)) - _ENVELOPE_BYTES
            size = _SMALL_TEXT_BYTES if small else max(20, min(size, MAX_TEXT_BYTES))
            kind = "picture" if number in picture_at else self._kind()
            if kind in ("summary", "file-history-snapshot"):
                yield msgspec.json.encode(self._without_uuid(kind, size, at_s))
            else:
                entry = {"parentUuid": parent, "cwd": cwd, "sessionId": session_id} | self._entry(kind, size, at_s)
                parent = entry["uuid"]
                yield msgspec.json.encode(entry)
            number += 1

    def _kind(self) -> str:
        kinds = ("assistant", "user", "tool_result", "system", "summary", "file-history-snapshot")
        return self._chance.choices(kinds, (46, 10, 34, 3, 2, 5))[0]

    def _without_uuid(self, kind: str, size: int, at_s: int) -> dict[str, object]:
        if kind == "summary":
            return {"type": kind, "summary": self.text(60), "leafUuid": self.uuid()}
        files = {
            f"src/module_{number}.py": {"backupFileName": f"{self._chance.getrandbits(64):016x}@v1", "version": 1}
            for number in range(1 + size // 90)
        }
        message = self.uuid()
        snapshot = {"messageId": message, "trackedFileBackups": files, "timestamp": _timestamp(at_s)}
        return {"type": kind, "messageId": message, "snapshot": snapshot, "isSnapshotUpdate": False}

    def _entry(self, kind: str, size: int, at_s: int) -> dict[str, object]:
        entry: dict[str, object] = {
            "isSidechain": False,
            "userType": "external",
            "version": "2.1.197",
            "gitBranch": "main",
            "type": "user" if kind in ("tool_result", "picture") else kind,
        }
        entry |= (
            {"content": self.text(min(size, 600)), "isMeta": False}
            if kind == "system"
            else {"message": self._message(kind, size)}
        )
        return entry | {"uuid": self.uuid(), "timestamp": _timestamp(at_s)}

    def _message(self, kind: str, size: int) -> dict[str, object]:
        tool = f"toolu_01{self._chance.getrandbits(80):020x}"
        if kind == "assistant":
            message = {"id": f"msg_01{self._chance.getrandbits(80):020x}", "type": "message", "role": "assistant"}
            usage = {"input_tokens": 4, "cache_read_input_tokens": 90_000, "output_tokens": size // 4}
            return {**message, "model": "a-model", "content": [self._said(size, tool)], "usage": usage}
        if kind == "user":
            return {"role": "user", "content": self.text(min(size, 4_000))}
        content: object = self.text(size)
        if kind == "picture":
            data = base64.b64encode(self._chance.randbytes(self._chance.randrange(*PICTURE_BYTES) * 3 // 4)).decode()
            source = {"type": "base64", "media_type": "image/png", "data": data}
            content = [{"type": "image", "source": source}]
        return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": tool, "content": content}]}

    def _said(self, size: int, tool: str) -> dict[str, object]:
        roll = self._chance.random()
        if roll < 0.4:
            return {"type": "text", "text": self.text(size)}
        if roll < 0.5:
            return {"type": "thinking", "thinking": self.text(size), "signature": self._signature}
        edit = {"file_path": "src/module.py", "old_string": self.text(size // 2), "new_string": self.text(size // 2)}
        return {"type": "tool_use", "id": tool, "name": "Edit", "input": edit}


def write_corpus(root: Path, shape: Shape, seed: int = 1) -> Corpus:
    """Transcripts below `root`, which must be empty or absent."""
    maker, chance = LineMaker(seed), random.Random(seed)
    weights = [chance.lognormvariate(0, 1) for _ in range(shape.sessions)]
    room = max(0, shape.size - shape.pictures * sum(PICTURE_BYTES) // 2) / sum(weights)
    pictures = [0] * shape.sessions
    for _ in range(shape.pictures):
        pictures[chance.randrange(shape.sessions)] += 1
    paths, entries, size = [], 0, 0
    for number, weight in enumerate(weights):
        project = f"project-{number % min(shape.projects, shape.sessions):03d}"
        session = maker.uuid()
        lines = maker.lines(session, f"/home/dev/{project}", small=not shape.size, pictures=min(pictures[number], 39))
        at_least = 40 if pictures[number] else 2 if not shape.size else 1
        data, count = _joined(lines, int(room * weight), at_least)
        path = root / f"-home-dev-{project}" / f"{session}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths.append(path)
        entries += count
        size += len(data)
    return Corpus(root, tuple(sorted(paths)), entries, size)


def write_long_transcript(root: Path, size: int, seed: int = 1) -> Corpus:
    """One transcript of about `size` bytes: the same ten megabytes, as often as needed."""
    maker = LineMaker(seed)
    session = maker.uuid()
    block, count = _joined(maker.lines(session, "/home/dev/long"), min(size, 10_000_000), 1)
    path = root / "-home-dev-long" / f"{session}.jsonl"
    path.parent.mkdir(parents=True)
    times = max(1, round(size / len(block)))
    with path.open("wb") as file:
        for _ in range(times):
            file.write(block)
    return Corpus(root, (path,), times * count, times * len(block))


def write_long_line(root: Path, size: int, seed: int = 1) -> Corpus:
    """One transcript with a line of `size` bytes between ordinary ones."""
    maker = LineMaker(seed)
    session = maker.uuid()
    around, count = _joined(maker.lines(session, "/home/dev/long"), 100_000, 2)
    path = root / "-home-dev-long" / f"{session}.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.write(around + b'{"type":"user","message":{"role":"user","content":"')
        for _ in range(size // 1_000_000):
            file.write(b"x" * 1_000_000)
        file.write(b'"},"uuid":"' + maker.uuid().encode() + b'"}\n' + around)
        length = file.tell()
    return Corpus(root, (path,), 2 * count + 1, length)


def _joined(lines: Iterator[bytes], size: int, at_least: int) -> tuple[bytes, int]:
    """Whole lines until both limits are reached, and how many they are."""
    parts: list[bytes] = []
    total = 0
    while total < size or len(parts) < at_least:
        parts.append(next(lines))
        total += len(parts[-1]) + 1
    return b"\n".join(parts) + b"\n", len(parts)


def _text_pool(chance: random.Random) -> str:
    """Prose and code enough to cut any text from: newlines, quotes, tabs and signs beyond ASCII included."""
    syllables = ("ba", "con", "de", "fi", "gra", "in", "lo", "mer", "no", "par", "re", "sta", "ter", "un", "vi", "ö")
    words = ["".join(chance.choices(syllables, k=chance.randrange(1, 5))) for _ in range(4_000)]
    words += ["=", "->", '"x"', "\n    ", "\n", "\t", "{", "}", "// —", "\\n"] * 40
    return " ".join(chance.choices(words, k=MAX_TEXT_BYTES // 2))


def _timestamp(at_s: int) -> str:
    day, rest = divmod(at_s - _BEGAN_AT_S, 86_400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.000Z"
    return f"2026-{1 + day // 28 % 12:02d}-{1 + day % 28:02d}T{clock}"
