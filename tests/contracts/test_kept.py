"""Retained files in memory beside real ones: on one file system and on two, the same comes of the same."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import DiskError
from agent.system.files.keeping import Kept, KeptFiles
from tests.fakes import FakeClock
from tests.simulation.disk import FakeDisk
from tests.simulation.kept import FakeKept
from tests.simulation.real import RealFolder

NAMES = ("a", "b", "c")
KEPT_NAMES = ("claude/s/x", "claude/s/y", "claude/t/x")
STEPS = 120


@pytest.fixture(params=["one file system", "two file systems"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    shared = Path("/dev/shm")
    if request.param == "one file system":
        yield tmp_path / "state"
        return
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system to write to")
    folder = Path(tempfile.mkdtemp(prefix="td-", dir=shared))
    yield folder
    shutil.rmtree(folder)


def _come_of(kept: Any, source: str, name: str, room_bytes: int) -> Any:
    try:
        done = kept.keep(source, name, room_bytes=room_bytes)
    except DiskError as exc:
        return type(exc)
    if isinstance(done, Kept):
        return done.linked, done.size, done.mtime_ns, done.copied_bytes
    return "differs", done.size


def _seen(kept: Any, read: Any) -> list[Any]:
    return sorted((one.name, one.size, one.links, read(one.path)) for one in kept.list_kept())


@pytest.mark.skipif(os.name == "nt", reason="an open file can't be replaced there")
@pytest.mark.parametrize("seed", range(12))
def test_both_keep_the_same(seed: int, tmp_path: Path, state: Path) -> None:
    rng, clock = random.Random(seed), FakeClock()
    real_root, root = str(tmp_path / "projects"), os.sep + "projects"
    is_mounted = not state.is_relative_to(tmp_path)
    fake, real = FakeDisk(clock.now_s, os.sep + "kept" if is_mounted else ""), RealFolder(clock.now_s)
    fake.make_folder(root)
    real.make_folder(real_root)
    kepts: tuple[FakeKept, KeptFiles] = FakeKept(fake, os.sep + "kept"), KeptFiles(state / "kept")
    for _ in range(STEPS):
        clock.advance(1.0)
        name, other = rng.choice(NAMES), rng.choice(NAMES)
        paths = [os.path.join(one, name) for one in (root, real_root)]
        others = [os.path.join(one, other) for one in (root, real_root)]
        act, data = rng.choice(("append", "append", "keep", "keep", "keep", "replace", "unlink", "link", "let go")), b""
        data = bytes(rng.choices(b"xy", k=rng.randrange(1, 4)))
        kept_name, room_bytes = rng.choice(KEPT_NAMES), rng.choice((0, 3, 1 << 20))
        disks: list[Any] = [fake, real]
        there = fake.exists(paths[0])
        match act:
            case "keep":
                came = [_come_of(*one, kept_name, room_bytes) for one in zip(kepts, paths, strict=True)]
                assert came[0] == came[1], (act, name, kept_name)
            case "let go":
                for kept in kepts:
                    kept.let_go(kept_name)
            case "append" | "replace":
                for disk, path in zip(disks, paths, strict=True):
                    getattr(disk, act)(path, data)
            case "unlink" if there:
                for disk, path in zip(disks, paths, strict=True):
                    disk.unlink(path)
            case "link" if there and not fake.exists(others[0]):
                for disk, path, new in zip(disks, paths, others, strict=True):
                    disk.link(path, new)
        assert _seen(kepts[0], fake.read) == _seen(kepts[1], real.read)
