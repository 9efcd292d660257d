"""Generations over a real server: how one begins, how each is read, and what many writers make of two."""

import os
import random
import threading
import uuid

import pytest

from agent.core.transcripts.session import Head, StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, extend_chain
from agent.core.wire import Request, head_request, parse_loglines, session_path, streams_request
from tests.receiver.harness import READER, Answer, Client, Receiver, fresh_head, fresh_stream, head_of, line_of
from tests.receiver.test_app import assert_problem, raw
from tests.reliability import MakeTally


def name() -> str:
    return str(uuid.uuid4())


def begin(client: Client, stream: StreamId, generation: str, parent: str | None, shared: object) -> Answer:
    path = session_path(stream.session_id, "/generations", subpath=stream.subpath)
    body = line_of(generation=generation, parent=parent, shared_entries=shared)
    return client.send(Request("POST", path, {"Content-Type": "application/json"}, body))


def heads_of(client: Client, stream: StreamId) -> dict[str, Head]:
    rows = client.send(streams_request(stream.session_id)).json()["streams"]
    return {row["head"]["generation"]: Head(**row["head"]) for row in rows if row["subpath"] == stream.subpath}


def test_the_server_offers_generations(client: Client) -> None:
    assert client.ask("GET", "/v1/session_ingress/capabilities").json()["generations"] is True


@pytest.mark.parametrize("subpath", ["", "subagents/agent-x"])
def test_a_diverged_copy_goes_on_in_its_own_generation(client: Client, subpath: str) -> None:
    stream, old, new = fresh_stream(subpath), fresh_head(), name()
    head = head_of(client.append(stream, old, b'{"uuid":"a"}\n{"uuid":"b"}\n'))
    answer = begin(client, stream, new, head.generation, 1)
    assert answer.status == 201
    assert head_of(answer) == Head("a", 1, new, extend_chain(EMPTY_CHAIN, [b'{"uuid":"a"}']).hex())
    assert begin(client, stream, new, head.generation, 1) == answer
    other = head_of(client.append(stream, head_of(answer), b'{"uuid":"c"}\n'))
    head = head_of(client.append(stream, head, b'{"uuid":"d"}\n'))  # the other machine goes on too
    assert head_of(client.send(head_request(stream))) == other
    assert client.entries(stream).body == b'{"uuid":"a"}\n{"uuid":"c"}\n'
    old_one = client.entries(stream, generation=head.generation)
    assert old_one.body == b'{"uuid":"a"}\n{"uuid":"b"}\n{"uuid":"d"}\n'
    assert (old_one.headers["entry-count"], old_one.headers["chain-hash"]) == ("3", head.chain_hash)
    assert client.entries(stream, generation=new, after=1, limit=1).body == b'{"uuid":"c"}\n'
    rows = client.send(streams_request(stream.session_id)).json()["streams"]
    assert [(row["current"], row["parent"], row["shared_entries"]) for row in rows] == [
        (False, None, 0),
        (True, head.generation, 1),
    ]
    assert [Head(**row["head"]) for row in rows] == [head, other]


def test_a_head_can_be_asked_for_at_any_place(client: Client) -> None:
    stream, lines = fresh_stream(), [b"%d" % number for number in range(9)]
    head = head_of(client.append(stream, fresh_head(), b"".join(line + b"\n" for line in lines)))
    begin(client, stream, name(), head.generation, 2)

    def asked(**query: str | int | None) -> Answer:
        return client.ask("GET", session_path(stream.session_id, "/head", subpath="", **query))

    for entries in range(10):
        at = head_of(asked(generation=head.generation, entry_count=entries))
        assert (at.entry_count, at.generation) == (entries, head.generation)
        assert at.chain_hash == extend_chain(EMPTY_CHAIN, lines[:entries]).hex()
    assert head_of(asked(generation=head.generation)) == head
    assert head_of(asked(entry_count=1)).chain_hash == extend_chain(EMPTY_CHAIN, lines[:1]).hex()
    assert_problem(asked(entry_count=3), 404)
    assert_problem(asked(generation=name()), 404)
    assert_problem(asked(entry_count="x"), 400, "entry_count")


def test_readers_of_the_base_protocol_see_the_current_one(client: Client) -> None:
    stream, new = fresh_stream(), name()
    head = head_of(client.append(stream, fresh_head(), b'{"uuid":"a"}\n{"uuid":"b"}\n{"uuid":"c"}\n'))
    events = f"/v1/code/sessions/{stream.session_id}/teleport-events"
    page = client.ask("GET", f"{events}?limit=2").json()
    begin(client, stream, new, head.generation, 1)
    assert client.ask("PUT", session_path(stream.session_id), b'{"uuid":"x"}', Last_Uuid="a").status == 201
    assert parse_loglines(raw(client.ask("GET", session_path(stream.session_id)))) == ["a", "x"]
    ids = [event["event_id"] for event in client.ask("GET", events).json()["data"]]
    assert ids == ["a", "x"]
    rest = client.ask("GET", f"{events}?cursor={page['next_cursor']}").json()  # its pages stay of one history
    assert [event["event_id"] for event in rest["data"]] == ["c"]


def test_what_can_not_be_is_told_a_head(client: Client) -> None:
    stream, new = fresh_stream(), name()
    empty = Head(None, 0, None, "0" * 64)
    assert (begin(client, stream, new, name(), 0).status, head_of(begin(client, stream, new, name(), 0))) == (
        409,
        empty,
    )
    assert begin(client, stream, new, None, 0).status == 201
    head = head_of(client.append(stream, Head(generation=new), b"1\n2\n"))
    for generation, parent, shared in ((new, name(), 0), (name(), name(), 1), (name(), new, 3), (name(), None, 0)):
        answer = begin(client, stream, generation, parent, shared)
        assert answer.status == 409
        assert answer.headers["content-type"] == "application/json"
        assert head_of(answer) == head
    stale = client.append(stream, fresh_head(), b"x\n")  # a generation that nobody began
    assert (stale.status, head_of(stale)) == (409, head)


ID = b'{"generation":"00000000-0000-4000-8000-000000000000",'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"generation":"g","parent":null,"shared_entries":0}',
        ID + b'"parent":"p","shared_entries":0}',
        ID + b'"parent":null,"shared_entries":1}',
        ID + b'"parent":null,"shared_entries":-1}',
        ID + b'"parent":null,"shared_entries":true}',
        ID + b'"parent":null,"shared_entries":0.5}',
        ID + b'"parent":null,"shared_entries":"0"}',
        ID + b'"parent":"00000000-0000-4000-8000-000000000001","shared_entries":1000000000000000000000000}',
        b'{"generation":"\xff"}',
    ],
)
def test_odd_bodies_are_refused(client: Client, body: bytes) -> None:
    stream = fresh_stream()
    path = session_path(stream.session_id, "/generations")
    assert_problem(client.ask("POST", path, body), 400)
    assert client.send(streams_request(stream.session_id)).status == 404


def test_odd_places_are_refused(client: Client, receiver: Receiver) -> None:
    assert_problem(begin(client, StreamId("s", "a//b"), name(), None, 0), 400, "subpath")
    assert_problem(client.ask("POST", session_path("s", "/generations"), b" " * 5000), 413)
    with receiver.client(READER) as reader:
        assert_problem(begin(reader, fresh_stream(), name(), None, 0), 403)


def test_sixteen_writers_on_two_generations(receiver: Receiver, tally: MakeTally) -> None:
    """Eight go on with the old history, eight begin the new one at once and go on there: each history is one unbroken
    chain of what was acknowledged to it."""
    stream, old, new = fresh_stream(), fresh_head(), name()
    start = [line_of(uuid=f"start-{number}")[:-1] for number in range(20)]
    with receiver.client() as client:
        head = head_of(client.append(stream, old, b"".join(line + b"\n" for line in start)))
    won: dict[str, list[tuple[int, bytes]]] = {head.generation or "": [], new: []}
    gate = threading.Barrier(16)
    failures: list[BaseException] = []

    def write(number: int) -> None:
        chance = random.Random(number)
        with receiver.client() as client:
            gate.wait()
            at = head
            if number % 2:
                answer = begin(client, stream, new, head.generation, 7)
                assert answer.status == 201
                at = head_of(answer)
            left = 12
            while left:
                if number % 2 and chance.random() < 0.2:  # it is begun again, rightly and wrongly
                    assert begin(client, stream, new, head.generation, 7).status == 201
                    assert begin(client, stream, new, head.generation, 8).status == 409
                line = b"%d-%d-%s" % (number, left, os.urandom(4).hex().encode())
                answer = client.append(stream, at, line + b"\n")
                assert answer.status in (200, 409)
                at = head_of(answer)
                if answer.status == 200:
                    won[at.generation or ""].append((at.entry_count, line))
                    left -= 1

    def guarded(number: int) -> None:
        try:
            write(number)
        except BaseException as exc:
            failures.append(exc)
            raise

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    lost = tally("nothing is lost", "16 writers on two generations, which are begun meanwhile")
    with receiver.client() as client:
        assert head_of(client.send(head_request(stream))).generation == new
        told = heads_of(client, stream)
        for generation, shared in ((head.generation or "", start), (new, start[:7])):
            expected = [*shared, *(line for _, line in sorted(won[generation]))]
            stored = client.entries(stream, generation=generation).body.split(b"\n")[:-1]
            lost.note_lines(expected, stored)
            assert stored == expected
            assert told[generation].chain_hash == extend_chain(EMPTY_CHAIN, expected).hex()
            assert len(won[generation]) == 8 * 12


def test_many_generations_begun_at_once(receiver: Receiver) -> None:
    """Sixteen diverged copies, each with a generation of its own: all are there, and one is the current one."""
    stream, old = fresh_stream(), fresh_head()
    lines = [b"%d" % number for number in range(16)]
    with receiver.client() as client:
        head = head_of(client.append(stream, old, b"".join(line + b"\n" for line in lines)))
    names = [name() for _ in range(16)]

    def fork(number: int) -> None:
        with receiver.client() as client:
            begun = head_of(begin(client, stream, names[number], head.generation, number))
            client.append(stream, begun, b"own %d\n" % number)

    threads = [threading.Thread(target=fork, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with receiver.client() as client:
        assert heads_of(client, stream).keys() == {head.generation, *names}
        for number, generation in enumerate(names):
            wanted = [*lines[:number], b"own %d" % number]
            assert client.entries(stream, generation=generation).body == b"".join(line + b"\n" for line in wanted)
        assert head_of(client.send(head_request(stream))).generation in names
