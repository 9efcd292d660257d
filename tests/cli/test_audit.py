"""`transcriptd audit`: reading the log of what happened."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.cli import audit, config
from agent.cli.audit import parse_since
from agent.cli.config import environment
from agent.core.delivery.audit import AuditKind
from agent.core.transcripts.session import StreamId
from agent.errors import UsageError
from agent.system.paths import Paths, default_paths
from agent.system.state.state_db import AuditRow, Changes, StateDb, open_state
from tests.cli.running import run

NOW_S = time.time()
MAIN = StreamId("6513270e-aaaa", "")
SIDE = StreamId("77777777-bbbb", "subagents/agent-1")
ROWS = [
    AuditRow(NOW_S - 20 * 86_400, "default", MAIN, AuditKind.UPLOADED, "3 entries", "/p/6513270e-aaaa.jsonl"),
    AuditRow(NOW_S - 7200, "default", SIDE, AuditKind.REFUSED, "the server answers 403", "/p/agent-1.jsonl"),
    AuditRow(NOW_S - 60, "default", MAIN, AuditKind.DELETED_ON_SERVER, "410", "/p/6513270e-aaaa.jsonl"),
]


def note(*rows: AuditRow) -> StateDb:
    db = open_state(default_paths(environment()).database, "aside")
    db.commit(Changes(audit=rows))
    return db


def kinds(*arguments: str) -> list[str]:
    return [one["kind"] for one in run("audit", "--json", *arguments).json()["entries"]]


def test_before_anything_ran_there_is_nothing_to_tell(home: Path) -> None:
    assert run("audit").out == "nothing in the audit log\n"
    assert run("audit", "--json").json() == {"schema": 1, "entries": [], "total": 0}
    assert run("audit", "--tsv").out.count("\n") == 1
    assert not (home / "td").exists(), "looking makes nothing"


def test_a_table_for_people(home: Path) -> None:
    note(*ROWS).close()
    done = run("audit")
    assert done.status == 0
    head, first, second, third = done.out.splitlines()
    assert head.split() == ["time", "session", "transcript", "what", "detail", "file"]
    assert first.startswith(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ROWS[0].at_s)))
    assert "6513270e  main" in first
    assert "agent-1" in second
    assert "refused" in second
    assert "the server answers 403" in second
    assert "/p/agent-1.jsonl" in second
    assert "deleted on server" in third


def test_destinations_are_named_where_there_are_several() -> None:
    note(ROWS[0], ROWS[1]._replace(destination="work")).close()
    head, first, second = run("audit").out.splitlines()
    assert "destination" in head
    assert "default" in first
    assert "work" in second


def test_json_has_all_there_is(home: Path) -> None:
    with closing(note(*ROWS)):  # as beside a daemon
        found = run("audit", "--json").json()
    assert (found["schema"], found["total"]) == (1, 3)
    assert found["entries"][1] == {
        "at_s": ROWS[1].at_s,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ROWS[1].at_s)),
        "destination": "default",
        "session": "77777777-bbbb",
        "subpath": "subagents/agent-1",
        "kind": "refused",
        "detail": "the server answers 403",
        "path": "/p/agent-1.jsonl",
    }


def test_tsv_is_a_line_a_row_whatever_a_file_is_called() -> None:
    odd = "/p/a\tb\nc\\d\x1b]0;owned\x07\u202e" + os.fsdecode(b"\xe9")
    note(ROWS[0]._replace(path=odd)).close()
    head, line = run("audit", "--tsv").out.splitlines()
    assert head.split("\t") == ["time", "destination", "session", "subpath", "kind", "detail", "path"]
    path = line.split("\t")[6]
    assert path == r"/p/a\tb\nc\\d\x1b]0;owned\x07\u202e\udce9"
    assert path.encode().decode("unicode_escape") == odd, "and back"


def test_a_table_obeys_nothing_and_shows_names_that_are_no_text() -> None:
    note(ROWS[0]._replace(path="\x1b]0;owned\x07[/red]\u202e" + os.fsdecode(b"\xe9"))).close()
    done = run("audit")
    assert done.status == 0
    assert not {"\x1b", "\x07", "\u202e"} & set(done.out)
    json.loads(run("audit", "--json").out)


def test_what_is_shown_can_be_chosen() -> None:
    note(*ROWS).close()
    assert kinds("--since", "7d") == ["refused", "deleted_on_server"]
    assert kinds("--since", "90m") == ["deleted_on_server"]
    assert kinds("--kind", "uploaded", "--kind", "refused") == ["uploaded", "refused"]
    assert kinds("6513") == ["uploaded", "deleted_on_server"]
    assert kinds("6513270e-aaaa", "777") == ["uploaded", "refused", "deleted_on_server"]
    assert kinds("nobody") == []
    assert kinds("--limit", "1") == ["deleted_on_server"], "the last"
    assert kinds("--kind", "uploaded", "--since", "1h", "6513") == []


def test_a_table_is_as_long_as_people_read() -> None:
    note(*[ROWS[0]] * 130).close()
    done = run("audit")
    assert done.out.count("uploaded") == 100
    assert done.out.splitlines()[-1] == "30 older rows: --limit 0"
    assert run("audit", "--limit", "0").out.count("uploaded") == 130
    assert run("audit", "--tsv").out.count("uploaded") == 130


@pytest.mark.parametrize(
    "arguments", [("--kind", "nonsense"), ("--since", "nonsense"), ("--since", ""), ("--limit", "-1")]
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    assert run("audit", *arguments).status == 2


@pytest.mark.parametrize("at_s", [-1e18, 1e18, -1.0])
def test_a_clock_that_was_far_off_stops_no_reading(at_s: float) -> None:
    note(ROWS[0]._replace(at_s=at_s)).close()
    assert "uploaded" in run("audit").out
    assert "uploaded" in run("audit", "--tsv").out
    assert kinds() == ["uploaded"]


def test_ages_and_dates_are_understood() -> None:
    assert parse_since("90s", 1000.0) == 910.0
    assert parse_since("2w", 2e6) == 2e6 - 1_209_600
    assert parse_since("2026-11-21T12:00:00+00:00", 0.0) == 1_795_262_400
    assert parse_since("2026-11-21", 0.0) == time.mktime((2026, 11, 21, 0, 0, 0, 0, 0, -1))
    for text in ("7", "d", "-7d", "7 d", "\u00b2d", "yesterday", "9999-99-99"):
        with pytest.raises(UsageError):
            parse_since(text, 1000.0)


def test_a_state_that_is_made_just_now_is_none_that_can_not_be_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = config.remembered

    @contextmanager
    def begun_behind_it(paths: Paths) -> Iterator[StateDb | None]:
        with real(paths) as store:
            note(*ROWS).close()
            yield store

    monkeypatch.setattr(audit, "remembered", begun_behind_it)
    assert kinds() == []


def test_a_state_that_can_not_be_read_is_an_error(home: Path) -> None:
    note(*ROWS).close()
    with closing(sqlite3.connect(default_paths(environment()).database)) as db:
        db.execute("pragma user_version = 99")
    done = run("audit")
    assert done.status == 1
    assert "state.db can't be read" in done.err
    assert "transcriptd status" in done.err
