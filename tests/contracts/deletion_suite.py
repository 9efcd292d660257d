"""What every store does about deletion; each real one runs this suite beside that of the store."""

import io
import threading
from collections.abc import Callable

import pytest

from agent.core.transcripts.session import StreamId
from agent.core.wire import Meta, NewGeneration
from agent.errors import SessionDeleted
from agent.receiver.store import EMPTY_HEAD, Content, Guard, Moved, Store, Stored
from tests.contracts.store_suite import MAIN, append, content, name

SUB = StreamId("s", "subagents/a")
FILE = Content(b"f" * 32, 5)


def fill(store: Store) -> None:
    """A session with everything that one can have."""
    head = append(store, b'{"uuid":"a"}\n{"uuid":"b"}\n')
    append(store, b"x" * (3 << 20) + b"\n", stream=SUB)
    store.begin_generation("o", MAIN, NewGeneration(name(), head.generation, 1))
    append(store, b'{"uuid":"c"}\n')
    store.write_meta("o", "s", Meta(title="t"))
    store.name_file("o", "s", "tool-results/x", FILE, lambda: True)


ASKED: dict[str, Callable[[Store], object]] = {
    "append": lambda store: store.append("o", MAIN, Guard(None, 0, name()), name(), io.BytesIO(b"x\n")),
    "put": lambda store: store.put("o", "s", None, "a", io.BytesIO(b'{"uuid":"a"}\n')),
    "begin_generation": lambda store: store.begin_generation("o", MAIN, NewGeneration(name())),
    "write_meta": lambda store: store.write_meta("o", "s", Meta(title="again")),
    "name_file": lambda store: store.name_file("o", "s", "y", FILE, lambda: True),
    "head": lambda store: store.head("o", MAIN),
    "head_at": lambda store: store.head_at("o", MAIN, None, 1),
    "streams": lambda store: store.streams("o", "s"),
    "read": lambda store: store.read("o", MAIN),
    "has_session": lambda store: store.has_session("o", "s"),
    "read_meta": lambda store: store.read_meta("o", "s"),
    "find_file": lambda store: store.find_file("o", "s", "tool-results/x"),
    "list_files": lambda store: store.list_files("o", "s"),
}


class DeletionSuite:
    @pytest.mark.parametrize("asked", list(ASKED))
    @pytest.mark.parametrize("known", [True, False])
    def test_nothing_of_a_deleted_session_is_told_or_taken(self, store: Store, asked: str, known: bool) -> None:
        """Of one that nobody wrote either: an agent that was away may still hold it."""
        if known:
            fill(store)
        store.delete_session("o", "s")
        with pytest.raises(SessionDeleted):
            ASKED[asked](store)
        assert store.sessions(("o",), None, 10).sessions == []
        store.clear_remains()
        with pytest.raises(SessionDeleted):
            ASKED[asked](store)

    def test_deleting_again_is_harmless(self, store: Store) -> None:
        fill(store)
        assert store.delete_session("o", "s") == {FILE.sha256}
        assert store.delete_session("o", "s") == set()
        store.clear_remains()
        store.clear_remains()

    @pytest.mark.parametrize("cleared", [True, False])
    def test_a_restored_session_is_unknown_and_begins_anew(self, store: Store, cleared: bool) -> None:
        fill(store)
        old = store.head("o", MAIN)
        store.delete_session("o", "s")
        if cleared:
            store.clear_remains()
        store.restore_session("o", "s")
        assert not store.has_session("o", "s")
        assert store.streams("o", "s") is None
        assert store.list_files("o", "s") is None
        stale = Guard(old.last_uuid, old.entry_count, old.generation or "")
        assert store.append("o", MAIN, stale, name(), io.BytesIO(b"x\n")) == Moved(EMPTY_HEAD)
        append(store, b'{"uuid":"a"}\n{"uuid":"b"}\n')
        store.clear_remains()
        assert content(store.read("o", MAIN)) == b'{"uuid":"a"}\n{"uuid":"b"}\n'

    def test_restoring_what_is_not_deleted_changes_nothing(self, store: Store) -> None:
        fill(store)
        before = store.streams("o", "s")
        store.restore_session("o", "s")
        store.restore_session("o", "nobody")
        assert store.streams("o", "s") == before
        assert not store.has_session("o", "nobody")

    def test_others_keep_theirs(self, store: Store) -> None:
        fill(store)
        append(store, b"same session, another owner\n", owner="p")
        append(store, b"same owner, another session\n", stream=StreamId("t", ""))
        store.delete_session("o", "s")
        store.clear_remains()
        assert content(store.read("p", MAIN)) == b"same session, another owner\n"
        assert content(store.read("o", StreamId("t", ""))) == b"same owner, another session\n"
        assert [row.session_id for row in store.sessions(("o",), None, 10).sessions] == ["t"]
        assert append(store, b"more\n", owner="p").entry_count == 2

    def test_a_content_that_another_session_names_is_not_released(self, store: Store) -> None:
        removed: list[bytes] = []
        fill(store)
        store.name_file("o", "t", "same", FILE, lambda: True)
        for session in ("s", "t"):
            for sha256 in store.delete_session("o", session):
                store.release_content(sha256, lambda session=session: removed.append(session.encode()))  # type: ignore[misc]
        assert removed == [b"t"]

    def test_a_slow_reader_gets_an_error_and_nothing_of_others(self, store: Store) -> None:
        """Not an end that looks like that of the stream, either: also not in the middle of a long entry."""
        append(store, b"".join(b"%d %s\n" % (number, b"x" * 9000) for number in range(400)))
        append(store, b"y" * (3 << 20) + b"\n", stream=SUB)
        short, long = store.read("o", MAIN), store.read("o", SUB)
        assert short is not None
        assert long is not None
        runs = short.runs(0, 10**9)
        next(runs)
        pieces = next(long.runs(0, 1)).pieces()  # type: ignore[union-attr]
        next(pieces)
        store.delete_session("o", "s")
        store.clear_remains()
        for number in range(9):
            append(store, b"another's\n" * 500, owner="p", stream=StreamId(f"p{number}", ""))
        for reading in (runs, pieces):
            with pytest.raises(SessionDeleted):
                list(reading)

    def test_of_appends_under_way_each_is_deleted_or_refused(self, store: Store) -> None:
        """Eight writers and one who deletes: whatever was taken before is gone, and nothing is taken behind it."""
        going, refused = threading.Barrier(9), []

        def write(number: int) -> None:
            stream = StreamId("s", f"subagents/{number}")
            going.wait()
            for _ in range(200):
                try:
                    append(store, b"x\n", stream=stream)
                except SessionDeleted:
                    refused.append(number)
                    return

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        going.wait()
        append(store, b"one at least\n")
        store.delete_session("o", "s")
        for thread in threads:
            thread.join()
        store.restore_session("o", "s")
        assert store.streams("o", "s") is None
        assert sorted(refused) == list(range(8))

    def test_a_first_batch_of_the_restored_session_may_be_the_same_as_before(self, store: Store) -> None:
        guard, batch = Guard(None, 0, name()), name()
        first = store.append("o", MAIN, guard, batch, io.BytesIO(b"x\n"))
        store.delete_session("o", "s")
        store.restore_session("o", "s")
        again = store.append("o", MAIN, guard, batch, io.BytesIO(b"x\n"))
        assert isinstance(first, Stored)
        assert again == first
        assert content(store.read("o", MAIN)) == b"x\n"
