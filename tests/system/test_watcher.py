"""Change notices from the real system."""

import errno
import queue
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.events import DirModifiedEvent, FileModifiedEvent, FileMovedEvent
from watchdog.observers import Observer

from agent.system.files import watcher as watcher_module
from agent.system.files.watcher import Watcher

pytestmark = pytest.mark.filterwarnings("ignore:Callback with id .* already exists:RuntimeWarning")
# As the watcher itself does; where warnings are errors, this one of watchdog 7.1 ends the thread that reads for all.

PATIENCE_S = 10.0
"""How long a notice may take on a busy machine; it is not waited for when it comes sooner."""


class Hints:
    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __call__(self, path: str) -> None:
        self._queue.put(path)

    def wait_for(self, *paths: Path) -> None:
        """Until each of `paths` was hinted at."""
        missing = {str(path) for path in paths}
        while missing:
            try:
                missing.discard(self._queue.get(timeout=PATIENCE_S))
            except queue.Empty:
                pytest.fail(f"no hint at {sorted(missing)}")

    def drain(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self._queue.get_nowait())
            except queue.Empty:
                return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "projects"
    folder.mkdir()
    return folder


@pytest.fixture
def hints() -> Hints:
    return Hints()


@pytest.fixture
def watcher(hints: Hints) -> Iterator[Watcher]:
    made = Watcher(hints)
    yield made
    made.stop()


def test_a_new_a_grown_a_renamed_and_a_deleted_file_are_hinted_at(root: Path, hints: Hints, watcher: Watcher) -> None:
    (root / "p").mkdir()
    assert watcher.ensure([str(root)])
    one, two = root / "p" / "one.jsonl", root / "p" / "two.jsonl"
    one.write_bytes(b"{}\n")
    hints.wait_for(one)
    hints.drain()
    with one.open("ab") as file:
        file.write(b"{}\n")
    hints.wait_for(one)
    one.rename(two)
    hints.wait_for(one, two)
    hints.drain()
    two.unlink()
    hints.wait_for(two)


def test_new_folders_are_watched_with_all_below_them(root: Path, hints: Hints, watcher: Watcher) -> None:
    watcher.ensure([str(root)])
    folder = root / "p" / "s" / "subagents"
    (root / "p").mkdir()
    hints.wait_for(root / "p")
    folder.mkdir(parents=True)
    hints.wait_for(root / "p" / "s")
    (folder / "agent-1.jsonl").write_bytes(b"{}\n")
    hints.drain()
    for _ in range(100):  # a folder that is made in a hurry may be watched a moment later; the hint at it leads there
        with (folder / "agent-1.jsonl").open("ab") as file:
            file.write(b"{}\n")
        try:
            if hints._queue.get(timeout=0.1) == str(folder / "agent-1.jsonl"):
                return
        except queue.Empty:
            continue
    pytest.fail("no hint at what grows in a new folder")


def test_a_folder_that_is_moved_in_is_hinted_at(tmp_path: Path, root: Path, hints: Hints, watcher: Watcher) -> None:
    elsewhere = tmp_path.resolve() / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "s.jsonl").write_bytes(b"{}\n")
    watcher.ensure([str(root)])
    elsewhere.rename(root / "p")
    hints.wait_for(root / "p")
    (root / "p").rename(root / "q")
    hints.wait_for(root / "p", root / "q")


def test_names_that_are_not_utf8_arrive_as_python_spells_them(root: Path, hints: Hints, watcher: Watcher) -> None:
    watcher.ensure([str(root)])
    path = root / b"caf\xe9.jsonl".decode(errors="surrogateescape")
    try:
        path.write_bytes(b"{}\n")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    hints.wait_for(path)


def test_a_root_is_newly_watched_once(root: Path, watcher: Watcher) -> None:
    assert watcher.ensure([str(root)]) is True
    assert watcher.ensure([str(root)]) is False
    other = root.parent / "other"
    other.mkdir()
    assert watcher.ensure([str(root), str(other)]) is True
    assert (watcher.missing, watcher.refused) == (set(), {})


def test_two_roots_are_watched_beside_each_other(root: Path, hints: Hints, watcher: Watcher) -> None:
    other = root.parent / "projects2"
    other.mkdir()
    watcher.ensure([str(root), str(other)])
    for folder in (root, other):
        (folder / "s.jsonl").write_bytes(b"{}\n")
    hints.wait_for(root / "s.jsonl", other / "s.jsonl")


def test_a_root_that_is_not_there_is_watched_once_it_is(root: Path, hints: Hints, watcher: Watcher) -> None:
    late = root.parent / "late"
    assert watcher.ensure([str(late)]) is False
    assert (watcher.missing, watcher.refused) == ({str(late)}, {})
    late.mkdir()
    assert watcher.ensure([str(late)]) is True
    assert watcher.missing == set()
    (late / "s.jsonl").write_bytes(b"{}\n")
    hints.wait_for(late / "s.jsonl")


@pytest.mark.parametrize("how", ["deleted", "moved away"])
def test_a_root_that_was_replaced_is_watched_again(root: Path, hints: Hints, watcher: Watcher, how: str) -> None:
    watcher.ensure([str(root)])
    for _ in range(3):
        if how == "deleted":
            shutil.rmtree(root)
        else:
            root.rename(root.parent / "old")
        assert watcher.ensure([str(root)]) is False
        assert watcher.missing == {str(root)}
        root.mkdir()
        assert watcher.ensure([str(root)]) is True, "what happened meanwhile is not known"
        assert watcher.missing == set()
        (root / "s.jsonl").write_bytes(b"{}\n")
        hints.wait_for(root / "s.jsonl")
        hints.drain()
        shutil.rmtree(root.parent / "old", ignore_errors=True)


def test_a_root_that_was_replaced_between_two_looks_is_watched_again(
    root: Path, hints: Hints, watcher: Watcher
) -> None:
    """The name is there both times, and the folder is another one."""
    watcher.ensure([str(root)])
    (root.parent / "new").mkdir()
    root.rename(root.parent / "old")
    (root.parent / "new").rename(root)
    assert watcher.ensure([str(root)]) is True
    hints.drain()
    (root / "s.jsonl").write_bytes(b"{}\n")
    hints.wait_for(root / "s.jsonl")


def test_an_observer_that_died_is_replaced(root: Path, hints: Hints, watcher: Watcher) -> None:
    watcher.ensure([str(root)])
    assert watcher._observer is not None
    watcher._observer.stop()
    watcher._observer.join(PATIENCE_S)
    assert watcher.ensure([str(root)]) is True
    (root / "s.jsonl").write_bytes(b"{}\n")
    hints.wait_for(root / "s.jsonl")


def test_a_reader_that_died_alone_is_noticed_and_replaced_for_every_root(
    root: Path, hints: Hints, watcher: Watcher
) -> None:
    """watchdog 7 has one thread that reads for all emitters; they live on without it, and hear nothing."""
    other = root.parent / "other"
    other.mkdir()
    roots = [str(root), str(other)]
    watcher.ensure(roots)
    reader = getattr(watcher._observer, "_inotify_fd", None)
    if reader is None:
        pytest.skip("this watchdog has no such thread")
    reader.stop()
    reader.join(PATIENCE_S)
    assert watcher.ensure(roots) is True
    assert watcher.ensure(roots) is False
    for folder in (root, other):
        (folder / "s.jsonl").write_bytes(b"{}\n")
    hints.wait_for(root / "s.jsonl", other / "s.jsonl")


def test_a_limit_of_the_system_is_told_and_tried_again(
    root: Path, hints: Hints, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*args: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    with monkeypatch.context() as patched:
        patched.setattr(Observer, "schedule", exhausted)
        for _ in range(2):
            assert watcher.ensure([str(root)]) is False
            assert list(watcher.refused) == [str(root)]
            assert "inotify watch limit reached" in watcher.refused[str(root)]
    assert watcher.ensure([str(root)]) is True
    assert watcher.refused == {}
    (root / "s.jsonl").write_bytes(b"{}\n")
    hints.wait_for(root / "s.jsonl")


def test_a_system_without_threads_to_give_is_told(
    root: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*args: object, **named: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Observer, "start", exhausted)
    assert watcher.ensure([str(root)]) is False
    assert "no threads" in watcher.refused[str(root)]
    monkeypatch.undo()
    assert watcher.ensure([str(root)]) is True


def test_a_refused_root_that_goes_away_is_missing_and_not_refused(
    root: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*args: object, **named: object) -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(Observer, "schedule", exhausted)
    watcher.ensure([str(root)])
    root.rmdir()
    watcher.ensure([str(root)])
    assert (watcher.missing, watcher.refused) == ({str(root)}, {})


def test_every_kind_of_event_becomes_hints_and_none_an_error(hints: Hints) -> None:
    handler = watcher_module._Handler(hints)
    handler.dispatch(FileModifiedEvent("/p/a"))
    handler.dispatch(FileModifiedEvent(b"/p/caf\xe9"))
    handler.dispatch(FileMovedEvent("/p/a", "/p/b"))
    handler.dispatch(DirModifiedEvent("/p"))
    assert hints.drain() == ["/p/a", "/p/caf\udce9", "/p/a", "/p/b", "/p"]


def test_a_burst_is_heard_and_does_not_deafen(root: Path, hints: Hints, watcher: Watcher) -> None:
    watcher.ensure([str(root)])
    paths = [root / f"{number}.jsonl" for number in range(300)]
    for path in paths:
        path.write_bytes(b"{}\n")
    hints.wait_for(*paths)
    (root / "after.jsonl").write_bytes(b"{}\n")
    hints.wait_for(root / "after.jsonl")
    assert watcher.ensure([str(root)]) is False, "its emitter lives"


def test_stop_ends_its_threads_and_can_be_said_twice(root: Path, hints: Hints) -> None:
    before = set(threading.enumerate())
    watcher = Watcher(hints)
    watcher.stop()
    watcher.ensure([str(root)])
    started = set(threading.enumerate()) - before
    assert started
    watcher.stop()
    watcher.stop()
    for thread in started:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
