"""What lies below a root is read; what a link leads out to is named, and no more than its name is looked at."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.core.transcripts.session import Gone, Observation, StreamId
from agent.delivery.discovery.scanner import Root, Scanner
from agent.delivery.inventory.survey import find_files
from agent.errors import DiskError
from agent.providers import claude, codex
from agent.system.files import no_links
from agent.system.files import reading as files
from agent.system.files.keeping import Kept, KeptFiles
from tests.scanner.conftest import Told
from tests.scanner.test_scanner import append, write
from tests.system.privileges import needs_posix

SESSION = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"
SECRET = b"a secret of another folder\n"
OUT = "it leads out of the watched folders"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "outside"
    for name in ("x.txt", f"{SESSION}.jsonl", f"{SESSION}/tool-results/x.txt", "projects2/s.jsonl"):
        write(folder / name, SECRET)
    return folder


# --- what leads out -------------------------------------------------------------------------------------------------


class Link(NamedTuple):
    """`place` below the root; `target` relative to it, or to the folder outside after `out:`."""

    place: str
    target: str
    is_open: bool = True
    """Whether it may be a transcript or a part of a session."""


LEADING_OUT = {
    "a side file": Link(f"p/{SESSION}/tool-results/x.txt", "out:x.txt"),
    "a folder of side files": Link(f"p/{SESSION}/tool-results", "out:", is_open=False),
    "a folder among side files": Link(f"p/{SESSION}/tool-results/x", "out:"),
    "a transcript": Link("p/t.jsonl", f"out:{SESSION}.jsonl"),
    "a project": Link("linked", "out:"),
    "a folder of a project": Link("p/memory", "out:", is_open=False),
    "relative": Link("p/t.jsonl", f"../../outside/{SESSION}.jsonl"),
    "the folder above": Link("linked", ".."),
    "a name that begins like the root": Link("linked", "../projects2"),
    "the system's": Link(f"p/{SESSION}/tool-results/etc", "/etc"),
    "a chain": Link("p/t.jsonl", "second"),
    "to nothing": Link("p/t.jsonl", "out:missing"),
    "to a device": Link("p/t.jsonl", "/dev/null"),
}


@needs_posix
@pytest.mark.parametrize("link", LEADING_OUT.values(), ids=LEADING_OUT)
def test_what_leads_out_is_named_and_not_touched(
    link: Link, root: Path, outside: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "p" / f"{SESSION}.jsonl")
    (root.parent / "projects2").mkdir()
    place = root / link.place
    place.parent.mkdir(parents=True, exist_ok=True)
    (place.parent / "second").symlink_to(outside / f"{SESSION}.jsonl")
    place.symlink_to(outside / link.target[4:] if link.target.startswith("out:") else link.target)
    touched: list[str] = []
    for name in ("open", "stat", "scandir"):
        monkeypatch.setattr(os, name, _noting(getattr(os, name), touched))
    assert told.scan() == [StreamId(SESSION, "")]
    told.scanner.look(str(place))
    told.scanner.look(str(place / "s.jsonl"))
    assert (told.seen(), told.gone()) == ([], [])
    assert not [path for path in touched if not _is_within(path, root) and path != str(root.parent)]
    where = told.scanner.unfollowed if link.is_open else told.scanner.aside
    assert where[str(place)] == OUT
    assert not [path for path in {**told.scanner.unfollowed, **told.scanner.aside} if path.startswith(f"{place}/")]
    assert told.scanner.unreadable == {}
    place.unlink()
    told.scan()
    assert str(place) not in where, "it is named as long as it is there"


def _noting(real: Callable[..., Any], touched: list[str]) -> Callable[..., Any]:
    def call(path: Any, *given: Any, **named: Any) -> Any:
        folder = named.get("dir_fd")
        above = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) else ""
        if not isinstance(path, int):
            touched.append(os.path.join(above, os.fspath(path)))
        return real(path, *given, **named)

    return call


def _is_within(path: str, root: Path) -> bool:
    return path == str(root) or path.startswith(f"{root}/")


# --- what stays within ----------------------------------------------------------------------------------------------

WITHIN = {
    "a folder": ("linked", "p"),
    "a folder, relative": ("q/linked", "../p"),
    "a folder through the root": ("linked", "../projects/p"),
    "a file": ("q/t.jsonl", "../p/t.jsonl"),
    "a file through a chain": ("q/t.jsonl", "second"),
    "the root": ("q/all", ".."),
    "itself": ("p/again", "."),
    "the other root": ("q/other", "../../rollouts"),
}


@needs_posix
@pytest.mark.parametrize(("place", "target"), WITHIN.values(), ids=WITHIN)
def test_what_stays_below_a_root_is_one_file_however_it_is_called(place: str, target: str, root: Path) -> None:
    path = write(root / "p" / "t.jsonl")
    other = root.parent / "rollouts"
    rollout = write(other / "2026" / "11" / "01" / f"rollout-2026-11-01T10-00-00-{SESSION}.jsonl")
    (root / "q").mkdir()
    (root / "q" / "second").symlink_to(path)
    (root / place).symlink_to(target)
    found: list[Observation] = []
    gone: list[Gone] = []
    roots = [Root(claude, str(root)), Root(codex, str(other))]
    scanner = Scanner(roots, lambda seen, _: found.extend(seen), gone.extend)
    scanner.scan()
    assert {one.path for one in found} == {str(path), str(rollout)}
    assert len(found) == 2
    append(path)
    scanner.look(str(root / place))
    scanner.scan()
    assert [one.path for one in found[2:]] == [str(path)]
    (root / place).unlink()
    scanner.scan()
    assert (gone, scanner.unfollowed, scanner.aside, scanner.unreadable) == ([], {}, {}, {})


@needs_posix
def test_what_only_a_link_gives_a_name_is_followed_where_it_lies(root: Path, told: Told) -> None:
    write(root / "p" / f"{SESSION}.jsonl")
    store = root / "store" / "of" / "mine"
    stored = write(store / "one.txt", b"one")
    deep = write(store / "below" / "two.txt", b"two")
    results = root / "p" / SESSION / "tool-results"
    results.mkdir(parents=True)
    (results / "x.txt").symlink_to("../../../store/of/mine/one.txt")
    (results / "more").symlink_to(store / "below")
    assert told.scan() == [
        StreamId(SESSION, ""),
        StreamId(SESSION, "files/tool-results/more/two.txt"),
        StreamId(SESSION, "files/tool-results/x.txt"),
    ]
    append(stored)
    assert told.scan() == [StreamId(SESSION, "files/tool-results/x.txt")]
    append(deep)
    told.scanner.look(str(results / "more" / "two.txt"))
    assert [one.path for one in told.seen()] == [str(deep)]
    deep.unlink()
    told.scan()
    assert told.gone() == ["store/of/mine/below/two.txt"]


@needs_posix
def test_a_name_from_before_that_a_link_is_part_of_is_gone_and_its_file_is_there(root: Path, told: Told) -> None:
    """An earlier version followed links under their own names."""
    path = write(root / "p" / "s.jsonl")
    (root / "linked").symlink_to("p")
    told.scanner.expect({str(root / "linked" / "s.jsonl"): StreamId("s", "")})
    assert told.scan() == [StreamId("s", "")]
    assert told.gone() == ["linked/s.jsonl"]
    assert path.exists()


@needs_posix
def test_a_root_that_moves_behind_a_link_is_named_and_nothing_in_it_is_gone(root: Path, told: Told) -> None:
    write(root / "p" / "s.jsonl")
    assert told.scan() == [StreamId("s", "")]
    root.rename(root.parent / "moved")
    root.symlink_to(root.parent / "moved")
    assert told.scan() == []
    assert told.gone() == []
    assert "another link than when the agent started" in told.scanner.unreadable[str(root)]


@needs_posix
def test_a_root_that_is_looked_at_alone_knows_of_the_others(root: Path, told: Told) -> None:
    write(root / "p" / "s.jsonl")
    other = root.parent / "rollouts"
    (other / "2026").mkdir(parents=True)
    (root / "linked").symlink_to(other / "2026")
    assert list(find_files([Root(claude, str(root))]).unfollowed) == [str(root / "linked")]
    assert find_files([Root(claude, str(root))], [Root(codex, str(other))]).unfollowed == {}


# --- what is no file of ours ----------------------------------------------------------------------------------------


@needs_posix
@pytest.mark.parametrize("name", ["t.jsonl", f"{SESSION}/tool-results/x", "notes"])
def test_pipes_are_named_and_never_opened(name: str, root: Path, told: Told) -> None:
    write(root / "p" / "s.jsonl")
    pipe = root / "p" / name
    pipe.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(pipe)
    assert told.scan() == [StreamId("s", "")]
    assert {**told.scanner.aside, **told.scanner.unfollowed} == {str(pipe): "it is a pipe"}
    assert (str(pipe) in told.scanner.unfollowed) == (name != "notes")
    with pytest.raises(DiskError, match="it is no regular file"):
        files.open_file(str(pipe))


@needs_posix
def test_a_file_of_another_user_is_named_and_not_read(root: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write(root / "p" / "agent-1.jsonl", b'{"sessionId":"s"}\n'))
    mine = str(write(root / "p" / "s.jsonl"))
    real = files.list_folder

    def list_folder(folder: str) -> list[files.Entry]:
        return [one._replace(owner=4242) if one.path == path else one for one in real(folder)]

    monkeypatch.setattr(files, "list_folder", list_folder)
    assert told.scan() == [StreamId("s", "")]
    assert told.scanner.unfollowed == {path: "it belongs to another user (4242)"}
    assert mine not in told.scanner.unfollowed


# --- swaps after the check ------------------------------------------------------------------------------------------


class Swapper:
    """Swaps a file or a folder for a link before the n-th call of the system, and back before a later one."""

    CALLS = ("open", "stat", "lstat", "scandir", "link", "readlink")

    def __init__(self, place: Path, target: Path, at: int, back_at: int, patch: pytest.MonkeyPatch) -> None:
        self._place, self._target, self._aside = place, target, place.with_name("aside")
        self._at = {at: self._swap, back_at: self._swap_back}
        self._rename, self._symlink, self._unlink = os.rename, os.symlink, os.unlink
        self.calls = 0
        for name in self.CALLS:
            patch.setattr(os, name, self._counting(getattr(os, name)))

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.calls += 1
            if (do := self._at.pop(self.calls, None)) is not None:
                do()
            return real(*given, **named)

        return call

    def _swap(self) -> None:
        self._rename(self._place, self._aside)
        self._symlink(self._target, self._place)

    def _swap_back(self) -> None:
        self._unlink(self._place)
        self._rename(self._aside, self._place)


def _read(path: str, _: Path) -> bytes:
    with files.open_file(path) as file:
        return file.read_at(0, 1 << 16)


def _read_lines(path: str, _: Path) -> bytes:
    with files.open_lines(path) as lines:
        return lines.readline(1 << 16)


def _look(path: str, _: Path) -> bytes:
    found = files.look_at(path)
    return SECRET if found is not None and found.size == len(SECRET) else b""


def _list(path: str, _: Path) -> bytes:
    names = {one.name for one in files.list_folder(os.path.dirname(path))}
    return SECRET if "only outside" in names else b""


def _keep(path: str, state: Path) -> bytes:
    kept = KeptFiles(state).keep(path, "s", room_bytes=1 << 20)
    assert isinstance(kept, Kept)
    return Path(kept.path).read_bytes()


def _copy(path: str, state: Path) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(no_links, "link_at", _refuse)
        return _keep(path, state)


def _refuse(*_: object) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def _scan(path: str, _: Path) -> bytes:
    read = b""
    root = Path(path).parents[len(BELOW.parts) - 1]

    def observed(found: list[Observation], _: bool) -> None:
        nonlocal read
        for one in found:
            with files.open_file(one.path) as file:
                read += file.read_at(0, 1 << 16)

    Scanner([Root(claude, str(root))], observed, lambda _: None).scan()
    return read


ACTS = {"read": _read, "lines": _read_lines, "look": _look, "list": _list, "keep": _keep, "copy": _copy, "scan": _scan}
SWAPPED = {"the file": 0, "its folder": 1, "the folder above": 2}
BELOW = Path("p") / SESSION / "subagents" / "agent-1.jsonl"


@needs_posix
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("above", SWAPPED.values(), ids=SWAPPED)
@pytest.mark.parametrize("stays", [1, 2, 3, 1000])
def test_a_swap_at_any_step_gives_nothing_from_outside(
    act: Callable[[str, Path], bytes], above: int, stays: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path.resolve()
    seen = 0
    for at in _while_it_counts():
        folder = base / str(at)
        path = write(folder / "projects" / BELOW, b'{"sessionId":"s"}\n')
        secret = write(folder / "outside" / BELOW, SECRET)
        write(secret.parent / "only outside", b"")
        place, target = (path, secret) if above == 0 else (path.parents[above - 1], secret.parents[above - 1])
        with monkeypatch.context() as patch:
            swapper = Swapper(place, target, at, at + stays, patch)
            try:
                got = act(str(path), folder / "state")
            except DiskError:
                got = b""
        assert SECRET not in got, at
        assert os.stat(secret).st_nlink == 1, at
        seen += got != b""
        if swapper.calls < at:
            break
    assert at > 2, "nothing was swapped in the middle"
    assert seen or act in (_look, _list)


def _while_it_counts() -> Iterator[int]:
    yield from range(1, 200)
    pytest.fail("there was no end")
