"""The disk in memory beside a real folder: whatever programs do, the agent sees the same on both."""

import os
import random
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.errors import DiskError, FileVanished
from agent.system.files import reading as real_files
from tests.fakes import FakeClock
from tests.simulation.disk import FakeDisk
from tests.simulation.real import RealFolder

NAMES = ("a", "b", "sub/c", "sub/deep/d", "missing/e")
STEPS = 150


class Both:
    """One thing done to both; what came of it must be the same."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.root = str(folder)
        self.fake, self.real = FakeDisk(self.clock.now_s), RealFolder(self.clock.now_s)
        self.fake.make_folder(self.root)

    def path(self, name: str) -> str:
        return os.path.join(self.root, *name.split("/"))

    def do(self, what: str, name: str, *given: Any) -> Any:
        came = [_come_of(partial(getattr(disk, what), self.path(name), *given)) for disk in (self.fake, self.real)]
        assert came[0] == came[1], (what, name, given)
        return came[0]

    def see(self, ask: Callable[[Any], Any]) -> Any:
        """What the agent gets for a question: from the disk in memory, and from the module."""
        seen = [_come_of(partial(ask, files)) for files in (self.fake, real_files)]
        assert seen[0] == seen[1]
        return seen[0]

    def see_all(self) -> None:
        for name in ("", *NAMES, "sub", "sub/deep", "a/below"):
            path = self.path(name) if name else self.root
            self.see(partial(_look, path=path))
            self.see(partial(_list, path=path))
        groups = [self._same_file(disk) for disk in (self.fake, real_files)]
        assert groups[0] == groups[1]

    def _same_file(self, files: Any) -> set[frozenset[str]]:
        """Names that stand for one file: inode numbers themselves are nobody's business."""
        by_inode: dict[int, set[str]] = {}
        for name in NAMES:
            entry = files.look_at(self.path(name))
            if entry is not None and not entry.is_folder:
                by_inode.setdefault(entry.inode, set()).add(name)
        return {frozenset(names) for names in by_inode.values()}


def _come_of(do: Callable[[], Any]) -> Any:
    """The answer, or the kind of the refusal and, for our own errors, its words."""
    try:
        return do()
    except DiskError as exc:
        return type(exc), exc.message
    except OSError as exc:
        return type(exc)


def _look(files: Any, path: str) -> Any:
    return _described(files.look_at(path)), files.is_missing(path)


def _list(files: Any, path: str) -> Any:
    return sorted(map(_described, files.list_folder(path)), key=str)


def _described(entry: Any) -> Any:
    if entry is None or entry.is_folder:
        return entry and (entry.name, entry.path, True)
    return (entry.name, entry.path, False, entry.size, entry.mtime_ns)


@pytest.fixture
def both(tmp_path: Path) -> Both:
    return Both(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="an open file can't be replaced there")
@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_done_the_agent_sees_the_same(seed: int, both: Both) -> None:
    rng = random.Random(seed)
    both.do("make_folder", "sub/deep")
    for _ in range(STEPS):
        name, data = rng.choice(NAMES), rng.randbytes(rng.randrange(30)) + b"\n" * rng.randrange(2)
        size = rng.randrange(60)
        what, given = rng.choice(
            (
                ("append", (data,)),
                ("append", (data,)),
                ("write_at", (size, data or b"x")),
                ("truncate", (size,)),
                ("replace", (data,)),
                ("unlink", ()),
                ("rename", (both.path(rng.choice(NAMES)),)),
                ("link", (both.path(rng.choice(NAMES)),)),
                ("set_mtime_ns", (rng.randrange(10**18),)),
                ("read", ()),
                ("exists", ()),
                ("mtime_ns", ()),
            )
        )
        both.do(what, name, *given)
        both.clock.advance(rng.random())
    both.see_all()
    for name in (*NAMES, "sub"):
        path, offset, count = both.path(name), rng.randrange(40), rng.randrange(1, 40)
        both.see(partial(_read_file, path=path, offset=offset, count=count))
        both.see(partial(_read_lines, path=path, limit=count))


def _read_file(files: Any, path: str, offset: int, count: int) -> Any:
    with files.open_file(path) as file:
        whole = file.size()
        pieces = _come_of(lambda: b"".join(file.pieces(offset, count)))
        return whole, file.read_at(offset, count), pieces, file.find_newline(offset)


def _read_lines(files: Any, path: str, limit: int) -> list[bytes]:
    found = []
    with files.open_lines(path) as lines:
        while piece := lines.readline(limit):
            found.append(piece)
    return found


@pytest.mark.skipif(os.name == "nt", reason="an open file can't be replaced there")
@pytest.mark.parametrize("end", ["unlink", "replace", "rename over", "truncate", "append"])
def test_an_open_file_goes_on_with_what_was_opened(both: Both, end: str) -> None:
    both.do("append", "a", b"old content\n")
    both.do("append", "b", b"another\n")
    with ExitStack() as stack:
        opened = [stack.enter_context(files.open_file(both.path("a"))) for files in (both.fake, real_files)]
        match end:
            case "unlink":
                both.do("unlink", "a")
            case "replace":
                both.do("replace", "a", b"new\n")
            case "rename over":
                both.do("rename", "b", both.path("a"))
            case "truncate":
                both.do("truncate", "a", 3)
            case _:
                both.do("append", "a", b"more\n")
        seen = [(one.size(), one.read_at(0, 100)) for one in opened]
    assert seen[0] == seen[1]
    both.see_all()


def test_a_number_comes_back_once_its_file_is_gone_and_closed() -> None:
    disk = FakeDisk(FakeClock().now_s)
    path, other = os.sep + "one", os.sep + "two"

    def number(of: str) -> int:
        entry = disk.look_at(of)
        assert entry is not None
        return entry.inode

    disk.append(path, b"x")
    first = number(path)
    with disk.open_file(path):
        disk.unlink(path)
        disk.append(path, b"y")
        assert number(path) != first
    disk.append(other, b"z")
    assert number(other) == first


@pytest.mark.skipif(os.name == "nt", reason="making a link takes a right of its own there")
def test_links_are_told_and_not_followed(tmp_path: Path) -> None:
    both = Both(tmp_path.resolve())
    for disk in (both.fake, both.real):
        disk.make_folder(both.path("sub"))
        for name, target in (("file", "a"), ("folder", "sub"), ("nowhere", "missing"), ("twice", "folder")):
            disk.symlink(both.path(target), both.path(name))
    both.do("append", "a", b"x\n")
    both.do("append", "sub/c", b"y\n")
    for name in ("file", "folder", "nowhere", "twice", "folder/c", "twice/c", "file/below"):
        path = both.path(name)
        both.see(partial(_look, path=path))
        both.see(partial(_leads, path=path))
        for files in (both.fake, real_files):
            for ask in (partial(_list, files), partial(_read_lines, files, limit=9)):
                with pytest.raises(FileVanished):
                    ask(path=path)
    both.do("unlink", "folder")
    both.see(partial(_look, path=both.path("folder")))
    both.see(partial(_look, path=both.path("sub/c")))


def _leads(files: Any, path: str) -> Any:
    entry = files.look_at(path)
    return files.resolve(path), entry and entry.link
