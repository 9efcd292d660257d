"""The journal's own rhythm: when it writes, when it mends the store, when it forgets."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.core.delivery.audit import AuditKind
from agent.core.delivery.backoff import COOL_DOWN_CAP_S, COOL_DOWN_FIRST_S
from agent.core.transcripts.identity import START
from agent.delivery.state.journal import AUDIT_KEPT_S, AUDIT_ROWS, FLUSH_S, Journal
from agent.delivery.state.tasks import TrackKey
from agent.system.state.state_db import AuditRow, Changes, StateDb, TrackRow, open_state
from tests.fakes import FakeClock

KEY = TrackKey("there", "s", "")
ROW = TrackRow("there", KEY.stream, "claude", "/p/s.jsonl", 10, 1, "synced", "", 0, START)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "state.db"


Open = Callable[[], tuple[StateDb, Journal]]


@pytest.fixture
def begin(path: Path, clock: FakeClock) -> Iterator[Open]:
    opened: list[StateDb] = []

    def make() -> tuple[StateDb, Journal]:
        store = open_state(path, "state.damaged-1.db")
        opened.append(store)
        return store, Journal(store, lambda key: ROW, clock.now_s, clock.monotonic_s)

    yield make
    for store in opened:
        store.close()


def tick(journal: Journal, clock: FakeClock) -> None:
    """As the engine does it: writes when it is time."""
    at_s = journal.next_write_s()
    assert at_s is not None
    clock.advance(max(0.0, at_s - clock.mono_s))
    journal.write()


def test_it_writes_what_was_noted_a_second_later_and_then_rests(begin: Open, clock: FakeClock) -> None:
    store, journal = begin()
    tick(journal, clock)
    assert journal.next_write_s() is None
    journal.note_change(KEY)
    assert journal.next_write_s() == clock.mono_s + FLUSH_S
    tick(journal, clock)
    assert list(store.tracks()) == [ROW]
    assert journal.next_write_s() is None


def test_the_audit_log_names_the_file(begin: Open, clock: FakeClock) -> None:
    store, journal = begin()
    journal.note_audit(KEY, AuditKind.REFUSED, "403")
    journal.note_audit(KEY, AuditKind.KEPT, "", "/elsewhere")
    tick(journal, clock)
    assert [(row.kind, row.detail, row.path) for row in store.audit()] == [
        ("refused", "403", "/p/s.jsonl"),
        ("kept", "", "/elsewhere"),
    ]


def test_a_state_in_memory_comes_back_by_itself_also_when_nothing_happens(
    begin: Open, path: Path, clock: FakeClock
) -> None:
    path.parent.touch()
    store, journal = begin()
    journal.note_change(KEY)
    tick(journal, clock)
    assert "memory" in store.note
    waits = []
    for _ in range(8):
        before = clock.mono_s
        tick(journal, clock)
        waits.append(clock.mono_s - before)
    assert waits[0] == COOL_DOWN_FIRST_S
    assert waits[-1] == COOL_DOWN_CAP_S, "patient, and never silent"
    path.parent.unlink()
    tick(journal, clock)
    assert store.note == ""
    assert journal.next_write_s() is None
    again = open_state(path, "x")
    assert list(again.tracks()) == [ROW]
    again.close()


def test_changes_are_written_at_once_while_the_way_home_is_waited_for(
    begin: Open, path: Path, clock: FakeClock
) -> None:
    path.parent.touch()
    store, journal = begin()
    tick(journal, clock)
    journal.note_change(KEY)
    assert journal.next_write_s() == clock.mono_s + FLUSH_S
    tick(journal, clock)
    assert list(store.tracks()) == [ROW]
    assert journal.trouble == ""


def test_a_state_that_was_removed_is_written_anew_with_the_next_change(
    begin: Open, path: Path, clock: FakeClock
) -> None:
    _, journal = begin()
    journal.note_change(KEY)
    tick(journal, clock)
    path.unlink()
    journal.note_audit(KEY, AuditKind.UPLOADED, "")
    tick(journal, clock)
    again = open_state(path, "x")
    assert (again.note, list(again.tracks()), len(list(again.audit()))) == ("", [ROW], 1)
    again.close()


def test_a_commit_that_meets_damage_is_made_good_after_the_cool_down(begin: Open, clock: FakeClock) -> None:
    store, journal = begin()
    tick(journal, clock)
    store._db.execute("drop table tracks")
    journal.note_change(KEY)
    tick(journal, clock)
    assert "no such table" in journal.trouble
    assert journal.next_write_s() == clock.mono_s + COOL_DOWN_FIRST_S
    tick(journal, clock)
    assert journal.trouble == ""
    assert list(store.tracks()) == [ROW]


def test_the_audit_log_is_pruned_at_the_start_and_daily(begin: Open, clock: FakeClock) -> None:
    store, journal = begin()
    old = AuditRow(clock.wall_s - AUDIT_KEPT_S + 100, "there", KEY.stream, AuditKind.UPLOADED, "")
    store.commit(Changes(audit=[old._replace(at_s=old.at_s - 200), old]))
    tick(journal, clock)
    assert list(store.audit()) == [old]
    clock.advance(7200.0)
    journal.note_change(KEY)
    tick(journal, clock)
    assert list(store.audit()) == [old], "not with every write"
    clock.advance(86_400.0)
    journal.note_change(KEY)
    tick(journal, clock)
    assert list(store.audit()) == []
    assert AUDIT_ROWS == 100_000
