"""What every store does with generations; a part of the suite that each real one runs."""

import io
import random
import threading
import uuid
from typing import NamedTuple

import pytest

from agent.core.transcripts.session import Head, StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, LONG_LINE_BYTES, walk_entries
from agent.core.wire import NewGeneration, StreamHead
from agent.receiver.store import EMPTY_HEAD, Guard, Moved, Reading, Run, Store, Stored

MAIN = StreamId("s", "")
BOUNDARY = b'{"type":"system","subtype":"compact_boundary","uuid":"c"}'


def name() -> str:
    return str(uuid.uuid4())


def lines_of(reading: Reading | None) -> list[bytes]:
    assert reading is not None
    found: list[bytes] = []
    for run in reading.runs(0, 10**9):
        found += run.data[:-1].split(b"\n") if isinstance(run, Run) else [b"".join(run.pieces())]
    return found


def write(store: Store, generation: str, lines: list[bytes], *, at: Head | None = None, batch: str = "") -> Head:
    """Behind what `at` says, else behind what the generation has."""
    reading = store.read("o", MAIN, generation)
    head = at or (reading.head if reading else EMPTY_HEAD)
    body = b"".join(line + b"\n" for line in lines)
    done = store.append(
        "o", MAIN, Guard(head.last_uuid, head.entry_count, generation), batch or name(), io.BytesIO(body)
    )
    assert isinstance(done, Stored)
    return done.head


def head_of(lines: list[bytes], generation: str) -> Head:
    """What the head must be when a generation holds these lines."""
    marks = list(walk_entries(io.BytesIO(b"".join(line + b"\n" for line in lines)), *MAIN))
    if not marks:
        return Head(None, 0, generation, EMPTY_CHAIN.hex())
    return Head(marks[-1].entry_id, len(lines), generation, marks[-1].chain.hex())


class Modelled(NamedTuple):
    """A generation as it should be."""

    parent: str | None
    shared: int
    lines: list[bytes]


class GenerationsSuite:
    def test_a_generation_shares_the_first_entries_of_its_parent(self, store: Store) -> None:
        old, new = name(), name()
        before = write(store, old, [b'{"uuid":"a"}', b"", b"\xff torn", b'{"uuid":"d"}'])
        begun = store.begin_generation("o", MAIN, NewGeneration(new, old, 3))
        assert begun == Stored(head_of([b'{"uuid":"a"}', b"", b"\xff torn"], new))
        assert store.head("o", MAIN) == begun.head
        write(store, new, [b'{"uuid":"other"}'])
        assert lines_of(store.read("o", MAIN)) == [b'{"uuid":"a"}', b"", b"\xff torn", b'{"uuid":"other"}']
        assert lines_of(store.read("o", MAIN, old)) == [b'{"uuid":"a"}', b"", b"\xff torn", b'{"uuid":"d"}']
        assert store.streams("o", "s") == [
            StreamHead("", before, current=False),
            StreamHead("", store.head("o", MAIN), current=True, parent=old, shared_entries=3),
        ]

    def test_both_histories_go_on(self, store: Store) -> None:
        old, new = name(), name()
        write(store, old, [b"1", b"2"])
        store.begin_generation("o", MAIN, NewGeneration(new, old, 1))
        write(store, old, [b"3 of the old"])
        write(store, new, [b"2 of the new"])
        write(store, old, [b"4 of the old"])
        assert lines_of(store.read("o", MAIN, old)) == [b"1", b"2", b"3 of the old", b"4 of the old"]
        assert lines_of(store.read("o", MAIN, new)) == [b"1", b"2 of the new"]
        assert store.head("o", MAIN).generation == new

    def test_a_parent_that_grew_is_not_seen_by_an_opened_child(self, store: Store) -> None:
        old, new = name(), name()
        write(store, old, [b"1", b"2"])
        store.begin_generation("o", MAIN, NewGeneration(new, old, 2))
        reading = store.read("o", MAIN, new)
        write(store, old, [b"3"])
        assert lines_of(reading) == [b"1", b"2"]
        assert lines_of(store.read("o", MAIN, new)) == [b"1", b"2"]

    @pytest.mark.parametrize("shared", range(8))
    def test_every_place_to_part(self, store: Store, shared: int) -> None:
        """Within runs, between them, in and around a long line."""
        old, new = name(), name()
        lines = [b'{"uuid":"a"}', BOUNDARY, b"x" * (LONG_LINE_BYTES + 9), b'{"n":1}', b"", BOUNDARY, b"end"]
        write(store, old, lines[:3])
        write(store, old, lines[3:])
        begun = store.begin_generation("o", MAIN, NewGeneration(new, old, shared))
        assert begun == Stored(head_of(lines[:shared], new))
        boundaries = [place for place, line in enumerate(lines[:shared], 1) if line == BOUNDARY]
        reading = store.read("o", MAIN)
        assert reading is not None
        assert reading.last_compaction == max(boundaries, default=0)
        assert lines_of(reading) == lines[:shared]
        assert write(store, new, [b"on"]) == head_of([*lines[:shared], b"on"], new)

    def test_a_head_is_known_at_every_place(self, store: Store) -> None:
        old = name()
        lines = [b'{"uuid":"a"}', b"", b"x" * (LONG_LINE_BYTES + 9), b'{"n":1}', b"y" * (LONG_LINE_BYTES + 1), b"end"]
        write(store, old, lines[:2])
        now = write(store, old, lines[2:])
        for generation in (None, old):
            assert store.head_at("o", MAIN, generation, None) == now
            for entries in range(len(lines) + 1):
                assert store.head_at("o", MAIN, generation, entries) == head_of(lines[:entries], old)
            assert store.head_at("o", MAIN, generation, len(lines) + 1) is None
        assert store.head_at("o", MAIN, name(), 0) is None
        assert store.head_at("o", StreamId("s", "sub"), None, 0) is None

    def test_repeating_is_harmless(self, store: Store) -> None:
        old, new = name(), name()
        write(store, old, [b"1", b"2"])
        ask = NewGeneration(new, old, 1)
        assert store.begin_generation("o", MAIN, ask) == store.begin_generation("o", MAIN, ask)
        grown = write(store, new, [b"x"])
        assert store.begin_generation("o", MAIN, ask) == Stored(grown)
        third = name()
        store.begin_generation("o", MAIN, NewGeneration(third, new, 2))
        assert store.begin_generation("o", MAIN, ask) == Stored(grown)
        assert store.head("o", MAIN).generation == third  # repeating makes nothing current again

    def test_what_can_not_be_is_told_the_head(self, store: Store) -> None:
        old, new, other = name(), name(), name()
        write(store, old, [b"1", b"2"])
        current = store.begin_generation("o", MAIN, NewGeneration(new, old, 1)).head
        before = store.head("o", MAIN)
        for ask, head in {
            NewGeneration(new, old, 2): current,
            NewGeneration(new, new, 1): current,
            NewGeneration(new, None, 0): current,
            NewGeneration(new, name(), 1): current,
            NewGeneration(old, new, 0): head_of([b"1", b"2"], old),
            NewGeneration(other, name(), 0): current,
            NewGeneration(other, other, 0): current,
            NewGeneration(other, old, 3): current,
            NewGeneration(other, None, 0): current,
        }.items():
            assert store.begin_generation("o", MAIN, ask) == Moved(head), ask
        assert store.head("o", MAIN) == before
        assert len(store.streams("o", "s") or []) == 2

    def test_a_stream_can_begin_with_an_empty_generation(self, store: Store) -> None:
        first = name()
        assert store.begin_generation("o", MAIN, NewGeneration(name(), first, 0)) == Moved(EMPTY_HEAD)
        assert not store.has_session("o", "s")
        assert store.begin_generation("o", MAIN, NewGeneration(first)) == Stored(head_of([], first))
        assert store.head("o", MAIN) == head_of([], first)
        assert lines_of(store.read("o", MAIN)) == []
        assert store.begin_generation("o", MAIN, NewGeneration(first)) == Stored(head_of([], first))
        done = store.append("o", MAIN, Guard(None, 0, name()), name(), io.BytesIO(b"x\n"))
        assert done == Moved(head_of([], first))
        assert write(store, first, [b"1"]) == head_of([b"1"], first)

    def test_an_unknown_generation_begins_only_an_empty_stream(self, store: Store) -> None:
        old, new = name(), name()
        write(store, old, [b"1"])
        current = store.begin_generation("o", MAIN, NewGeneration(new, old, 1)).head
        for guard in (Guard(None, 0, name()), Guard(current.last_uuid, 1, name())):
            assert store.append("o", MAIN, guard, name(), io.BytesIO(b"x\n")) == Moved(current)

    def test_a_guard_is_held_against_the_generation_that_it_names(self, store: Store) -> None:
        old, new = name(), name()
        held = write(store, old, [b"1", b"2"])
        write(store, new, [b"2 else"], at=store.begin_generation("o", MAIN, NewGeneration(new, old, 1)).head)
        stale = Guard(held.last_uuid, 1, old)
        assert store.append("o", MAIN, stale, name(), io.BytesIO(b"x\n")) == Moved(held)
        same_place = Guard(held.last_uuid, 2, new)
        done = store.append("o", MAIN, same_place, name(), io.BytesIO(b"x\n"))
        assert done == Moved(head_of([b"1", b"2 else"], new))

    def test_a_repeated_batch_is_known_in_each_generation(self, store: Store) -> None:
        old, new, batches = name(), name(), (name(), name())
        first = write(store, old, [b"1"])
        begun = store.begin_generation("o", MAIN, NewGeneration(new, old, 1)).head
        heads = [write(store, old, [b"2"], at=first, batch=batches[0])]
        heads.append(write(store, new, [b"2 else"], at=begun, batch=batches[1]))
        for generation, head, batch, at in zip((old, new), heads, batches, (first, begun), strict=True):
            guard = Guard(at.last_uuid, at.entry_count, generation)
            assert store.append("o", MAIN, guard, batch, io.BytesIO(b"2\n")) == Stored(head)
        assert isinstance(store.append("o", MAIN, guard, batches[0], io.BytesIO(b"2\n")), Moved)

    def test_a_put_goes_to_the_current_one(self, store: Store) -> None:
        old, new = name(), name()
        write(store, old, [b'{"uuid":"a"}', b'{"uuid":"b"}'])
        store.begin_generation("o", MAIN, NewGeneration(new, old, 1))
        done = store.put("o", "s", "a", "c", io.BytesIO(b'{"uuid":"c"}\n'))
        assert done.head.generation == new
        assert lines_of(store.read("o", MAIN)) == [b'{"uuid":"a"}', b'{"uuid":"c"}']

    def test_generations_belong_to_their_stream_and_owner(self, store: Store) -> None:
        old = name()
        write(store, old, [b"1"])
        ask = NewGeneration(name(), old, 1)
        for owner, stream in (("p", MAIN), ("o", StreamId("s", "sub")), ("o", StreamId("t", ""))):
            assert store.begin_generation(owner, stream, ask) == Moved(EMPTY_HEAD)

    def test_a_long_lineage_reads_as_one(self, store: Store) -> None:
        lines = [b"%d" % number for number in range(40)]
        before = name()
        write(store, before, lines[:1])
        for number in range(1, len(lines)):
            new = name()
            store.begin_generation("o", MAIN, NewGeneration(new, before, number))
            write(store, new, [lines[number]])
            before = new
        reading = store.read("o", MAIN)
        assert lines_of(reading) == lines
        assert reading is not None
        assert b"".join(run.data for run in reading.runs(7, 5) if isinstance(run, Run)) == b"7\n8\n9\n10\n11\n"

    @pytest.mark.parametrize("seed", range(12))
    def test_it_does_what_a_model_does(self, store: Store, seed: int) -> None:
        """A few hundred appends, stale ones, partings and repetitions; every generation is compared in the end."""
        chance = random.Random(seed)
        model: dict[str, Modelled] = {}
        current, counter = "", 0
        for _ in range(150):
            known = chance.choice(list(model)) if model else ""
            if known and chance.random() < 0.15:
                shared = chance.randrange(len(model[known].lines) + 2)
                new = name()
                done = store.begin_generation("o", MAIN, NewGeneration(new, known, shared))
                if shared > len(model[known].lines):
                    assert isinstance(done, Moved)
                    continue
                model[new] = Modelled(known, shared, model[known].lines[:shared])
                current = new
                assert done == Stored(head_of(model[new].lines, new))
                continue
            target = known or name()
            held = model.get(target, Modelled(None, 0, []))
            head = head_of(held.lines, target)
            stale = bool(held.lines) and chance.random() < 0.2
            guard = Guard(head.last_uuid, head.entry_count - stale, target)
            added = [b"%d" % (counter + step) for step in range(chance.randint(1, 4))]
            counter += len(added)
            done = store.append("o", MAIN, guard, name(), io.BytesIO(b"".join(line + b"\n" for line in added)))
            if stale:
                assert done == Moved(head)
                continue
            model[target] = held._replace(lines=[*held.lines, *added])
            current = current or target
            assert done == Stored(head_of(model[target].lines, target))
        for generation, wanted in model.items():
            assert lines_of(store.read("o", MAIN, generation)) == wanted.lines
            for entries in range(len(wanted.lines) + 1):
                at = store.head_at("o", MAIN, generation, entries)
                assert at == head_of(wanted.lines[:entries], generation)
        assert store.head("o", MAIN) == head_of(model[current].lines, current)
        told = {row.head.generation: row for row in store.streams("o", "s") or []}
        assert {key: (row.parent, row.shared_entries) for key, row in told.items()} == {
            key: (wanted.parent, wanted.shared) for key, wanted in model.items()
        }
        assert [key for key, row in told.items() if row.current] == [current]

    def test_of_many_that_begin_one_generation_all_get_the_same(self, store: Store) -> None:
        old, new = name(), name()
        write(store, old, [b"1", b"2", b"3"])
        answers: list[tuple[int, Stored | Moved]] = []

        def begin(number: int) -> None:
            answers.append((number % 2, store.begin_generation("o", MAIN, NewGeneration(new, old, 1 + number % 2))))

        threads = [threading.Thread(target=begin, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shared = store.head("o", MAIN).entry_count
        for way, answer in answers:
            assert isinstance(answer, Stored if 1 + way == shared else Moved)
            assert answer.head == head_of([b"1", b"2", b"3"][:shared], new)
        assert len(answers) == 16
        assert len(store.streams("o", "s") or []) == 2
