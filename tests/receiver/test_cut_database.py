"""The receiver's database with its end cut off, at every place: it opens to a whole state, or says why not and is left
alone."""

import io
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.core.transcripts.session import StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, extend_chain
from agent.core.wire import NewGeneration
from agent.errors import DiskError, MachineError
from agent.receiver.sqlite import SqliteStore
from agent.receiver.store import EMPTY_HEAD, Content, Guard, Stored
from tests.contracts.generations_suite import lines_of
from tests.reliability import MakeTally

STREAM = StreamId("s", "")
SUB = StreamId("s", "sub")
OLD, NEW, SIDE = (str(uuid.UUID(int=number)) for number in (1, 2, 3))


class State(NamedTuple):
    """What a store holds: the lines of each generation, and the files."""

    lines: dict[str, list[bytes]]
    files: list[str]


def append(store: SqliteStore, stream: StreamId, generation: str, lines: list[bytes]) -> None:
    reading = store.read("o", stream, generation)
    head = reading.head if reading else EMPTY_HEAD
    guard = Guard(head.last_uuid, head.entry_count, generation)
    body = io.BytesIO(b"".join(line + b"\n" for line in lines))
    assert isinstance(store.append("o", stream, guard, str(uuid.uuid4()), body), Stored)


def state_of(store: SqliteStore) -> State:
    """Fails unless every generation's chain hash and count are what its entries give."""
    found: dict[str, list[bytes]] = {}
    for row in store.streams("o", "s") or []:
        assert row.head.generation is not None
        lines = lines_of(store.read("o", StreamId("s", row.subpath), row.head.generation))
        assert row.head.entry_count == len(lines)
        assert row.head.chain_hash == extend_chain(EMPTY_CHAIN, lines).hex()
        found[row.head.generation] = lines
    return State(found, [file.path for file in store.list_files("o", "s") or []])


def steps(store: SqliteStore) -> Iterator[None]:
    """One commit each, of every kind."""
    for number in range(6):
        append(store, STREAM, OLD, [b"%d-%d" % (number, line) for line in range(20)])
        yield
    append(store, SUB, SIDE, [b"z" * 9000, b"", b"\xff"])
    yield
    store.begin_generation("o", STREAM, NewGeneration(NEW, OLD, 50))
    yield
    append(store, STREAM, NEW, [b"n" * 700, b"n2"])
    yield
    append(store, STREAM, OLD, [b"o" * 30_000])
    yield
    store.name_file("o", "s", "tool-results/x", Content(bytes(32), 5), lambda: True)
    yield


class Cut(NamedTuple):
    """A database as a crash would leave it: files, and the states that were committed to it."""

    folder: Path
    states: list[State]

    def copy(self, target: Path) -> Path:
        shutil.copytree(self.folder, target)
        return target / "db"


def crashed(folder: Path, *, checkpointed: int) -> Cut:
    """Its files while it was open; the first so many commits are in the database's file, the others in its log."""
    (folder / "running").mkdir()
    with closing(SqliteStore(folder / "running" / "db")) as store:
        states = [state_of(store)]
        for number, _ in enumerate(steps(store), 1):
            states.append(state_of(store))
            if number == checkpointed:
                with closing(sqlite3.connect(folder / "running" / "db")) as db:
                    db.execute("PRAGMA wal_checkpoint(RESTART)")
                states = states[-1:]
        (folder / "left").mkdir()
        for name in ("db", "db-wal"):
            shutil.copy(folder / "running" / name, folder / "left" / name)
    return Cut(folder / "left", states)


def places(size: int, most: int) -> list[int]:
    """Every byte, or that many places over all of it, the first and the last bytes of pages among them."""
    step = max(1, size // most)
    return sorted({size, *range(0, size, step), *range(0, size, 4096), *range(4095, size, 4096)})


def lay_out(path: Path, database: bytes, log: bytes) -> None:
    for name in ("db-wal", "db-shm"):
        path.with_name(name).unlink(missing_ok=True)
    path.write_bytes(database)
    if log:
        path.with_name("db-wal").write_bytes(log)


def is_laid_out(path: Path, database: bytes, log: bytes) -> bool:
    beside = path.with_name("db-wal")
    return path.read_bytes() == database and (beside.read_bytes() if beside.exists() else b"") == log


def open_and_look(path: Path) -> State | str:
    """What is in it, or why it can't be opened."""
    try:
        with closing(SqliteStore(path)) as store:
            return state_of(store)
    except (MachineError, DiskError) as exc:
        return exc.message


def test_a_log_that_lost_its_end(tmp_path: Path, tally: MakeTally) -> None:
    """Each state is one that was committed, and a longer log never has less than a shorter one."""
    left = crashed(tmp_path, checkpointed=3)
    database, log = (left.folder / "db").read_bytes(), (left.folder / "db-wal").read_bytes()
    half = tally("nothing is lost", "the receiver's log cut at a byte: half a batch")
    path = tmp_path / "db"
    seen = [0]
    for place in places(len(log), 1500):
        lay_out(path, database, log[:place])
        with closing(SqliteStore(path)) as store:
            at = left.states.index(state_of(store))
        half.note(lost=at < seen[-1])
        assert at >= seen[-1]
        seen.append(at)
    assert set(seen) == set(range(len(left.states)))
    assert len(seen) > 1000


@pytest.mark.parametrize("checkpointed", [0, 9, 11])
def test_a_database_that_lost_its_end(tmp_path: Path, checkpointed: int, tally: MakeTally) -> None:
    """It opens only to what was there; else it says that it is cut, and nothing of it is touched."""
    left = crashed(tmp_path, checkpointed=checkpointed)
    database, log = (left.folder / "db").read_bytes(), (left.folder / "db-wal").read_bytes()
    if checkpointed == 11:
        log = b""
    lost = tally("nothing is lost", "the receiver's database cut at a byte, and opened or overwritten all the same")
    path = tmp_path / "db"
    opened = 0
    for place in places(len(database), 400):
        if place == 0 and not log:
            continue  # nothing is left that could tell it from a new one
        lay_out(path, database[:place], log)
        found = open_and_look(path)
        if isinstance(found, str):
            untouched = is_laid_out(path, database[:place], log)
            lost.note(lost=not untouched)
            assert untouched
            assert "is cut: it has" in found
        else:
            lost.note(lost=found != left.states[-1])
            assert found == left.states[-1]
            opened += 1
    assert opened


def test_a_crash_while_the_log_is_taken_over_is_no_damage(tmp_path: Path) -> None:
    """The file is shorter than it says until all of the log is in it; that is not even looked through."""
    left = crashed(tmp_path, checkpointed=3)
    path = left.copy(tmp_path / "copy")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(FULL)")
        whole = path.read_bytes()
        log = path.with_name("db-wal").read_bytes()
    short = (left.folder / "db").stat().st_size
    assert short < len(whole)
    for size in range(short, len(whole), 8192):
        lay_out(path, whole[:size], log)
        with closing(SqliteStore(path)) as store:
            assert state_of(store) == left.states[-1]


def test_a_file_that_was_made_and_not_written_to_is_new(tmp_path: Path) -> None:
    (tmp_path / "db").touch()
    with closing(SqliteStore(tmp_path / "db")) as store:
        append(store, STREAM, OLD, [b"x"])
