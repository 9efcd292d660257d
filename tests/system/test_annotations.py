"""What people set of sessions outlives everything but their own wish."""

from pathlib import Path

import msgspec
import pytest

from agent.errors import UsageError
from agent.system.state.annotations import (
    LONGEST_LABEL,
    LONGEST_VALUE_BYTES,
    MOST_KEYS,
    Annotation,
    Annotations,
    check_label,
    with_value,
    without_value,
)


def label(text: str):  # type: ignore[no-untyped-def]  # a short way to say it
    return lambda before: msgspec.structs.replace(before, label=text)


def test_what_is_set_is_there_for_the_next_one_who_looks(tmp_path: Path) -> None:
    kept = Annotations(tmp_path / "annotations.json")
    assert kept.read() == {}
    kept.change("s", label("mine"))
    kept.change("t", lambda before: with_value(before, "plug.in.x", {"a": [1, None]}))
    found = Annotations(tmp_path / "annotations.json").read()
    assert found == {"s": Annotation("mine"), "t": Annotation(values={"plug.in.x": {"a": [1, None]}})}
    assert (tmp_path / "annotations.json").stat().st_mode & 0o077 == 0
    kept.change("s", label(""))
    assert set(kept.read()) == {"t"}, "what says nothing takes no room"
    kept.forget({"t"})
    assert kept.read() == {"t": Annotation(forgotten=True)}


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"[" * 100_000, None])
def test_a_damaged_file_costs_the_last_change_and_no_more(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "annotations.json"
    kept = Annotations(path)
    kept.change("s", label("first"))
    kept.change("t", label("second"))
    path.write_bytes(path.read_bytes().replace(b"second", b"sEcond") if damage is None else damage)
    assert kept.read() == {"s": Annotation("first")}
    assert "damaged" in kept.note
    kept.change("u", label("third"))
    assert set(kept.read()) == {"s", "u"}
    assert kept.note == ""


def test_labels_and_values_have_bounds() -> None:
    assert check_label(" two\n\x1b[31m words ") == "two [31m words"
    with pytest.raises(UsageError):
        check_label("x" * (LONGEST_LABEL + 1))
    for key in ("nodot", ".x", "a.", "../a.b", "A.b", "a.b/c", "a.\x00"):
        with pytest.raises(UsageError):
            with_value(Annotation(), key, 1)
    with pytest.raises(UsageError):
        with_value(Annotation(), "a.b", "x" * LONGEST_VALUE_BYTES)
    full = Annotation(values={f"a.k{number}": 1 for number in range(MOST_KEYS)})
    with pytest.raises(UsageError):
        with_value(full, "a.more", 1)
    assert len(without_value(full, "a.k0").values) == MOST_KEYS - 1
