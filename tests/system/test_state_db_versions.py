"""States of other versions: older ones are brought forward, newer ones are left as they are."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.transcripts.session import Facts, Rejected, RejectedRow, StreamId
from agent.system.state.state_db import SCHEMA_VERSION, AuditRow, open_state, open_state_readonly
from agent.system.state.state_db.schema import STEPS, row_sum
from agent.system.state.state_db.tables import TRACKS, encode_track, insert_rows
from tests.system.test_state_db import ASIDE, EVERYTHING, STREAM, TRACK, contents, fill

ENDINGS = ("", "-wal", "-shm")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


@contextlib.contextmanager
def version_1(path: Path) -> Iterator[sqlite3.Connection]:
    """A state as the first version left it: its tables, and a row in each."""
    path.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma journal_mode = wal")
        db.executescript(STEPS[0])
        row = [*TRACK[:1], *STREAM, *TRACK[2:9], *TRACK.cursor[:7]]
        db.execute("insert into tracks values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", row)
        db.execute("insert into tombstones values ('default', ?, ?, 3, 422)", STREAM)
        db.execute("insert into sessions values ('6513270e', '/home/ada', 'title', x'ff')")
        db.execute("insert into metas values ('default', '6513270e', 'digest')")
        db.execute(
            "insert into audit (at_s, destination, session_id, subpath, kind, detail)"
            " values (1.5, 'd', 's', '', 'deleted on server', '410')"
        )
        db.execute("insert into settled values ('began_at_s', '1.25')")
        db.execute("pragma user_version = 1")
        yield db


def crash(path: Path, copy: Path) -> Path:
    """The files of an open state as a kill leaves them, at another place."""
    copy.mkdir()
    for ending in ENDINGS:
        (copy / (path.name + ending)).write_bytes(path.with_name(path.name + ending).read_bytes())
    return copy / path.name


@pytest.mark.parametrize("is_killed", [False, True])
def test_an_older_state_is_brought_forward(is_killed: bool, path: Path, tmp_path: Path) -> None:
    with version_1(path):
        path = crash(path, tmp_path / "killed") if is_killed else path
    assert open_state_readonly(path) is None
    db = open_state(path, ASIDE)
    assert db.note == ""
    assert list(db.tracks()) == [TRACK._replace(inode=0, status=0, generations=0)]
    assert list(db.audit()) == [AuditRow(1.5, "d", StreamId("s", ""), "deleted_on_server", "410")]
    assert list(db.tombstones()) == [RejectedRow("default", STREAM, 3, Rejected(422))]
    assert list(db.sessions()) == [("6513270e", Facts("/home/ada", "title", "\udcff"))]
    assert list(db.metas()) == EVERYTHING.metas
    assert db.settle("began_at_s", "9") == "1.25"
    db.commit(EVERYTHING)
    db.close()
    again = open_state(path, ASIDE)
    assert (again.note, list(again.tracks())) == ("", EVERYTHING.tracks)
    again.close()
    assert not path.with_name(ASIDE).exists()


def test_a_step_forward_blesses_no_row_that_was_damaged(path: Path) -> None:
    """The second version knew no chain of the file's own lines: it was the one of what was sent."""
    with version_1(path) as db:
        db.create_function("row_sum", -1, lambda *values: row_sum(values), deterministic=True)
        db.executescript(STEPS[1])
        db.execute(
            "insert into tracks select 'other', session_id, subpath, provider, path, size, mtime_ns, state, reason,"
            " attempts, offset + 1, entry_count, last_uuid, chain, marker, generation, sent_count, inode, status,"
            " generations, sum from tracks"
        )
        db.execute("pragma user_version = 2")
    state = open_state(path, ASIDE)
    (row,) = state.tracks()
    assert row.destination == TRACK.destination
    assert (row.cursor.raw_chain, row.cursor.file_chain) == (b"", TRACK.cursor.chain)
    state.close()


def test_a_step_forward_that_fails_changes_nothing_of_the_older_state(path: Path) -> None:
    with version_1(path) as db:
        db.execute("drop table metas")
    before = path.read_bytes()
    state = open_state(path, ASIDE)
    assert ASIDE in state.note
    assert list(state.tracks()) == []
    state.close()
    assert path.with_name(ASIDE).read_bytes() == before
    with contextlib.closing(sqlite3.connect(path.with_name(ASIDE))) as old:
        assert old.execute("select count(*) from tracks").fetchone() == (1,)


def test_a_step_forward_without_room_is_tried_again_later(path: Path) -> None:
    """Nothing was lost, so nothing is set aside; what an older version knew is asked of the server until then."""
    with version_1(path):
        pass
    with pytest.MonkeyPatch.context() as patched:
        connect = sqlite3.connect

        def without_room(target: str, **options: object) -> sqlite3.Connection:
            db: sqlite3.Connection = connect(target, **options)  # type: ignore[call-overload]  # passed on
            if "memory" not in target:
                db.execute("pragma max_page_count = 1")
            return db

        patched.setattr(sqlite3, "connect", without_room)
        state = open_state(path, ASIDE)
        assert "kept in memory only" in state.note
        assert not state.mend()
        assert state.settle("began_at_s", "9") == "9"
        state.commit(EVERYTHING._replace(tracks=[EVERYTHING.tracks[1]]))  # type: ignore[index]  # a list
    assert state.mend()
    assert state.note == ""
    assert {row.stream for row in state.tracks()} == {STREAM, StreamId("s", "")}
    assert state.settle("began_at_s", "9") == "1.25", "what was settled first"
    state.close()
    assert not path.with_name(ASIDE).exists()


# --- newer ----------------------------------------------------------------------------------------------------------


def make_newer(path: Path, version: int = 7) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("create table of_a_later_time (a, b)")
        db.execute(f"pragma user_version = {version}")


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_newer_state_is_kept_unchanged_under_a_name_that_tells_its_version(
    is_killed: bool, path: Path, tmp_path: Path
) -> None:
    fill(path)
    reader = sqlite3.connect(path)
    reader.execute("select count(*) from tracks").fetchone()  # keeps the log from being taken over
    make_newer(path)
    path = crash(path, tmp_path / "killed") if is_killed else path
    reader.close()
    before = {ending: read(path.with_name(path.name + ending)) for ending in ENDINGS[:2]}
    assert bool(before["-wal"]) is is_killed
    db = open_state(path, ASIDE)
    assert db.note == (
        f"the state has schema version 7, this transcriptd knows up to {SCHEMA_VERSION}:"
        " it is kept as state.version-7.db and a new one was begun"
    )
    assert db.hint == "upgrade transcriptd again"
    assert contents(db) == ([], [], [], [], [], [])
    db.commit(EVERYTHING)
    db.close()
    assert {ending: read(path.with_name("state.version-7.db" + ending)) for ending in ENDINGS[:2]} == before
    again = open_state(path, ASIDE)
    assert again.note == ""
    again.close()


def read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def test_a_second_newer_state_does_not_take_the_place_of_the_first(path: Path) -> None:
    for _ in range(2):
        fill(path)
        make_newer(path)
        open_state(path, ASIDE).close()
    assert {"state.version-7.db", "state.version-7-2.db"} <= {file.name for file in path.parent.iterdir()}


def test_a_newer_state_that_can_not_be_renamed_is_not_touched(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path)
    make_newer(path)
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    db = open_state(path, ASIDE)
    assert "kept in memory only" in db.note
    db.commit(EVERYTHING)
    assert not db.mend()
    db.close()
    assert path.read_bytes() == before


def test_a_state_that_knew_no_grounds_keeps_all_it_knew(path: Path) -> None:
    """The third version remembered that a session is private, and not for what."""
    private = TRACK._replace(state="private", reason="it is on the private list: remote github.com/acme/*")
    path.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.create_function("row_sum", -1, lambda *values: row_sum(values), deterministic=True)
        for step in STEPS[:3]:
            db.executescript(step)
        insert_rows(db, TRACKS, [encode_track(private)])
        db.execute("pragma user_version = 3")
    state = open_state(path, ASIDE)
    assert state.note == ""
    assert list(state.tracks()) == [private]
    assert list(state.grounds()) == []
    state.commit(EVERYTHING)
    assert list(state.grounds()) == EVERYTHING.grounds
    state.close()
