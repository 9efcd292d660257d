"""What a server may try when a session is pulled, and what may go wrong on the way: nothing is written outside of the
session's own place, nothing is half there, and nothing of this machine is written over."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from agent.core.transcripts.identity import Cursor
from agent.core.transcripts.session import FILES, Facts, Observation, StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, extend_chain, split_lines
from agent.core.wire import RawReply, Request, render_digest
from agent.delivery.discovery.scanner import Root, Scanner
from agent.delivery.privacy.permits import Guard, NoRules
from agent.errors import AgentError, RemoteProtocolError, SessionDeleted, Unreachable, UsageError
from agent.providers import PROVIDERS
from agent.sessions.transfer.fetching import Meter, Offer, find_offer
from agent.sessions.transfer.pulling import Here, Report, Wish, pull
from agent.system.files import landing
from agent.system.files import reading as files
from agent.system.files.landing import PREFIX
from agent.system.state.state_db import TrackRow
from tests.fakes import StrictBaseServer, reply
from tests.redactors import REDACTOR

SESSION = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"
GENERATION = "00000000-0000-4000-8000-000000000001"
LINE = b'{"type":"user","uuid":"u%d","cwd":"/work","sessionId":"%s"}\n'


def lines(count: int, session: str = SESSION) -> bytes:
    return b"".join(LINE % (number, session.encode()) for number in range(count))


class Hostile:
    """Has a session as it is told to: streams and side files by any name, with any content, and any lie about them."""

    def __init__(self, streams: dict[str, bytes] | None = None, side: dict[str, bytes] | None = None) -> None:
        self.streams = {"": lines(4)} if streams is None else streams
        self.side = side or {}
        self.rows: Callable[[list[dict[str, Any]]], object] = lambda rows: rows
        self.files: Callable[[list[dict[str, Any]]], object] = lambda rows: rows
        self.body: Callable[[bytes], Iterator[bytes] | None] = lambda _: None
        self.meta = {"provider": "claude", "project": "/work"}
        self.asked: list[str] = []

    def send(self, request: Request) -> RawReply:
        self.asked.append(request.path)
        tail = urlsplit(request.path).path.rpartition("/")[2]
        if tail == "streams":
            rows = [self._row(name, data) for name, data in self.streams.items()]
            return reply(200, json.dumps({"streams": self.rows(rows)}).encode())
        if tail == "files":
            found = [
                {"path": name, "size": len(data), "digest": render_digest(sha256(data).digest()), "changed_at_s": 0}
                for name, data in self.side.items()
            ]
            return reply(200, json.dumps({"files": self.files(found)}).encode())
        if tail == "meta":
            return reply(200, json.dumps(self.meta).encode())
        return reply(404)

    @staticmethod
    def _row(name: str, data: bytes) -> dict[str, Any]:
        chain = extend_chain(EMPTY_CHAIN, split_lines(data)).hex()
        head = {"last_uuid": "u", "entry_count": data.count(b"\n"), "generation": GENERATION, "chain_hash": chain}
        return {"subpath": name, "head": head, "current": True}

    def receive(self, request: Request, take: Callable[[bytes], object]) -> RawReply:
        self.asked.append(request.path)
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        if "/files/" in parts.path:
            data = self.side[unquote(parts.path.partition("/files/")[2])]
        else:
            kept = self.streams[query.get("subpath", [""])[0]].splitlines(keepends=True)
            data = b"".join(kept[int(query["after"][0]) :][: int(query["limit"][0])])
        for piece in self.body(data) or iter([data[at : at + 7] for at in range(0, len(data), 7)]):
            take(piece)
        return reply(200, b"")


class Machine:
    """`told`: what the agent's state was let know."""

    def __init__(self, folder: Path) -> None:
        self.around = folder
        self.root = folder / "claude" / "projects"
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self.told: list[TrackRow] = []
        self.untold: list[TrackRow] = []

    def here(self, **more: Any) -> Here:
        def tell(rows: Sequence[TrackRow], _: Facts) -> None:
            assert not any(os.path.lexists(row.path) for row in rows), "told before it is there"
            self.told += rows

        roots = [Root(PROVIDERS["claude"], str(self.root))]
        guard = Guard(NoRules(), files)
        return Here(roots, self.look(), guard, REDACTOR, tell, self.untold.extend, **more)

    def look(self) -> list[Observation]:
        found: list[Observation] = []
        roots = [Root(PROVIDERS["claude"], str(self.root))]
        Scanner(roots, lambda seen, _: found.extend(seen), lambda _: None).scan()
        return found

    def pull(self, server: Any, session: str = SESSION, **more: Any) -> Report:
        offer = find_offer(server, session, None, None)
        return pull(server, offer, self.here(), Wish("there", str(self.work), **more))

    def tree(self) -> dict[str, bytes]:
        found = (one for one in self.around.rglob("*") if one.is_file() or one.is_symlink())
        return {one.relative_to(self.around).as_posix(): one.read_bytes() for one in found}

    @property
    def folder(self) -> Path:
        return self.root / "".join(one if one.isalnum() else "-" for one in str(self.work))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m")


def test_a_session_with_all_that_belongs_to_it(machine: Machine) -> None:
    side = {"tool-results/a.txt": b"\x00\xffanything", "subagents/agent-x.meta.json": b"{}"}
    server = Hostile({"": lines(4), "subagents/agent-x": lines(2), "agent-1f": lines(3)}, side)
    report = machine.pull(server)
    place = f"claude/projects/{machine.folder.name}"
    assert machine.tree() == {
        f"{place}/{SESSION}.jsonl": lines(4),
        f"{place}/{SESSION}/subagents/agent-x.jsonl": lines(2),
        f"{place}/agent-1f.jsonl": lines(3),
        f"{place}/{SESSION}/tool-results/a.txt": side["tool-results/a.txt"],
        f"{place}/{SESSION}/subagents/agent-x.meta.json": b"{}",
    }
    assert report.files[-1].stream == StreamId(SESSION, ""), "the main transcript comes last"
    assert {one.stream for one in machine.look()} == {one.stream for one in report.files}
    for row, seen in zip(sorted(machine.told), sorted(machine.look(), key=lambda one: one.stream), strict=True):
        assert (row.stream, row.path, row.size, row.mtime_ns, row.inode) == (
            seen.stream,
            seen.path,
            seen.size,
            seen.mtime_ns,
            seen.inode,
        )
    if os.name == "posix":
        assert {path.stat().st_mode & 0o077 for path in machine.root.rglob("*")} == {0}


NAMES = {
    "above": "../../../escaped",
    "above, later": "subagents/../../../escaped",
    "absolute": "/etc/escaped",
    "nul": "subagents/a\x00b",
    "backslash": "subagents\\..\\..\\escaped",
    "drive": "C:/escaped",
    "stream of a file": "subagents/a:b",
    "empty": "subagents//a",
    "dot": "subagents/./a",
    "device": "subagents/nul",
    "blank at the end": "subagents/a ",
    "long": "subagents/" + "a" * 300,
    "very long": "/".join(["subagents", *["a" * 200] * 20]),
    "deep": "/".join(["subagents"] * 40),
    "escape": "subagents/\x1b[2J",
    "turned around": "subagents/\u202egnp.exe",
    "no text": "subagents/\ud800",
    "elsewhere": "x",
    "another session's": "other",
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("where", ["stream", "file"])
def test_no_name_leads_out_of_the_session(kind: str, where: str, machine: Machine) -> None:
    name = NAMES[kind]
    if where == "stream":
        server = Hostile({"": lines(4), name: lines(1)})
    else:
        name = name.replace("subagents/", "tool-results/") if kind != "above, later" else name
        server = Hostile(side={name: b"x"})
    with pytest.raises(RemoteProtocolError) as caught:
        machine.pull(server)
    assert machine.tree() == {}
    assert machine.told == []
    assert len(caught.value.message) < 200
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("session", ["..", ".", "a/b", "../x", "a\\b", "C:x", "a\x00", "x" * 300, "CON", "a\x1b[m"])
def test_no_id_leads_out_of_the_folder(session: str, machine: Machine) -> None:
    with pytest.raises(RemoteProtocolError):
        machine.pull(Hostile({"": lines(1)}), session)
    assert machine.tree() == {}


@pytest.mark.parametrize(
    "side",
    [
        ("tool-results/a.txt", "tool-results/A.TXT"),
        ("tool-results/\u00e9", "tool-results/e\u0301"),
        ("tool-results/a", "tool-results/a/b"),
        ("tool-results/x/a", "tool-results/X/b"),
        ("tool-results/\u017f", "tool-results/s"),
    ],
)
def test_names_that_are_one_elsewhere_are_refused(side: tuple[str, str], machine: Machine) -> None:
    with pytest.raises(RemoteProtocolError, match="one on many systems"):
        machine.pull(Hostile(side=dict.fromkeys(side, b"x")))
    assert machine.tree() == {}


def test_one_file_told_twice_is_refused(machine: Machine) -> None:
    server = Hostile(side={"tool-results/a": b"x"})
    server.files = lambda rows: rows * 2
    with pytest.raises(RemoteProtocolError, match="twice"):
        machine.pull(server)
    server = Hostile({"": lines(1), "files/tool-results/a": lines(1)})
    with pytest.raises(RemoteProtocolError, match="as a side file"):
        machine.pull(server)
    assert machine.tree() == {}


@pytest.mark.parametrize("where", ["project", "session", "subagents", "file", "dangling"])
def test_links_in_the_way_are_not_followed(where: str, machine: Machine, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    server = Hostile({"": lines(4), "subagents/agent-x": lines(2)})
    session = machine.folder / SESSION
    links = {
        "project": machine.folder,
        "session": session,
        "subagents": session / "subagents",
        "file": machine.folder / f"{SESSION}.jsonl",
        "dangling": session / "subagents" / "agent-x.jsonl",
    }
    links[where].parent.mkdir(parents=True)
    target = outside / "there.jsonl" if where in ("file", "dangling") else outside
    if where == "file":
        target.write_bytes(b"")
    links[where].symlink_to(target)
    with pytest.raises(UsageError):
        machine.pull(server)
    assert sorted(one.name for one in outside.iterdir()) == (["there.jsonl"] if where == "file" else [])
    assert not list(machine.root.glob(PREFIX + "*"))
    assert all(one.is_symlink() for one in machine.root.rglob("*.jsonl"))


@pytest.mark.parametrize("lie", ["chain", "fewer", "more", "content", "no proof", "never ends"])
def test_what_is_not_what_the_server_says_is_not_placed(lie: str, machine: Machine) -> None:
    server = Hostile()

    def change(rows: list[dict[str, Any]]) -> object:
        head = rows[0]["head"]
        head |= {
            "chain": {"chain_hash": "ab" * 32},
            "fewer": {"entry_count": 9},
            "more": {"entry_count": 2},
            "no proof": {"chain_hash": None},
        }.get(lie, {})
        return rows

    server.rows = change
    if lie == "content":
        server.body = lambda data: iter([data.replace(b"user", b"USER")])
    if lie == "more":
        server.body = lambda _: iter([lines(4)])
    if lie == "never ends":
        server.body = lambda _: iter(lambda: b"x\n" * 100, None)
    with pytest.raises(RemoteProtocolError):
        machine.pull(server)
    assert machine.tree() == {}
    assert machine.told == []


@pytest.mark.parametrize("lie", ["size", "digest", "content", "longer", "negative"])
def test_a_side_file_is_what_its_digest_says(lie: str, machine: Machine) -> None:
    server = Hostile(side={"tool-results/a": b"content"})
    changes: dict[str, dict[str, Any]] = {
        "size": {"size": 9},
        "negative": {"size": -1},
        "digest": {"digest": render_digest(bytes(32))},
    }
    server.files = lambda rows: [{**rows[0], **changes.get(lie, {})}]
    bodies = {"content": b"another", "longer": b"content and more"}
    if lie in bodies:
        server.body = lambda data: iter([bodies[lie] if data == b"content" else data])
    with pytest.raises(RemoteProtocolError):
        machine.pull(server)
    assert machine.tree() == {}


def test_an_absurd_size_is_refused_before_a_byte_is_asked_for(machine: Machine) -> None:
    server = Hostile(side={"tool-results/a": b"content"})
    server.files = lambda rows: [{**rows[0], "size": 10**15}]
    with pytest.raises(UsageError, match="free on this disk"):
        machine.pull(server)
    assert not any("/files/" in path for path in server.asked)


def test_a_stream_ends_before_the_disk_is_full(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "_LOOK_BYTES", 64)
    free = iter([10**12, 10**12, 10**3])
    usage = type("Usage", (), {"free": property(lambda _: next(free, 10**3))})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage())
    with pytest.raises(AgentError, match="would be left on the disk"):
        machine.pull(Hostile({"": lines(400)}))
    assert machine.tree() == {}


@pytest.mark.parametrize("after", [1, 40, 100, 230])
def test_what_breaks_off_goes_on_behind_the_last_whole_line(after: int, machine: Machine) -> None:
    server = Hostile({"": lines(8)}, {"tool-results/a": b"content" * 40})
    breaks = iter([True, True, True])

    def broken(data: bytes) -> Iterator[bytes] | None:
        if not next(breaks, False):
            return None

        def pieces() -> Iterator[bytes]:
            yield data[:after]
            raise Unreachable("test can't be reached: the connection broke off")

        return pieces()

    server.body = broken
    if after == 1:  # not a line further, three times
        with pytest.raises(Unreachable):
            machine.pull(server)
        assert machine.tree() == {}
        return
    breaks = iter([False, True, True])  # its transcript, which comes after the side file
    machine.pull(server)
    assert (machine.folder / f"{SESSION}.jsonl").read_bytes() == lines(8)
    assert (machine.folder / SESSION / "tool-results" / "a").read_bytes() == b"content" * 40


def test_a_failure_at_any_file_leaves_none(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put = landing._put_once
    server = Hostile({"": lines(4), "subagents/agent-x": lines(2)}, {"tool-results/a": b"x"})
    for failing in range(3):
        calls = iter(range(9))

        def fail(source: str, target: str, *, at: int = failing, calls: Iterator[int] = calls) -> None:
            if next(calls) == at:
                raise OSError(5, "Input/output error")
            put(source, target)

        monkeypatch.setattr(landing, "_put_once", fail)
        machine.untold.clear()
        with pytest.raises(AgentError):
            machine.pull(server)
        assert machine.tree() == {}
        assert len(machine.untold) == 3


def test_what_appears_meanwhile_is_not_written_over(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link
    theirs = machine.folder / f"{SESSION}.jsonl"

    def late(source: str, target: str) -> None:
        if target == str(theirs):
            theirs.write_bytes(b"somebody else's")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(UsageError, match="is there already"):
        machine.pull(Hostile())
    assert theirs.read_bytes() == b"somebody else's"


def test_a_file_that_differs_is_not_written_over(machine: Machine) -> None:
    machine.folder.mkdir(parents=True)
    path = machine.folder / f"{SESSION}.jsonl"
    for here in (lines(3), lines(4).replace(b"user", b"USER"), b""):
        path.write_bytes(here)
        with pytest.raises(UsageError):
            machine.pull(Hostile())
        assert path.read_bytes() == here
    side = machine.folder / SESSION / "tool-results" / "a"
    side.parent.mkdir(parents=True)
    side.write_bytes(b"another")
    path.unlink()
    with pytest.raises(UsageError, match="other content"):
        machine.pull(Hostile(side={"tool-results/a": b"content"}))
    assert not path.exists()


def test_the_rest_joins_what_is_here(machine: Machine) -> None:
    """Its main transcript lies in another folder; what is missing goes there."""
    other = machine.root / "-elsewhere"
    other.mkdir(parents=True)
    (other / f"{SESSION}.jsonl").write_bytes(lines(4))
    machine.pull(Hostile({"": lines(4), "subagents/agent-x": lines(2)}))
    assert (other / SESSION / "subagents" / "agent-x.jsonl").read_bytes() == lines(2)
    assert not machine.folder.exists()


def test_a_crash_in_the_middle_leaves_no_half_file(machine: Machine) -> None:
    """What lies below the root when the process dies is nothing that a scanner takes for a transcript."""

    class Died(BaseException):
        pass

    seen: list[list[Observation]] = []
    server = Hostile({"": lines(8)})

    def dying(data: bytes) -> Iterator[bytes]:
        yield data[:100]
        seen.append(machine.look())
        raise Died

    server.body = dying
    with pytest.raises(Died):
        machine.pull(server)
    assert seen == [[]]
    stale = machine.root / f"{PREFIX}stale"
    stale.mkdir()
    (stale / "1").write_bytes(b"of a crash")
    assert machine.look() == []
    os.utime(stale, (0, 0))
    server.body = lambda _: None
    machine.pull(server)
    assert not stale.exists()


@pytest.mark.parametrize("status", [401, 403, 404, 410, 500, 302])
def test_answers_that_are_none(status: int, machine: Machine) -> None:
    server = Hostile()
    server.send = lambda request: reply(status)  # type: ignore[method-assign]
    with pytest.raises(AgentError) as caught:
        machine.pull(server)
    assert isinstance(caught.value, SessionDeleted) == (status == 410)
    assert machine.tree() == {}


# ---- servers that speak no more than the base protocol ----


class Base(StrictBaseServer):
    """Gives events by pages when it has some."""

    def __init__(self, pages: Sequence[tuple[int, object]] = ()) -> None:
        super().__init__()
        self.pages = list(pages)
        self.limits: list[str] = []

    def send(self, request: Request) -> RawReply:
        parts = urlsplit(request.path)
        if not parts.path.endswith("/teleport-events"):
            return super().send(request)
        query = parse_qs(parts.query)
        self.limits.append(query["limit"][0])
        at = int(query.get("cursor", ["0"])[0])
        if at >= len(self.pages):
            return reply(404)
        status, page = self.pages[at]
        if isinstance(page, Exception):
            self.pages[at] = (200, {"data": [{"payload": None}], "next_cursor": None})
            raise page
        return reply(status, json.dumps(page).encode())

    def receive(self, request: Request, take: Callable[[bytes], object]) -> RawReply:
        raise AssertionError("a base server streams nothing")


def pull_base(machine: Machine, server: Base, session: str = SESSION) -> Report:
    offer = Offer(session, None, bulk=False)
    return pull(server, offer, machine.here(), Wish("there", str(machine.work)))


def event(number: int, session: str = SESSION) -> dict[str, Any]:
    return {"event_id": str(number), "payload": json.loads(LINE % (number, session.encode()))}


def content(machine: Machine) -> list[Any]:
    (path,) = machine.root.rglob("*.jsonl")
    return [json.loads(line)["uuid"] for line in path.read_bytes().splitlines()]


def test_loglines_where_there_are_no_events(machine: Machine) -> None:
    server = Base()
    server.sessions[SESSION] = lines(3).splitlines()
    report = pull_base(machine, server)
    assert content(machine) == ["u0", "u1", "u2"]
    assert any("proves nothing" in note for note in report.notes)
    (row,) = machine.told
    assert row.cursor == row.cursor._replace(entry_count=3, sent_count=3, last_uuid="u2", generation=None)
    assert row.cursor.offset == row.size
    with pytest.raises(UsageError, match="knows no session"):
        pull_base(machine, server, "nobody")


def test_events_by_pages_without_those_that_say_nothing(machine: Machine) -> None:
    first = {"data": [event(0), {"payload": None}, event(1), {}], "next_cursor": "1"}
    server = Base([(200, first), (200, {"data": [event(2)]})])
    assert not any("may be more" in note for note in pull_base(machine, server).notes)
    assert content(machine) == ["u0", "u1", "u2"]


def test_a_page_that_is_missing_keeps_what_came_and_says_so(machine: Machine) -> None:
    server = Base([(200, {"data": [event(0)], "next_cursor": "1"}), (404, {})])
    assert any("may be more" in note for note in pull_base(machine, server).notes)
    assert content(machine) == ["u0"]


def test_no_more_than_a_hundred_pages(machine: Machine) -> None:
    server = Base([(200, {"data": [event(at)], "next_cursor": str(at + 1)}) for at in range(120)])
    assert any("100 pages" in note for note in pull_base(machine, server).notes)
    assert len(content(machine)) == 100


def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones(machine: Machine) -> None:
    large = Unreachable("test answers with more than 67108864 bytes, which is not this protocol")
    server = Base([(200, large), (200, {})])
    server.pages[0] = (200, large)
    pull_base(machine, server)
    assert server.limits == ["1000", "100"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data": 1}', b'{"data": [{"payload": {]}', b"[" * 10**6, b"<html>"])
def test_pages_that_are_none(body: bytes, machine: Machine) -> None:
    server = Base()
    server.send = lambda request: reply(200, body)  # type: ignore[method-assign]
    with pytest.raises(AgentError):
        pull_base(machine, server)
    assert machine.tree() == {}


def test_entries_that_a_base_server_spread_over_lines_are_lines_again(machine: Machine) -> None:
    server = Base()
    spread = json.dumps({"loglines": [event(0)["payload"], event(1)["payload"]]}, indent=2).encode()
    server.send = lambda request: reply(404) if "teleport" in request.path else reply(200, spread)  # type: ignore[method-assign]
    pull_base(machine, server)
    assert content(machine) == ["u0", "u1"]


# ---- pieces of any size ----


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10**6])
def test_lines_are_proven_whatever_the_pieces_are(size: int) -> None:
    data = b"a\n\n" + lines(3) + b"\x00\xff\n" + b"x" * 5000 + b"\n"
    meter = Meter()
    for at in range(0, len(data), size):
        meter.feed(data[at : at + size])
    assert (meter.entries, meter.whole) == (data.count(b"\n"), len(data))
    assert meter.chain == extend_chain(EMPTY_CHAIN, split_lines(data))
    meter.feed(b"open")
    meter.forget_rest()
    meter.feed(b"b\n")
    assert meter.chain == extend_chain(EMPTY_CHAIN, [*split_lines(data), b"b"])


def test_the_cursor_is_that_of_a_push_that_is_done(machine: Machine) -> None:
    machine.pull(Hostile(side={"tool-results/a": b"content"}))
    rows = {row.stream.subpath: row.cursor for row in machine.told}
    chain = extend_chain(EMPTY_CHAIN, split_lines(lines(4)))
    cursor = rows[""]
    assert cursor == Cursor(len(lines(4)), 4, "u", chain, cursor.marker, GENERATION, 4)
    assert rows[FILES + "tool-results/a"].offset == len(b"content")
