"""Coding agents beside Claude Code, through the real scanner, engine and receiver: all that they wrote arrives, once;
what is private stays here."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard

from agent.core.delivery.lifecycle import State
from agent.core.privacy.rules import parse_rules
from agent.core.settings import AGENTS, Privacy, Watch
from agent.core.status import count_streams
from agent.core.transcripts.session import Facts, StreamId
from agent.core.transcripts.transcript import split_lines
from agent.core.wire import Request
from agent.daemon.status.report import list_streams
from agent.delivery.discovery.scanner import Root
from agent.delivery.inventory.survey import survey_sessions
from agent.delivery.privacy.rulebook import FixedRules
from agent.delivery.push.verifier import Outcome, Subject, verify_streams
from agent.delivery.retention.keeper import SWEEP_S
from agent.delivery.state.inputs import RulesChanged
from agent.delivery.state.tasks import TrackKey
from agent.providers import PROVIDERS, codex, copilot, gemini, watched_folders
from agent.system.git import GitRemotes
from tests.fakes import AsgiServer, FakeRules, ScriptedServer, StrictBaseServer, no_answer
from tests.redactors import REDACTOR
from tests.simulation.world import DESTINATION, SimulatedAgent
from tests.system.privileges import needs_posix

Make = Callable[..., SimulatedAgent]
UUID = "01a1fb4c-6b9f-7401-9c9b-e6751cf647c{}"
SECRET, OPEN = "/srv/secret", "/srv/open"


def encode(*values: Any) -> bytes:
    return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in values)


def codex_lines(folder: str, words: str = "hello", **payload: Any) -> bytes:
    meta = {"cwd": folder, **payload}
    said = {"type": "item_completed", "item": {"type": "UserMessage", "content": [{"type": "text", "text": words}]}}
    return encode({"ordinal": 0, "type": "session_meta", "payload": meta}, {"type": "event_msg", "payload": said})


def gemini_lines(session: str, words: str = "hello") -> bytes:
    header = {"sessionId": session, "projectHash": "f00", "startTime": "2026-11-20T23:32:26.787Z", "kind": "main"}
    return encode(header, {"id": "m1", "type": "user", "content": [{"text": words}]})


def copilot_lines(folder: str | None, words: str = "hello") -> bytes:
    start = {"type": "session.start", "data": {"context": {"cwd": folder} if folder else {}}}
    return encode(start, {"type": "user.message", "data": {"content": words}})


class Machine:
    """Folders of three coding agents, and where each would put a session."""

    def __init__(self, home: Path) -> None:
        self.home = home
        watch = Watch(agents=("codex", "gemini", "copilot"))
        self.roots = [Root(provider, folder) for provider, folder in watched_folders(watch, {}, str(home))]
        for root in self.roots:
            Path(root.path).mkdir(parents=True)

    def write(self, place: str, data: bytes, mode: str = "wb") -> Path:
        path = self.home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode) as file:
            file.write(data)
        return path

    def codex(self, session: str, data: bytes, mode: str = "wb") -> Path:
        day = ".codex/sessions/2026/11/20"
        return self.write(f"{day}/rollout-2026-11-20T23-30-51-{session}.jsonl", data, mode)

    def gemini(self, project: str, session: str, data: bytes, mode: str = "wb") -> Path:
        return self.write(f".gemini/tmp/{project}/chats/session-2026-11-20T23-32-{session}.jsonl", data, mode)

    def copilot(self, session: str, data: bytes, mode: str = "wb") -> Path:
        return self.write(f".copilot/session-state/{session}/events.jsonl", data, mode)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


def stored(server: AsgiServer, session: str, subpath: str = "") -> bytes | None:
    stream = f"?subpath={subpath}" if subpath else ""
    answer = server.send(Request("GET", f"/v1/session_ingress/session/{session}/entries{stream}"))
    return answer.body if answer.status == 200 else None


def is_equal(agent: SimulatedAgent, server: AsgiServer) -> dict[Outcome, int]:
    """Outcomes of a proof over everything that is followed."""
    tracks = sorted(agent.engine.tracks.items())
    subjects = [
        Subject(key.stream, track.path, track.cursor.generation, track.cursor)
        for key, track in tracks
        if key.destination
    ]
    verdicts, unread = verify_streams(server, subjects, {}, REDACTOR)
    assert not unread
    return {outcome: sum(one.outcome is outcome for one in verdicts) for outcome in {one.outcome for one in verdicts}}


def count_appends(server: ScriptedServer) -> int:
    return sum(one.method == "POST" and "/entries" in one.path for one in server.requests)


# --- all of it ------------------------------------------------------------------------------------------------------

CORPUS = {  # transcripts, side files
    "claude": (219, 25),
    "codex": (11, 0),
    "gemini": (8, 1),
    "copilot": (8, 16),
}


def test_every_file_of_every_agent_arrives_and_is_proven_equal(
    corpus: Path, make_agent: Make, receiver: AsgiServer
) -> None:
    roots = [Root(PROVIDERS["claude"], str(one / "projects")) for one in sorted((corpus / "claude").iterdir())]
    roots += [
        Root(codex, str(corpus / "codex/sessions")),
        Root(gemini, str(corpus / "gemini/tmp")),
        Root(copilot, str(corpus / "copilot/session-state")),
    ]
    agent = make_agent(receiver, roots=roots)
    agent.settle()
    tracks = agent.engine.tracks
    counted = {
        name: tuple(
            sum(track.provider == name and key.subpath.startswith("files/") == side for key, track in tracks.items())
            for side in (False, True)
        )
        for name in CORPUS
    }
    assert counted == CORPUS
    assert {track.state for track in tracks.values()} == {State.SYNCED}
    assert is_equal(agent, receiver) == {Outcome.EQUAL: sum(sum(one) for one in CORPUS.values())}


def test_what_lies_in_their_folders_and_is_no_transcript_stays_there(
    corpus: Path, make_agent: Make, receiver: AsgiServer
) -> None:
    roots = [Root(gemini, str(corpus / "gemini/tmp")), Root(copilot, str(corpus / "copilot/session-state"))]
    agent = make_agent(receiver, roots=roots)
    agent.settle()
    taken = {track.path for track in agent.engine.tracks.values()}
    left = {path.name for root in roots for path in Path(root.path).rglob("*") if path.is_file()} - {
        Path(path).name for path in taken
    }
    assert left == {".project_root", "tracking.json", "index.json", "inuse.7028.hold"}


# --- how their files grow -------------------------------------------------------------------------------------------


def test_an_archive_moves_the_file_and_its_stream_goes_on(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server, roots=machine.roots)
    session = UUID.format(1)
    path = machine.codex(session, codex_lines(OPEN))
    agent.settle()
    sent = count_appends(server)
    archived = machine.home / ".codex/archived_sessions" / path.name
    path.rename(archived)
    agent.settle()
    assert (count_appends(server), agent.track(session).path) == (sent, str(archived))
    with archived.open("ab") as file:
        file.write(encode({"ordinal": 2}))
    agent.settle()
    assert stored(receiver, session) == archived.read_bytes()
    assert is_equal(agent, receiver) == {Outcome.EQUAL: 1}
    archived.rename(path)
    agent.settle()
    assert agent.track(session).path == str(path)
    assert count_appends(server) == sent + 1


def test_an_archive_that_nobody_watched_is_found_at_its_new_place(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server, roots=machine.roots)
    path = machine.codex(UUID.format(1), codex_lines(OPEN))
    agent.settle()
    sent = count_appends(server)
    agent.close()
    path.rename(machine.home / ".codex/archived_sessions" / path.name)
    agent.boot()
    agent.settle()
    assert (count_appends(server), agent.state(UUID.format(1))) == (sent, State.SYNCED)


def pack(path: Path, beside: Path | None = None) -> Path:
    """As Codex packs: written under another name, then moved; the old file goes."""
    target = beside or path.with_name(path.name + ".zst")
    target.write_bytes(zstandard.ZstdCompressor(level=3).compress(path.read_bytes()))
    path.unlink()
    return target


def test_a_session_that_was_sent_and_is_packed_then_is_the_same(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server, roots=machine.roots)
    session = UUID.format(1)
    data = codex_lines(OPEN) * 500
    path = machine.codex(session, data)
    agent.settle()
    sent = count_appends(server)
    packed = pack(path)
    agent.settle()
    assert (count_appends(server), agent.state(session), agent.track(session).path) == (sent, State.SYNCED, str(packed))
    assert agent.track(session).generations <= 1
    agent.crash()
    agent.settle()
    assert (count_appends(server), agent.state(session)) == (sent, State.SYNCED)
    assert is_equal(agent, receiver) == {Outcome.EQUAL: 1}
    path.write_bytes(data + encode({"ordinal": 9}))  # unpacked again to go on
    packed.unlink()
    agent.settle()
    assert stored(receiver, session) == path.read_bytes()
    assert count_appends(server) == sent + 1


def test_a_session_that_was_packed_before_anybody_saw_it_is_sent(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    agent = make_agent(receiver, roots=machine.roots, kept_bytes=0)
    data = codex_lines(OPEN, "ü" * 3000) * 800
    path = machine.codex(UUID.format(1), data)
    pack(path, machine.home / ".codex/archived_sessions" / (path.name + ".zst"))
    agent.look()
    assert agent.track(UUID.format(1)).size == len(data)
    agent.settle()
    assert stored(receiver, UUID.format(1)) == data
    assert is_equal(agent, receiver) == {Outcome.EQUAL: 1}


def test_a_session_that_was_partly_sent_when_it_was_packed_is_sent_to_its_end(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    agent = make_agent(receiver, roots=machine.roots)
    data = codex_lines(OPEN)
    path = machine.codex(UUID.format(1), data)
    agent.settle()
    machine.codex(UUID.format(1), encode({"ordinal": 2}), "ab")
    pack(path)
    agent.settle()
    assert stored(receiver, UUID.format(1)) == data + encode({"ordinal": 2})


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-5], lambda data: b"no " + data, lambda data: data[:3], lambda _: b""],
    ids=["cut", "other", "stub", "empty"],
)
def test_a_damaged_packed_session_is_told_of_and_takes_nothing_back(
    damage: Callable[[bytes], bytes], make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    agent = make_agent(receiver, roots=machine.roots)
    path = machine.codex(UUID.format(1), codex_lines(OPEN) * 9)
    data = path.read_bytes()
    agent.settle()
    packed = pack(path)
    packed.write_bytes(damage(packed.read_bytes()))
    agent.settle()
    assert str(packed) in agent.scanner.unreadable
    assert "pack" in agent.scanner.unreadable[str(packed)]
    assert stored(receiver, UUID.format(1)) == data


def test_a_torn_tail_that_is_glued_to_the_next_line_arrives_as_it_is(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    agent = make_agent(receiver, roots=machine.roots)
    path = machine.gemini("p", "torn", gemini_lines("torn") + b'{"id":"m2","type":"gem')
    agent.settle()
    machine.gemini("p", "torn", encode({"id": "m3", "type": "user"}), "ab")
    agent.settle()
    assert stored(receiver, "torn") == path.read_bytes()
    assert b'"gem{"id":"m3"' in path.read_bytes()


def test_a_session_without_its_header_waits_for_it(make_agent: Make, receiver: AsgiServer, machine: Machine) -> None:
    agent = make_agent(receiver, roots=machine.roots)
    machine.gemini("p", "empty", b"")
    agent.settle()
    machine.gemini("p", "empty", b'{"sessionId":"empty","proj', "ab")
    agent.settle()
    assert agent.states() == {}
    machine.gemini("p", "empty", b'ectHash":"f00"}\n', "ab")
    agent.settle()
    assert agent.states() == {"empty/": State.SYNCED}


def test_a_file_that_is_written_anew_is_a_new_generation_and_the_one_beside_it_nothing(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    agent = make_agent(receiver, roots=machine.roots)
    path = machine.copilot("c1", copilot_lines(OPEN) + b'{"type":"assist\n')
    agent.settle()
    path.rename(path.with_name("events.jsonl.bak-1"))
    machine.copilot("c1", copilot_lines(OPEN, "written anew") + encode({"type": "session.resume"}))
    agent.settle()
    assert stored(receiver, "c1") == path.read_bytes()
    assert list(agent.states()) == ["c1/"]
    assert agent.track("c1").generations >= 1
    assert is_equal(agent, receiver) == {Outcome.EQUAL: 1}


def test_side_files_of_gemini_and_copilot_travel_with_their_session(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    agent = make_agent(receiver, roots=machine.roots)
    machine.gemini("p", "g1", gemini_lines("g1"))
    machine.write(".gemini/tmp/p/chats/g1/helper.jsonl", gemini_lines("helper"))
    machine.write(".gemini/tmp/p/tool-outputs/session-g1/run.txt", b"output")
    machine.copilot("c1", copilot_lines(OPEN))
    machine.write(".copilot/session-state/c1/workspace.yaml", b"cwd: /srv/open\n")
    for lock in ("inuse.1.hold", "session.db", "rewind-file-snapshots/index.json"):
        machine.write(f".copilot/session-state/c1/{lock}", b"x")
    agent.settle()
    assert set(agent.states()) == {
        *("g1/", "g1/subagents/helper", "g1/files/tool-outputs/run.txt"),
        *("c1/", "c1/files/workspace.yaml"),
    }
    assert set(agent.states().values()) == {State.SYNCED}


def test_lines_without_ids_are_addressed_by_derived_ones_and_a_base_server_shows_what_it_lacks(
    make_agent: Make, machine: Machine, receiver: AsgiServer
) -> None:
    base = StrictBaseServer()
    agent = make_agent(base, roots=machine.roots, beside={"bulk": receiver})
    session = UUID.format(1)
    machine.codex(session, codex_lines(OPEN))
    agent.settle()
    bulk = agent.engine.tracks[TrackKey("bulk", session, "")]
    assert (bulk.cursor.entry_count, bulk.cursor.sent_count) == (2, 2)
    here = agent.engine.tracks[TrackKey(DESTINATION, session, "")]
    assert (here.cursor.entry_count, here.cursor.sent_count) == (2, 0)
    told = count_streams([one for one in list_streams(agent.engine) if one.destination == DESTINATION])
    assert (told.entries, told.not_addressable) == (2, 2)


# --- privacy --------------------------------------------------------------------------------------------------------


def write_all(machine: Machine, folder: str, name: str, number: int) -> list[str]:
    """A session of each agent that works in `folder`; their ids."""
    ids = [UUID.format(number), f"g-{name}", f"c-{name}"]
    machine.codex(ids[0], codex_lines(folder, f"words of {name}"))
    machine.write(f".gemini/tmp/{name}/.project_root", folder.encode())
    machine.gemini(name, ids[1], gemini_lines(ids[1], f"words of {name}"))
    machine.write(f".gemini/tmp/{name}/tool-outputs/session-{ids[1]}/x.txt", f"words of {name}".encode())
    machine.copilot(ids[2], copilot_lines(folder, f"words of {name}"))
    machine.write(f".copilot/session-state/{ids[2]}/workspace.yaml", f"cwd: {folder}\n# words of {name}\n".encode())
    return ids


def bodies(server: ScriptedServer) -> bytes:
    return b"".join(repr(one).encode() for one in server.requests)


def told(agent: SimulatedAgent) -> None:
    agent.engine.handle(RulesChanged())
    agent.engine.tick()


def test_a_private_folder_is_private_for_every_agent(make_agent: Make, receiver: AsgiServer, machine: Machine) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server, roots=machine.roots, rulebook=FakeRules(folders=[SECRET]))
    hidden, shown = write_all(machine, SECRET, "secret", 1), write_all(machine, OPEN, "open", 2)
    agent.settle()
    assert not any(session in one.path for one in server.requests for session in hidden)
    assert [stored(receiver, session) is not None for session in (*hidden, *shown)] == [False] * 3 + [True] * 3
    assert {agent.state(session) for session in hidden} == {State.PRIVATE}
    assert {agent.state(session) for session in shown} == {State.SYNCED}


RULES = {
    "a folder": parse_rules(f"project {SECRET}\n"),
    "a folder by a pattern": parse_rules("project /srv/sec*\n"),
    "one of several": parse_rules("project /elsewhere\nproject /srv/secret\n"),
    "only what is listed": parse_rules("", privacy=Privacy(share="listed", shared_projects=(OPEN,))),
}


@pytest.mark.parametrize("rules", RULES)
def test_the_real_rules_hold_for_every_agent(
    rules: str, make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    rulebook = FixedRules(RULES[rules], GitRemotes({}, str(machine.home)))
    agent = make_agent(server, roots=machine.roots, rulebook=rulebook)
    hidden, shown = write_all(machine, SECRET, "secret", 1), write_all(machine, OPEN, "open", 2)
    below = write_all(machine, f"{SECRET}/below", "below", 3)
    machine.gemini("nowhere", "g-nowhere", gemini_lines("g-nowhere"))
    agent.settle()
    left = [*hidden, *below, "g-nowhere"]
    assert not any(session in one.path for one in server.requests for session in left)
    assert [stored(receiver, session) is not None for session in shown] == [True] * 3
    assert {agent.state(session) for session in shown} == {State.SYNCED}


@pytest.mark.parametrize("rules", RULES)
def test_commands_that_look_ahead_say_the_same(rules: str, machine: Machine) -> None:
    hidden, shown = write_all(machine, SECRET, "secret", 1), write_all(machine, OPEN, "open", 2)
    found = survey_sessions(machine.roots, {}, RULES[rules], GitRemotes({}, str(machine.home)))
    verdicts = {one.session_id: (one.project, one.verdict.private) for one in found.sessions}
    assert verdicts == dict.fromkeys(hidden, (SECRET, True)) | dict.fromkeys(shown, (OPEN, False))


def test_a_folder_made_private_takes_back_what_left_and_gives_it_again(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    rules = FakeRules()
    agent = make_agent(receiver, roots=machine.roots, rulebook=rules)
    hidden, shown = write_all(machine, SECRET, "secret", 1), write_all(machine, OPEN, "open", 2)
    agent.settle()
    assert all(stored(receiver, session) for session in (*hidden, *shown))
    rules.folders.add(SECRET)
    told(agent)
    agent.settle()
    assert [stored(receiver, session) is not None for session in (*hidden, *shown)] == [False] * 3 + [True] * 3
    rules.folders.clear()
    told(agent)
    agent.settle()
    assert all(stored(receiver, session) for session in (*hidden, *shown))


def test_a_session_whose_folder_nobody_tells_is_private_while_folders_matter(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    server = ScriptedServer(receiver, lambda _: None)
    agent = make_agent(server, roots=machine.roots, rulebook=FakeRules(folders=[SECRET]))
    machine.gemini("p", "g1", gemini_lines("g1") + encode({"$set": {"directories": [OPEN]}}))
    machine.copilot("c1", copilot_lines(None))
    machine.codex(UUID.format(1), encode({"type": "event_msg"}))
    agent.settle()
    assert not any(one.method != "GET" for one in server.requests)
    machine.write(".gemini/tmp/p/.project_root", OPEN.encode())
    machine.gemini("p", "g1", encode({"id": "m9", "type": "user"}), "ab")
    machine.write(".copilot/session-state/c1/workspace.yaml", f"cwd: {OPEN}".encode())
    machine.copilot("c1", encode({"type": "user.message"}), "ab")
    agent.settle()
    assert stored(receiver, "g1") is not None
    assert stored(receiver, "c1") is not None
    assert stored(receiver, UUID.format(1)) is None


def test_a_session_that_enters_a_private_folder_is_private_from_there_on(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    agent = make_agent(receiver, roots=machine.roots, rulebook=FakeRules(folders=[SECRET, "/srv/my secret"]))
    turn = encode({"type": "turn_context", "payload": {"cwd": SECRET}})
    roots = codex_lines(OPEN, runtime_workspace_roots=["/a", SECRET])
    address = codex_lines(OPEN) + encode({"item": {"cwd": "file:///srv/my%20secret"}})
    machine.codex(UUID.format(1), codex_lines(OPEN) + turn)
    machine.codex(UUID.format(2), roots)
    machine.codex(UUID.format(3), address)
    machine.copilot("c1", copilot_lines(OPEN) + encode({"data": {"context": {"cwd": OPEN, "gitRoot": SECRET}}}))
    machine.write(".gemini/tmp/p/.project_root", OPEN.encode())
    machine.gemini("p", "g1", gemini_lines("g1") + encode({"$set": {"directories": ["/a", SECRET]}}))
    agent.settle()
    assert set(agent.states().values()) == {State.PRIVATE}
    assert not any(stored(receiver, session) for session in (*map(UUID.format, (1, 2, 3)), "c1", "g1"))


def test_only_the_projects_of_a_destination_go_there(make_agent: Make, receiver: AsgiServer, machine: Machine) -> None:
    agent = make_agent(receiver, roots=machine.roots, projects=(OPEN,))
    others, taken = write_all(machine, SECRET, "secret", 1), write_all(machine, OPEN, "open", 2)
    agent.settle()
    assert [stored(receiver, session) is not None for session in (*others, *taken)] == [False] * 3 + [True] * 3


def test_a_fork_of_a_private_session_is_private_too(make_agent: Make, receiver: AsgiServer, machine: Machine) -> None:
    parent, fork, other = map(UUID.format, (1, 2, 3))
    machine.codex(parent, codex_lines(OPEN, id=parent))
    machine.codex(fork, codex_lines(OPEN, id=fork, forked_from_id=parent))
    machine.codex(other, codex_lines(OPEN, id=other))
    agent = make_agent(receiver, roots=machine.roots, rulebook=FakeRules(parent))
    agent.settle()
    assert [stored(receiver, one) is not None for one in (parent, fork, other)] == [False, False, True]


def test_the_corpus_has_no_copies_but_its_fork(corpus: Path) -> None:
    """Else a private session would take others with it that have nothing to do with it."""
    seen: dict[bytes, set[str]] = {}
    for provider, root in ((codex, "codex/sessions"), (gemini, "gemini/tmp"), (copilot, "copilot/session-state")):
        for path in sorted((corpus / root).rglob("*.jsonl")):
            for one in provider.entry_ids_in(path.read_bytes()):
                seen.setdefault(one, set()).add(str(path))
    shared = {frozenset(Path(one).stem[-12:] for one in paths) for paths in seen.values() if len(paths) > 1}
    assert shared == {frozenset({"9b3e8c4f8d1a", "7a240a41ecfd"})}


HOSTILE = ("/a\0b", "/srv/\x1b[31mred\x1b[0m", "/" + "x" * 15_000, "/srv/\u2028", "/..", "//")


@needs_posix
def test_a_hostile_folder_stops_nobody_else(make_agent: Make, receiver: AsgiServer, machine: Machine) -> None:
    rulebook = FixedRules(RULES["a folder"], GitRemotes({}, str(machine.home)))
    agent = make_agent(receiver, roots=machine.roots, rulebook=rulebook)
    for number, folder in enumerate(HOSTILE):
        write_all(machine, folder, f"hostile{number}", number)
    machine.write(".gemini/tmp/bytes/.project_root", b"/srv/\xff")
    machine.gemini("bytes", "g-bytes", gemini_lines("g-bytes"))
    os.mkfifo(machine.write(".gemini/tmp/pipe/x", b"").with_name(".project_root"))
    machine.gemini("pipe", "g-pipe", gemini_lines("g-pipe"))
    machine.write(".gemini/tmp/folder/.project_root/x", b"")
    machine.gemini("folder", "g-folder", gemini_lines("g-folder"))
    shown = write_all(machine, OPEN, "open", 9)
    agent.settle()
    agent.crash()
    agent.settle()
    assert all(stored(receiver, session) for session in shown)
    assert not any(stored(receiver, session) for session in ("g-bytes", "g-pipe", "g-folder"))


def test_what_gemini_swept_away_before_it_was_sent_is_judged_by_what_was_known(
    make_agent: Make, receiver: AsgiServer, machine: Machine
) -> None:
    rules = FakeRules(folders=[SECRET])
    is_away = [True]
    server = ScriptedServer(receiver, lambda _: no_answer() if is_away[0] else None)
    agent = make_agent(server, roots=machine.roots, rulebook=rules)
    hidden, shown = write_all(machine, SECRET, "secret", 1), write_all(machine, OPEN, "open", 2)
    agent.look()
    agent.live_for(SWEEP_S + 1)
    for folder in (".gemini", ".copilot", ".codex"):
        for path in sorted((machine.home / folder).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (machine.home / folder).mkdir(exist_ok=True)
    for root in machine.roots:
        Path(root.path).mkdir(parents=True, exist_ok=True)
    agent.look()
    agent.crash()
    is_away[0] = False
    agent.live_for(4 * SWEEP_S)
    assert all(stored(receiver, session) for session in shown)
    assert not any(stored(receiver, session) for session in hidden)


SECRET_TOKEN = "ghp_0a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXy"


def test_secrets_stay_here_and_ids_stay_what_they_are(make_agent: Make, receiver: AsgiServer, machine: Machine) -> None:
    agent = make_agent(receiver, roots=machine.roots)
    session, thread = UUID.format(1), UUID.format(2)
    said = f"export TOKEN={SECRET_TOKEN} done"
    machine.codex(session, codex_lines(OPEN, said, id=session, forked_from_id=thread))
    machine.gemini("p", "g1", gemini_lines("g1", said))
    machine.copilot(
        "c1", encode({"type": "user.message", "data": {"content": said}, "id": thread, "parentId": session})
    )
    agent.settle()
    for one, provider in ((session, codex), ("g1", gemini), ("c1", copilot)):
        sent = stored(receiver, one)
        assert sent is not None
        assert SECRET_TOKEN.encode() not in sent
        assert b"done" in sent
        here = Path(agent.track(one).path).read_bytes()
        assert provider.entry_ids_in(sent) == provider.entry_ids_in(here)
        assert [json.loads(line).keys() for line in split_lines(sent)] == [
            json.loads(line).keys() for line in split_lines(here)
        ]
    assert is_equal(agent, receiver) == {Outcome.EQUAL: 3}


# --- a further one --------------------------------------------------------------------------------------------------


def toy_agent() -> SimpleNamespace:
    """A coding agent that nobody knows: `<session>.toy`, whose lines begin with the folder."""

    def classify(parts: tuple[str, ...], first_lines: Callable[[], list[bytes]]) -> StreamId | None:
        return StreamId(parts[-1].removesuffix(".toy"), "") if parts[-1].endswith(".toy") else None

    def read_facts(data: bytes, marked: Sequence[bytes], known: Facts) -> Facts:
        first = (split_lines(data) or [b""])[0].decode()
        return known.merged(Facts(first.partition("|")[0], prompt=first.partition("|")[2]))

    def roots(environment: Mapping[str, str], home: str) -> list[str]:
        return [f"{home}/.toy"]

    def folders_in(data: bytes) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.decode() for one in re.findall(rb"^(/[^|\n]+)\|", data, re.MULTILINE)))

    return SimpleNamespace(
        name="toy",
        title="Toy",
        telling=(),
        lines_name_project=True,
        variable="TOY_HOME",
        named_homes=lambda environment: [],
        companions={},
        documents=(),
        roots=roots,
        settings_file=lambda environment, home: None,
        parse_retention_days=lambda settings: None,
        classify=classify,
        beside=lambda parts: None,
        read_beside=lambda data: "",
        folders_in=folders_in,
        entry_ids_in=lambda data: [],
        read_facts=read_facts,
    )


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    one = toy_agent()
    monkeypatch.setitem(PROVIDERS, "toy", one)
    return one


def test_a_new_agent_is_one_module_and_one_row(
    toy: SimpleNamespace, make_agent: Make, receiver: AsgiServer, tmp_path: Path
) -> None:
    watched = list(watched_folders(Watch(agents=("claude", "toy")), {}, str(tmp_path)))
    assert [folder for provider, folder in watched_folders(Watch(), {}, "/h") if provider is toy] == ["/h/.toy"]
    (roots,) = ([folder] for provider, folder in watched if provider.name == "toy")
    agent = make_agent(receiver, roots=[Root(toy, roots[0])], rulebook=FakeRules(folders=[SECRET]))
    folder = Path(roots[0])
    folder.mkdir()
    (folder / "one.toy").write_text(f"{OPEN}|hello\n{OPEN}|again\n")
    (folder / "two.toy").write_text(f"{OPEN}|hello\n{SECRET}|not this\n")
    (folder / "notes.txt").write_text("somebody else's\n")
    agent.settle()
    assert agent.states() == {"one/": State.SYNCED, "two/": State.PRIVATE}
    assert stored(receiver, "one") == (folder / "one.toy").read_bytes()
    assert agent.engine.facts.of("one") == Facts(OPEN, prompt="hello")
    assert is_equal(agent, receiver).get(Outcome.EQUAL) == 1


def test_an_agent_that_is_switched_off_has_no_folders() -> None:
    def names(watch: Watch) -> list[str]:
        return [f"{provider.name} {folder}" for provider, folder in watched_folders(watch, {}, "/h")]

    assert names(Watch(agents=())) == []
    assert set(PROVIDERS) == set(AGENTS)
    assert names(Watch(agents=("gemini",))) == ["gemini /h/.gemini/tmp"]
    assert names(Watch(agents=("codex",), codex=("/c",), gemini=("/g",))) == ["codex /c"]
    followed = ["claude", "claude", "codex", "codex", "gemini", "copilot"]
    assert [one.partition(" ")[0] for one in names(Watch())] == followed
