"""A server that never comes to an end, or claims what can't be: what fetches from it ends, with a word for it."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.transcripts.session import Head
from agent.core.transcripts.transcript import EMPTY_CHAIN, extend_chain
from agent.core.wire import RawReply, Request, StreamHead
from agent.errors import RemoteProtocolError, Unreachable, UsageError
from agent.sessions.transfer import fetching
from agent.sessions.transfer.fetching import fetch_base, fetch_stream, find_offer, list_sessions

ID = "0b7f7d5e-8f2c-4f6e-9a43-1d2f3c4b5a69"
META = {"provider": "claude"}
MOST_REQUESTS = 2_000


class Said:
    """A server that says the next thing each time it is asked, and is not asked for ever."""

    def __init__(self, answers: Iterator[tuple[int, Any]], pieces: Iterator[Any]) -> None:
        self._answers = answers
        self._pieces = pieces
        self.asked = 0

    def _count(self) -> None:
        self.asked += 1
        assert self.asked <= MOST_REQUESTS, "it asks without end"

    def send(self, request: Request) -> RawReply:
        self._count()
        status, value = next(self._answers)
        return RawReply(status, {}, json.dumps(value).encode())

    def receive(self, request: Request, take: Callable[[bytes], object]) -> RawReply:
        self._count()
        for piece in next(self._pieces):
            if isinstance(piece, Exception):
                raise piece
            take(piece)
        return RawReply(200, {}, b"")


class Bin:
    """Where it goes: counted and forgotten."""

    size = 0

    def write(self, data: bytes, /) -> None:
        self.size += len(data)

    def cut(self, size: int, /) -> None:
        self.size = size


def row(number: int) -> dict[str, Any]:
    counts = dict.fromkeys(("streams", "entries", "size_bytes"), 1)
    return {"session_id": f"s{number}", **counts, "created_at_s": 0, "changed_at_s": 0, "meta": META}


@pytest.mark.parametrize(
    "cursor",
    [lambda number: "same", lambda number: str(number % 7), str],
    ids=["same", "circle", "endless"],
)
def test_a_list_without_end_ends(cursor: Callable[[int], str]) -> None:
    pages = ((200, {"sessions": [row(number)], "next_cursor": cursor(number)}) for number in itertools.count())
    server = Said(pages, iter(()))
    with pytest.raises(RemoteProtocolError, match=r"has no end|does not get on"):
        list(list_sessions(server, None))
    assert server.asked <= 1_001


def test_empty_pages_do_not_go_on() -> None:
    server = Said(((200, {"sessions": [], "next_cursor": str(number)}) for number in itertools.count()), iter(()))
    with pytest.raises(RemoteProtocolError, match="does not get on"):
        list(list_sessions(server, None))
    assert server.asked == 1


def stream(**head: Any) -> dict[str, Any]:
    whole = {"last_uuid": "u", "entry_count": 3, "generation": ID, "chain_hash": "00" * 32, **head}
    return {"subpath": "", "head": whole, "current": True}


@pytest.mark.parametrize(
    "streams",
    [
        [stream(entry_count=10**30)],
        [stream(entry_count=-5)],
        [stream(chain_hash="ab")],
        [stream(generation="g" * 10_000)],
        [{**stream(), "shared_entries": 2**70}],
        [{**stream(), "subpath": "a/" * 5_000}],
        "x",
    ],
    ids=str,
)
def test_a_claim_that_can_not_be_is_no_offer(streams: Any) -> None:
    server = Said(iter([(200, {"streams": streams})]), iter(()))
    with pytest.raises(RemoteProtocolError, match="says what can't be"):
        find_offer(server, "s", None, None)
    assert server.asked == 1


def whole(count: int) -> StreamHead:
    return StreamHead("", Head("u", count, ID, "00" * 32))


def test_a_line_at_a_time_is_not_waited_for_to_the_end() -> None:
    """Each answer a little on its way, of 2^53 that are claimed."""
    server = Said(iter(()), ([b"{}\n"] for _ in itertools.count()))
    with pytest.raises(RemoteProtocolError, match="did not send all"):
        fetch_stream(server, "s", whole(2**53), None, Bin())
    assert server.asked <= 1_000


def test_a_line_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_MOST_LINE_BYTES", 1 << 20)
    server = Said(iter(()), iter([itertools.repeat(b"x" * 65_536)]))
    with pytest.raises(RemoteProtocolError, match="a line of more than 1,048,576 bytes"):
        fetch_stream(server, "s", whole(5), None, Bin())


def test_lines_without_end_end() -> None:
    server = Said(iter(()), iter([itertools.repeat(b"{}\n" * 1000)]))
    with pytest.raises(RemoteProtocolError, match="more than it has"):
        fetch_stream(server, "s", whole(5_000), None, Bin())


def test_a_network_that_breaks_again_and_again_gets_there() -> None:
    """What is no server's fault: a break behind each line."""
    count, chain = 300, EMPTY_CHAIN
    chain = extend_chain(chain, [b"{}"] * count)
    head = StreamHead("", Head("u", count, ID, chain.hex()))
    broken: list[Any] = [b"{}\n", b"{", Unreachable("cut")]
    server = Said(iter(()), iter([*[broken] * (count - 1), [b"{}\n"]]))
    kept = Bin()
    assert fetch_stream(server, "s", head, None, kept).entries == count
    assert kept.size == 3 * count


@pytest.mark.parametrize("cursor", [lambda number: "same", lambda number: str(number % 3)], ids=["same", "circle"])
def test_pages_of_events_that_lead_back_are_no_transcript(cursor: Callable[[int], str]) -> None:
    pages = (
        (200, {"data": [{"payload": {"n": number}}], "next_cursor": cursor(number)}) for number in itertools.count()
    )
    server = Said(pages, iter(()))
    with pytest.raises(RemoteProtocolError, match="lead back"):
        fetch_base(server, "s", Bin())
    assert server.asked <= 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["streams", "head", "files", "entry_count", "subpath", "sessions"]), inner)
    ),
    max_leaves=12,
)


@given(st.lists(JSON, min_size=1, max_size=4))
def test_whatever_is_said_it_is_told_in_our_words(values: list[Any]) -> None:
    for ask in (
        lambda server: find_offer(server, "s", None, None),
        lambda server: list(list_sessions(server, None)),
        lambda server: fetch_base(server, "s", Bin()),
    ):
        server = Said(((200, value) for value in itertools.cycle(values)), iter(()))
        try:
            ask(server)
        except (RemoteProtocolError, UsageError):
            continue
