"""Several files of one session: what they hold decides which is followed, and every line of each is on the server."""

import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent.core.delivery.lifecycle import State
from agent.core.transcripts.session import Observation, StreamId
from agent.core.transcripts.sources import DECISIONS, Decision, Relation, Standing, copy_subpath, origin_of
from agent.daemon.status.report import list_streams
from agent.delivery.discovery.scanner import Root
from agent.delivery.inventory.survey import find_streams
from agent.delivery.push.comparing import choose_files, compare
from agent.delivery.state.tasks import Against, CompareTask
from agent.providers import PROVIDERS
from agent.system.files import reading as real_files
from tests.daemon.test_agents import Machine, encode, gemini_lines
from tests.daemon.test_delivery import Lines, Make, stored
from tests.daemon.test_engine import status_of
from tests.fakes import AsgiServer, FakeRules, ScriptedServer, no_answer
from tests.simulation.world import SimulatedAgent, entry

ELSEWHERE = "q"


def beside(agent: SimulatedAgent, session: str = "s", folder: str = ELSEWHERE) -> Path:
    path = agent.root / folder / f"{session}.jsonl"
    path.parent.mkdir(exist_ok=True)
    return path


def copy_of(path: Path) -> str:
    return copy_subpath("", str(path))


def streams(server: AsgiServer, agent: SimulatedAgent, session: str = "s") -> dict[str, bytes]:
    """What the server holds of the session, by subpath."""
    subpaths = {key.subpath for key in agent.engine.tracks if key.session_id == session}
    return {one: data for one in subpaths if (data := stored(server, session, one))}


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


# --- the table ------------------------------------------------------------------------------------------------------


def test_every_relation_has_a_decision_wherever_it_is_found() -> None:
    assert set(DECISIONS) == set(Relation)
    assert all(set(row) == set(Standing) for row in DECISIONS.values())


def test_no_file_that_lacks_what_was_sent_takes_the_place_of_the_one_that_has_it() -> None:
    takes = {
        relation for relation, row in DECISIONS.items() if row[Standing.FOLLOWED] in (Decision.FOLLOW, Decision.SWAP)
    }
    assert takes == {Relation.CONTINUES}


@pytest.mark.parametrize("subpath", ["", "subagents/agent-1", "agent-1", "files/tool-results/x.txt"])
def test_a_copys_subpath_tells_what_it_is_a_copy_of(subpath: str) -> None:
    copy = copy_subpath(subpath, "/somewhere/s.jsonl")
    assert copy != subpath
    assert copy.startswith("files/") == subpath.startswith("files/")
    assert (origin_of(copy), origin_of(subpath)) == (subpath, subpath)
    assert copy != copy_subpath(subpath, "/elsewhere/s.jsonl")


# --- the look at both -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "relation"),
    [
        (b"a\nb\n", b"a\nb\n", Relation.EQUAL),
        (b"a\n", b"a\nb\n", Relation.BEGINNING),
        (b"", b"a\n", Relation.BEGINNING),
        (b"a\nb\n", b"a\n", Relation.CONTINUES),
        (b"a\nb\n", b"", Relation.CONTINUES),
        (b"a\nb\n", b"a\nc\n", Relation.DIVERGED),
        (b"x" * (3 << 20) + b"a\n", b"x" * (3 << 20) + b"b\n", Relation.DIVERGED),
        (b"x" * (3 << 20) + b"a\n", b"x" * (3 << 20), Relation.CONTINUES),
    ],
)
def test_two_files_are_compared_by_what_they_hold(
    tmp_path: Path, first: bytes, second: bytes, relation: Relation
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(first)
    other.write_bytes(second)
    stream = StreamId("s", "")
    task = CompareTask(stream, str(one), (Against(stream, str(other)),))
    assert compare(real_files, task).relation is relation


def test_one_file_under_two_names_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    one = tmp_path / "a" / "one"
    one.write_bytes(b"a\n")
    os.link(one, tmp_path / "linked")
    stream = StreamId("s", "")
    task = CompareTask(stream, str(tmp_path / "linked"), (Against(stream, str(one)),))
    assert compare(real_files, task).relation is Relation.SAME


# --- which is followed ------------------------------------------------------------------------------------------------


def test_a_copy_that_went_on_elsewhere_is_followed(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(2))
    agent.settle()
    worktree = beside(agent)
    shutil.copy(agent.path("s"), worktree)
    append(worktree, lines(2))
    agent.settle()
    assert streams(receiver, agent) == {"": worktree.read_bytes()}
    append(worktree, lines(1))
    agent.look(live=True)
    agent.settle()
    assert streams(receiver, agent) == {"": worktree.read_bytes()}
    assert (status_of(agent).problems, status_of(agent).synced) == ([], True)
    # Claude Code's clean-up removes one of them: nothing of the session is lost, whichever it is.
    agent.path("s").unlink()
    append(worktree, lines(1))
    agent.settle()
    assert streams(receiver, agent) == {"": worktree.read_bytes()}


@pytest.mark.parametrize("gone", ["the first", "the second"])
def test_files_that_went_different_ways_are_both_on_the_server(
    make_agent: Make, lines: Lines, receiver: AsgiServer, gone: str
) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(3))
    agent.settle()
    other = beside(agent)
    shutil.copy(agent.path("s"), other)
    append(other, lines(2))
    append(agent.path("s"), lines(1))
    agent.settle()
    for _ in range(2):
        expected = {"": agent.path("s").read_bytes(), copy_of(other): other.read_bytes()}
        assert streams(receiver, agent) == expected
        assert (status_of(agent).problems, status_of(agent).synced) == ([], True)
        append(agent.path("s"), lines(1))
        append(other, lines(1))
        agent.settle()
        agent.crash()
        agent.settle()
    expected = {"": agent.path("s").read_bytes(), copy_of(other): other.read_bytes()}
    lost, left, subpath = (
        (agent.path("s"), other, copy_of(other)) if gone == "the first" else (other, agent.path("s"), "")
    )
    lost.unlink()
    agent.settle()
    append(left, lines(1))
    agent.settle()
    assert streams(receiver, agent) == expected | {subpath: left.read_bytes()}


def test_a_stub_that_was_found_first_gives_its_place_to_the_real_file(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """As Gemini CLI's resume makes one: another beginning, and two lines."""
    agent = make_agent(receiver)
    stub, real = beside(agent, folder="a"), beside(agent, folder="z")
    stub.write_bytes(lines(2))
    real.write_bytes(lines(27))
    agent.scanner.look(str(stub))
    agent.settle()
    assert sorted(streams(receiver, agent).values(), key=len) == [stub.read_bytes(), real.read_bytes()]
    assert agent.track("s").path == str(real), "nothing was sent before both were known"
    real.unlink()
    agent.settle()
    assert agent.state("s") is State.GONE, "what lacks what was sent does not take its place"
    assert len(stored(receiver, "s").splitlines()) == 27


def test_a_beginning_takes_no_place_when_the_longer_file_goes(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(5))
    agent.settle()
    short = beside(agent)
    short.write_bytes(b"".join(agent.path("s").read_bytes().splitlines(keepends=True)[:2]))
    agent.settle()
    sent = agent.path("s").read_bytes()
    agent.path("s").unlink()
    agent.settle()
    assert streams(receiver, agent) == {"": sent}
    append(short, lines(1))  # it goes another way now
    agent.settle()
    assert streams(receiver, agent) == {"": sent, copy_of(short): short.read_bytes()}


def test_a_file_that_was_cut_gives_its_place_to_the_one_that_has_what_was_sent(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(5))
    agent.settle()
    other = beside(agent)
    shutil.copy(agent.path("s"), other)
    agent.settle()
    agent.path("s").write_bytes(b"".join(other.read_bytes().splitlines(keepends=True)[:1]))
    agent.settle()
    assert agent.track("s").path == str(other)
    append(other, lines(1))
    agent.settle()
    assert streams(receiver, agent) == {"": other.read_bytes()}
    assert agent.track("s").generations == 0


@pytest.mark.parametrize("link", ["hard", "folder"])
@pytest.mark.parametrize("order", ["the name first", "the link first"])
def test_one_file_under_two_names_is_sent_at_once_by_either(
    make_agent: Make, lines: Lines, receiver: AsgiServer, link: str, order: str
) -> None:
    agent = make_agent(receiver)
    real, alias = agent.path("s"), agent.root / "linked" / "s.jsonl"
    real.write_bytes(lines(1))
    if link == "hard":
        alias.parent.mkdir()
        os.link(real, alias)
    else:
        alias.parent.symlink_to("p")
    for path in (real, alias) if order == "the name first" else (alias, real):
        agent.scanner.look(str(path))
    agent.live_for(1.0)
    for path in (real, alias, real):
        append(path, lines(1))
        agent.scanner.look(str(path))
        agent.live_for(1.0)
        assert streams(receiver, agent) == {"": real.read_bytes()}
        assert (status_of(agent).problems, status_of(agent).synced) == ([], True)


def test_a_move_between_the_names_of_one_file_is_no_news(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    server = ScriptedServer(receiver, lambda request: None)
    agent = make_agent(server)
    agent.append("s", lines(3))
    alias = beside(agent)
    os.link(agent.path("s"), alias)
    agent.settle()
    server.requests.clear()
    agent.path("s").unlink()
    agent.settle()
    assert not server.requests
    append(alias, lines(1))
    agent.settle()
    assert streams(receiver, agent) == {"": alias.read_bytes()}


# --- what is open, held, private --------------------------------------------------------------------------------------


def test_what_was_not_compared_yet_is_open(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(2))
    agent.settle()
    other = beside(agent)
    other.write_bytes(lines(1))
    agent.look()
    assert not status_of(agent).synced
    assert agent.engine.is_busy()
    assert (copy_of(other), State.DUE) in [(one.subpath, one.state) for one in list_streams(agent.engine)]
    agent.settle()
    assert status_of(agent).synced


def test_what_cant_be_compared_is_named_with_its_size_and_tried_again(
    make_agent: Make, lines: Lines, receiver: AsgiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.errors import DiskError

    agent = make_agent(receiver)
    agent.append("s", lines(2))
    agent.settle()
    other = beside(agent)
    other.write_bytes(lines(1))
    opened = real_files.open_file

    def refuses(path: str) -> object:
        if path == str(other):
            raise DiskError(f"{path} can't be read: Permission denied")
        return opened(path)

    with monkeypatch.context() as broken:
        broken.setattr(real_files, "open_file", refuses)
        agent.settle()
    [(what, hint)] = status_of(agent).problems
    assert str(other) in what
    assert f"{other.stat().st_size} bytes" in what
    assert "remove" not in hint
    assert not status_of(agent).synced
    assert not agent.engine.is_busy(), "nobody waits for it"
    agent.settle()
    assert streams(receiver, agent) == {"": agent.path("s").read_bytes(), copy_of(other): other.read_bytes()}
    assert status_of(agent).synced


@pytest.mark.parametrize("knows", ["compared", "not compared"])
def test_the_unfollowed_file_is_held_against_deletion(
    make_agent: Make, lines: Lines, receiver: AsgiServer, knows: str
) -> None:
    is_down = False
    agent = make_agent(ScriptedServer(receiver, lambda request: no_answer() if is_down else None))
    agent.append("s", lines(2))
    agent.settle()
    is_down = True
    other = beside(agent)
    other.write_bytes(lines(3))
    expected = other.read_bytes()
    agent.look()
    if knows == "compared":
        agent.live_for(40.0)
    else:
        agent.clock.advance(40.0)
        agent.engine.tick()
        [task] = [one for one in agent.disk_tasks if not isinstance(one, CompareTask)]
        agent.disk_tasks.remove(task)
        agent.engine.handle(agent.do_disk_task(task))
    other.unlink()
    agent.look()
    is_down = False
    agent.settle()
    assert streams(receiver, agent)[copy_of(other)] == expected
    agent.clock.advance(40.0)
    agent.settle()
    agent.live_for(40.0)
    assert list(agent.kept.list_kept()) == [], "and let go when it is sent"


def test_a_folder_that_only_the_unfollowed_file_names_makes_the_session_private(
    make_agent: Make, receiver: AsgiServer
) -> None:
    def line(number: int, folder: str) -> bytes:
        uuid = f"00000000-0000-4000-8000-{number:012}"
        return json.dumps({"type": "user", "uuid": uuid, "cwd": folder}).encode() + b"\n"

    server = ScriptedServer(receiver, lambda request: None)
    agent = make_agent(server, rulebook=FakeRules(folders=["/secret"]))
    agent.append("s", line(1, "/open"))
    other = beside(agent)
    other.write_bytes(line(2, "/open") + line(3, "/secret"))
    agent.settle()
    assert not [one for one in server.requests if "/session/s" in one.path]
    assert agent.state("s") is State.PRIVATE


# --- the order in which they are found does not matter ----------------------------------------------------------------


def histories(seed: int, lines: Callable[[int], bytes]) -> list[list[bytes]]:
    """Three to four files of one session, each as it grows: some begin alike, some are stubs, some equal."""
    rng = random.Random(seed)
    trunk = [lines(1) for _ in range(rng.randrange(1, 5))]
    made = []
    for _ in range(rng.choice((2, 3, 3, 4))):
        shared = trunk[: rng.randrange(len(trunk) + 1)]
        own = [lines(1) for _ in range(rng.choice((0, 0, 1, 3)))]
        made.append([*shared, *own] or [lines(1)])
    if rng.random() < 0.3:
        made[-1] = list(made[0])
    return made


def grow(paths: Sequence[Path], made: Sequence[Sequence[bytes]], rng: random.Random) -> list[tuple[Path, bytes]]:
    """Each file's lines in their order, the files in any."""
    left = {path: list(parts) for path, parts in zip(paths, made, strict=True)}
    steps = []
    while left:
        path = rng.choice(list(left))
        steps.append((path, left[path].pop(0)))
        if not left[path]:
            del left[path]
    return steps


@pytest.mark.parametrize("seed", [*range(40), 128, 407, 575])
def test_whatever_the_order_every_line_of_every_file_is_on_the_server(
    make_agent: Make, lines: Lines, receiver: AsgiServer, seed: int
) -> None:
    rng = random.Random(seed)
    agent = make_agent(receiver, seed=seed)
    made = histories(seed, lines)
    paths = [beside(agent, folder=f"f{number}") for number in range(len(made))]
    for path, part in grow(paths, made, rng):
        append(path, part)
        chance = rng.random()
        if chance < 0.4:
            agent.scanner.look(str(path))
            agent.engine.tick()
        elif chance < 0.7:
            there = [one for one in paths if one.exists()]
            for one in rng.sample(there, len(there)):
                agent.scanner.look(str(one))
            agent.live_for(rng.choice((0.0, 1.0, 40.0)))
        elif chance < 0.8:
            agent.crash()
    agent.settle()
    check_all_there(agent, receiver, paths)
    before = {key.stream: track.path for key, track in agent.engine.tracks.items() if track.state is not State.GONE}
    agent.crash()
    agent.settle()
    check_all_there(agent, receiver, paths)
    after = {key.stream: track.path for key, track in agent.engine.tracks.items() if track.state is not State.GONE}
    assert after == before, "a new life decides the same"
    seen = find_streams(
        [Root(PROVIDERS["claude"], str(agent.root))], lambda: {path: one for one, path in after.items()}
    )
    assert {one.path: one.stream for one in seen.files["s"]} == {path: one for one, path in after.items()}


def check_all_there(agent: SimulatedAgent, server: AsgiServer, paths: Sequence[Path]) -> None:
    assert status_of(agent).synced
    assert status_of(agent).problems == []
    followed = {track.path for track in agent.engine.tracks.values() if track.state is not State.GONE}
    there = streams(server, agent).values()
    for path in paths:
        data = path.read_bytes()
        assert any(one.startswith(data) for one in there), f"{path} is not on the server"
        if str(path) in followed:
            assert data in there
    for one, other in itertools.permutations(sorted(followed), 2):
        assert not Path(one).read_bytes().startswith(Path(other).read_bytes()), "a file that is in another was sent too"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_files_that_are_found_together_are_chosen_alike_in_any_order(
    make_agent: Make, lines: Lines, receiver: AsgiServer, order: tuple[int, ...]
) -> None:
    agent = make_agent(receiver)
    trunk = lines(2)
    contents = [trunk, trunk + lines(3), trunk + lines(1)]
    paths = [beside(agent, folder=f"f{number}") for number in range(3)]
    for path, data in zip(paths, contents, strict=True):
        path.write_bytes(data)
    for number in order:
        agent.scanner.look(str(paths[number]))
    agent.settle()
    assert streams(receiver, agent) == {"": contents[1], copy_of(paths[2]): contents[2]}


def test_commands_choose_the_files_that_the_agent_follows(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, data in zip(paths, (b"1\n", b"1\n2\n3\n", b"1\nx\n"), strict=True):
        path.write_bytes(data)
    stream = StreamId("s", "")
    found = [Observation(stream, "claude", str(one), one.stat().st_size, 0, 0, 0) for one in paths]
    expected = {str(paths[1]): stream, str(paths[2]): StreamId("s", copy_of(paths[2]))}
    for order in itertools.permutations(found):
        chosen, trouble = choose_files(real_files, order, {})
        assert ({one.path: one.stream for one in chosen}, trouble) == (expected, {})
    known = {str(paths[2]): stream}
    chosen, _ = choose_files(real_files, found, known)
    assert {one.path: one.stream for one in chosen} == {
        str(paths[2]): stream,
        str(paths[1]): StreamId("s", copy_of(paths[1])),
    }


# --- a copy has a place on another machine, too -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_a_copy_that_is_pulled_is_found_as_what_it_is(name: str) -> None:
    stream = StreamId("01a1fb4c-6b9f-7401-9c9b-e6751cf647c1", copy_of(Path("/home/dev/s.jsonl")))
    parts = PROVIDERS[name].place(stream, "/work", (), {})
    assert parts is not None
    assert PROVIDERS[name].classify(parts, list) == stream


# --- what people reported ---------------------------------------------------------------------------------------------


def test_geminis_resume_makes_a_stub_and_deletes_both(make_agent: Make, receiver: AsgiServer, tmp_path: Path) -> None:
    """google-gemini/gemini-cli#28036, #28767: the stub keeps a header, the conversation goes on in the old file, and
    the next start deletes every file of that id."""
    machine = Machine(tmp_path / "home")
    agent = make_agent(receiver, roots=machine.roots)
    session = "f74ed4b6-1111-4111-8111-111111111111"
    chats = ".gemini/tmp/project/chats"
    old = machine.write(f"{chats}/session-2026-06-22T13-46-f74ed4b6.jsonl", gemini_lines(session))
    agent.settle()
    stub = machine.write(f"{chats}/session-2026-06-22T13-49-f74ed4b6.jsonl", gemini_lines(session)[:-1] + b"x\n")
    for number in range(3):
        append(old, encode({"id": f"f74ed4b6-0000-4000-8000-{number:012}", "type": "gemini", "content": "went on"}))
        agent.scanner.look(str(old))
        agent.scanner.look(str(stub))
        agent.live_for(1.0)
    expected = {"": old.read_bytes(), copy_of(stub): stub.read_bytes()}
    assert streams(receiver, agent, session) == expected
    assert (status_of(agent).problems, status_of(agent).synced) == ([], True)
    stub.unlink()
    old.unlink()
    agent.settle()
    assert streams(receiver, agent, session) == expected


def test_a_moved_project_whose_paths_were_replaced_in_the_copy(make_agent: Make, receiver: AsgiServer) -> None:
    """anthropics/claude-code#86713: the folder is copied under its new name, every mention of the old path is replaced
    in it, and the old folder goes."""
    rng = random.Random(7)
    agent = make_agent(receiver)
    old = agent.path("s")
    old.write_bytes(b"".join(entry(rng, cwd="/home/dev/old") for _ in range(4)))
    agent.settle()
    sent = old.read_bytes()
    new = beside(agent)
    new.write_bytes(sent.replace(b"/home/dev/old", b"/home/dev/new"))
    agent.settle()
    old.unlink()
    append(new, entry(rng, cwd="/home/dev/new"))
    agent.settle()
    agent.crash()
    agent.settle()
    assert streams(receiver, agent) == {"": sent, copy_of(new): new.read_bytes()}


@pytest.mark.parametrize("theirs", ["an older state", "another way"])
def test_a_program_that_synchronises_replaces_the_file_and_keeps_ours_beside_it(
    make_agent: Make, lines: Lines, receiver: AsgiServer, theirs: str
) -> None:
    """tawanorg/claude-sync#77: what another machine had takes the name, ours is laid elsewhere."""
    agent = make_agent(receiver)
    agent.append("s", lines(4))
    agent.settle()
    ours = beside(agent)
    shutil.copy(agent.path("s"), ours)
    append(ours, lines(1))
    kept = ours.read_bytes()
    begin = b"".join(kept.splitlines(keepends=True)[:2])
    new = agent.root / "new"
    new.write_bytes(begin if theirs == "an older state" else begin + lines(2))
    replaced = new.read_bytes()
    new.replace(agent.path("s"))
    agent.settle()
    there = streams(receiver, agent)
    assert there[""] == kept
    assert len(there) == 1 or replaced in there.values()
    assert any(one.startswith(replaced) for one in there.values())
    assert (status_of(agent).problems, status_of(agent).synced) == ([], True)


def test_a_project_folder_that_is_a_link_to_its_new_name(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    """anthropics/claude-code#59393: the folder of one path is a link to that of another."""
    server = ScriptedServer(receiver, lambda request: None)
    agent = make_agent(server)
    (agent.root / "-home-other-path").symlink_to("p")
    agent.append("s", lines(1))
    agent.settle()
    for folder in ("-home-other-path", "p"):
        path = agent.root / folder / "s.jsonl"
        append(path, lines(1))
        agent.scanner.look(str(path))
        agent.live_for(1.0)
        assert streams(receiver, agent) == {"": path.read_bytes()}
    agent.settle()
    assert (status_of(agent).problems, status_of(agent).synced) == ([], True)
