"""The key of marks: made once, for its owner alone, and found again."""

import stat
import sys
from pathlib import Path

import pytest

from agent.errors import DiskError
from agent.system.state.redaction_key import KEY_BYTES, read_or_make_key


def test_it_is_made_once(tmp_path: Path) -> None:
    place = tmp_path / "config" / "redaction.key"
    key = read_or_make_key(place, tmp_path / "state" / "redaction.key")
    assert len(key) == KEY_BYTES
    assert read_or_make_key(place, tmp_path / "state" / "redaction.key") == key
    assert [one.name for one in place.parent.iterdir()] == ["redaction.key"]
    assert not (tmp_path / "state").exists()
    if sys.platform != "win32":
        assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_each_is_another(tmp_path: Path) -> None:
    assert read_or_make_key(tmp_path / "a") != read_or_make_key(tmp_path / "b")


def test_it_is_kept_in_the_state_where_the_settings_take_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    places = (tmp_path / "file" / "redaction.key", tmp_path / "state" / "redaction.key")
    key = read_or_make_key(*places)
    assert read_or_make_key(*places) == key
    assert places[1].exists()


def test_it_lasts_for_the_process_where_nothing_takes_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert len(read_or_make_key(tmp_path / "file" / "redaction.key")) == KEY_BYTES


@pytest.mark.parametrize("content", ["", "abcd", "no hex at all", "ÿ"])
def test_a_key_that_is_none_is_not_replaced(content: str, tmp_path: Path) -> None:
    """Another key would make all that was sent look changed."""
    place = tmp_path / "redaction.key"
    place.write_text(content, encoding="utf-8")
    with pytest.raises(DiskError) as caught:
        read_or_make_key(place)
    assert str(place) in caught.value.message
    assert place.read_text(encoding="utf-8") == content
