"""The state: what it keeps, and that nothing that happens to its file stops the agent or loses the old one."""

import contextlib
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.privacy.rules import Grounds
from agent.core.transcripts.identity import START, Cursor
from agent.core.transcripts.session import Facts, Rejected, RejectedRow, StreamId
from agent.errors import DiskError
from agent.system.state.state_db import AuditRow, Changes, StateDb, TrackRow, open_state, open_state_readonly
from tests.conftest import REPOSITORY
from tests.system.privileges import needs_posix, needs_root, open_folder, unprivileged

STREAM = StreamId("6513270e", "subagents/agent-1")
CURSOR = Cursor(2**40, 7, "u7", bytes(range(32)), b"\x00\xff" * 8, "g-1", 5)
TRACK = TrackRow(
    "default", STREAM, "claude", "/p/ü.jsonl", 2**40 + 1, 2**62, "waiting", "no connection", 3, CURSOR, 77, 403, 2
)
OTHER = TrackRow("second", StreamId("s", ""), "claude", "/p/s.jsonl", -1, 0, "due", "", 0, START)
AUDIT = [
    AuditRow(1.5, "default", STREAM, "realigned", "from 7 to 3", "/p/ü.jsonl"),
    AuditRow(1.0, "", StreamId("", ""), "b", ""),
]
EVERYTHING = Changes(
    tracks=[TRACK, OTHER],
    tombstones=[
        RejectedRow("default", STREAM, 3, Rejected(422)),
        RejectedRow("default", STREAM, 9, Rejected(413, 2**40, 2**33)),
    ],
    sessions=[("6513270e", Facts("/home/ada", "title", "prompt"))],
    metas=[("default", "6513270e", "digest")],
    audit=AUDIT,
    grounds=[("6513270e", Grounds(frozenset({"/home/ada/x", "/w/\udcff"}), frozenset({"github.com/acme/x"})))],
)
ASIDE = "state.damaged-1.db"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


@pytest.fixture
def db(path: Path) -> Iterator[StateDb]:
    opened = open_state(path, ASIDE)
    yield opened
    opened.close()


def contents(db: StateDb) -> tuple[list[object], ...]:
    tables = (db.tracks(), db.tombstones(), db.sessions(), db.metas(), db.audit(), db.grounds())
    return tuple(list(rows) for rows in tables)


def fill(path: Path) -> None:
    db = open_state(path, ASIDE)
    db.commit(EVERYTHING)
    db.close()


# --- what it keeps --------------------------------------------------------------------------------------------------


def test_everything_comes_back_as_it_went_in(path: Path, db: StateDb) -> None:
    assert db.note == ""
    assert contents(db) == ([], [], [], [], [], [])
    db.commit(EVERYTHING)
    expected = (
        EVERYTHING.tracks,
        EVERYTHING.tombstones,
        EVERYTHING.sessions,
        EVERYTHING.metas,
        AUDIT,
        EVERYTHING.grounds,
    )
    assert contents(db) == expected
    db.close()
    again = open_state(path, ASIDE)
    assert (contents(again), again.note) == (expected, "")
    (first, _) = again.tracks()
    assert isinstance(first.cursor, Cursor)
    assert isinstance(first.stream, StreamId)
    again.close()


def test_a_later_row_takes_the_place_of_its_own_only(db: StateDb) -> None:
    db.commit(EVERYTHING)
    moved = TRACK._replace(state="synced", cursor=START)
    db.commit(Changes(tracks=[moved], sessions=[("6513270e", Facts("/home/ada", "new", "prompt"))], audit=AUDIT[:1]))
    assert sorted(db.tracks()) == sorted([moved, OTHER])
    assert list(db.sessions()) == [("6513270e", Facts("/home/ada", "new", "prompt"))]
    assert list(db.audit()) == [*AUDIT, AUDIT[0]], "what people may ask about is never overwritten"


def test_numbers_that_are_too_large_for_the_database_end_nothing(db: StateDb) -> None:
    """An inode has no sign; a file may be dated to the year 30,000."""
    row = OTHER._replace(inode=2**64 - 1, mtime_ns=2**70)
    db.commit(Changes(tracks=[row, TRACK._replace(mtime_ns=-(2**70))]))
    assert {one.inode for one in db.tracks()} == {2**64 - 1, TRACK.inode}
    assert {one.mtime_ns for one in db.tracks()} == {2**63 - 1, 1 - 2**63}


def test_the_audit_log_forgets_what_is_old_or_too_much(db: StateDb) -> None:
    rows = [AUDIT[0]._replace(at_s=float(at_s)) for at_s in (1, 90, 100, 95, 110)]
    db.commit(Changes(audit=rows))
    db.prune_audit(90.0, 10)
    assert [row.at_s for row in db.audit()] == [90, 100, 95, 110]
    db.prune_audit(0.0, 2)
    assert [row.at_s for row in db.audit()] == [95, 110], "those that were noted last"
    db.prune_audit(0.0, 2)
    assert len(list(db.audit())) == 2


@needs_posix
def test_names_that_are_not_utf8_are_kept(db: StateDb) -> None:
    """A project folder may have any bytes for a name; the agent must not stumble over it."""
    odd = os.fsdecode(b"/p/caf\xe9/s.jsonl")
    reason = f"{odd} can't be read"
    row = OTHER._replace(path=odd, reason=reason)
    db.commit(Changes([row], [], [("s", Facts(odd, odd, odd))], [], [AUDIT[0]._replace(detail=reason)]))
    (back,) = db.tracks()
    assert back.path == odd, "it is the way to the file"
    assert "can't be read" in back.reason
    ((_, facts),) = db.sessions()
    assert facts.project
    (audit,) = db.audit()
    assert "can't be read" in audit.detail


def test_a_commit_is_all_or_nothing(db: StateDb) -> None:
    db.commit(Changes(tracks=[OTHER]))

    def breaks_off() -> Iterator[AuditRow]:
        yield AUDIT[0]
        raise RuntimeError("a defect of the caller")

    with pytest.raises(RuntimeError):
        db.commit(EVERYTHING._replace(audit=breaks_off()))
    assert contents(db) == ([OTHER], [], [], [], [], [])
    with pytest.raises(DiskError, match="the state can't be written"):
        db.commit(EVERYTHING._replace(metas=[("default", "s", None)]))  # type: ignore[list-item]  # not null
    assert contents(db) == ([OTHER], [], [], [], [], [])
    db.commit(EVERYTHING)
    assert len(list(db.tracks())) == 2


def test_a_value_is_settled_by_the_first_who_asks(path: Path, db: StateDb) -> None:
    assert db.settle("began_at_s", "1") == "1"
    assert db.settle("began_at_s", "2") == "1"
    db.close()
    again = open_state(path, ASIDE)
    assert again.settle("began_at_s", "3") == "1"
    again.close()


def test_it_survives_a_kill_right_after_a_commit(path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from tests.system.test_state_db import EVERYTHING, open_state
db = open_state(Path(sys.argv[1]), "aside")
db.commit(EVERYTHING)
os.kill(os.getpid(), 9) if hasattr(os, "fork") else os._exit(1)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=REPOSITORY, check=False)
    db = open_state(path, ASIDE)
    assert contents(db)[0] == [TRACK, OTHER]
    db.close()


@needs_posix
def test_it_is_its_owners_alone(path: Path, db: StateDb) -> None:
    before = os.umask(0)
    try:
        other = open_state(path.with_name("second") / "state.db", ASIDE)
        other.commit(EVERYTHING)
    finally:
        os.umask(before)
    files = list((path.parent / "second").iterdir())
    assert len(files) == 3, "database, log and index"
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    assert stat.S_IMODE((path.parent / "second").stat().st_mode) == 0o700
    other.close()


def test_every_commit_is_on_disk_before_it_counts(db: StateDb) -> None:
    def pragma(name: str) -> object:
        return db._db.execute(f"pragma {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2, "full"
    if sys.platform == "darwin":
        assert pragma("fullfsync") == 1


def test_there_is_no_place_for_a_transcript_in_it(db: StateDb) -> None:
    columns: dict[str, set[str]] = {}
    for (table,) in db._db.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"):
        columns[table] = {row[1] for row in db._db.execute(f"pragma table_info({table})")}
    assert columns == {
        "settled": {"key", "value", "sum"},
        "tracks": {
            "destination", "session_id", "subpath", "provider", "path", "size", "mtime_ns", "state", "reason",
            "attempts", "offset", "entry_count", "last_uuid", "chain", "marker", "generation", "raw_chain",
            "sent_count",
            "inode", "status", "generations", "sum",
        },
        "tombstones": {"destination", "session_id", "subpath", "ordinal", "status", "size", "most", "sum"},
        "sessions": {"session_id", "project", "title", "prompt", "sum"},
        "metas": {"destination", "session_id", "digest", "sum"},
        "grounds": {"session_id", "folders", "remotes", "sum"},
        "audit": {"seq", "at_s", "destination", "session_id", "subpath", "kind", "detail", "path", "sum"},
    }  # fmt: skip


# --- damage ---------------------------------------------------------------------------------------------------------


def survives(path: Path) -> StateDb:
    """Opens whatever is there, and proves that work can go on with it."""
    db = open_state(path, ASIDE)
    before = len(list(db.audit()))
    db.commit(EVERYTHING)
    assert set(db.tracks()) >= {TRACK, OTHER}
    assert len(list(db.audit())) == before + len(AUDIT)
    return db


DAMAGES = (
    "garbage", "nul", "text", "header only", "half", "first page nul", "last page",
    "schema nul", "schema no text", "for reading only",
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_set_aside_whole_and_begun_anew(path: Path, damage: str) -> None:
    fill(path)
    whole = path.read_bytes()
    spoilt = {
        "garbage": random.Random(7).randbytes(len(whole)),
        "nul": bytes(len(whole)),
        "text": b"this is no database\n",
        "header only": whole[:100],
        "half": whole[: len(whole) // 2],
        "first page nul": bytes(4096) + whole[4096:],
        "last page": whole[:-4096] + random.Random(7).randbytes(4096),
        "for reading only": whole[:18] + b"\x03" + whole[19:],
        "schema no text": whole.replace(b"sessions", b"sess\xecons"),
        "schema nul": whole[:100] + bytes(3996) + whole[4096:],
    }[damage]
    path.write_bytes(spoilt)
    db = survives(path)
    aside = path.with_name(ASIDE)
    assert ASIDE in db.note
    assert "damaged" in db.note
    assert aside.read_bytes() == spoilt, "nothing of it is lost"
    assert list(db.audit()) == AUDIT
    db.close()
    again = open_state(path, "another-name")
    assert (again.note, list(again.audit())) == ("", AUDIT), "the new one is an ordinary one"
    again.close()


def test_a_log_that_was_not_taken_over_goes_aside_with_its_database(path: Path, tmp_path: Path) -> None:
    db = open_state(path, ASIDE)
    db.commit(EVERYTHING)
    log = path.with_name("state.db-wal").read_bytes()
    copy = tmp_path / "crashed"
    shutil.copytree(path.parent, copy)
    db.close()
    (copy / "state.db").write_bytes(b"x" * 8192)
    assert log
    survives(copy / "state.db").close()
    assert (copy / f"{ASIDE}-wal").read_bytes() == log


@pytest.mark.parametrize("seed", range(25))
def test_whatever_bits_flip_or_bytes_are_cut_the_agent_begins(path: Path, seed: int) -> None:
    """Some damage shows only where it is read or written later; then it is mended."""
    fill(path)
    chance = random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 8, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
    db = open_state(path, ASIDE)
    contents(db)
    with contextlib.suppress(DiskError):
        db.commit(EVERYTHING)
    assert db.mend()
    db.commit(EVERYTHING)
    assert contents(db)[0] == EVERYTHING.tracks
    db.close()


def test_a_log_whose_database_is_gone_is_set_aside(path: Path, tmp_path: Path) -> None:
    """SQLite would delete it."""
    db = open_state(path, ASIDE)
    db.commit(EVERYTHING)
    log = path.with_name("state.db-wal").read_bytes()
    copy = tmp_path / "crashed" / "state.db"
    copy.parent.mkdir()
    copy.with_name("state.db-wal").write_bytes(log)
    survives(copy).close()
    assert copy.with_name(f"{ASIDE}-wal").read_bytes() == log
    db.close()


def test_an_empty_file_is_an_empty_state(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    db = survives(path)
    assert db.note == ""
    assert not path.with_name(ASIDE).exists()
    db.close()


# --- disks that do not take anything --------------------------------------------------------------------------------


def test_where_nothing_can_be_made_the_state_lives_in_memory_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    db = survives(tmp_path / "file" / "state.db")
    assert "kept in memory only" in db.note
    assert "written" in db.hint
    db.close()


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_a_folder_in_the_place_of_a_file_is_set_aside(ending: str, path: Path) -> None:
    fill(path)
    part = path.with_name(path.name + ending)
    part.unlink(missing_ok=True)
    part.mkdir(parents=True)
    (part / "something").touch()
    db = survives(path)
    assert ASIDE in db.note
    assert (path.with_name(ASIDE + ending) / "something").exists()
    db.close()


@needs_posix
def test_a_folder_that_may_only_be_read_leads_to_memory() -> None:
    with open_folder() as folder:
        fill(folder / "state.db")
        for one in folder.iterdir():
            one.chmod(0o444)
        folder.chmod(0o555)
        with unprivileged():
            db = survives(folder / "state.db")
            assert "kept in memory only" in db.note
            db.close()
            assert open_state(folder / "new.db", ASIDE).note
        assert [one.name for one in folder.iterdir()] == ["state.db"], "nothing was renamed"


@needs_posix
def test_a_damaged_state_that_can_not_be_set_aside_is_left_alone() -> None:
    with open_folder() as folder:
        path = folder / "state.db"
        path.write_bytes(b"no database" * 500)
        path.chmod(0o666)
        folder.chmod(0o555)
        with unprivileged():
            db = survives(path)
            assert "kept in memory only" in db.note
            db.close()
        assert path.read_bytes() == b"no database" * 500


def big_changes() -> Changes:
    return Changes(audit=[AUDIT[0]._replace(detail="x" * 100_000)] * 40)


def commit_and_commit(db: StateDb) -> None:
    for _ in range(100):
        db.commit(big_changes())


def fill_up(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def fills_up(db: StateDb) -> None:
    """Commits until the disk takes no more; then it must be a DiskError that leaves the state as it was."""
    db.commit(Changes(tracks=[OTHER]))
    with pytest.raises(DiskError, match="the state can't be written") as caught:
        commit_and_commit(db)
    assert caught.value.retry
    rows = len(list(db.audit()))
    assert rows % 40 == 0, "half a commit counts"
    assert list(db.tracks()) == [OTHER]


def test_a_state_that_may_not_grow_refuses_the_commit_and_keeps_the_rest(db: StateDb) -> None:
    db._db.execute("pragma max_page_count = 300")
    fills_up(db)
    db._db.execute("pragma max_page_count = 1000000")
    db.commit(EVERYTHING)
    assert TRACK in list(db.tracks()), "there is room again"


@needs_root
@pytest.mark.skipif(sys.platform != "linux" or shutil.which("mount") is None, reason="mounts a small file system")
def test_a_really_full_disk_refuses_the_commit_and_keeps_the_rest(tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this machine does not let us mount")
    try:
        ballast = mounted / "ballast"
        ballast.write_bytes(bytes(200_000))
        db = open_state(mounted / "state.db", ASIDE)
        assert db.note == ""
        fills_up(db)
        ballast.unlink()
        db.commit(EVERYTHING)
        assert TRACK in list(db.tracks()), "there is room again"
        db.close()
        (mounted / "new").mkdir()
        with pytest.raises(OSError, match="No space left"):
            fill_up(ballast)
        other = survives(mounted / "new" / "state.db")
        assert "kept in memory only" in other.note
        other.close()
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


@needs_posix
def test_a_limit_on_file_sizes_is_a_full_disk_too(path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from tests.system.test_state_db import fills_up, open_state
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
db = open_state(Path(sys.argv[1]), "aside")
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
fills_up(db)
db.close()
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=REPOSITORY, check=False)
    assert done.returncode == 0
    db = open_state(path, ASIDE)
    assert (db.note, list(db.tracks())) == ("", [OTHER])
    db.close()


def test_a_locked_state_is_not_damage(path: Path) -> None:
    fill(path)
    before = path.read_bytes()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("pragma locking_mode = exclusive")
    other.execute("begin exclusive")
    with pytest.MonkeyPatch.context() as patched:
        connect = sqlite3.connect
        patched.setattr(sqlite3, "connect", lambda *args, **named: connect(*args, **{**named, "timeout": 0.0}))
        db = open_state(path, ASIDE)
    assert "kept in memory only" in db.note
    assert not path.with_name(ASIDE).exists()
    db.close()
    other.execute("rollback")
    other.close()
    assert path.read_bytes()[:100] == before[:100]


# --- beside a running daemon ---------------------------------------------------------------------------------------


def test_a_command_reads_what_the_daemon_has_committed(path: Path, db: StateDb) -> None:
    db.commit(EVERYTHING)
    reader = open_state_readonly(path)
    assert reader is not None
    assert contents(reader) == contents(db)
    db._db.execute("begin immediate")
    db._db.execute("delete from tracks")
    assert len(list(reader.tracks())) == 2, "a writer at work neither blocks nor shows what is not committed"
    db._db.execute("commit")
    assert list(reader.tracks()) == []
    with pytest.raises(DiskError, match="readonly"):
        reader.commit(EVERYTHING)
    reader.close()


def test_reading_makes_nothing(path: Path) -> None:
    assert open_state_readonly(path) is None
    assert not path.parent.exists()


@pytest.mark.parametrize("content", [b"", b"no database at all" * 300, bytes(8192)])
def test_a_state_that_can_not_be_read_is_none(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert open_state_readonly(path) is None
    assert path.read_bytes() == content
    assert not path.with_name(ASIDE).exists()


def test_a_state_of_another_version_is_none(path: Path) -> None:
    fill(path)
    with sqlite3.connect(path) as other:
        other.execute("pragma user_version = 99")
    other.close()
    assert open_state_readonly(path) is None


@needs_posix
@pytest.mark.parametrize("closed", ["state/state.db", "state"])
def test_a_state_that_may_not_be_read_is_none(closed: str) -> None:
    with open_folder() as folder:
        path = folder / "state" / "state.db"
        fill(path)
        (folder / closed).chmod(0o000)
        with unprivileged():
            assert open_state_readonly(path) is None
