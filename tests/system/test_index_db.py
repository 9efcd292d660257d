"""The index as a file: disposable, private, made anew whenever it can't be used."""

import sqlite3
from array import array
from pathlib import Path

import pytest

from agent.core.sessions.lineage import Link, LinkKind, Sample, Trace
from agent.core.sessions.session_queries import (
    GROUPS,
    LIVES,
    SORTS,
    Wanted,
    count_query,
    life_of,
    list_query,
    stats_query,
    tools_query,
)
from agent.core.sessions.summary import Calls, Spent, Summary
from agent.core.transcripts.session import Facts, StreamId
from agent.system.state.index_db import (
    USER_VERSION,
    IndexDb,
    Indexed,
    Known,
    open_index,
    open_index_readonly,
    remove_index,
)

NOW_S = 2_000_000.0


def indexed(session: str, subpath: str = "", *, hours_ago: float = 5.0, model: str = "m", **more: object) -> Indexed:
    mtime_ns = int((NOW_S - 3600 * hours_ago) * 1e9)
    known = Known(f"/p/{session}", 100, mtime_ns, 2**64 - 1, 90, b"mark", 1, gone=False)
    summary = Summary(lines=3, model=model, models={model: 1}, kinds={"user.message": 1, "assistant.message": 1})
    summary.hours[f"{int(NOW_S // 3600 - hours_ago)}\t{model}"] = Spent(1, 2, 3, 4, 0.0, 2, 1)
    summary.tools["shell\tBash"] = Calls(1, 0)
    facts = Facts(f"/project/{session}", f"title of {session}", "")
    trace = None if subpath else Trace(session, "claude", 1.0, Sample(array("Q", [1, 2**63]), array("Q", [1, 2])), 2)
    return Indexed(StreamId(session, subpath), "claude", known, summary, facts, trace)._replace(**more)  # type: ignore[arg-type]


@pytest.fixture
def db(tmp_path: Path) -> IndexDb:
    found = open_index(tmp_path / "index.db")
    found.write([indexed("a"), indexed("a", "subagents/x"), indexed("b", hours_ago=0.0, model="other"), indexed("c")])
    return found


def names(db: IndexDb, wanted: Wanted, sort: str = "changed", limit: int = 0, *, flat: bool = True) -> list[str]:
    return [row["session_id"] for row in db.ask(*list_query(wanted._replace(now_s=NOW_S), sort, limit, flat=flat))]


def test_a_session_is_summed_up_from_its_streams(db: IndexDb) -> None:
    row = db.ask("select * from sessions where session_id = 'a'")[0]
    assert (row["streams"], row["lines"], row["bytes"], row["messages"], row["tokens"]) == (2, 6, 200, 4, 20)
    assert (row["project"], row["title"], row["cost_usd"], row["root"]) == ("/project/a", "title of a", None, "a")
    db.write([indexed("a")])
    assert db.ask("select * from sessions where session_id = 'a'")[0] == row, "said twice is said once"
    assert db.known_of(StreamId("a", "")) == indexed("a").known._replace(inode=(2**64 - 1) % 2**63)


def test_each_filter_narrows_and_each_sort_sorts(db: IndexDb) -> None:
    assert names(db, Wanted()) == ["b", "a", "c"]
    assert names(db, Wanted(project="PROJECT/A")) == names(db, Wanted(project="*/a")) == ["a"]
    assert names(db, Wanted(model="OTH")) == ["b"]
    assert names(db, Wanted(provider="codex")) == []
    assert names(db, Wanted(since_s=NOW_S - 60)) == ["b"]
    assert names(db, Wanted(among=["a", "x"])) == ["a"]
    assert names(db, Wanted(without=["a"])) == ["b", "c"]
    assert names(db, Wanted(life="live")) == ["b"]
    assert names(db, Wanted(life="quiet")) == ["a", "c"]
    assert names(db, Wanted(), limit=1) == ["b"]
    assert names(db, Wanted(), "title") == ["a", "b", "c"]
    assert names(db, Wanted(), "tokens")[0] == "a"
    for sort in SORTS:
        for flat in (True, False):
            assert sorted(names(db, Wanted(), sort, flat=flat)) == ["a", "b", "c"]


def test_what_is_live_is_so_for_the_query_and_for_the_row(db: IndexDb) -> None:
    db.set_gone([StreamId("c", "")])
    for life in LIVES:
        rows = db.ask(*list_query(Wanted(life=life, now_s=NOW_S), "changed", 0, flat=True))
        assert all(life_of(row, NOW_S) == life for row in rows)
    assert names(db, Wanted(life="gone")) == ["c"]
    db.set_gone([StreamId("c", "")], gone=False)
    assert names(db, Wanted(life="gone")) == []


def test_one_conversation_is_one_row_and_nothing_is_dropped(db: IndexDb) -> None:
    db.set_links({"b": Link(LinkKind.FORK, "a", 7)}, {"a": "a", "b": "a", "c": "c"})
    rows = db.ask(*list_query(Wanted(now_s=NOW_S), "changed", 0, flat=False))
    assert [(row["session_id"], row["members"]) for row in rows] == [("b", 2), ("c", 1)]
    assert db.ask(*count_query(Wanted(), flat=False)) == [{"total": 2}]
    assert db.ask(*count_query(Wanted(), flat=True)) == [{"total": 3}]
    db.write([indexed("b")])
    row = db.ask("select root, parent, link, shared from sessions where session_id = 'b'")[0]
    assert row == {"root": "a", "parent": "a", "link": "fork", "shared": 7}, "kept when the session grows"
    assert sorted(one.session_id for one in db.traces()) == ["a", "b", "c"]
    assert next(iter(db.traces())).sample.hashes == array("Q", [1, 2**63])


def test_sums_are_the_same_whatever_they_are_summed_by(db: IndexDb) -> None:
    for group in GROUPS:
        rows = db.ask(*stats_query(Wanted(), group))
        assert (sum(one["input"] for one in rows), sum(one["calls"] for one in rows)) == (4, 4), group
    assert {one["name"] for one in db.ask(*stats_query(Wanted(), "model"))} == {"m", "other"}
    assert [one["sessions"] for one in db.ask(*stats_query(Wanted(since_s=NOW_S - 60), "provider"))] == [1]
    assert db.ask(*tools_query(Wanted())) == [{"kind": "shell", "tool": "Bash", "calls": 4, "errors": 0, "sessions": 3}]


def test_what_is_forgotten_is_nowhere(db: IndexDb, tmp_path: Path) -> None:
    db.forget(["a", "b"])
    for table in ("streams", "sessions", "hours", "tools", "traces"):
        assert {row["session_id"] for row in db.ask(f"select session_id from {table}")} == {"c"}  # noqa: S608
    db.close()
    remove_index(tmp_path / "index.db")
    assert list(tmp_path.iterdir()) == []
    assert open_index_readonly(tmp_path / "index.db") is None


@pytest.mark.parametrize("damage", ["nothing", "text", "cut", "version", "tables", "page"])
def test_what_can_not_be_used_is_made_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "index.db"
    with open_index(path) as made:
        made.write([indexed(f"s{number}") for number in range(50)])
    data = path.read_bytes()
    match damage:
        case "nothing":
            path.write_bytes(b"")
        case "text":
            path.write_bytes(b"no database" * 1000)
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "page":
            path.write_bytes(data[:8192] + b"\xff" * 4096 + data[12288:])
        case "version" | "tables":
            other = sqlite3.connect(path)
            if damage == "version":
                other.execute(f"pragma user_version = {USER_VERSION + 1}")
            else:
                other.execute("drop table sessions")
            other.close()
    if damage in ("text", "version", "tables", "nothing"):
        assert open_index_readonly(path) is None
    with open_index(path) as again:
        again.write([indexed("new")])
        assert "new" in again.session_ids()
    reader = open_index_readonly(path)
    assert reader is not None, "readers take it for this version's"
    reader.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_only_its_owner_reads_it_and_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    path.touch(0o644)
    with open_index(path) as db:
        assert path.stat().st_mode & 0o777 == 0o600
        db.write([indexed("a")])
        reader = open_index_readonly(path)
        assert reader is not None
        with reader, db._transaction() as under_way:
            under_way.execute("delete from sessions")
            assert reader.session_ids() == {"a"}
            under_way.execute("rollback")
            under_way.execute("begin")
