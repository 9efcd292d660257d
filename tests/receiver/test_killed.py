"""The receiver killed while it takes entries, generations and side files: what was acknowledged is there, once."""

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.transcripts.session import Head, StreamId
from agent.core.transcripts.transcript import EMPTY_CHAIN, extend_chain
from tests.receiver.dying import DATA
from tests.receiver.harness import Client, Receiver, fresh_stream, head_of
from tests.receiver.test_files import digest_of, file_path, get, kept, send_rest
from tests.receiver.test_generations import begin, heads_of
from tests.reliability import MakeTally, Tally

posix = pytest.mark.skipif(os.name != "posix", reason="SIGKILL and fork")
ROUNDS = 12


class Writer:
    """Appends to one generation of a stream, and knows what was acknowledged and what was on its way."""

    def __init__(self, stream: StreamId, generation: str, shared: list[bytes], seed: int) -> None:
        self.stream = stream
        self.head = Head(generation=generation)
        self.lines = list(shared)
        self.pending: list[bytes] = []
        self.acknowledged = 0
        self._chance = random.Random(seed)

    def write(self, client: Client) -> None:
        self.pending = [
            b"%d %s" % (len(self.lines) + number, b"x" * self._chance.choice([5, 500, 40_000]))
            for number in range(self._chance.randint(1, 30))
        ]
        answer = client.append(self.stream, self.head, b"".join(line + b"\n" for line in self.pending))
        assert answer.status == 200
        self.head = head_of(answer)
        self.lines += self.pending
        self.pending = []
        self.acknowledged += 1

    def compare(self, client: Client, lost: Tally, twice: Tally) -> None:
        """With what a new process has: all that was acknowledged, and the batch under way wholly or not at all."""
        stored = client.entries(self.stream, generation=self.head.generation).body.split(b"\n")[:-1]
        wanted = self.lines + self.pending if len(stored) > len(self.lines) else self.lines
        lost.note_lines(wanted, stored)
        twice.note(duplicated=max(0, len(stored) - len(wanted)))
        assert stored == wanted
        self.head = heads_of(client, self.stream)[self.head.generation or ""]
        assert self.head.chain_hash == extend_chain(EMPTY_CHAIN, stored).hex()
        self.lines, self.pending = stored, []


class Uploader:
    """Sends one side file after the other, a piece at a time."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.whole: dict[str, bytes] = {}
        self.under_way = b""

    def send(self, client: Client) -> None:
        self.under_way = self.under_way or os.urandom(3 << 20)
        path = str(len(self.whole))
        answer = client.ask(
            "PUT", file_path(self.session, path), self._pieces(), Content_Digest=digest_of(self.under_way)
        )
        assert answer.status in (201, 204)
        self.whole[path], self.under_way = self.under_way, b""

    def _pieces(self) -> Iterator[bytes]:
        for start in range(0, len(self.under_way), 64 << 10):
            yield self.under_way[start : start + (64 << 10)]

    def compare(self, client: Client, lost: Tally) -> int:
        """Gives behind how many bytes the one under way went on."""
        for path, data in self.whole.items():
            there = get(client, self.session, path).body == data
            lost.note(lost=not there)
            assert there
        if not self.under_way:
            return 0
        went_on = kept(client, self.session, "x", self.under_way)
        if get(client, self.session, str(len(self.whole))).status == 404:
            send_rest(client, self.session, self.under_way)
            assert get(client, self.session, "x").body == self.under_way
        self.under_way = b""
        return went_on


@posix
def test_killed_again_and_again(data: Path, tally: MakeTally) -> None:
    chance = random.Random(7)
    lost = tally("nothing is lost", "SIGKILL of the receiver while it appends to two generations of two streams")
    twice = tally("nothing is sent twice", "SIGKILL of the receiver while it appends to two generations of two streams")
    files = tally("nothing is lost", "SIGKILL of the receiver while it takes a side file")
    writers: list[Writer] = []
    uploader = Uploader(fresh_stream().session_id)
    with Receiver(data) as receiver, receiver.client() as client:
        for stream in (fresh_stream(), fresh_stream("subagents/agent-x")):
            old = Writer(stream, str(uuid.uuid4()), [], len(writers))
            old.write(client)
            new = Writer(stream, str(uuid.uuid4()), old.lines[:1], len(writers) + 1)
            new.head = head_of(begin(client, stream, new.head.generation or "", old.head.generation, 1))
            writers += [old, new]
        receiver.kill()
    went_on = 0
    for _ in range(ROUNDS):
        with Receiver(data) as receiver:
            with receiver.client() as client:
                for writer in writers:
                    writer.compare(client, lost, twice)
                went_on += uploader.compare(client, files) > 0
            _run_and_kill(receiver, writers, uploader, chance.randint(4, 80))
    assert sum(writer.acknowledged for writer in writers) > 4 * ROUNDS
    assert went_on


def _run_and_kill(receiver: Receiver, writers: list[Writer], uploader: Uploader, acknowledged: int) -> None:
    enough = threading.Event()
    until = sum(writer.acknowledged for writer in writers) + acknowledged
    failures: list[BaseException] = []

    def work(doer: Writer | Uploader) -> None:
        with receiver.client() as client:
            try:
                while True:
                    doer.send(client) if isinstance(doer, Uploader) else doer.write(client)
                    if sum(writer.acknowledged for writer in writers) >= until:
                        enough.set()
            except (OSError, http.client.HTTPException):
                return
            except BaseException as exc:
                failures.append(exc)
                enough.set()
                raise

    threads = [threading.Thread(target=work, args=(doer,)) for doer in (*writers, uploader)]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    receiver.kill()
    for thread in threads:
        thread.join()
    assert not failures


@posix
def test_killed_at_every_call_to_the_disk_for_a_side_file(tally: MakeTally) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.receiver.dying"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    tries = [json.loads(line) for line in done.stdout.splitlines()]
    lost = tally("nothing is lost", "SIGKILL of the receiver at each of its calls to the disk for a side file")
    assert len(tries) > 12
    assert [one["killed"] for one in tries] == [True] * (len(tries) - 1) + [False]
    for one in tries:
        lost.note(lost=not one["right after"])
        assert one["whole before"], one  # never a part of a file, never one under a wrong name
        assert one["said to be there"] == one["was there"], one
        assert one["answer"] in (201, 204), one
        assert one["right after"], one
        assert one["one content"], one
        assert one["nothing left"], one
    size = len(DATA)
    assert {one["offset"] for one in tries} == {0, size // 2, size}
