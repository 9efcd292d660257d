"""What is told of live sessions: remembered first, complete once, replayed, and nothing that anybody waits for."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.core.events import EventKind, Happening
from agent.core.runs import REPLAY_S, ChangeKind, Run, RunChange
from agent.core.session import Observation, StreamId
from agent.daemon import runs as runs_module
from agent.daemon.heartbeats import Heartbeats
from agent.daemon.message_feed import HEARTBEAT_S, MessageFeed
from agent.daemon.runs import Followed, LiveRuns, Since
from agent.daemon.tailing import Place
from agent.errors import DiskError, UsageError
from agent.providers import PROVIDERS
from agent.system import files
from agent.system.runs_file import RunsFile
from tests.fakes import FakeClock

ALL_THAT_COMES = Since()
RUN = Run("r1", "s", "claude", 1_000.0)


class Stage:
    """A room driven turn by turn, over any number of lives."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.file = RunsFile(folder / "runs.json")
        self.path = folder / "s.jsonl"
        self.path.write_bytes(b"")
        self.over: list[str] = []
        self.boot()

    def boot(self) -> None:
        self.room = LiveRuns(
            self.file,
            PROVIDERS,
            files,
            Heartbeats(self.clock.monotonic_s),
            now_s=self.clock.now_s,
            monotonic_s=self.clock.monotonic_s,
            say_over=lambda session, _: self.over.append(session),
        )

    def turn(self) -> None:
        room = self.room
        news, room._news = room._news, type(room._news)()
        dirty, room._dirty = room._dirty, {}
        room.do(news, dirty)

    def write(self, words: str, *, is_noticed: bool = True) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"type": "user", "message": {"content": words}}) + "\n")
        if is_noticed:
            self.seen()

    def seen(self, provider: str = "claude", subpath: str = "") -> None:
        self.room.seen([Observation(StreamId("s", subpath), provider, str(self.path), 0, 0, 0, 0)])

    def change(self, kind: ChangeKind, run: Run = RUN, before: str = "") -> None:
        self.room.changed(RunChange(kind, run, before))
        self.turn()

    def begin(self) -> None:
        self.change(ChangeKind.BEGAN, Run("r1", "s", "claude", self.clock.now_s()))

    def complete(self) -> None:
        self.change(ChangeKind.COMPLETE, Run("r1", "s", "claude", 1_000.0, ended_at_s=self.clock.now_s(), why="quiet"))

    def follow(self, since: Since = ALL_THAT_COMES, session: str = "s") -> tuple[dict[str, Any], MessageFeed]:
        found = self.room.follow(Followed(session, "claude", {"": Place(str(self.path))}), since)
        self.turn()
        return found


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, FakeClock())


def told(feed: MessageFeed) -> list[Any]:
    found: list[Any] = []
    while part := feed.take(3):
        found += part
    return [one["event"]["text"] if one["kind"] == "message" else one["kind"] for one in found]


def test_a_subscriber_hears_the_lines_and_one_end(stage: Stage) -> None:
    stage.begin()
    answer, feed = stage.follow()
    assert (answer["run"]["id"], answer["run"]["state"], answer["seq"]) == ("r1", "running", 0)
    for words in ("one", "two"):
        stage.write(words)
        stage.turn()
    assert told(feed) == ["one", "two"]
    stage.write("last", is_noticed=False)
    stage.complete()
    assert told(feed) == ["last", "complete"], "its last lines stand before its end, also when their notice got lost"
    stage.turn()
    assert told(feed) == []


def test_an_end_is_on_disk_before_anybody_hears_of_it(stage: Stage) -> None:
    stage.begin()
    feed = stage.follow()[1]
    heard: list[bool] = []
    feed.listen(lambda: heard.append(stage.file.read()[0].is_complete))
    stage.complete()
    assert heard == [True]


def test_a_disk_that_takes_nothing_keeps_nobody_from_hearing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: Sequence[Run]) -> None:
        raise DiskError("no room")

    stage.begin()
    feed = stage.follow()[1]
    monkeypatch.setattr(stage.file, "write", write)
    stage.complete()
    assert told(feed) == ["complete"]
    assert stage.room.trouble == "no room"


def test_who_comes_back_gets_what_was_missed_without_gap_or_repeat(stage: Stage) -> None:
    stage.begin()
    answer, feed = stage.follow()
    for number in range(4):
        stage.write(f"{number}")
    stage.turn()
    first = list(feed.take(2))
    feed.close()
    stage.write("4")
    stage.complete()
    answer, again = stage.follow(Since(first[-1]["seq"], answer["epoch"]))
    assert not answer["refresh"]
    assert told(again) == ["2", "3", "4", "complete"]


@pytest.mark.parametrize("since", [Since(3, "another epoch"), Since(99)])
def test_who_knows_another_life_is_told_to_refresh(stage: Stage, since: Since) -> None:
    stage.begin()
    stage.follow()
    stage.write("one")
    stage.turn()
    answer, feed = stage.follow(since)
    assert answer["refresh"]
    stage.write("two")
    stage.turn()
    assert told(feed) == ["refresh", "two"]


def test_a_run_that_is_on_is_told_from_its_beginning_to_who_asks_for_all(stage: Stage) -> None:
    stage.write("before")
    size = stage.path.stat().st_size
    stage.change(ChangeKind.BEGAN, Run("r1", "s", "claude", stage.clock.now_s(), start_bytes=size))
    stage.write("of the run")
    assert told(stage.follow(Since(0))[1]) == ["of the run"]


def test_a_finished_run_can_be_replayed_for_five_minutes(stage: Stage) -> None:
    stage.begin()
    stage.write("one")
    stage.complete()
    answer, feed = stage.follow(Since(0))
    assert answer["run"]["state"] == "complete"
    assert told(feed) == ["one", "complete"]
    assert told(stage.follow(Since(0))[1]) == ["one", "complete"]
    assert told(stage.follow()[1]) == [], "who does not ask for it only hears what comes"
    stage.clock.advance(REPLAY_S + 1)
    assert stage.room.list_runs() == []
    answer, _ = stage.follow()
    assert answer["run"] is None


def test_after_a_crash_the_end_comes_once_to_who_believes_that_it_is_on(stage: Stage) -> None:
    stage.begin()
    answer, _ = stage.follow()
    stage.boot()
    assert [run.id for run in stage.room.found] == ["r1"]
    back, feed = stage.follow(Since(0, answer["epoch"], run="r1"))
    assert (back["refresh"], back["run"]["state"]) == (True, "running")
    stage.complete()
    assert told(feed) == ["refresh", "complete"]
    stage.boot()
    answer, feed = stage.follow(Since(0, answer["epoch"], run="r1"))
    assert told(feed) == ["refresh", "complete"], "it crashed before this one heard of it"
    assert told(stage.follow(Since(0, "old"))[1]) == ["refresh"], "who has heard of it does not name it"


def test_a_long_silence_has_heartbeats_while_the_run_is_on(stage: Stage) -> None:
    stage.begin()
    feed = stage.follow()[1]
    stage.clock.advance(1)
    stage.turn()
    stage.clock.advance(HEARTBEAT_S)
    stage.turn()
    ((beat),) = feed.take(10)
    assert (beat["kind"], beat["run"], beat["seq"]) == ("heartbeat", "r1", 0)
    stage.turn()
    assert told(feed) == []
    stage.complete()
    assert told(feed) == ["complete"]
    for _ in range(10):
        stage.clock.advance(HEARTBEAT_S)
        stage.turn()
    assert told(feed) == []


def test_a_renamed_session_is_followed_on(stage: Stage) -> None:
    stage.begin()
    feed = stage.follow()[1]
    stage.change(ChangeKind.RENAMED, Run("r1", "t", "claude", 1_000.0), before="s")
    stage.change(ChangeKind.COMPLETE, Run("r1", "t", "claude", 1_000.0, ended_at_s=stage.clock.now_s(), why="hook"))
    assert told(feed) == ["run.renamed", "complete"]


def test_who_is_slower_than_what_is_kept_is_told_to_refresh(stage: Stage) -> None:
    stage.begin()
    feed = stage.follow()[1]
    with stage.path.open("a") as file:
        file.write((json.dumps({"type": "user", "message": {"content": "w"}}) + "\n") * 1_800)
    stage.seen()
    stage.turn()
    assert told(feed) == ["refresh"]
    stage.write("after")
    stage.turn()
    assert told(feed) == ["after"]


def test_nothing_is_read_or_kept_of_sessions_that_nobody_follows(stage: Stage) -> None:
    stage.begin()
    stage.write("one")
    assert not stage.room._dirty
    assert not stage.room._tails
    answer, feed = stage.follow()
    assert answer["offsets"] == {"": stage.path.stat().st_size}
    feed.close()
    stage.complete()
    stage.clock.advance(REPLAY_S + 1)
    stage.turn()
    assert not stage.room._tails
    stage.write("two")
    assert not stage.room._dirty


def test_there_are_as_many_as_may_be(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "MOST_TAILS", 2)
    feeds = [stage.follow(session=name)[1] for name in ("s", "t")]
    with pytest.raises(UsageError, match="2 sessions are followed already"):
        stage.follow(session="u")
    feeds[0].close()
    stage.turn()
    stage.follow(session="u")


def test_a_line_that_ends_a_session_is_heard_though_nobody_follows(stage: Stage) -> None:
    stage.change(ChangeKind.BEGAN, Run("r1", "s", "copilot", stage.clock.now_s()))
    for kind in ("session.start", "session.shutdown"):
        with stage.path.open("a") as file:
            file.write(f'{{"type":"{kind}","data":{{}}}}\n')
        stage.seen("copilot")
        stage.turn()
        assert stage.over == (["s"] if kind == "session.shutdown" else [])
    with stage.path.open("a") as file:
        file.write('{"type":"session.resume"}\n')
    stage.seen("copilot")
    stage.turn()
    assert stage.over == ["s"], "it goes on"


def test_subagents_are_followed_where_somebody_wants_them(stage: Stage, tmp_path: Path) -> None:
    stage.begin()
    plain = stage.follow()[1]
    wanted = stage.room.follow(Followed("s", "claude", {"": Place(str(stage.path))}, subagents=True), Since())[1]
    agent = tmp_path / "agent.jsonl"
    agent.write_text('{"type":"user","isSidechain":true,"message":{"content":"below"}}\n')
    stage.room.seen([Observation(StreamId("s", "subagents/agent-a"), "claude", str(agent), 0, 0, 0, 0)])
    stage.turn()
    assert (told(plain), told(wanted)) == ([], ["below"])
    stage.room.seen([Observation(StreamId("s", "files/x.txt"), "claude", str(agent), 0, 0, 0, 0)])
    assert not stage.room._dirty


def test_subscribers_are_let_go_when_the_daemon_makes_room(stage: Stage) -> None:
    feed = stage.follow()[1]
    stage.room.close()
    stage.room.run()
    with pytest.raises(OSError, match="made room"):
        feed.take(1)


def test_changes_of_the_list_are_told_with_titles_to_who_asks(stage: Stage) -> None:
    assert not stage.room.wants_list
    answer, feed = stage.room.follow_list(None, "")
    assert (answer["seq"], answer["refresh"], stage.room.wants_list) == (0, False, True)
    stage.room.happened(Happening(EventKind.SESSION_CHANGED, 5.0, session_id="s", bytes=7), "a title")
    stage.begin()
    stage.complete()
    found = list(feed.take(10))
    assert [(one["seq"], one["kind"], one.get("title", one.get("state"))) for one in found] == [
        (1, "session.changed", "a title"),
        (2, "run.began", "running"),
        (3, "run.complete", "complete"),
    ]


@pytest.mark.parametrize("data", [b"", b"{", b"[[", b'[{"id":7}]', b"[" * 100_000, b"\xff"])
def test_a_damaged_file_of_runs_is_none(stage: Stage, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "runs.json").write_bytes(data)
    stage.boot()
    assert stage.room.found == ()
    stage.begin()
    assert [run.id for run in stage.file.read()] == ["r1"]
    assert (tmp_path / "runs.json").stat().st_mode & 0o777 == 0o600
