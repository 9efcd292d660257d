"""Things that are no files stand where the state should be, or nobody may touch it: the agent starts and delivers."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import receiver_without_network
from tests.faults.test_state_mutations import Attack, fast_folder, start_attack, write_files
from tests.reliability import MakeTally
from tests.system.privileges import needs_posix, open_folder, unprivileged

__all__ = ["fast_folder", "start_attack"]

TRIES_EACH = 25
MODES = (0o000, 0o200, 0o400, 0o444, 0o600)

Place = Callable[[random.Random, Path], None]


def a_folder(chance: random.Random, part: Path) -> None:
    part.mkdir()
    if chance.random() < 0.5:
        (part / "something").touch()


def a_dangling_link(chance: random.Random, part: Path) -> None:
    part.symlink_to(part.parent / chance.choice(["nowhere", "no/where"]))


def a_link_to_itself(_chance: random.Random, part: Path) -> None:
    part.symlink_to(part)


def a_link_to_another_file(chance: random.Random, part: Path) -> None:
    other = part.parent / "other"
    other.write_bytes(chance.choice([b"", b"somebody's own", chance.randbytes(9000)]))
    part.symlink_to(other)


def a_link_to_a_folder(_chance: random.Random, part: Path) -> None:
    part.symlink_to(part.parent)


def a_pipe(_chance: random.Random, part: Path) -> None:
    os.mkfifo(part)


def a_device(_chance: random.Random, part: Path) -> None:
    part.symlink_to("/dev/full")


@needs_posix
@pytest.mark.parametrize(
    "place",
    [a_folder, a_dangling_link, a_link_to_itself, a_link_to_another_file, a_link_to_a_folder, a_pipe, a_device],
    ids=lambda place: place.__name__,
)
def test_what_stands_in_its_place_stops_nothing(
    place: Place, start_attack: Callable[[str], Attack], tally: MakeTally
) -> None:
    attack = start_attack(place.__name__)
    counted = tally("nothing is lost, nothing is sent twice", f"state file: {place.__name__.replace('_', ' ')} instead")
    for _ in range(TRIES_EACH):
        write_files(attack.folder, attack.files)
        part = attack.folder / attack.chance.choice(["state.db", "state.db", "state.db-wal", "state.db-shm"])
        part.unlink(missing_ok=True)
        place(attack.chance, part)
        attack.try_start(counted)


@needs_posix
def test_a_file_in_the_place_of_its_folder_stops_nothing(
    start_attack: Callable[[str], Attack], tally: MakeTally
) -> None:
    attack = start_attack("folder")
    counted = tally("nothing is lost, nothing is sent twice", "state file: its folder is a file, or a link to nowhere")
    for number in range(TRIES_EACH):
        shutil.rmtree(attack.folder, ignore_errors=True)
        attack.folder.unlink(missing_ok=True)
        if number % 2:
            attack.folder.touch()
        else:
            attack.folder.symlink_to("nowhere")
        attack.try_start(counted)


@needs_posix
def test_modes_that_forbid_it_stop_nothing(tally: MakeTally) -> None:
    counted = tally("nothing is lost, nothing is sent twice", "state file: modes of files and folder")
    with open_folder() as folder, unprivileged(), receiver_without_network(folder) as server:
        attack = Attack(folder, server, "modes")
        for _ in range(3 * TRIES_EACH):
            write_files(attack.folder, attack.files)
            for part in attack.folder.iterdir():
                part.chmod(attack.chance.choice(MODES))
            attack.folder.chmod(attack.chance.choice([0o700, 0o500, 0o000, 0o300]))
            attack.try_start(counted)
