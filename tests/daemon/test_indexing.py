"""The index is what its transcripts say, whichever way it came to know them."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.sessions.search_terms import Matcher, parse_terms
from agent.delivery.discovery.scanner import Root
from agent.delivery.inventory.survey import find_files
from agent.errors import DiskError
from agent.providers import PROVIDERS
from agent.sessions.index.index_upkeep import bring_up_to_date, clear_index, held_index
from agent.sessions.index.indexing import Indexer
from agent.sessions.search.searching import ROLES, Target, search, text_of_event
from agent.system.files import reading as files
from agent.system.files.reading import TranscriptFile
from agent.system.paths import Paths, paths_below
from agent.system.state.index_db import IndexDb, open_index, open_index_readonly
from tests.conftest import CORPUS

FOLDERS = {
    "claude": [str(one) for one in sorted(CORPUS.glob("claude/*/projects"))],
    "codex": [str(CORPUS / "codex" / "sessions")],
    "gemini": [str(CORPUS / "gemini" / "tmp")],
    "copilot": [str(CORPUS / "copilot" / "session-state")],
}


def roots(name: str) -> list[Root]:
    return [Root(PROVIDERS[name], folder) for folder in FOLDERS[name]]


def line(kind: str, text: str, number: int, **more: Any) -> bytes:
    message: dict[str, Any] = {"role": kind, "content": text if kind == "user" else [{"type": "text", "text": text}]}
    if kind == "assistant":
        usage = {"input_tokens": 3, "output_tokens": number % 7}
        message |= {"id": f"m{number // 2}", "model": "opus", "usage": usage}
    said = {
        "type": kind,
        "uuid": f"{number:08x}-0000-4000-8000-000000000000",
        "cwd": "/project/demo",
        "version": "2.1.0",
    }
    at = f"2026-01-02T03:{number // 60 % 60:02d}:{number % 60:02d}.000Z"
    return json.dumps({**said, "sessionId": "s", "timestamp": at, "message": message, **more}).encode() + b"\n"


def said(count: int, first: int = 0) -> bytes:
    return b"".join(line("assistant" if n % 3 else "user", f"word{n}", n) for n in range(first, first + count))


@pytest.fixture
def root(tmp_path: Path) -> Root:
    folder = tmp_path / "projects" / "p"
    folder.mkdir(parents=True)
    return Root(PROVIDERS["claude"], str(folder.parent))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[IndexDb]:
    with open_index(tmp_path / "index.db") as found:
        yield found


TABLES = ("streams", "sessions", "hours", "tools", "traces")


def dump(db: IndexDb) -> dict[str, list[dict[str, Any]]]:
    return {table: db.ask(f"select * from {table} order by 1, 2") for table in TABLES}  # noqa: S608 - words of above


def file_of(root: Root, name: str = "one") -> Path:
    return Path(root.path, "p", f"{name}.jsonl")


def anew(root: Root, place: Path) -> dict[str, list[dict[str, Any]]]:
    with open_index(place) as db:
        indexer = Indexer(db, [root])
        indexer.look_at_all()
        indexer.link()
        return dump(db)


# --- the corpus -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FOLDERS))
def test_every_file_of_the_corpus_is_indexed_and_found_by_a_word_of_it(name: str, db: IndexDb) -> None:
    indexer = Indexer(db, roots(name))
    indexer.look_at_all()
    assert indexer.failed == []
    found = find_files(roots(name)).files
    there = {one.stream: one for files in found.values() for one in files}
    assert db.known().keys() == there.keys()
    assert db.session_ids() == set(found)
    assert db.ask("select sum(messages) as number from sessions")[0]["number"] > 0
    chance = random.Random(1)
    for stream, one in there.items():
        if stream.subpath.startswith("files/"):
            continue
        reader, words = PROVIDERS[name].reader(stream), set[str]()
        for read in Path(one.path).read_bytes().splitlines()[:200]:
            events = [one for one in reader.read(read) if one.kind in ROLES]  # what agents note has words of ours
            words.update(w for event in events for w in text_of_event(event).split() if w.isalpha())
        if not words:
            continue
        word = chance.choice(sorted(words))
        hits = search(Matcher(parse_terms([word])), [Target(stream, name, one.path)], PROVIDERS, limit=1, each=1).hits
        assert [hit.stream for hit in hits] == [stream], word


def test_looking_twice_reads_nothing_and_force_reads_all(db: IndexDb) -> None:
    indexer = Indexer(db, roots("claude"))
    count = indexer.look_at_all()
    before = dump(db)
    assert (count, indexer.look_at_all()) == (244, 0)
    assert indexer.bytes_read == 0
    assert indexer.look_at_all(force=["claude"]) == count
    assert dump(db) == before


def test_forks_of_the_corpus_are_one_conversation(db: IndexDb) -> None:
    Indexer(db, roots("claude")).look_at_all()
    links = db.ask("select link, count(*) as number from sessions group by link order by link")
    assert {row["link"]: row["number"] for row in links}.keys() >= {"", "branch", "fork"}
    conversations = db.ask("select count(distinct root) as number from sessions")[0]["number"]
    assert 1 < conversations < len(db.session_ids())


# --- growing, rewritten, gone -----------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, 6000), max_size=6),
    forget=st.booleans(),
    rewrite=st.sampled_from(["no", "shorter", "longer", "same"]),
)
def test_step_by_step_gives_what_reading_at_once_gives(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], forget: bool, rewrite: str
) -> None:
    tmp_path = tmp_path_factory.mktemp("steps")
    folder = tmp_path / "projects" / "p"
    folder.mkdir(parents=True)
    root = Root(PROVIDERS["claude"], str(folder.parent))
    whole, path = said(20), file_of(root)
    with open_index(tmp_path / "steps.db") as db:
        indexer = Indexer(db, [root])
        for step, cut in enumerate([*sorted(cuts), len(whole)]):
            path.write_bytes(whole[:cut])
            os.utime(path, ns=(step, step))
            if forget:  # as a process does that ended meanwhile
                indexer = Indexer(db, [root])
            indexer.look_at_all()
        after = {"no": whole, "shorter": said(3, 50), "longer": said(30, 70), "same": whole.replace(b"word1", b"worde")}
        path.write_bytes(after[rewrite])
        os.utime(path, ns=(10**18, 10**18))
        indexer.look_at_all()
        indexer.link()
        assert dump(db) == anew(root, tmp_path / "anew.db")


def test_what_grew_is_read_on_and_not_again(root: Root, db: IndexDb) -> None:
    file_of(root).write_bytes(said(100))
    indexer = Indexer(db, [root])
    indexer.look_at_all()
    with file_of(root).open("ab") as file:
        file.write(more := said(2, 100))
    indexer.look_at_all()
    assert indexer.bytes_read == len(more)
    assert db.ask("select lines, messages from sessions") == [{"lines": 102, "messages": 102}]


def test_what_was_rewritten_is_read_from_its_beginning(root: Root, db: IndexDb) -> None:
    file_of(root).write_bytes(said(5))
    indexer = Indexer(db, [root])
    indexer.look_at_all()
    file_of(root).write_bytes(said(9, 50))
    indexer.look_at_all()
    assert db.ask("select lines, prompt from sessions") == [{"lines": 9, "prompt": "word51"}]


def test_a_torn_last_line_waits_for_its_end(root: Root, db: IndexDb) -> None:
    whole = said(3)
    file_of(root).write_bytes(whole[:-5])
    indexer = Indexer(db, [root])
    indexer.look_at_all()
    assert db.ask("select lines from sessions") == [{"lines": 2}]
    file_of(root).write_bytes(whole)
    indexer.look_at_all()
    assert db.ask("select lines from sessions") == [{"lines": 3}]


def test_what_is_gone_is_marked_and_what_comes_back_is_not(root: Root, db: IndexDb) -> None:
    file_of(root).write_bytes(data := said(3))
    indexer = Indexer(db, [root])
    indexer.look_at_all()
    file_of(root).unlink()
    indexer.look_at_all()
    assert db.ask("select gone, lines from sessions") == [{"gone": 1, "lines": 3}]
    file_of(root).write_bytes(data)
    indexer.look_at_all()
    assert db.ask("select gone, lines from sessions") == [{"gone": 0, "lines": 3}]


def test_a_second_file_with_the_same_id_does_not_take_the_first_ones_place(root: Root, db: IndexDb) -> None:
    file_of(root).write_bytes(said(3))
    indexer = Indexer(db, [root])
    indexer.look_at_all()
    other = Path(root.path, "q", "one.jsonl")
    other.parent.mkdir()
    other.write_bytes(said(9))
    for _ in range(3):
        indexer.look_at_all()
    assert db.ask("select lines from sessions") == [{"lines": 3}]
    file_of(root).unlink()
    indexer.look_at_all()
    assert db.ask("select lines, gone from sessions") == [{"lines": 9, "gone": 0}]


def test_a_title_that_comes_later_is_taken(root: Root, db: IndexDb) -> None:
    file_of(root).write_bytes(said(3))
    indexer = Indexer(db, [root])
    indexer.look_at_all()
    assert db.ask("select title, prompt, project from sessions")[0] == {
        "title": "",
        "prompt": "word0",
        "project": "/project/demo",
    }
    with file_of(root).open("ab") as file:
        file.write(b'{"type":"custom-title","customTitle":"named","sessionId":"one"}\n')
    indexer.look_at_all()
    assert db.ask("select title from sessions") == [{"title": "named"}]


# --- versions, interruptions, damage ----------------------------------------------------------------------------------


def test_another_version_of_a_reader_reads_its_agents_sessions_once_more(root: Root, db: IndexDb) -> None:
    file_of(root).write_bytes(said(3))
    assert Indexer(db, [root]).look_at_all() == 1
    assert Indexer(db, [root], versions={"codex": 2}).look_at_all() == 0
    assert Indexer(db, [root], versions={"claude": 2}).look_at_all() == 1
    assert Indexer(db, [root], versions={"claude": 2}).look_at_all() == 0
    assert db.ask("select provider, reader from imports") == [{"provider": "claude", "reader": 2}]


def test_what_is_interrupted_goes_on_where_it_stopped(root: Root, db: IndexDb) -> None:
    for number in range(200):
        file_of(root, f"s{number:03d}").write_bytes(said(2))
    left = [130]

    def is_to_end() -> bool:
        left[0] -= 1
        return left[0] < 0

    Indexer(db, [root], is_to_end=is_to_end).look_at_all()
    assert len(db.session_ids()) == 130
    assert db.ask("select * from imports") == []
    assert Indexer(db, [root]).look_at_all() == 70
    assert len(db.session_ids()) == 200


class Killed(BaseException):
    """In the place of a signal that nobody can catch."""


def test_a_process_that_is_killed_loses_one_batch_at_most(root: Root, db: IndexDb) -> None:
    for number in range(200):
        file_of(root, f"s{number:03d}").write_bytes(said(2))

    def kill(done: int, total: int) -> None:
        if done > total * 3 // 4:
            raise Killed

    with pytest.raises(Killed):
        Indexer(db, [root]).look_at_all(kill)
    assert 80 <= len(db.session_ids()) <= 150
    Indexer(db, [root]).look_at_all()
    assert len(db.session_ids()) == 200


def test_one_transcript_that_can_not_be_read_costs_only_itself(
    root: Root, db: IndexDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("good", "bad"):
        file_of(root, name).write_bytes(said(2))
    bad, opened = str(file_of(root, "bad")), files.open_file

    def open_file(path: str) -> TranscriptFile:
        if path == bad:
            raise DiskError(f"{path} can't be read: input/output error")
        return opened(path)

    monkeypatch.setattr(files, "open_file", open_file)
    indexer = Indexer(db, [root])
    indexer.look_at_all()
    assert [(Path(one.path).name, "can't be read" in one.why) for one in indexer.failed] == [("bad.jsonl", True)]
    assert db.session_ids() == {"good"}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return paths_below(tmp_path / "td")


def test_a_damaged_index_is_made_anew_and_nobody_fails(root: Root, paths: Paths) -> None:
    file_of(root).write_bytes(said(3))
    assert bring_up_to_date(paths, [root]) is not None
    for garbage in (b"", b"garbage" * 1000, paths.index.read_bytes()[:5000]):
        paths.index.write_bytes(garbage)
        for ending in ("-wal", "-shm"):
            Path(f"{paths.index}{ending}").unlink(missing_ok=True)
        assert bring_up_to_date(paths, [root]) is not None
        index = open_index_readonly(paths.index)
        assert index is not None
        with index:
            assert index.session_ids() == {"one"}


def test_two_do_not_write_at_once_and_nothing_is_removed_under_somebody(root: Root, paths: Paths) -> None:
    with held_index(paths) as first:
        assert first is not None
        assert bring_up_to_date(paths, [root]) is None
        assert not clear_index(paths)
    assert clear_index(paths)
    assert not paths.index.exists()


# --- hostile transcripts ----------------------------------------------------------------------------------------------

TIMES: list[Any] = ["9999-12-31T23:59:59Z", "-1", 10**400, "0001-01-01T00:00:00Z", [], None]

HOSTILE: dict[str, Callable[[], bytes]] = {
    "depth": lambda: b'{"type":"user","message":{"role":"user","content":' + b"[" * 10**6 + b"]" * 10**6 + b"}}\n",
    "endless line": lambda: b'{"type":"user","message":{"role":"user","content":"' + b"x" * (40 << 20) + b'"}}\n',
    "no json": lambda: b"\x00\xff\xfe\n" * 1000,
    "escapes": lambda: line("user", "\x1b]0;owned\x07\x00\u202e", 1, cwd="/\x1b[31m/../\x00", customTitle="\x1b[2J"),
    "times": lambda: b"".join(line("user", "x", n, timestamp=at) for n, at in enumerate(TIMES)),
    "numbers": lambda: line(
        "assistant", "x", 1, message={"role": "assistant", "id": "m", "usage": {"input_tokens": 2**70}}
    ),
    "names": lambda: b"".join(line("assistant", "x", n, message={"model": f"\t{n}" * 99}) for n in range(999)),
}


@pytest.mark.parametrize("what", list(HOSTILE))
def test_a_hostile_transcript_is_indexed_and_costs_nobody_else(what: str, root: Root, db: IndexDb) -> None:
    file_of(root, "bad").write_bytes(HOSTILE[what]() + said(1, 5))
    file_of(root, "good").write_bytes(said(3))
    indexer = Indexer(db, [root])
    indexer.look_at_all()
    indexer.link()
    assert indexer.failed == []
    assert db.session_ids() == {"bad", "good"}
    assert db.ask("select messages from sessions where session_id = 'good'") == [{"messages": 3}]
    assert db.ask("select messages >= 1 as some from sessions where session_id = 'bad'") == [{"some": 1}]
