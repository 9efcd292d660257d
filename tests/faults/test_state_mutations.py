"""Whatever became of the state's files, the agent starts, and the server ends up with each line once.

A real agent (engine, pusher, scanner, state) delivers to the real receiver; then the files it left, as a kill leaves
them, are spoilt in a way that a seed draws, more is written, and the next one begins with what it finds.
"""

import contextlib
import json
import os
import random
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.core.delivery.lifecycle import UNSENT
from agent.core.transcripts.transcript import extend_chain
from agent.core.wire import INGRESS, Request
from agent.delivery.base.world import Limits, World
from agent.delivery.discovery.scanner import Root, Scanner
from agent.delivery.engine.engine import Engine
from agent.delivery.privacy.permits import Guard, NoRules
from agent.delivery.push.pusher import Pusher
from agent.delivery.state.inputs import Observed, Vanished
from agent.delivery.state.tasks import Task
from agent.delivery.state.tracks import DestinationState
from agent.providers import PROVIDERS
from agent.system.files import reading as real_files
from agent.system.state.state_db import StateDb, open_state
from tests.fakes import AsgiServer, FakeClock, receiver_without_network
from tests.redactors import REDACTOR
from tests.reliability import MakeTally, Tally

TRIES_EACH = 80
SESSIONS = 6


class Agent:
    """An agent over real files and a real state, in virtual time."""

    def __init__(self, server: AsgiServer, folder: Path, rng: random.Random) -> None:
        self._server = server
        self._rng = rng
        self._clock = FakeClock()
        self.projects = folder / "projects"
        self.state = folder / "state" / "state.db"
        (self.projects / "p").mkdir(parents=True)

    def run(self) -> bool:
        """Starts, delivers all there is, and ends; or is killed: then what the files held comes to lie where they
        lay. False when the state was in memory at the end."""
        store = open_state(self.state, "state.damaged-1.db")
        try:
            self._deliver(store)
            is_in_file = "memory" not in store.note
            left = read_files(self.state.parent) if is_in_file else {}
        finally:
            store.close()
        if is_in_file and self._rng.random() < 0.5:
            write_files(self.state.parent, left)
        return is_in_file

    def _deliver(self, store: StateDb) -> None:
        tasks: list[Task] = []
        world = World(self._clock.now_s, self._clock.monotonic_s, self._rng.random, self._new_uuid)
        there = DestinationState("there", "http://127.0.0.1")
        engine = Engine([there], store, world, tasks.append, Limits(), guard=Guard(NoRules(), real_files))
        guard = Guard(NoRules(), real_files)
        pusher = Pusher({"there": self._server}, PROVIDERS, self._clock.now_s, guard=guard, redactor=REDACTOR)
        scanner = Scanner(
            [Root(PROVIDERS["claude"], str(self.projects))],
            lambda seen, live: engine.handle(Observed(seen, live)),
            lambda gone: engine.handle(Vanished(gone)),
        )
        engine.start()
        scanner.scan()
        engine.tick()
        for _ in range(5000):
            if tasks:
                engine.handle(pusher.run(tasks.pop()))
            elif engine.is_busy() or any(track.state in UNSENT for track in engine.tracks.values()):
                self._clock.advance(1.0)
            else:
                engine.journal.write()
                return
            engine.tick()
        raise AssertionError("not settled")

    def _new_uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def write_line(self, session: str) -> None:
        text = "w" * self._rng.randrange(200)
        line = json.dumps({"type": "user", "uuid": self._new_uuid(), "message": {"content": text}})
        with self.file(session).open("ab") as file:
            file.write(line.encode() + b"\n")

    def file(self, session: str) -> Path:
        return self.projects / "p" / f"{session}.jsonl"


Files = dict[str, bytes]
"""The state as it lies on disk: name → bytes of the database, its log and the index of that."""


def read_files(folder: Path) -> Files:
    names = ("state.db", "state.db-wal", "state.db-shm")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def write_files(folder: Path, files: Files) -> None:
    if folder.is_symlink():
        folder.unlink()
    if folder.is_dir():
        folder.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


# --- what may become of it ------------------------------------------------------------------------------------------

Chance = random.Random
Spoil = Callable[[Chance, Files, Files], Files]
"""Chance, the files of now, the files of an earlier time → what the next start finds."""


def pick(chance: Chance, files: Files) -> str:
    """The database more often than what lies beside it."""
    return chance.choice([*files, "state.db", "state.db"])


def edited(chance: Chance, files: Files, edit: Callable[[bytearray], object]) -> Files:
    name = pick(chance, files)
    data = bytearray(files[name])
    edit(data)
    return files | {name: bytes(data)}


def bit_flips(chance: Chance, files: Files, _older: Files) -> Files:
    def edit(data: bytearray) -> None:
        for _ in range(chance.choice([1, 1, 2, 8, 64, 512])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)

    return edited(chance, files, edit)


def bit_flips_in_values(chance: Chance, files: Files, _older: Files) -> Files:
    """Where SQLite has no eye: within a path, an id, a state, a number of a row."""

    def edit(data: bytearray) -> None:
        words = (b"claude", b"synced", b"/projects/p/s", b"there", b".jsonl", b"began_at_s")
        places = [at for word in words for at in find_all(data, word)]
        if places:
            at = chance.choice(places) + chance.randrange(-60, 60)
            data[max(0, min(at, len(data) - 1))] ^= 1 << chance.randrange(8)

    return edited(chance, files, edit)


def find_all(data: bytes | bytearray, word: bytes) -> Iterator[int]:
    at = data.find(word)
    while at >= 0:
        yield at
        at = data.find(word, at + 1)


def truncation(chance: Chance, files: Files, _older: Files) -> Files:
    name = pick(chance, files)
    return files | {name: files[name][: chance.randrange(len(files[name]) + 1)]}


def truncation_at_a_page(chance: Chance, files: Files, _older: Files) -> Files:
    name = pick(chance, files)
    return files | {name: files[name][: PAGE * chance.randrange(len(files[name]) // PAGE + 1)]}


PAGE = 4096


def nul_blocks(chance: Chance, files: Files, _older: Files) -> Files:
    def edit(data: bytearray) -> None:
        size = chance.choice([16, 512, PAGE, 2 * PAGE])
        for _ in range(chance.choice([1, 3])):
            at = size * chance.randrange(len(data) // size + 1)
            data[at : at + size] = bytes(len(data[at : at + size]))

    return edited(chance, files, edit)


def swapped_pages(chance: Chance, files: Files, _older: Files) -> Files:
    def edit(data: bytearray) -> None:
        if len(data) >= 2 * PAGE:
            one, other = (PAGE * chance.randrange(len(data) // PAGE) for _ in range(2))
            first, second = data[one : one + PAGE], data[other : other + PAGE]
            data[one : one + PAGE], data[other : other + PAGE] = second, chance.choice([first, second])

    return edited(chance, files, edit)


def header_edits(chance: Chance, files: Files, _older: Files) -> Files:
    def edit(data: bytearray) -> None:
        for _ in range(chance.choice([1, 1, 3])):
            if data:
                data[chance.randrange(min(100, len(data)))] = chance.choice([0, 1, 2, 3, 255, chance.randrange(256)])

    return edited(chance, files, edit)


def garbage(chance: Chance, files: Files, _older: Files) -> Files:
    sizes = [0, 1, 15, 16, 99, 100, 101, 511, 512, PAGE, 3 * PAGE]
    noise = chance.randbytes(chance.choice(sizes))
    magic = b"SQLite format 3\0"
    return files | {pick(chance, files): chance.choice([noise, magic[: len(noise)] + noise[16:]])}


def growth(chance: Chance, files: Files, _older: Files) -> Files:
    name = pick(chance, files)
    tail = chance.choice([bytes(PAGE), chance.randbytes(PAGE), chance.randbytes(77), files[name][: 4 * PAGE]])
    return files | {name: files[name] + tail}


def missing_files(chance: Chance, files: Files, _older: Files) -> Files:
    gone = chance.sample(sorted(files), chance.randrange(1, len(files) + 1))
    return {name: data for name, data in files.items() if name not in gone}


def mixed_times(chance: Chance, files: Files, older: Files) -> Files:
    """An older copy of some files, with the newer ones of the others; or all of them older."""
    return {name: chance.choice([files, older]).get(name, data) for name, data in files.items()}


def swapped_names(chance: Chance, files: Files, _older: Files) -> Files:
    names = list(files)
    chance.shuffle(names)
    return dict(zip(names, files.values(), strict=True))


def several_at_once(chance: Chance, files: Files, older: Files) -> Files:
    for spoil in chance.choices([bit_flips, nul_blocks, truncation, mixed_times, header_edits], k=2):
        files = spoil(chance, {name: data or b"x" for name, data in files.items()}, older)
    return files


SPOILS: tuple[Spoil, ...] = (
    bit_flips, bit_flips_in_values, truncation, truncation_at_a_page, nul_blocks, swapped_pages, header_edits, garbage,
    growth, missing_files, mixed_times, swapped_names, several_at_once,
)  # fmt: skip


# --- and what comes of that -----------------------------------------------------------------------------------------


class Attack:
    """An agent that has delivered; `try_start` after something was done to its state."""

    def __init__(self, folder: Path, server: AsgiServer, seed: str) -> None:
        self.chance = random.Random(seed)
        self.agent = Agent(server, folder, self.chance)
        self.folder = self.agent.state.parent
        self._server = server
        self._receiver = folder / "receiver.sqlite3"
        self._sessions = [f"s{number}" for number in range(SESSIONS)]
        for session in self._sessions * 4:
            self.agent.write_line(session)
        self.agent.run()
        self.older = self.files = read_files(self.folder)

    def try_start(self, tally: Tally) -> None:
        grown = self.chance.sample(self._sessions, 2)
        for session in grown:
            self.agent.write_line(session)
        is_in_file = self.agent.run()
        expected = {session: self.agent.file(session).read_bytes().splitlines() for session in self._sessions}
        hashes = [(session, "", extend_chain(bytes(32), lines)) for session, lines in expected.items()]
        differing = [one[0] for one in set(self._stored_hashes()) ^ set(hashes)]
        for session in differing or grown[:1]:
            tally.note_lines(expected.get(session, []), self._stored_lines(session))
        assert sorted(self._stored_hashes()) == hashes, "each stream once, in one generation, equal to its file"
        if is_in_file:
            self.older, self.files = self.chance.choice([self.older, self.files]), read_files(self.folder)

    def _stored_hashes(self) -> list[tuple[str, str, bytes]]:
        """Session, subpath and chain hash of all that the server holds."""
        query = (
            "select session_id, subpath, chain from generations g"
            " join streams on streams.id = g.stream join sessions on sessions.id = streams.session"
        )
        with contextlib.closing(sqlite3.connect(self._receiver)) as db:
            return db.execute(query).fetchall()

    def _stored_lines(self, session: str) -> list[bytes]:
        answer = self._server.send(Request("GET", f"{INGRESS}/session/{session}/entries?subpath=", {}, b""))
        return answer.body.splitlines() if answer.status == 200 else []


@pytest.fixture
def fast_folder() -> Iterator[Path]:
    """In memory where there is such a place: what is tried here needs files, and no disk that keeps its promises."""
    shared_memory = Path("/dev/shm")
    place = shared_memory if os.access(shared_memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="td-state-", dir=place) as folder:
        yield Path(folder)


@pytest.fixture
def start_attack(fast_folder: Path) -> Iterator[Callable[[str], Attack]]:
    with receiver_without_network(fast_folder) as server:
        yield lambda seed: Attack(fast_folder, server, seed)


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_the_agent_starts_and_delivers_whatever_its_state_became(
    spoil: Spoil, start_attack: Callable[[str], Attack], tally: MakeTally
) -> None:
    attack = start_attack(spoil.__name__)
    counted = tally("nothing is lost, nothing is sent twice", f"state file: {spoil.__name__.replace('_', ' ')}")
    for _ in range(TRIES_EACH):
        write_files(attack.folder, spoil(attack.chance, attack.files, attack.older))
        attack.try_start(counted)
