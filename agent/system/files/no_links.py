"""The one way to what lies in a watched folder: by a path of which no part is a link.

Who asks has resolved the path and looked whether it lies where it may. A file or folder that somebody swaps for a link
afterwards gains nothing by it: what stands under this very path is opened, or nothing is. All raise OSError; ENOENT,
ENOTDIR or ELOOP where a link stands in the way.

Linux opens the path and is asked where that came out; where it can't tell, and on other systems, each name is opened
from the folder before it. macOS has a flag for it (O_NOFOLLOW_ANY, open(2)), Windows tells the final path of a handle
(GetFinalPathNameByHandleW). Those two follow their makers' documentation and were not run.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_READ = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # whoever opens a pipe waits for its other end
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOINHERIT", 0)
)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_THROUGH = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
"""A folder on the way, which need not be readable where the system knows O_PATH."""

_BY_FOLDERS = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd
_ANY = getattr(os, "O_NOFOLLOW_ANY", 0)
_LINKS_BY_FOLDERS = os.link in os.supports_dir_fd
_NOT_THROUGH = {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}
"""Else macOS would follow a symbolic link, and Linux would not."""


def open_at(path: str) -> int:
    """A descriptor of the file, to read from; never waits for a pipe's other end."""
    return _open(path, _READ)


@contextmanager
def list_at(path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """The names in the folder. Windows opens no folders: what a swap shows there is names, and none of them opens."""
    if os.name == "nt":
        with os.scandir(path) as names:
            yield names
        return
    descriptor = _open(path, _FOLDER)
    try:
        with os.scandir(descriptor) as names:
            yield names
    finally:
        os.close(descriptor)


def stat_at(path: str) -> os.stat_result:
    """What stands there itself, which may be a link."""
    with _above(path) as (folder, name):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)


def link_at(path: str, target: str | os.PathLike[str]) -> None:
    """Makes `target` a second name of the file; of a link itself, where the system makes such."""
    if not _LINKS_BY_FOLDERS:
        os.link(path, target, **_NOT_THROUGH)
        return
    with _above(path) as (folder, name):
        os.link(name, target, src_dir_fd=folder, **_NOT_THROUGH)


def _open(path: str, flags: int) -> int:
    if _ANY:
        return os.open(path, flags | _ANY)
    if os.name == "nt":
        return _checked(os.open(path, flags), path)
    if sys.platform.startswith("linux"):
        descriptor = os.open(path, flags)
        if _opened_at(descriptor) == path:
            return descriptor
        os.close(descriptor)
    with _above(path) as (folder, name):
        return os.open(name, flags, dir_fd=folder)


def _opened_at(descriptor: int) -> str:
    """Where Linux says that it lies; empty without /proc."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


@contextmanager
def _above(path: str) -> Iterator[tuple[int | None, str]]:
    """The folder in which the last name of `path` stands, and that name."""
    if not _BY_FOLDERS:
        yield None, path
        return
    folder, name = os.path.split(os.path.abspath(path))
    descriptor = _reach(folder)
    try:
        yield descriptor, name or "."
    finally:
        os.close(descriptor)


def _reach(folder: str) -> int:
    """A descriptor of a folder on the way."""
    if _ANY:
        return os.open(folder, _THROUGH | _ANY)
    if sys.platform.startswith("linux"):
        descriptor = os.open(folder, _THROUGH)
        if _opened_at(descriptor) == folder:
            return descriptor
        os.close(descriptor)
    descriptor = os.open(os.sep, _THROUGH)
    for name in filter(None, folder.split(os.sep)):
        try:
            below = os.open(name, _THROUGH, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def is_link(one: os.DirEntry[str]) -> bool:
    """Whether a name in a folder leads elsewhere: a symbolic link, or what Windows has besides (junctions)."""
    if one.is_symlink():
        return True
    if os.name != "nt":
        return False
    seen = one.stat(follow_symlinks=False)
    return bool(getattr(seen, "st_file_attributes", 0) & getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0x400)) and (
        getattr(seen, "st_reparse_tag", 0) in (0xA000000C, 0xA0000003)  # symbolic link, mount point
    )


def _checked(descriptor: int, path: str) -> int:
    """The descriptor, after Windows told where it came out."""
    if os.path.normcase(_final_path(descriptor)) == os.path.normcase(os.path.abspath(path)):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _final_path(descriptor: int) -> str:
    """Windows: the path of an open file, links resolved."""
    if sys.platform != "win32":
        return ""
    import ctypes
    import msvcrt

    size = 32_768  # the longest path that it has
    buffer = ctypes.create_unicode_buffer(size)
    ask = ctypes.windll.kernel32.GetFinalPathNameByHandleW
    ask.argtypes = [ctypes.c_void_p, ctypes.c_wchar_p, ctypes.c_uint32, ctypes.c_uint32]
    if not ask(msvcrt.get_osfhandle(descriptor), buffer, size, 0):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    found = buffer.value
    return "\\\\" + found[8:] if found.startswith("\\\\?\\UNC\\") else found.removeprefix("\\\\?\\")
