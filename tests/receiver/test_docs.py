"""What `docs/wire.md` says of numbers and names is what the code does."""

import json
import re
from pathlib import Path

from agent.core.transcripts.transcript import ENTRY_NAMESPACE, tombstone_line
from agent.core.wire import CODE_SESSIONS
from agent.receiver.bodies import ENCODINGS, Limits
from agent.receiver.openapi import describe_api

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")


def test_vectors_on_the_page_are_the_tested_ones() -> None:
    vectors = json.loads((ROOT / "tests" / "vectors" / "entries.json").read_text(encoding="utf-8"))
    shown = re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|$", PAGE, re.MULTILINE)
    known = [(e["entry_id"], e["chain_hash"]) for stream in vectors["streams"] for e in stream["entries"]]
    assert len(shown) >= 4
    assert set(shown) <= set(known)
    assert str(ENTRY_NAMESPACE) in PAGE


def test_the_tombstone_on_the_page_has_the_real_shape() -> None:
    stone = tombstone_line(123, "…", "…", 413).decode()
    assert stone in PAGE


def test_the_offer_on_the_page_is_the_default() -> None:
    limits = Limits()
    encodings = ", ".join(f'"{name}"' for name in ENCODINGS)
    offer = f'{{"max_bytes": {limits.max_bytes}, "max_entries": {limits.max_entries}, "encodings": [{encodings}]}}'
    assert offer in PAGE
    assert f'"max_entry_bytes": {limits.max_entry_bytes}' in PAGE
    assert f"up to `max_entry_bytes`, {limits.max_entry_bytes >> 20} MiB" in PAGE


def test_every_path_is_on_the_page() -> None:
    paths = describe_api()["paths"]
    assert isinstance(paths, dict)
    for path in paths:
        tail = path.removeprefix(CODE_SESSIONS).partition("}")[2] or path
        assert tail.partition("{")[0] in PAGE, path
