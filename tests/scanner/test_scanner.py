"""The scanner against real folders: what is there, what changed, and what it must not take for deleted."""

import json
import os
import random
import socket
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

import pytest
import zstandard

from agent.core.transcripts.session import Observation, Provider, StreamId
from agent.delivery.base.world import Files
from agent.delivery.discovery.scanner import MOST_UNFOLLOWED, Root, Scanner
from agent.errors import DiskError
from agent.providers import PROVIDERS, claude
from agent.system.files import reading as files
from agent.system.files.reading import Entry
from agent.system.files.reading import list_folder as list_folder_for_real
from tests.conftest import CORPORA, CORPUS, SCRATCH
from tests.scanner.conftest import Told
from tests.system.privileges import needs_posix, open_folder, unprivileged

LINE = b'{"type":"user","uuid":"u"}\n'


@pytest.fixture
def reachable() -> Iterator[Path]:
    with open_folder() as folder:
        root = folder / "projects"
        root.mkdir(mode=0o777)
        yield root


def write(path: Path, data: bytes = LINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def append(path: Path, data: bytes = LINE) -> None:
    with path.open("ab") as file:
        file.write(data)


# --- new, changed, gone ---------------------------------------------------------------------------------------------


def test_it_tells_what_is_there_with_what_the_disk_says(root: Path, told: Told) -> None:
    path = write(root / "p" / "s.jsonl", LINE * 3)
    seen = path.stat()
    told.scanner.scan()
    (chunk,) = told.chunks
    expected = Observation(
        StreamId("s", ""), "claude", str(path), len(LINE) * 3, seen.st_mtime_ns, seen.st_dev, seen.st_ino
    )
    assert chunk == ([expected], False), "a scan finds a backlog; only hints are live"
    assert told.gone() == []


def test_a_second_look_tells_only_what_changed(root: Path, told: Told) -> None:
    one, two = write(root / "p" / "one.jsonl"), write(root / "p" / "two.jsonl")
    assert told.scan() == [StreamId("one", ""), StreamId("two", "")]
    assert told.scan() == []
    append(one)
    write(root / "q" / "s" / "subagents" / "agent-1.jsonl")
    assert told.scan() == [StreamId("one", ""), StreamId("s", "subagents/agent-1")]
    assert told.scan() == []
    two.unlink()
    assert told.scan() == []
    assert told.gone() == ["p/two.jsonl"]
    assert (told.scan(), told.gone()) == ([], []), "it is told once"


def test_a_file_that_comes_back_is_new(root: Path, told: Told) -> None:
    path = write(root / "p" / "s.jsonl")
    told.scan()
    path.unlink()
    told.scan()
    write(path)
    assert told.gone() == ["p/s.jsonl"]
    assert told.scan() == [StreamId("s", "")]


def test_a_replaced_file_of_the_same_size_and_time_is_noticed(root: Path, told: Told) -> None:
    path = write(root / "p" / "s.jsonl")
    told.scan()
    before = path.stat()
    other = write(root / "p" / "other", LINE.upper())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert told.scan() == [StreamId("s", "")]


def test_a_shrunk_file_is_told_with_its_size(root: Path, told: Told) -> None:
    path = write(root / "p" / "s.jsonl", LINE * 5)
    told.scan()
    path.write_bytes(LINE)
    told.scanner.scan()
    assert [one.size for one in told.seen()] == [len(LINE)]


def test_an_empty_transcript_is_told_too(root: Path, told: Told) -> None:
    write(root / "p" / "s.jsonl", b"")
    told.scanner.scan()
    assert [one.size for one in told.seen()] == [0]


def test_many_files_come_in_portions(root: Path, told: Told) -> None:
    for number in range(1_100):
        write(root / "p" / f"{number}.jsonl", b"")
    told.scanner.scan()
    sizes = [len(chunk) for chunk, _ in told.chunks]
    assert sum(sizes) == 1_100
    assert max(sizes) <= 512
    assert len({one.stream for one in told.seen()}) == 1_100


def test_a_deleted_project_takes_all_its_files_along(root: Path, told: Told) -> None:
    write(root / "p" / "one.jsonl")
    path = write(root / "p" / "s" / "subagents" / "agent-1.jsonl")
    told.scan()
    path.unlink()
    path.parent.rmdir()
    path.parent.parent.rmdir()
    (root / "p" / "one.jsonl").unlink()
    (root / "p").rmdir()
    told.scan()
    assert told.gone() == ["p/one.jsonl", "p/s/subagents/agent-1.jsonl"]


def test_a_moved_file_is_told_at_its_new_place_and_gone_from_the_old(root: Path, told: Told) -> None:
    path = write(root / "p" / "s.jsonl")
    told.scan()
    (root / "q").mkdir()
    path.rename(root / "q" / "s.jsonl")
    assert told.scan() == [StreamId("s", "")]
    assert told.gone() == ["p/s.jsonl"]


# --- roots ----------------------------------------------------------------------------------------------------------


def test_a_root_that_is_not_there_yet_is_no_trouble(tmp_path: Path) -> None:
    told = Told(tmp_path.resolve() / "projects")
    assert told.scan() == []
    write(told.root / "p" / "s.jsonl")
    assert told.scan() == [StreamId("s", "")]
    assert told.scanner.unreadable == {}


def test_a_root_that_goes_away_does_not_take_its_files_along(root: Path, told: Told) -> None:
    """A disk that is not mounted, a share that is not reached: nothing was deleted."""
    write(root / "p" / "s.jsonl")
    told.scan()
    root.rename(root.with_name("unmounted"))
    assert (told.scan(), told.gone()) == ([], [])
    root.with_name("unmounted").rename(root)
    assert (told.scan(), told.gone()) == ([], [])
    (root / "p" / "s.jsonl").unlink()
    told.scan()
    assert told.gone() == ["p/s.jsonl"]


def test_several_roots_are_told_apart_by_whole_names(tmp_path: Path) -> None:
    one, two = tmp_path.resolve() / "projects", tmp_path.resolve() / "projects2"
    write(two / "p" / "s.jsonl")
    told = Told(one)
    told.scanner.look(str(two / "p" / "s.jsonl"))
    assert told.seen() == []
    assert Root(claude, "/").parts("/p/s.jsonl") == ("p", "s.jsonl")
    assert Root(claude, "/").holds("/p/s.jsonl")


# --- hints ----------------------------------------------------------------------------------------------------------


def test_a_hint_at_a_file_tells_it_as_live(root: Path, told: Told) -> None:
    path = write(root / "p" / "s.jsonl")
    told.scanner.look(str(path))
    assert [live for _, live in told.chunks] == [True]
    assert told.streams() == [StreamId("s", "")]
    told.scanner.look(str(path))
    assert told.streams() == [], "nothing changed since"
    append(path)
    told.scanner.look(str(path), live=False)
    assert [live for _, live in told.chunks] == [False]


def test_a_hint_at_a_folder_looks_at_everything_below_it(root: Path, told: Told) -> None:
    write(root / "p" / "one.jsonl")
    write(root / "p" / "one" / "subagents" / "agent-1.jsonl")
    write(root / "q" / "two.jsonl")
    told.scanner.look(str(root / "p"))
    assert told.streams() == [StreamId("one", ""), StreamId("one", "subagents/agent-1")]


def test_a_hint_at_the_root_looks_at_everything(root: Path, told: Told) -> None:
    write(root / "p" / "one.jsonl")
    told.scanner.look(str(root))
    assert told.streams() == [StreamId("one", "")]


def test_a_hint_at_what_is_gone_tells_it_once(root: Path, told: Told) -> None:
    path = write(root / "p" / "s.jsonl")
    told.scan()
    path.unlink()
    told.scanner.look(str(path))
    assert told.gone() == ["p/s.jsonl"]
    told.scanner.look(str(path))
    told.scan()
    assert told.gone() == []


@pytest.mark.parametrize("place", ["p/never.jsonl", "p/notes.txt", "../elsewhere.jsonl", "p", ""])
def test_hints_at_nothing_of_ours_are_silent(root: Path, told: Told, place: str) -> None:
    told.scanner.look(os.path.join(root, place))
    assert (told.seen(), told.gone()) == ([], [])


def test_what_grew_lately_is_looked_at_again_without_a_hint(root: Path, told: Told) -> None:
    path, quiet = write(root / "p" / "s.jsonl"), write(root / "p" / "quiet.jsonl")
    told.scan()
    append(path)
    told.scan()
    append(path)
    append(quiet)
    told.scanner.look_again()
    assert told.streams() == [StreamId("s", "")]
    path.unlink()
    told.scanner.look_again()
    assert told.gone() == ["p/s.jsonl"]
    told.scanner.look_again()
    assert told.gone() == []


def test_only_so_many_files_are_looked_at_again(root: Path, told: Told) -> None:
    paths = [write(root / "p" / f"{number:03}.jsonl", b"") for number in range(300)]
    told.scan()
    for path in paths:
        append(path)
        told.scanner.look(str(path))
    told.seen()
    for path in paths:
        append(path)
    told.scanner.look_again()
    assert told.streams() == [StreamId(f"{number:03}", "") for number in range(44, 300)]


# --- flat subagents -------------------------------------------------------------------------------------------------


def named(session: str) -> bytes:
    return json.dumps({"type": "user", "sessionId": session, "isSidechain": True}).encode() + b"\n"


@pytest.mark.parametrize("hinted", [False, True], ids=["scan", "hint"])
def test_a_flat_subagent_is_told_once_its_first_line_is_whole(root: Path, told: Told, hinted: bool) -> None:
    path = write(root / "p" / "agent-1a2b3c4d.jsonl", b"")

    def look() -> list[StreamId]:
        if hinted:
            told.scanner.look(str(path))
        else:
            told.scanner.scan()
        return told.streams()

    assert look() == []
    append(path, named("parent")[:-5])
    assert look() == []
    append(path, named("parent")[-5:])
    assert look() == [StreamId("parent", "agent-1a2b3c4d")]
    assert look() == []
    assert told.gone() == []


@pytest.mark.parametrize("how", ["renamed over", "rewritten", "grown", "of the same size and time"])
def test_a_file_whose_lines_say_another_session_is_filed_anew(root: Path, told: Told, how: str) -> None:
    path = write(root / "p" / "agent-1.jsonl", named("parent"))
    told.scan()
    seen = path.stat()
    if how == "renamed over":
        write(root / "p" / "other", named("others")).replace(path)
    elif how == "rewritten":
        write(path, named("others"))
        os.utime(path, ns=(0, seen.st_mtime_ns + 1))
    elif how == "grown":
        write(path, named("others") * 2)
    else:
        other = write(root / "p" / "other", named("others"))
        os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        other.replace(path)
    assert told.scan() == [StreamId("others", "agent-1")]
    assert told.gone() == ["p/agent-1.jsonl"]
    assert (told.scan(), told.gone()) == ([], [])


def test_what_an_earlier_life_followed_is_filed_anew_too(root: Path, told: Told) -> None:
    path = write(root / "p" / "agent-1.jsonl", named("others"))
    told.scanner.expect({str(path): StreamId("parent", "agent-1")})
    assert (told.scan(), told.gone()) == ([StreamId("others", "agent-1")], ["p/agent-1.jsonl"])


def test_what_a_files_lines_said_holds_while_they_say_nothing_else(root: Path, told: Told) -> None:
    path = write(root / "p" / "agent-1.jsonl", named("parent"))
    told.scan()
    path.write_bytes(b'{"type":"us')
    assert (told.scan(), told.gone()) == ([StreamId("parent", "agent-1")], [])


def test_a_flat_subagent_without_a_name_among_its_first_lines_is_told_as_itself(root: Path, told: Told) -> None:
    write(root / "p" / "agent-1.jsonl", b'{"type":"summary"}\n' * 4_000 + named("parent"))
    assert told.scan() == [StreamId("agent-1", "")]


def test_a_flat_subagent_whose_first_line_is_endless_waits(root: Path, told: Told) -> None:
    write(root / "p" / "agent-1.jsonl", b'{"x":"' + b"x" * (1 << 17) + b'"}\n' + named("parent"))
    write(root / "p" / "s.jsonl")
    assert StreamId("s", "") in told.scan()


# --- files that go while they are looked at -----------------------------------------------------------------------


def test_a_file_that_goes_between_listing_and_reading_is_no_trouble(
    root: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat, other = write(root / "p" / "agent-1.jsonl", named("parent")), write(root / "p" / "s.jsonl")

    def list_then_delete(path: str) -> list[Entry]:
        found = list_folder_for_real(path)
        if path == str(root / "p"):
            flat.unlink()
        return found

    monkeypatch.setattr(files, "list_folder", list_then_delete)
    assert told.scan() == [StreamId("s", "")]
    monkeypatch.undo()
    assert (told.scan(), told.gone()) == ([], [])
    assert other.exists()


def test_a_folder_that_goes_between_listing_and_entering_is_no_trouble(
    root: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "q" / "s.jsonl")
    (root / "p").mkdir()

    def list_then_delete(path: str) -> list[Entry]:
        found = list_folder_for_real(path)
        if path == str(root):
            (root / "p").rmdir()
        return found

    monkeypatch.setattr(files, "list_folder", list_then_delete)
    assert told.scan() == [StreamId("s", "")]
    assert told.scanner.unreadable == {}


# --- folders that may not be read -----------------------------------------------------------------------------------


@needs_posix
def test_a_folder_that_may_not_be_read_says_nothing_about_its_files(reachable: Path) -> None:
    told = Told(reachable)
    path = write(reachable / "p" / "s.jsonl")
    write(reachable / "q" / "t.jsonl").chmod(0o644)
    told.scan()
    path.parent.chmod(0o000)
    (reachable / "q" / "t.jsonl").unlink()
    with unprivileged():
        assert told.scan() == []
        assert told.gone() == ["q/t.jsonl"], "the rest is looked at as ever"
        assert list(told.scanner.unreadable) == [str(path.parent)]
        (why,) = told.scanner.unreadable.values()
    assert "Permission denied" in why
    path.parent.chmod(0o755)
    append(path)
    with unprivileged():
        assert (told.scan(), told.gone(), told.scanner.unreadable) == ([StreamId("s", "")], [], {})


@needs_posix
def test_a_root_that_may_not_be_read_says_nothing_about_its_files(reachable: Path) -> None:
    told = Told(reachable)
    write(reachable / "p" / "s.jsonl")
    told.scan()
    reachable.chmod(0o000)
    with unprivileged():
        assert (told.scan(), told.gone()) == ([], [])
        assert list(told.scanner.unreadable) == [str(reachable)]


@needs_posix
def test_a_flat_subagent_that_may_not_be_read_is_told_once_it_may(reachable: Path) -> None:
    told = Told(reachable)
    path = write(reachable / "p" / "agent-1.jsonl", named("parent"))
    path.chmod(0o000)
    with unprivileged():
        assert told.scan() == []
        assert list(told.scanner.unreadable) == [str(path)]
    path.chmod(0o644)
    with unprivileged():
        assert told.scan() == [StreamId("parent", "agent-1")]
        assert told.scanner.unreadable == {}


@needs_posix
def test_a_folder_that_may_not_be_read_does_not_speak_for_its_neighbour(reachable: Path) -> None:
    told = Told(reachable)
    write(reachable / "p" / "s.jsonl")
    path = write(reachable / "p2" / "t.jsonl")
    told.scan()
    (reachable / "p").chmod(0o000)
    path.unlink()
    with unprivileged():
        told.scan()
    assert told.gone() == ["p2/t.jsonl"]


@needs_posix
@pytest.mark.parametrize("hidden", ["p", ""], ids=["folder", "root"])
def test_a_second_look_at_a_file_that_may_not_be_seen_is_no_deletion(reachable: Path, hidden: str) -> None:
    told = Told(reachable)
    path = write(reachable / "p" / "s.jsonl")
    told.scan()
    (reachable / hidden).chmod(0o000)
    with unprivileged():
        told.scanner.look(str(path))
    assert told.gone() == []


def test_a_second_look_while_the_root_is_away_is_no_deletion(root: Path, told: Told) -> None:
    path = write(root / "p" / "s.jsonl")
    told.scan()
    append(path)
    told.scan()
    root.rename(root.with_name("unmounted"))
    told.scanner.look_again()
    assert told.gone() == []


# --- what else lies in folders --------------------------------------------------------------------------------------


@needs_posix
def test_broken_links_and_links_to_themselves_are_nothing(root: Path, told: Told) -> None:
    write(root / "p" / "s.jsonl")
    (root / "p" / "broken.jsonl").symlink_to("nowhere")
    (root / "p" / "itself.jsonl").symlink_to("itself.jsonl")
    (root / "q").symlink_to("q")
    assert told.scan() == [StreamId("s", "")]
    assert told.scanner.unreadable == {}


@needs_posix
@pytest.mark.parametrize("target", ["..", "."])
def test_a_loop_of_links_ends(root: Path, told: Told, target: str) -> None:
    write(root / "p" / "s.jsonl")
    for number in range(3):
        (root / "p" / f"loop{number}").symlink_to(target)
    found = told.scan()
    assert StreamId("s", "") in found
    assert len(found) <= 2


@needs_posix
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("target", ["root", "project", "project from below"])
def test_a_link_to_a_folder_of_the_same_tree_changes_nobodys_id(
    root: Path, told: Told, target: str, backwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever is listed first."""

    def list_in_order(path: str) -> list[Entry]:
        return sorted(list_folder_for_real(path), reverse=backwards)

    write(root / "m" / "s.jsonl")
    (root / "a").mkdir()
    (root / "z").mkdir()
    places = {"root": ("a1", "."), "project": ("a1", "m"), "project from below": ("z/linked", "../m")}
    link, leads_to = places[target]
    (root / link).symlink_to(leads_to)
    monkeypatch.setattr(files, "list_folder", list_in_order)
    assert told.scan() == [StreamId("s", "")]


@needs_posix
def test_pipes_and_sockets_are_never_opened(root: Path, told: Told) -> None:
    write(root / "p" / "s.jsonl")
    os.mkfifo(root / "p" / "agent-pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as listener:
        place = SCRATCH / "s.jsonl"  # short enough for a socket
        listener.bind(str(place))
        place.rename(root / "p" / "agent-socket.jsonl")
        assert told.scan() == [StreamId("s", "")]
    told.scanner.look(str(root / "p" / "agent-pipe.jsonl"))
    assert (told.seen(), told.gone()) == ([], [])


def test_side_files_of_a_session_are_told_as_such(root: Path, told: Told) -> None:
    write(root / "p" / "s" / "tool-results" / "toolu_1.txt")
    write(root / "p" / "s" / "subagents" / "agent-1.meta.json")
    write(root / "p" / "s" / "custom-title.json")
    write(root / "p" / "s" / "notes.txt")
    write(root / "s.jsonl")
    places = ("custom-title.json", "subagents/agent-1.meta.json", "tool-results/toolu_1.txt")
    assert sorted(told.scan()) == [StreamId("s", f"files/{place}") for place in places]


# --- what is not followed --------------------------------------------------------------------------------------------


@needs_posix
def test_names_that_are_not_utf8_are_named_and_the_rest_goes_on(root: Path, told: Told) -> None:
    write(root / "p" / "s.jsonl")
    try:
        write(root / "p" / os.fsdecode(b"caf\xe9.jsonl"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    write(root / "p" / os.fsdecode(b"\xff") / "subagents" / "agent-1.jsonl")
    for _ in range(2):
        told.scanner.scan()
        names = {str(root / "p" / "caf\ufffd.jsonl"), str(root / "p" / "\ufffd" / "subagents" / "agent-1.jsonl")}
        assert set(told.scanner.unfollowed) == names
        assert all("UTF-8" in why for why in told.scanner.unfollowed.values())
        json.dumps(told.scanner.unfollowed, ensure_ascii=False).encode()
    assert told.streams() == [StreamId("s", "")]
    assert told.gone() == []


NAMES = ("s", "..", "agent-1", "events", "session-1", "rollout-1", "tool-results", "tool-outputs", "chats", "subagents",
         "rewind-file-snapshots", "files", "checkpoints", "workspace.yaml", "é", "a b", "x" * 40)  # fmt: skip
ENDINGS = (".jsonl", ".jsonl.zst", ".JSONL", ".json", ".txt", ".jsonl.tmp", ".jsonl.backup-1", "")
TEXTS = (b"", b"{", LINE, b'{"sessionId":"s-1","projectHash":"h","startTime":"2026-11-01T10:00:00Z"}\n')


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS.keys())
@pytest.mark.parametrize("seed", range(8))
def test_whatever_ends_as_a_transcript_is_followed_or_named_with_its_reason(
    provider: Provider, seed: int, tmp_path: Path
) -> None:
    """Any tree of any names: no such file with something in it is left out in silence, and nothing else is named."""
    chance, root = random.Random(seed), tmp_path.resolve()
    uuid = "01a03d4c-831d-7490-bd4b-755dff239291"
    stems = [*NAMES, uuid, f"rollout-2026-11-01T10-00-00-{uuid}", f"rollout-2026-11-01T10-00-00-{uuid}_{uuid}"]
    texts = [*TEXTS, zstandard.compress(LINE)]
    for _ in range(60):
        folders = [chance.choice([*NAMES, uuid]) for _ in range(chance.randrange(5))]
        path = root.joinpath(*(one for one in folders if one != ".."), chance.choice(stems) + chance.choice(ENDINGS))
        if path.name.strip(".") and not path.exists() and not any(one.is_file() for one in path.parents):
            write(path, chance.choice(texts))
    found: list[Observation] = []
    scanner = Scanner([Root(provider, str(root))], lambda seen, _: found.extend(seen), lambda _: None)
    scanner.scan()
    files = {str(path) for path in root.rglob("*") if path.is_file()}
    followed, named = {one.path for one in found}, set(scanner.unfollowed)
    assert not followed & named
    assert all(scanner.unfollowed.values())
    for one in files - followed - named - set(scanner.unreadable):
        below = one.removeprefix(str(root) + os.sep)
        is_companion = any(fnmatchcase(below, pattern) for pattern in provider.companions)
        assert is_companion or not one.endswith((".jsonl", ".jsonl.zst")) or not os.path.getsize(one), below
    assert all(one.endswith((".jsonl", ".jsonl.zst")) for one in named)
    scanner.scan()
    assert set(scanner.unfollowed) == named, "the same at the next look"


INSTALLED = [
    (provider, folder)
    for corpus in CORPORA
    for provider, name in (
        ("claude", "projects"),
        ("codex", "sessions"),
        ("gemini", "tmp"),
        ("copilot", "session-state"),
    )
    for folder in sorted((corpus / provider).rglob(name))
]


@pytest.mark.parametrize(
    ("name", "folder"), INSTALLED, ids=[str(one.relative_to(CORPUS.parent)) for _, one in INSTALLED]
)
def test_of_an_ordinary_installation_nothing_is_named(name: str, folder: Path) -> None:
    """All that real versions of the four wrote."""
    found: list[Observation] = []
    scanner = Scanner(
        [Root(PROVIDERS[name], str(folder.resolve()))], lambda seen, _: found.extend(seen), lambda _: None
    )
    scanner.scan()
    assert found
    assert (scanner.unfollowed, scanner.unfollowed_more, scanner.unreadable) == ({}, 0, {})


def test_a_file_that_nobody_follows_is_forgotten_when_it_is_followed_or_goes(root: Path, told: Told) -> None:
    early, stray = write(root / "p" / "agent-1.jsonl", b'{"sessionId":'), write(root / "stray.jsonl")
    packed = write(root / "p" / "s.jsonl.zst")
    assert told.scan() == []
    assert told.scanner.unfollowed == {
        str(early): "no line at its beginning names its session",
        str(stray): "Claude Code names no transcript so",
        str(packed): "Claude Code names no transcript so",
    }
    append(early, b'"s"}\n')
    told.scanner.look(str(early))
    assert told.streams() == [StreamId("s", "agent-1")]
    stray.unlink()
    told.scanner.look(str(stray))
    assert list(told.scanner.unfollowed) == [str(packed)]
    packed.unlink()
    told.scanner.scan()
    assert told.scanner.unfollowed == {}


def test_of_many_files_that_nobody_follows_some_are_named_and_all_are_counted(root: Path, told: Told) -> None:
    for number in range(MOST_UNFOLLOWED + 5):
        write(root / f"{number}.jsonl")
    for _ in range(2):
        told.scanner.scan()
        assert (len(told.scanner.unfollowed), told.scanner.unfollowed_more) == (MOST_UNFOLLOWED, 5)
    for number in range(10):
        (root / f"{number}.jsonl").unlink()
    for _ in range(2):
        told.scanner.scan()
        assert len(told.scanner.unfollowed) + told.scanner.unfollowed_more == MOST_UNFOLLOWED - 5
    assert told.scanner.unfollowed_more == 0, "there is room again"


@needs_posix
def test_a_project_whose_name_is_not_utf8_keeps_nobody_from_its_sessions(root: Path, told: Told) -> None:
    try:
        write(root / os.fsdecode(b"caf\xe9") / "s.jsonl")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert told.scan() == [StreamId("s", "")]


def test_what_could_not_be_read_is_told_until_a_full_look_has_come_to_it_again(told: Told, root: Path) -> None:
    """Not forgotten when the next look begins: whoever asks meanwhile would be told that nothing is amiss."""
    folder = root / "p"
    folder.mkdir()
    (folder / "s.jsonl").write_bytes(LINE)

    class Closed:
        """The disk, until `folder` is opened; `asked` runs in the middle of a look."""

        closed = True

        def list_folder(self, path: str, /) -> list[Entry]:
            asked.append(dict(scanner.unreadable))
            if self.closed and path == str(folder):
                raise DiskError(f"{path} can't be read: no")
            return list_folder_for_real(path)

        def __getattr__(self, name: str) -> object:
            return getattr(files, name)

    asked: list[dict[str, str]] = []
    disk = Closed()
    scanner = Scanner([Root(claude, str(root))], told._observed, told._vanished, cast(Files, disk))
    scanner.scan()
    assert list(scanner.unreadable) == [str(folder)]
    disk.closed = False
    asked.clear()
    scanner.scan()
    assert all(list(one) == [str(folder)] for one in asked)
    assert scanner.unreadable == {}
    assert [one.session_id for one in told.streams()] == ["s"]
