"""What changes a transcript: each command on transcripts that Claude Code wrote, what is left of them, and what happens
when it breaks off."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.transcripts.rewriting import find_cut, fork_line, is_beginning, mend_parent
from agent.core.transcripts.session import Observation, StreamId
from agent.errors import UsageError
from agent.providers import PROVIDERS
from agent.sessions.transfer import changing
from agent.sessions.transfer.changing import QUIET_S, Changed, Subject
from agent.system.files import replacing

COMPACTED = "79188635-1d9c-45a4-9010-27a67efa5742"
FORK = "fd2e514c-7e06-474e-8333-5832012dc123"
NEW = "11111111-90ab-4cde-8f01-23456789abcd"
STAMP_S = 1_800_000_000.0


def subject_of(path: Path, provider: str = "claude") -> Subject:
    seen = path.stat()
    one = Observation(StreamId(path.stem, ""), provider, str(path), seen.st_size, seen.st_mtime_ns, 0, seen.st_ino)
    return Subject(path.stem, provider, [one])


def compacted_files(corpus: Path) -> Iterator[Path]:
    for path in sorted((corpus / "claude").rglob("*.jsonl")):
        if b'"compact_boundary"' in path.read_bytes():
            yield path


@pytest.fixture
def quiet(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy that nobody has written to for long."""

    def copy(source: Path) -> Path:
        folder = tmp_path / "projects" / "p"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / source.name
        shutil.copyfile(source, target)
        target.chmod(0o600)
        os.utime(target, (STAMP_S - 10_000, STAMP_S - 10_000))
        return target

    return copy


def objects(data: bytes) -> list[dict[str, Any]]:
    found = []
    for line in data.split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        found += [value] if isinstance(value, dict) else []
    return found


def assert_sound(data: bytes, before: bytes) -> None:
    """No line's parent is missing that was not missing before; no result stands without its call."""
    kept, old = objects(data), objects(before)
    known, was = ({line.get("uuid") for line in lines} for lines in (kept, old))
    for line in kept:
        parent = line.get("parentUuid")
        assert parent is None or parent in known or parent not in was
    calls = {id_ for line in kept for id_ in ids_of(line, "tool_use", "id")}
    asked = {id_ for line in old for id_ in ids_of(line, "tool_use", "id")}
    for line in kept:
        for id_ in ids_of(line, "tool_result", "tool_use_id"):
            assert id_ in calls or id_ not in asked


def ids_of(line: dict[str, Any], kind: str, key: str) -> list[str]:
    content = (line.get("message") or {}).get("content") if isinstance(line.get("message"), dict) else None
    return [one[key] for one in content if one.get("type") == kind] if isinstance(content, list) else []


def test_checkpoints_of_the_corpus(corpus: Path) -> None:
    found = {path.stem[:8]: changing.list_checkpoints(subject_of(path)) for path in compacted_files(corpus)}
    assert len(found) == 9
    (one,) = found[COMPACTED[:8]]
    assert (one.line, one.trigger, one.tokens) == (118, "manual", 14070)
    for path in compacted_files(corpus):
        chosen, summary = changing.get_checkpoint(subject_of(path), "latest")
        assert summary
        assert changing.get_checkpoint(subject_of(path), chosen.uuid[:8])[0] == chosen


def test_a_branch_is_what_claude_code_itself_writes(corpus: Path, quiet: Callable[[Path], Path]) -> None:
    """Its own fork of the same session stands in the corpus."""
    folder = next(corpus.rglob(f"{FORK}.jsonl")).parent
    path = quiet(folder / f"{COMPACTED}.jsonl")
    before = path.read_bytes()
    done = changing.branch(subject_of(path), "1", lambda: NEW)
    made = {line["uuid"]: line for line in objects(Path(done.path).read_bytes())}
    theirs = [line for line in objects((folder / f"{FORK}.jsonl").read_bytes()) if "forkedFrom" in line]
    both = [line for line in theirs if line["uuid"] in made]
    assert len(both) > 50
    for line in both:
        ours = made[line["uuid"]]
        # It linked what it kept over the compaction to the summary; what is before it has its own parents still.
        assert {**ours, "sessionId": FORK, "parentUuid": line["parentUuid"]} == line
        assert list(ours) == list(line), "in the order of Claude Code"
    assert sum(made[line["uuid"]]["parentUuid"] == line["parentUuid"] for line in both) > 50
    assert_sound(Path(done.path).read_bytes(), before)
    assert path.read_bytes() == before
    assert PROVIDERS["claude"].classify(("p", Path(done.path).name), list) == StreamId(NEW, "")
    assert not list(path.parent.glob("*-old"))
    if os.name == "posix":
        assert Path(done.path).stat().st_mode & 0o777 == 0o600


def test_back_before_every_compaction_of_the_corpus(corpus: Path, quiet: Callable[[Path], Path]) -> None:
    for source in compacted_files(corpus):
        path = quiet(source)
        before = path.read_bytes()
        done = changing.restore(subject_of(path), "1", STAMP_S)
        after = path.read_bytes()
        assert before.startswith(after)
        assert b'"compact_boundary"' not in after
        assert after.count(b"\n") == done.kept
        assert_archived(done, before)


def assert_archived(done: Changed, before: bytes) -> None:
    archive = Path(done.archive)
    assert archive.read_bytes() == before
    assert PROVIDERS["claude"].classify(("p", archive.name), list) is None, "no scanner takes it for a transcript"


@pytest.mark.parametrize("keep", [1, 5, 40])
def test_the_last_lines_of_every_transcript(keep: int, corpus: Path, quiet: Callable[[Path], Path]) -> None:
    done = 0
    for source in sorted((corpus / "claude").rglob("*.jsonl")):
        if source.parent.name == "subagents":
            continue
        path = quiet(source)
        before = path.read_bytes()
        if find_cut(before.splitlines(), keep) is None:
            with pytest.raises(UsageError, match="nothing to cut"):
                changing.compact(subject_of(path), keep, STAMP_S)
            assert path.read_bytes() == before
            continue
        changed = changing.compact(subject_of(path), keep, STAMP_S)
        done += 1
        after = path.read_bytes()
        assert keep <= changed.kept < changed.total
        assert after.count(b"\n") == changed.kept
        assert_sound(after, before)
        assert is_beginning(after.split(b"\n")[0])
        assert objects(after)[0]["parentUuid"] is None
        assert_archived(changed, before)
        path.unlink()
    assert done > 3


def test_a_reset_leaves_the_name_only(corpus: Path, quiet: Callable[[Path], Path]) -> None:
    path = quiet(next(corpus.rglob(f"{FORK}.jsonl")))
    before = path.read_bytes()
    done = changing.reset(subject_of(path), STAMP_S)
    assert {line["type"] for line in objects(path.read_bytes())} == {"custom-title", "agent-name"}
    assert_archived(done, before)


def test_what_is_at_work_is_left_alone(corpus: Path, quiet: Callable[[Path], Path]) -> None:
    path = quiet(next(corpus.rglob(f"{COMPACTED}.jsonl")))
    before = path.read_bytes()
    one = subject_of(path)
    wishes: list[Callable[[Subject, float], object]] = [
        lambda subject, now_s: changing.compact(subject, 1, now_s),
        lambda subject, now_s: changing.restore(subject, "1", now_s),
        changing.reset,
        changing.take_away,
    ]
    for wish in wishes:
        changed_s = path.stat().st_mtime
        for now_s in (changed_s + QUIET_S - 1, changed_s - 10_000):
            with pytest.raises(UsageError, match="may be at work"):
                wish(one, now_s)
        with path.open("rb"), pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "getpid", lambda: 0)  # as another process
            if Path("/proc/self/fd").is_dir():
                with pytest.raises(UsageError, match="has it open"):
                    wish(one, STAMP_S)
        if wish is not wishes[-1]:
            with pytest.raises(UsageError, match="not sent yet"):
                wish(one._replace(unsent=True), STAMP_S)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_it_is_for_claude_only(corpus: Path, quiet: Callable[[Path], Path]) -> None:
    path = quiet(next((corpus / "codex").rglob("*.jsonl")))
    one = subject_of(path, "codex")
    with pytest.raises(UsageError, match="not offered for sessions of codex"):
        changing.compact(one, 1, STAMP_S)
    with pytest.raises(UsageError, match="not offered for sessions of codex"):
        changing.reset(one, STAMP_S)
    with pytest.raises(UsageError, match="not offered"):
        changing.list_checkpoints(one)


def test_what_is_taken_away_is_kept(corpus: Path, quiet: Callable[[Path], Path]) -> None:
    path = quiet(next(corpus.rglob(f"{COMPACTED}.jsonl")))
    side = path.parent / COMPACTED / "tool-results" / "a.txt"
    side.parent.mkdir(parents=True)
    side.write_bytes(b"content")
    os.utime(side, (0, 0))
    before = path.read_bytes()
    one = subject_of(path)
    more = Observation(StreamId(COMPACTED, "files/tool-results/a.txt"), "claude", str(side), 7, 0, 0, 1)
    done = changing.take_away(one._replace(files=[*one.files, more]), STAMP_S)
    assert not path.exists()
    assert not side.exists()
    assert sorted(Path(change.archive).read_bytes() for change in done) == sorted([before, b"content"])
    for change in done:
        archive = Path(change.archive)
        assert archive.parent == path.parent
        assert PROVIDERS["claude"].classify(("p", archive.name), list) is None


@pytest.mark.parametrize("at", ["link", "write", "fsync", "replace"])
def test_a_crash_leaves_the_old_one_or_the_new_one(
    at: str, corpus: Path, quiet: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = quiet(next(corpus.rglob(f"{COMPACTED}.jsonl")))
    before = path.read_bytes()

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    target = {"link": (os, "link"), "fsync": (os, "fsync"), "replace": (os, "replace")}.get(at)
    if target is None:
        monkeypatch.setattr(changing, "mend_parent", die)
    else:
        monkeypatch.setattr(*target, die)
    with pytest.raises(Died):
        changing.compact(subject_of(path), 1, STAMP_S)
    assert path.read_bytes() == before
    for other in path.parent.iterdir():
        if other != path:
            assert PROVIDERS["claude"].classify(("p", other.name), list) is None


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_a_line_that_comes_meanwhile_is_not_lost(
    when: str, corpus: Path, quiet: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = quiet(next(corpus.rglob(f"{COMPACTED}.jsonl")))
    before = path.read_bytes()
    replace, link, beside = os.replace, os.link, replacing._write_beside

    def write() -> None:
        with path.open("ab") as file:
            file.write(b'{"late":1}\n')

    def late_link(*arguments: Any, **named: Any) -> None:
        link(*arguments, **named)
        write()

    def late_write(*arguments: Any) -> str:
        made = beside(*arguments)
        write()
        return made

    def late_replace(*arguments: Any) -> None:
        if not path.read_bytes().endswith(b'{"late":1}\n'):
            write()
        replace(*arguments)

    match when:
        case "before":
            monkeypatch.setattr(os, "link", late_link)
        case "between":
            monkeypatch.setattr(replacing, "_write_beside", late_write)
        case "after":
            monkeypatch.setattr(os, "replace", late_replace)
    if when == "before":  # what is kept is the file itself under another name, so nothing was read yet
        changing.compact(subject_of(path), 1, STAMP_S)
        assert path.read_bytes().endswith(b'{"late":1}\n')
        return
    with pytest.raises(UsageError, match="is being written"):
        changing.compact(subject_of(path), 1, STAMP_S)
    assert path.read_bytes() == before + b'{"late":1}\n'


def test_links_are_left_alone(corpus: Path, quiet: Callable[[Path], Path]) -> None:
    path = quiet(next(corpus.rglob(f"{COMPACTED}.jsonl")))
    link = path.with_name(f"{NEW}.jsonl")
    link.symlink_to(path)
    one = subject_of(link)
    with pytest.raises(UsageError, match="link"):
        changing.reset(one, STAMP_S)
    assert link.is_symlink()


HOSTILE = [
    b"",
    b"{",
    b"[]",
    b'"user"',
    b"\x00" * 9,
    b"\xff",
    b"[" * 10**5,
    b'{"type":"user","uuid":1,"message":[]}',
    b"nul",
]


@pytest.mark.parametrize("line", HOSTILE)
def test_lines_that_are_none(line: bytes) -> None:
    assert not is_beginning(line)
    assert fork_line(line, "a", "b") is None
    assert mend_parent(line, frozenset()) == line
    assert find_cut([line] * 5, 1) is None


def test_a_cut_does_not_part_a_call_from_its_result() -> None:
    def user(content: object, uuid: str) -> bytes:
        return json.dumps({"type": "user", "uuid": uuid, "message": {"content": content}}).encode()

    lines = [user("one", "a"), user("two", "b"), user([{"type": "tool_result"}], "c"), user([{"type": "text"}], "d")]
    assert find_cut(lines, 1) == (4, 1, 4)
    assert find_cut(lines, 2) == (2, 3, 4)
    assert find_cut(lines, 4) is None
    assert find_cut(lines, 99) is None


# ---- the same on a made-up conversation, where there is no corpus ----


def said(uuid: str, parent: str | None, content: object, kind: str = "user") -> bytes:
    fields = {"parentUuid": parent, "type": kind, "uuid": uuid, "sessionId": NEW, "message": {"content": content}}
    return json.dumps(fields).encode() + b"\n"


CALL = [{"type": "tool_use", "id": "t1"}]
RESULT = [{"type": "tool_result", "tool_use_id": "t1"}]
TALK = (
    said("a", None, "one"),
    said("b", "a", CALL, "assistant"),
    said("c", "b", "while it runs"),
    said("d", "c", RESULT),
    said("e", "d", "two"),
    said("f", "e", [{"type": "text", "text": "done"}], "assistant"),
)


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    path = tmp_path / f"{NEW}.jsonl"
    path.write_bytes(b"".join(TALK))
    os.utime(path, (STAMP_S - 10_000, STAMP_S - 10_000))
    return path


def test_what_a_cut_leaves_has_a_beginning(talk: Path) -> None:
    done = changing.compact(subject_of(talk), 1, STAMP_S)
    assert [line["uuid"] for line in objects(talk.read_bytes())] == ["e", "f"]
    assert [line["parentUuid"] for line in objects(talk.read_bytes())] == [None, "e"]
    assert Path(done.archive).read_bytes() == b"".join(TALK)


def test_a_result_that_comes_late_stays_with_its_call() -> None:
    lines = [line[:-1] for line in TALK]
    assert find_cut(lines, 2) == (5, 2, 6)
    assert find_cut(lines, 3) is None, "the user wrote while the tool ran"


def test_a_conversation_that_is_at_work_is_not_touched(talk: Path) -> None:
    for now_s in (STAMP_S - 10_000, STAMP_S - 10_000 + QUIET_S - 1, STAMP_S - 20_000):
        with pytest.raises(UsageError, match="may be at work"):
            changing.compact(subject_of(talk), 1, now_s)
    assert talk.read_bytes() == b"".join(TALK)


def test_a_line_that_comes_while_the_new_one_is_written_stays(talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = replacing._write_beside

    def late(*arguments: Any) -> str:
        made = beside(*arguments)
        with talk.open("ab") as file:
            file.write(b"late\n")
        return made

    monkeypatch.setattr(replacing, "_write_beside", late)
    monkeypatch.setattr(replacing, "_look", by_path(replacing._look))
    with pytest.raises(UsageError, match="is being written"):
        changing.compact(subject_of(talk), 1, STAMP_S)
    assert talk.read_bytes() == b"".join(TALK) + b"late\n"
    assert [one.name for one in talk.parent.iterdir() if one.name.startswith(".")] == []


def by_path(look: Callable[[str], os.stat_result]) -> Callable[[str], os.stat_result]:
    """The archive seems never to grow, as where it is a copy."""
    first: dict[str, os.stat_result] = {}

    def looked(path: str) -> os.stat_result:
        return first.setdefault(path, look(path)) if path.endswith("-old") else look(path)

    return looked
