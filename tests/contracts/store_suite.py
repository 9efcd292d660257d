"""What every store of the receiver does; each real one runs this suite."""

import io
import threading
import uuid
from collections.abc import Iterator

import pytest

from agent.core.transcripts.session import Head, StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, LONG_LINE_BYTES, extend_chain, split_lines, walk_entries
from agent.core.wire import Meta
from agent.errors import UsageError
from agent.receiver.store import EMPTY_HEAD, EVERYBODY, Guard, LongEntry, Moved, Reading, Run, Store, Stored

MAIN = StreamId("s", "")
BOUNDARY = b'{"type":"system","subtype":"compact_boundary","uuid":"c"}\n'


def name() -> str:
    return str(uuid.uuid4())


def guard_of(head: Head) -> Guard:
    return Guard(head.last_uuid, head.entry_count, head.generation or name())


def append(store: Store, body: bytes, *, stream: StreamId = MAIN, owner: str = "o") -> Head:
    """Behind whatever is there."""
    done = store.append(owner, stream, guard_of(store.head(owner, stream)), name(), io.BytesIO(body))
    assert isinstance(done, Stored)
    return done.head


def content(reading: Reading | None, after: int = 0, limit: int = 10**9) -> bytes:
    assert reading is not None
    return b"".join(_bytes_of(run) for run in reading.runs(after, limit))


def _bytes_of(run: Run | LongEntry) -> bytes:
    return run.data if isinstance(run, Run) else b"".join(run.pieces()) + b"\n"


class StoreSuite:
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    def test_a_stream_that_nobody_wrote_is_empty(self, store: Store) -> None:
        assert store.head("o", MAIN) == EMPTY_HEAD
        assert store.read("o", MAIN) is None
        assert store.streams("o", "s") is None
        assert not store.has_session("o", "s")

    def test_a_batch_is_kept_as_it_arrived(self, store: Store) -> None:
        body = b'{"uuid":"a"}\n\n\xff\x00 torn\n{"b":1}\n'
        head = append(store, body)
        marks = list(walk_entries(io.BytesIO(body), "s", ""))
        assert head == Head(marks[-1].entry_id, 4, head.generation, marks[-1].chain.hex())
        assert store.head("o", MAIN) == head
        assert content(store.read("o", MAIN)) == body

    def test_the_first_batch_names_the_generation(self, store: Store) -> None:
        generation = name()
        done = store.append("o", MAIN, Guard(None, 0, generation), name(), io.BytesIO(b"{}\n"))
        assert done.head.generation == generation
        assert content(store.read("o", MAIN, generation)) == b"{}\n"
        assert store.read("o", MAIN, name()) is None

    @pytest.mark.parametrize("wrong", ["last_uuid", "entry_count", "generation"])
    def test_a_guard_that_does_not_hold_stores_nothing(self, store: Store, wrong: str) -> None:
        head = append(store, b'{"uuid":"a"}\n')
        values = {"last_uuid": "b", "entry_count": 2, "generation": name()}
        guard = guard_of(head)._replace(**{wrong: values[wrong]})  # type: ignore[arg-type]
        assert store.append("o", MAIN, guard, name(), io.BytesIO(b"x\n")) == Moved(head)
        assert content(store.read("o", MAIN)) == b'{"uuid":"a"}\n'

    def test_an_empty_stream_expects_an_empty_guard(self, store: Store) -> None:
        for guard in (Guard("a", 0, name()), Guard(None, 1, name())):
            assert store.append("o", MAIN, guard, name(), io.BytesIO(b"x\n")) == Moved(EMPTY_HEAD)
        assert not store.has_session("o", "s")

    def test_repeating_the_last_batch_is_harmless(self, store: Store) -> None:
        guard, batch = Guard(None, 0, name()), name()
        first = store.append("o", MAIN, guard, batch, io.BytesIO(b"x\n"))
        assert isinstance(first, Stored)
        assert store.append("o", MAIN, guard, batch, io.BytesIO(b"x\n")) == first
        assert store.head("o", MAIN).entry_count == 1
        append(store, b"y\n")
        assert isinstance(store.append("o", MAIN, guard, batch, io.BytesIO(b"x\n")), Moved)

    def test_a_repeated_uuid_is_no_position(self, store: Store) -> None:
        append(store, b'{"uuid":"a"}\n')
        append(store, b'{"uuid":"b"}\n{"uuid":"a"}\n')
        stale = Guard("a", 1, store.head("o", MAIN).generation or "")
        assert isinstance(store.append("o", MAIN, stale, name(), io.BytesIO(b"x\n")), Moved)

    def test_a_body_that_breaks_off_leaves_nothing(self, store: Store) -> None:
        class Breaking(io.BytesIO):
            def readline(self, size: int | None = -1, /) -> bytes:
                raise OSError("gone")

        before = append(store, b"first\n")
        run, long = b"ok" * 511 + b"\n\n", b"x" * (3 << 20) + b"\n"
        with pytest.raises(Exception, match="database"):
            store.append("o", MAIN, guard_of(before), name(), Breaking(run * 1024 + long))  # the first MiB is whole
        assert store.head("o", MAIN) == before
        assert content(store.read("o", MAIN)) == b"first\n"
        assert append(store, b"second\n").entry_count == 2

    def test_entries_by_pages(self, store: Store) -> None:
        lines = [b"line %d\n" % number for number in range(10)]
        for start in range(0, 10, 3):
            append(store, b"".join(lines[start : start + 3]))
        reading = store.read("o", MAIN)
        for after in range(12):
            for limit in (1, 2, 5, 100):
                assert content(reading, after, limit) == b"".join(lines[after : after + limit]), (after, limit)

    def test_runs_say_where_they_begin(self, store: Store) -> None:
        append(store, b"1\n2\n3\n")
        reading = store.read("o", MAIN)
        assert reading is not None
        assert list(reading.runs(1, 1)) == [Run(2, 1, b"2\n")]

    @pytest.mark.parametrize("extra", [-1, 0, 1, LONG_LINE_BYTES, 3 * LONG_LINE_BYTES + 7])
    @pytest.mark.parametrize("before", [b"", b"a\n", b"b" * 700_000 + b"\n"])
    def test_long_lines_come_back_whole(self, store: Store, extra: int, before: bytes) -> None:
        filler = b"x" * (LONG_LINE_BYTES + extra - len(b'{"uuid":"long","x":""}'))
        body = before + b'{"uuid":"long","x":"' + filler + b'"}\n' + b"after\n"
        head = append(store, body)
        assert head.chain_hash == extend_chain(EMPTY_CHAIN, split_lines(body)).hex()
        reading = store.read("o", MAIN)
        assert content(reading) == body
        assert reading is not None
        long = [run for run in reading.runs(0, 10) if isinstance(run, LongEntry)]
        assert [(run.size, run.is_object) for run in long] == ([(LONG_LINE_BYTES + extra, True)] if extra > 0 else [])
        assert content(reading, head.entry_count - 1) == b"after\n"

    def test_a_long_line_can_be_the_head(self, store: Store) -> None:
        head = append(store, b'{"x":"' + b"y" * (2 << 20) + b'","uuid":"long"}\n')
        assert head.last_uuid == "long"
        torn = b'{"x":"' + b"y" * (2 << 20) + b"\n"
        marks = list(walk_entries(io.BytesIO(torn), "s", "sub"))
        assert append(store, torn, stream=StreamId("s", "sub")).last_uuid == marks[0].entry_id

    def test_a_reading_stays_as_it_was_opened(self, store: Store) -> None:
        append(store, b"1\n")
        reading = store.read("o", MAIN)
        append(store, b"2\n")
        assert content(reading) == b"1\n"

    def test_the_last_compaction_is_known(self, store: Store) -> None:
        append(store, b"1\n2\n")
        assert getattr(store.read("o", MAIN), "last_compaction", None) == 0
        append(store, BOUNDARY + b"4\n" + BOUNDARY + b'6 "compact_boundary"\n')
        assert getattr(store.read("o", MAIN), "last_compaction", None) == 5
        append(store, b"7\n")
        assert getattr(store.read("o", MAIN), "last_compaction", None) == 5

    def test_put_goes_behind_the_last_uuid(self, store: Store) -> None:
        def put(last: str | None, entry: str) -> Stored | Moved:
            return store.put("o", "s", last, entry, io.BytesIO(b'{"uuid":"%s"}\n' % entry.encode()))

        assert put("z", "a") == Moved(EMPTY_HEAD)
        first = put(None, "a")
        assert isinstance(first, Stored)
        assert put(None, "b") == Moved(first.head)
        assert put("a", "a") == Moved(first.head)
        assert put("a", "b").head.entry_count == 2
        assert content(store.read("o", MAIN)) == b'{"uuid":"a"}\n{"uuid":"b"}\n'

    def test_put_and_append_share_a_stream(self, store: Store) -> None:
        guard, batch = Guard(None, 0, name()), name()
        store.append("o", MAIN, guard, batch, io.BytesIO(b'{"uuid":"a"}\n'))
        done = store.put("o", "s", "a", "b", io.BytesIO(b'{"uuid":"b"}\n'))
        assert done.head.generation == guard.generation
        assert isinstance(store.append("o", MAIN, guard, batch, io.BytesIO(b'{"uuid":"a"}\n')), Moved)

    def test_owners_do_not_see_each_other(self, store: Store) -> None:
        append(store, b"mine\n", owner="a")
        append(store, b"yours\nyours\n", owner="b")
        store.write_meta("a", "s", Meta(title="mine"))
        assert content(store.read("a", MAIN)) == b"mine\n"
        assert store.head("b", MAIN).entry_count == 2
        assert store.read_meta("b", "s") == Meta()
        assert store.read("c", MAIN) is None
        assert store.streams("c", "s") is None
        assert store.sessions(("c",), None, 10).sessions == []
        assert [row.entries for row in store.sessions(("b",), None, 10).sessions] == [2]

    def test_streams_of_a_session(self, store: Store) -> None:
        heads = {sub: append(store, b"x\n", stream=StreamId("s", sub)) for sub in ("", "subagents/a", "subagents/b")}
        found = store.streams("o", "s")
        assert found is not None
        assert {row.subpath: row.head for row in found} == heads
        assert all(row.current for row in found)

    def test_meta_is_the_last_one_written(self, store: Store) -> None:
        assert store.read_meta("o", "s") is None
        store.write_meta("o", "s", Meta("claude", "p", "first"))
        store.write_meta("o", "s", Meta("claude", "p", "second", "h", "1"))
        assert store.read_meta("o", "s") == Meta("claude", "p", "second", "h", "1")
        assert store.streams("o", "s") == []
        append(store, b"x\n")
        assert store.sessions(("o",), None, 1).sessions[0].meta.title == "second"

    def test_sessions_by_pages_last_changed_first(self, store: Store) -> None:
        for number in range(7):
            append(store, b"x\n" * (number + 1), stream=StreamId(f"s{number}", ""))
        append(store, b"y\n", stream=StreamId("s2", "sub"))
        seen, cursor = [], None
        while True:
            page = store.sessions(("o",), cursor, 3)
            seen += page.sessions
            cursor = page.next_cursor
            if cursor is None:
                break
        assert [row.session_id for row in seen] == ["s2", "s6", "s5", "s4", "s3", "s1", "s0"]
        assert (seen[0].entries, seen[0].streams, seen[0].size_bytes) == (4, 2, 8)

    def test_sessions_of_several_owners_and_of_all(self, store: Store) -> None:
        for owner in ("ada", "ben", "eve"):
            for number in range(3):
                append(store, b"x\n", stream=StreamId(f"{owner}{number}", ""), owner=owner)

        def listed(*owners: str) -> list[tuple[str, str]]:
            seen, cursor = list[tuple[str, str]](), None
            while True:
                page = store.sessions(owners, cursor, 2)
                seen += [(row.owner, row.session_id) for row in page.sessions]
                cursor = page.next_cursor
                if cursor is None:
                    return seen

        assert listed("ada", "eve") == [(one, f"{one}{at}") for one in ("eve", "ada") for at in (2, 1, 0)]
        assert listed(EVERYBODY) == [(one, f"{one}{at}") for one in ("eve", "ben", "ada") for at in (2, 1, 0)]
        assert listed("ada", EVERYBODY) == listed(EVERYBODY)
        assert listed() == []

    def test_a_made_up_cursor_is_refused(self, store: Store) -> None:
        with pytest.raises(UsageError, match="cursor"):
            store.sessions(("o",), "nonsense", 3)

    def test_of_many_writers_one_wins_each_place(self, store: Store) -> None:
        """Sixteen writers that fight over one stream: what is kept is one unbroken chain of what was acknowledged."""
        won: list[tuple[int, bytes]] = []

        def write(number: int) -> None:
            left = 8
            while left:
                head = store.head("o", MAIN)
                line = b"%d-%d" % (number, left)
                guard = Guard(head.last_uuid, head.entry_count, head.generation or generation)
                done = store.append("o", MAIN, guard, name(), io.BytesIO(line + b"\n"))
                if isinstance(done, Stored):
                    won.append((done.head.entry_count, line))
                    left -= 1

        generation = name()
        threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = [line for _, line in sorted(won)]
        assert content(store.read("o", MAIN)) == b"".join(line + b"\n" for line in lines)
        assert store.head("o", MAIN).chain_hash == extend_chain(EMPTY_CHAIN, lines).hex()

    def test_tokens(self, store: Store) -> None:
        store.create_token("laptop", "me", "write", b"1" * 32)
        with pytest.raises(UsageError, match="laptop"):
            store.create_token("laptop", "me", "write", b"2" * 32)
        found = store.find_token(b"1" * 32)
        assert found is not None
        assert (found[0], found[1].owner, found[1].scope) == (b"1" * 32, "me", "write")
        assert store.find_token(b"3" * 32) is None
        assert store.list_tokens()[0].last_used_at_s is not None
        assert store.revoke_token("laptop")
        assert not store.revoke_token("laptop")
        assert store.find_token(b"1" * 32) is None
        store.create_token("laptop", "me", "read", b"2" * 32, ("ada", "*"))
        assert [row.reads for row in store.list_tokens()] == [(), ("ada", "*")]
        assert [row.revoked_at_s is None for row in store.list_tokens()] == [False, True]

    def test_the_probe_writes(self, store: Store) -> None:
        store.probe()
        store.probe()
