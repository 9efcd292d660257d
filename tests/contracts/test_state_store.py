"""One suite for every store of the agent's state: the database, and the one in memory that simulations use."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.privacy.rules import Grounds
from agent.core.transcripts.identity import Cursor
from agent.core.transcripts.session import Facts, Rejected, RejectedRow, StreamId
from agent.errors import DiskError
from agent.system.state.state_db import AuditRow, Changes, TrackRow, open_state
from tests.simulation.store import Medium

Open = Callable[[], Any]
"""Opens the store again, as the next process does."""


@pytest.fixture(params=["database", "memory"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    medium = Medium()
    opened: list[Any] = []

    def open_again() -> Any:
        while opened:
            opened.pop().close()
        opened.append(medium.open() if request.param == "memory" else open_state(tmp_path / "state.db", "aside.db"))
        return opened[0]

    yield open_again
    opened[0].close()


def all_rows(store: Any) -> list[list[Any]]:
    tables = (store.tracks, store.tombstones, store.sessions, store.metas, store.grounds, store.audit)
    return [list(rows()) for rows in tables]


def stream(rng: random.Random) -> StreamId:
    return StreamId(rng.choice(("s", "t", "ä")), rng.choice(("", "subagents/agent-a", "b")))


def changes(rng: random.Random) -> Changes:
    return Changes(
        [track(rng) for _ in range(rng.randrange(4))],
        [
            RejectedRow(
                "there", stream(rng), rng.randrange(3), Rejected(rng.choice((413, 422, 0)), rng.randrange(9), 4)
            )
            for _ in range(rng.randrange(3))
        ],
        [(rng.choice("abc"), Facts("/p", text(rng), text(rng))) for _ in range(rng.randrange(3))],
        [("there", rng.choice("abc"), rng.randbytes(8).hex()) for _ in range(rng.randrange(3))],
        [AuditRow(rng.random(), "there", stream(rng), "kind", text(rng), text(rng)) for _ in range(rng.randrange(3))],
        grounds=[(rng.choice("abc"), Grounds(texts(rng), texts(rng))) for _ in range(rng.randrange(3))],
    )


def texts(rng: random.Random) -> frozenset[str]:
    return frozenset(filter(None, (text(rng) for _ in range(rng.randrange(3)))))


def track(rng: random.Random) -> TrackRow:
    offset = rng.randrange(1 << 40)
    cursor = Cursor(offset, 3, rng.choice((None, "u")), rng.randbytes(32), rng.randbytes(16), "g", 2)
    place = (rng.choice(("there", "here")), stream(rng), "claude", f"/x/{text(rng)}.jsonl")
    return TrackRow(
        *place,
        offset,
        rng.randrange(1 << 62),
        rng.choice(("synced", "due")),
        text(rng),
        1,
        cursor,
        rng.randrange(9),
        403,
    )


def text(rng: random.Random) -> str:
    return rng.choice(("", "plain", "ümläut", "not \udcff utf-8"))


@pytest.mark.parametrize("seed", range(30))
def test_what_was_written_is_there_again_the_last_value_of_each(seed: int, reopen: Open) -> None:
    rng = random.Random(seed)
    expected: list[dict[Any, Any]] = [{}, {}, {}, {}, {}]
    audit: list[AuditRow] = []
    store = reopen()
    for _ in range(rng.randrange(12)):
        one = changes(rng)
        store.commit(one)
        expected[0] |= {row[:2]: row for row in one.tracks}
        expected[1] |= {row[:3]: row for row in one.tombstones}
        expected[2] |= {row[0]: row for row in one.sessions}
        expected[3] |= {row[:2]: row for row in one.metas}
        expected[4] |= {row[0]: row for row in one.grounds}
        audit += list(one.audit)
        if rng.random() < 0.3:
            store = reopen()
    ordered = [[rows[key] for key in sorted(rows)] for rows in expected]
    assert all_rows(store) == [*ordered, audit]
    assert all_rows(reopen()) == [*ordered, audit]
    assert store.note == ""


def test_rows_may_come_from_iterators(reopen: Open) -> None:
    row = track(random.Random(1))
    store = reopen()
    store.commit(Changes(iter([row])))
    assert list(store.tracks()) == list(reopen().tracks()) == [row]


def test_a_value_is_settled_once(reopen: Open) -> None:
    store = reopen()
    assert store.settle("key", "first") == "first"
    assert store.settle("key", "second") == "first"
    assert store.settle("other", "third") == "third"
    assert reopen().settle("key", "fourth") == "first"


def test_a_new_store_is_empty(reopen: Open) -> None:
    assert all_rows(reopen()) == [[], [], [], [], [], []]


# --- what only the medium in memory can be asked to do ---------------------------------------------------------------


def written(medium: Medium, count: int) -> list[TrackRow]:
    store, rng = medium.open(), random.Random(count)
    rows = [track(rng)._replace(stream=StreamId(f"s{number:03}", "")) for number in range(count)]
    for row in rows:
        store.commit(Changes([row]))
    return sorted(rows, key=lambda row: row[:2])


def test_a_full_disk_takes_nothing_and_keeps_what_was_there() -> None:
    medium = Medium()
    rows = written(medium, 3)
    store = medium.open()
    medium.is_full = True
    with pytest.raises(DiskError, match="full"):
        store.commit(Changes([rows[0]._replace(attempts=99)]))
    assert list(store.tracks()) == rows
    in_memory = medium.open()
    assert "memory" in in_memory.note
    in_memory.commit(Changes([rows[0]]))
    assert list(in_memory.tracks()) == [rows[0]]
    assert not in_memory.mend()
    medium.is_full = False
    assert list(medium.open().tracks()) == rows
    in_memory.commit(Changes([rows[1]._replace(attempts=7)]))
    assert in_memory.mend()
    assert in_memory.note == ""
    assert [row.attempts for row in medium.open().tracks()] == [rows[0].attempts, 7, rows[2].attempts]


def test_old_notes_are_forgotten(reopen: Open) -> None:
    store = reopen()
    notes = [AuditRow(float(at_s), "there", StreamId("s", ""), "kind", "") for at_s in range(9)]
    store.commit(Changes(audit=notes))
    store.prune_audit(3.0, 4)
    assert list(store.audit()) == notes[5:]


def test_an_honest_drive_loses_nothing_in_a_power_cut() -> None:
    medium = Medium()
    rows = written(medium, 3)
    assert medium.cut_power(random.Random(1)) == "nothing lost"
    assert list(medium.open().tracks()) == rows


@pytest.mark.parametrize("seed", range(20))
def test_a_lying_drive_keeps_the_first_commits_or_is_damaged(seed: int) -> None:
    medium = Medium()
    written(medium, 2)
    medium.lies = True
    store = medium.open()
    rows = [track(random.Random(seed))._replace(stream=StreamId(f"later{number}", "")) for number in range(4)]
    for row in rows:
        store.commit(Changes([row]))
    before = sum(1 for _ in store.tracks())
    what = medium.cut_power(random.Random(seed))
    opened = medium.open()
    there = list(opened.tracks())
    if what == "torn":
        assert not there
        assert "damaged" in opened.note
    else:
        assert 2 <= len(there) < before
        assert [row for row in there if row in rows] == sorted(rows[: len(there) - 2], key=lambda row: row[:2])


def test_an_older_copy_is_a_beginning_of_what_was_written() -> None:
    medium = Medium()
    written(medium, 5)
    medium.roll_back(random.Random(3))
    kept = len(medium.commits)
    assert kept < 5
    assert sum(1 for _ in medium.open().tracks()) == kept
