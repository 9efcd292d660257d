"""A power cut at any byte of what the state writes leaves it with whole commits: the first so many of them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.core.transcripts.identity import Cursor
from agent.core.transcripts.session import Rejected, RejectedRow, StreamId
from agent.system.state.state_db import AuditRow, Changes, TrackRow, open_state
from tests.faults.test_state_mutations import PAGE, Files, fast_folder, read_files, write_files
from tests.reliability import MakeTally

__all__ = ["fast_folder"]

COMMITS = 24
CUTS = 900
TORN = 300
MIXED = 300

STREAM = StreamId("s", "")


class Written(NamedTuple):
    """`before`: files of a state that was closed. `files`: those after the commits, as a kill leaves them.
    `log_bytes`: how long the log was after each commit, so how much of it that commit needs. `closed`: the files
    after the log was taken over."""

    before: Files
    files: Files
    log_bytes: list[int]
    closed: Files


def commit(number: int) -> Changes:
    """All of it in one commit, or nothing: a track that moves, and rows that only grow in number."""
    cursor = Cursor(number * 100, number, f"u{number}", bytes([number]) * 32, bytes(16), "g", number)
    track = TrackRow("there", STREAM, "claude", "/p/s.jsonl", number, number, "synced", "", 0, cursor)
    other = track._replace(stream=StreamId(f"s{number}", ""))
    audit = [AuditRow(float(number), "there", STREAM, "uploaded", "x" * (number * 97 % 3000))] * 2
    return Changes(
        tracks=[track, other], audit=audit, tombstones=[RejectedRow("there", STREAM, number, Rejected(413, 9, 8))]
    )


@pytest.fixture
def written(fast_folder: Path) -> Written:
    path = fast_folder / "state" / "state.db"
    open_state(path, "aside").close()
    before = read_files(path.parent)
    db = open_state(path, "aside")
    sizes = [0]
    for number in range(1, COMMITS + 1):
        db.commit(commit(number))
        sizes.append(path.with_name("state.db-wal").stat().st_size)
    files = read_files(path.parent)
    db.close()
    return Written(before, files, sizes, read_files(path.parent))


@pytest.fixture
def count_commits(fast_folder: Path) -> Callable[[Files], int]:
    """How many commits the next start finds, after a proof that it finds those whole and nothing else."""
    path = fast_folder / "state" / "state.db"

    def count(files: Files) -> int:
        write_files(path.parent, files)
        db = open_state(path, "aside")
        try:
            assert db.note == "", "a cut is no damage"
            tombstones, tracks, audit = list(db.tombstones()), list(db.tracks()), list(db.audit())
            number = len(tombstones)
            assert [ordinal for _, _, ordinal, _ in tombstones] == list(range(1, number + 1))
            assert len(tracks) == (number + 1 if number else 0)
            assert {row.cursor.offset for row in tracks if row.stream == STREAM} == (
                {number * 100} if number else set()
            )
            assert [row.at_s for row in audit] == [float(one) for one in range(1, number + 1) for _ in range(2)]
            assert db.mend()
            db.commit(commit(number + 1))
        finally:
            db.close()
        return number

    return count


def test_a_log_cut_at_any_byte_keeps_each_commit_that_was_whole(
    written: Written, count_commits: Callable[[Files], int], tally: MakeTally
) -> None:
    counted = tally("what was acknowledged is remembered", "power cut: log of the state cut at a byte")
    log = written.files["state.db-wal"]
    chance = random.Random(3)
    edges = {size + step for size in written.log_bytes for step in (-1, 0, 1) if 0 <= size + step <= len(log)}
    for cut in sorted(edges | set(chance.sample(range(len(log)), CUTS - len(edges)))):
        whole = sum(size <= cut for size in written.log_bytes[1:])
        found = count_commits(written.before | {"state.db-wal": log[:cut]})
        counted.note(lost=max(0, whole - found))
        assert found == whole
    assert len(log) == written.log_bytes[-1]


def test_a_log_with_a_torn_end_keeps_what_was_synced(
    written: Written, count_commits: Callable[[Files], int], tally: MakeTally
) -> None:
    """What was not synced may reach the disk in any order, and in part."""
    counted = tally("what was acknowledged is remembered", "power cut: unsynced end of the state's log torn")
    log = written.files["state.db-wal"]
    chance = random.Random(4)
    for _ in range(TORN):
        synced = chance.randrange(COMMITS)
        start = written.log_bytes[synced]
        end = chance.choice(written.log_bytes[synced + 1 :])
        torn = bytearray(log[:end])
        for at in range(start - start % 512, end, 512):
            if at >= start and chance.random() < 0.4:
                torn[at : at + 512] = chance.choice([bytes(512), chance.randbytes(512)])[: len(torn[at : at + 512])]
        found = count_commits(written.before | {"state.db-wal": bytes(torn)})
        counted.note(lost=max(0, synced - found))
        assert synced <= found <= COMMITS


def test_a_cut_while_the_log_is_taken_over_loses_nothing(
    written: Written, count_commits: Callable[[Files], int], tally: MakeTally
) -> None:
    """Pages reach the database in any order; the log is there until all have."""
    counted = tally("what was acknowledged is remembered", "power cut: log of the state half taken over")
    chance = random.Random(5)
    old, new = written.before["state.db"], written.closed["state.db"]
    for _ in range(MIXED):
        pages = bytearray(old.ljust(chance.choice([len(old), len(new)]), b"\0"))
        for at in range(0, len(pages), PAGE):
            if chance.random() < 0.5:
                pages[at : at + PAGE] = new[at : at + PAGE]
        if chance.random() < 0.3:
            at = PAGE * chance.randrange(len(pages) // PAGE)
            pages[at + 512 : at + PAGE] = chance.randbytes(PAGE - 512)
        found = count_commits({"state.db": bytes(pages), "state.db-wal": written.files["state.db-wal"]})
        counted.note(lost=COMMITS - found)
        assert found == COMMITS
