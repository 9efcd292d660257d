"""Whoever dies between taking the spool over and handling its lines: none is lost."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.system.state.spool import Spool
from tests.conftest import REPOSITORY
from tests.e2e.processes import agent, end, environment, read_until, receiver, write_config
from tests.reliability import MakeTally

KILLS = 30
BATCH = 300
LONGEST_WORK_S = 0.015
"""About what one batch takes."""

TAKER = """
import os, sys, time
from agent.delivery.discovery.scanner import Root
from agent.delivery.discovery.spooling import Spooling
from agent.providers import claude
from agent.system.state.spool import Spool

class Log:
    def look(self, path):
        file = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, path.encode() + b"\\n")
        os.close(file)

def fail():
    raise AssertionError

roots = [Root(claude, sys.argv[2])]
spooling = Spooling(Spool(sys.argv[1]), roots, Log(), scan=fail, requeued=print, monotonic_s=time.monotonic)
print("ready", flush=True)
while True:
    spooling.poll()
"""
"""Takes lines up as the agent does, and writes down which it looked at."""


def test_kills_at_any_moment_lose_no_line(tmp_path: Path, tally: MakeTally) -> None:
    told = tally("nothing is lost", "SIGKILL while the hooks' spool is taken over")
    chance = random.Random(7)
    root, log = tmp_path.resolve() / "projects", tmp_path / "log"
    root.mkdir()
    log.touch()
    spool = Spool(str(tmp_path / "spool"))
    named: list[bytes] = []
    cut = 0
    for _ in range(KILLS):
        taker = [sys.executable, "-c", TAKER, spool.path, str(root), str(log)]
        with subprocess.Popen(taker, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as victim:
            read_until(victim, "ready")
            batch = [root / f"{len(named) + number}.jsonl" for number in range(BATCH)]
            for path in batch:
                path.touch()
            named += [os.fsencode(path) for path in batch]
            spool.requeue({str(path): "s" for path in batch})
            with pytest.raises(subprocess.TimeoutExpired):
                victim.wait(chance.uniform(0.0, LONGEST_WORK_S))
            end(victim, signal.SIGKILL)
        seen = set(log.read_bytes().splitlines())
        left: set[bytes] = set()
        for one in [*tmp_path.glob("spool-*.taken"), Path(spool.path)]:
            if one.exists():
                left |= {os.fsencode(path) for path in spool.read(str(one))}
        lost = set(named) - seen - left
        told.note(lost=len(lost))
        cut += 0 < len(left & set(named[-BATCH:]) - seen) < BATCH
        assert not lost
    assert cut, "no kill came in the middle of a batch"


DYING = """
import os, signal, sys
from agent.system.state import spool
spool.Spool.read = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["transcriptd", "run"]
from agent.cli.main import main
main()
"""


def test_an_agent_that_died_right_after_the_take_over_takes_it_up_first(tmp_path: Path, tally: MakeTally) -> None:
    told = tally("nothing is lost", "SIGKILL between taking the hooks' spool over and reading it")
    home, projects, elsewhere = tmp_path / "home", tmp_path / "projects", tmp_path / "elsewhere" / "p" / "s.jsonl"
    projects.mkdir()
    elsewhere.parent.mkdir(parents=True)
    elsewhere.touch()
    spool = Spool(str(home / "state" / "spool"))
    with receiver(tmp_path / "data") as server:
        write_config(home, server.url, projects)
        (home / "state").mkdir(mode=0o700)
        spool.append("s", str(elsewhere))  # nothing but the spool tells of it
        died = subprocess.run(
            [sys.executable, "-c", DYING], cwd=REPOSITORY, env=environment(home), capture_output=True, check=False
        )
        assert died.returncode == -signal.SIGKILL
        assert spool.signature() is None
        assert len(list((home / "state").glob("spool-*.taken"))) == 1
        with agent(home) as working:
            read_until(working, "transcriptd is running")
            said = _until_outside_is_told(home)
            end(working)
    told.note(lost=int(str(elsewhere) not in said))
    assert str(elsewhere) in said
    assert not list((home / "state").glob("spool-*"))


def _until_outside_is_told(home: Path) -> str:
    """What `status` says, once it tells of the transcript elsewhere; empty when it does not."""
    from tests.e2e.processes import command

    for _ in range(100):
        said = command(home, "status").stdout
        if "outside the watched folders" in said:
            return said.replace("\n", "")
    return ""
