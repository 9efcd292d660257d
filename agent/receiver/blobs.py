"""The folder that keeps the bytes of side files, each content once, under its SHA-256.

    ROOT/ab/abcd…                               a content, whole
    ROOT/incoming/abcd….OWNER.SESSION.RANDOM    what came of one so far

Which paths name a content is `store.FileKeeper`'s to know. What comes goes to a file of its own, which is renamed when
it is whole, synced and has the right digest, so a content that is there is right; two that send the same one do not
meet. What came of an upload that breaks off is kept for its owner, also through a crash: the system ends the lock that
tells a file under way from one that was left.
"""

import os
import re
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple

from agent.errors import DiskError, DiskFull
from agent.receiver.schema import make_folder

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _sync(descriptor: int) -> None:
        os.fsync(descriptor)

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _sync(descriptor: int) -> None:
        if sys.platform == "darwin":
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync alone leaves it in the drive's cache there
        else:
            os.fsync(descriptor)


_LOCKED_BYTE = 1 << 62
"""Far behind every content: a lock on Windows keeps others from the bytes it covers."""

_KEPT_S = 86_400.0
"""How long what came of an upload waits for the rest."""

_NAME = re.compile(r"[0-9a-f]{64}")
_PIECE_BYTES = 1 << 20
_FILE_MODE = 0o600
_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def _short(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:16]


class Uploader(NamedTuple):
    """Who sends which content, and for which session. Another session of the same owner goes on with what came."""

    owner: str
    sha256: bytes
    session_id: str = ""

    def prefix(self) -> str:
        return f"{self.sha256.hex()}.{_short(self.owner)}."

    def new_name(self) -> str:
        return f"{self.prefix()}{_short(self.session_id)}.{secrets.token_hex(8)}"


class Elsewhere(NamedTuple):
    """An upload can't go on where it was asked to: so many bytes are kept of it."""

    kept: int


class Upload:
    """One upload under way. Its methods may be called from any thread."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self._descriptor: int | None = descriptor
        self._sha = None if size else sha256()
        self._whole = False
        self._lock = threading.Lock()

    def feed(self, data: bytes) -> bool:
        """Takes more of the content; False when another upload of it went on in this one's place."""
        with self._lock, _disk_errors():
            if self._descriptor is None:
                return False
            left = memoryview(data)
            while left:
                written = os.write(self._descriptor, left)
                self.size += written
                left = left[written:]
            if self._sha is not None:
                self._sha.update(data)
            return True

    def digest(self) -> bytes | None:
        """The SHA-256 of all that came; what came before a break is read for it. No other upload goes on in this one's
        place from here on; None when one did before."""
        self._whole = True
        with self._lock, _disk_errors():
            if self._descriptor is None:
                return None
            if self._sha is None:
                os.lseek(self._descriptor, 0, os.SEEK_SET)
                self._sha = sha256()
                while piece := os.read(self._descriptor, _PIECE_BYTES):
                    self._sha.update(piece)
            return self._sha.digest()

    def sync(self) -> None:
        with self._lock, _disk_errors():
            if self._descriptor is not None:
                _sync(self._descriptor)

    def give_up(self, size: int) -> int | None:
        """The open file, for another upload to go on at `size`; None when it is not to be had, or not there."""
        if self._whole:
            return None
        with self._lock:
            if self._whole or self.size != size:
                return None
            descriptor, self._descriptor = self._descriptor, None
            return descriptor

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


class Blobs:
    """`root` is made when it is not there. `now_s` is wall time. Raises DiskError, DiskFull where there is no room."""

    def __init__(self, root: Path, *, now_s: Callable[[], float] = time.time) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._now_s = now_s
        self._lock = threading.Lock()
        self._under_way: dict[str, Upload] = {}
        with _disk_errors():
            make_folder(self._incoming)

    # --- whole contents ---------------------------------------------------------------------------------------

    def has(self, content: bytes) -> bool:
        return self._place(content).is_file()

    def open(self, content: bytes) -> BinaryIO | None:
        """A content to read, from its beginning; None when it is not there."""
        with _disk_errors():
            try:
                return self._place(content).open("rb")
            except FileNotFoundError:
                return None

    def remove(self, content: bytes) -> None:
        with _disk_errors():
            self._place(content).unlink(missing_ok=True)

    def sweep(self, named: set[bytes]) -> list[bytes]:
        """Removes what was left of uploads for more than a day, and gives the contents that are not in `named`."""
        before_s = self._now_s() - _KEPT_S
        with _disk_errors():
            for left in self._incoming.iterdir():
                if left.name not in self._under_way and _is_older(left, before_s):
                    left.unlink(missing_ok=True)
            names = [path.name for folder in self._root.glob("[0-9a-f][0-9a-f]") for path in folder.iterdir()]
        return [content for name in names if _NAME.fullmatch(name) and (content := bytes.fromhex(name)) not in named]

    # --- uploads ----------------------------------------------------------------------------------------------

    def kept(self, uploader: Uploader) -> int:
        """How many bytes of an unfinished upload there are to go on behind: the most, where several broke off."""
        with self._lock, _disk_errors():
            return max((size for _, size in self._candidates(uploader)), default=0)

    def begin(self, uploader: Uploader, offset: int | None) -> Upload | Elsewhere:
        """An upload from the content's first byte (None), or behind the `offset` bytes that are kept.

        Going on takes over from an upload that still waits for bytes at that place: a connection that died without a
        word looks like one."""
        with self._lock, _disk_errors():
            candidates = self._candidates(uploader)
            if offset is None or (offset == 0 and not candidates):
                return self._create(uploader)
            for path, size in candidates:
                if size == offset and (upload := self._take(path, size)) is not None:
                    return upload
            return Elsewhere(max((size for _, size in candidates), default=0))

    def leave(self, uploader: Uploader, upload: Upload) -> None:
        """Keeps what came, unless more is kept already."""
        with self._lock, _disk_errors():
            others = [(path, size) for path, size in self._candidates(uploader) if path != upload.path]
            worth = upload.size > max((size for _, size in others), default=0)
            if not self._end(upload):
                return
            for path in [path for path, _ in others if path.name not in self._under_way] if worth else [upload.path]:
                path.unlink(missing_ok=True)

    def drop(self, upload: Upload) -> None:
        """Keeps nothing of it."""
        with self._lock, _disk_errors():
            if self._end(upload):
                upload.path.unlink(missing_ok=True)

    def drop_session(self, owner: str, session_id: str) -> None:
        """Keeps nothing of the uploads that began for a session, be they under way or not."""
        with self._lock, _disk_errors():
            for path in self._incoming.glob(f"*.{_short(owner)}.{_short(session_id)}.*"):
                if (upload := self._under_way.get(path.name)) is not None:
                    self._end(upload)
                path.unlink(missing_ok=True)

    def place(self, uploader: Uploader, upload: Upload) -> bool:
        """Puts a whole and synced upload where its content belongs, durably. False when it is not this one's any
        more."""
        target = self._place(uploader.sha256)
        with self._lock, _disk_errors():
            if sys.platform == "win32":
                upload.close()  # an open file can't be renamed there
            if self._under_way.get(upload.path.name) is not upload:
                return False
            make_folder(target.parent)
            upload.path.replace(target)
            self._end(upload)
            for path, _ in self._candidates(uploader):
                if path.name not in self._under_way:
                    path.unlink(missing_ok=True)
        for folder in (target.parent, self._root):
            _sync_folder(folder)
        return True

    def room_bytes(self) -> int:
        """How much the disk still takes."""
        with _disk_errors():
            return shutil.disk_usage(self._root).free

    # --- inside -----------------------------------------------------------------------------------------------

    def _place(self, content: bytes) -> Path:
        name = content.hex()
        return self._root / name[:2] / name

    def _candidates(self, uploader: Uploader) -> list[tuple[Path, int]]:
        """Files of this upload that may be gone on with, and their sizes."""
        found = []
        for path in self._incoming.glob(uploader.prefix() + "*"):
            if (upload := self._under_way.get(path.name)) is not None:
                found.append((path, upload.size))
            elif (descriptor := _claim(path)) is not None:
                found.append((path, os.fstat(descriptor).st_size))
                os.close(descriptor)
        return found

    def _create(self, uploader: Uploader) -> Upload:
        path = self._incoming / uploader.new_name()
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _FILE_MODE)
        if os.name == "posix":
            os.fchmod(descriptor, _FILE_MODE)  # a umask may have taken from it
        if not _lock(descriptor):
            os.close(descriptor)
            raise DiskError(f"an upload's file is locked by another process: {path.name}")
        return self._register(path, descriptor, 0)

    def _take(self, path: Path, size: int) -> Upload | None:
        before = self._under_way.get(path.name)
        descriptor = before.give_up(size) if before is not None else _claim(path)
        return None if descriptor is None else self._register(path, descriptor, size)

    def _register(self, path: Path, descriptor: int, size: int) -> Upload:
        os.lseek(descriptor, size, os.SEEK_SET)
        upload = self._under_way[path.name] = Upload(path, descriptor, size)
        return upload

    def _end(self, upload: Upload) -> bool:
        """Whether the file was still this upload's."""
        upload.close()
        if self._under_way.get(upload.path.name) is not upload:
            return False
        del self._under_way[upload.path.name]
        return True


def _claim(path: Path) -> int | None:
    """The open file of an upload that nobody has under way, locked; None when somebody does, or it is gone."""
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return None
    try:
        if _lock(descriptor) and _is_still(path, descriptor):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _is_older(path: Path, at_s: float) -> bool:
    try:
        return path.stat().st_mtime < at_s
    except FileNotFoundError:
        return False


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the file is still under the name that it was opened by."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    """Makes a name in it durable; Windows does not let one."""
    if sys.platform == "win32":
        return
    with _disk_errors():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in (ENOSPC, EDQUOT):
            raise DiskFull("the receiver's disk has no room for a side file") from exc
        raise DiskError(f"the receiver's folder of side files can't be used: {exc.strerror}") from exc
