"""Counts what the readers make of the corpus: `python -m tests.providers.reading.corpus_counts --write` pins it."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from agent.core.sessions.normalised import Event, Kind
from agent.core.transcripts.session import Provider, StreamId
from agent.providers import PROVIDERS
from tests.conftest import CORPORA

_ROOTS = ("projects", "sessions", "archived_sessions", "tmp", "session-state")

PINNED = Path(__file__).with_name("corpus_counts.json")


def transcripts(corpus: Path, provider: Provider) -> Iterator[tuple[Path, StreamId]]:
    """Each transcript of an agent below the corpus, and its stream."""
    for path in sorted((corpus / provider.name).rglob("*.jsonl")):
        names = path.relative_to(corpus).parts
        below = next(at for at, name in enumerate(names) if name in _ROOTS) + 1
        first_lines = partial(_first_lines, path)
        stream = provider.classify(names[below:], first_lines)
        assert stream is not None, path
        yield path, stream


def _first_lines(path: Path) -> list[bytes]:
    return whole_lines(path)[:20]


def whole_lines(path: Path) -> list[bytes]:
    lines = path.read_bytes().split(b"\n")
    lines.pop()
    return lines


def count(path: Path, provider: Provider, stream: StreamId) -> dict[str, Any]:
    """Lines, those that gave events, events by kind, warnings by text."""
    reader = provider.reader(stream)
    events: list[Event] = []
    telling = 0
    for line in whole_lines(path):
        told = reader.read(line)
        telling += bool(told)
        events += told
    events += reader.finish()
    kinds = Counter(event.kind.value for event in events)
    warnings = Counter(event.text for event in events if event.kind is Kind.PARSE_WARNING)
    return {"lines": len(whole_lines(path)), "telling": telling, **dict(sorted(kinds.items())), "warnings": warnings}


def count_all(provider: Provider) -> dict[str, dict[str, Any]]:
    """Of every corpus: path below their folder → counts."""
    return {
        path.relative_to(corpus.parent).as_posix(): count(path, provider, stream)
        for corpus in CORPORA
        for path, stream in transcripts(corpus, provider)
    }


def render(counts: dict[str, dict[str, Any]]) -> str:
    """A file a line."""
    rows = (f" {json.dumps(name)}: {json.dumps(row)}" for name, row in counts.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"


if __name__ == "__main__":
    text = render({path: row for one in PROVIDERS.values() for path, row in count_all(one).items()})
    if "--write" in sys.argv:
        PINNED.write_text(text)
    else:
        sys.stdout.write(text)
