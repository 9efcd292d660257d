"""Transcripts kept deliverable after somebody else deletes them: a second name for the same file, or a copy.

A hard link costs nothing, grows with the file, and stays when the first name goes. What is rewritten in place changes
under both names. Where the system makes no link (another disk, a file system without them, a limit of names) a copy
takes its place.
"""

import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from agent.errors import DiskError, FileVanished
from agent.system.files import no_links

_PIECE_BYTES = 1 << 20
_PART = ".part-"
"""Before the name of what is not whole yet. A crash may leave it; the next try for the same name replaces it."""

_NO_LINK = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
)
"""The system makes no link here, which says nothing about a copy. EINVAL is what Windows says of a file system
without links; a link to somebody else's file is EPERM on Linux."""

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_WRITE = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Kept(NamedTuple):
    """`linked`: the same file as the source, which grows with it; else a copy as of now. `mtime_ns`: of the source.
    `copied_bytes`: what this call had to write."""

    path: str
    linked: bool
    size: int
    device: int
    inode: int
    mtime_ns: int
    copied_bytes: int = 0


class Differs(NamedTuple):
    """What is kept under this name is not how the source begins: that was rewritten. Nothing was changed. Keep the
    source under another name, or let go of this one first."""

    path: str
    size: int


class Held(NamedTuple):
    """A file that is kept. `name` is relative, with `/`. `links` 1: it has no other name left, or is a copy. More than
    one proves nothing: a backup may have linked a copy."""

    name: str
    path: str
    size: int
    mtime_ns: int
    device: int
    inode: int
    links: int


class KeptFiles:
    """The files kept below the folder `root`, which is ours alone. Names are relative and may have folders."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.realpath(root))  # what is kept is read like a transcript, by no link
        self._folders = threading.Lock()
        """So that no folder is pruned between being made and being filled."""

    def path_of(self, name: str) -> Path:
        """Where `name` is kept, or would be. Raises DiskError for a name that leads elsewhere."""
        parts = name.split("/")
        forbidden = "\0" if os.name == "posix" else "\0\\:"
        if any(part in ("", ".", "..") for part in parts) or any(one in name for one in forbidden):
            raise DiskError(f"{name!r} is no name for a kept file")
        if parts[-1].startswith(_PART):
            raise DiskError(f"{name!r} is reserved for files that are not whole yet")
        return self._root.joinpath(*parts)

    def keep(self, source: str, name: str, *, room_bytes: int) -> Kept | Differs:
        """Makes `name` a second name of the file at `source`, or a copy of it as it is now. Repeating it costs a look
        where they are linked; a copy that has become stale gets what was added to the source, after both were
        compared. The source is never written to, its mode and times stay.

        Raises FileVanished without a source; DiskError when it is no regular file (a symbolic link that goes away
        takes no content with it), when the disk refuses, and when a copy would take more than `room_bytes` beyond
        what a copy under this name takes already.
        """
        target = self.path_of(name)
        with _disk(f"{source} can't be retained", source):
            wanted, held = _look_at_source(source), _look(target)
            if held is not None and os.path.samestat(wanted, held):
                return _kept(target, held, linked=True)
            try:
                return self._keep(source, target, held, room_bytes)
            finally:
                _part_of(target).unlink(missing_ok=True)
                self._prune(target)

    def let_go(self, name: str) -> None:
        """Removes what is kept under `name`, if anything, and the folders that this leaves empty. Raises DiskError."""
        target = self.path_of(name)
        with _disk(f"{target} can't be removed"):
            for path in (target, _part_of(target)):
                path.unlink(missing_ok=True)
            self._prune(target)

    def list_kept(self) -> Iterator[Held]:
        """Everything kept, in no order; what a crash left unfinished is not. Raises DiskError."""
        for path, seen in self._walk():
            if not path.name.startswith(_PART):
                name = path.relative_to(self._root).as_posix()
                yield Held(name, str(path), seen.st_size, seen.st_mtime_ns, seen.st_dev, seen.st_ino, seen.st_nlink)

    def drop_unfinished(self) -> int:
        """Removes what crashes left, and tells how many that were. For the start, before anything is kept."""
        left = [path for path, _ in self._walk() if path.name.startswith(_PART)]
        for path in left:
            with _disk(f"{path} can't be removed"):
                path.unlink(missing_ok=True)
                self._prune(path)
        return len(left)

    def _walk(self) -> Iterator[tuple[Path, os.stat_result]]:
        folders = [self._root]
        while folders:
            folder = folders.pop()
            for path, seen in _list_folder(folder):
                if stat.S_ISDIR(seen.st_mode):
                    folders.append(path)
                elif stat.S_ISREG(seen.st_mode):
                    yield path, seen

    def _keep(self, source: str, target: Path, held: os.stat_result | None, room_bytes: int) -> Kept | Differs:
        try:
            with self._made_folders(target) as part:
                no_links.link_at(source, part)
        except OSError as exc:
            if exc.errno not in _NO_LINK:
                raise
            return self._copy(source, target, held, room_bytes, os.strerror(exc.errno))
        return _take_link(part, target, held)

    def _copy(
        self, source: str, target: Path, held: os.stat_result | None, room_bytes: int, why: str
    ) -> Kept | Differs:
        with os.fdopen(no_links.open_at(source), "rb") as reader:
            seen = os.fstat(reader.fileno())
            if not stat.S_ISREG(seen.st_mode):
                raise DiskError(f"{source} can't be retained: it is no regular file")
            if held is not None and seen.st_size < held.st_size:
                return Differs(str(target), held.st_size)
            at = held.st_size if held is not None and held.st_nlink == 1 else 0
            if seen.st_size - at > room_bytes:  # before both are read, since it is asked again and again
                raise DiskError(
                    f"{source} can't be retained: no link is made ({_lowered(why)}), "
                    f"and a copy takes {seen.st_size - at} bytes more, with {room_bytes} left for copies"
                )
            if held is not None and not _begins_with(reader, seen.st_size, target, held.st_size):
                return Differs(str(target), held.st_size)
            if held is not None and held.st_nlink == 1:  # nobody else has it: a copy of ours
                with _open(target, _WRITE | os.O_APPEND) as writer:
                    _fill(reader, writer, target, at, seen)
                if not _is_true_copy(reader, target, seen):
                    os.truncate(target, at)
                    raise DiskError(f"{source} can't be retained: it was rewritten while it was copied")
            else:
                with self._made_folders(target) as part:
                    made = _open(part, _WRITE | os.O_CREAT | os.O_EXCL)
                with made as writer:
                    _fill(reader, writer, part, at, seen)
                if not _is_true_copy(reader, part, seen):
                    raise DiskError(f"{source} can't be retained: it was rewritten while it was copied")
                os.replace(part, target)
                _sync_folder(target.parent)
        copied = _kept(target, os.lstat(target), linked=False, copied_bytes=seen.st_size - at)
        return copied._replace(mtime_ns=seen.st_mtime_ns)  # which the copy's disk may tell less finely

    @contextlib.contextmanager
    def _made_folders(self, target: Path) -> Iterator[Path]:
        """Where to make what becomes `target`; nothing is there, and the folders stay until something is."""
        part = _part_of(target)
        with self._folders:
            if not target.parent.is_dir():
                self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                for folder in reversed(target.relative_to(self._root).parents):
                    (self._root / folder).mkdir(mode=0o700, exist_ok=True)
            part.unlink(missing_ok=True)
            yield part

    def _prune(self, target: Path) -> None:
        with self._folders:
            for folder in target.relative_to(self._root).parents[:-1]:
                try:
                    (self._root / folder).rmdir()
                except OSError:
                    # Not empty, or not there: either way this is as far as it goes.
                    break


def _take_link(part: Path, target: Path, held: os.stat_result | None) -> Kept | Differs:
    """Looks at what was linked, since the source may have been replaced a moment before."""
    made = os.lstat(part)
    if not stat.S_ISREG(made.st_mode):
        raise DiskError(f"{target.name} can't be retained: its source is no regular file")
    if held is not None:
        with _open(part, _READ) as reader:
            if not _begins_with(reader, made.st_size, target, held.st_size):
                return Differs(str(target), held.st_size)
    # Not synced: whoever unlinks the source does so later, in the same file system's journal.
    os.replace(part, target)
    return _kept(target, made, linked=True)


def _begins_with(reader: BinaryIO, size: int, target: Path, held_bytes: int) -> bool:
    """Whether the first `held_bytes` of the file behind `reader` are those of `target`."""
    if size < held_bytes:
        return False
    reader.seek(0)
    with _open(target, _READ) as other:
        left = held_bytes
        while left:
            one = reader.read(min(left, _PIECE_BYTES))
            if not one or one != other.read(len(one)):
                return False
            left -= len(one)
    return True


def _fill(reader: BinaryIO, writer: BinaryIO, path: Path, offset: int, seen: os.stat_result) -> None:
    """Writes what stands in the source from `offset` to its size when it was looked at, and makes it last."""
    reader.seek(offset)
    left = seen.st_size - offset
    while left:
        piece = reader.read(min(left, _PIECE_BYTES))
        if not piece:
            raise DiskError("a transcript became shorter while it was copied")
        writer.write(piece)
        left -= len(piece)
    writer.flush()
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    os.fsync(writer.fileno())


def _is_true_copy(reader: BinaryIO, copy: Path, seen: os.stat_result) -> bool:
    """Whether the copy is how the source begins: one that was rewritten meanwhile may be in there in two versions."""
    now = os.fstat(reader.fileno())
    if (now.st_size, now.st_mtime_ns) == (seen.st_size, seen.st_mtime_ns):
        return True
    return _begins_with(reader, now.st_size, copy, seen.st_size)


def _open(path: str | Path, flags: int) -> BinaryIO:
    reads = flags & (os.O_WRONLY | os.O_RDWR) == 0
    return os.fdopen(os.open(path, flags, 0o600), "rb" if reads else "wb")


def _look(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _look_at_source(source: str) -> os.stat_result:
    seen = no_links.stat_at(source)
    if stat.S_ISLNK(seen.st_mode):
        raise DiskError(f"{source} can't be retained: it is a symbolic link, and holds nothing itself")
    if not stat.S_ISREG(seen.st_mode):
        raise DiskError(f"{source} can't be retained: it is no regular file")
    return seen


def _list_folder(folder: Path) -> list[tuple[Path, os.stat_result]]:
    with _disk(f"{folder} can't be read"):
        try:
            paths = list(folder.iterdir())
        except FileNotFoundError:
            return []
        return [(path, seen) for path in paths if (seen := _look(path)) is not None]


def _kept(target: Path, seen: os.stat_result, *, linked: bool, copied_bytes: int = 0) -> Kept:
    return Kept(str(target), linked, seen.st_size, seen.st_dev, seen.st_ino, seen.st_mtime_ns, copied_bytes)


def _part_of(target: Path) -> Path:
    """One name for each target, so that nothing piles up; a hash, since names have a longest length."""
    digest = hashlib.blake2b(os.fsencode(target.name), digest_size=12).hexdigest()
    return target.with_name(_PART + digest)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


@contextlib.contextmanager
def _disk(failed: str, source: str | None = None) -> Iterator[None]:
    """Turns the system's errors into ours; FileVanished only when it is the source that is not there."""
    try:
        yield
    except OSError as exc:
        if isinstance(exc, (FileNotFoundError, NotADirectoryError)) and source and not os.path.lexists(source):
            raise FileVanished(f"{source} is no longer there") from exc
        raise DiskError(f"{failed}: {exc.strerror or 'input/output error'}") from exc
