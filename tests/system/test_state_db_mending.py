"""A state that was driven from its file, or whose file was taken from it, comes back by itself."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.transcripts.session import StreamId
from agent.errors import DiskError
from agent.system.state.state_db import Changes, StateDb, open_state, open_state_readonly
from agent.system.state.state_db.opening import KEPT_ASIDE
from tests.system.privileges import needs_posix, open_folder, unprivileged
from tests.system.test_state_db import ASIDE, AUDIT, EVERYTHING, OTHER, TRACK, contents, fill

ALL = (EVERYTHING.tracks, EVERYTHING.tombstones, EVERYTHING.sessions, EVERYTHING.metas, AUDIT, EVERYTHING.grounds)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


@pytest.fixture
def db(path: Path) -> Iterator[StateDb]:
    fill(path)
    opened = open_state(path, ASIDE)
    yield opened
    opened.close()


def written(path: Path) -> tuple[list[object], ...]:
    """What another process finds."""
    found = open_state_readonly(path)
    assert found is not None
    with contextlib.closing(found):
        return contents(found)


def names(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()}


def test_a_state_in_its_place_is_left_there(path: Path, db: StateDb) -> None:
    before = path.stat().st_ino
    for _ in range(3):
        assert db.mend()
        db.commit(Changes(tracks=[OTHER]))
    again = open_state(path, ASIDE)
    again.close()
    assert db.mend()
    assert (path.stat().st_ino, db.note, db.hint) == (before, "", "")
    assert not path.with_name(ASIDE).exists()


# --- from memory ----------------------------------------------------------------------------------------------------


def test_a_state_in_memory_moves_to_its_file_when_there_is_a_place(tmp_path: Path) -> None:
    blocker = tmp_path / "folder"
    blocker.touch()
    path = blocker / "state.db"
    db = open_state(path, ASIDE)
    assert db.settle("began_at_s", "1") == "1"
    db.commit(EVERYTHING)
    assert not db.mend()
    assert "Not a directory" in db.note or "File exists" in db.note
    blocker.unlink()
    assert db.mend()
    assert (db.note, db.hint) == ("", "")
    assert contents(db) == ALL == written(path)
    db.close()
    again = open_state(path, ASIDE)
    assert again.settle("began_at_s", "2") == "1"
    again.close()


@needs_posix
@pytest.mark.parametrize("has_log", [False, True])
def test_a_state_that_can_only_be_read_is_known_in_memory_and_written_when_it_can_be(has_log: bool) -> None:
    with open_folder() as folder:
        path = folder / "state.db"
        fill(path)
        if has_log:
            open_state(path, ASIDE)._db.execute("select 1 from tracks").fetchone()
        for one in folder.iterdir():
            one.chmod(0o444)
        folder.chmod(0o555)
        with unprivileged():
            db = open_state(path, ASIDE)
            assert "kept in memory only" in db.note
            assert contents(db) == ALL
            db.commit(Changes(tracks=[TRACK._replace(size=9)]))
            db.prune_audit(1.2, 10)
            assert not db.mend()
        folder.chmod(0o777)
        for one in folder.iterdir():
            one.chmod(0o666)
        with unprivileged():
            assert db.mend()
            assert db.note == ""
            db.close()
        found = written(path)
        assert TRACK._replace(size=9) in found[0]
        assert len(found[0]) == 2
        assert found[4] == AUDIT[:1], "nothing is told twice, and what was forgotten does not come back"


@needs_posix
def test_files_that_turn_out_to_be_closed_to_us_are_opened_again_when_they_are_not(tmp_path: Path) -> None:
    """An open file that may only be read stays so, whatever its mode becomes."""
    path = tmp_path / "state.db"
    fill(path)
    db = open_state(path, ASIDE)
    db._db.execute("pragma query_only = 1")
    with pytest.raises(DiskError, match="readonly"):
        db.commit(Changes(tracks=[TRACK._replace(size=9)]))
    assert db.mend()
    assert db.note == ""
    db.commit(Changes(tracks=[TRACK._replace(size=9)]))
    assert TRACK._replace(size=9) in written(path)[0]
    assert written(path)[1:] == ALL[1:]
    assert not path.with_name(ASIDE).exists()
    db.close()


@needs_posix
def test_a_state_that_could_not_even_be_read_is_joined_with_what_came_since() -> None:
    with open_folder() as folder:
        path = folder / "state.db"
        fill(path)
        path.chmod(0o000)
        with unprivileged():
            db = open_state(path, ASIDE)
            assert contents(db) == ([], [], [], [], [], [])
            new = TRACK._replace(stream=StreamId("new", ""))
            db.commit(Changes(tracks=[new, OTHER._replace(size=77)]))
        path.chmod(0o666)
        with unprivileged():
            assert db.mend()
            db.close()
        assert set(written(path)[0]) == {TRACK, OTHER._replace(size=77), new}
        assert names(path) == {"state.db", "state.db-wal", "state.db-shm"}


def test_damage_found_on_the_way_home_is_set_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 500)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", _refuse)
        db = open_state(path, ASIDE)
        db.commit(EVERYTHING)
        assert "kept in memory only" in db.note
    assert db.mend()
    assert ASIDE in db.note
    assert contents(db) == ALL == written(path)
    db.close()
    assert path.with_name(ASIDE).read_bytes() == b"no database" * 500


def _refuse(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_disk_that_fills_up_on_the_way_home_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 500)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", _refuse)
        db = open_state(path, ASIDE)
    db.commit(EVERYTHING)
    db.commit(Changes(audit=[AUDIT[0]._replace(detail="x" * 100_000)] * 40))
    path.unlink()
    with monkeypatch.context() as patched:
        connect = sqlite3.connect

        def small(target: str, **options: object) -> sqlite3.Connection:
            made: sqlite3.Connection = connect(target, **options)  # type: ignore[call-overload]  # passed on
            made.execute("pragma max_page_count = 300")
            return made

        patched.setattr(sqlite3, "connect", small)
        assert not db.mend()
        assert "full" in db.note
    assert db.mend()
    assert len(list(db.audit())) == len(AUDIT) + 40
    db.close()


# --- taken from it --------------------------------------------------------------------------------------------------


@needs_posix
@pytest.mark.parametrize("taken", ["database", "log", "both", "folder"])
def test_what_is_removed_under_a_running_agent_is_written_anew_whole(taken: str, path: Path, db: StateDb) -> None:
    db.commit(Changes(tracks=[TRACK._replace(size=9)]))
    if taken == "folder":
        shutil.rmtree(path.parent)
    if taken in ("database", "both"):
        path.unlink()
    if taken in ("log", "both"):
        path.with_name("state.db-wal").unlink()
    assert db.mend()
    db.commit(Changes(tracks=[OTHER._replace(size=10)]))
    assert set(written(path)[0]) == {TRACK._replace(size=9), OTHER._replace(size=10)}
    assert written(path)[1:] == ALL[1:]
    assert db.mend(), "once is enough"
    db.close()
    again = open_state(path, ASIDE)
    assert (again.note, contents(again)[1:]) == ("", ALL[1:])
    again.close()


@needs_posix
def test_what_replaces_it_is_set_aside(path: Path, tmp_path: Path, db: StateDb) -> None:
    fill(tmp_path / "other.db")
    other = (tmp_path / "other.db").read_bytes()
    (tmp_path / "other.db").replace(path)
    db.commit(Changes(tracks=[TRACK._replace(size=9)]))
    assert db.mend()
    assert ASIDE in db.note
    assert path.with_name(ASIDE).read_bytes() == other
    assert set(written(path)[0]) == {TRACK._replace(size=9), OTHER}


@needs_posix
def test_a_place_that_is_lost_and_can_not_be_written_leads_to_memory_until_it_can(path: Path, db: StateDb) -> None:
    shutil.rmtree(path.parent)
    path.parent.touch()
    assert not db.mend()
    assert "kept in memory only" in db.note
    db.commit(Changes(tracks=[TRACK._replace(size=9)]))
    path.parent.unlink()
    assert db.mend()
    assert (db.note, written(path)[1:]) == ("", ALL[1:])
    assert TRACK._replace(size=9) in written(path)[0]


# --- damaged --------------------------------------------------------------------------------------------------------


def test_a_row_that_is_not_as_it_was_written_is_forgotten_and_the_rest_written_anew(path: Path) -> None:
    fill(path)
    data = path.read_bytes()
    assert data.count(b"/p/s.jsonl") == 1
    at = data.index(b"/p/s.jsonl")
    path.write_bytes(data[:at] + b"/P" + data[at + 2 :])
    db = open_state(path, ASIDE)
    assert db.note == ""
    found = contents(db)
    assert found == ([TRACK], *ALL[1:])
    assert db.mend()
    assert ASIDE in db.note
    assert contents(db) == found == written(path)
    db.close()
    again = open_state(path, ASIDE)
    assert (contents(again), again.note) == (found, "")
    assert again.mend()
    again.close()
    assert len(list(path.parent.glob("state.damaged-*.db"))) == 1


def test_a_state_with_a_life_of_its_own_is_not_ours(path: Path) -> None:
    fill(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("create trigger evil after insert on tracks begin delete from metas; end")
    db = open_state(path, ASIDE)
    assert ASIDE in db.note
    db.close()


def test_a_commit_that_meets_damage_fails_and_the_next_one_does_not(path: Path, db: StateDb) -> None:
    db._db.execute("drop table metas")
    with pytest.raises(DiskError, match="no such table"):
        db.commit(EVERYTHING)
    assert db.mend()
    db.commit(EVERYTHING)
    assert contents(db)[3] == EVERYTHING.metas
    assert written(path)[0] == EVERYTHING.tracks


def test_a_defect_of_ours_is_no_damage(path: Path, db: StateDb) -> None:
    with pytest.raises(DiskError):
        db.commit(Changes(metas=[("default", "s", None)]))  # type: ignore[list-item]  # not null
    assert db.mend()
    assert db.note == ""
    assert not path.with_name(ASIDE).exists()


def test_a_reader_is_told_what_it_can_not_read(path: Path) -> None:
    fill(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("drop table metas")
    reader = open_state_readonly(path)
    assert reader is not None
    assert reader.mend(), "it is not for a reader to mend anything"
    with pytest.raises(DiskError, match="the state can't be read"):
        list(reader.metas())
    reader.close()


def test_only_the_newest_states_that_were_set_aside_are_kept(path: Path) -> None:
    path.parent.mkdir()
    (path.parent / "state.backup.db").write_bytes(b"somebody's own")
    for number in range(KEPT_ASIDE + 3):
        path.write_bytes(b"no database %d" % number)
        path.with_name("state.db-wal").write_bytes(b"no log")
        open_state(path, f"state.damaged-{number}.db").close()
    kept = {f"state.damaged-{number}.db" for number in range(3, KEPT_ASIDE + 3)}
    assert names(path) == {"state.db", "state.backup.db", *kept, *(f"{name}-wal" for name in kept)}


def test_the_one_that_was_just_set_aside_is_kept_however_old_it_is(path: Path) -> None:
    path.parent.mkdir()
    for _ in range(KEPT_ASIDE + 2):
        path.write_bytes(b"no database")
        db = open_state(path, ASIDE)
        assert db.note.split()[-1] in names(path), "also with names that were taken"
        db.close()
    assert len(list(path.parent.glob("state.damaged-*.db"))) == KEPT_ASIDE
