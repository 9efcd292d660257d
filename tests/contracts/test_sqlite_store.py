"""The store contract over SQLite, and what only a file can get wrong."""

import io
import itertools
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.transcripts.session import StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, extend_chain, split_lines
from agent.core.wire import NewGeneration
from agent.errors import DiskError, MachineError
from agent.receiver.sqlite import SqliteStore
from agent.receiver.store import Guard, Store, Stored
from tests.conftest import REPOSITORY
from tests.contracts.deletion_suite import DeletionSuite
from tests.contracts.generations_suite import GenerationsSuite
from tests.contracts.store_suite import MAIN, StoreSuite, append, content, name


class TestSqliteStore(StoreSuite, GenerationsSuite, DeletionSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        ticks = itertools.count(1000)
        with closing(SqliteStore(tmp_path / "db", now_s=lambda: next(ticks) / 10)) as store:
            yield store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


def test_what_was_stored_is_there_after_opening_again(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        head = append(store, b"x\n")
    with closing(SqliteStore(path)) as store:
        assert store.head("o", MAIN) == head


def test_two_processes_may_share_the_file(path: Path) -> None:
    with closing(SqliteStore(path)) as one, closing(SqliteStore(path)) as other:
        head = append(one, b"1\n")
        done = other.append("o", MAIN, Guard(head.last_uuid, 1, head.generation or ""), name(), io.BytesIO(b"2\n"))
        assert isinstance(done, Stored)
        assert content(one.read("o", MAIN)) == b"1\n2\n"


def test_a_newer_file_is_refused(path: Path) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(MachineError, match="version 99") as caught:
        SqliteStore(path)
    assert "newer receiver" in caught.value.hint


def test_a_file_of_version_1_goes_on(path: Path) -> None:
    """As an earlier receiver left it: nothing is lost, and every way to go on is open."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript((REPOSITORY / "tests" / "vectors" / "receiver-v1.sql").read_text(encoding="utf-8"))
    first = b'{"uuid":"a"}\n\n{"type":"summary"}\n'
    second = b'{"type":"system","subtype":"compact_boundary","uuid":"c"}\n\xff\x00 torn\n'
    stream = StreamId("s1", "")
    for _ in range(2):  # once brought to the newest version, it stays as it is
        with closing(SqliteStore(path)) as store:
            assert content(store.read("ada", stream)) == first + second
            assert content(store.read("ada", StreamId("s1", "subagents/agent-x"))) == b'{"n":1}\n'
            assert content(store.read("bob", stream)) == b'{"uuid":"z"}\n'
            head = store.head("ada", stream)
            assert head.chain_hash == extend_chain(EMPTY_CHAIN, split_lines(first + second)).hex()
            assert [(row.parent, row.shared_entries) for row in store.streams("ada", "s1") or []] == [(None, 0)] * 2
            assert store.list_files("ada", "s1") == []
            assert store.find_token(b"\x01" * 32) is not None
    lines = split_lines(first + second)
    with closing(SqliteStore(path)) as store:
        for entries in range(6):
            at = store.head_at("ada", stream, head.generation, entries)
            assert at is not None
            assert at.chain_hash == extend_chain(EMPTY_CHAIN, lines[:entries]).hex()
        begun = store.begin_generation("ada", stream, NewGeneration(name(), head.generation, 2))
        assert isinstance(begun, Stored)
        assert content(store.read("ada", stream)) == b'{"uuid":"a"}\n\n'
        assert append(store, b"on\n", stream=stream, owner="ada").entry_count == 3


def test_opening_a_file_of_the_newest_version_writes_nothing(path: Path) -> None:
    SqliteStore(path).close()
    before = path.read_bytes()
    with closing(SqliteStore(path)):
        assert path.with_name("db-wal").stat().st_size == 0
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(DiskError):
        SqliteStore(path)
    assert path.read_bytes().startswith(b"this")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_only_the_owner_may_read_the_files(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        append(store, b"x\n")
        files = list(path.parent.glob("db*"))
        assert len(files) == 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_the_log_does_not_grow_without_end(path: Path) -> None:
    """Not even beside a reader that never comes to its end."""
    with closing(SqliteStore(path)) as store:
        append(store, b"x" * 1000 + b"\n")
        reading = store.read("o", MAIN)
        assert reading is not None
        for number in range(60):
            append(store, (b"%d" % number + b"x" * 1000 + b"\n") * 1000)
            if number == 10:
                slow = store.read("o", MAIN)
                assert slow is not None
                runs = slow.runs(0, 10**9)
                next(runs)
        assert path.with_name("db-wal").stat().st_size < 24 << 20
        assert sum(1 for _ in runs) > 1


def test_a_commit_waits_for_the_disk(path: Path) -> None:
    with closing(SqliteStore(path)) as store, store.reader() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA fullfsync").fetchone() == (1,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
