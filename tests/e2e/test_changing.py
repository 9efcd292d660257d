"""What changes a transcript, by the command line and by the socket, with a real receiver: the server begins a new
generation, and what was before stays readable there."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.config import environment, load_settings
from agent.cli.running import running_daemon
from agent.core.wire import StreamHead
from agent.delivery.state.tasks import TrackKey
from agent.errors import AgentError
from agent.system.control_socket import ControlClient
from agent.system.paths import default_paths
from agent.system.tokens.sources import open_tokens
from tests.cli.running import run
from tests.e2e.processes import Receiver, receiver
from tests.e2e.test_pull import Machine, fetch_streams, no_way_out
from tests.waiting import wait_for

COMPACTED = "79188635-1d9c-45a4-9010-27a67efa5742"
LINES_BEFORE = 117

__all__ = ["no_way_out"]


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "receiver") as made:
        yield made


@pytest.fixture
def machine(there: Receiver, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / "mine", there.url, monkeypatch)
    folder = made.projects / "p"
    folder.mkdir()
    shutil.copyfile(next(corpus.rglob(f"{COMPACTED}.jsonl")), folder / f"{COMPACTED}.jsonl")
    rest(made)
    assert made.run("push").status == 0
    return made


def rest(machine: Machine) -> Path:
    """As if nobody had written for an hour."""
    path = machine.projects / "p" / f"{COMPACTED}.jsonl"
    path.chmod(0o600)
    old_s = path.stat().st_mtime - 3600
    os.utime(path, (old_s, old_s))
    return path


def counts(machine: Machine) -> list[tuple[int, bool, int]]:
    rows: list[StreamHead] = fetch_streams(machine, COMPACTED)
    return [(row.head.entry_count, row.current, row.shared_entries) for row in rows]


def test_back_before_a_compaction_and_on(machine: Machine, there: Receiver) -> None:
    path = machine.projects / "p" / f"{COMPACTED}.jsonl"
    before = path.read_bytes()
    total = before.count(b"\n")
    (one,) = machine.run("sessions", "compaction", "list", COMPACTED[:8], "--json").json()["checkpoints"]
    assert (one["number"], one["line"]) == (1, LINES_BEFORE + 1)
    assert "checkpoint 1: 117 lines before it" in machine.run("sessions", "compaction", "get", COMPACTED, "1").out
    assert machine.run("sessions", "compaction", "restore", COMPACTED, "1").status == 2, "nobody is here to be asked"
    assert path.read_bytes() == before
    done = machine.run("sessions", "compaction", "restore", COMPACTED, "1", "--yes", "--json").json()
    assert path.read_bytes().count(b"\n") == LINES_BEFORE
    assert Path(done["archive"]).read_bytes() == before
    assert machine.run("push").status == 0
    assert counts(machine) == [(total, False, 0), (LINES_BEFORE, True, LINES_BEFORE)]
    older = str(fetch_streams(machine, COMPACTED)[0].head.generation)
    old = there.get(f"/v1/session_ingress/session/{COMPACTED}/entries?generation={older}")
    assert old.count(b"\n") == total, "the old one is readable"
    assert machine.run("sessions", "verify", "--json").json()["equal"] is True
    assert len(machine.run("sessions", "list", "--json").json()["sessions"]) == 1, "the archive is no session"


def test_the_last_lines_and_an_empty_one(machine: Machine) -> None:
    done = machine.run("sessions", "compact", COMPACTED, "--keep", "5", "--yes", "--json").json()
    assert 5 <= done["kept"] < done["total"]
    assert machine.run("push").status == 0
    assert [row[:2] for row in counts(machine)] == [(done["total"], False), (done["kept"], True)]
    again = machine.run("sessions", "compact", COMPACTED, "--keep", "5", "--yes")
    assert (again.status, "may be at work" in again.err) == (2, True)
    rest(machine)
    assert machine.run("sessions", "reset", COMPACTED, "--yes").status == 0
    assert machine.run("push").status == 0
    assert len(counts(machine)) == 3
    assert machine.run("sessions", "verify", "--json").json()["equal"] is True


def test_a_branch_is_a_session_of_its_own(machine: Machine) -> None:
    done = machine.run("sessions", "compaction", "branch", COMPACTED, "latest", "--json").json()
    assert machine.run("push").status == 0
    (row,) = fetch_streams(machine, done["session_id"])
    assert row.head.entry_count == done["kept"] > 50
    assert len(counts(machine)) == 1, "the old one is as it was"


@pytest.mark.parametrize("transcript", [False, True])
def test_deleted_there_and_not_sent_again(transcript: bool, machine: Machine) -> None:
    path = machine.projects / "p" / f"{COMPACTED}.jsonl"
    before = path.read_bytes()
    more = ["--transcript"] if transcript else []
    assert machine.run("sessions", "delete", COMPACTED, *more).status == 2
    done = machine.run("sessions", "delete", COMPACTED, *more, "--yes", "--json").json()
    assert done["servers"] == [{"destination": "default", "outcome": "deleted"}]
    assert [Path(one).read_bytes() for one in done["archives"]] == ([before] if transcript else [])
    assert path.exists() != transcript
    if not transcript:
        with path.open("ab") as file:
            file.write(b'{"type":"user","uuid":"late"}\n')
    machine.run("push")
    with pytest.raises(AgentError):
        run_pull(machine)
    if not transcript:
        assert machine.run("restore", COMPACTED).status == 0
        assert [row[0] for row in counts(machine)] == [before.count(b"\n") + 1]


def run_pull(machine: Machine) -> None:
    done = machine.run("pull", COMPACTED, "--project", str(machine.work))
    if done.status:
        raise AgentError(done.err)


def test_nothing_is_taken_away_while_a_server_can_not_be_reached(machine: Machine, there: Receiver) -> None:
    there.stop()
    done = machine.run("sessions", "delete", COMPACTED, "--transcript", "--yes", "--json")
    assert done.status == 69
    assert done.json()["archives"] == []
    assert (machine.projects / "p" / f"{COMPACTED}.jsonl").exists()


def test_the_same_by_the_socket(machine: Machine) -> None:
    machine.run("status")  # its environment
    paths = default_paths(environment())
    settings = load_settings(paths)
    tokens = open_tokens(settings.destinations, paths.instance, environment())
    path = machine.projects / "p" / f"{COMPACTED}.jsonl"
    key = TrackKey("default", COMPACTED, "")
    with running_daemon(settings, paths, tokens, watch=True) as daemon, ControlClient(paths.socket) as client:
        wait_for(lambda: daemon.full_scans > 0)

        def count() -> int:
            return int(daemon.ask(lambda engine: engine.tracks[key].cursor.entry_count))

        def settled() -> bool:
            return bool(daemon.ask(lambda engine: engine.tracks[key].state == "synced"))

        (one,) = client.call("sessions.compaction.list", session=COMPACTED)["checkpoints"]
        assert one["line"] == LINES_BEFORE + 1
        assert client.call("sessions.compaction.get", session=COMPACTED, checkpoint="1")["summary"]
        branch = client.call("sessions.compaction.branch", session=COMPACTED, checkpoint="1")
        assert Path(branch["path"]).is_file()
        client.call("sessions.compaction.restore", session=COMPACTED, checkpoint="1")
        wait_for(lambda: settled() and count() == LINES_BEFORE)
        rest(machine)
        done = client.call("sessions.compact", session=COMPACTED, keep=3)
        wait_for(lambda: settled() and count() == done["kept"])
        rest(machine)
        client.call("sessions.reset", session=COMPACTED)
        wait_for(lambda: settled() and count() == path.read_bytes().count(b"\n"))
        for wrong in ({"session": "nobody", "keep": 3}, {"session": COMPACTED, "keep": 0}, {"keep": 1}, {"session": 1}):
            with pytest.raises(AgentError):
                client.call("sessions.compact", **wrong)
        rest(machine)
        gone = client.call("sessions.delete", session=COMPACTED, transcript=True)
        assert gone["servers"] == [{"destination": "default", "outcome": "deleted"}]
        assert len(gone["archives"]) == 1
        wait_for(lambda: daemon.ask(lambda engine: engine.tracks[key].state == "gone"))
    assert json.loads(run("status", "--json").out)["counts"]
