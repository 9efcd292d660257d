"""What is told of live sessions: remembered first, complete once, replayed, and nothing that anybody waits for."""

import json
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.core.sessions.events import EventKind, Happening
from agent.core.sessions.runs import REPLAY_S, ChangeKind, Run, RunChange
from agent.core.transcripts.session import Observation, StreamId
from agent.delivery.base.heartbeats import Heartbeats
from agent.errors import DiskError, NotRunning, UsageError
from agent.providers import PROVIDERS
from agent.sessions.live import runs as runs_module
from agent.sessions.live.message_feed import HEARTBEAT_S, Followed, MessageFeed, Since
from agent.sessions.live.runs import LiveRuns
from agent.sessions.read.tailing import Place
from agent.system.files import reading as files
from agent.system.state.runs_file import RunsFile
from tests.fakes import FakeClock

ALL_THAT_COMES = Since()
RUN = Run("r1", "s", "claude", 1_000.0)


class Stage:
    """A room driven turn by turn, over any number of lives."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.file = RunsFile(folder / "runs.jsonl")
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
    def note(_changed: Sequence[Run], _known: Collection[Run]) -> None:
        raise DiskError("no room")

    stage.begin()
    feed = stage.follow()[1]
    monkeypatch.setattr(stage.file, "note", note)
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
    feeds = (stage.follow()[1], stage.room.follow_list(None, "")[1])
    stage.room.close()
    stage.room.run()
    for feed in feeds:
        with pytest.raises(OSError, match="made room"):
            feed.take(1)
    with pytest.raises(NotRunning):
        stage.follow()
    with pytest.raises(NotRunning):
        stage.room.follow_list(None, "")


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
    (tmp_path / "runs.jsonl").write_bytes(data)
    stage.boot()
    assert stage.room.found == ()
    stage.begin()
    assert [run.id for run in stage.file.read()] == ["r1"]
    assert (tmp_path / "runs.jsonl").stat().st_mode & 0o777 == 0o600


def test_who_was_on_an_earlier_run_when_the_agent_died_hears_of_its_end_once(stage: Stage) -> None:
    stage.begin()
    answer, _ = stage.follow()
    known = Since(answer["seq"], answer["epoch"], answer["run"]["id"])
    stage.complete()
    stage.change(ChangeKind.BEGAN, Run("r2", "s", "claude", stage.clock.now_s() + 1))
    stage.boot()
    answer, feed = stage.follow(known)
    assert answer["run"]["id"] == "r2"
    assert told(feed) == ["refresh", "complete"]
    assert told(stage.follow(Since(0))[1]) == [], "who asks for the run that is on"


class AnyDay(RuleBasedStateMachine):
    """A client as `sessions tail -f` is one: it comes back with what it knows, and reads what it missed in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.stage = Stage(Path(self.folder.name), FakeClock())
        self.written = 0
        self.runs = 0
        self.on: Run | None = None
        self.lines: list[str] = []
        self.offset = 0
        self.completed: list[str] = []
        self.told_runs: set[str] = set()
        self.known_runs: list[str] = []
        self.epoch, self.seq = "", 0
        self.feed: MessageFeed | None = None
        self.connect(is_back=False)

    def read_to(self, offset: int) -> None:
        data = self.stage.path.read_bytes()[self.offset : offset]
        self.lines += [json.loads(one)["message"]["content"] for one in data.splitlines()]
        self.offset = max(self.offset, offset)

    def connect(self, *, is_back: bool) -> None:
        since = Since(self.seq, self.epoch, next(iter(self.known_runs), "")) if is_back else Since()
        answer, self.feed = self.stage.room.follow(Followed("s", "claude", {"": Place(str(self.stage.path))}), since)
        if answer["refresh"] or not is_back:
            self.read_to(answer["offsets"][""])
            self.seq = answer["seq"]
        self.epoch = answer["epoch"]
        run = answer["run"]
        if run is not None and run["state"] == "running":
            self.know(run["id"])

    def know(self, run_id: str) -> None:
        if run_id not in self.known_runs:
            self.known_runs.append(run_id)
        self.told_runs.add(run_id)

    @rule(number=st.integers(1, 3), is_noticed=st.booleans())
    def write(self, number: int, is_noticed: bool) -> None:
        for _ in range(number):
            self.written += 1
            self.stage.write(f"{self.written}", is_noticed=is_noticed)

    @rule()
    def begin(self) -> None:
        if self.on is None:
            self.runs += 1
            self.on = Run(f"r{self.runs}", "s", "claude", self.stage.clock.now_s())
            self.stage.room.changed(RunChange(ChangeKind.BEGAN, self.on))

    @rule()
    def complete(self) -> None:
        if self.on is not None:
            done = msgspec.structs.replace(self.on, ended_at_s=self.stage.clock.now_s(), why="quiet")
            self.on = None
            self.stage.room.changed(RunChange(ChangeKind.COMPLETE, done))

    @rule(span_s=st.sampled_from([0.0, 1.0, 20.0]))
    def turn(self, span_s: float) -> None:
        self.stage.clock.advance(span_s)
        self.stage.turn()

    @rule(most=st.integers(1, 8))
    def take(self, most: int) -> None:
        assert self.feed is not None
        for one in self.feed.take(most):
            if one["kind"] in ("heartbeat", "refresh"):
                continue
            assert one["seq"] == self.seq + 1, "without a gap or a repeat"
            self.seq = one["seq"]
            if one["kind"] == "message":
                self.lines.append(one["event"]["text"])
                self.offset = one["offset"]
            elif one["kind"] == "run.began":
                self.know(one["run"])
            elif one["kind"] == "complete":
                self.completed.append(one["run"])
                self.known_runs = [run for run in self.known_runs if run != one["run"]]

    @rule()
    def reconnect(self) -> None:
        assert self.feed is not None
        self.feed.close()
        self.connect(is_back=True)

    @rule()
    def crash(self) -> None:
        """What the engine said and nobody had written down is lost: it says it again, or it never was."""
        room = self.stage.room
        lost = [one.run for one in room._news if isinstance(one, RunChange)]
        self.stage.boot()
        durable = {run.id: run for run in self.stage.room.found}
        self.on = next((run for run in durable.values() if not run.is_complete), None)
        assert self.on is None or self.on.id in {run.id for run in lost} | {*self.told_runs, *durable}
        self.connect(is_back=True)

    @invariant()
    def each_line_comes_once_and_in_order(self) -> None:
        assert self.lines == [f"{number}" for number in range(1, len(self.lines) + 1)]
        assert len(self.completed) == len(set(self.completed))

    def teardown(self) -> None:
        self.complete()
        for _ in range(self.written + 2 * self.runs + 4):
            self.turn(1.0)
            self.take(8)
        assert len(self.lines) == self.written
        assert set(self.completed) >= self.told_runs, "whoever heard of a run hears of its end"
        self.folder.cleanup()


AnyDay.TestCase.settings = hypothesis_settings(max_examples=50, stateful_step_count=30, deadline=None)
TestAnyDay = AnyDay.TestCase
