"""A start after a crash is told from one after a stop."""

from pathlib import Path

import pytest

from agent.system.state.lives import SPAN_S, Life, Lives
from tests.system.privileges import needs_posix, open_folder, unprivileged

NOON = 1_767_600_000.0


def test_only_an_end_that_nobody_wished_is_counted(tmp_path: Path) -> None:
    lives = Lives(tmp_path / "lives.json")
    assert not lives.begin(NOON, "file", "--user-unit=x.service")
    lives.end()
    assert not lives.begin(NOON + 60)
    assert lives.count_unclean(NOON + 60) == 0
    assert lives.begin(NOON + 120)
    assert lives.begin(NOON + 180)
    assert lives.count_unclean(NOON + 180) == 2
    assert lives.count_unclean(NOON + 120 + SPAN_S) == 1
    lives.end()
    assert lives.read() == Life(0.0, (NOON + 120, NOON + 180))


def test_old_ends_are_forgotten_and_a_loop_of_crashes_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "lives.json"
    for number in range(150):
        Lives(path).begin(NOON + number)
    assert Lives(path).count_unclean(NOON + 150) == 100
    assert path.stat().st_size < 4000
    Lives(path).begin(NOON + 2 * SPAN_S)
    assert Lives(path).count_unclean(NOON + 2 * SPAN_S) == 1


def test_where_the_log_went_is_remembered_after_the_end(tmp_path: Path) -> None:
    lives = Lives(tmp_path / "lives.json")
    lives.begin(NOON, "journal", "--user-unit=transcriptd.service")
    lives.end()
    assert lives.read().log == "journal"
    assert lives.read().unit == "--user-unit=transcriptd.service"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"since_s": "x"}', b'{"since_s": 1}', b"\xff", b"[" * 9999])
def test_a_garbled_record_is_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "lives.json"
    path.write_bytes(text)
    assert Lives(path).read() == Life()
    assert not Lives(path).begin(NOON)
    assert Lives(path).read().since_s == NOON


@needs_posix
def test_a_folder_that_takes_nothing_stops_nobody() -> None:
    with open_folder() as folder:
        folder.chmod(0o555)
        with unprivileged():
            lives = Lives(folder / "lives.json")
            assert not lives.begin(NOON)
            lives.end()
            assert lives.read() == Life()
