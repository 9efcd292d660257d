"""What a failed comparison of large values says: lengths, hashes and where they part. Never the values."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

LARGE = 16 << 10
"""Bytes or characters, those of everything in a container together."""


def brief_about_large(detailed: Callable[..., Iterator[str]]) -> Callable[..., Iterator[str]]:
    """In place of `detailed`, pytest's own explanation, which goes on to be that of smaller values."""
    signature = inspect.signature(detailed)

    def explain(*arguments: Any, **named: Any) -> Iterator[str]:
        given = signature.bind(*arguments, **named).arguments
        op, left, right = given["op"], given["left"], given["right"]
        if max(measure(left), measure(right)) <= LARGE:
            return detailed(*arguments, **named)
        return iter([f"{_sum_up(left)} {op} {_sum_up(right)}", *_part(left, right)])

    return explain


def measure(value: object, limit: int = LARGE) -> int:
    """How long it would be, written out; no longer counted once it is more than `limit`."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        return len(value)
    size, pending = 0, [value]
    while pending and size <= limit:
        one = pending.pop()
        if isinstance(one, str | bytes | bytearray | memoryview):
            size += len(one)
        elif isinstance(one, Mapping):
            size += 1
            pending += [*one.keys(), *one.values()][: limit + 1]
        elif isinstance(one, Sequence | AbstractSet):
            size += 1
            pending += list(one)[: limit + 1]
        else:
            size += 8
    return size


def _sum_up(value: object) -> str:
    data = value if isinstance(value, bytes | bytearray | memoryview) else repr(value).encode()
    length = f"length {len(value)}, " if hasattr(value, "__len__") else ""
    return f"<{type(value).__name__}, {length}sha256 {hashlib.sha256(data).hexdigest()[:16]}>"


def _part(left: object, right: object) -> list[str]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        keys = [key for key in (*left, *right) if key not in left or key not in right or left[key] != right[key]]
        return [f"{len(set(keys))} keys differ, the first is {_clip(keys[0])}"] if keys else []
    if isinstance(left, Sequence) and isinstance(right, Sequence):
        at = next((at for at, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), None)
        return [f"equal up to {min(len(left), len(right)) if at is None else at}"]
    if isinstance(left, AbstractSet) and isinstance(right, AbstractSet):
        return [f"{len(left - right)} only in the first, {len(right - left)} only in the second"]
    return []


def _clip(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
