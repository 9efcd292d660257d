"""What people and plugins set of sessions: a label, whether it is archived, values under a plugin's name. Nobody else
knows these, so they are no part of the index: one JSON file, written whole, with a checksum and the one before beside
it.
"""

import json
import os
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.errors import DiskError, UsageError
from agent.system.files.own_files import lock_own, make_own, read_own

if TYPE_CHECKING:
    import filelock

LONGEST_LABEL = 200
MOST_KEYS = 64
LONGEST_VALUE_BYTES = 16 << 10
_MOST_BYTES = 64 << 20
_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\.[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LOCKED_S = 10.0


class Annotation(msgspec.Struct, frozen=True, omit_defaults=True):
    """`values`: NAMESPACE.KEY → any JSON. `forgotten`: not to be listed when only the agent's state remembers it."""

    label: str = ""
    archived: bool = False
    values: Mapping[str, Any] = {}
    forgotten: bool = False


class _Kept(msgspec.Struct):
    sum: int
    sessions: dict[str, Annotation]
    schema: int = 1


class Annotations:
    """`note`: what was wrong with the file, of the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = path.with_name(f"{path.stem}.before.json")
        self.note = ""

    def read(self) -> dict[str, Annotation]:
        """Session → what was set of it. Where the file is damaged, the one before counts. Raises DiskError."""
        self.note = ""
        for path in (self._path, self._before):
            try:
                data = read_own(path, _MOST_BYTES + 1)
            except FileNotFoundError:
                if path == self._path and not self._before.exists():
                    return {}
                continue
            except OSError as exc:
                raise DiskError(f"{path} can't be read: {exc.strerror}") from exc
            kept = _decode(data)
            if kept is not None:
                return kept
            self.note = f"{path} is damaged; what was set of sessions before its last change is used"
        return {}

    def change(self, session_id: str, edit: Callable[[Annotation], Annotation]) -> Annotation:
        """What holds of the session afterwards. Raises DiskError, UsageError."""
        with self._locked():
            known = self.read()
            after = edit(known.get(session_id, Annotation()))
            if after == known.get(session_id, Annotation()):
                return after
            self._write({**known, session_id: after})
            return after

    def forget(self, sessions: set[str]) -> None:
        """All that was set of them, and notes that they are forgotten. Raises DiskError."""
        with self._locked():
            self._write({**self.read(), **dict.fromkeys(sessions, Annotation(forgotten=True))})

    def _write(self, sessions: dict[str, Annotation]) -> None:
        kept = {one: value for one, value in sessions.items() if value != Annotation()}
        data = msgspec.json.encode(_Kept(_sum(kept), kept))
        if len(data) > _MOST_BYTES:
            raise UsageError(f"annotations of {len(data):,} bytes, at most {_MOST_BYTES:,} are kept")
        try:
            if self._path.exists() and not self.note:  # a damaged one must not take the place of the last whole one
                os.replace(self._path, self._before)
            made = self._path.with_name(f"{self._path.name}.new")
            with open(make_own(made), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(made, self._path)
        except OSError as exc:
            raise DiskError(f"{self._path} can't be written: {exc.strerror}") from exc

    def _locked(self) -> "filelock.BaseFileLock":
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return lock_own(self._path.with_suffix(".lock"), _LOCKED_S)
        except OSError as exc:
            raise DiskError(f"{self._path} can't be locked: {exc.strerror}") from exc


def check_label(label: str) -> str:
    """On one line. Raises UsageError."""
    text = " ".join("".join(ch if ch.isprintable() else " " for ch in label).split())
    if len(text) > LONGEST_LABEL:
        raise UsageError(f"the label has {len(text)} characters, at most {LONGEST_LABEL} are kept")
    return text


def with_value(before: Annotation, key: str, value: Any) -> Annotation:
    """`value` under a plugin's name. Raises UsageError."""
    if _KEY.fullmatch(key) is None:
        raise UsageError(f"{key[:64]!r} is no NAMESPACE.KEY", hint="sessions patch SESSION --set my-plugin.rating=5")
    size = len(msgspec.json.encode(value))
    if size > LONGEST_VALUE_BYTES:
        raise UsageError(f"{key} is a value of {size:,} bytes, at most {LONGEST_VALUE_BYTES:,} are kept")
    values = {**before.values, key: value}
    if len(values) > MOST_KEYS:
        raise UsageError(f"{len(values)} values of one session, at most {MOST_KEYS} are kept")
    return msgspec.structs.replace(before, values=values)


def without_value(before: Annotation, key: str) -> Annotation:
    return msgspec.structs.replace(before, values={one: it for one, it in before.values.items() if one != key})


def _decode(data: bytes) -> dict[str, Annotation] | None:
    try:
        kept = msgspec.json.decode(data, type=_Kept)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return kept.sessions if kept.sum == _sum(kept.sessions) else None


def _sum(sessions: Mapping[str, Annotation]) -> int:
    return zlib.crc32(json.dumps(msgspec.to_builtins(sessions), sort_keys=True).encode())
