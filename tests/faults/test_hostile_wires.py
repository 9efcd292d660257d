"""What networks, portals and broken servers do to a request, in every phase of the two protocols, over real sockets.

While it lasts the agent neither hangs nor takes it for success; when the wire is good again, both sides are equal.
"""

import gzip
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.delivery.lifecycle import State
from agent.system import remote
from tests.conftest import REPOSITORY
from tests.fakes import AsgiServer, receiver_without_network
from tests.faults.amounts import linux
from tests.faults.test_statuses import PHASES, Phase, Trial, by_name
from tests.faults.wire_proxy import MISCHIEF, Wire
from tests.reliability import MakeTally
from tests.system.http_server import plain, sends, serving

CONNECT_S, READ_S, REPLY_S = 0.5, 0.2, 0.6
"""What the agent waits for here, in the place of a minute or two."""

TIMES = 2
"""Requests in a row that each mischief happens to; the second one meets an agent that tries again."""

MOST_S = 30.0
BOMB_MIB = 256
MOST_GROWTH_MIB = 32

BOMBED = """
import resource, sys
from agent.core.wire import Request
from agent.errors import Unreachable
from agent.system.remote import Remote
remote = Remote(sys.argv[1], lambda: "tsd_of_a_test")
before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    remote.send(Request("GET", "/"))
except Unreachable:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib >> 10)
remote.close()
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CONNECT_S", CONNECT_S), ("READ_S", READ_S), ("REPLY_S", REPLY_S)):
        monkeypatch.setattr(remote, name, value)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[AsgiServer]:
    with receiver_without_network(tmp_path) as made:
        yield made


@pytest.mark.parametrize("phase", PHASES, ids=by_name)
def test_a_hostile_wire_costs_time_and_nothing_else(
    phase: Phase, tmp_path: Path, receiver: AsgiServer, tally: MakeTally
) -> None:
    notes = tally("nothing is lost, nothing is sent twice", "a hostile wire, in each phase")
    wrong = []
    for number, (name, mischief) in enumerate(MISCHIEF.items()):
        with Wire().open() as wire:
            trial = Trial(tmp_path / str(number), wire.front, receiver, phase, f"w{number}")
            try:
                wire.mischief, wire.matches, wire.times = mischief, phase.matches, TIMES
                trial.mislead()
                began_s = time.monotonic()
                trial.live()
                took_s = time.monotonic() - began_s
                if not wire.done:
                    wrong.append(f"{name}: never came to this phase")
                if took_s > MOST_S:
                    wrong.append(f"{name}: took {took_s:.1f} s")
                wire.mischief = None
                trial.recover()
                local, stored = trial.agent.whole_lines(trial.session), trial.stored()
                notes.note_lines(local, stored)
                if stored != local or trial.agent.state(trial.session) is not State.SYNCED:
                    wrong.append(f"{name}: {len(local)} lines here, {len(stored)} there, {sorted(trial.stands())}")
            except AssertionError as exc:
                wrong.append(f"{name}: {exc}")
            finally:
                trial.close()
                shutil.rmtree(tmp_path / str(number), ignore_errors=True)
    assert not wrong, "\n".join(wrong)


@linux
@pytest.mark.parametrize("layers", [1, 2])
def test_a_compressed_bomb_takes_no_memory(layers: int) -> None:
    """Zeros, a thousandth of their size on the wire, or a hundred-thousandth."""
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(BOMB_MIB)) + packer.flush()
    for _ in range(layers - 1):
        bomb = gzip.compress(bomb)
    answer = plain("200 OK", bomb, "Content-Encoding: " + ", ".join(["gzip"] * layers))
    with serving(sends(answer, keep=False)) as server:
        command = [sys.executable, "-c", BOMBED, server.url]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < MOST_GROWTH_MIB
