"""The private list on disk: never out of date, never half, never lost."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.privacy.rules import HEADER, Rule, Subject, parse_lines, split_lines
from agent.core.settings import Privacy
from agent.errors import DiskError, PrivacyListError, UsageError
from agent.system.state import privacy_list
from agent.system.state.privacy_list import FRESH_S, LINKS_S, MOST_BYTES, PrivacyList, spell_folder
from tests.conftest import REPOSITORY
from tests.reliability import MakeTally
from tests.system.privileges import needs_posix, open_folder, unprivileged

ID = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"
OLD_NS = 1_700_000_000 * 10**9


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def private(tmp_path: Path, clock: Clock) -> PrivacyList:
    return PrivacyList(tmp_path / "private.list", home="/home/ada", monotonic=clock)


def at(folder: str) -> Subject:
    return Subject("s", folder, spell_folder(folder))


def covers(private: PrivacyList, folder: str) -> bool:
    return private.read().decide(at(folder)).private


# ---- reading ----


def test_a_list_that_never_was_is_told_from_one_that_is_empty(private: PrivacyList) -> None:
    assert private.read().missing
    assert not covers(private, "/a")
    assert private.create()
    assert not private.create()
    rules = private.read()
    assert (rules.missing, rules.unreadable) == (False, "")
    assert private.path.read_text() == HEADER
    assert private.path.stat().st_mode & 0o777 == 0o600 or os.name != "posix"


def test_each_change_is_seen_at_once(private: PrivacyList, clock: Clock) -> None:
    for number in range(
        20
    ):  # sizes, and as a rule times, are the same: the clock of a file system ticks in milliseconds
        private.path.write_text(f"project /a{number:03}")
        clock.now_s += 2 * FRESH_S
        assert covers(private, f"/a{number:03}")
        clock.now_s += 2 * FRESH_S
        assert not covers(private, f"/a{number - 1:03}")


def test_a_fresh_list_is_read_each_time(private: PrivacyList, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writes within one tick of a file system's clock leave one signature."""
    monkeypatch.setattr(privacy_list, "_signature", lambda seen: (0, 0, 0, time.time_ns(), 0))
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    private.path.write_text("project /a")
    assert covers(private, "/a")
    private.path.write_text("project /b")
    assert covers(private, "/b")


def test_a_change_that_sets_size_and_time_back_is_seen(private: PrivacyList, clock: Clock, tmp_path: Path) -> None:
    private.path.write_text("project /a")
    os.utime(private.path, ns=(OLD_NS, OLD_NS))
    assert covers(private, "/a")
    other = tmp_path / "other"
    other.write_text("project /b")
    os.utime(other, ns=(OLD_NS, OLD_NS))
    other.replace(private.path)
    assert covers(private, "/b")
    clock.now_s += 2 * FRESH_S
    assert not covers(private, "/a")
    assert covers(private, "/b")


def test_a_list_that_is_cut_for_a_moment_still_counts(private: PrivacyList, clock: Clock, tally: MakeTally) -> None:
    noted = tally("private means private", "the list is seen while an editor writes it")
    private.path.write_text("project /a\nproject /b\n")
    assert covers(private, "/a")
    for text in ("", "project /b", "project /b\nproj", "project /b\nproject /c\n"):
        private.path.write_text(text)
        clock.now_s += FRESH_S / 10
        noted.note()
        assert covers(private, "/a")
        assert covers(private, "/b")
    digest = private.read().digest
    clock.now_s += 2 * FRESH_S
    assert not covers(private, "/a")
    assert covers(private, "/c")
    assert private.read().digest != digest


def test_what_can_not_be_read_is_private(private: PrivacyList, tmp_path: Path, tally: MakeTally) -> None:
    noted = tally("private means private", "a private list that can't be read or parsed")

    def check(word: str) -> None:
        rules = private.read()
        assert word in rules.unreadable
        verdict = rules.decide(at("/a"))
        assert (verdict.private, verdict.certain) == (True, False)
        noted.note()

    for data, word in (
        (b"project /b\nprivate /a\n", "line 2"),
        (b"project /\xff\n", "not UTF-8"),
        ("project /b\n".encode("utf-16"), "UTF-8"),
        (b"#" * (MOST_BYTES + 1), f"allowed are {MOST_BYTES:,}"),
    ):
        private.path.write_bytes(data)
        check(word)
    private.path.unlink()
    assert private.read().missing
    private.path.mkdir()
    check("is a folder")
    private.path.rmdir()
    if os.name == "posix":
        os.mkfifo(private.path)
        check("is no file")
        private.path.unlink()
        private.path.symlink_to(tmp_path / "nowhere")
        check("leads nowhere")
        with pytest.raises(PrivacyListError, match="leads nowhere"):
            private.add([Rule("project", "/a")])
        private.path.unlink()
        private.path.symlink_to(private.path)
        check("can't be read")
        private.path.unlink()
    private.path.write_text("project /b\n")
    assert not covers(private, "/a")


@needs_posix
def test_a_list_that_may_not_be_read_is_private() -> None:
    with open_folder() as place, unprivileged():
        folder = place / "own"
        folder.mkdir()
        private = PrivacyList(folder / "private.list")
        private.path.write_text("project /b\n")
        assert not covers(private, "/a")
        private.path.chmod(0)
        assert "can't be read" in private.read().unreadable
        private.path.chmod(0o600)
        assert not private.read().unreadable
        folder.chmod(0)
        assert "can't be read" in private.read().unreadable
        folder.chmod(0o700)


def test_a_replacement_in_the_middle_of_a_read_is_noticed(
    private: PrivacyList, monkeypatch: pytest.MonkeyPatch
) -> None:
    private.path.write_text("project /b\n")
    real, left = os.fstat, [3]

    def fstat(file: int) -> os.stat_result:
        seen = real(file)
        if left[0]:
            left[0] -= 1
            fresh = private.path.with_name("fresh")
            fresh.write_text(f"project /a{left[0]}\n")
            fresh.replace(private.path)
        return seen

    monkeypatch.setattr(os, "fstat", fstat)
    assert covers(private, "/a0")
    assert not left[0]
    left[0] = 100
    private.path.write_text("project /c\n")
    assert "changes while it is read" in private.read().unreadable


def test_readers_beside_a_writer_see_no_half_list(private: PrivacyList, tally: MakeTally) -> None:
    noted = tally("private means private", "the list is replaced while threads read it")
    private.add([Rule("project", "/a")])
    wrong: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            rules = private.read()
            if not rules.decide(at("/a")).rule:
                wrong.append(rules.unreadable or "not private")

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(60):
        edit = private.add if number % 2 else private.remove
        edit([Rule("project", f"/x{number // 2}")])
        noted.note()
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_nothing_is_opened_while_nothing_changes(
    private: PrivacyList, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    private.path.write_text("project /a")
    monkeypatch.setattr(time, "time_ns", lambda: 4_000_000_000 * 10**9)  # long ago, so it is settled
    first = private.read()
    monkeypatch.setattr(private, "_read_whole", None)
    assert private.read() is first
    private.path.write_text("project /ab")
    with pytest.raises(TypeError):
        private.read()


# ---- folders ----


@needs_posix
def test_links_count_on_both_sides(tmp_path: Path, clock: Clock) -> None:
    real, home = tmp_path.resolve() / "disk[1]", tmp_path / "home"
    (real / "work" / "secret-1").mkdir(parents=True)
    (real / "apart").mkdir()
    home.symlink_to(real)
    private = PrivacyList(tmp_path / "private.list", home=str(home), monotonic=clock)
    private.path.write_text("project ~/work/secret-*\n")
    for folder in (home / "work" / "secret-1", real / "work" / "secret-1", real / "work" / "secret-2"):
        assert covers(private, str(folder)), folder
    assert not covers(private, str(real / "work"))
    assert not covers(private, str(real / "apart"))
    (real / "work" / "secret-link").symlink_to(real / "apart")
    clock.now_s += LINKS_S + 1
    assert covers(private, str(real / "apart"))
    private.path.write_text(f"project {real.parent}/disk[[]1]/apart\n")
    assert covers(private, str(home / "work" / "secret-link"))


LINKING = ["~/w/{link,x}", "~/w/{l*,x}", "~/**/link", "~/w/[b]/to*", "~/w/[b]/to-it", "~/{w,v}/**/link/"]


@needs_posix
@pytest.mark.parametrize("pattern", LINKING)
def test_links_count_in_every_way_to_read_a_pattern(pattern: str, tmp_path: Path, clock: Clock) -> None:
    home = tmp_path.resolve()
    (home / "apart").mkdir()
    (home / "w" / "[b]").mkdir(parents=True)
    (home / "w" / "link").symlink_to(home / "apart")
    (home / "w" / "[b]" / "to-it").symlink_to(home / "apart")
    private = PrivacyList(tmp_path / "private.list", home=str(home), monotonic=clock)
    private.path.write_text(f"project {pattern}\n")
    assert covers(private, str(home / "apart" / "deep"))
    assert not covers(private, str(home / "w"))


@needs_posix
def test_a_link_out_of_a_shared_folder_shares_nothing(tmp_path: Path) -> None:
    (tmp_path / "real" / "shared").mkdir(parents=True)
    (tmp_path / "real" / "apart").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "shared" / "link").symlink_to(tmp_path / "real" / "apart")
    private = PrivacyList(
        tmp_path / "private.list", Privacy("listed", ("~/shared", "~/sh*")), home=str(tmp_path / "home")
    )
    for home in (tmp_path / "home", tmp_path.resolve() / "real"):
        for name, hidden in (("shared/x", False), ("shared/link", True), ("apart", True)):
            folder = str(home / name)
            subject = Subject("s", folder, spell_folder(folder), project_spellings=spell_folder(folder))
            assert private.read().decide(subject).private is hidden, folder


def test_case_is_told_by_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = PrivacyList(tmp_path / "private.list", home="/home/ada")
    private.path.write_text("project /Oss/Secret\n")
    if sys.platform == "linux":
        assert not covers(private, "/oss/secret")
    monkeypatch.setattr(privacy_list, "_ignores_case", lambda folder: folder == "/Oss/Secret")
    assert covers(PrivacyList(private.path, home="/home/ada"), "/oss/secret")


# ---- editing ----


def test_rules_are_added_once_and_taken_out(private: PrivacyList) -> None:
    rules = [Rule("session", ID), Rule("project", "~/work"), Rule("remote", "git@github.com:acme/x.git")]
    assert private.add(rules).changed == tuple(rules)
    assert private.path.read_text() == HEADER + "".join(rule.text + "\n" for rule in rules)
    same = [Rule("session", ID.upper()), Rule("project", "/home/ada/work/"), Rule("remote", "github.com/Acme/x")]
    assert private.add([*same, same[0]]).changed == ()
    assert [rule.kind for rule in private.rules()] == ["session", "project", "remote"]
    edited = private.remove([*same, Rule("project", "/other")])
    assert (edited.changed, edited.unchanged) == (tuple(same), (Rule("project", "/other"),))
    assert private.path.read_text() == HEADER


line = st.one_of(
    st.sampled_from(["", "# ä comment", "  ", f"session {ID}", "project /a", "project /a/ # twice", "remote h.x/*"]),
    st.from_regex(r"project /[a-z]{1,8}( {1,3}# [a-z]*)?", fullmatch=True),
)


@settings(max_examples=40, deadline=None)  # each syncs a disk four times
@given(
    st.lists(st.tuples(line, st.sampled_from(["\n", "\r\n"]))),
    st.booleans(),
    st.sampled_from([Rule("project", "/added"), Rule("session", ID), Rule("project", "/a")]),
)
def test_edits_leave_every_other_line_alone(lines: list[tuple[str, str]], cut: bool, rule: Rule) -> None:
    with_ends = [text + end for text, end in lines]
    before = "".join(with_ends)
    before = before.removesuffix("\n").removesuffix("\r") if cut else before
    path = Path(os.environ["HOME"]) / "private.list"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(before.encode())
    private = PrivacyList(path)
    names = {"/added": ("/added",), ID: (ID,), "/a": ("/a", "/a/")}[rule.value]

    def others(text: str) -> list[str]:
        found = zip(split_lines(text), parse_lines(text), strict=True)
        return [one for one, said in found if said is None or said.kind != rule.kind or said.value not in names]

    added = private.add([rule])
    after = path.read_bytes().decode()
    assert after.startswith(before)
    assert bool(added.changed) == (after != before)
    assert private.remove([rule]).changed == (rule,)
    end = "\r\n" if "\r\n" in before.partition("\n")[0] + "\n" else "\n"
    left = path.read_bytes().decode()
    assert left in ("".join(others(before)), "".join(others(before + end)))
    assert private.remove([rule]).changed == ()
    assert path.read_bytes().decode() == left


def test_a_list_that_is_not_understood_is_not_edited(private: PrivacyList) -> None:
    for data in (b"projct /a\n", b"\xff\n"):
        private.path.write_bytes(data)
        for edit in (private.add, private.remove):
            with pytest.raises(PrivacyListError):
                edit([Rule("project", "/b")])
        assert private.path.read_bytes() == data
    private.path.write_bytes(b"# " + b"x" * (MOST_BYTES - 10) + b"\n")
    with pytest.raises(UsageError, match="allowed are"):
        private.add([Rule("project", "/b")])


@needs_posix
def test_a_link_is_followed_and_kept(private: PrivacyList, tmp_path: Path) -> None:
    target = tmp_path / "kept elsewhere"
    target.write_text("# mine\n")
    private.path.symlink_to(target)
    private.add([Rule("project", "/a")])
    assert private.path.is_symlink()
    assert target.read_text() == "# mine\nproject /a\n"
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_change_by_hand_during_an_edit_is_not_lost(private: PrivacyList, monkeypatch: pytest.MonkeyPatch) -> None:
    private.create()
    real = os.fsync

    def fsync(file: int) -> None:
        real(file)
        private.path.write_text("project /by/hand\n")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DiskError, match="somebody else"):
        private.add([Rule("project", "/a")])
    assert private.path.read_text() == "project /by/hand\n"
    assert sorted(one.name for one in private.path.parent.iterdir()) == ["private.list", "private.list.lock"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_edit_that_fails_leaves_the_list_as_it_was(
    private: PrivacyList, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    private.add([Rule("project", "/a")])
    before = private.path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(DiskError, match="can't be written: No space left"):
        private.add([Rule("project", "/b")])
    with pytest.raises(DiskError, match="can't be written: No space left"):
        private.remove([Rule("project", "/a")])
    assert private.path.read_bytes() == before
    assert sorted(one.name for one in private.path.parent.iterdir()) == ["private.list", "private.list.lock"]


@pytest.fixture
def adders(private: PrivacyList) -> Iterator[list[subprocess.Popen[bytes]]]:
    code = (
        "import sys; from pathlib import Path; from agent.core.privacy.rules import Rule;"
        "from agent.system.state.privacy_list import PrivacyList; sys.stdin.read();"
        "one = PrivacyList(Path(sys.argv[1]));"
        "[one.add([Rule('project', f'/p{sys.argv[2]}/{number}')]) for number in range(10)]"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(private.path), str(number)], stdin=subprocess.PIPE, cwd=REPOSITORY
        )
        for number in range(10)
    ]
    yield started
    for one in started:
        one.kill()
        one.wait()


def test_ten_processes_that_add_lose_nothing(
    private: PrivacyList, adders: list[subprocess.Popen[bytes]], tally: MakeTally
) -> None:
    for one in adders:
        assert one.stdin
        one.stdin.close()
    assert [one.wait(60) for one in adders] == [0] * 10
    wanted = {f"project /p{adder}/{number}" for adder in range(10) for number in range(10)}
    found = [rule.text for rule in private.rules()]
    lost = wanted - set(found)
    tally("private means private", "10 processes add to the list at once").note(100, lost=len(lost))
    assert not lost
    assert len(found) == 100
