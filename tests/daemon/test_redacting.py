"""Secrets stay home on every way out, and rules that change look like no rewrite."""

import json
import logging
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.delivery.audit import AuditKind
from agent.core.delivery.lifecycle import State
from agent.core.redaction.redactor import Redactor, parse_rules
from agent.core.settings import Privacy
from agent.core.transcripts.session import StreamId
from agent.core.wire import RawReply, Request
from agent.delivery.privacy.redacting import Budget
from agent.delivery.push.verifier import Outcome, Subject, Verdict, verify_streams
from agent.delivery.state.inputs import Retry
from tests.core.secret_samples import Sample, make_samples
from tests.daemon.test_generations import contents
from tests.daemon.test_side_files import write
from tests.daemon.test_upload import Shelf
from tests.fakes import AsgiServer, ScriptedServer, StrictBaseServer, body_bytes
from tests.redactors import KEY, REDACTOR
from tests.reliability import MakeTally
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]
Lines = Callable[[int], bytes]

SAMPLES = make_samples(1, seed=77)
LATER_RULES = Redactor(parse_rules(Privacy(patterns=("word: word word",))), KEY)
OTHER_KEY = Redactor(parse_rules(Privacy()), b"another")


def entry_of(number: int, one: Sample, padding: int = 0) -> bytes:
    uuid = f"3f8b6c1e-9d3a-4b2f-8f1f-{number:012d}"
    content = [{"type": "tool_result", "content": f"$ env\n{one.text}\n" + "word " * (padding // 5)}]
    return json.dumps({"type": "user", "uuid": uuid, "message": {"content": content}}).encode() + b"\n"


def transcript() -> bytes:
    """One secret of every kind in entries, one in a line that is too long to hold, one in a title."""
    lines = [entry_of(number, one) for number, one in enumerate(SAMPLES)]
    lines.append(entry_of(900, SAMPLES[0], padding=3_000_000))
    title = {"type": "summary", "summary": f"deploy with {SAMPLES[4].text}", "leafUuid": "x"}
    prompt = {"type": "user", "uuid": "p", "message": {"content": f"use {SAMPLES[5].text}"}}
    return json.dumps(title).encode() + b"\n" + json.dumps(prompt).encode() + b"\n" + b"".join(lines)


def canaries() -> list[bytes]:
    return [one.secret[-16:].encode() for one in SAMPLES]


def leaks(data: bytes) -> list[bytes]:
    return [one for one in canaries() if one in data]


def below(folder: Path) -> bytes:
    """All bytes of all files, but for the transcripts themselves and for those that are held until they are sent."""
    files = [one for one in sorted(folder.rglob("*")) if one.is_file()]
    return b"\n".join(one.read_bytes() for one in files if not {"projects", "kept"} & set(one.parts))


def verdict(agent: SimulatedAgent, server: AsgiServer, redactor: Redactor = REDACTOR) -> Verdict:
    track = agent.track("s")
    subject = Subject(StreamId("s", ""), str(agent.path("s")), track.cursor.generation, track.cursor)
    (found,), unread = verify_streams(server, [subject], {}, redactor)
    assert not unread
    return found


def test_no_secret_leaves_by_any_way(
    make_agent: Make, receiver: AsgiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, tally: MakeTally
) -> None:
    t = tally("secrets stay home", "a secret of every kind, on every way out")
    caplog.set_level(logging.DEBUG)
    data = transcript()
    assert len(leaks(data)) == len(SAMPLES), "the canaries are there to begin with"
    wire: list[bytes] = []
    spy = ScriptedServer(receiver, lambda request: wire.append(body_bytes(request)))
    base, shelf, packed = StrictBaseServer(), Shelf(), Shelf(takes_gzip=True)
    for server, protocol in ((spy, "auto"), (base, "auto"), (shelf, "upload"), (packed, "upload")):
        agent = make_agent(server, protocol=protocol)
        agent.append("s", data)
        if server is spy:
            write(agent, "s", "tool-results/toolu_1.txt", "\n".join(one.text for one in SAMPLES).encode())
            write(agent, "s", "tool-results/long.txt", b"word " * 300_000 + SAMPLES[0].text.encode())
        agent.settle()
        assert agent.track("s").state is State.SYNCED, agent.track("s").reason
    ways = {
        "wire": b"\n".join(wire),
        "receiver": b"".join(contents(receiver, "s")) + below(tmp_path),
        "base": b"\n".join(b"\n".join(lines) for lines in base.sessions.values()),
        "upload": b"\n".join(shelf.files.values()),
        "gzip": b"\n".join(zlib.decompress(one, wbits=31) for one in packed.files.values()),
        "log": caplog.text.encode(),
    }
    for way, seen in ways.items():
        t.note(lost=len(leaks(seen)))
        assert not leaks(seen), f"{way}: {len(leaks(seen))} of {len(SAMPLES)}"
    assert ways["base"].count(b"[redacted:") >= len(SAMPLES)
    assert ways["receiver"].count(b"[redacted:") >= len(SAMPLES)


def test_what_was_replaced_is_told_but_not_what_it_was(make_agent: Make, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.append("s", entry_of(1, SAMPLES[0]) + entry_of(2, SAMPLES[0]) + entry_of(3, SAMPLES[8]))
    agent.settle()
    (row,) = [row for row in agent.store.audit() if row.kind == AuditKind.REDACTED]
    assert row.detail == f"2 {SAMPLES[0].kind}, 1 {SAMPLES[8].kind}"


def test_counts_and_proof_are_of_what_was_sent(make_agent: Make, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.append("s", transcript())
    agent.settle()
    assert verdict(agent, receiver).outcome is Outcome.EQUAL
    assert agent.track("s").cursor.raw_chain
    assert agent.track("s").size == agent.track("s").cursor.offset == len(transcript())


def test_nothing_is_remembered_twice_where_there_is_no_secret(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(5))
    agent.settle()
    assert agent.track("s").cursor.raw_chain == b""
    agent.append("s", entry_of(1, SAMPLES[0]))
    agent.settle()
    assert agent.track("s").cursor.raw_chain


@pytest.mark.parametrize("bulk", [True, False])
@pytest.mark.parametrize("later", [LATER_RULES, OTHER_KEY])
def test_other_rules_are_no_rewrite(
    bulk: bool, later: Redactor, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """What was sent stays as it was sent; what comes goes by the new rules, and the proof still holds."""
    base = StrictBaseServer()
    agent = make_agent(receiver if bulk else base)
    agent.append("s", lines(4) + entry_of(1, SAMPLES[0]) + lines(4))
    agent.settle()
    before = contents(receiver, "s") if bulk else [b"".join(base.sessions["s"])]
    agent.redactor = later
    agent.crash()
    for track in agent.engine.tracks.values():
        track.check = True
    agent.append("s", entry_of(2, SAMPLES[1]) + lines(1))
    agent.settle()
    after = contents(receiver, "s") if bulk else [b"".join(base.sessions["s"])]
    assert agent.track("s").state is State.SYNCED
    assert len(after) == 1, "no new generation"
    assert AuditKind.REWRITTEN not in {row.kind for row in agent.store.audit()}
    assert after[0].startswith(before[0])
    assert not leaks(after[0])
    if bulk:
        assert verdict(agent, receiver, later).outcome is Outcome.EQUAL


def test_a_head_that_the_server_tells_is_found_by_what_was_sent(
    make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    """A 409 after other rules came: the file is where it was, so the server's copy goes on."""
    agent = make_agent(receiver)
    agent.append("s", lines(4) + entry_of(1, SAMPLES[0]) + lines(4))
    agent.settle()
    agent.redactor = OTHER_KEY
    agent.crash()
    track = agent.track("s")
    track.cursor = track.cursor._replace(last_uuid="somebody-else")
    agent.append("s", lines(1))
    agent.settle()
    assert track.state is State.SYNCED
    assert len(contents(receiver, "s")) == 1
    assert verdict(agent, receiver, OTHER_KEY).outcome is Outcome.EQUAL


def test_a_rewrite_is_one_all_the_same(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    """Also where only the secret is another one, in the same place."""
    agent = make_agent(receiver)
    first, second = (entry_of(1, one) for one in make_samples(2)[:2])
    rest = lines(40)
    assert len(first) == len(second)
    agent.append("s", first + rest)
    agent.settle()
    agent.path("s").write_bytes(second + rest)
    agent.track("s").check = True
    agent.append("s", lines(1))
    agent.settle()
    assert len(contents(receiver, "s")) == 2
    assert verdict(agent, receiver).outcome is Outcome.EQUAL


def test_state_lost_is_found_again_by_what_was_sent(make_agent: Make, lines: Lines, receiver: AsgiServer) -> None:
    agent = make_agent(receiver)
    agent.append("s", lines(4) + entry_of(1, SAMPLES[0]) + lines(4))
    agent.settle()
    other = make_agent(receiver)
    other.append("s", agent.path("s").read_bytes() + lines(1))
    other.settle()
    assert other.track("s").state is State.SYNCED
    assert len(contents(receiver, "s")) == 1
    assert verdict(other, receiver).outcome is Outcome.EQUAL


@pytest.mark.parametrize("long", [0, 2_000_000])
def test_an_entry_that_can_not_be_redacted_in_time_waits(
    long: int, make_agent: Make, lines: Lines, receiver: AsgiServer
) -> None:
    late = [True]
    hurried = Redactor(parse_rules(Privacy()), KEY, lambda: late[0])
    agent = make_agent(receiver, redactor=hurried)
    agent.append("s", lines(2) + entry_of(1, SAMPLES[0], padding=long))
    agent.append("t", lines(2))
    agent.look()
    while agent.run_one():
        pass
    assert agent.track("s").state is State.WAITING
    assert agent.track("s").reason == "an entry can't be redacted in time"
    assert agent.track("t").state is State.SYNCED, "the others go on"
    late[0] = False
    agent.engine.handle(Retry())
    agent.settle()
    assert agent.track("s").state is State.SYNCED
    assert not leaks(b"".join(contents(receiver, "s")))


def test_a_refused_entry_leaves_a_tombstone_of_what_would_have_travelled(
    make_agent: Make, receiver: AsgiServer
) -> None:
    one = entry_of(7, SAMPLES[0])

    def refuse(request: Request) -> RawReply | None:
        return (
            RawReply(422, {}, b"{}")
            if b"000000000007" in body_bytes(request) and b"env" in body_bytes(request)
            else None
        )

    agent = make_agent(ScriptedServer(receiver, refuse))
    agent.append("s", entry_of(1, SAMPLES[1]) + one + entry_of(2, SAMPLES[2]))
    agent.settle()
    assert agent.track("s").state is State.SYNCED
    stone = next(json.loads(line) for line in contents(receiver, "s")[0].splitlines() if b"tombstone" in line)
    assert stone["size"] == len(REDACTOR.redact_line(one[:-1]))
    agent.track("s").check = True
    agent.append("s", entry_of(3, SAMPLES[3]))
    agent.settle()
    assert len(contents(receiver, "s")) == 1


def test_a_budget_is_of_each_task() -> None:
    used_s = [0.0]
    budget = Budget(lambda: used_s[0], 5.0)
    assert not budget.is_used_up()
    budget.start()
    used_s[0] = 6.0
    assert budget.is_used_up()
    budget.start()
    assert not budget.is_used_up()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_side_file_in_utf_16_keeps_its_secrets_here(
    make_agent: Make, lines: Lines, receiver: AsgiServer, tmp_path: Path, encoding: str
) -> None:
    """As PowerShell writes what is redirected to a file."""
    agent = make_agent(receiver)
    agent.append("s", lines(2))
    text = "".join(f"Name{number} = {one.text}\r\n" for number, one in enumerate(SAMPLES[:20]))
    write(agent, "s", "tool-results/toolu_1.txt", text.encode(encoding))
    agent.settle()
    stored = below(tmp_path)
    assert "Name19 = ".encode("utf-16-be" if encoding == "utf-16-be" else "utf-16-le") in stored
    for one in SAMPLES[:20]:
        assert not any(one.secret[-16:].encode(order) in stored for order in ("utf-16-le", "utf-16-be"))
