"""Sums for people: they must be true also where a file shrank, vanished or has two destinations."""

import msgspec
import pytest

from agent.core.lifecycle import UNSENT, State
from agent.core.status import SCHEMA, Counts, DestinationLine, Status, StreamLine, count_streams, oldest_unsent_s


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
) -> StreamLine:
    path = f"p/{session}.jsonl"
    return StreamLine(
        destination, session, subpath, path, state, size, sent, entries, sent_entries, mtime_s, generations=generations
    )


def status_of(*lines: StreamLine) -> Status:
    return Status(SCHEMA, "0", running=True, destinations=(), counts=count_streams(lines))


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


def test_a_state_that_nobody_is_in_does_not_count() -> None:
    counts = msgspec.structs.replace(Counts(), states={"synced": 3, "waiting": 0})
    assert Status(SCHEMA, "0", running=True, destinations=(), counts=counts).synced


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
