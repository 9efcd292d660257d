"""Sums for people: they must be true also where a file shrank, vanished or has two destinations."""

import re
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.delivery.lifecycle import UNSENT, State
from agent.core.status import (
    COUNTED,
    OPEN,
    SCHEMA,
    Counts,
    DestinationLine,
    Open,
    Status,
    StreamLine,
    count_open,
    count_streams,
    describe_open,
    oldest_unsent_s,
)
from tests.conftest import REPOSITORY


def line(
    session: str = "s",
    subpath: str = "",
    *,
    destination: str = "default",
    state: State = State.SYNCED,
    size: int = 0,
    sent: int = 0,
    entries: int = 0,
    sent_entries: int = 0,
    mtime_s: float = 0.0,
    generations: int = 0,
    status: int = 0,
    rejected: Mapping[int, int] = {},
) -> StreamLine:
    path = f"p/{session}.jsonl"
    return StreamLine(
        destination, session, subpath, path, state, size, sent, entries, sent_entries, mtime_s,
        status=status, generations=generations, rejected=rejected,
    )  # fmt: skip


def status_of(*lines: StreamLine) -> Status:
    return Status(SCHEMA, "0", running=True, destinations=(), counts=count_streams(lines), open=count_open(lines))


def test_nothing_is_nothing() -> None:
    assert count_streams([]) == Counts()
    assert oldest_unsent_s([]) is None
    assert status_of().synced


def test_a_session_with_subagents_is_one_session_with_several_streams() -> None:
    counts = count_streams(
        [line("a", size=10, sent=10, entries=2, sent_entries=2), line("a", "subagents/agent-1", size=5), line("b")]
    )
    assert (counts.sessions, counts.streams) == (2, 3)
    assert (counts.bytes, counts.sent_bytes) == (15, 10)


def test_states_are_counted_a_destination_each_but_transcripts_once() -> None:
    counts = count_streams([line(destination="one"), line(destination="two", state=State.DUE)])
    assert counts.states == {"synced": 1, "due": 1}
    assert (counts.sessions, counts.streams) == (1, 1)


def test_a_file_has_its_size_once_however_many_destinations_it_has() -> None:
    names = ("one", "two", "three")
    lines = [line(session, destination=name, size=10, sent=5) for session in "ab" for name in names]
    counts = count_streams([*lines, line("a", "subagents/agent-1", size=3)])
    assert (counts.disk_bytes, counts.bytes, counts.sent_bytes) == (23, 63, 30)


@pytest.mark.parametrize("state", State)
def test_every_state_is_counted_under_its_name(state: State) -> None:
    assert count_streams([line(state=state)] * 3).states == {str(state): 3}


def test_never_more_is_sent_than_there_is() -> None:
    shrunk, unseen = line("a", size=4, sent=10), line("b", size=-1, sent=7)
    counts = count_streams([shrunk, unseen])
    assert counts.bytes == 4
    assert counts.sent_bytes == 4


def test_entries_without_a_place_on_a_base_server_are_told() -> None:
    counts = count_streams([line("a", entries=10, sent_entries=7), line("b", entries=5, sent_entries=5)])
    assert (counts.entries, counts.not_addressable) == (15, 3)


def test_new_generations_are_counted_a_destination_each() -> None:
    lines = [line("a", generations=2), line("a", destination="two", generations=1), line("b")]
    assert count_streams(lines).generations == 3


@pytest.mark.parametrize("state", State)
def test_synced_means_that_nothing_waits_and_nothing_was_refused(state: State) -> None:
    fine = state in {State.SYNCED, State.GONE, State.PRIVATE}
    assert status_of(line(), line("b", state=state)).synced == fine
    if state in UNSENT:
        assert not fine


def test_a_kind_of_which_there_is_none_does_not_count() -> None:
    assert Status(SCHEMA, "0", running=True, destinations=(), counts=Counts(), open={"waiting": 0}).synced


def test_the_oldest_wait_is_that_of_an_unsent_stream() -> None:
    lines = [
        line("a", state=State.SYNCED, mtime_s=1.0),
        line("b", state=State.REFUSED, mtime_s=2.0),
        line("c", state=State.WAITING, mtime_s=4.0),
        line("d", state=State.DUE, mtime_s=3.0),
    ]
    assert oldest_unsent_s(lines) == 3.0
    assert oldest_unsent_s(lines[:2]) is None


def test_a_status_travels_as_json_and_comes_back_equal() -> None:
    status = Status(
        SCHEMA,
        "1.2.3",
        running=True,
        destinations=[DestinationLine("default", "https://a.example", "offline", "", "no connection", 12.5)],
        counts=count_streams([line("ä", state=State.WAITING, size=3, generations=1)]),
        pid=7,
        watching=["p"],
        polling=["q"],
        problems=[("what", "hint")],
    )
    builtins = msgspec.to_builtins(status)
    assert msgspec.to_builtins(msgspec.json.decode(msgspec.json.encode(status), type=Status)) == builtins
    assert msgspec.to_builtins(msgspec.convert(builtins, Status)) == builtins
    assert builtins["running"] is True


# --- what the numbers include ---------------------------------------------------------------------------------------


def doc_rows(heading: str, columns: int) -> list[list[str]]:
    """Of the first table behind a heading in docs/operations.md that begins so."""
    page = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    table = page.partition("### What the numbers include")[2].partition(f"| {heading} |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert rows
    assert all(len(row) == columns for row in rows)
    return rows


def test_the_page_says_of_every_state_what_the_table_says() -> None:
    told = {}
    for names, here, due, there, kind in doc_rows("state", 5):
        for name in re.findall(r"`(\w+)`", names):
            told[name] = (here == "yes", due == "yes", there == "yes", kind.strip("`") or None)
    assert told == {str(state): (*row[:3], row.open and str(row.open)) for state, row in COUNTED.items()}
    assert set(COUNTED) == set(State)


def test_the_page_names_every_kind_that_is_open() -> None:
    assert [row[0].strip("`") for row in doc_rows("kind", 2)] == [str(kind) for kind in OPEN] == [str(k) for k in Open]


@pytest.mark.parametrize("kind", Open)
def test_what_forbids_it_is_never_called_synced(kind: Open) -> None:
    found = Status(SCHEMA, "0", running=True, destinations=(), counts=Counts(bytes=9, sent_bytes=9), open={kind: 1})
    assert (found.synced, found.share) == ((False, 99.9) if OPEN[kind].forbids else (True, 100.0))
    ((words, _),) = describe_open(found.open)
    assert "{" not in words
    ((words, _),) = describe_open({kind: 1234})
    assert "{" not in words


def test_a_kind_that_only_a_newer_daemon_knows_forbids_it_too_and_is_named() -> None:
    found = Status(SCHEMA, "0", running=True, destinations=(), counts=Counts(), open={"of_tomorrow": 2})
    assert not found.synced
    assert describe_open(found.open) == [("2 of tomorrow", "transcriptd status")]


LINES = st.builds(
    line,
    st.sampled_from("abc"),
    st.sampled_from(["", "subagents/agent-1", "files/x"]),
    destination=st.sampled_from(["one", "two"]),
    state=st.sampled_from(list(State)),
    size=st.integers(-1, 50),
    sent=st.integers(0, 50),
    entries=st.integers(0, 5),
    sent_entries=st.integers(0, 5),
    status=st.sampled_from([0, 413]),
    rejected=st.sampled_from([{}, {413: 1}, {400: 2, 413: 1}]),
)


@given(st.lists(LINES, max_size=6))
def test_the_per_cent_is_100_only_when_everything_that_is_to_be_there_is(lines: list[StreamLine]) -> None:
    lines = [msgspec.structs.replace(one, sent_entries=min(one.sent_entries, one.entries)) for one in lines]
    found = status_of(*lines)
    assert found.share is None or 0 <= found.share <= 100
    missing = [
        one
        for one in lines
        if COUNTED[State(one.state)].due
        and (one.state != State.SYNCED or one.entries > one.sent_entries or one.rejected)
    ]
    if found.share == 100 or found.synced:
        followers = [one for one in missing if one.subpath.startswith("files/") and one.state == State.REFUSED]
        assert missing == followers  # of sessions that stay here
    assert found.synced == (not found.open)


def test_a_base_server_that_took_nothing_of_a_session_has_0_per_cent_of_it() -> None:
    """Rollouts of Codex name no ids, so there is no entry that has a place there."""
    found = status_of(line(size=1000, sent=1000, entries=12, sent_entries=0))
    assert (found.share, found.synced, found.open) == (0.0, False, {Open.NO_PLACE_ENTRIES: 12})


def test_what_stays_here_is_neither_missing_nor_there() -> None:
    private = [line(str(number), state=State.PRIVATE, size=900) for number in range(3)]
    assert status_of(line(size=10, sent=10, entries=1, sent_entries=1), *private).share == 100
    assert status_of(*private).share is None
    assert status_of(*private).synced
    elsewhere = line("a", destination="two", state=State.PRIVATE, size=900)
    assert status_of(line("a", size=900, sent=900, entries=1, sent_entries=1), elsewhere).share == 100


def test_side_files_of_a_session_that_stays_here_are_not_missing() -> None:
    main, beside = line("a", state=State.PRIVATE, size=5), line("a", "files/x", state=State.REFUSED, size=7)
    assert status_of(main, beside).open == {}
    assert status_of(line("a"), beside).open == {Open.NO_PLACE: 1}


def test_what_was_deleted_there_is_not_there_and_what_is_gone_is_not_here() -> None:
    deleted = line("a", state=State.DELETED_ON_SERVER, size=10, sent=10, entries=2, sent_entries=2, status=410)
    gone = line("b", state=State.GONE, size=10, sent=10, entries=2, sent_entries=2)
    found = status_of(deleted, gone, line("c", size=10, sent=10, entries=2, sent_entries=2))
    assert found.share == 50
    assert (found.counts.sessions, found.counts.disk_bytes, found.counts.entries) == (2, 20, 4)
    assert found.open == {Open.DELETED_THERE: 1}


@pytest.mark.parametrize("state", sorted(UNSENT))
def test_what_is_only_compared_again_waits_for_nothing(state: State) -> None:
    again = line("a", state=state, size=10, sent=10, entries=1, sent_entries=1, mtime_s=1.0)
    assert oldest_unsent_s([again]) is None
    assert count_open([again]) == {Open.COMPARED_AGAIN: 1}
    assert oldest_unsent_s([msgspec.structs.replace(again, size=11)]) == 1.0


def test_rejected_entries_are_counted_and_are_not_there() -> None:
    found = status_of(line(size=100, sent=100, entries=4, sent_entries=4, rejected={413: 1, 400: 1}))
    assert found.open == {Open.REJECTED_ENTRIES: 2}
    assert found.share == 50
    assert found.counts.rejected == {"the server answers 413": 1, "the server answers 400": 1}
