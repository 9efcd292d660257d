"""What somebody may leave where a file of ours belongs."""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.system.paths import Paths, paths_below
from tests.system.privileges import IS_ROOT, NOBODY

SECRET = b"nobody but me reads or changes this\n"


def _pipe(path: Path, _target: Path) -> None:
    os.mkfifo(path)


def _link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def _dangling(path: Path, target: Path) -> None:
    path.symlink_to(target.with_name("not-there"))


def _folder(path: Path, _target: Path) -> None:
    path.mkdir()
    (path / "x").write_bytes(b"x")


def _device(path: Path, _target: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: reading it never ends
    except PermissionError:
        pytest.skip("this machine lets nobody make a device")


def _others(path: Path, _target: Path) -> None:
    path.write_bytes(b"{}")
    os.chown(path, NOBODY, NOBODY)


PLANTS: Mapping[str, Callable[[Path, Path], None]] = {
    "pipe": _pipe,
    "link": _link,
    "dangling": _dangling,
    "folder": _folder,
    **({"device": _device, "others": _others} if IS_ROOT else {}),
}


class Stage:
    """A home, and a file elsewhere that nothing of ours may touch."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "td"
        self.target = folder / "elsewhere" / "target"
        self.target.parent.mkdir()
        self.target.write_bytes(SECRET)
        self.target.chmod(0o644)
        self.home.mkdir(mode=0o700)
        self.paths = paths_below(self.home)
        for one in self.paths.own_files():
            one.parent.mkdir(mode=0o700, exist_ok=True)

    def plant(self, kind: str, path: Path) -> None:
        PLANTS[kind](path, self.target)

    def assert_untouched(self) -> None:
        assert self.target.read_bytes() == SECRET
        assert stat.S_IMODE(self.target.stat().st_mode) == 0o644
        assert [one.name for one in self.target.parent.iterdir()] == ["target"]


def names_of(paths: Paths) -> list[str]:
    """Every file of ours, from the folder that holds all."""
    return [one.relative_to(paths.config.parent).as_posix() for one in paths.own_files()]
